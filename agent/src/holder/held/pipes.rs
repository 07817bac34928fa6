//! Our ends of a program's pipes, or of its terminal: what is read from them, and what is written
//! to them.

use std::io;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use tokio::net::unix::pipe;

use crate::os::input::Input;
use crate::spool::SpoolWriter;

/// What is left in a pipe at the end is read in pieces of this size.
const REST: usize = 16 << 10;

/// The size of the pipes, if the system lets us choose it: fewer wake-ups for programs that write
/// much.
const PIPE: usize = 256 << 10;

/// Our ends of standard input, output and error; for a terminal only the second, which is all
/// three.
#[derive(Debug)]
pub(super) struct Ours {
    pub(super) stdin: Option<OwnedFd>,
    pub(super) stdout: OwnedFd,
    pub(super) stderr: Option<OwnedFd>,
}

/// Our ends of a program's pipes, watched by the runtime.
pub(super) struct Ends {
    /// What the agent writes to.
    pub(super) stdin: Option<OwnedFd>,
    /// Input that came with the request.
    pub(super) feed: Option<Feed>,
    pub(super) stdout: pipe::Receiver,
    pub(super) stderr: Option<pipe::Receiver>,
}

impl Ends {
    /// Watches our ends of a program's pipes. Input that came with the request is `input`.
    pub(super) fn attend(ours: Ours, input: Option<Vec<u8>>) -> io::Result<Self> {
        let Ours { stdin, stdout, stderr } = ours;
        let stdin = match &stderr {
            Some(_) => stdin,
            None => Some(stdout.try_clone()?),
        };
        // Input that came with the request is ours to write, and the agent gets no way to end it.
        let (stdin, feed) = match input {
            Some(bytes) => (None, stdin.map(|pipe| Feed::new(pipe, bytes)).transpose()?),
            None => (stdin, None),
        };
        let (stdout, stderr) = (output(stdout)?, stderr.map(output).transpose()?);
        Ok(Self { stdin, feed, stdout, stderr })
    }
}

/// Input that came with the request. It usually fits the pipe at once.
#[derive(Debug)]
pub(super) struct Feed {
    pipe: Input,
    bytes: Vec<u8>,
    at: usize,
}

impl Feed {
    fn new(pipe: OwnedFd, bytes: Vec<u8>) -> io::Result<Self> {
        Ok(Self { pipe: Input::new(pipe)?, bytes, at: 0 })
    }

    /// Writes as much as there is room for. Returns whether that was all, or nobody reads it.
    pub(super) fn write(&mut self) -> bool {
        loop {
            let rest = self.bytes.get(self.at..).unwrap_or_default();
            if rest.is_empty() {
                return true;
            }
            match self.pipe.try_write(rest) {
                Ok(taken) => self.at += taken,
                Err(error) => return error.kind() != io::ErrorKind::WouldBlock,
            }
        }
    }
}

/// Waits until there is room for input, if there is some to be written.
pub(super) async fn writable(feed: Option<&Feed>) {
    match feed {
        // An error shows at the next write.
        Some(feed) => drop(feed.pipe.writable().await),
        None => std::future::pending().await,
    }
}

/// A pipe to read from, as large as the system allows.
fn output(pipe: OwnedFd) -> io::Result<pipe::Receiver> {
    // A pipe of the usual size does as well.
    let _ = rustix::pipe::fcntl_setpipe_size(&pipe, PIPE);
    pipe::Receiver::from_owned_fd_unchecked(pipe)
}

/// Waits until one of the pipes has something to read.
pub(super) async fn readable(stdout: Option<&pipe::Receiver>, stderr: Option<&pipe::Receiver>) {
    tokio::select! {
        () = ready(stdout) => {}
        () = ready(stderr) => {}
    }
}

pub(super) async fn ready(pipe: Option<&pipe::Receiver>) {
    match pipe {
        // An error shows at the next read.
        Some(pipe) => drop(pipe.readable().await),
        None => std::future::pending().await,
    }
}

/// Reads once, if there is anything. Forgets the pipe at its end.
pub(super) fn read(
    pipe: &mut Option<pipe::Receiver>,
    stream: u8,
    most: usize,
    writer: &mut SpoolWriter,
) {
    let Some(open) = pipe else { return };
    match past_hangup(|| writer.append(stream, most, |slot| open.try_read(slot))) {
        Ok(0) => *pipe = None,
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
        Err(_) => *pipe = None,
    }
}

/// Reads, and once more if a terminal reports that nobody has it open any more.
///
/// Linux looks for output first, and then whether the other side is closed (`n_tty_read`). What was
/// written between the two checks, before the close, would be lost if that were taken for the end;
/// the second read finds all of it.
fn past_hangup(mut read: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    match read() {
        Err(error) if Errno::from_io_error(&error) == Some(Errno::IO) => read(),
        other => other,
    }
}

/// Reads what is in the pipe now, and no more: a process that still writes to it could go on
/// forever.
pub(super) fn drain(pipe: Option<&pipe::Receiver>, stream: u8, writer: &mut SpoolWriter) {
    let Some(pipe) = pipe else { return };
    let mut rest = rustix::io::ioctl_fionread(pipe).unwrap_or(0);
    while rest > 0 {
        match writer.append(stream, REST, |slot| Ok(rustix::io::read(pipe, slot)?)) {
            Ok(count @ 1..) => rest = rest.saturating_sub(count as u64),
            Err(error) if Errno::from_io_error(&error) == Some(Errno::INTR) => {}
            // Its end, or that there was nothing, shows at the next read.
            Ok(0) | Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The last line of a program that ended at once after it was missing on a busy machine.
    #[test]
    fn what_was_written_just_before_a_terminal_was_closed_is_read() {
        let closed = || Err(Errno::IO.into());
        let mut says = [closed(), Ok(11), closed(), closed()].into_iter();
        let mut read = || past_hangup(|| says.next().expect("no more is asked"));
        assert_eq!(read().expect("the last words"), 11);
        assert_eq!(Errno::from_io_error(&read().expect_err("its end")), Some(Errno::IO));
        let mut once = [Err(io::ErrorKind::WouldBlock.into())].into_iter();
        let waits = past_hangup(|| once.next().expect("it is not asked again"));
        assert_eq!(waits.expect_err("nothing yet").kind(), io::ErrorKind::WouldBlock);
    }
}
