//! What of a request's head the HTTP library passes over, and we refuse: a fragment in the target,
//! which it drops, so that another file would be meant; and a length beside `Transfer-Encoding`, of
//! which it ignores the first.
//!
//! A connection is read through [`Strict`], which follows requests byte by byte and makes such a
//! head one that the library refuses with 400, before anything is done. Bodies are passed on as
//! they are.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// In no head that is well-formed.
const BAD: u8 = 0x01;

/// No name of a header that matters here, and no length, has more bytes.
const KEPT: usize = 32;

/// A connection whose requests are looked at.
#[derive(Debug)]
pub(super) struct Strict<S> {
    stream: S,
    heads: Heads,
}

impl<S> Strict<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream, heads: Heads::default() }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Strict<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        let polled = Pin::new(&mut this.stream).poll_read(context, buffer);
        this.heads.pass(buffer.filled_mut().get_mut(before..).unwrap_or_default());
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Strict<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(context, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

/// Where in a request the next byte is.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum At {
    /// Method, target and version.
    #[default]
    Request,
    /// The name of a header, or the empty line at the end of the head.
    Name,
    Value,
    /// So many bytes of a body are left.
    Body(u64),
    /// The line with the length of a chunk.
    Size,
    /// So many bytes of a chunk are left, with the end of its line.
    Chunk(u64),
    /// What follows the last chunk.
    Trailer,
}

/// Requests, one after the other.
#[derive(Debug, Default)]
struct Heads {
    at: At,
    /// The line so far, or the name or value: as much of it as can matter.
    line: Vec<u8>,
    name: Vec<u8>,
    length: Option<u64>,
    encoded: bool,
}

impl Heads {
    fn pass(&mut self, mut bytes: &mut [u8]) {
        while !bytes.is_empty() {
            // Most bytes are of bodies.
            if let At::Body(left) | At::Chunk(left) = &mut self.at {
                let many = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                *left -= many as u64;
                if *left == 0 {
                    self.at = if matches!(self.at, At::Chunk(_)) { At::Size } else { At::Request };
                }
                bytes = bytes.get_mut(many..).unwrap_or_default();
                continue;
            }
            let Some((byte, rest)) = bytes.split_first_mut() else { return };
            self.one(byte);
            bytes = rest;
        }
    }

    fn keep(&mut self, byte: u8) {
        if byte != b'\r' && self.line.len() <= KEPT {
            self.line.push(byte.to_ascii_lowercase());
        }
    }

    fn one(&mut self, byte: &mut u8) {
        match (self.at, *byte) {
            (At::Request, b'\n') => {
                // Empty lines may stand before a request.
                self.at = if self.line.is_empty() { At::Request } else { At::Name };
                self.line.clear();
            }
            (At::Request, b'#') => *byte = BAD,
            (At::Name, b'\n') => self.end_of_head(),
            (At::Name, b':') => {
                self.name = std::mem::take(&mut self.line);
                self.at = At::Value;
                let (length, encoding) =
                    (self.name == b"content-length", self.name == b"transfer-encoding");
                if length && self.encoded || encoding && self.length.is_some() {
                    *byte = BAD;
                }
                self.encoded |= encoding;
            }
            (At::Value, b'\n') => {
                if self.name == b"content-length" {
                    let value = std::str::from_utf8(self.line.trim_ascii()).ok();
                    self.length = value.and_then(|value| value.parse().ok());
                }
                self.line.clear();
                self.at = At::Name;
            }
            (At::Size, b'\n') => {
                let digits = self.line.split(|byte| !byte.is_ascii_hexdigit()).next();
                let digits = digits.and_then(|digits| std::str::from_utf8(digits).ok());
                let size = digits.and_then(|digits| u64::from_str_radix(digits, 16).ok());
                self.line.clear();
                self.at = match size.unwrap_or(0) {
                    0 => At::Trailer,
                    size => At::Chunk(size.saturating_add(2)),
                };
            }
            (At::Trailer, b'\n') => {
                let ends = self.line.is_empty();
                self.line.clear();
                if ends {
                    *self = Self::default();
                }
            }
            (_, byte) => self.keep(byte),
        }
    }

    fn end_of_head(&mut self) {
        // A name without its colon is no header, and the library refuses it.
        let at = match (self.encoded, self.length.unwrap_or(0)) {
            (true, _) => At::Size,
            (false, 0) => At::Request,
            (false, length) => At::Body(length),
        };
        *self = Self { at, ..Self::default() };
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What becomes of bytes that come in pieces of this size.
    fn passed(bytes: &[u8], size: usize) -> Vec<u8> {
        let mut heads = Heads::default();
        let mut bytes = bytes.to_vec();
        bytes.chunks_mut(size).for_each(|piece| heads.pass(piece));
        bytes
    }

    const GOOD: &[&str] = &[
        "GET /a HTTP/1.1\r\nHost: h\r\n\r\n",
        "PUT /a HTTP/1.1\r\nContent-Length: 21\r\n\r\nDELETE /x#y HTTP/1.1\n",
        "PUT /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\n#\r\n\r\n\r\n15\r\nDELETE /x#y HTTP/1.1\n\r\n0\r\nT: #\r\n\r\n",
        "\r\nHEAD /b HTTP/1.1\r\nX-Long: #################################################\r\n\r\n",
    ];

    proptest! {
        #[test]
        fn what_is_well_formed_passes_as_it_is(
            which in proptest::collection::vec(0..GOOD.len(), 0..6),
            size in 1..40_usize,
        ) {
            let all: String = which.iter().map(|&which| GOOD[which]).collect();
            prop_assert_eq!(passed(all.as_bytes(), size), all.as_bytes());
            let bad = format!("{all}DELETE /x/#y HTTP/1.1\r\n\r\n");
            let refused = bad.replace("/#y", "/\u{1}y").into_bytes();
            prop_assert_eq!(passed(bad.as_bytes(), size), refused);
        }
    }

    #[test]
    fn a_length_beside_an_encoding_is_refused_in_either_order() {
        for head in [
            "PUT /a HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            "PUT /a HTTP/1.1\r\ntransfer-encoding: chunked\r\ncontent-length: 1\r\n\r\n",
        ] {
            assert!(passed(head.as_bytes(), 7).contains(&BAD), "{head}");
        }
    }

    #[test]
    fn any_bytes_pass() {
        bolero::check!().for_each(|bytes: &[u8]| {
            assert_eq!(passed(bytes, 3).len(), bytes.len());
        });
    }
}
