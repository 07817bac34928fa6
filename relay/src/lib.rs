//! The relay: in the middle, and blind.
//!
//! It knows who may connect ([`hello`]), which servers there are ([`db`]), who is there now
//! ([`presence`]), keeps sealed mail for enrollment, and joins one stream to another ([`splice`]) by
//! the header that it forwards as it came. It neither has the means nor the words to read what is
//! inside: its dependencies are checked for that.

pub mod cli;
mod config;
mod control;
mod data;
mod db;
mod hello;
mod http;
mod presence;
mod run;
mod splice;
