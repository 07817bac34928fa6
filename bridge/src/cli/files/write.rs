//! `write`: standard input becomes a file.

use std::io::{self, Read as _};

use bytes::Bytes;
use clap::Args;
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::streams::files::{Ask, Done, How};
use tokio::sync::mpsc;

use super::arguments::parse_revision;
use super::change::print_change;
use crate::cli::output::Json;
use crate::client::Client;
use crate::files::Files;
use crate::files::asked::outcome;
use crate::files::place::ServerPath;
use crate::files::site::Face;
use crate::verbs::files::Changed;
use crate::verbs::files::write::Write as Content;

/// This much is read before the server is asked: a slow local program keeps nobody waiting on the
/// server, and input that is not longer is sent at once.
const HELD: usize = 8 << 20;

/// How much is read at once.
const PIECE: usize = 64 << 10;

/// At most this many chunks wait to be sent.
const WAITING: usize = 4;

/// Write standard input to a file on a server
///
/// The write is atomic: readers see the old content or the new, never a mixture.
#[derive(Args, Debug)]
pub(crate) struct Write {
    /// The file: SERVER:PATH
    file: ServerPath,
    /// Replace an existing file
    #[arg(short, long)]
    force: bool,
    /// Append to the file
    #[arg(short, long, conflicts_with = "force")]
    append: bool,
    /// Replace the file only if its revision is still REV, as `farwire files stat` prints it
    #[arg(long, value_name = "REV", value_parser = parse_revision)]
    rev: Option<u64>,
    #[command(flatten)]
    pub(crate) json: Json,
}

type InputChunks = mpsc::Receiver<io::Result<Bytes>>;

impl Write {
    pub(super) async fn carry_out(&self, client: &Client) -> Result<(), Failure> {
        // A missing root is reported before anything is read.
        self.file.place(client).await?;
        let mut input = input();
        let mut held = Vec::new();
        let mut ended = false;
        while !ended && held.len() <= HELD {
            match next(&mut input).await? {
                Some(piece) => held.extend_from_slice(&piece),
                None => ended = true,
            }
        }
        let write = self.verb();
        if ended {
            let changed = write.carry_out(client, Face::Cli, &held).await?;
            return print_change(&changed, self.json);
        }
        let mut site = self.file.site(client, Face::Cli).await?;
        site.enter().await?;
        let ask = write.question(&site.place);
        let done = stream(site.files().await?, ask, &held, input).await?;
        print_change(&Changed::new(site.place.clone(), done), self.json)
    }

    fn verb(&self) -> Content<'_> {
        let how = match (self.append, self.force || self.rev.is_some()) {
            (true, _) => How::Append,
            (false, true) => How::Put,
            (false, false) => How::Create,
        };
        Content { file: &self.file, how, revision: self.rev, mode: None }
    }
}

/// Sends what was read, and what is read from now on.
async fn stream(
    files: &mut Files,
    ask: Ask,
    held: &[u8],
    mut input: InputChunks,
) -> Result<Done, Failure> {
    let Files { up, down, .. } = files;
    up.ask(ask)?;
    let sending = async {
        let mut sent = 0;
        for piece in held.chunks(PIECE) {
            up.content(piece);
            sent += piece.len() as u64;
            up.flush_full().await?;
        }
        while let Some(piece) = next(&mut input).await? {
            up.content(&piece);
            sent += piece.len() as u64;
            up.flush_full().await?;
        }
        up.whole(sent);
        up.flush().await
    };
    let answered = down.answer();
    tokio::pin!(sending, answered);
    tokio::select! {
        // It was refused before all of the input had arrived.
        answered = &mut answered => answered.map(|answer| answer.done),
        sent = &mut sending => {
            sent?;
            answered.await.map(|answer| answer.done).map_err(outcome)
        }
    }
}

/// Reads standard input on a thread of its own: it may block forever, and nothing waits for it.
fn input() -> InputChunks {
    let (sender, receiver) = mpsc::channel(WAITING);
    std::thread::spawn(move || {
        let mut input = io::stdin().lock();
        let mut buffer = vec![0; PIECE];
        loop {
            let read = match input.read(&mut buffer) {
                Ok(0) => return,
                Ok(length) => Ok(Bytes::copy_from_slice(buffer.get(..length).unwrap_or_default())),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => Err(error),
            };
            let over = read.is_err();
            if sender.blocking_send(read).is_err() || over {
                return;
            }
        }
    });
    receiver
}

/// The next chunk. A read error is not the end of input: what was read is not a complete file.
async fn next(input: &mut InputChunks) -> Result<Option<Bytes>, Failure> {
    input.recv().await.transpose().map_err(|error| {
        Failure::new(Kind::Io, format!("standard input: {error}; nothing was changed"))
    })
}
