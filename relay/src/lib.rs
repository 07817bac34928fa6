//! The relay: between bridges and agents, and blind.
//!
//! A connection passes the door ([`entrance`], [`door`]) and is let in by its HELLO ([`hello`]).
//! Then it asks and is told things ([`control`]) about servers and sealed mail, which the [`store`]
//! keeps, and about who is connected ([`presence`]). A device's streams are joined to streams of
//! agents ([`splice`]) by the header, which the relay forwards as it came. Each device gets its
//! share of an agent's streams ([`shares`]), each workspace its part of the memory ([`memory`]) and
//! its turns at the store ([`turns`]).
//!
//! The relay has neither the means nor the words to read what is inside: its dependencies are
//! checked for that.

pub mod cli;
mod clock;
mod config;
mod connection;
mod control;
mod data;
mod door;
mod entrance;
mod hello;
mod http;
mod memory;
mod node;
mod presence;
mod relay;
mod run;
mod shares;
mod splice;
mod store;
#[cfg(test)]
mod testing;
mod turns;
mod url;
mod workspace;
