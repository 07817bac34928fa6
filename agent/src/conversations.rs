//! Conversations of runs: what a stream is about, kept while streams come and go.
//!
//! One stream serves a conversation at a time. Taking it up in a new stream first detaches the old
//! one and waits until it has let go; only then are offsets read.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::id::Nonce;
use farwire_protocol::streams::run::Delivery;
use tokio::sync::OwnedMutexGuard;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::jobs::owner::Owner;

/// How long a conversation without a stream is remembered.
const KEEP: Duration = Duration::from_secs(600);

/// Beyond so many the old ones are looked for.
const MANY: usize = 512;

/// All conversations of this agent process.
#[derive(Debug, Default)]
pub(crate) struct Conversations {
    inner: Mutex<HashMap<(Owner, Nonce), Conversation>>,
}

#[derive(Debug)]
struct Conversation {
    generation: u32,
    about: About,
    detach: CancellationToken,
    seat: Arc<tokio::sync::Mutex<()>>,
    used: Instant,
}

/// What a conversation is about.
#[derive(Clone, Debug)]
pub(crate) struct About {
    pub(crate) job: Nonce,
    pub(crate) delivery: Delivery,
}

/// The right to serve a conversation, until another stream takes it up.
#[derive(Debug)]
pub(crate) struct Seat {
    pub(crate) detached: CancellationToken,
    _seat: OwnedMutexGuard<()>,
}

impl Conversations {
    fn lock(&self) -> MutexGuard<'_, HashMap<(Owner, Nonce), Conversation>> {
        self.inner.lock().expect("nothing panics while it is held")
    }

    /// Makes a conversation. One that exists is refused: it must be taken up.
    pub(crate) fn create(&self, owner: &Owner, id: Nonce, about: About) -> Result<Seat, Failure> {
        let mut all = self.lock();
        if all.len() > MANY {
            all.retain(|_, one| one.used.elapsed() < KEEP || one.seat.try_lock().is_err());
        }
        let seat = Arc::new(tokio::sync::Mutex::new(()));
        let detach = CancellationToken::new();
        let taken = seat.clone().try_lock_owned().expect("nobody else knows it");
        let conversation = Conversation {
            generation: 0,
            about,
            detach: detach.clone(),
            seat,
            used: Instant::now(),
        };
        if all.contains_key(&(owner.clone(), id)) {
            return Err(Failure::new(Kind::ProtocolViolation, "the conversation exists already"));
        }
        all.insert((owner.clone(), id), conversation);
        Ok(Seat { detached: detach, _seat: taken })
    }

    /// Takes a conversation up in a new stream, with a generation above all before.
    pub(crate) async fn resume(
        &self,
        owner: &Owner,
        id: Nonce,
        generation: u32,
    ) -> Result<(Seat, About), Failure> {
        let (detach, seat, about) = {
            let mut all = self.lock();
            let gone =
                || Failure::new(Kind::ConversationGone, "the agent knows no such conversation");
            let one = all.get_mut(&(owner.clone(), id)).ok_or_else(gone)?;
            if generation <= one.generation {
                let message = "the conversation was taken up by a later stream";
                return Err(Failure::new(Kind::ProtocolViolation, message));
            }
            one.generation = generation;
            one.used = Instant::now();
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

#[cfg(test)]
mod tests {
    use farwire_protocol::id::Id;
    use farwire_protocol::surface::Surface;

    use super::*;

    fn owner(device: u8) -> Owner {
        Owner { device: Id([device; 32]), surface: Surface::Human, name: String::new() }
    }

    fn about() -> About {
        About { job: Nonce([1; 16]), delivery: Delivery::Nothing }
    }

    #[tokio::test]
    async fn the_newest_stream_has_the_seat_and_the_old_one_is_told() {
        let all = Conversations::default();
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
    async fn anothers_conversation_is_like_one_that_never_was() {
        let all = Conversations::default();
        let id = Nonce([2; 16]);
        drop(all.create(&owner(1), id, about()).unwrap());
        for (owner, id) in [(owner(2), id), (owner(1), Nonce([3; 16]))] {
            assert_eq!(all.resume(&owner, id, 1).await.unwrap_err().kind, Kind::ConversationGone);
        }
    }
}
