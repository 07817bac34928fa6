//! Who holds a program, and the orders to its holder.

use std::fmt;
use std::sync::{Arc, Mutex, Weak};

use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::id::Nonce;

use super::{Program, lock};
use crate::holder::message::HolderOrder;

/// A holder of programs, to which orders are sent.
pub(crate) trait Orders: fmt::Debug + Send + Sync {
    /// Sends an order. Whether it is carried out shows in reports.
    ///
    /// # Errors
    ///
    /// [`Kind::Busy`] if no orders have been taken for long, and this one was not sent.
    fn order(&self, order: &HolderOrder) -> Result<(), Failure>;

    /// The id of the user whose programs it holds, once it holds any.
    fn user(&self) -> Option<u32>;
}

/// Who holds a program.
#[derive(Debug, Default)]
pub(super) enum HoldState {
    /// Nobody yet.
    #[default]
    Nowhere,
    /// Nobody, and nobody will, for this reason.
    Cancelled(&'static str),
    Held(Weak<dyn Orders>),
}

impl HoldState {
    /// Sends an order to the holder. If that is gone, the job is about to be reported as lost.
    fn order(&self, order: &HolderOrder) -> Result<(), Failure> {
        match self {
            Self::Held(holder) => holder.upgrade().map_or(Ok(()), |holder| holder.order(order)),
            Self::Nowhere | Self::Cancelled(_) => Ok(()),
        }
    }
}

impl Program {
    /// Assigns it to a holder.
    ///
    /// # Errors
    ///
    /// [`Kind::Cancelled`] if it must no longer be started.
    pub(crate) fn assign(&self, holder: Weak<dyn Orders>) -> Result<(), Failure> {
        let mut place = lock(&self.place);
        if let HoldState::Cancelled(why) = *place {
            return Err(Failure::new(Kind::Cancelled, why));
        }
        *place = HoldState::Held(holder);
        Ok(())
    }

    /// Takes it back from its holder, to which no order to start it was sent.
    pub(crate) fn unassign(&self) {
        *lock(&self.place) = HoldState::Nowhere;
    }

    /// Whether a holder has it, or had it.
    pub(crate) fn is_held(&self) -> bool {
        matches!(*lock(&self.place), HoldState::Held(_))
    }

    /// Why it will never be started, if that is so.
    pub(crate) fn why_cancelled(&self) -> Option<Failure> {
        match *lock(&self.place) {
            HoldState::Cancelled(why) => Some(Failure::new(Kind::Cancelled, why)),
            HoldState::Nowhere | HoldState::Held(_) => None,
        }
    }

    /// Makes sure that it is never started, unless a holder has it. Returns whether that was done.
    pub(crate) fn cancel(&self, why: &'static str) -> bool {
        let mut place = lock(&self.place);
        match *place {
            HoldState::Held(_) => return false,
            HoldState::Nowhere => *place = HoldState::Cancelled(why),
            HoldState::Cancelled(_) => {}
        }
        drop(place);
        self.cancelled.notify_one();
        true
    }

    /// Waits until it is cancelled.
    pub(crate) async fn cancelled(&self) {
        self.cancelled.notified().await;
    }

    /// Sends an order to its holder, if it has one.
    ///
    /// # Errors
    ///
    /// [`Kind::Busy`] if its holder takes no more orders.
    pub(crate) fn order(&self, order: &HolderOrder) -> Result<(), Failure> {
        lock(&self.place).order(order)
    }

    /// Gives its holder the note that `make` returns for a user. One at a time, so that the last
    /// note that was made counts.
    pub(crate) fn renew_note(&self, make: impl FnOnce(u32) -> Option<HolderOrder>) {
        let place = lock(&self.place);
        if let HoldState::Held(holder) = &*place
            && let Some(user) = holder.upgrade().and_then(|holder| holder.user())
            && let Some(order) = make(user)
        {
            // If that fails, the next agent knows a little less.
            let _ = place.order(&order);
        }
    }
}

/// Tells a program's holder that a reader of its log has moved.
pub(super) fn unblock(
    job: Nonce,
    place: Arc<Mutex<HoldState>>,
) -> impl Fn() + Send + Sync + 'static {
    move || {
        // There is always room for one such order of each job.
        let _ = lock(&place).order(&HolderOrder::Unblock(job));
    }
}
