//! Threads for the streams that have something to do.
//!
//! One `epoll` watches all idle streams. After an answer a thread stays with its stream for a
//! moment, since the next question often follows at once, and then no second thread has to be
//! woken. A device gets only a part of the threads: one that sends slowly, or asks for much, keeps
//! no other waiting.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::id::Id;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::packet::PACKET;
use super::stream::{Next, Stream};

/// The most questions in progress.
const THREADS: usize = 64;

/// The most of them from one device.
const OF_ONE: usize = 16;

/// The most open streams of one device. Each costs two descriptors.
const STREAMS: usize = 2_048;

/// How long an idle thread lives.
const IDLE: Duration = Duration::from_secs(10);

/// How long a thread waits for the next question of its stream: 20 ms, in nanoseconds.
const LINGER: i64 = 20_000_000;

/// The stack size of a thread.
const STACK: usize = 1 << 20;

/// The pool of threads.
#[derive(Clone, Debug)]
pub(super) struct Threads(Arc<PoolShared>);

#[derive(Debug)]
struct PoolShared {
    epoll: OwnedFd,
    state: Mutex<PoolState>,
    work: Condvar,
}

#[derive(Debug, Default)]
struct PoolState {
    /// Streams that wait for a question, by number.
    waiting: HashMap<u64, Stream>,
    /// Streams that have a question.
    ready: VecDeque<ReadyStream>,
    /// The load of each device.
    devices: HashMap<Id, DeviceLoad>,
    next: u64,
    threads: usize,
    idle: usize,
}

/// A stream that has a question.
#[derive(Debug)]
struct ReadyStream {
    stream: Stream,
    /// Its number, if it is still watched: its device has all the threads that it may have.
    watched: Option<u64>,
    /// The other end has gone. The question is not begun, which takes a thread no time.
    left: bool,
}

/// The load of a device.
#[derive(Clone, Copy, Debug, Default)]
struct DeviceLoad {
    streams: usize,
    /// How many of them a thread is working for.
    busy: usize,
}

impl PoolState {
    fn device(&mut self, id: Id) -> &mut DeviceLoad {
        self.devices.entry(id).or_default()
    }

    /// Takes the stream that has waited longest, among those whose device may have another thread.
    fn take(&mut self) -> Option<ReadyStream> {
        let may = |ready: &ReadyStream| ready.left || !self.is_busy(ready.stream.device());
        let ready = self.ready.iter().position(may).and_then(|at| self.ready.remove(at))?;
        self.device(ready.stream.device()).busy += 1;
        Some(ready)
    }

    /// Whether a device has all the threads that it may have.
    fn is_busy(&self, id: Id) -> bool {
        self.devices.get(&id).is_some_and(|device| device.busy >= OF_ONE)
    }

    /// Counts a stream of this device out.
    fn leave(&mut self, id: Id) {
        let device = self.device(id);
        device.streams = device.streams.saturating_sub(1);
        if device.streams == 0 {
            self.devices.remove(&id);
        }
    }
}

impl Threads {
    pub(super) fn start() -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let shared = PoolShared { epoll, state: Mutex::default(), work: Condvar::new() };
        let threads = Self(Arc::new(shared));
        let watching = threads.clone();
        std::thread::Builder::new().name("watch".to_owned()).spawn(move || watching.watch())?;
        Ok(threads)
    }

    fn state(&self) -> MutexGuard<'_, PoolState> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a new stream.
    pub(super) fn add(&self, mut stream: Stream) -> io::Result<()> {
        let open = self.state().device(stream.device()).streams;
        if open >= STREAMS {
            let text = format!("this device already has {STREAMS} open file streams, the maximum");
            Stream::refuse(stream.socket(), Failure::new(Kind::Overloaded, text));
            return Ok(());
        }
        self.state().device(stream.device()).streams += 1;
        match stream.greet() {
            Next::Waits => self.wait(stream),
            Next::Over => {
                self.state().leave(stream.device());
                Ok(())
            }
        }
    }

    /// Watches a stream until it has a question.
    fn wait(&self, mut stream: Stream) -> io::Result<()> {
        stream.rest();
        let mut state = self.state();
        let number = state.next;
        state.next += 1;
        let flags = EventFlags::IN | EventFlags::ONESHOT;
        epoll::add(&self.0.epoll, stream.socket(), EventData::new_u64(number), flags)?;
        state.waiting.insert(number, stream);
        Ok(())
    }

    /// Passes streams that have a question to threads.
    fn watch(&self) {
        let mut events = Vec::with_capacity(64);
        loop {
            events.clear();
            match epoll::wait(&self.0.epoll, rustix::buffer::spare_capacity(&mut events), None) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                // Without `epoll` no question can be noticed. The agent starts another worker.
                Err(_) => std::process::exit(1),
            }
            for event in events.drain(..) {
                self.ready(event.data.u64());
            }
        }
    }

    fn ready(&self, number: u64) {
        let mut state = self.state();
        if let Some(stream) = state.waiting.remove(&number) {
            // A stream that cannot have a thread soon is watched on: whoever leaves meanwhile must
            // not keep it open.
            let (data, flags) = (EventData::new_u64(number), EventFlags::RDHUP);
            let busy = state.is_busy(stream.device());
            let watched = busy
                && epoll::modify(&self.0.epoll, stream.socket(), data, flags | EventFlags::ONESHOT)
                    .is_ok();
            let ready = ReadyStream { stream, watched: watched.then_some(number), left: false };
            if !watched {
                self.unwatch(&ready.stream);
            }
            state.ready.push_back(ready);
        } else {
            let left = state.ready.iter_mut().find(|ready| ready.watched == Some(number));
            let Some(ready) = left else { return };
            ready.left = true;
        }
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
            // Without any thread nobody would ever take the stream.
            if state.threads == 0 {
                state.ready.clear();
            }
        }
    }

    fn unwatch(&self, stream: &Stream) {
        // It may have been closed meanwhile.
        let _ = epoll::delete(&self.0.epoll, stream.socket());
    }

    /// Works for one stream after the other.
    fn work(&self) {
        let mut buffer = vec![0; PACKET];
        while let Some(ReadyStream { mut stream, watched, .. }) = self.take() {
            if watched.is_some() {
                self.unwatch(&stream);
            }
            let device = stream.device();
            let next = self.work_for(&mut stream, &mut buffer);
            let mut state = self.state();
            let had = state.device(device);
            had.busy = had.busy.saturating_sub(1);
            if next == Next::Over {
                state.leave(device);
            }
            drop(state);
            // Another stream of this device may have waited for this thread.
            self.0.work.notify_one();
            if next == Next::Waits {
                let _ = self.wait(stream);
            }
        }
    }

    /// Answers the questions of a stream as long as they follow at once.
    fn work_for(&self, stream: &mut Stream, buffer: &mut Vec<u8>) -> Next {
        loop {
            if stream.serve(buffer) == Next::Over {
                return Next::Over;
            }
            if stream.is_asked() {
                continue;
            }
            // Other streams may have waited longer.
            if !self.state().ready.is_empty() || !asks_again(stream) {
                return Next::Waits;
            }
        }
    }

    fn take(&self) -> Option<ReadyStream> {
        let mut state = self.state();
        loop {
            if let Some(stream) = state.take() {
                return Some(stream);
            }
            state.idle += 1;
            let (back, waited) =
                self.0.work.wait_timeout(state, IDLE).unwrap_or_else(PoisonError::into_inner);
            state = back;
            state.idle -= 1;
            if waited.timed_out() {
                let stream = state.take();
                if stream.is_none() {
                    state.threads -= 1;
                }
                return stream;
            }
        }
    }
}

/// Whether the next question comes within a moment.
fn asks_again(stream: &Stream) -> bool {
    let mut fds = [PollFd::new(stream.socket(), PollFlags::IN)];
    let time = Timespec { tv_sec: 0, tv_nsec: LINGER };
    matches!(poll(&mut fds, Some(&time)), Ok(1..))
}

#[cfg(test)]
mod tests {
    use farwire_protocol::cbor::{self, Blob};
    use farwire_protocol::streams::files::{Ask, Enter, How, Root, ToAgent, ToBridge, Write};
    use rustix::net::sockopt::{Timeout, set_socket_timeout};
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

    use super::*;
    use crate::rules::Rules;
    use crate::tree::Tree;
    use crate::worker::RootState as Common;
    use crate::worker::message::Serve;
    use crate::worker::packet::{self, MESSAGE};

    struct Crowd {
        _place: tempfile::TempDir,
        common: Common,
        threads: Threads,
    }

    impl Crowd {
        fn new() -> Self {
            let place = tempfile::tempdir().unwrap();
            let root = std::fs::File::open(place.path()).unwrap().into();
            let rules = Rules { writable: true, ..Rules::default() };
            let tree = Tree::enter(root, rules).unwrap();
            let (locks, transfers) = Default::default();
            let common = Common { tree, locks, undo: None, transfers, audit: None };
            Self { _place: place, common, threads: Threads::start().unwrap() }
        }

        /// A stream of a device, with the first message: a greeting or a refusal.
        fn stream(&self, device: Id) -> (OwnedFd, ToBridge) {
            let flags = SocketFlags::CLOEXEC;
            let (near, far) =
                socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
            // Shorter than a worker waits for content: a stream that has to wait gets no answer.
            let patience = Some(Duration::from_secs(30));
            set_socket_timeout(&near, Timeout::Recv, patience).unwrap();
            let root = Root {
                name: "work".to_owned(),
                path: Blob(b"/work".to_vec()),
                writable: true,
                excludes: None,
                confined: None,
                asks: None,
                beats: None,
            };
            // Devices may have the same name.
            let who = "laptop/cli/some".to_owned();
            let serve = Serve { enter: Enter::default(), root, who, device };
            let tree = self.common.tree.share();
            self.threads.add(Stream::new(far, tree, &self.common, &serve)).unwrap();
            let said = said(&near);
            (near, said)
        }
    }

    fn said(socket: &OwnedFd) -> ToBridge {
        let packet = packet::receive(socket, &mut vec![0; PACKET]).unwrap().unwrap();
        let (kind, part) = packet::pop(&mut packet.bytes.into()).unwrap();
        assert_eq!(kind, MESSAGE);
        cbor::decode(&part, PACKET).unwrap()
    }

    fn ask(socket: &OwnedFd, ask: Ask) {
        let mut packet = Vec::new();
        packet::push(&mut packet, MESSAGE, &cbor::encode(&ToAgent::Ask(Box::new(ask))));
        packet::send(socket, &packet, &[]).unwrap();
    }

    #[test]
    fn a_device_that_sends_nothing_keeps_no_other_waiting() {
        let crowd = Crowd::new();
        let slow: Vec<_> = (0..THREADS + 8).map(|_| crowd.stream(Id([1; 32])).0).collect();
        for (number, stream) in slow.iter().enumerate() {
            // Its content never comes.
            ask(
                stream,
                Ask::Write(Write::new(Blob(format!("file-{number}").into_bytes()), How::Create)),
            );
        }
        let (other, _) = crowd.stream(Id([2; 32]));
        ask(&other, Ask::Stat(Blob::default()));
        assert!(matches!(said(&other), ToBridge::Done(done) if done.failure.is_none()));
        // Waiting streams get their turn when others give up.
        drop(slow);
        let (again, _) = crowd.stream(Id([1; 32]));
        ask(&again, Ask::Stat(Blob::default()));
        assert!(matches!(said(&again), ToBridge::Done(done) if done.failure.is_none()));
    }

    #[test]
    fn a_stream_whose_end_has_gone_does_not_wait_for_a_thread() {
        let crowd = Crowd::new();
        let device = Id([1; 32]);
        let slow: Vec<_> = (0..OF_ONE).map(|_| crowd.stream(device).0).collect();
        for (number, stream) in slow.iter().enumerate() {
            // Its content never comes.
            let path = Blob(format!("file-{number}").into_bytes());
            ask(stream, Ask::Write(Write::new(path, How::Create)));
        }
        while crowd.threads.state().device(device).busy < OF_ONE {
            std::thread::yield_now();
        }
        let (gone, _) = crowd.stream(device);
        ask(&gone, Ask::Stat(Blob::default()));
        while crowd.threads.state().ready.is_empty() {
            std::thread::yield_now();
        }
        rustix::net::shutdown(&gone, rustix::net::Shutdown::Write).unwrap();
        assert!(packet::receive(&gone, &mut vec![0; PACKET]).unwrap().is_none(), "it is closed");
        let state = crowd.threads.state();
        assert_eq!(state.devices[&device].streams, OF_ONE);
        drop((state, slow));
    }

    #[test]
    fn a_device_has_so_many_streams_and_no_more() {
        let crowd = Crowd::new();
        // Pretends that they exist: not every system has so many descriptors.
        crowd.threads.state().device(Id([1; 32])).streams = STREAMS;
        let (_, refused) = crowd.stream(Id([1; 32]));
        let ToBridge::Done(done) = refused else { panic!("{refused:?}") };
        assert_eq!(done.failure.unwrap().kind, Kind::Overloaded);
        assert!(matches!(crowd.stream(Id([2; 32])).1, ToBridge::Entered(_)));
    }
}
