//! How much of what all devices share one of them may have.
//!
//! An agent takes a limited number of streams from the relay, whoever opens them. A device has at most
//! [`MOST`] of them, and the last quarter is for those who have few: a flood waits for itself. The last of what a
//! device may have, and of all, is for control and handshakes alone, so that whoever has filled it can still stop
//! what runs. Whoever waits is not refused but held up, until it has lasted too long.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use farwire_protocol::header::{Class, Header};
use farwire_protocol::id::Id;
use tokio::sync::oneshot;

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

/// The streams to one agent, and those that wait.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    shares: Shares,
    /// The one whose turn it is first.
    lines: VecDeque<Line>,
    next: u64,
}

/// Streams of one device for one use that wait, the first to come first. There are none without any.
#[derive(Debug)]
struct Line {
    device: Id,
    what: Use,
    waiting: BTreeMap<u64, oneshot::Sender<Turn>>,
}

/// One stream to an agent. Dropping it makes room.
#[derive(Debug)]
pub(crate) struct Turn {
    queue: Arc<Queue>,
    device: Id,
    handshake: bool,
}

/// A place in a line, given up when it is dropped.
struct Place<'a> {
    queue: &'a Queue,
    device: Id,
    what: Use,
    number: u64,
}

impl Queue {
    /// Waits until this device may have one more stream.
    pub(crate) async fn enter(self: Arc<Self>, device: Id, what: Use) -> Turn {
        loop {
            let (called, _place) = match self.knock(device, what) {
                Ok(turn) => return turn,
                Err(waits) => waits,
            };
            // It fails for nobody who has a place.
            if let Ok(turn) = called.await {
                return turn;
            }
        }
    }

    /// One more stream, or a place among those that wait.
    fn knock(
        self: &Arc<Self>,
        device: Id,
        what: Use,
    ) -> Result<Turn, (oneshot::Receiver<Turn>, Place<'_>)> {
        let mut inner = self.lock();
        let line = inner.lines.iter().position(|line| line.is_for(device, what));
        // Nobody overtakes those of the same line.
        if line.is_none() && inner.shares.take(device, what) {
            return Ok(self.turn(device, what));
        }
        inner.next += 1;
        let number = inner.next;
        let (call, called) = oneshot::channel();
        match line.and_then(|line| inner.lines.get_mut(line)) {
            Some(line) => _ = line.waiting.insert(number, call),
            None => {
                let waiting = BTreeMap::from([(number, call)]);
                inner.lines.push_back(Line { device, what, waiting });
            }
        }
        Err((called, Place { queue: self, device, what, number }))
    }

    fn turn(self: &Arc<Self>, device: Id, what: Use) -> Turn {
        Turn { queue: self.clone(), device, handshake: what == Use::Handshake }
    }

    /// Takes what is free for those who wait, a line after the other: a stream that ends wakes who may have its room,
    /// and nobody else.
    fn next(self: &Arc<Self>, inner: &mut Inner) -> Vec<(oneshot::Sender<Turn>, Turn)> {
        let mut called = Vec::new();
        let mut in_vain = 0;
        while in_vain < inner.lines.len() {
            let Some(mut line) = inner.lines.pop_front() else { break };
            if inner.shares.take(line.device, line.what) {
                in_vain = 0;
                let turn = self.turn(line.device, line.what);
                called.extend(line.waiting.pop_first().map(|(_, call)| (call, turn)));
            } else {
                in_vain += 1;
            }
            if !line.waiting.is_empty() {
                inner.lines.push_back(line);
            }
        }
        called
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("nothing panics while it is held")
    }
}

impl Line {
    fn is_for(&self, device: Id, what: Use) -> bool {
        self.device == device && self.what == what
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut inner = self.queue.lock();
        inner.shares.give_back(self.device, self.handshake);
        let called = self.queue.next(&mut inner);
        drop(inner);
        for (call, turn) in called {
            // Whoever has left in this moment gives it back.
            let _ = call.send(turn);
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut inner = self.queue.lock();
        for line in &mut inner.lines {
            if line.is_for(self.device, self.what) {
                line.waiting.remove(&self.number);
            }
        }
        inner.lines.retain(|line| !line.waiting.is_empty());
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
    use std::pin::Pin;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Context, Poll, Wake};

    use super::*;

    /// How often something was woken.
    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A stream that waits.
    struct Waiting {
        entering: Pin<Box<dyn Future<Output = Turn>>>,
        woken: Arc<Woken>,
    }

    impl Waiting {
        fn new(queue: &Arc<Queue>, number: u8, what: Use) -> Self {
            let entering = Box::pin(queue.clone().enter(device(number), what));
            let mut waiting = Self { entering, woken: Arc::default() };
            assert!(waiting.poll().is_pending());
            waiting
        }

        fn poll(&mut self) -> Poll<Turn> {
            let waker = self.woken.clone().into();
            self.entering.as_mut().poll(&mut Context::from_waker(&waker))
        }

        fn is_woken(&self) -> bool {
            self.woken.0.load(Ordering::Relaxed) > 0
        }
    }

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

    #[test]
    fn a_stream_that_ends_wakes_the_first_who_may_have_its_room_and_nobody_else() {
        let queue = Arc::new(Queue::default());
        let turn = |number| queue.knock(device(number), Use::Other).map_err(drop).unwrap();
        let mut first: Vec<_> = (0..MOST - URGENT).map(|_| turn(1)).collect();
        let mut waiting: Vec<_> = (0..50).map(|_| Waiting::new(&queue, 1, Use::Other)).collect();
        drop(turn(2));
        assert!(waiting.iter().all(|one| !one.is_woken()), "another device's room is not theirs");
        first.pop();
        assert!(waiting[0].is_woken() && waiting[1..].iter().all(|one| !one.is_woken()));
        // Whoever leaves gives up what they were given, and their place.
        drop(waiting.remove(0));
        assert!(waiting[0].is_woken());
        let second = waiting.remove(0).poll();
        assert!(second.is_ready() && waiting.iter().all(|one| !one.is_woken()));
        drop((waiting, first, second));
        let inner = queue.lock();
        assert!(inner.lines.is_empty() && inner.shares.all == 0 && inner.shares.open.is_empty());
    }

    #[test]
    fn nobody_overtakes_who_came_before_and_devices_take_turns() {
        let queue = Arc::new(Queue::default());
        let turn = |number| queue.knock(device(number), Use::Other).map_err(drop).unwrap();
        let few = |number| (0..FEW).map(move |_| turn(number));
        let mut all: Vec<_> = (1..=15).flat_map(few).collect();
        assert_eq!(all.len(), usize::try_from(ALL - URGENT).unwrap());
        let [mut a, mut b] = [16, 16].map(|number| Waiting::new(&queue, number, Use::Other));
        let mut c = Waiting::new(&queue, 17, Use::Other);
        all.pop();
        let a = a.poll();
        assert!(a.is_ready() && !b.is_woken() && !c.is_woken());
        all.pop();
        assert!(!b.is_woken() && c.is_woken(), "the other device has its turn");
        let c = c.poll();
        all.pop();
        assert!(b.is_woken() && c.is_ready() && b.poll().is_ready());
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
