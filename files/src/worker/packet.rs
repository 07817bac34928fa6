//! Packets between the agent and its other processes: a Unix socket that keeps packets whole, and takes
//! descriptors along.
//!
//! On the socket of a stream the first byte says what a packet is: a message of the stream, content, a part
//! of a file that the agent is to send by itself, or the end.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

/// No packet is longer.
pub const PACKET: usize = 72 << 10;

/// So much content is in one packet at most.
pub const CONTENT: usize = 64 << 10;

/// A message of the stream.
pub const MESSAGE: u8 = 1;
/// Content.
pub const DATA: u8 = 2;
/// A part of the file that comes with it: offset and length, eight bytes each, the highest first.
pub const FILE: u8 = 3;
/// The bridge has said all, or the worker has.
pub const END: u8 = 4;

/// No packet carries more descriptors.
const DESCRIPTORS: usize = 4;

/// A packet that came.
#[derive(Debug)]
pub struct Packet {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// What came with it.
    pub descriptors: Vec<OwnedFd>,
}

/// The next packet; `None` when the other end is gone.
pub fn receive(socket: &OwnedFd, buffer: &mut [u8]) -> io::Result<Option<Packet>> {
    receive_with(socket.as_fd(), buffer, RecvFlags::empty())
}

/// The same with flags, such as not to wait.
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
    // No packet of ours is empty.
    Ok((!bytes.is_empty()).then_some(Packet { bytes, descriptors }))
}

/// Sends a packet; waits for room.
pub fn send(socket: &OwnedFd, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    send_parts(socket.as_fd(), [bytes, &[]], descriptors, SendFlags::empty())
}

/// The same from two parts, and with flags.
pub fn send_parts(
    socket: BorrowedFd<'_>,
    [head, rest]: [&[u8]; 2],
    descriptors: &[BorrowedFd<'_>],
    flags: SendFlags,
) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() {
        ancillary.push(SendAncillaryMessage::ScmRights(descriptors));
    }
    let parts = [IoSlice::new(head), IoSlice::new(rest)];
    let flags = flags | SendFlags::NOSIGNAL;
    rustix::io::retry_on_intr(|| sendmsg(socket, &parts, &mut ancillary, flags))?;
    Ok(())
}
