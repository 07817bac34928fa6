//! `search`: the lines that match, with ripgrep's own engine, where the files are.
//!
//! One thread walks, others open and search what it finds; only matches leave the server.

use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use farwire_protocol::cbor::Blob;
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::streams::files::{DEPTH_LIMIT, Done, Match, Search, ToBridge, What};
use grep_matcher::Matcher as _;
use grep_regex::{RegexMatcher, RegexMatcherBuilder};
use grep_searcher::{BinaryDetection, Searcher, SearcherBuilder, Sink, SinkContext, SinkMatch};

use super::gathered::Share;
use super::tidy::{Globs, Tidy};
use super::{Batch, Desk, Listens, Stop};
use crate::path::Rel;
use crate::peer::Peer;
use crate::tree::{Handle, Tree, open_in};

/// No more matches than this are told, whatever is asked for.
const MATCHES: u64 = 100_000;

/// A pattern has at most so many bytes.
const PATTERN: usize = 16 << 10;

/// A compiled pattern takes at most so much memory.
const COMPILED: usize = 4 << 20;

/// What a thread learns of the pattern while it searches takes at most so much.
const LEARNED: usize = 1 << 20;

/// The lines that a thread has before it at once take at most so much. A file with a longer line is not read.
const HEAP: usize = 4 << 20;

/// What is on its way between threads takes about so much.
const QUEUED: usize = 2 << 20;

/// No more threads work on one search.
const THREADS: usize = 8;

/// So much of a long line is told.
const LINE: usize = 1_000;

/// So many lines around a match at most.
const CONTEXT: u32 = 50;

/// What a line takes in a message besides its path and its text.
const OVERHEAD: usize = 24;

/// Lines of a file are handed on when they have so many bytes.
const GROUP: usize = 32 << 10;

/// So many files are handed to a thread at once.
const HANDFUL: usize = 64;

/// So many handfuls wait for a thread.
const WAITING: usize = 16;

/// A file to be searched: its name in a directory, and its path.
#[derive(Debug)]
struct Job {
    directory: Arc<Handle>,
    name: Vec<u8>,
    path: Rel,
}

pub(super) fn search(desk: &Desk<'_>, search: &Search, peer: &mut dyn Peer) -> Result<Done, Stop> {
    let tree = desk.tree;
    let path = Rel::parse(&search.path)?;
    let mut share = Share::default();
    let threads = afford(&mut share)?;
    let matcher = matcher(search)?;
    let globs = Globs::new(search.globs.as_deref().unwrap_or_default())?;
    let asked = Asked {
        matcher,
        context: search.context.unwrap_or(0).min(CONTEXT),
        names: search.names.unwrap_or(false),
        limit: search.limit.map_or(MATCHES, |limit| u64::from(limit).min(MATCHES)),
        found: AtomicU64::new(0),
        enough: AtomicBool::new(false),
        unread: AtomicU64::new(0),
        listens: desk.listens,
    };
    if tree.stat(&path)?.what != What::Directory {
        let (file, _) = tree.open(&path)?;
        let mut sent = Sent { peer, batch: Batch::new() };
        let mut told = Ok(());
        asked.look(&mut asked.searcher(), &file, &path, &mut |group| {
            if told.is_ok() {
                told = sent.group(group);
            }
            asked.enough.fetch_or(told.is_err(), Ordering::Relaxed);
        });
        told?;
        return sent.finish(&asked, 1);
    }
    let tidy = (!search.all.unwrap_or(false)).then(|| Tidy::new(tree, &path)).transpose()?;
    beneath(tree, (&path, globs, tidy), (&asked, threads), peer)
}

/// Takes the memory of a search. Gives with how many threads: with less memory there are fewer.
fn afford(share: &mut Share) -> Result<usize, Failure> {
    let many = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    let mut threads = many.clamp(2, THREADS);
    loop {
        // Forwards and backwards are learned apart.
        match share.take(COMPILED + QUEUED + threads * (HEAP + 2 * LEARNED)) {
            Ok(()) => return Ok(threads),
            Err(failure) if threads == 1 => return Err(failure),
            Err(_) => threads /= 2,
        }
    }
}

fn matcher(search: &Search) -> Result<RegexMatcher, Failure> {
    if search.pattern.len() > PATTERN {
        return Err(Failure::new(
            Kind::TooLarge,
            format!("a pattern of more than {PATTERN} bytes"),
        ));
    }
    RegexMatcherBuilder::new()
        .line_terminator(Some(b'\n'))
        .case_insensitive(search.ignore_case.unwrap_or(false))
        .fixed_strings(search.fixed.unwrap_or(false))
        .size_limit(COMPILED)
        .dfa_size_limit(LEARNED)
        .build(&search.pattern)
        .map_err(|error| {
            Failure::new(Kind::InvalidArgument, format!("the pattern cannot be used: {error}"))
                .with_hint("it is a regular expression as in ripgrep; say fixed for a plain text")
        })
}

/// Searches all files beneath a directory.
fn beneath(
    tree: &Tree,
    (path, globs, tidy): (&Rel, Globs, Option<Tidy>),
    (asked, threads): (&Asked<'_>, usize),
    peer: &mut dyn Peer,
) -> Result<Done, Stop> {
    let (jobs, queue) = sync_channel::<Vec<Job>>(WAITING);
    let queue = Mutex::new(queue);
    let (groups, found) = sync_channel::<Vec<Match>>(WAITING);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            let (queue, groups) = (&queue, groups.clone());
            scope.spawn(move || asked.work(queue, &groups));
        }
        drop(groups);
        let walker = scope.spawn(move || walk(tree, (path, &globs, tidy), asked, &jobs));
        let mut sent = Sent { peer, batch: Batch::new() };
        let mut told = Ok(());
        for group in found {
            told = told.and_then(|()| sent.group(group));
            asked.enough.fetch_or(told.is_err(), Ordering::Relaxed);
        }
        told?;
        let skipped = walker.join().map_err(|_| Failure::new(Kind::Internal, "the walk died"))?;
        let (files, skipped) = skipped?;
        asked.unread.fetch_add(skipped, Ordering::Relaxed);
        sent.finish(asked, files)
    })
}

/// Finds the files. Gives how many, and how much could not be read.
fn walk(
    tree: &Tree,
    (path, globs, mut tidy): (&Rel, &Globs, Option<Tidy>),
    asked: &Asked<'_>,
    jobs: &SyncSender<Vec<Job>>,
) -> Result<(u64, u64), Failure> {
    let mut files = 0;
    let enough = || Failure::new(Kind::Cancelled, "enough");
    let mut handful = Vec::with_capacity(HANDFUL);
    let walked = tree.walk(path, DEPTH_LIMIT, &mut |visited| {
        if asked.is_over() {
            return Err(enough());
        }
        if let Some(tidy) = &mut tidy
            && tidy.leaves_out(visited)?
        {
            return Ok(false);
        }
        let name = &visited.listed.name;
        let what = visited.listed.what.or_else(|| visited.listing.stat(name).map(|stat| stat.what));
        match what {
            Some(What::Directory) => Ok(!globs.refuse(visited.at)),
            Some(What::File) if globs.take(visited.at, false) => {
                files += 1;
                let directory = visited.listing.handle();
                let job =
                    Job { directory, name: name.clone(), path: path.join(visited.at.as_bytes()) };
                handful.push(job);
                if handful.len() >= HANDFUL {
                    jobs.send(std::mem::take(&mut handful)).map_err(|_| enough())?;
                }
                Ok(false)
            }
            _ => Ok(false),
        }
    });
    // Who has enough does not take it.
    let _ = jobs.send(handful);
    match walked {
        Ok(skipped) => Ok((files, skipped)),
        Err(failure) if failure.kind == Kind::Cancelled => Ok((files, 0)),
        Err(failure) => Err(failure),
    }
}

/// What is asked of each file, and what came of it so far.
struct Asked<'a> {
    matcher: RegexMatcher,
    context: u32,
    names: bool,
    limit: u64,
    found: AtomicU64,
    enough: AtomicBool,
    unread: AtomicU64,
    listens: &'a Listens,
}

impl Asked<'_> {
    /// Whether nothing more is looked for.
    fn is_over(&self) -> bool {
        if self.listens.visited().is_err() {
            self.enough.store(true, Ordering::Relaxed);
        }
        self.enough.load(Ordering::Relaxed)
    }

    fn searcher(&self) -> Searcher {
        let context = usize::try_from(self.context).unwrap_or(0);
        SearcherBuilder::new()
            .binary_detection(BinaryDetection::quit(0))
            .line_number(true)
            .before_context(context)
            .after_context(context)
            .heap_limit(Some(HEAP))
            .build()
    }

    /// Searches one file after the other.
    fn work(&self, queue: &Mutex<Receiver<Vec<Job>>>, groups: &SyncSender<Vec<Match>>) {
        let mut searcher = self.searcher();
        loop {
            let handful = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok(handful) = handful else { return };
            for Job { directory, name, path } in handful {
                // When there is enough, the rest is only taken from the queue.
                if self.is_over() {
                    break;
                }
                match open_in(&directory, &name) {
                    Ok(file) => self.look(&mut searcher, &file, &path, &mut |group| {
                        // Who listens takes all that comes.
                        let _ = groups.send(group);
                    }),
                    Err(_) => _ = self.unread.fetch_add(1, Ordering::Relaxed),
                }
            }
        }
    }

    /// Searches one file.
    fn look(
        &self,
        searcher: &mut Searcher,
        file: &File,
        path: &Rel,
        told: &mut dyn FnMut(Vec<Match>),
    ) {
        let mut lines = Lines { asked: self, path, lines: Vec::new(), bytes: 0, told };
        if searcher.search_reader(&self.matcher, self.listens.reads(file), &mut lines).is_err() {
            self.unread.fetch_add(1, Ordering::Relaxed);
        }
        lines.flush();
    }
}

/// The lines of one file that are told.
struct Lines<'a> {
    asked: &'a Asked<'a>,
    path: &'a Rel,
    lines: Vec<Match>,
    bytes: usize,
    told: &'a mut dyn FnMut(Vec<Match>),
}

impl Lines<'_> {
    fn add(&mut self, line: u64, bytes: &[u8], beside: bool) {
        let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
        let text = if bytes.len() <= LINE { bytes } else { self.window(bytes) };
        self.lines.push(Match {
            path: Blob(self.path.as_bytes().to_vec()),
            line,
            text: Blob(text.to_vec()),
            beside: beside.then_some(true),
        });
        self.bytes += text.len() + self.path.as_bytes().len() + OVERHEAD;
        if self.bytes >= GROUP {
            self.flush();
        }
    }

    fn flush(&mut self) {
        self.bytes = 0;
        if !self.lines.is_empty() {
            (self.told)(std::mem::take(&mut self.lines));
        }
    }

    /// The part of a long line that has the match in it.
    fn window<'b>(&self, bytes: &'b [u8]) -> &'b [u8] {
        let found = self.asked.matcher.find(bytes).ok().flatten();
        let start = found.map_or(0, |found| found.start()).saturating_sub(LINE / 4);
        let start = start.min(bytes.len().saturating_sub(LINE));
        bytes.get(start..start + LINE).unwrap_or(bytes)
    }
}

impl Sink for Lines<'_> {
    type Error = io::Error;

    fn matched(&mut self, _: &Searcher, found: &SinkMatch<'_>) -> Result<bool, io::Error> {
        if self.asked.enough.load(Ordering::Relaxed) {
            return Ok(false);
        }
        if self.asked.found.fetch_add(1, Ordering::Relaxed) >= self.asked.limit {
            self.asked.enough.store(true, Ordering::Relaxed);
            return Ok(false);
        }
        if self.asked.names {
            self.add(0, b"", false);
            return Ok(false);
        }
        self.add(found.line_number().unwrap_or(0), found.bytes(), false);
        Ok(true)
    }

    fn context(&mut self, _: &Searcher, context: &SinkContext<'_>) -> Result<bool, io::Error> {
        if !self.asked.names {
            self.add(context.line_number().unwrap_or(0), context.bytes(), true);
        }
        Ok(true)
    }

    fn binary_data(&mut self, _: &Searcher, _: u64) -> Result<bool, io::Error> {
        Ok(false)
    }
}

/// Lines on their way.
struct Sent<'a> {
    peer: &'a mut dyn Peer,
    batch: Batch<Match>,
}

impl Sent<'_> {
    fn group(&mut self, lines: Vec<Match>) -> Result<(), Stop> {
        lines.into_iter().try_for_each(|line| self.push(line))
    }

    fn push(&mut self, line: Match) -> Result<(), Stop> {
        let bytes = line.path.len() + line.text.len() + OVERHEAD;
        if let Some(full) = self.batch.push(line, bytes) {
            self.peer.say(&ToBridge::Matches(full))?;
        }
        Ok(())
    }

    fn finish(self, asked: &Asked<'_>, files: u64) -> Result<Done, Stop> {
        // What was not looked at because nobody listens is not told as if it were all.
        asked.listens.worked(0)?;
        if let Some(rest) = self.batch.rest() {
            self.peer.say(&ToBridge::Matches(rest))?;
        }
        let found = asked.found.load(Ordering::Relaxed);
        let unread = asked.unread.load(Ordering::Relaxed);
        Ok(Done {
            count: Some(found.min(asked.limit)),
            more: Some(found > asked.limit),
            files: Some(files),
            skipped: (unread > 0).then_some(unread),
            ..Done::default()
        })
    }
}
