//! Programs whose standard output and standard error are read separately: runs without a terminal,
//! whose input stays open.
//!
//! This process streams every byte of both into memory, up to the requested amount; older bytes are
//! dropped and counted. The program outlives this process, and its output is then read by its id.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use farwire_keystore::ShortId;
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::id::Nonce;
use farwire_protocol::streams::run::{Ended, Request, STDERR, STDOUT, Start, State};
use farwire_protocol::streams::session::Labels;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout_at};
use tokio_util::task::AbortOnDropHandle;

use crate::client::{Client, Server};
use crate::runs::stream::{RunEvent, stream};
use crate::runs::{assign, outcome};
use crate::text::shown::Piece;

use super::window::{Span, Window};

/// A process has at most this many of them.
pub const MOST: usize = 64;

/// How many bytes of either stream are kept by default.
pub const KEPT: usize = 1 << 20;

/// How many bytes of either stream are kept at most.
pub const KEPT_AT_MOST: usize = 16 << 20;

/// How many chunks of input may wait to be written.
const INPUT: usize = 64;

/// Which of the two streams.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Side {
    /// Standard output.
    Out,
    /// Standard error.
    Err,
}

/// One program.
#[derive(Debug)]
pub struct Pipe {
    /// Its short id.
    pub id: ShortId,
    /// Its server.
    pub server: Server,
    /// Its id.
    pub job: Nonce,
    /// Its name.
    pub name: Option<String>,
    /// Its labels.
    pub labels: Labels,
    /// Its command.
    pub command: String,
    /// When it was started.
    pub since: Instant,
    rings: [Mutex<Ring>; 2],
    input: Mutex<Option<mpsc::Sender<Bytes>>>,
    news: watch::Sender<()>,
    ended: watch::Sender<Option<Result<Ended, Failure>>>,
    task: Mutex<Option<AbortOnDropHandle<()>>>,
}

/// The latest bytes of a stream.
#[derive(Debug)]
struct Ring {
    start: u64,
    bytes: VecDeque<u8>,
    limit: usize,
}

impl Ring {
    fn end(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }

    fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend(bytes);
        let over = self.bytes.len().saturating_sub(self.limit);
        self.bytes.drain(..over);
        self.start += over as u64;
    }

    /// This many bytes were lost before they arrived.
    fn skip(&mut self, bytes: u64) {
        if bytes == 0 {
            return;
        }
        self.start = self.end().saturating_add(bytes);
        self.bytes.clear();
    }

    /// Bytes from an offset on, or from the first that is kept.
    fn from(&self, from: u64, limit: usize) -> Piece {
        let offset = from.clamp(self.start, self.end());
        let skipped = usize::try_from(offset - self.start).unwrap_or(usize::MAX);
        let before = skipped.checked_sub(1).and_then(|at| self.bytes.get(at));
        let bytes = self.bytes.iter().skip(skipped).take(limit).copied().collect();
        let starts_within = offset > 0 && before != Some(&b'\n');
        Piece { first_line: 1, starts_within, offset, bytes, ..Piece::default() }
    }
}

/// The name, labels and limits of a program.
#[derive(Clone, Debug, Default)]
pub struct Filing {
    /// Its name; one per owner.
    pub name: Option<String>,
    /// Its owner, tag and group, and whether it takes input.
    pub labels: Labels,
    /// How many bytes of either stream are kept.
    pub kept: usize,
}

/// All programs of this process with separate streams.
#[derive(Debug, Default)]
pub struct Pipes(Mutex<HashMap<ShortId, Arc<Pipe>>>);

impl Pipes {
    /// Starts one.
    pub fn open(
        &self,
        client: &Arc<Client>,
        server: &Server,
        start: Start,
        filing: Filing,
    ) -> Result<Arc<Pipe>, Failure> {
        let Filing { name, labels, kept } = filing;
        let command = match &start.program {
            farwire_protocol::streams::run::Program::Line(line) => {
                String::from_utf8_lossy(line).into_owned()
            }
            farwire_protocol::streams::run::Program::Argv(_) => String::new(),
        };
        let mut all = self.all();
        if all.len() >= MOST {
            all.retain(|_, pipe| pipe.is_open());
        }
        if all.len() >= MOST {
            let text = format!("this process has {MOST} sessions with separate streams");
            return Err(Failure::new(Kind::SessionLimit, text));
        }
        let same = |pipe: &Arc<Pipe>| {
            pipe.is_open()
                && pipe.name.is_some()
                && pipe.name == name
                && pipe.labels.owner == labels.owner
        };
        if all.values().any(same) {
            return Err(Failure::new(
                Kind::InvalidArgument,
                "a session of this name is already running",
            )
            .with_hint("read it, or choose another name"));
        }
        let job = start.request;
        let id = assign(client, server, job)?;
        let limit = kept.clamp(1 << 10, KEPT_AT_MOST);
        let ring = || Mutex::new(Ring { start: 0, bytes: VecDeque::new(), limit });
        let (input, typed) = mpsc::channel(INPUT);
        let pipe = Arc::new(Pipe {
            id,
            server: server.clone(),
            job,
            name,
            labels,
            command,
            since: Instant::now(),
            rings: [ring(), ring()],
            input: Mutex::new(Some(input)),
            news: watch::Sender::new(()),
            ended: watch::Sender::new(None),
            task: Mutex::new(None),
        });
        let task = tokio::spawn(carry(client.clone(), pipe.clone(), start, typed));
        *locked(&pipe.task) = Some(AbortOnDropHandle::new(task));
        all.insert(id, pipe.clone());
        Ok(pipe)
    }

    /// The one with this id, for a caller that acts for `owner`.
    pub fn find(&self, id: &str, owner: Option<&str>) -> Option<Arc<Pipe>> {
        let pipe = self.all().get(&id.trim().parse().ok()?)?.clone();
        pipe.known_to(owner).then_some(pipe)
    }

    /// Those of an owner.
    pub fn of(&self, owner: Option<&str>) -> Vec<Arc<Pipe>> {
        let mut all: Vec<_> =
            self.all().values().filter(|pipe| pipe.known_to(owner)).cloned().collect();
        all.sort_by_key(|pipe| pipe.id.number);
        all
    }

    fn all(&self) -> MutexGuard<'_, HashMap<ShortId, Arc<Pipe>>> {
        locked(&self.0)
    }
}

/// Receives the output of one program until it ends.
async fn carry(client: Arc<Client>, pipe: Arc<Pipe>, start: Start, typed: mpsc::Receiver<Bytes>) {
    let (events, mut told) = mpsc::channel(16);
    let request = Request::Start(start);
    let listening = async {
        while let Some(event) = told.recv().await {
            pipe.take(&event);
        }
    };
    let running = stream(&client, &pipe.server, &request, Some(typed), events);
    let (ended, ()) = tokio::join!(running, listening);
    locked(&pipe.input).take();
    pipe.ended.send_replace(Some(ended.map_err(|no| outcome(pipe.id, no))));
    pipe.news.send_replace(());
}

impl Pipe {
    fn known_to(&self, owner: Option<&str>) -> bool {
        owner.is_none() || self.labels.owner.is_none() || self.labels.owner.as_deref() == owner
    }

    fn ring(&self, side: Side) -> MutexGuard<'_, Ring> {
        let [out, err] = &self.rings;
        locked(match side {
            Side::Out => out,
            Side::Err => err,
        })
    }

    fn take(&self, event: &RunEvent) {
        match event {
            RunEvent::Output(STDOUT, bytes) => self.ring(Side::Out).push(bytes),
            RunEvent::Output(STDERR, bytes) => self.ring(Side::Err).push(bytes),
            RunEvent::Gap(stdout, stderr) => {
                self.ring(Side::Out).skip(*stdout);
                self.ring(Side::Err).skip(*stderr);
            }
            _ => return,
        }
        self.news.send_replace(());
    }

    /// Whether it has not ended yet.
    pub fn is_open(&self) -> bool {
        self.ended.borrow().is_none()
    }

    /// Its state, or how it ended.
    pub fn state(&self) -> State {
        let end = self.ring(Side::Out).end() + self.ring(Side::Err).end();
        match &*self.ended.borrow() {
            Some(Ok(ended)) => ended.state.clone(),
            Some(Err(failure)) => {
                State { failure: Some(failure.clone()), bytes: end, ..State::default() }
            }
            None => {
                let duration_ms =
                    u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX);
                State { duration_ms, bytes: end, ..State::default() }
            }
        }
    }

    /// Waits at most this long for its end.
    pub async fn end(&self, wait: Duration) -> State {
        let mut ended = self.ended.subscribe();
        // The state shows that the time is up.
        let _ = tokio::time::timeout(wait, ended.wait_for(Option::is_some)).await;
        self.state()
    }

    /// Returns part of one of its streams, and waits for the first byte if there is none yet.
    pub async fn window(
        &self,
        side: Side,
        Span { from, limit, wait }: Span,
    ) -> Result<Window, Failure> {
        let deadline = Instant::now() + wait;
        let mut news = self.news.subscribe();
        loop {
            news.mark_unchanged();
            let (start, end) = {
                let ring = self.ring(side);
                (ring.start, ring.end())
            };
            if from > end {
                let text = format!("the output has {end} bytes so far");
                return Err(Failure::new(Kind::InvalidArgument, text)
                    .with_hint("use an offset from an earlier answer"));
            }
            let over = !self.is_open() || end > from;
            if over || timeout_at(deadline, news.changed()).await.is_err() {
                let limit = usize::try_from(limit).unwrap_or(usize::MAX);
                let piece = self.ring(side).from(from, limit);
                let state = State { bytes: end, dropped_bytes: start, ..self.state() };
                return Ok(Window { piece, state });
            }
        }
    }

    /// Where a stream ends now.
    pub fn end_of(&self, side: Side) -> u64 {
        self.ring(side).end()
    }

    /// Passes on as much input as there is room for within the time, and returns how much that was.
    pub async fn write(&self, bytes: &[u8], wait: Duration) -> Result<usize, Failure> {
        let input = locked(&self.input).clone();
        let input = input.ok_or_else(|| {
            Failure::new(Kind::AlreadyEnded, format!("{} or its input has ended", self.id))
        })?;
        let deadline = Instant::now() + wait;
        let mut written = 0;
        for part in bytes.chunks(16 << 10) {
            match timeout_at(deadline, input.send(Bytes::copy_from_slice(part))).await {
                Ok(Ok(())) => written += part.len(),
                Ok(Err(_)) | Err(_) => break,
            }
        }
        Ok(written)
    }

    /// Ends its input.
    pub fn close_input(&self) {
        locked(&self.input).take();
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("nothing panics while it is held")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ring_keeps_the_latest_and_counts_by_offset() {
        let mut ring = Ring { start: 0, bytes: VecDeque::new(), limit: 4 };
        let from = |ring: &Ring, from, limit| {
            let piece = ring.from(from, limit);
            (piece.offset, piece.bytes, piece.starts_within)
        };
        ring.push(b"a\nc");
        assert_eq!(from(&ring, 0, 1), (0, b"a".to_vec(), false));
        assert_eq!(from(&ring, 1, 9), (1, b"\nc".to_vec(), true));
        assert_eq!(from(&ring, 2, 9), (2, b"c".to_vec(), false));
        ring.push(b"defg");
        assert_eq!((ring.start, ring.end()), (3, 7));
        assert_eq!(from(&ring, 0, 2), (3, b"de".to_vec(), true), "what is gone is not made up");
        assert_eq!(from(&ring, 7, 2), (7, Vec::new(), true));
        ring.skip(5);
        ring.push(b"x");
        assert_eq!(from(&ring, 0, 9), (12, b"x".to_vec(), true));
    }
}
