//! The bridge: beside the person and the model.
//!
//! [`client`] reaches servers, [`runs`] talks to them about programs, [`text`] makes what they say
//! fit to read, [`tools`] are what can be asked, and `cli` and [`mcp`] are two ways of asking.

pub mod cli;
pub mod client;
pub mod mail;
pub mod mcp;
pub mod runs;
pub mod setup;
pub mod text;
pub mod tools;
