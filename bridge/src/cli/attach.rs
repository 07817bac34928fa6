//! `farwire attach`: a person at a session.
//!
//! Our terminal is opened again for this, so that we can read and write it without blocking while
//! the shell that started us keeps its own open file unchanged. It is restored on every way out.

mod keyboard;
mod shown;

use std::cell::Cell;
use std::time::Duration;

use bytes::BytesMut;
use clap::Args;
use farwire_protocol::failure::Failure;
use farwire_protocol::id::Nonce;
use farwire_protocol::streams::session::{Attach as AttachMessage, Request, Size};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

pub(super) use self::keyboard::Keyboard;
use self::keyboard::{Typing, resizes, told_to_end};
use self::shown::Shown;
use crate::cli::output::code_of;
use crate::cli::runtime::runtime;
use crate::client::{Client, Server};
use crate::handles::Handle;
use crate::machine::random_nonce;
use crate::sessions::attach::{Do, Left, Talk, attach};
use crate::sessions::find::running_on;
use crate::text::neutral::neutral_within;
use crate::verbs::session::open::OpenSession;

/// How many chunks of output may wait for our terminal: with the size of a frame, this bounds our
/// memory.
const QUEUE: usize = 32;

/// How long to wait for our terminal to accept a program's last output.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Open a persistent terminal session, or return to one
///
/// Ctrl-] detaches. Ctrl-^ takes the keyboard, so that nobody else can type, and releases it again;
/// press it twice to type it. Output that could harm your terminal is held back:
/// clipboard access, reports, pictures, and links that are not web links.
#[derive(Args, Debug)]
pub(crate) struct Attach {
    /// The server and the name of its session [default: main], or a session's id, such as s3
    #[arg(value_name = "SERVER[/NAME]")]
    session: String,
    /// Watch without typing; q or Ctrl-] detaches
    #[arg(long, conflicts_with = "new")]
    read_only: bool,
    /// Take the keyboard at once: nobody else can type while you are attached
    #[arg(long, conflicts_with = "read_only")]
    take: bool,
    /// Open a new session, even if one of that name is running
    #[arg(long)]
    new: bool,
    /// Run as this user if a session is opened [default: the agent's own]
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
        let (server, target) = self.target(client).await?;
        let keyboard = Keyboard::open()?;
        let request = self.request(client, &server, target, keyboard.size()).await?;
        let how = How { read_only: self.read_only, take: self.take, clear: true };
        let sat = sit(client, &server, request, keyboard, how).await?;
        let name = neutral_within(&sat.name, 64);
        match sat.left {
            Left::Detached => {
                let target = format!("{}/{name}", server.name);
                // From now on it is called by its id. Failing to get one is not an error.
                let handle =
                    sat.session.and_then(|job| Handle::of_session(client, &server, job).ok());
                let id = handle.map_or_else(String::new, |handle| format!(" from {}", handle.id));
                note!("farwire: detached{id}; `farwire attach {target}` returns to it");
                Ok(0)
            }
            Left::Ended(ended) => {
                note!("farwire: session `{name}` ended");
                Ok(ended.state.exit.and_then(code_of).unwrap_or(1))
            }
        }
    }

    /// The request to the server: the session with this id or name, or a new one.
    async fn request(
        &self,
        client: &Client,
        server: &Server,
        target: Target,
        size: Size,
    ) -> Result<Request, Failure> {
        Ok(match target {
            Target::Session(session) => Request::Attach(AttachMessage {
                session,
                read_only: Some(self.read_only),
                size: (!self.read_only).then_some(size),
                from: None,
            }),
            Target::Name(name) if self.read_only => {
                let session = running_on(client, server, &name).await?.handle.job;
                let (read_only, size, from) = (Some(true), None, None);
                Request::Attach(AttachMessage { session, read_only, size, from })
            }
            Target::Name(name) => {
                let open = OpenSession {
                    name: (!self.new || name != MAIN).then_some(name),
                    user: self.user.clone(),
                    size,
                    attach: Some(true),
                    new: Some(self.new),
                    ..OpenSession::default()
                };
                let instance = client.instance(server).await?;
                Request::Open(open.start(random_nonce()?, instance))
            }
        })
    }

    async fn target(&self, client: &Client) -> Result<(Server, Target), Failure> {
        if let Ok(Handle { server, job, .. }) = Handle::find_session(client, &self.session) {
            return Ok((server, Target::Session(job)));
        }
        let (server, name) = self.session.split_once('/').unwrap_or((&self.session, MAIN));
        Ok((client.find(server).await?, Target::Name(name.to_owned())))
    }
}

/// How a person attaches to a session.
#[derive(Clone, Copy, Debug)]
pub(super) struct How {
    pub(super) read_only: bool,
    /// Nobody else types.
    pub(super) take: bool,
    /// A new session begins on an empty screen.
    pub(super) clear: bool,
}

/// How it ended.
#[derive(Debug)]
pub(super) struct Sat {
    pub(super) left: Left,
    pub(super) name: String,
    pub(super) session: Option<Nonce>,
}

/// Attaches until the program ends or the person detaches, and restores the terminal.
pub(super) async fn sit(
    client: &Client,
    server: &Server,
    request: Request,
    mut keyboard: Keyboard,
    how: How,
) -> Result<Sat, Failure> {
    let (todo, doing) = mpsc::channel(QUEUE);
    let (events, mut happened) = mpsc::channel(QUEUE);
    let (counting, counted) = watch::channel(0);
    let talk = Talk { todo: doing, events, shown: counted };
    if how.take {
        // The queue is empty, so this comes first.
        let _ = todo.try_send(Do::Take);
    }
    keyboard.raw()?;
    let held = Cell::new(false);
    let mut shown = Shown::new(&held, &todo, keyboard.done.clone());
    shown.clear = how.clear;
    let left = {
        let (read_only, waiting) = (how.read_only, BytesMut::new());
        let typing = Typing { todo: &todo, read_only, held: &held, waiting, chord: None };
        tokio::select! {
            left = attach(client, server, request, talk) => left,
            left = typing.read(&keyboard.input) => left,
            never = async {
                shown.write(&mut keyboard.output, &mut happened, &counting).await;
                std::future::pending().await
            } => never,
            never = resizes(&keyboard.terminal, &todo) => never,
            left = told_to_end(&todo) => Ok(left),
        }
    };
    if matches!(left, Ok(Left::Ended(_))) {
        // Everything has been received; now it must be written.
        let rest = shown.write(&mut keyboard.output, &mut happened, &counting);
        let _ = timeout(LAST_WORDS, rest).await;
    }
    let (name, session) = (shown.name, shown.session);
    drop(keyboard);
    Ok(Sat { left: left?, name, session })
}

/// The default name of a session.
const MAIN: &str = "main";

enum Target {
    Session(Nonce),
    Name(String),
}
