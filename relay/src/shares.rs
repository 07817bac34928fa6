//! How much of what all devices share one of them may have.
//!
//! An agent takes a limited number of streams from the relay, whoever opens them. A device has at most
//! [`MOST`] of them, and the last quarter is for those who have few: a flood waits for itself. The last of what a
//! device may have, and of all, is for control and handshakes alone, so that whoever has filled it can still stop
//! what runs. Whoever waits is not refused but held up, until it has lasted too long.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use farwire_protocol::header::{Class, Header};
use farwire_protocol::id::Id;
use tokio::sync::Notify;

/// How many streams an agent takes.
const ALL: u32 = 256;

/// How many of them one device may have.
const MOST: u32 = ALL - ALL / 4;

/// How many of a device's, and of all, only urgent streams may use.
const URGENT: u32 = 16;

/// When so many are taken, only those get more who have [`FEW`].
const SCARCE: u32 = ALL - ALL / 4;

/// What every device may have, as long as there are any.
const FEW: u32 = 16;

/// How many handshakes of one device with one agent may be under way.
const SHAKING: u32 = 32;

/// How many streams a device may open in a second, and at once: what an agent takes on a link.
const RATE: f64 = 2_000.0;
const BURST: f64 = 4_000.0;

/// What a stream is for, as far as its share goes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Use {
    /// A handshake.
    Handshake,
    /// Questions about jobs, and stops.
    Control,
    /// Everything else.
    Other,
}

impl Use {
    /// What a stream with this header is for.
    pub(crate) fn of(header: &Header) -> Self {
        match header.class {
            _ if header.is_handshake() => Self::Handshake,
            Class::Control => Self::Control,
            _ => Self::Other,
        }
    }
}

/// Who has how many streams to one agent.
#[derive(Debug, Default)]
struct Shares {
    all: u32,
    open: HashMap<Id, Held>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Held {
    streams: u32,
    shaking: u32,
}

impl Shares {
    /// Takes one more for this device, if it may have it now.
    fn take(&mut self, device: Id, what: Use) -> bool {
        let handshake = what == Use::Handshake;
        let held = self.open.get(&device).copied().unwrap_or_default();
        let urgent = what != Use::Other && held.streams < MOST && self.all < ALL;
        let few = held.streams < FEW && self.all < ALL - URGENT;
        let more = held.streams < MOST - URGENT && self.all < SCARCE;
        if !(urgent || few || more) || (handshake && held.shaking >= SHAKING) {
            return false;
        }
        self.all += 1;
        let held = self.open.entry(device).or_default();
        held.streams += 1;
        held.shaking += u32::from(handshake);
        true
    }

    fn give_back(&mut self, device: Id, handshake: bool) {
        self.all = self.all.saturating_sub(1);
        if let Some(held) = self.open.get_mut(&device) {
            held.streams = held.streams.saturating_sub(1);
            held.shaking = held.shaking.saturating_sub(u32::from(handshake));
            if held.streams == 0 {
                self.open.remove(&device);
            }
        }
    }
}

/// The streams to one agent.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    shares: Mutex<Shares>,
    freed: Notify,
}

/// One stream to an agent. Dropping it makes room.
#[derive(Debug)]
pub(crate) struct Turn {
    queue: Arc<Queue>,
    device: Id,
    handshake: bool,
}

impl Queue {
    /// Waits until this device may have one more stream.
    pub(crate) async fn enter(self: Arc<Self>, device: Id, what: Use) -> Turn {
        loop {
            let freed = self.freed.notified();
            tokio::pin!(freed);
            // Before looking, so that nothing is missed in between.
            freed.as_mut().enable();
            let taken = self.lock().take(device, what);
            if taken {
                let handshake = what == Use::Handshake;
                return Turn { queue: self.clone(), device, handshake };
            }
            freed.await;
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Shares> {
        self.shares.lock().expect("nothing panics while it is held")
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.queue.lock().give_back(self.device, self.handshake);
        self.queue.freed.notify_waiters();
    }
}

/// How fast one device opens streams.
#[derive(Debug)]
pub(crate) struct Pace {
    left: f64,
    at: Instant,
}

impl Pace {
    pub(crate) fn new(now: Instant) -> Self {
        Self { left: BURST, at: now }
    }

    /// One more stream. Gives how long it must wait, and those after it.
    pub(crate) fn open(&mut self, now: Instant) -> Duration {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.left = RATE.mul_add(passed, self.left).min(BURST) - 1.0;
        self.at = now;
        Duration::from_secs_f64((-self.left).max(0.0) / RATE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(number: u8) -> Id {
        Id([number; 32])
    }

    fn take_all(shares: &mut Shares, number: u8) -> u32 {
        let mut count = 0;
        while shares.take(device(number), Use::Other) {
            count += 1;
        }
        count
    }

    #[test]
    fn no_device_has_all_of_it_and_each_gets_some() {
        let mut shares = Shares::default();
        assert_eq!(take_all(&mut shares, 1), MOST - URGENT);
        assert_eq!(take_all(&mut shares, 2), SCARCE - MOST + URGENT);
        for late in 3..=5 {
            assert_eq!(take_all(&mut shares, late), FEW, "device {late}");
        }
        assert_eq!(take_all(&mut shares, 7), 0, "there are no more");
        shares.give_back(device(1), false);
        let mut take = |number| shares.take(device(number), Use::Other);
        assert!(!take(1) && take(7));
    }

    #[test]
    fn whoever_has_all_that_it_may_have_can_still_stop_what_runs() {
        let mut shares = Shares::default();
        for flooding in 1..=5 {
            take_all(&mut shares, flooding);
        }
        for device in [1, 2, 9].map(device) {
            assert!(shares.take(device, Use::Control) && shares.take(device, Use::Handshake));
        }
        let urgent = (0..ALL).filter(|_| shares.take(device(1), Use::Control)).count();
        assert_eq!(urgent, URGENT as usize - 6, "not without end");
    }

    #[test]
    fn handshakes_that_are_not_finished_are_few() {
        let mut shares = Shares::default();
        let mut take = |number, what| shares.take(device(number), what);
        let count = (0..MOST).filter(|_| take(1, Use::Handshake)).count();
        assert_eq!(count, SHAKING as usize);
        assert!(take(1, Use::Other) && take(2, Use::Handshake));
        shares.give_back(device(1), true);
        let mut take = |number, what| shares.take(device(number), what);
        assert!(take(1, Use::Handshake) && !take(1, Use::Handshake));
    }

    #[test]
    fn nothing_is_kept_of_devices_that_have_nothing_open() {
        let mut shares = Shares::default();
        for number in 0..200 {
            let what = if number % 2 == 0 { Use::Handshake } else { Use::Other };
            assert!(shares.take(device(number), what));
            shares.give_back(device(number), number % 2 == 0);
        }
        assert!(shares.open.is_empty() && shares.all == 0);
    }

    #[test]
    fn a_flood_of_opens_is_slowed_down_to_the_rate() {
        let begun = Instant::now();
        let mut pace = Pace::new(begun);
        let waits: Vec<_> = (0..6_000).map(|_| pace.open(begun)).collect();
        assert!(waits[3_999].is_zero() && waits[4_000] > Duration::ZERO);
        assert_eq!(waits[5_999].as_millis(), 1_000);
        assert!(pace.open(begun + Duration::from_secs(60)).is_zero(), "it is forgiven");
    }

    #[tokio::test]
    async fn who_waits_goes_on_when_another_has_left() {
        let queue = Arc::new(Queue::default());
        let mut turns = Vec::new();
        for _ in 0..MOST - URGENT {
            turns.push(queue.clone().enter(device(1), Use::Other).await);
        }
        let waiting = tokio::spawn(queue.clone().enter(device(1), Use::Other));
        queue.clone().enter(device(2), Use::Other).await;
        assert!(!waiting.is_finished());
        turns.pop();
        waiting.await.unwrap();
    }
}
