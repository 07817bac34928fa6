//! The end-to-end layer over any pair of bytes: handshakes, links, sealed streams.
//!
//! A link is one handshake between one bridge process and one agent; it outlives the QUIC
//! connections that carry its streams. Nothing here knows QUIC: a stream is something to read and
//! something to write, so that whatever serves it may move to another process.

pub mod agent;
pub mod bridge;
pub mod clock;
pub mod sealed;

#[cfg(test)]
mod tests;
