//! A client that is attached and types: how much of its input was taken is recorded where the next
//! agent finds it.

use std::sync::Arc;

use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::id::Nonce;

use super::{Terminal, lock};
use crate::spool::{Memory, TypistSlot};

/// A slot in the memory of a log that nobody else gets as long as this lives.
#[derive(Debug)]
pub(crate) struct Typist {
    terminal: Arc<Terminal>,
    memory: Arc<Memory>,
    place: TypistSlot,
}

impl Terminal {
    /// The typist of this conversation. `returns` says that the client has had a stream of it
    /// before.
    ///
    /// # Errors
    ///
    /// `busy` if all slots are taken.
    pub(crate) fn typist(
        self: &Arc<Self>,
        memory: Arc<Memory>,
        conversation: Nonce,
        returns: bool,
    ) -> Result<Typist, Failure> {
        let mut typing = lock(&self.typing);
        let place = memory.seat(conversation.0, returns, typing.typists);
        let place = place.ok_or_else(|| {
            let text = "too many clients that may type are attached to this session";
            Failure::new(Kind::Busy, text).with_hint("attach with --read-only to look at it")
        })?;
        typing.typists |= place.bit();
        Ok(Typist { terminal: self.clone(), memory, place })
    }
}

impl Typist {
    /// How much of what was typed has been taken, if that is known.
    pub(crate) fn bytes_taken(&self) -> Option<u64> {
        self.memory.bytes_taken(self.place)
    }

    /// Records that bytes up to `until` are about to be passed on.
    pub(crate) fn begins(&self, until: u64) {
        self.memory.begin_taking(self.place, until);
    }

    /// Records that they were passed on, or refused.
    pub(crate) fn took(&self, until: u64) {
        self.memory.took(self.place, until);
    }

    /// Where each write counts what it has passed on.
    pub(crate) fn count(&self) -> (&Memory, TypistSlot) {
        (&self.memory, self.place)
    }
}

impl Drop for Typist {
    /// A later stream may resume the conversation in the middle of a write that waits: it goes on
    /// from there.
    fn drop(&mut self) {
        self.memory.settle(self.place);
        lock(&self.terminal.typing).typists &= !self.place.bit();
    }
}
