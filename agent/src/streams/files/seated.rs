//! A stream that a worker serves, the seat of its conversation, and its share of all streams.
//!
//! However the stream ends (it breaks, its link is over, its device is removed), the seat is free
//! only once the worker has let go. Nothing that was requested on the stream can happen after that,
//! so the next stream of the conversation may be admitted. Until then the stream counts as open: it
//! has descriptors here and in the worker.

use std::sync::Arc;

use tokio::runtime::Handle;

use crate::conversations::Seat;
use crate::files::pipe::Pipe;
use crate::links::Entered;

/// A pipe to a worker, with the seat and the share of the stream.
pub(super) struct SeatedPipe(Option<(Pipe, Occupied)>);

/// What is free again once the worker has let go.
struct Occupied {
    _seat: Seat,
    _entered: Arc<Entered>,
}

impl SeatedPipe {
    pub(super) fn new(pipe: Pipe, seat: Seat, entered: Arc<Entered>) -> Self {
        Self(Some((pipe, Occupied { _seat: seat, _entered: entered })))
    }

    /// The pipe to the worker.
    pub(super) fn pipe(&self) -> &Pipe {
        let (pipe, _) = self.0.as_ref().expect("it goes with this");
        pipe
    }

    /// Frees the seat at once, since the worker has reported that all is done.
    pub(super) fn finish(mut self) {
        self.0 = None;
    }
}

impl Drop for SeatedPipe {
    fn drop(&mut self) {
        let Some((pipe, held)) = self.0.take() else { return };
        // Without a runtime the agent is about to end, and its workers with it.
        let Ok(runtime) = Handle::try_current() else { return };
        runtime.spawn(async move {
            pipe.let_go().await;
            drop(held);
        });
    }
}

#[cfg(test)]
mod tests {
    use farwire_protocol::id::{Id, Nonce};
    use farwire_protocol::surface::Surface;
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
    use tokio::task::yield_now;

    use super::*;
    use crate::conversations::Conversations;
    use crate::files::waits::Waits;
    use crate::gate::principal::Principal;

    #[tokio::test]
    async fn a_stream_that_is_dropped_keeps_its_seat_until_the_worker_has_let_go() {
        let (ours, worker) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
                .unwrap();
        let all = Arc::new(Conversations::<()>::default());
        let owner = Arc::new(Principal::new(Id([1; 32]), Surface::Human, ""));
        let (seat, ()) = all.enter(&owner, Nonce([2; 16]), 0, ()).await.unwrap();
        let entered = Arc::new(Entered::of(owner.device));
        let share = Arc::downgrade(&entered);
        let serving = SeatedPipe::new(Pipe::new(ours, Waits::new()).unwrap(), seat, entered);
        drop(serving);
        let (later, who) = (all.clone(), owner.clone());
        let next =
            tokio::spawn(async move { later.enter(&who, Nonce([2; 16]), 1, ()).await.is_ok() });
        for _ in 0..100 {
            yield_now().await;
        }
        assert!(!next.is_finished(), "the worker may still be at it");
        assert!(share.upgrade().is_some(), "it counts as open as long");
        drop(worker);
        assert!(next.await.unwrap());
        assert!(share.upgrade().is_none());
    }

    #[tokio::test]
    async fn a_stream_that_was_answered_gives_its_seat_up_at_once() {
        let (ours, _worker) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
                .unwrap();
        let all = Conversations::<()>::default();
        let owner = Arc::new(Principal::new(Id([1; 32]), Surface::Human, ""));
        let (seat, ()) = all.enter(&owner, Nonce([2; 16]), 0, ()).await.unwrap();
        let entered = Arc::new(Entered::of(owner.device));
        SeatedPipe::new(Pipe::new(ours, Waits::new()).unwrap(), seat, entered).finish();
        assert!(all.enter(&owner, Nonce([2; 16]), 1, ()).await.is_ok());
    }
}
