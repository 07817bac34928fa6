//! What is passed on to a program: the bytes of its standard input, or of its terminal.
//!
//! # Invariants
//!
//! - Standard input that came within the request is with the holder, which writes and closes it. No
//!   stream adds to it or ends it.
//! - Otherwise one stream at a time has the [`Seat`]: it alone writes, and it alone ends the input, once
//!   every byte below the end has been written. A stream that has lost the seat changes nothing.
//! - The memory of the log says that bytes are about to be written, and then how many were. If an agent
//!   dies in between, the next one knows that it does not know: `input_unknown`.

use std::io::ErrorKind;
use std::sync::{Arc, LazyLock};

use farwire_protocol::failure::{Failure, Kind};
use tokio::sync::watch;

use super::{Feed, Job, Place, Stdin, lock};
use crate::holder::message::Order;
use crate::os::input::Input;

/// No input is ever passed on.
static NOTHING: LazyLock<watch::Sender<u64>> = LazyLock::new(|| watch::Sender::new(0));

/// The right of one stream to pass on standard input, until another stream takes it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Seat(u64);

/// What one attempt to write came to.
enum Step {
    /// So many bytes were written, or are not wanted any more.
    Took(usize),
    /// The pipe is full.
    Full(Arc<Input>),
    /// Another stream passes input on now.
    Displaced,
}

impl Job {
    /// How far standard input has been passed on, and a way to wait for more.
    pub(crate) fn written(&self) -> watch::Receiver<u64> {
        self.written.as_ref().unwrap_or(&NOTHING).subscribe()
    }

    /// Gives a stream the right to pass on standard input, and says from which offset on. Whichever
    /// stream had it before has it no longer.
    ///
    /// # Errors
    ///
    /// [`Kind::InputUnknown`] if an agent died while it wrote: the same bytes could arrive twice.
    pub(crate) fn claim_input(&self) -> Result<(Seat, u64), Failure> {
        let mut feed = lock(&self.stdin);
        if feed.unknown && !matches!(feed.pipe, Stdin::Closed) {
            let text = "the agent was ended while it passed input on to the program";
            return Err(Failure::new(Kind::InputUnknown, text));
        }
        feed.seat += 1;
        Ok((Seat(feed.seat), *self.written().borrow()))
    }

    /// Passes on standard input; waits for the program to start and for room in its pipe. A program that
    /// wants no more gets none, and that is no error. Returns `false` if another stream has the seat.
    pub(crate) async fn write_input(&self, seat: Seat, bytes: &[u8]) -> bool {
        self.write_as(Some(seat), bytes).await
    }

    /// Answers a program on a terminal that asks for something. Needs no seat.
    pub(crate) async fn write(&self, bytes: &[u8]) {
        self.write_as(None, bytes).await;
    }

    async fn write_as(&self, seat: Option<Seat>, bytes: &[u8]) -> bool {
        if self.written.is_none() || self.started().await.is_err() {
            return true;
        }
        let mut rest = bytes;
        while !rest.is_empty() {
            match self.try_write_input(seat, rest) {
                Step::Took(taken) => rest = rest.get(taken..).unwrap_or_default(),
                Step::Displaced => return false,
                Step::Full(pipe) => {
                    if pipe.writable().await.is_err() {
                        self.let_go_of_stdin();
                    }
                }
            }
        }
        true
    }

    /// Writes what there is room for. Under one lock with the seat and the count, so that no byte is
    /// written for a stream whose place another one has read the count from.
    fn try_write_input(&self, seat: Option<Seat>, bytes: &[u8]) -> Step {
        let mut feed = lock(&self.stdin);
        if seat.is_some_and(|seat| seat != Seat(feed.seat)) {
            return Step::Displaced;
        }
        let Stdin::Open(pipe) = &feed.pipe else {
            // Nobody reads it: it counts as passed on.
            self.passed(bytes.len());
            return Step::Took(bytes.len());
        };
        let memory = self.spool.memory();
        if let Some(memory) = &memory {
            memory.begin_input(bytes.len() as u64);
        }
        let written = pipe.try_write(bytes);
        let taken = *written.as_ref().unwrap_or(&0);
        self.passed(taken);
        match written {
            Ok(taken) => Step::Took(taken),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Step::Full(pipe.clone()),
            Err(_) => {
                self.close(&mut feed);
                Step::Took(0)
            }
        }
    }

    /// So many bytes of input have been passed on.
    pub(crate) fn passed(&self, bytes: usize) {
        if let Some(written) = &self.written {
            self.spool.add_input(bytes as u64);
            written.send_modify(|written| *written += bytes as u64);
        }
    }

    /// The master of its terminal, while it runs.
    pub(crate) fn master(&self) -> Option<Arc<Input>> {
        self.terminal.as_ref()?;
        match &lock(&self.stdin).pipe {
            Stdin::Open(master) => Some(master.clone()),
            Stdin::Waiting | Stdin::Closed => None,
        }
    }

    /// Ends standard input at `end`, the offset in the bridge's FINAL. A stream that has lost the seat
    /// ends nothing, nor does one whose bytes below `end` have not all been passed on.
    pub(crate) async fn end_input(&self, seat: Seat, end: u64) {
        if self.written.is_none() || self.started().await.is_err() {
            return;
        }
        let mut feed = lock(&self.stdin);
        if seat == Seat(feed.seat) && *self.written().borrow() == end {
            self.close(&mut feed);
        }
    }

    /// Nothing more can be passed on.
    pub(crate) fn let_go_of_stdin(&self) {
        self.close(&mut lock(&self.stdin));
    }

    fn close(&self, feed: &mut Feed) {
        let before = std::mem::replace(&mut feed.pipe, Stdin::Closed);
        if let Stdin::Open(_) = before
            && let Place::Held(line) = &*lock(&self.place)
        {
            // There is always room for one of each job.
            let _ = line.order(&Order::CloseInput(self.id));
        }
    }
}
