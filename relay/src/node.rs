//! The id of this relay among the nodes that may one day serve one workspace together.
//!
//! It is made once and kept in the data directory ([`crate::data`]). Connection ids carry it, so
//! that whoever forwards packets can tell whose they are; the answer to HELLO shows it to programs;
//! and the directory names it for every agent.

use std::fmt;
use std::num::ParseIntError;
use std::str::FromStr;

use farwire_protocol::failure::{Failure, Kind};

/// The id of a node.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) struct NodeId(u16);

impl NodeId {
    /// Makes an id. A few nodes hardly ever draw the same one, and their operator may write down
    /// another.
    pub(crate) fn random() -> Result<Self, Failure> {
        let mut bytes = [0; 2];
        getrandom::fill(&mut bytes)
            .map_err(|error| Failure::new(Kind::Io, format!("no random numbers: {error}")))?;
        Ok(Self(u16::from_be_bytes(bytes)))
    }

    /// Returns the number that connection ids carry.
    pub(crate) fn number(self) -> u16 {
        self.0
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for NodeId {
    type Err = ParseIntError;

    fn from_str(text: &str) -> Result<Self, ParseIntError> {
        text.parse().map(Self)
    }
}

#[cfg(test)]
impl NodeId {
    pub(crate) const TEST: Self = Self(7);
}
