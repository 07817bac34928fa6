//! Connections of agents that wait for the answer to their enrollment.
//!
//! They have proven nothing but that they hold a token. So only a few of them may wait for one
//! enrollment, and for one workspace. One more ends the oldest: a flood pushes itself out.

use std::collections::{BTreeMap, HashMap};

use farwire_protocol::id::Nonce;
use farwire_protocol::outer::Notice;

use super::super::Notices;
use super::send;
use crate::workspace::{Enrolling, WorkspaceId};

/// Most connections that wait for one enrollment.
const MAX_OF_ENROLLMENT: usize = 8;

/// Most connections that wait for the enrollments of one workspace.
const MAX_OF_WORKSPACE: usize = 1_024;

/// The connections that wait.
#[derive(Debug, Default)]
pub(in super::super) struct Mailboxes {
    /// For each enrollment, by number and so by age. A connection ends when its sender is dropped.
    enrollments: HashMap<Nonce, BTreeMap<u64, Notices>>,
    /// For each workspace, which enrollment each connection waits for.
    workspaces: HashMap<WorkspaceId, BTreeMap<u64, Nonce>>,
}

impl Mailboxes {
    /// Adds a connection. If there are too many, the oldest of its enrollment or else of its
    /// workspace ends.
    pub(in super::super) fn add(
        &mut self,
        connection: u64,
        enrolling: Enrolling,
        notices: Notices,
    ) {
        let Enrolling { enrollment, workspace } = enrolling;
        if let Some((oldest, enrollment)) = self.surplus(enrolling) {
            self.remove(oldest, Enrolling { enrollment, workspace });
        }
        self.enrollments.entry(enrollment).or_default().insert(connection, notices);
        self.workspaces.entry(workspace).or_default().insert(connection, enrollment);
    }

    /// Returns the connection that must end before another one is added, and its enrollment.
    fn surplus(&self, enrolling: Enrolling) -> Option<(u64, Nonce)> {
        let Enrolling { enrollment, workspace } = enrolling;
        let of_enrollment = self
            .enrollments
            .get(&enrollment)
            .filter(|waiting| waiting.len() >= MAX_OF_ENROLLMENT)
            .and_then(BTreeMap::first_key_value);
        if let Some((oldest, _)) = of_enrollment {
            return Some((*oldest, enrollment));
        }
        let of_workspace = self
            .workspaces
            .get(&workspace)
            .filter(|waiting| waiting.len() >= MAX_OF_WORKSPACE)
            .and_then(BTreeMap::first_key_value);
        of_workspace.map(|(oldest, enrollment)| (*oldest, *enrollment))
    }

    pub(in super::super) fn remove(&mut self, connection: u64, enrolling: Enrolling) {
        let Enrolling { enrollment, workspace } = enrolling;
        remove_from(&mut self.enrollments, enrollment, connection);
        remove_from(&mut self.workspaces, workspace, connection);
    }

    /// Sends a notice to every connection that waits for this enrollment.
    pub(in super::super) fn notify(&self, enrollment: Nonce, notice: &Notice) {
        let waiting = self.enrollments.get(&enrollment).into_iter().flat_map(BTreeMap::values);
        waiting.for_each(|notices| send(notices, notice));
    }
}

/// Removes a connection from one of several lists, and a list that is empty after it.
fn remove_from<K: Eq + std::hash::Hash, V>(
    lists: &mut HashMap<K, BTreeMap<u64, V>>,
    key: K,
    connection: u64,
) {
    if let Some(list) = lists.get_mut(&key) {
        list.remove(&connection);
        if list.is_empty() {
            lists.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc::error::TryRecvError;
    use tokio::sync::mpsc::{self, Receiver};

    use super::*;

    const MINE: WorkspaceId = WorkspaceId(1);
    const OTHER: WorkspaceId = WorkspaceId(2);

    /// Adds a connection that waits for the enrollment with this number.
    fn add(
        mailboxes: &mut Mailboxes,
        connection: u64,
        enrollment: u64,
        workspace: WorkspaceId,
    ) -> Receiver<Notice> {
        let (notices, inbox) = mpsc::channel(1);
        mailboxes.add(connection, enrolling(enrollment, workspace), notices);
        inbox
    }

    fn enrolling(enrollment: u64, workspace: WorkspaceId) -> Enrolling {
        let mut nonce = Nonce([0; 16]);
        nonce.0[..8].copy_from_slice(&enrollment.to_be_bytes());
        Enrolling { enrollment: nonce, workspace }
    }

    fn has_ended(inbox: &mut Receiver<Notice>) -> bool {
        inbox.try_recv() == Err(TryRecvError::Disconnected)
    }

    #[test]
    fn the_ninth_of_an_enrollment_ends_the_first() {
        let mut mailboxes = Mailboxes::default();
        let mut inboxes: Vec<_> =
            (0..8).map(|connection| add(&mut mailboxes, connection, 1, MINE)).collect();
        assert!(!inboxes.iter_mut().any(has_ended));
        inboxes.push(add(&mut mailboxes, 8, 1, MINE));
        assert!(has_ended(&mut inboxes[0]) && !inboxes[1..].iter_mut().any(has_ended));
        mailboxes.notify(enrolling(1, MINE).enrollment, &Notice::Mail);
        for inbox in &mut inboxes[1..] {
            assert_eq!(inbox.try_recv().ok(), Some(Notice::Mail));
        }
        // The connection that was ended takes itself back, too.
        (0..9).for_each(|connection| mailboxes.remove(connection, enrolling(1, MINE)));
        assert!(mailboxes.enrollments.is_empty() && mailboxes.workspaces.is_empty());
    }

    #[test]
    fn the_oldest_of_a_workspace_ends_and_no_other_workspaces() {
        let mut mailboxes = Mailboxes::default();
        let mut theirs = add(&mut mailboxes, 0, 0, OTHER);
        let mut inboxes: Vec<_> =
            (1..=1_024).map(|number| add(&mut mailboxes, number, number, MINE)).collect();
        assert!(!inboxes.iter_mut().any(has_ended), "as many as there may be");
        inboxes.push(add(&mut mailboxes, 2_000, 2_000, MINE));
        assert!(has_ended(&mut inboxes[0]) && !inboxes[1..].iter_mut().any(has_ended));
        assert!(!has_ended(&mut theirs));
    }

    #[test]
    fn a_notice_goes_to_its_enrollment_alone() {
        let mut mailboxes = Mailboxes::default();
        let mut inboxes =
            [1, 2].map(|enrollment| add(&mut mailboxes, enrollment, enrollment, MINE));
        mailboxes.notify(enrolling(2, MINE).enrollment, &Notice::Mail);
        assert!(inboxes[0].try_recv().is_err());
        assert_eq!(inboxes[1].try_recv().ok(), Some(Notice::Mail));
    }
}
