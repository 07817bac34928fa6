//! What is passed on to a program: the bytes of its standard input, or of its terminal.
//!
//! # Invariants
//!
//! - The holder writes standard input that came with the request, and closes it. No stream adds to
//!   it or ends it.
//! - Otherwise one stream at a time has the [`Seat`]: it alone writes, and it alone ends the input,
//!   once every byte below the end has been written. A stream that has lost the seat changes
//!   nothing.
//! - The memory of the log records that bytes are about to be written, and then how many were. If
//!   an agent dies in between, the next one knows that the count is uncertain: `input_unknown`.

use std::io::ErrorKind;
use std::sync::{Arc, LazyLock};

use farwire_protocol::failure::{Failure, Kind};
use tokio::sync::watch;

use super::{Program, lock};
use crate::holder::message::HolderOrder;
use crate::os::input::Input;

/// No input is ever passed on.
static NOTHING: LazyLock<watch::Sender<u64>> = LazyLock::new(|| watch::Sender::new(0));

/// The right of one stream to pass on standard input, until another stream takes it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Seat(u64);

/// The result of one attempt to write.
enum WriteOutcome {
    /// This many bytes were written, or dropped because nobody reads them.
    Took(usize),
    /// The pipe is full.
    Full(Arc<Input>),
    /// Another stream passes input on now.
    Displaced,
}

/// A program's standard input or its terminal, and which stream passes on what.
#[derive(Debug)]
pub(super) struct Feed {
    sink: Sink,
    /// The number of the [`Seat`] that counts.
    seat: u64,
    /// An agent died between writing and counting.
    unknown: bool,
}

/// What input is written to.
#[derive(Debug)]
enum Sink {
    /// The program has not been started.
    Waiting,
    Open(Arc<Input>),
    Closed,
}

impl Feed {
    /// A feed that `waits` for a program to be started, or that takes nothing.
    pub(super) fn new(waits: bool) -> Self {
        let sink = if waits { Sink::Waiting } else { Sink::Closed };
        Self { sink, seat: 0, unknown: false }
    }

    /// The same, where an agent may have died between writing and counting.
    pub(super) fn with_unknown(self, unknown: bool) -> Self {
        Self { unknown, ..self }
    }

    /// Gives it what to write to from now on, or nothing.
    pub(super) fn connect(&mut self, input: Option<Input>) {
        self.sink = input.map_or(Sink::Closed, |input| Sink::Open(Arc::new(input)));
    }

    /// Closes it. Returns whether it was open.
    fn close(&mut self) -> bool {
        matches!(std::mem::replace(&mut self.sink, Sink::Closed), Sink::Open(_))
    }
}

impl Program {
    /// How far standard input has been passed on, and a way to wait for more.
    pub(crate) fn watch_written(&self) -> watch::Receiver<u64> {
        self.written.as_ref().unwrap_or(&NOTHING).subscribe()
    }

    /// Gives a stream the right to pass on standard input, and returns from which offset on. The
    /// stream that had it before loses it.
    ///
    /// # Errors
    ///
    /// [`Kind::InputUnknown`] if an agent died while it wrote: the same bytes could arrive twice.
    pub(crate) fn claim_input(&self) -> Result<(Seat, u64), Failure> {
        let mut feed = lock(&self.feed);
        if feed.unknown && !matches!(feed.sink, Sink::Closed) {
            let text = "the agent ended while it passed input to the program";
            return Err(Failure::new(Kind::InputUnknown, text));
        }
        feed.seat += 1;
        Ok((Seat(feed.seat), *self.watch_written().borrow()))
    }

    /// Passes on standard input; waits for the program to start and for room in its pipe. It is no
    /// error if the program reads no more. Returns `false` if another stream has the seat.
    pub(crate) async fn write_input(&self, seat: Seat, bytes: &[u8]) -> bool {
        self.write_as(Some(seat), bytes).await
    }

    /// Answers a terminal query of a program. Needs no seat.
    pub(crate) async fn write(&self, bytes: &[u8]) {
        self.write_as(None, bytes).await;
    }

    async fn write_as(&self, seat: Option<Seat>, bytes: &[u8]) -> bool {
        if self.written.is_none() || self.wait_for_start().await.is_err() {
            return true;
        }
        let mut rest = bytes;
        while !rest.is_empty() {
            match self.try_write_input(seat, rest) {
                WriteOutcome::Took(taken) => rest = rest.get(taken..).unwrap_or_default(),
                WriteOutcome::Displaced => return false,
                WriteOutcome::Full(pipe) => {
                    if pipe.writable().await.is_err() {
                        self.close_input();
                    }
                }
            }
        }
        true
    }

    /// Writes as much as there is room for. The seat, the write and the count are under one lock,
    /// so that no byte is written for a stream after another stream has taken its seat and read the
    /// count.
    fn try_write_input(&self, seat: Option<Seat>, bytes: &[u8]) -> WriteOutcome {
        let mut feed = lock(&self.feed);
        if seat.is_some_and(|seat| seat != Seat(feed.seat)) {
            return WriteOutcome::Displaced;
        }
        let Sink::Open(pipe) = &feed.sink else {
            // Nobody reads it: it counts as passed on.
            self.count_passed(bytes.len());
            return WriteOutcome::Took(bytes.len());
        };
        let memory = self.spool.memory();
        if let Some(memory) = &memory {
            memory.begin_input(bytes.len() as u64);
        }
        let written = pipe.try_write(bytes);
        let taken = *written.as_ref().unwrap_or(&0);
        self.count_passed(taken);
        match written {
            Ok(taken) => WriteOutcome::Took(taken),
            Err(error) if error.kind() == ErrorKind::WouldBlock => WriteOutcome::Full(pipe.clone()),
            Err(_) => {
                let was_open = feed.close();
                drop(feed);
                self.report_closed(was_open);
                WriteOutcome::Took(0)
            }
        }
    }

    /// Counts bytes of input that have been passed on.
    pub(crate) fn count_passed(&self, bytes: usize) {
        if let Some(written) = &self.written {
            self.spool.add_input(bytes as u64);
            written.send_modify(|written| *written += bytes as u64);
        }
    }

    /// The master of its terminal, while it runs.
    pub(crate) fn master(&self) -> Option<Arc<Input>> {
        if !self.on_terminal {
            return None;
        }
        match &lock(&self.feed).sink {
            Sink::Open(master) => Some(master.clone()),
            Sink::Waiting | Sink::Closed => None,
        }
    }

    /// Ends standard input at `end`, the offset in the bridge's FINAL. A stream that has lost the
    /// seat ends nothing, nor does one whose bytes below `end` have not all been passed on.
    pub(crate) async fn end_input(&self, seat: Seat, end: u64) {
        if self.written.is_none() || self.wait_for_start().await.is_err() {
            return;
        }
        let mut feed = lock(&self.feed);
        let was_open =
            seat == Seat(feed.seat) && *self.watch_written().borrow() == end && feed.close();
        drop(feed);
        self.report_closed(was_open);
    }

    /// Closes the input: nothing more can be passed on.
    pub(crate) fn close_input(&self) {
        let was_open = lock(&self.feed).close();
        self.report_closed(was_open);
    }

    /// Has the holder close the input, too, if it `was_open`. Call it without the lock on the
    /// input, which comes after the lock on the holder.
    fn report_closed(&self, was_open: bool) {
        if was_open {
            // There is always room for one such order of each job.
            let _ = self.order(&HolderOrder::CloseInput(self.job));
        }
    }
}
