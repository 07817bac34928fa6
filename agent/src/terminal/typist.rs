//! Somebody who is attached and types: how much of it was taken is written down where the next
//! agent finds it.

use std::sync::Arc;

use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::id::Nonce;

use super::{Terminal, lock};
use crate::spool::{Memory, TypistSlot};

/// A place in the memory of a log that nobody else gets as long as this lives.
#[derive(Debug)]
pub(crate) struct Typist {
    terminal: Arc<Terminal>,
    memory: Arc<Memory>,
    place: TypistSlot,
}

impl Terminal {
    /// The place of whoever types in this conversation.
    ///
    /// # Errors
    ///
    /// `busy` where as many are attached as can be.
    pub(crate) fn typist(
        self: &Arc<Self>,
        memory: Arc<Memory>,
        conversation: Nonce,
    ) -> Result<Typist, Failure> {
        let mut typing = lock(&self.typing);
        let place = memory.seat(conversation.0, typing.typists).ok_or_else(|| {
            let text = "no more clients that may type can attach to this session";
            Failure::new(Kind::Busy, text).with_hint("attach with --read-only to look at it")
        })?;
        typing.typists |= place.bit();
        Ok(Typist { terminal: self.clone(), memory, place })
    }
}

impl Typist {
    /// How much of what was typed has been taken; none where an agent died over it.
    pub(crate) fn bytes_taken(&self) -> Option<u64> {
        self.memory.bytes_taken(self.place)
    }

    /// Bytes are about to be passed on.
    pub(crate) fn begins(&self, until: u64) {
        self.memory.begin_taking(self.place, until);
    }

    /// They were, or were refused.
    pub(crate) fn took(&self, until: u64) {
        self.memory.took(self.place, until);
    }

    /// Where whoever passes them on counts.
    pub(crate) fn count(&self) -> (&Memory, TypistSlot) {
        (&self.memory, self.place)
    }
}

impl Drop for Typist {
    /// A later stream takes the conversation up, perhaps in the middle of a write that waits: from
    /// where it is.
    fn drop(&mut self) {
        self.memory.settle(self.place);
        lock(&self.terminal.typing).typists &= !self.place.bit();
    }
}
