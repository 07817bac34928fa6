//! The bytes of files, out of one stream and into another.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use farwire_protocol::cbor::Blob;
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::id::Nonce;
use farwire_protocol::streams::files::{Arrived, Ask, Entry, Part, Read, ToBridge, What};
use sha2::{Digest as _, Sha256};

use super::{Between, CopyEnd, Pair};
use crate::files::transfer::{LARGE, Meter, Patience, READINGS, SoFar, change_failure, is_of_one};
use crate::files::{Down, Files, Said, Up};

/// So many files are asked for before the first has come.
const AHEAD: usize = 16;

/// How far one file is.
#[derive(Debug, Default)]
struct Sent {
    /// The state that is copied: as many bytes as it has then.
    of: Option<Entry>,
    /// How often it has changed while it was read.
    readings: u32,
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
pub(super) async fn one(copy: &Between<'_>, pair: &Pair) -> Result<(), Failure> {
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
            Err(failure) if failure.kind == Kind::ChangedMeanwhile => {
                sent.readings += 1;
                if sent.readings > READINGS {
                    return Err(failure);
                }
            }
            Err(failure) => patience.wait(failure).await?,
        }
    }
    copy.meter.whole();
    Ok(())
}

async fn attempt(
    copy: &Between<'_>,
    pair: &Pair,
    sent: &mut Sent,
    patience: &mut Patience<'_>,
) -> Result<(), Failure> {
    let mut source = copy.enter(&copy.from).await?;
    let mut target = copy.enter_on(&copy.to, patience).await?;
    let answer = source.ask(Ask::Stat(Blob(pair.from.clone())), None).await?;
    let now = answer.done.entry.ok_or_else(|| incomplete("an entry"))?;
    // What became shorter is another file; what grew may still begin as it did.
    let size = now.size;
    let of = sent.of.take().filter(|of| size >= of.size).unwrap_or(now);
    let of = sent.of.insert(of).clone();
    let mut write = copy.write(&pair.to, &of);
    if of.size > LARGE || sent.readings > 0 {
        let transfer = part_of(copy, pair, of.revision);
        let arrived = Arrived { path: Blob(pair.to.clone()), transfer };
        let arrived = target.ask(Ask::Arrived(arrived), None).await?.done.bytes.unwrap_or(0);
        write.transfer = Some(transfer);
        write.offset = Some(if arrived > of.size { 0 } else { arrived });
    }
    let have = write.offset.unwrap_or(0);
    if have > 0 {
        // Two parts are only one file if the whole of it is what it should be.
        let mut read = question(&pair.from, of.size, Some(0), None, true);
        if let Ask::Read(read) = &mut read {
            read.before = Some(true);
        }
        let hash = source.ask(read, None).await?.done.hash;
        write.hash = Some(hash.ok_or_else(|| incomplete("a hash"))?);
    }
    let rest = of.size.saturating_sub(have);
    source.up.ask(question(&pair.from, have, Some(rest), None, false))?;
    source.up.flush().await?;
    let Files { up, down, .. } = &mut target;
    up.ask(Ask::Write(write))?;
    let Sent { counted, whole, .. } = sent;
    let mut count = Count { meter: copy.meter, reached: have, counted };
    count.begin(have);
    // With a hash its server finds out what was not read twice alike.
    let expected = (have == 0).then_some(of.revision);
    let sending = async {
        let pumped = pump(&mut source.down, up, expected, rest, &mut count).await?;
        *whole |= matches!(pumped, Pumped::Whole);
        up.flush().await?;
        Ok::<_, Failure>(pumped)
    };
    let answered = down.answer();
    tokio::pin!(sending, answered);
    let pumped = tokio::select! {
        // It was refused before all was there.
        answered = &mut answered => return answered.map(drop),
        sent = &mut sending => sent?,
    };
    let answer = answered.await;
    match (pumped, answer) {
        (Pumped::Failed(failure), _) => Err(failure),
        (Pumped::Changed, _) => Err(change_failure(&copy.from.place.text_of(&pair.from))),
        (Pumped::Whole, Err(failure)) if failure.kind == Kind::IntegrityFailure => {
            Err(change_failure(&copy.from.place.text_of(&pair.from)))
        }
        (Pumped::Whole, answer) => {
            answer?;
            if size > of.size {
                let text = format!("it grew; only the first {} bytes were copied", of.size);
                copy.meter.remark(copy.from.place.text_of(&pair.from).as_bytes(), &text);
            }
            Ok(())
        }
    }
}

fn incomplete(what: &str) -> Failure {
    Failure::new(Kind::ProtocolViolation, format!("an answer without {what}"))
}

/// The question for a part of a file.
fn question(
    path: &[u8],
    offset: u64,
    length: Option<u64>,
    revision: Option<u64>,
    hash: bool,
) -> Ask {
    let (path, part) = (Blob(path.to_vec()), Part::Bytes { offset, length });
    Ask::Read(Read { path, part, revision, hash: hash.then_some(true), before: None })
}

/// What came of handing a file on.
#[derive(Debug)]
enum Pumped {
    /// All of it was handed on.
    Whole,
    /// It changed while it was read: it was given up.
    Changed,
    /// Its server has failed: it was given up.
    Failed(Failure),
}

/// Hands one file on. If its server does not bring it to its end, or it changes while it is read,
/// the other one is told so. `expected` is the state that it must have, where that matters, and how
/// many bytes come.
async fn pump(
    from: &mut Down,
    to: &mut Up,
    expected: Option<u64>,
    length: u64,
    count: &mut Count<'_>,
) -> Result<Pumped, Failure> {
    let mut sent: u64 = 0;
    let (mut opened, mut changed) = (None, false);
    loop {
        match from.next().await? {
            Said::Content(bytes) => {
                to.content(&bytes);
                sent += bytes.len() as u64;
                count.reach(count.reached + bytes.len() as u64);
                to.flush_full().await?;
            }
            Said::Message(ToBridge::Entries(entries)) => {
                let state = entries.first().map(|entry| entry.revision);
                changed |= opened.is_some() || expected.is_some_and(|one| state != Some(one));
                opened = opened.or(state);
            }
            Said::Message(ToBridge::Done(done)) if done.failure.is_some() => {
                to.give_up();
                return Ok(done.failure.map_or(Pumped::Changed, Pumped::Failed));
            }
            Said::Message(ToBridge::Done(_)) => {
                if (changed && expected.is_some()) || sent != length {
                    to.give_up();
                    return Ok(Pumped::Changed);
                }
                to.whole(sent);
                return Ok(Pumped::Whole);
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
pub(super) async fn same(copy: &Between<'_>, pair: &Pair) -> Result<(), Failure> {
    let source = hash(copy, &copy.from, &pair.from).await?;
    if source == hash(copy, &copy.to, &pair.to).await? {
        return Ok(());
    }
    let text = format!("{} is there already", copy.to.place.text_of(&pair.to));
    Err(Failure::new(Kind::FileExists, text))
}

/// Whether what is there already is like what is copied: who copied it before us may have been
/// killed after its last word.
async fn arrived_late(copy: &Between<'_>, pair: &Pair) -> Result<bool, Failure> {
    // Of one file that is named, it is said that it is there.
    if !copy.recursive {
        return Ok(false);
    }
    let at = |end: &CopyEnd, path: &[u8]| {
        let mut end = end.clone();
        end.place.path = path.to_vec();
        end
    };
    let from = at(&copy.from, &pair.from).stat(copy.client).await?;
    let to = at(&copy.to, &pair.to).stat(copy.client).await?;
    let like = |entry: &Entry| (entry.what, entry.size, entry.modified);
    Ok(to.what == What::File && like(&from) == like(&to))
}

async fn hash(copy: &Between<'_>, end: &CopyEnd, path: &[u8]) -> Result<Blob, Failure> {
    let mut files = copy.enter(end).await?;
    let read = question(path, 0, Some(0), None, true);
    let answer = Box::pin(files.answer(copy.client, read, None)).await?;
    answer.done.hash.ok_or_else(|| incomplete("a hash"))
}

/// How far many files are.
#[derive(Debug, Default)]
pub(super) struct Copied {
    so_far: SoFar,
    /// Those that changed while they were read.
    again: Vec<usize>,
    /// Those that were given up, and why is known.
    given_up: BTreeSet<usize>,
}

impl Copied {
    pub(super) fn doubtful(&self) -> &[usize] {
        &self.so_far.doubtful
    }

    pub(super) fn again(&self) -> &[usize] {
        &self.again
    }
}

/// Copies many files over one stream at each end: what is sent does not wait for what is answered.
pub(super) async fn many(
    copy: &Between<'_>,
    all: &[Entry],
    Copied { so_far, again, given_up }: &mut Copied,
    patience: &mut Patience<'_>,
) -> Result<(), Failure> {
    let SoFar { done, sent, doubtful } = so_far;
    let given_up = Mutex::new(given_up);
    let known = || given_up.lock().unwrap_or_else(PoisonError::into_inner);
    let (first, before) = (*done, *sent);
    let rest = all.get(first..).unwrap_or_default();
    if rest.is_empty() {
        return Ok(());
    }
    let mut source = copy.enter(&copy.from).await?;
    let mut target = copy.enter_on(&copy.to, patience).await?;
    let Files { up: asking, down: coming, .. } = &mut source;
    let Files { up, down, .. } = &mut target;
    let sending = async {
        let mut asked = 0;
        for (at, entry) in rest.iter().enumerate() {
            while asked <= at + AHEAD
                && let Some(next) = rest.get(asked)
            {
                asking.ask(question(&copy.pair(next).from, 0, None, None, false))?;
                asked += 1;
            }
            asking.flush().await?;
            let mut write = copy.write(&copy.pair(entry).to, entry);
            write.lazy = (!copy.moved).then_some(true);
            up.ask(Ask::Write(write))?;
            let mut counted = 0;
            let mut count = Count { meter: copy.meter, reached: 0, counted: &mut counted };
            // Its last word may go out at any time from here on.
            *sent = (first + at + 1).max(*sent);
            match pump(coming, up, Some(entry.revision), entry.size, &mut count).await? {
                Pumped::Whole => {}
                Pumped::Changed => {
                    known().insert(first + at);
                    again.push(first + at);
                }
                Pumped::Failed(failure) => {
                    known().insert(first + at);
                    unread(copy, entry, failure)?;
                }
            }
            up.flush_full().await?;
        }
        up.flush().await
    };
    let hearing = async {
        for (at, entry) in (first..).zip(rest) {
            match down.answer().await {
                Ok(_) => copy.meter.whole(),
                Err(failure)
                    if (failure.kind == Kind::Cancelled || is_of_one(failure.kind))
                        && known().contains(&at) => {}
                Err(failure) if failure.kind == Kind::FileExists && at < before => {
                    doubtful.push(at);
                }
                Err(failure) => arrived_late_or_missed(copy, entry, failure).await?,
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

/// Notes a file that could not be read, or that is gone since it was listed.
fn unread(copy: &Between<'_>, entry: &Entry, failure: Failure) -> Result<(), Failure> {
    if failure.kind == Kind::NoSuchFile {
        copy.meter.remark(&entry.path, "it was removed since the list was made");
        return Ok(());
    }
    copy.meter.or_miss(&entry.path, Err(failure))
}

/// Notes a file that was refused, unless it is there already because it arrived on an earlier
/// stream.
async fn arrived_late_or_missed(
    copy: &Between<'_>,
    entry: &Entry,
    failure: Failure,
) -> Result<(), Failure> {
    let late = failure.kind == Kind::FileExists;
    if late && Box::pin(arrived_late(copy, &copy.pair(entry))).await? {
        return Ok(());
    }
    copy.meter.or_miss(&entry.path, Err(failure))
}

/// The id of a transfer: that of the same file in the same state to the same place, in whichever
/// process.
fn part_of(copy: &Between<'_>, pair: &Pair, revision: u64) -> Nonce {
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
