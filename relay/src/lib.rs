//! The relay: in the middle, and blind.
//!
//! It knows who may knock ([`door`]) and who may connect ([`hello`]), which servers there are ([`store`]), who is
//! there now ([`presence`]), keeps sealed mail for enrollment, and joins one stream to another ([`splice`]) by
//! the header that it forwards as it came, to each device its share ([`shares`]), and to each workspace its room in
//! memory ([`rooms`]) and its turn at the books ([`turns`]). It neither has the means nor the words to read what is
//! inside: its dependencies are checked for that.

pub mod cli;
mod clock;
mod config;
mod control;
mod data;
mod door;
mod entrance;
mod hello;
mod http;
mod presence;
mod rooms;
mod run;
mod shares;
mod splice;
mod store;
#[cfg(test)]
mod testing;
mod turns;
