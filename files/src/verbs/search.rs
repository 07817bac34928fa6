//! `search`: finds matching lines with ripgrep's engine, where the files are.
//!
//! One thread walks, and others open and search what it finds. Only matches leave the server, in
//! the order of file names. Files that could not be read are named.

mod lines;
mod turns;

use std::cell::Cell;
use std::fs::File;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::streams::files::{Done, Match, Search, ToBridge, What};
use grep_regex::{RegexMatcher, RegexMatcherBuilder};
use grep_searcher::{BinaryDetection, Searcher, SearcherBuilder};

use self::lines::{FoundLines, SearchText};
use self::turns::OutputTurns;
use super::batch::Batch;
use super::desk::{Desk, VerbError};
use super::memory::MemoryShare;
use super::tidy::{Globs, Tidy};
use super::unread::Unread;
use crate::listener::Listener;
use crate::path::Rel;
use crate::peer::Peer;
use crate::tree::{Handle, Tree, Visited, open_in};

/// The most matches in an answer, whatever is asked for.
const MATCHES: u64 = 100_000;

/// The longest pattern, in bytes.
const PATTERN: usize = 16 << 10;

/// The most memory for a compiled pattern.
const COMPILED: usize = 4 << 20;

/// The most memory for the lazy DFA that a thread builds while it searches.
const LEARNED: usize = 1 << 20;

/// The most memory for the lines that a thread has in its buffer. A file with a longer line is not
/// read.
const HEAP: usize = 4 << 20;

/// About how much is queued between threads.
const QUEUED: usize = 4 << 20;

/// The most threads for one search.
const THREADS: usize = 8;

/// The most lines of context around a match.
const CONTEXT: u32 = 50;

/// The size of a line in a message, besides its path and text.
const OVERHEAD: usize = 24;

/// Matches of a file are passed on in groups of this many bytes.
const GROUP: usize = 32 << 10;

/// How many files a thread takes at once.
const HANDFUL: usize = 64;

/// How many handfuls wait for a thread.
const WAITING: usize = 16;

/// A file to be searched, with its path relative to where the search began.
#[derive(Debug)]
struct SearchFile {
    directory: Arc<Handle>,
    name: Vec<u8>,
    at: Rel,
}

/// What is searched beneath a directory.
struct Scope<'a> {
    path: &'a Rel,
    globs: Globs,
    tidy: Option<Tidy>,
}

/// A file that has been opened to be searched.
#[derive(Clone, Copy, Debug)]
struct Candidate<'a> {
    file: &'a File,
    path: &'a Rel,
}

pub(super) fn search(
    desk: &Desk<'_>,
    search: &Search,
    peer: &mut dyn Peer,
) -> Result<Done, VerbError> {
    let tree = desk.tree;
    let path = Rel::parse(&search.path)?;
    let mut share = MemoryShare::default();
    let threads = afford(&mut share)?;
    let matcher = matcher(search)?;
    let globs = Globs::new(search.globs.as_deref().unwrap_or_default())?;
    let directory = tree.stat(&path)?.what == What::Directory;
    let asked = ActiveSearch {
        matcher,
        context: search.context.unwrap_or(0).min(CONTEXT),
        names: search.names.unwrap_or(false),
        limit: search.limit.map_or(MATCHES, |limit| u64::from(limit).min(MATCHES)),
        // A file that was named is searched to its end.
        whole: search.all.unwrap_or(false) || !directory,
        enough: AtomicBool::new(false),
        binary: AtomicU64::new(0),
        unread: Mutex::new(Unread::new(path.clone())),
        turns: OutputTurns::default(),
        listener: desk.tree.listener(),
    };
    if !directory {
        let (file, _) = tree.open(&path)?;
        let mut sent = MatchSender::new(peer, &asked);
        let mut told = Ok(());
        asked.look(
            &mut asked.searcher(),
            Candidate { file: &file, path: &path },
            &mut { u64::MAX },
            &mut |group, _| {
                if told.is_ok() {
                    told = sent.group(group);
                }
                asked.enough.fetch_or(told.is_err(), Ordering::Relaxed);
            },
        );
        told?;
        return sent.finish(1);
    }
    let tidy = (!search.all.unwrap_or(false)).then(|| Tidy::new(tree, &path)).transpose()?;
    beneath(tree, Scope { path: &path, globs, tidy }, &asked, threads, peer)
}

/// Takes memory for a search. Returns the number of threads: fewer if memory is short.
fn afford(share: &mut MemoryShare) -> Result<usize, Failure> {
    let many = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    let mut threads = many.clamp(2, THREADS);
    loop {
        // Each thread has a DFA in both directions.
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
            format!("the pattern has more than {PATTERN} bytes"),
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
                .with_hint("it is a regular expression as in ripgrep; `fixed` takes it literally")
        })
}

/// Searches all files beneath a directory.
fn beneath(
    tree: &Tree,
    scope: Scope<'_>,
    asked: &ActiveSearch<'_>,
    threads: usize,
    peer: &mut dyn Peer,
) -> Result<Done, VerbError> {
    let path = scope.path;
    let (jobs, queue) = sync_channel::<(u64, Vec<SearchFile>)>(WAITING);
    let queue = Mutex::new(queue);
    let (groups, found) = sync_channel::<Vec<Match>>(WAITING);
    std::thread::scope(|scoped| {
        for _ in 0..threads {
            let (queue, groups) = (&queue, groups.clone());
            scoped.spawn(move || asked.work(path, queue, &groups));
        }
        drop(groups);
        let walker = scoped.spawn(move || walk(tree, scope, asked, &jobs));
        let mut sent = MatchSender::new(peer, asked);
        let mut told = Ok(());
        for group in found {
            told = told.and_then(|()| sent.group(group));
            asked.enough.fetch_or(told.is_err(), Ordering::Relaxed);
        }
        told?;
        let files = walker.join().map_err(|_| Failure::new(Kind::Internal, "the walk died"))?;
        sent.finish(files?)
    })
}

/// Finds the files, in the order of their names. Returns how many there are.
fn walk(
    tree: &Tree,
    scope: Scope<'_>,
    asked: &ActiveSearch<'_>,
    jobs: &SyncSender<(u64, Vec<SearchFile>)>,
) -> Result<u64, Failure> {
    let Scope { path, globs, mut tidy } = scope;
    let mut files = 0;
    let enough = || Failure::new(Kind::Cancelled, "enough");
    let (mut number, mut handful) = (0, Vec::with_capacity(HANDFUL));
    let mut visit = |visited: &Visited<'_>| {
        if asked.is_over() {
            return Err(enough());
        }
        if let Some(tidy) = &mut tidy
            && tidy.leaves_out(visited)?
        {
            return Ok(false);
        }
        let name = &visited.listed.name;
        match asked.unread().found_or_unread(visited.at, visited.what()) {
            Some(What::Directory) => Ok(!globs.refuse(visited.at)),
            Some(What::File) if globs.take(visited.at, false) => {
                files += 1;
                let directory = visited.listing.handle();
                handful.push(SearchFile { directory, name: name.clone(), at: visited.at.clone() });
                if handful.len() >= HANDFUL {
                    let full = (number, std::mem::take(&mut handful));
                    number += 1;
                    jobs.send(full).map_err(|_| enough())?;
                }
                Ok(false)
            }
            _ => Ok(false),
        }
    };
    let walked = tree.walk_in_order(path, &mut visit, &mut |at| asked.unread().add(at));
    // This fails if enough has been found.
    let _ = jobs.send((number, handful));
    match walked {
        Err(failure) if failure.kind != Kind::Cancelled => Err(failure),
        _ => Ok(files),
    }
}

/// A search in progress: what is looked for, and what has been found.
struct ActiveSearch<'a> {
    matcher: RegexMatcher,
    context: u32,
    names: bool,
    limit: u64,
    /// Whether files are searched beyond a NUL.
    whole: bool,
    enough: AtomicBool,
    binary: AtomicU64,
    unread: Mutex<Unread>,
    turns: OutputTurns,
    listener: &'a Listener,
}

impl ActiveSearch<'_> {
    fn is_enough(&self) -> bool {
        self.enough.load(Ordering::Relaxed)
    }

    /// Whether the search has ended.
    fn is_over(&self) -> bool {
        if self.listener.check_after_name().is_err() {
            self.enough.store(true, Ordering::Relaxed);
        }
        self.is_enough()
    }

    fn unread(&self) -> MutexGuard<'_, Unread> {
        self.unread.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn searcher(&self) -> Searcher {
        let context = usize::try_from(self.context).unwrap_or(0);
        // Unless all is searched, `SearchText` ends at a NUL, and the engine never sees one.
        let binary = if self.whole { BinaryDetection::convert(0) } else { BinaryDetection::none() };
        SearcherBuilder::new()
            .binary_detection(binary)
            .line_number(true)
            .before_context(context)
            .after_context(context)
            .heap_limit(Some(HEAP))
            .build()
    }

    /// Searches one file after the other.
    fn work(
        &self,
        below: &Rel,
        queue: &Mutex<Receiver<(u64, Vec<SearchFile>)>>,
        groups: &SyncSender<Vec<Match>>,
    ) {
        let mut searcher = self.searcher();
        loop {
            let handful = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok((number, handful)) = handful else { return };
            // One match too many tells that there are more.
            let mut left = self.limit.saturating_add(1);
            let (mut lines, mut bytes) = (Vec::new(), 0);
            for SearchFile { directory, name, at } in handful {
                // Once enough has been found, the queue is only drained.
                if self.is_over() || left == 0 {
                    break;
                }
                let Ok(file) = open_in(&directory, &name) else {
                    self.unread().add(&at);
                    continue;
                };
                let path = below.join(at.as_bytes());
                self.look(
                    &mut searcher,
                    Candidate { file: &file, path: &path },
                    &mut left,
                    &mut |more, size| {
                        lines.extend(more);
                        bytes += size;
                        if bytes >= GROUP {
                            self.turns.send_part(number, std::mem::take(&mut lines), groups);
                            bytes = 0;
                        }
                    },
                );
            }
            self.turns.finish(number, lines, bytes, groups);
        }
    }

    /// Searches one file.
    fn look(
        &self,
        searcher: &mut Searcher,
        candidate: Candidate<'_>,
        left: &mut u64,
        told: &mut dyn FnMut(Vec<Match>, usize),
    ) {
        let Candidate { file, path } = candidate;
        let nul = Cell::new(None);
        let (asked, nul) = (self, &nul);
        let (lines, bytes, any) = (Vec::new(), 0, false);
        let mut lines = FoundLines { asked, path, nul, left, lines, bytes, any, told };
        let text = SearchText::new(self.listener.reader(file), nul, self.whole);
        let searched = searcher.search_reader(&self.matcher, text, &mut lines);
        if nul.get().is_some() {
            self.binary.fetch_add(1, Ordering::Relaxed);
            let said = lines.lines.last().is_some_and(|line| line.binary.is_some());
            if lines.any && !said && !self.names {
                lines.binary(false);
            }
        }
        lines.flush();
        if searched.is_err() {
            let mut unread = self.unread();
            let below = unread.below().clone();
            let at = path.beneath(&below).and_then(|at| Rel::parse(at).ok());
            unread.add(&at.unwrap_or_default());
        }
    }
}

/// Matches being sent.
struct MatchSender<'a> {
    asked: &'a ActiveSearch<'a>,
    peer: &'a mut dyn Peer,
    batch: Batch<Match>,
    found: u64,
    more: bool,
}

impl<'a> MatchSender<'a> {
    fn new(peer: &'a mut dyn Peer, asked: &'a ActiveSearch<'a>) -> Self {
        Self { asked, peer, batch: Batch::new(), found: 0, more: false }
    }

    fn group(&mut self, lines: Vec<Match>) -> Result<(), VerbError> {
        lines.into_iter().try_for_each(|line| self.push(line))
    }

    fn push(&mut self, line: Match) -> Result<(), VerbError> {
        if line.beside != Some(true) {
            self.more |= self.found == self.asked.limit;
            self.found += u64::from(!self.more);
        }
        if self.more {
            self.asked.enough.store(true, Ordering::Relaxed);
            return Ok(());
        }
        let bytes = line.path.len() + line.text.len() + OVERHEAD;
        if let Some(full) = self.batch.push(line, bytes) {
            self.peer.say(&ToBridge::Matches(full))?;
        }
        Ok(())
    }

    fn finish(self, files: u64) -> Result<Done, VerbError> {
        let asked = self.asked;
        // A search that was given up must not look complete.
        asked.listener.check_after(0)?;
        if let Some(rest) = self.batch.rest() {
            self.peer.say(&ToBridge::Matches(rest))?;
        }
        let binary = asked.binary.load(Ordering::Relaxed);
        let mut done = Done {
            count: Some(self.found),
            more: Some(self.more),
            files: Some(files),
            binary: (binary > 0).then_some(binary),
            ..Done::default()
        };
        let unread = std::mem::replace(&mut *asked.unread(), Unread::new(Rel::ROOT));
        done.skipped = Some(unread.count()).filter(|unread| *unread > 0);
        unread.report(&mut done);
        Ok(done)
    }
}
