//! `undo`: changes in a root, listed, shown, undone and done again.

use farwire_protocol::failure::Failure;
use farwire_protocol::streams::files::{Ask, Change, Changes, Revert as Question};

use crate::client::Client;
use crate::files::place::ServerPath;
use crate::files::site::Face;

/// Lists changes.
#[derive(Debug)]
pub struct ListChanges<'a> {
    /// The root.
    pub root: &'a ServerPath,
    /// Only this one.
    pub change: Option<u64>,
    /// At most this many.
    pub limit: Option<u32>,
}

/// Shows what undoing a change, or doing it again, would change.
#[derive(Debug)]
pub struct Preview<'a> {
    /// The root.
    pub root: &'a ServerPath,
    /// Which change; without a number the one that is undone, or done again, next.
    pub change: Option<u64>,
    /// Without a number: done again.
    pub redo: bool,
    /// At most this many changes are told of.
    pub limit: Option<u32>,
}

/// Undoes a change, or does it again.
#[derive(Debug)]
pub struct Revert<'a> {
    /// The root.
    pub root: &'a ServerPath,
    /// Which change; without a number the latest.
    pub change: Option<u64>,
    /// Do it again.
    pub redo: bool,
    /// Also if what it left was changed since.
    pub force: bool,
}

/// Changes in a root.
#[derive(Debug)]
pub struct ChangesAnswer {
    /// The name of the root.
    pub root: String,
    /// The changes, the latest first.
    pub changes: Vec<Change>,
    /// Of one change: what it would be undone, or done again, as a diff.
    pub diff: Vec<u8>,
}

/// What was undone or done again.
#[derive(Debug)]
pub struct RevertAnswer {
    /// The name of the root.
    pub root: String,
    /// Which change it was.
    pub change: Option<u64>,
    /// How many paths it was about.
    pub paths: Option<u64>,
}

impl ListChanges<'_> {
    /// Lists them.
    ///
    /// # Errors
    ///
    /// Those of the server.
    pub async fn carry_out(&self, client: &Client, face: Face) -> Result<ChangesAnswer, Failure> {
        let question = Changes { change: self.change, limit: self.limit, next: None };
        ask(client, face, self.root, &question).await
    }
}

impl Preview<'_> {
    /// Shows it.
    ///
    /// # Errors
    ///
    /// Those of the server.
    pub async fn carry_out(&self, client: &Client, face: Face) -> Result<ChangesAnswer, Failure> {
        let next = self.change.is_none().then_some(self.redo);
        let question = Changes { change: self.change, limit: self.limit, next };
        ask(client, face, self.root, &question).await
    }
}

async fn ask(
    client: &Client,
    face: Face,
    root: &ServerPath,
    question: &Changes,
) -> Result<ChangesAnswer, Failure> {
    let mut site = root.root_site(client, face).await?;
    let answer = site.ask(|_| Ask::Changes(question.clone())).await?;
    let root = site.place.root.clone();
    Ok(ChangesAnswer { root, changes: answer.changes, diff: answer.content })
}

impl Revert<'_> {
    /// Carries it out, as a whole or not at all.
    ///
    /// # Errors
    ///
    /// `changed_meanwhile` unless `force`; others of the server.
    pub async fn carry_out(&self, client: &Client, face: Face) -> Result<RevertAnswer, Failure> {
        let (change, redo, force) = (self.change, Some(self.redo), Some(self.force));
        let mut site = self.root.root_site(client, face).await?;
        let done = site.ask(|_| Ask::Revert(Question { change, redo, force })).await?.done;
        let root = site.place.root.clone();
        Ok(RevertAnswer { root, change: done.change, paths: done.count })
    }
}
