//! `farwire run -t`: a program on a terminal of its own.
//!
//! It is a session that nobody else knows of: it ends with its program, and is forgotten once its
//! exit is known here. Leaving hangs up, as closing a terminal does: also when a signal ends us, or
//! our input or output breaks. Only if we are killed, the session stays, as a run does, and appears
//! in the lists.

use std::io::{self, IsTerminal as _, Write as _};

use bytes::Bytes;
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::id::Nonce;
use farwire_protocol::streams::session::{Action, Caller, Limits};
use farwire_protocol::streams::session::{Ended, Request, Size};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};

use super::input::{Broken, Pieces, standard_input};
use super::{OURS, QUEUE, Run};
use crate::cli::attach::{How, Keyboard, sit};
use crate::cli::output::code_of;
use crate::client::{Client, Server};
use crate::machine::random_nonce;
use crate::sessions::attach::{AttachEvent, Do, Left, Talk, attach};
use crate::sessions::control::{act, close};
use crate::text::neutral::neutral_within;
use crate::text::passage::Passage;
use crate::verbs::run as verb;
use crate::verbs::session::open::OpenSession;

/// The size of the program's terminal if we have none.
const PLAIN: Size = Size { cols: 80, rows: 24 };

/// The key that ends input.
const END: u8 = 0x04;

/// The key that interrupts.
const INTERRUPT: &[u8] = b"\x03";

impl Run {
    /// Runs the program on a terminal, and returns its exit code.
    pub(super) async fn on_terminal(&self, client: &Client) -> Result<u8, Failure> {
        let server = client.find(&self.server).await?;
        let local = io::stdin().is_terminal() && io::stdout().is_terminal();
        let keyboard = if local { Some(Keyboard::open()?) } else { None };
        let size = keyboard.as_ref().map_or(PLAIN, Keyboard::size);
        let session = random_nonce()?;
        let verb::RunProgram { program, cwd, env, user, timeout_ms, .. } = self.verb();
        let open = OpenSession {
            program: Some(program),
            cwd,
            env,
            user,
            size,
            attach: Some(true),
            new: Some(true),
            timeout_ms,
            ..OpenSession::default()
        };
        let request = Request::Open(open.start(session, Nonce::ZERO));
        let parting = match keyboard {
            Some(keyboard) => {
                let how = How { read_only: false, take: false, clear: false };
                Parting::Left(sit(client, &server, request, keyboard, how).await?.left)
            }
            None => self.piped(client, &server, request).await?,
        };
        match parting {
            Parting::Left(Left::Ended(ended)) => {
                forget(client, &server, session).await;
                Ok(code(&ended))
            }
            Parting::Left(Left::Detached) => {
                hang_up(client, &server, session).await?;
                note!("farwire: left, and hung up on the program");
                Ok(OURS)
            }
            Parting::Broken(failure) => {
                // That it cannot be hung up on is the lesser trouble.
                let _ = hang_up(client, &server, session).await;
                Err(failure)
            }
        }
    }

    /// Without a local terminal: standard input is typed, and the terminal's output goes to
    /// standard output.
    async fn piped(
        &self,
        client: &Client,
        server: &Server,
        request: Request,
    ) -> Result<Parting, Failure> {
        let mut ending = ending_signals()?;
        let (todo, doing) = mpsc::channel(QUEUE);
        let (events, happened) = mpsc::channel(QUEUE);
        let (counting, counted) = watch::channel(0);
        let (opening, mut opened) = watch::channel(false);
        let talk = Talk { todo: doing, events, shown: counted };
        let shows = async {
            let attached = attach(client, server, request, talk);
            tokio::pin!(attached);
            let shown = show(happened, &counting, &opening);
            tokio::pin!(shown);
            tokio::select! {
                left = &mut attached => {
                    let left = left?;
                    // Everything has been received; now it must be written.
                    shown.await?;
                    Ok(Parting::Left(left))
                }
                done = &mut shown => match done {
                    Ok(()) => attached.await.map(Parting::Left),
                    Err(failure) => Ok(Parting::Broken(failure)),
                },
            }
        };
        let (input, broken) = standard_input(self.wants_stdin());
        tokio::select! {
            parting = shows => parting,
            failure = async {
                // What does not exist yet cannot be hung up on.
                let _ = opened.wait_for(|opened| *opened).await;
                types(&todo, input, broken).await
            } => Ok(Parting::Broken(failure)),
            left = interrupts(&todo) => left.map(Parting::Left),
            _ = ending.terminate.recv() => Ok(Parting::Left(Left::Detached)),
            _ = ending.hang_up.recv() => Ok(Parting::Left(Left::Detached)),
        }
    }
}

/// How we part from a program.
enum Parting {
    Left(Left),
    /// Our input or output broke.
    Broken(Failure),
}

/// The signals that end us.
struct EndingSignals {
    terminate: Signal,
    hang_up: Signal,
}

fn ending_signals() -> Result<EndingSignals, Failure> {
    let on = |kind| signal(kind).map_err(|error| no_signal(&error));
    Ok(EndingSignals {
        terminate: on(SignalKind::terminate())?,
        hang_up: on(SignalKind::hangup())?,
    })
}

fn no_signal(error: &io::Error) -> Failure {
    Failure::new(Kind::Io, format!("no signals: {error}"))
}

/// Closes the terminal of the program, and forgets it.
async fn hang_up(client: &Client, server: &Server, session: Nonce) -> Result<(), Failure> {
    close(client, server, session, &Caller::default()).await?;
    forget(client, server, session).await;
    Ok(())
}

/// The program's exit code, or ours in its place.
fn code(ended: &Ended) -> u8 {
    if ended.state.reason == Some(farwire_protocol::streams::run::Reason::Timeout) {
        note!("farwire: killed, because its time was up");
    }
    ended.state.exit.and_then(code_of).unwrap_or(OURS)
}

/// Its exit is known: nothing asks for it any more.
async fn forget(client: &Client, server: &Server, session: Nonce) {
    let limits = Limits { keep_ms: Some(0), ..Limits::default() };
    // If this fails, it is kept as long as any other ended session.
    let _ = act(client, server, session, &Caller::default(), Action::Limits(limits)).await;
}

/// Types an input, and its end. Returns only why it cannot be read on.
async fn types(todo: &mpsc::Sender<Do>, input: Option<Pieces>, mut broken: Broken) -> Failure {
    let typing = async {
        if let Some(mut input) = input {
            let mut fresh = true;
            while let Some(bytes) = input.recv().await {
                fresh = bytes.last() == Some(&b'\n');
                // The receiver has ended.
                let _ = todo.send(Do::Type(bytes)).await;
            }
            // Within a line, the first Ctrl-D only passes on the unfinished line.
            let end: &[u8] = if fresh { &[END] } else { &[END, END] };
            let _ = todo.send(Do::Type(Bytes::copy_from_slice(end))).await;
        }
        std::future::pending().await
    };
    tokio::select! {
        never = typing => never,
        input = broken.wait() => input.failure().with_hint("the program was hung up on"),
    }
}

/// Ctrl-C is typed the first time; the second time we leave.
async fn interrupts(todo: &mpsc::Sender<Do>) -> Result<Left, Failure> {
    let mut int = signal(SignalKind::interrupt()).map_err(|error| no_signal(&error))?;
    int.recv().await;
    let _ = todo.try_send(Do::Type(Bytes::from_static(INTERRUPT)));
    note!("farwire: Ctrl-C was typed; press it again to leave");
    int.recv().await;
    Ok(Left::Detached)
}

/// Writes the terminal's output to standard output; if that is a terminal, only what is safe.
async fn show(
    mut events: mpsc::Receiver<AttachEvent>,
    counting: &watch::Sender<u64>,
    opening: &watch::Sender<bool>,
) -> Result<(), Failure> {
    let filtered = io::stdout().is_terminal();
    let (mut passage, mut out) = (Passage::default(), Vec::new());
    let mut lost = false;
    while let Some(event) = events.recv().await {
        match event {
            AttachEvent::Bytes(bytes) => {
                out.clear();
                match filtered {
                    true => passage.pass(&bytes, &mut out),
                    false => out.extend_from_slice(&bytes),
                }
                write(&out)?;
                counting.send_modify(|count| *count += bytes.len() as u64);
            }
            AttachEvent::Lost(why) => {
                lost = true;
                note!("farwire: {}; reconnecting", neutral_within(&why, 200));
            }
            AttachEvent::Back(0) if std::mem::take(&mut lost) => note!("farwire: reconnected"),
            AttachEvent::Back(unknown) if unknown > 0 => {
                note!(
                    "farwire: reconnected; it is not known whether the last {unknown} bytes of input have arrived"
                );
            }
            AttachEvent::Refused(failure) => {
                note!("farwire: not typed: {}", neutral_within(&failure.message, 200));
            }
            AttachEvent::Attached(_) => {
                opening.send_replace(true);
            }
            AttachEvent::Screen | AttachEvent::Typing(_) | AttachEvent::Back(_) => {}
        }
    }
    Ok(())
}

fn write(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(bytes).and_then(|()| out.flush()).map_err(|error| {
        Failure::new(Kind::Io, format!("the output could not be written: {error}"))
    })
}
