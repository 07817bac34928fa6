//! Pseudo-terminals: a pair of ends, and their state in the kernel.
//!
//! Nothing here looks at bytes. The kernel reports, through the master end, who is in the
//! foreground and how input is treated, in less than a microsecond.
//!
//! This is the seam to `portable-pty`, which opens a terminal with its first size. What happens to
//! it afterwards goes by its descriptor, since most of those who have one did not open it: see
//! `docs/decisions/0008-portable-pty.md`.

#![expect(unsafe_code, reason = "portable-pty gives descriptors as numbers")]

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use portable_pty::{MasterPty, PtyPair, PtySize, native_pty_system};
use rustix::fs::{Gid, Mode, OFlags, Uid};
use rustix::io::{self, Errno};
use rustix::process::{Pid, Signal, kill_process_group};
use rustix::pty::{OpenptFlags, openpt, unlockpt};
use rustix::termios::{
    LocalModes, QueueSelector, Winsize, tcflush, tcgetattr, tcgetpgrp, tcgetwinsize, tcsetwinsize,
};

/// The largest number of columns or rows.
pub(crate) const LARGEST: u16 = 1_000;

/// Columns and rows.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Size {
    pub(crate) cols: u16,
    pub(crate) rows: u16,
}

impl Size {
    /// The nearest valid size: neither empty, nor so large that it takes all memory.
    pub(crate) fn new(cols: u16, rows: u16) -> Self {
        Self { cols: cols.clamp(1, LARGEST), rows: rows.clamp(1, LARGEST) }
    }
}

/// How a terminal treats what is typed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Modes {
    /// It echoes what is typed.
    pub(crate) echo: bool,
    /// It gives programs whole lines.
    pub(crate) canonical: bool,
}

/// Both ends of a new terminal. Neither is inherited by programs, and ours does not block.
pub(crate) fn open(size: Size, owner: Option<u32>) -> io::Result<(OwnedFd, OwnedFd)> {
    let Size { cols, rows } = size;
    let pair =
        native_pty_system().openpty(PtySize { rows, cols, pixel_width: 0, pixel_height: 0 }).ok();
    let (master, slave) = both_ends(pair, size)?;
    if let Some(owner) = owner
        && rustix::process::geteuid().is_root()
    {
        rustix::fs::fchown(&slave, Some(Uid::from_raw(owner)), None::<Gid>)?;
    }
    io::ioctl_fionbio(&master, true)?;
    Ok((master, slave))
}

/// The ends of the pair, or of a terminal of our own where the crate opened none.
fn both_ends(pair: Option<PtyPair>, size: Size) -> io::Result<(OwnedFd, OwnedFd)> {
    let master = match &pair {
        Some(pair) => copy(&*pair.master)?,
        None => open_master(size)?,
    };
    // The pair's own end for programs cannot be had as a descriptor.
    let slave = slave(&master)?;
    Ok((master, slave))
}

/// A descriptor of the master that lives on without the pair. Nothing is typed when the pair is
/// dropped, since its writer was never taken.
fn copy(master: &dyn MasterPty) -> io::Result<OwnedFd> {
    let raw = master.as_raw_fd().ok_or(Errno::BADF)?;
    // SAFETY: the descriptor is that of `master`, which is borrowed for longer than this.
    let master = unsafe { BorrowedFd::borrow_raw(raw) };
    io::fcntl_dupfd_cloexec(master, 0)
}

/// Opens a terminal without the C library, whose `openpty` can fail where the kernel has one to
/// give: old ones want to change its owner, and others open the end for programs by its name. If
/// there is none, this returns the reason as an error number; the crate returns text.
fn open_master(size: Size) -> io::Result<OwnedFd> {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC);
    // If no terminal is left, `rustix` returns the error number of POSIX.
    let master =
        master.map_err(|error| if error == Errno::AGAIN { Errno::NOSPC } else { error })?;
    unlockpt(&master)?;
    resize(&master, size)?;
    Ok(master)
}

/// By way of the master, where the kernel can: a name could mean another mount's terminal.
#[cfg(target_os = "linux")]
fn slave(master: impl AsFd) -> io::Result<OwnedFd> {
    match rustix::pty::ioctl_tiocgptpeer(
        &master,
        OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC,
    ) {
        Err(Errno::INVAL | Errno::NOTTY) => by_name(master),
        slave => slave,
    }
}

#[cfg(not(target_os = "linux"))]
fn slave(master: impl AsFd) -> io::Result<OwnedFd> {
    by_name(master)
}

fn by_name(master: impl AsFd) -> io::Result<OwnedFd> {
    let name = rustix::pty::ptsname(master, Vec::new())?;
    rustix::fs::open(name, OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty())
}

/// Changes the size, and has the kernel notify the foreground group.
pub(crate) fn resize(master: impl AsFd, size: Size) -> io::Result<()> {
    let size = Winsize { ws_row: size.rows, ws_col: size.cols, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(master, size)
}

/// The size that programs see: they can change it themselves.
pub(crate) fn size(master: impl AsFd) -> io::Result<Size> {
    let size = tcgetwinsize(master)?;
    Ok(Size::new(size.ws_col, size.ws_row))
}

/// The process group in the foreground, if there is one.
pub(crate) fn foreground(master: impl AsFd) -> Option<Pid> {
    tcgetpgrp(master).ok()
}

/// Sends a signal to the process group in the foreground.
pub(crate) fn signal_foreground(master: impl AsFd, signal: i32) -> io::Result<()> {
    let group = tcgetpgrp(master)?;
    let signal = Signal::from_named_raw(signal).ok_or(Errno::INVAL)?;
    kill_process_group(group, signal)
}

/// Discards what was typed and no program has read yet.
pub(crate) fn discard_typed(master: impl AsFd) {
    // What is on its way to the terminal, then what it has for programs. One that has been hung up
    // has nothing.
    let _ = tcflush(&master, QueueSelector::OFlush);
    if let Ok(slave) = slave(&master) {
        let _ = tcflush(slave, QueueSelector::IFlush);
    }
}

/// How what is typed is treated.
pub(crate) fn modes(master: impl AsFd) -> io::Result<Modes> {
    let modes = tcgetattr(master)?.local_modes;
    Ok(Modes {
        echo: modes.contains(LocalModes::ECHO),
        canonical: modes.contains(LocalModes::ICANON),
    })
}

#[cfg(test)]
mod tests {
    use rustix::io::{FdFlags, fcntl_getfd};

    use super::*;

    #[test]
    fn a_terminal_opens_where_the_crate_cannot_open_one() {
        let wanted = Size::new(132, 43);
        let (master, slave) = both_ends(None, wanted).unwrap();
        assert_eq!(size(&slave), Ok(wanted));
        assert_eq!(modes(&master), Ok(Modes { echo: true, canonical: true }));
        for end in [&master, &slave] {
            assert!(fcntl_getfd(end).unwrap().contains(FdFlags::CLOEXEC));
        }
        io::write(&master, b"typed\n").unwrap();
        let mut line = [0; 16];
        let length = io::read(&slave, &mut line).unwrap();
        assert_eq!(&line[..length], b"typed\n");
    }
}
