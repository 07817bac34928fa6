//! What every question is answered with: the files, and the reason if there is no answer.

use farwire_protocol::failure::Failure;
use farwire_protocol::id::Id;

use crate::peer::Broken;
use crate::transfers::Transfers;
use crate::tree::Tree;
use crate::undo::Undo;

/// Why a question was not answered.
#[derive(Debug)]
pub enum VerbError {
    /// The question failed, and whoever asked is told why.
    Failed(Failure),
    /// The other end no longer listens.
    Broken,
}

impl From<Failure> for VerbError {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl From<Broken> for VerbError {
    fn from(_: Broken) -> Self {
        Self::Broken
    }
}

/// What a question is answered with, and for whom.
#[derive(Clone, Copy, Debug)]
pub struct Desk<'a> {
    /// The files, with the listener of the question.
    pub tree: &'a Tree,
    /// The store for what changes replace, if there is one.
    pub undo: Option<&'a Undo>,
    /// The transfers in progress.
    pub transfers: &'a Transfers,
    /// Who asks, for display: device, surface and client.
    pub who: &'a str,
    /// The device of whoever asks.
    pub device: Id,
}
