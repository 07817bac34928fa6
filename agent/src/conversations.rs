//! Conversations: what a stream is about, kept while streams come and go. Those of runs can be
//! resumed; those of files, and of controls of sessions, begin anew on each stream, once the
//! previous stream has let go.
//!
//! One stream serves a conversation at a time. Resuming it on a new stream first detaches the old
//! one and waits until it has let go; only then are offsets read.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};

use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::id::{Id, Nonce};
use farwire_protocol::streams::run::Delivery;
use tokio::sync::OwnedMutexGuard;
use tokio_util::sync::CancellationToken;

use crate::gate::principal::Principal;

/// At most this many of each device are remembered without a stream; the oldest go first. Other
/// devices take nothing from them, however many streams they open.
const KEPT: usize = 1_024;

/// At most this many are checked for one that can go.
const LOOKS: usize = 16;

type Key = (Arc<Principal>, Nonce);

/// All conversations of this agent process.
#[derive(Debug)]
pub(crate) struct Conversations<A = About> {
    inner: Mutex<ConversationTable<A>>,
}

impl<A> Default for Conversations<A> {
    fn default() -> Self {
        Self { inner: Mutex::new(ConversationTable { all: HashMap::new(), order: HashMap::new() }) }
    }
}

#[derive(Debug)]
struct ConversationTable<A> {
    all: HashMap<Key, Conversation<A>>,
    /// Those of each device, in the order in which they are checked when there are too many.
    order: HashMap<Id, VecDeque<Key>>,
}

#[derive(Debug)]
struct Conversation<A> {
    generation: u32,
    about: A,
    detach: CancellationToken,
    seat: Arc<tokio::sync::Mutex<()>>,
}

/// What a conversation is about.
#[derive(Clone, Debug)]
pub(crate) struct About {
    pub(crate) job: Nonce,
    pub(crate) delivery: Delivery,
    /// It was begun for a run that existed already, and says nothing about its input.
    pub(crate) taken: bool,
}

/// The right to serve a conversation, until another stream resumes it.
#[derive(Debug)]
pub(crate) struct Seat {
    pub(crate) detached: CancellationToken,
    _seat: OwnedMutexGuard<()>,
}

impl<A: Clone> Conversations<A> {
    fn lock(&self) -> MutexGuard<'_, ConversationTable<A>> {
        self.inner.lock().expect("nothing panics while it is held")
    }

    /// Creates a conversation. One that exists is refused: it must be resumed.
    pub(crate) fn create(
        &self,
        owner: &Arc<Principal>,
        id: Nonce,
        about: A,
    ) -> Result<Seat, Failure> {
        let mut inner = self.lock();
        let key = (owner.clone(), id);
        if inner.all.contains_key(&key) {
            return Err(Failure::new(Kind::ProtocolViolation, "the conversation already exists"));
        }
        Ok(inner.insert(key, 0, about))
    }

    /// Creates a conversation, or resumes it if it exists: each stream repeats its request. By then
    /// the request of an earlier stream has been carried out, or never will be. A delayed stream of
    /// an earlier generation is refused.
    pub(crate) async fn enter(
        &self,
        owner: &Arc<Principal>,
        id: Nonce,
        generation: u32,
        about: A,
    ) -> Result<(Seat, A), Failure> {
        let key = (owner.clone(), id);
        {
            let mut inner = self.lock();
            if !inner.all.contains_key(&key) {
                return Ok((inner.insert(key, generation, about.clone()), about));
            }
        }
        self.resume(owner, id, generation).await
    }

    /// Remembers a conversation with an earlier agent process: it has no stream, and may be
    /// resumed.
    pub(crate) fn recall(&self, owner: &Arc<Principal>, id: Nonce, about: A) {
        // An existing one is newer.
        let _ = self.create(owner, id, about);
    }

    /// Resumes a conversation on a new stream, with a generation above all before.
    pub(crate) async fn resume(
        &self,
        owner: &Arc<Principal>,
        id: Nonce,
        generation: u32,
    ) -> Result<(Seat, A), Failure> {
        let (detach, seat, about) = {
            let mut inner = self.lock();
            let gone =
                || Failure::new(Kind::ConversationGone, "the agent knows no such conversation");
            let one = inner.all.get_mut(&(owner.clone(), id)).ok_or_else(gone)?;
            if generation <= one.generation {
                let message = "a later stream has resumed the conversation";
                return Err(Failure::new(Kind::ProtocolViolation, message));
            }
            one.generation = generation;
            one.detach.cancel();
            one.detach = CancellationToken::new();
            (one.detach.clone(), one.seat.clone(), one.about.clone())
        };
        let taken = seat.lock_owned().await;
        if detach.is_cancelled() {
            return Err(Failure::new(Kind::ProtocolViolation, "taken up by a later stream"));
        }
        Ok((Seat { detached: detach, _seat: taken }, about))
    }
}

impl<A> ConversationTable<A> {
    fn insert(&mut self, key: Key, generation: u32, about: A) -> Seat {
        let device = key.0.device;
        self.make_room(device);
        let seat = Arc::new(tokio::sync::Mutex::new(()));
        let detach = CancellationToken::new();
        let taken = seat.clone().try_lock_owned().expect("nobody else knows it");
        let conversation = Conversation { generation, about, detach: detach.clone(), seat };
        self.all.insert(key.clone(), conversation);
        self.order.entry(device).or_default().push_back(key);
        Seat { detached: detach, _seat: taken }
    }

    /// Forgets a conversation of a device without a stream, if there are too many. Those with a
    /// stream are checked again after all others.
    fn make_room(&mut self, device: Id) {
        let Some(order) = self.order.get_mut(&device) else { return };
        for _ in 0..LOOKS {
            if order.len() < KEPT {
                return;
            }
            let Some(key) = order.pop_front() else { return };
            if self.all.get(&key).is_some_and(|one| one.seat.try_lock().is_err()) {
                order.push_back(key);
            } else {
                self.all.remove(&key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use farwire_protocol::surface::Surface;

    use super::*;

    fn owner(device: u8) -> Arc<Principal> {
        Arc::new(Principal::new(Id([device; 32]), Surface::Human, ""))
    }

    fn about() -> About {
        About { job: Nonce([1; 16]), delivery: Delivery::Nothing, taken: false }
    }

    #[tokio::test]
    async fn the_newest_stream_has_the_seat_and_the_old_one_is_told() {
        let all = Conversations::<About>::default();
        let id = Nonce([2; 16]);
        let first = all.create(&owner(1), id, about()).unwrap();
        assert!(all.create(&owner(1), id, about()).is_err(), "it exists");
        let detached = first.detached.clone();
        let holder = tokio::spawn(async move {
            first.detached.cancelled().await;
            drop(first);
        });
        let (second, _) = all.resume(&owner(1), id, 1).await.unwrap();
        assert!(detached.is_cancelled() && !second.detached.is_cancelled());
        holder.await.unwrap();
        let stale = all.resume(&owner(1), id, 1).await.unwrap_err();
        assert_eq!(stale.kind, Kind::ProtocolViolation);
    }

    #[tokio::test]
    async fn a_stream_that_was_held_back_does_not_enter_after_a_later_one() {
        let all = Conversations::<()>::default();
        let id = Nonce([2; 16]);
        let (second, ()) = all.enter(&owner(1), id, 1, ()).await.unwrap();
        let first = all.enter(&owner(1), id, 0, ()).await.unwrap_err();
        assert_eq!(first.kind, Kind::ProtocolViolation);
        assert!(!second.detached.is_cancelled());
        let detached = second.detached.clone();
        let letting_go = tokio::spawn(async move {
            second.detached.cancelled().await;
            drop(second);
        });
        all.enter(&owner(1), id, 2, ()).await.unwrap();
        assert!(detached.is_cancelled());
        letting_go.await.unwrap();
    }

    #[tokio::test]
    async fn anothers_conversation_is_like_one_that_never_was() {
        let all = Conversations::<About>::default();
        let id = Nonce([2; 16]);
        drop(all.create(&owner(1), id, about()).unwrap());
        for (owner, id) in [(owner(2), id), (owner(1), Nonce([3; 16]))] {
            assert_eq!(all.resume(&owner, id, 1).await.unwrap_err().kind, Kind::ConversationGone);
        }
    }

    #[test]
    fn many_conversations_are_bounded_and_those_with_a_stream_stay() {
        let all = Conversations::<About>::default();
        let owner = owner(1);
        let number = |n: u32| Nonce(u128::from(n).to_be_bytes());
        let held = all.create(&owner, number(0), about()).unwrap();
        for n in 1..5_000 {
            drop(all.create(&owner, number(n), about()).unwrap());
        }
        let inner = all.lock();
        let ordered = inner.order[&owner.device].len();
        assert!(inner.all.len() <= KEPT && ordered == inner.all.len());
        assert!(inner.all.contains_key(&(owner.clone(), number(0))), "it has a stream");
        assert!(inner.all.contains_key(&(owner, number(4_999))));
        drop((inner, held));
    }
    #[test]
    fn the_streams_of_one_device_make_no_other_forget_a_conversation() {
        let all = Conversations::<About>::default();
        let (victim, crowd) = (owner(1), owner(2));
        drop(all.create(&victim, Nonce([2; 16]), about()).unwrap());
        for n in 0..2 * KEPT as u128 {
            drop(all.create(&crowd, Nonce(n.to_be_bytes()), about()).unwrap());
        }
        assert!(all.lock().all.contains_key(&(victim, Nonce([2; 16]))));
    }
}
