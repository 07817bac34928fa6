//! Packets between the agent and its other processes: a Unix socket that preserves packet
//! boundaries and passes descriptors.
//!
//! A packet on the socket of a stream is a sequence of parts: one byte for the kind, four bytes for
//! the length, big-endian, and the content. A small question is one packet with its content, and so
//! is a small answer: the receiver wakes once.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use bytes::Bytes;
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

/// The largest packet.
pub const PACKET: usize = 72 << 10;

/// The most content in one packet.
pub const CONTENT: usize = 64 << 10;

/// The kind of a message of the stream.
pub const MESSAGE: u8 = 1;
/// The kind of content.
pub const DATA: u8 = 2;
/// The kind of a part of a file, whose descriptor comes with the packet. It is the last part of its
/// packet: see [`FilePart`].
pub const FILE: u8 = 3;
/// The kind that ends the stream in one direction.
pub const END: u8 = 4;

/// The size of the header of a part.
pub const PART: usize = 5;

/// A part of a file that is sent as content.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FilePart {
    /// Its offset in the file.
    pub offset: u64,
    /// Its length in bytes.
    pub length: u64,
    /// The revision of the file when it was opened, and its path. Whoever reads the part sends an
    /// entry after it if the file has changed by then.
    pub opened: Option<(u64, Vec<u8>)>,
}

impl FilePart {
    /// Encodes it: offset, length and revision, eight bytes each, big-endian; then the path.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = [self.offset.to_be_bytes(), self.length.to_be_bytes()].concat();
        if let Some((revision, path)) = &self.opened {
            bytes.extend_from_slice(&revision.to_be_bytes());
            bytes.extend_from_slice(path);
        }
        bytes
    }

    /// Decodes it. `None` if it is malformed.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let (offset, rest) = bytes.split_first_chunk::<8>()?;
        let (length, rest) = rest.split_first_chunk::<8>()?;
        let opened = match rest {
            [] => None,
            rest => {
                let (revision, path) = rest.split_first_chunk::<8>()?;
                Some((u64::from_be_bytes(*revision), path.to_vec()))
            }
        };
        let (offset, length) = (u64::from_be_bytes(*offset), u64::from_be_bytes(*length));
        Some(Self { offset, length, opened })
    }
}

/// Adds a part to a packet.
pub fn push(packet: &mut Vec<u8>, kind: u8, bytes: &[u8]) {
    packet.push(kind);
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    packet.extend_from_slice(&length.to_be_bytes());
    packet.extend_from_slice(bytes);
}

/// Removes the first part from a packet. Returns its kind and content; `None` if the packet is
/// malformed.
pub fn pop(packet: &mut Bytes) -> Option<(u8, Bytes)> {
    let (head, _) = packet.split_first_chunk::<PART>()?;
    let &[kind, a, b, c, d] = head;
    let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).ok()?;
    let end = PART.checked_add(length).filter(|end| *end <= packet.len())?;
    let part = packet.split_to(end).split_off(PART);
    Some((kind, part))
}

/// The most descriptors in one packet.
const DESCRIPTORS: usize = 4;

/// A received packet.
#[derive(Debug)]
pub struct Packet {
    /// The content.
    pub bytes: Vec<u8>,
    /// The descriptors that came with it.
    pub descriptors: Vec<OwnedFd>,
}

/// Receives a packet. `None` once the other end is gone.
pub fn receive(socket: &OwnedFd, buffer: &mut [u8]) -> io::Result<Option<Packet>> {
    receive_with(socket.as_fd(), buffer, RecvFlags::empty())
}

/// Like [`receive`], with flags.
pub fn receive_with(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
    flags: RecvFlags,
) -> io::Result<Option<Packet>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let flags = flags | RecvFlags::CMSG_CLOEXEC;
    let received = rustix::io::retry_on_intr(|| {
        recvmsg(socket, &mut [IoSliceMut::new(buffer)], &mut ancillary, flags)
    });
    let received = match received {
        Err(Errno::CONNRESET | Errno::PIPE) => return Ok(None),
        other => other?,
    };
    let mut descriptors = Vec::new();
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            descriptors.extend(rights);
        }
    }
    let bytes = buffer.get(..received.bytes).unwrap_or_default().to_vec();
    // We send no empty packets, so this is the end.
    Ok((!bytes.is_empty()).then_some(Packet { bytes, descriptors }))
}

/// Sends a packet, and waits until there is space for it.
pub fn send(socket: &OwnedFd, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    send_with(socket.as_fd(), bytes, descriptors, SendFlags::empty())
}

/// Like [`send`], with flags.
pub fn send_with(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    descriptors: &[BorrowedFd<'_>],
    flags: SendFlags,
) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() {
        ancillary.push(SendAncillaryMessage::ScmRights(descriptors));
    }
    let flags = flags | SendFlags::NOSIGNAL;
    rustix::io::retry_on_intr(|| sendmsg(socket, &[IoSlice::new(bytes)], &mut ancillary, flags))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_come_out_as_they_went_in() {
        let mut packet = Vec::new();
        push(&mut packet, MESSAGE, b"one");
        push(&mut packet, END, b"");
        push(&mut packet, DATA, &[7; CONTENT]);
        assert!(packet.len() <= PACKET);
        let mut packet = Bytes::from(packet);
        assert_eq!(pop(&mut packet).unwrap(), (MESSAGE, Bytes::from_static(b"one")));
        assert_eq!(pop(&mut packet).unwrap(), (END, Bytes::new()));
        assert_eq!(pop(&mut packet).unwrap(), (DATA, Bytes::from(vec![7; CONTENT])));
        assert!(packet.is_empty() && pop(&mut packet).is_none());
    }

    #[test]
    fn any_bytes_are_parts_or_none() {
        bolero::check!().for_each(|bytes: &[u8]| {
            let mut packet = Bytes::copy_from_slice(bytes);
            while let Some((_, part)) = pop(&mut packet) {
                assert!(part.len() + PART <= bytes.len());
            }
        });
    }
}
