//! Threads for the streams that have something to do.
//!
//! A stream that waits is watched by one `epoll`. A thread that has answered a question stays with its
//! stream for a moment, since the next question often comes at once and then needs no second thread to be
//! woken.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::stream::{Next, Stream};

/// So many questions are worked on at once.
const THREADS: usize = 64;

/// A thread without work ends after so long.
const IDLE: Duration = Duration::from_secs(10);

/// A thread waits so long for the next question of its stream: 20 ms, in nanoseconds.
const LINGER: i64 = 20_000_000;

/// The stack of a thread.
const STACK: usize = 1 << 20;

/// The threads.
#[derive(Clone, Debug)]
pub(super) struct Threads(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    epoll: OwnedFd,
    state: Mutex<State>,
    work: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Streams that wait for a question, by number.
    waiting: HashMap<u64, Stream>,
    /// Streams that have one.
    ready: VecDeque<Stream>,
    next: u64,
    threads: usize,
    idle: usize,
}

impl Threads {
    pub(super) fn start() -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let shared = Shared { epoll, state: Mutex::default(), work: Condvar::new() };
        let threads = Self(Arc::new(shared));
        let watching = threads.clone();
        std::thread::Builder::new().name("watch".to_owned()).spawn(move || watching.watch())?;
        Ok(threads)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes on a new stream.
    pub(super) fn add(&self, mut stream: Stream) -> io::Result<()> {
        match stream.greet() {
            Next::Waits => self.wait(stream),
            Next::Over => Ok(()),
        }
    }

    /// Watches a stream until it has a question.
    fn wait(&self, stream: Stream) -> io::Result<()> {
        let mut state = self.state();
        let number = state.next;
        state.next += 1;
        let flags = EventFlags::IN | EventFlags::ONESHOT;
        epoll::add(&self.0.epoll, stream.socket(), EventData::new_u64(number), flags)?;
        state.waiting.insert(number, stream);
        Ok(())
    }

    /// Hands streams that have a question to threads.
    fn watch(&self) {
        let mut events = Vec::with_capacity(64);
        loop {
            events.clear();
            match epoll::wait(&self.0.epoll, rustix::buffer::spare_capacity(&mut events), None) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                // Nothing can be told any more: the agent starts another worker.
                Err(_) => std::process::exit(1),
            }
            for event in events.drain(..) {
                self.ready(event.data.u64());
            }
        }
    }

    fn ready(&self, number: u64) {
        let mut state = self.state();
        let Some(stream) = state.waiting.remove(&number) else { return };
        // It may be that it was closed meanwhile.
        let _ = epoll::delete(&self.0.epoll, stream.socket());
        state.ready.push_back(stream);
        if state.idle >= state.ready.len() || state.threads >= THREADS {
            self.0.work.notify_one();
            return;
        }
        state.threads += 1;
        drop(state);
        let threads = self.clone();
        let thread = std::thread::Builder::new().name("files".to_owned()).stack_size(STACK);
        if thread.spawn(move || threads.work()).is_err() {
            let mut state = self.state();
            state.threads -= 1;
            // Without a single thread nobody would ever take it.
            if state.threads == 0 {
                state.ready.clear();
            }
        }
    }

    /// Works for one stream after the other.
    fn work(&self) {
        while let Some(mut stream) = self.take() {
            loop {
                if stream.serve() == Next::Over {
                    break;
                }
                if stream.is_asked() {
                    continue;
                }
                // Others may have waited longer.
                if self.state().ready.is_empty() && asks_again(&stream) {
                    continue;
                }
                let _ = self.wait(stream);
                break;
            }
        }
    }

    fn take(&self) -> Option<Stream> {
        let mut state = self.state();
        loop {
            if let Some(stream) = state.ready.pop_front() {
                return Some(stream);
            }
            state.idle += 1;
            let (back, waited) =
                self.0.work.wait_timeout(state, IDLE).unwrap_or_else(PoisonError::into_inner);
            state = back;
            state.idle -= 1;
            if waited.timed_out() && state.ready.is_empty() {
                state.threads -= 1;
                return None;
            }
        }
    }
}

/// Whether the next question comes at once.
fn asks_again(stream: &Stream) -> bool {
    let mut fds = [PollFd::new(stream.socket(), PollFlags::IN)];
    let time = Timespec { tv_sec: 0, tv_nsec: LINGER };
    matches!(poll(&mut fds, Some(&time)), Ok(1..))
}
