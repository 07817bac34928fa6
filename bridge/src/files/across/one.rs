//! The bytes of files, out of one stream and into another.

use farwire_protocol::cbor::Blob;
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::id::Nonce;
use farwire_protocol::streams::files::{Arrived, Ask, Entry, Part, Read, ToBridge, What};
use sha2::{Digest as _, Sha256};

use super::{Across, End, Pair};
use crate::files::transfer::{LARGE, Meter, Patience, SoFar};
use crate::files::{Down, Files, Said, Up};

/// So many files are asked for before the first has come.
const AHEAD: usize = 16;

/// How far one file is.
#[derive(Debug, Default)]
struct Sent {
    /// So many bytes of it have been counted.
    counted: u64,
    /// All of it was said once: it may have been put in its place.
    whole: bool,
}

/// Counts the bytes of a file, each once, however often it is begun.
struct Count<'a> {
    meter: &'a Meter,
    reached: u64,
    counted: &'a mut u64,
}

impl Count<'_> {
    /// What arrived before counts, too, once.
    fn begin(&mut self, have: u64) {
        self.reached = have;
        self.meter.came_before(have.saturating_sub(*self.counted));
        *self.counted = have.max(*self.counted);
    }

    fn reach(&mut self, offset: u64) {
        self.reached = offset;
        self.meter.came(offset.saturating_sub(*self.counted));
        *self.counted = offset.max(*self.counted);
    }
}

/// Copies one file; goes on with what is there of it.
pub(super) async fn one(copy: &Across<'_>, pair: &Pair) -> Result<(), Failure> {
    let mut patience = Patience::new(copy.meter);
    let mut sent = Sent::default();
    loop {
        let before = sent.whole;
        match attempt(copy, pair, &mut sent, &mut patience).await {
            Ok(()) => break,
            // The answer to an earlier one was lost.
            Err(failure) if failure.kind == Kind::FileExists && before => {
                same(copy, pair).await?;
                break;
            }
            Err(failure)
                if failure.kind == Kind::FileExists
                    && Box::pin(arrived_late(copy, pair)).await? =>
            {
                break;
            }
            Err(failure) => patience.wait(failure).await?,
        }
    }
    copy.meter.whole();
    Ok(())
}

async fn attempt(
    copy: &Across<'_>,
    pair: &Pair,
    sent: &mut Sent,
    patience: &mut Patience<'_>,
) -> Result<(), Failure> {
    let mut source = copy.enter(&copy.from).await?;
    let mut target = copy.enter(&copy.to).await?;
    patience.entered();
    let answer = source.ask(Ask::Stat(Blob(pair.from.clone())), None).await?;
    let entry = answer.done.entry.ok_or_else(|| incomplete("an entry"))?;
    let mut write = copy.write(&pair.to, &entry);
    if entry.size > LARGE {
        let transfer = part_of(copy, pair, entry.revision);
        let arrived = Arrived { path: Blob(pair.to.clone()), transfer };
        let arrived = target.ask(Ask::Arrived(arrived), None).await?.done.bytes.unwrap_or(0);
        write.transfer = Some(transfer);
        write.offset = Some(if arrived > entry.size { 0 } else { arrived });
    }
    let have = write.offset.unwrap_or(0);
    if have > 0 {
        // Two parts are only one file if the whole of it is what it should be.
        let read = question(&pair.from, (0, Some(0)), Some(entry.revision), true);
        let hash = source.ask(read, None).await?.done.hash;
        write.hash = Some(hash.ok_or_else(|| incomplete("a hash"))?);
    }
    source.up.ask(question(&pair.from, (have, None), Some(entry.revision), false))?;
    source.up.flush().await?;
    let Files { up, down, .. } = &mut target;
    up.ask(Ask::Write(write))?;
    let Sent { counted, whole } = sent;
    let mut count = Count { meter: copy.meter, reached: have, counted };
    count.begin(have);
    let sending = async {
        let given_up = pump(&mut source.down, up, &mut count).await?;
        *whole |= given_up.is_none();
        up.flush().await?;
        given_up.map_or(Ok(()), Err)
    };
    let answered = down.answer();
    tokio::pin!(sending, answered);
    tokio::select! {
        // It was refused before all was there.
        answered = &mut answered => answered.map(drop),
        sent = &mut sending => {
            sent?;
            answered.await.map(drop)
        }
    }
}

fn incomplete(what: &str) -> Failure {
    Failure::new(Kind::ProtocolViolation, format!("an answer without {what}"))
}

/// The question for a part of a file.
fn question(
    path: &[u8],
    (offset, length): (u64, Option<u64>),
    revision: Option<u64>,
    hash: bool,
) -> Ask {
    let (path, part) = (Blob(path.to_vec()), Part::Bytes { offset, length });
    Ask::Read(Read { path, part, revision, hash: hash.then_some(true), before: None })
}

/// Hands one file on. If its server does not bring it to its end, the other one is told so, and why is given.
async fn pump(
    from: &mut Down,
    to: &mut Up,
    count: &mut Count<'_>,
) -> Result<Option<Failure>, Failure> {
    let mut sent: u64 = 0;
    loop {
        match from.next().await? {
            Said::Content(bytes) => {
                to.content(&bytes);
                sent += bytes.len() as u64;
                count.reach(count.reached + bytes.len() as u64);
                to.flush_full().await?;
            }
            Said::Message(ToBridge::Entries(_)) => {}
            Said::Message(ToBridge::Done(done)) if done.failure.is_some() => {
                to.give_up();
                return Ok(done.failure);
            }
            Said::Message(ToBridge::Done(_)) => {
                to.whole(sent);
                return Ok(None);
            }
            Said::Message(_) => {
                return Err(Failure::new(Kind::ProtocolViolation, "an answer to another question"));
            }
        }
    }
}

/// That what is there already is what was to be copied.
///
/// # Errors
///
/// `file_exists` if it is something else.
pub(super) async fn same(copy: &Across<'_>, pair: &Pair) -> Result<(), Failure> {
    let source = hash(copy, &copy.from, &pair.from).await?;
    if source == hash(copy, &copy.to, &pair.to).await? {
        return Ok(());
    }
    let text = format!("{} is there already", copy.to.place.shown_of(&pair.to));
    Err(Failure::new(Kind::FileExists, text))
}

/// Whether what is there already is like what is copied: who copied it before us may have been killed after its
/// last word.
async fn arrived_late(copy: &Across<'_>, pair: &Pair) -> Result<bool, Failure> {
    // Of one file that is named, it is said that it is there.
    if !copy.recursive {
        return Ok(false);
    }
    let at = |end: &End, path: &[u8]| {
        let mut end = end.clone();
        end.place.path = path.to_vec();
        end
    };
    let from = at(&copy.from, &pair.from).stat(copy.client).await?;
    let to = at(&copy.to, &pair.to).stat(copy.client).await?;
    let like = |entry: &Entry| (entry.what, entry.size, entry.modified);
    Ok(to.what == What::File && like(&from) == like(&to))
}

async fn hash(copy: &Across<'_>, end: &End, path: &[u8]) -> Result<Blob, Failure> {
    let mut files = copy.enter(end).await?;
    let read = question(path, (0, Some(0)), None, true);
    let answer = Box::pin(files.answer(copy.client, read, None)).await?;
    answer.done.hash.ok_or_else(|| incomplete("a hash"))
}

/// Copies many files over one stream at each end: what is sent does not wait for what is answered.
pub(super) async fn many(
    copy: &Across<'_>,
    all: &[Entry],
    so_far: &mut SoFar,
    patience: &mut Patience<'_>,
) -> Result<(), Failure> {
    let SoFar { done, sent, doubtful } = so_far;
    let (first, before) = (*done, *sent);
    let rest = all.get(first..).unwrap_or_default();
    if rest.is_empty() {
        return Ok(());
    }
    let mut source = copy.enter(&copy.from).await?;
    let mut target = copy.enter(&copy.to).await?;
    patience.entered();
    let Files { up: asking, down: coming, .. } = &mut source;
    let Files { up, down, .. } = &mut target;
    let sending = async {
        let mut asked = 0;
        for (at, entry) in rest.iter().enumerate() {
            while asked <= at + AHEAD
                && let Some(next) = rest.get(asked)
            {
                asking.ask(question(&copy.pair(next).from, (0, None), None, false))?;
                asked += 1;
            }
            asking.flush().await?;
            let mut write = copy.write(&copy.pair(entry).to, entry);
            write.lazy = Some(true);
            up.ask(Ask::Write(write))?;
            let mut counted = 0;
            let mut count = Count { meter: copy.meter, reached: 0, counted: &mut counted };
            // Its last word may go out at any time from here on.
            *sent = (first + at + 1).max(*sent);
            match pump(coming, up, &mut count).await? {
                // It was removed since the list was made.
                Some(failure) if failure.kind == Kind::NoSuchFile => copy.meter.skip(1),
                Some(failure) => return Err(named(entry, failure)),
                None => {}
            }
            up.flush_full().await?;
        }
        up.flush().await
    };
    let hearing = async {
        for (at, entry) in (first..).zip(rest) {
            match down.answer().await {
                Ok(_) => copy.meter.whole(),
                Err(failure) if failure.kind == Kind::Cancelled => {}
                Err(failure) if failure.kind == Kind::FileExists && at < before => {
                    doubtful.push(at);
                }
                Err(failure)
                    if failure.kind == Kind::FileExists
                        && Box::pin(arrived_late(copy, &copy.pair(entry))).await? => {}
                Err(failure) => return Err(named(entry, failure)),
            }
            *done += 1;
        }
        Ok(())
    };
    tokio::pin!(sending, hearing);
    tokio::select! {
        heard = &mut hearing => heard,
        sent = &mut sending => {
            sent?;
            hearing.await
        }
    }
}

fn named(entry: &Entry, failure: Failure) -> Failure {
    let name = String::from_utf8_lossy(&entry.path);
    Failure { message: format!("{name}: {}", failure.message), ..failure }
}

/// The id of a transfer: that of the same file in the same state to the same place, in whichever process.
fn part_of(copy: &Across<'_>, pair: &Pair, revision: u64) -> Nonce {
    let mut hash = Sha256::new();
    for (end, path) in [(&copy.from, &pair.from), (&copy.to, &pair.to)] {
        for part in [&end.server.pin.bundle.id.0[..], end.place.root.as_bytes(), path] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
    }
    hash.update(revision.to_be_bytes());
    let mut id = [0; 16];
    id.copy_from_slice(&hash.finalize()[..16]);
    Nonce(id)
}
