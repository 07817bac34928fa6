//! Our own terminal: reading what is typed, and restoring the terminal.
//!
//! # Invariants
//!
//! - It is restored when [`Keyboard`] is dropped, for whatever reason.
//! - Ctrl-] is seen even when nothing that was typed can be passed on.

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::streams::session::Size;
use farwire_protocol::terminal::Modes;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::termios::{
    OptionalActions, QueueSelector, Termios, tcflush, tcgetattr, tcgetwinsize, tcsetattr,
};
use tokio::net::unix::pipe;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

use crate::sessions::attach::{Do, Left};

/// Ctrl-] leaves.
const LEAVE: u8 = 0x1d;

/// Ctrl-^ takes the keyboard, or releases it; pressed twice, it is typed.
const TAKE: u8 = 0x1e;

/// The longest time between two presses that count as twice in a row.
const TWICE: Duration = Duration::from_millis(500);

/// How much is read from the keyboard at once, and how much may wait.
const READ: usize = 16 << 10;

/// How long to wait when leaving: the server may be far, or gone.
const FAREWELL: Duration = Duration::from_millis(500);

/// Saves and restores the terminal's title, if the terminal supports that.
const KEEP_TITLE: &[u8] = b"\x1b[22;2t";
const TAKE_TITLE: &[u8] = b"\x1b[23;2t";

/// Resets what is not a mode: colours and protection from erasure. Then starts a new line.
const PLAIN: &[u8] = b"\x1b[m\x1b[0\"q\r\n";

/// The changes made to our terminal by whatever writes on it. Never held across an await.
pub(super) type Done = Rc<RefCell<Modes>>;

/// Our terminal, restored on drop.
pub(in crate::cli) struct Keyboard {
    pub(super) terminal: OwnedFd,
    pub(super) input: pipe::Receiver,
    pub(super) output: pipe::Sender,
    /// What is undone at the end.
    pub(super) done: Done,
    before: Option<Termios>,
}

impl Keyboard {
    /// Opens it again, so that the shell that started us keeps its own open file unchanged.
    pub(in crate::cli) fn open() -> Result<Self, Failure> {
        let failed = |error: io::Error| {
            Failure::new(Kind::InvalidArgument, format!("attach needs a terminal: {error}"))
                .with_hint("`farwire session send` and `farwire run` work without one")
        };
        let open = || {
            let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC | OFlags::NONBLOCK;
            let terminal = rustix::fs::open(c"/dev/tty", flags, Mode::empty())?;
            let input = pipe::Receiver::from_owned_fd_unchecked(terminal.try_clone()?)?;
            let output = pipe::Sender::from_owned_fd_unchecked(terminal.try_clone()?)?;
            Ok(Self { terminal, input, output, done: Done::default(), before: None })
        };
        open().map_err(failed)
    }

    pub(in crate::cli) fn size(&self) -> Size {
        size(&self.terminal)
    }

    /// From now on, every key arrives unprocessed.
    pub(super) fn raw(&mut self) -> Result<(), Failure> {
        let set = || {
            let before = tcgetattr(&self.terminal)?;
            let mut raw = before.clone();
            raw.make_raw();
            tcsetattr(&self.terminal, OptionalActions::Drain, &raw)?;
            Ok(before)
        };
        let failed = |error: Errno| Failure::new(Kind::Io, format!("the terminal: {error}"));
        self.before = Some(set().map_err(failed)?);
        put(&self.terminal, KEEP_TITLE);
        Ok(())
    }
}

impl Drop for Keyboard {
    fn drop(&mut self) {
        if let Some(before) = self.before.take() {
            // A terminal that is gone, or accepts nothing, cannot be restored. Input typed after we
            // left is discarded.
            let undo = self.done.borrow().undo();
            put(&self.terminal, &[undo.as_bytes(), TAKE_TITLE, PLAIN].concat());
            let _ = tcflush(&self.terminal, QueueSelector::IFlush);
            let _ = tcsetattr(&self.terminal, OptionalActions::Now, &before);
        }
    }
}

/// Writes without a runtime, and without waiting forever.
fn put(terminal: &OwnedFd, mut bytes: &[u8]) {
    let second = Timespec { tv_sec: 1, tv_nsec: 0 };
    while !bytes.is_empty() {
        match rustix::io::write(terminal, bytes) {
            Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
            Err(Errno::AGAIN) => {
                let mut room = [PollFd::new(terminal, PollFlags::OUT)];
                if !matches!(poll(&mut room, Some(&second)), Ok(1..)) {
                    return;
                }
            }
            Err(Errno::INTR) => {}
            Err(_) => return,
        }
    }
}

fn size(terminal: &OwnedFd) -> Size {
    match tcgetwinsize(terminal) {
        Ok(size) if size.ws_col > 0 && size.ws_row > 0 => {
            Size { cols: size.ws_col, rows: size.ws_row }
        }
        _ => Size { cols: 80, rows: 24 },
    }
}

/// Handles what is typed.
pub(super) struct Typing<'a> {
    pub(super) todo: &'a mpsc::Sender<Do>,
    pub(super) read_only: bool,
    /// Whether the keyboard is ours.
    pub(super) held: &'a Cell<bool>,
    /// Typed, and not yet passed on.
    pub(super) waiting: BytesMut,
    /// When Ctrl-^ was pressed, if it was the last key.
    pub(super) chord: Option<Instant>,
}

/// What a chunk of typed input means.
#[derive(Debug, Eq, PartialEq)]
enum KeyAction {
    Text(Bytes),
    Take,
    Leave,
}

impl Typing<'_> {
    /// Passes on what is typed, up to Ctrl-].
    pub(super) async fn read(mut self, input: &pipe::Receiver) -> Result<Left, Failure> {
        let mut buffer = vec![0; READ];
        loop {
            tokio::select! {
                biased;
                room = self.todo.reserve(), if !self.waiting.is_empty() => match (room, self.next()) {
                    (Ok(room), Some(KeyAction::Text(keys))) => room.send(Do::Type(keys)),
                    (Ok(room), Some(KeyAction::Take)) => room.send(self.turn()),
                    _ => return Ok(self.leave().await),
                },
                ready = input.readable(), if self.waiting.len() < READ => {
                    let most = READ - self.waiting.len();
                    let typed = match ready.and_then(|()| input.try_read(&mut buffer[..most])) {
                        // The terminal is gone: we leave, and the session stays.
                        Ok(0) => return Ok(self.leave().await),
                        Ok(length) => buffer.get(..length).unwrap_or_default(),
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                        Err(_) => return Ok(self.leave().await),
                    };
                    if self.read_only {
                        if typed.iter().any(|key| matches!(*key, LEAVE | b'q')) {
                            return Ok(self.leave().await);
                        }
                        continue;
                    }
                    self.waiting.extend_from_slice(typed);
                    // What was typed before it is not accepted: leave anyway.
                    if self.todo.capacity() == 0 && typed.contains(&LEAVE) {
                        return Ok(self.leave().await);
                    }
                }
            }
        }
    }

    /// The next action in the buffered input.
    fn next(&mut self) -> Option<KeyAction> {
        match self.waiting.first()? {
            &LEAVE => Some(KeyAction::Leave),
            &TAKE if self.chord.is_none_or(|then| then.elapsed() >= TWICE) => {
                self.chord = Some(Instant::now());
                let _ = self.waiting.split_to(1);
                Some(KeyAction::Take)
            }
            // The second of two is typed, and what follows is unchanged.
            first => {
                let from = usize::from(*first == TAKE);
                self.chord = None;
                let rest = self.waiting.get(from..).unwrap_or_default();
                let until = memchr::memchr2(LEAVE, TAKE, rest).map_or(rest.len(), |at| at);
                Some(KeyAction::Text(self.waiting.split_to(from + until).freeze()))
            }
        }
    }

    fn turn(&self) -> Do {
        if self.held.get() { Do::Release } else { Do::Take }
    }

    /// Leaves, without waiting forever.
    async fn leave(&self) -> Left {
        leave(self.todo).await
    }
}

async fn leave(todo: &mpsc::Sender<Do>) -> Left {
    let _ = timeout(FAREWELL, async {
        // The receiver has ended.
        let _ = todo.send(Do::Detach).await;
        todo.closed().await;
        sleep(FAREWELL).await;
    })
    .await;
    Left::Detached
}

/// Follows the size of our terminal.
pub(super) async fn resizes<T>(terminal: &OwnedFd, todo: &mpsc::Sender<Do>) -> T {
    let Ok(mut changed) = signal(SignalKind::window_change()) else {
        return std::future::pending().await;
    };
    while changed.recv().await.is_some() {
        let _ = todo.send(Do::Resize(size(terminal))).await;
    }
    std::future::pending().await
}

/// Leaves on a signal to terminate, so that the terminal is restored.
pub(super) async fn told_to_end(todo: &mpsc::Sender<Do>) -> Left {
    let told = async |kind| match signal(kind) {
        Ok(mut signal) => drop(signal.recv().await),
        Err(_) => std::future::pending().await,
    };
    tokio::select! {
        () = told(SignalKind::terminate()) => {}
        () = told(SignalKind::hangup()) => {}
        () = told(SignalKind::interrupt()) => {}
        () = told(SignalKind::quit()) => {}
    }
    leave(todo).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(typed: &[&[u8]]) -> Vec<KeyAction> {
        let (todo, _doing) = mpsc::channel(1);
        let held = Cell::new(false);
        let waiting = BytesMut::new();
        let mut typing =
            Typing { todo: &todo, read_only: false, held: &held, waiting, chord: None };
        let mut all = Vec::new();
        for piece in typed {
            typing.waiting.extend_from_slice(piece);
            while let Some(key) = typing.next() {
                let leaves = key == KeyAction::Leave;
                all.push(key);
                if leaves {
                    return all;
                }
            }
        }
        all
    }

    fn text(text: &'static [u8]) -> KeyAction {
        KeyAction::Text(Bytes::from_static(text))
    }

    #[test]
    fn keys_pass_as_they_are_but_for_two() {
        assert_eq!(keys(&[b"ls -l\r"]), [text(b"ls -l\r")]);
        assert_eq!(keys(&[b"ls\x1dnever"]), [text(b"ls"), KeyAction::Leave]);
        assert_eq!(keys(&[b"a\x1eb"]), [text(b"a"), KeyAction::Take, text(b"b")]);
        // Twice, it is typed; also when the two come apart, and the third is the first again.
        assert_eq!(keys(&[b"\x1e\x1ex"]), [KeyAction::Take, text(b"\x1ex")]);
        assert_eq!(keys(&[b"\x1e", b"\x1e"]), [KeyAction::Take, text(b"\x1e")]);
        assert_eq!(keys(&[b"\x1e", b"y", b"\x1e"]), [KeyAction::Take, text(b"y"), KeyAction::Take]);
        assert_eq!(keys(&[b"\x1e\x1e\x1e"]), [KeyAction::Take, text(b"\x1e"), KeyAction::Take]);
    }
}
