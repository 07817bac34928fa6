//! `farwire attach`: a person at a session.
//!
//! Our terminal is opened anew for this, so that it can be read and written without blocking while the
//! shell that started us keeps it as it was. It is restored on every way out.

use std::io;
use std::os::fd::OwnedFd;

use bytes::Bytes;
use clap::Args;
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::streams::run::Exit;
use farwire_protocol::streams::session::{Attach as AttachMessage, Attached, Request, Size, Start};
use rustix::fs::{Mode, OFlags};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use tokio::io::AsyncWriteExt as _;
use tokio::net::unix::pipe;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::cli::runtime;
use crate::client::{Client, Server, random_nonce};
use crate::sessions::attach::{Do, Event, Left, attach};
use crate::sessions::{self};
use crate::text::neutral::neutral_within;
use crate::text::passage::Passage;
use crate::tools::session as tool;

/// Ctrl-].
const LEAVE: u8 = 0x1d;

/// Pieces of output that wait for our terminal: with the size of a frame they bound our memory.
const QUEUE: usize = 32;

/// How much is read from the keyboard at once.
const READ: usize = 16 << 10;

/// Undoes whatever a program can have done to the terminal: screens, cursor, colours, mouse, pastes,
/// keys, scrolling region, alphabet.
const RESET: &[u8] =
    b"\x1b[?1049l\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1006l\x1b[?1004l\x1b[?2004l\
    \x1b[?1l\x1b>\x1b[!p\x1b[?25h\x1b[0 q\x1b[m\x1b(B\r\n";

#[derive(Args, Debug)]
pub(crate) struct Attach {
    /// Which server, and which of its sessions [default: main]; or a session's id, e.g. s3
    #[arg(value_name = "SERVER[/NAME]")]
    session: String,
    /// Look without typing
    #[arg(long, conflicts_with = "new")]
    read_only: bool,
    /// Open another session, whatever there is
    #[arg(long)]
    new: bool,
    /// As which user, where the session is opened [default: the agent's own]
    #[arg(long, value_name = "USER")]
    user: Option<String>,
}

impl Attach {
    pub(crate) fn carry_out(&self, client: Client) -> Result<u8, Failure> {
        let runtime = runtime()?;
        let code = runtime.block_on(async {
            let done = Box::pin(self.attach(&client)).await;
            client.close().await;
            done
        });
        runtime.shutdown_background();
        code
    }

    async fn attach(&self, client: &Client) -> Result<u8, Failure> {
        let (server, name) = self.target(client).await?;
        let mut keyboard = Keyboard::open()?;
        let size = keyboard.size();
        let request = match name {
            Target::Session(session) => Request::Attach(AttachMessage {
                session,
                read_only: Some(self.read_only),
                size: (!self.read_only).then_some(size),
                from: None,
            }),
            Target::Name(name) if self.read_only => {
                let session = tool::named(client, &server, &name).await?;
                let (read_only, size, from) = (Some(true), None, None);
                Request::Attach(AttachMessage { session, read_only, size, from })
            }
            Target::Name(name) => {
                let instance = client.instance(&server).await?;
                Request::Open(Start {
                    request: random_nonce()?,
                    instance,
                    name: (!self.new || name != MAIN).then_some(name),
                    program: None,
                    cwd: None,
                    env: None,
                    user: self.user.clone(),
                    size,
                    attach: Some(true),
                    new: Some(self.new),
                    timeout_ms: None,
                    caller: None,
                    labels: None,
                    limits: None,
                })
            }
        };
        let (todo, doing) = mpsc::channel(QUEUE);
        let (events, happened) = mpsc::channel(QUEUE);
        keyboard.raw()?;
        let carrying = attach(client, &server, request, doing, events);
        let mut shown = Shown { name: String::new() };
        let left = {
            let reading = read(&keyboard.input, &todo, self.read_only);
            let writing = shown.write(&mut keyboard.output, happened);
            let resizing = resizes(&keyboard.terminal, &todo);
            let leaving = leave(&todo);
            tokio::select! {
                left = carrying => left,
                failure = reading => Err(failure),
                failure = writing => Err(failure),
                never = resizing => never,
                never = leaving => never,
            }
        };
        drop(keyboard);
        let name = neutral_within(&shown.name, 64);
        match left? {
            Left::Detached => {
                let target = format!("{}/{name}", server.name);
                note!("farwire: detached; `farwire attach {target}` comes back to it");
                Ok(0)
            }
            Left::Ended(ended) => {
                let code = match ended.state.exit {
                    Some(Exit::Code(code)) => u8::try_from(code & 0xff).unwrap_or(1),
                    Some(Exit::Signal(number)) => u8::try_from(128 + number).unwrap_or(1),
                    None => 1,
                };
                note!("farwire: session `{name}` ended");
                Ok(code)
            }
        }
    }

    async fn target(&self, client: &Client) -> Result<(Server, Target), Failure> {
        if let Ok((_, server, session)) = sessions::find(client, &self.session) {
            return Ok((server, Target::Session(session)));
        }
        let (server, name) = self.session.split_once('/').unwrap_or((&self.session, MAIN));
        Ok((client.find(server).await?, Target::Name(name.to_owned())))
    }
}

/// What a session is called when nobody says.
const MAIN: &str = "main";

enum Target {
    Session(farwire_protocol::id::Nonce),
    Name(String),
}

/// Our terminal. Restored when this goes.
struct Keyboard {
    terminal: OwnedFd,
    input: pipe::Receiver,
    output: pipe::Sender,
    before: Option<Termios>,
}

impl Keyboard {
    fn open() -> Result<Self, Failure> {
        let failed = |error: io::Error| {
            Failure::new(Kind::InvalidArgument, format!("attach needs a terminal: {error}"))
                .with_hint("use `farwire run` for programs that need none")
        };
        let open = || {
            let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC | OFlags::NONBLOCK;
            let terminal = rustix::fs::open(c"/dev/tty", flags, Mode::empty())?;
            let input = pipe::Receiver::from_owned_fd_unchecked(terminal.try_clone()?)?;
            let output = pipe::Sender::from_owned_fd_unchecked(terminal.try_clone()?)?;
            Ok(Self { terminal, input, output, before: None })
        };
        open().map_err(failed)
    }

    fn size(&self) -> Size {
        size(&self.terminal)
    }

    fn raw(&mut self) -> Result<(), Failure> {
        let set = || {
            let before = tcgetattr(&self.terminal)?;
            let mut raw = before.clone();
            raw.make_raw();
            tcsetattr(&self.terminal, OptionalActions::Drain, &raw)?;
            Ok(before)
        };
        let failed =
            |error: rustix::io::Errno| Failure::new(Kind::Io, format!("the terminal: {error}"));
        self.before = Some(set().map_err(failed)?);
        Ok(())
    }
}

impl Drop for Keyboard {
    fn drop(&mut self) {
        if let Some(before) = self.before.take() {
            // A terminal that is gone, or does not take anything, cannot be restored.
            let _ = rustix::io::ioctl_fionbio(&self.terminal, false);
            let _ = rustix::io::write(&self.terminal, RESET);
            let _ = tcsetattr(&self.terminal, OptionalActions::Flush, &before);
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

/// Passes on what is typed, up to Ctrl-].
async fn read(input: &pipe::Receiver, todo: &mpsc::Sender<Do>, read_only: bool) -> Failure {
    let mut buffer = vec![0; READ];
    loop {
        let read = match input.readable().await {
            Ok(()) => input.try_read(&mut buffer),
            Err(error) => Err(error),
        };
        let typed = match read {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(length) => Ok(buffer.get(..length).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(error) => Err(error),
        };
        let Ok(typed) = typed else {
            // The terminal is gone: we leave, and the session stays.
            let _ = todo.send(Do::Detach).await;
            return std::future::pending().await;
        };
        let until = memchr::memchr(LEAVE, typed);
        let keys = typed.get(..until.unwrap_or(typed.len())).unwrap_or_default();
        let quits = until.is_some() || read_only && keys.contains(&b'q');
        // Whoever received has ended.
        if !keys.is_empty() && !read_only {
            let _ = todo.send(Do::Type(Bytes::copy_from_slice(keys))).await;
        }
        if quits {
            let _ = todo.send(Do::Detach).await;
            return std::future::pending().await;
        }
    }
}

async fn resizes<T>(terminal: &OwnedFd, todo: &mpsc::Sender<Do>) -> T {
    let Ok(mut changed) = signal(SignalKind::window_change()) else {
        return std::future::pending().await;
    };
    while changed.recv().await.is_some() {
        let _ = todo.send(Do::Resize(size(terminal))).await;
    }
    std::future::pending().await
}

/// Leaves when we are told to end, so that the terminal is restored.
async fn leave<T>(todo: &mpsc::Sender<Do>) -> T {
    let told = async |kind| match signal(kind) {
        Ok(mut signal) => drop(signal.recv().await),
        Err(_) => std::future::pending().await,
    };
    tokio::select! {
        () = told(SignalKind::terminate()) => {}
        () = told(SignalKind::hangup()) => {}
    }
    let _ = todo.send(Do::Detach).await;
    std::future::pending().await
}

/// What is on our screen.
struct Shown {
    name: String,
}

impl Shown {
    async fn write(
        &mut self,
        output: &mut pipe::Sender,
        mut events: mpsc::Receiver<Event>,
    ) -> Failure {
        let mut passage = Passage::default();
        let mut out = Vec::new();
        while let Some(event) = events.recv().await {
            out.clear();
            self.show(event, &mut passage, &mut out);
            while let Ok(event) = events.try_recv() {
                self.show(event, &mut passage, &mut out);
                if out.len() > 256 << 10 {
                    break;
                }
            }
            if output.write_all(&out).await.is_err() {
                // The terminal is gone, and the reading half notices.
                break;
            }
        }
        std::future::pending().await
    }

    fn show(&mut self, event: Event, passage: &mut Passage, out: &mut Vec<u8>) {
        let mut say = |text: &str| out.extend_from_slice(format!("\r\n[{text}]\r\n").as_bytes());
        match event {
            Event::Bytes(bytes) => passage.pass(&bytes, out),
            Event::Attached(Attached { name, .. }) => self.name = name,
            Event::Screen => {
                *passage = Passage::default();
                out.extend_from_slice(b"\x1b[!p\x1b[H\x1b[2J");
            }
            Event::Refused(failure) => say(&neutral_within(&failure.message, 200)),
            Event::Lost(why) => say(&format!(
                "farwire: {}; trying to come back, Ctrl-] leaves",
                neutral_within(&why, 200)
            )),
            Event::Back(0) => {}
            Event::Back(lost) => say(&format!(
                "farwire: back; whether the last {lost} bytes that were typed have arrived is not known"
            )),
        }
    }
}
