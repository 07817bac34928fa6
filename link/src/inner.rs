//! The end-to-end layer over any byte stream: handshakes, links, sealed streams.
//!
//! A link is the result of one handshake between one bridge process and one agent; it outlives the
//! QUIC connections that carry its streams. Nothing here knows QUIC: a stream is a reader and a
//! writer, so that a stream can be served in another process.

pub mod agent;
pub mod bridge;
pub mod clock;
pub mod sealed;

#[cfg(test)]
mod tests;
