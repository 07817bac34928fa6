//! `farwire secret`: secrets to type at password prompts, kept by name.
//!
//! A value is read from standard input, or on a terminal without being shown; never from the
//! command line, which others can see. Nothing ever prints it.

use std::io::{self, IsTerminal as _, Read as _, Write as _};

use clap::{Args, Subcommand};
use farwire_keystore::{Home, Phrases};
use farwire_protocol::failure::{Failure, Kind};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

use crate::cli::output::{Json, print, print_json};
use crate::text::neutral::neutral;

/// The exit code of Ctrl-C at a prompt.
const INTERRUPTED: u8 = 130;

#[derive(Debug, Subcommand)]
pub(crate) enum Secret {
    /// Store a secret, read from standard input or typed without echo
    ///
    /// An AI client that knows the name can have the secret typed where a terminal asks for a
    /// password, but never sees it. From standard input, one line is read: `pass show sudo |
    /// farwire secret set sudo`.
    Set(Name),
    /// List the names of secrets
    Ls(Ls),
    /// Remove a secret
    Rm(Name),
}

#[derive(Args, Debug)]
pub(crate) struct Name {
    /// The secret's name
    name: String,
}

#[derive(Args, Debug)]
pub(crate) struct Ls {
    #[command(flatten)]
    json: Json,
}

impl Secret {
    pub(crate) fn wants_json(&self) -> bool {
        matches!(self, Self::Ls(Ls { json: Json { json: true } }))
    }

    pub(crate) fn carry_out(&self, home: &Home) -> Result<u8, Failure> {
        match self {
            Self::Set(Name { name }) => {
                let Some(value) = read()? else { return Ok(INTERRUPTED) };
                let guard = home.lock()?;
                let known = home.phrases().set(&guard, name, &value)?;
                let what = if known { "replaced" } else { "stored" };
                note!("farwire: secret `{}` {what}", neutral(name));
            }
            Self::Ls(Ls { json }) => {
                let names = home.phrases().names()?;
                if json.json {
                    print_json(&names)?;
                } else {
                    print(&names.iter().map(|name| format!("{name}\n")).collect::<String>())?;
                }
            }
            Self::Rm(Name { name }) => {
                let guard = home.lock()?;
                home.phrases().remove(&guard, name)?;
                note!("farwire: secret `{}` removed", neutral(name));
            }
        }
        Ok(0)
    }
}

/// The value: one line of standard input, or what is typed, twice. None if somebody pressed Ctrl-C.
fn read() -> Result<Option<Zeroizing<Vec<u8>>>, Failure> {
    if !io::stdin().is_terminal() {
        return line().map(Some);
    }
    let Some(first) = read_hidden("secret: ")? else { return Ok(None) };
    let Some(second) = read_hidden("again: ")? else { return Ok(None) };
    if first != second {
        return Err(Failure::new(Kind::InvalidArgument, "the two secrets were not the same")
            .with_hint("nothing was stored; try again"));
    }
    Ok(Some(first))
}

fn read_failure(error: &dyn std::error::Error) -> Failure {
    Failure::caused(Kind::Io, "the secret could not be read", error)
}

fn line() -> Result<Zeroizing<Vec<u8>>, Failure> {
    // A buffer that had to grow would leave a copy behind.
    let most = Phrases::LONGEST + 2;
    let mut value = Zeroizing::new(Vec::with_capacity(most + 1));
    let limit = u64::try_from(most + 1).unwrap_or(u64::MAX);
    io::stdin().lock().take(limit).read_to_end(&mut value).map_err(|error| read_failure(&error))?;
    if value.len() > most {
        let text = format!("a secret has at most {} bytes", Phrases::LONGEST);
        return Err(Failure::new(Kind::TooLarge, text));
    }
    for end in [b'\n', b'\r'] {
        if value.last() == Some(&end) {
            value.pop();
        }
    }
    Ok(value)
}

/// Our terminal with echo turned off. Dropping it restores the terminal.
struct Unseen(Termios);

impl Unseen {
    fn begin() -> Result<Self, Failure> {
        let terminal = io::stdin();
        let before = tcgetattr(&terminal).map_err(|error| read_failure(&error))?;
        let mut unseen = before.clone();
        // Keys arrive unprocessed, even Ctrl-C: the terminal is restored before we exit because of
        // it.
        unseen.local_modes.remove(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG);
        tcsetattr(&terminal, OptionalActions::Flush, &unseen)
            .map_err(|error| read_failure(&error))?;
        Ok(Self(before))
    }
}

impl Drop for Unseen {
    fn drop(&mut self) {
        // A terminal that is gone needs no restoring.
        let _ = tcsetattr(io::stdin(), OptionalActions::Flush, &self.0);
        let _ = io::stderr().write_all(b"\n");
    }
}

fn read_hidden(prompt: &str) -> Result<Option<Zeroizing<Vec<u8>>>, Failure> {
    let _unseen = Unseen::begin()?;
    let mut error = io::stderr();
    // The prompt is for people: read even if it cannot be shown.
    let _ = error.write_all(prompt.as_bytes()).and_then(|()| error.flush());
    let mut value = Zeroizing::new(Vec::with_capacity(Phrases::LONGEST + 1));
    let mut byte = Zeroizing::new([0]);
    loop {
        let read = rustix::io::read(io::stdin(), byte.as_mut_slice());
        match (read.map_err(|error| read_failure(&error))?, byte[0]) {
            (0, _) | (_, b'\r' | b'\n' | 0x04) => return Ok(Some(value)),
            (_, 0x03) => return Ok(None),
            // Ctrl-U erases everything; the erase key removes one whole character.
            (_, 0x15) => value.clear(),
            (_, 0x08 | 0x7f) => while value.pop().is_some_and(|last| last & 0xc0 == 0x80) {},
            (_, key) if value.len() <= Phrases::LONGEST => value.push(key),
            _ => {}
        }
    }
}
