//! How the devices of an agent share the streams that it takes.
//!
//! An agent takes a limited number of streams from the relay, whoever opens them. A device has at
//! most [`MAX_OF_DEVICE`] of them, and the last quarter is for devices that have few: a flood waits
//! for itself. The last streams of a device, and the last of all, are for control and handshakes
//! alone, so that a device that has filled its share can still stop what runs. A stream that gets
//! no permit waits, until [`crate::splice`] gives it up.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use farwire_protocol::header::{Class, Header};
use farwire_protocol::id::Id;
use tokio::sync::oneshot;

/// Streams that an agent takes.
const ALL: u32 = 256;

/// Most streams of one device.
const MAX_OF_DEVICE: u32 = ALL - ALL / 4;

/// Streams of a device, and of all, that only urgent ones may use.
const URGENT: u32 = 16;

/// From this many on, only devices below [`FEW`] get more.
const SCARCE: u32 = ALL - ALL / 4;

/// Streams that each device may have as long as there are any.
const FEW: u32 = 16;

/// Most handshakes of one device with one agent at a time.
const MAX_HANDSHAKES: u32 = 32;

/// Streams that a device may open in a second, and at once: what an agent takes on a link.
const RATE: f64 = 2_000.0;
const BURST: f64 = 4_000.0;

/// The purpose of a stream, as far as it decides about the stream's share.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum StreamUse {
    /// A handshake.
    Handshake,
    /// Questions about jobs, and stops.
    Control,
    /// Everything else.
    Other,
}

impl StreamUse {
    /// Returns the purpose that a header names.
    pub(crate) fn of(header: &Header) -> Self {
        match header.class {
            _ if header.is_handshake() => Self::Handshake,
            Class::Control => Self::Control,
            Class::Interactive | Class::Bulk => Self::Other,
        }
    }
}

/// How many streams to one agent each device has.
#[derive(Debug, Default)]
struct Shares {
    all: u32,
    devices: HashMap<Id, DeviceShare>,
}

#[derive(Clone, Copy, Debug, Default)]
struct DeviceShare {
    streams: u32,
    handshakes: u32,
}

impl Shares {
    /// Takes one more stream for a device. Returns whether it may have it now.
    fn take(&mut self, device: Id, purpose: StreamUse) -> bool {
        let handshake = purpose == StreamUse::Handshake;
        let share = self.devices.get(&device).copied().unwrap_or_default();
        let urgent = purpose != StreamUse::Other && share.streams < MAX_OF_DEVICE && self.all < ALL;
        let few = share.streams < FEW && self.all < ALL - URGENT;
        let more = share.streams < MAX_OF_DEVICE - URGENT && self.all < SCARCE;
        if !(urgent || few || more) || (handshake && share.handshakes >= MAX_HANDSHAKES) {
            return false;
        }
        self.all += 1;
        let share = self.devices.entry(device).or_default();
        share.streams += 1;
        share.handshakes += u32::from(handshake);
        true
    }

    fn give_back(&mut self, device: Id, purpose: StreamUse) {
        self.all = self.all.saturating_sub(1);
        if let Some(share) = self.devices.get_mut(&device) {
            let handshake = purpose == StreamUse::Handshake;
            share.streams = share.streams.saturating_sub(1);
            share.handshakes = share.handshakes.saturating_sub(u32::from(handshake));
            if share.streams == 0 {
                self.devices.remove(&device);
            }
        }
    }
}

/// The streams to one agent, and those that wait.
#[derive(Debug, Default)]
pub(crate) struct StreamQueue {
    state: Mutex<QueueState>,
}

#[derive(Debug, Default)]
struct QueueState {
    shares: Shares,
    /// In the order of their turns. None is empty.
    lines: VecDeque<WaitingLine>,
    last: u64,
}

/// The waiting streams of one device for one purpose, by number and so by age.
#[derive(Debug)]
struct WaitingLine {
    device: Id,
    purpose: StreamUse,
    waiting: BTreeMap<u64, oneshot::Sender<StreamPermit>>,
}

/// The right to one stream to an agent. Dropping it lets the next one in.
#[derive(Debug)]
pub(crate) struct StreamPermit {
    queue: Arc<StreamQueue>,
    device: Id,
    purpose: StreamUse,
}

/// A stream that waits. Dropping it leaves its line.
struct Waiting<'a> {
    queue: &'a StreamQueue,
    device: Id,
    purpose: StreamUse,
    number: u64,
    permit: oneshot::Receiver<StreamPermit>,
}

/// A permit for a stream that waits, to be sent once the queue is unlocked.
struct PermitDelivery {
    to: oneshot::Sender<StreamPermit>,
    permit: StreamPermit,
}

impl StreamQueue {
    /// Waits until a device may have one more stream.
    pub(crate) async fn enter(self: Arc<Self>, device: Id, purpose: StreamUse) -> StreamPermit {
        loop {
            let mut waiting = match self.knock(device, purpose) {
                Ok(permit) => return permit,
                Err(waiting) => waiting,
            };
            // It fails only for a stream that has left its line.
            if let Ok(permit) = (&mut waiting.permit).await {
                return permit;
            }
        }
    }

    /// Takes one more stream for a device, or enters it in its line.
    fn knock(
        self: &Arc<Self>,
        device: Id,
        purpose: StreamUse,
    ) -> Result<StreamPermit, Waiting<'_>> {
        let mut state = self.lock();
        let line = state.lines.iter().position(|line| line.is_for(device, purpose));
        // Nobody overtakes the streams of the same line.
        if line.is_none() && state.shares.take(device, purpose) {
            return Ok(self.permit(device, purpose));
        }
        state.last += 1;
        let number = state.last;
        let (call, permit) = oneshot::channel();
        match line.and_then(|line| state.lines.get_mut(line)) {
            Some(line) => _ = line.waiting.insert(number, call),
            None => {
                let waiting = BTreeMap::from([(number, call)]);
                state.lines.push_back(WaitingLine { device, purpose, waiting });
            }
        }
        Err(Waiting { queue: self, device, purpose, number, permit })
    }

    fn permit(self: &Arc<Self>, device: Id, purpose: StreamUse) -> StreamPermit {
        StreamPermit { queue: self.clone(), device, purpose }
    }

    /// Takes what is free for the streams that wait, one line after the other. A stream that ends
    /// wakes the one that gets its permit, and no other.
    fn call_next(self: &Arc<Self>, state: &mut QueueState) -> Vec<PermitDelivery> {
        let mut calls = Vec::new();
        let mut in_vain = 0;
        while in_vain < state.lines.len() {
            let Some(mut line) = state.lines.pop_front() else { break };
            if state.shares.take(line.device, line.purpose) {
                in_vain = 0;
                let permit = self.permit(line.device, line.purpose);
                calls.extend(line.waiting.pop_first().map(|(_, to)| PermitDelivery { to, permit }));
            } else {
                in_vain += 1;
            }
            if !line.waiting.is_empty() {
                state.lines.push_back(line);
            }
        }
        calls
    }

    fn lock(&self) -> MutexGuard<'_, QueueState> {
        self.state.lock().expect("nothing panics while it is held")
    }
}

impl WaitingLine {
    fn is_for(&self, device: Id, purpose: StreamUse) -> bool {
        self.device == device && self.purpose == purpose
    }
}

impl Drop for StreamPermit {
    fn drop(&mut self) {
        let mut state = self.queue.lock();
        state.shares.give_back(self.device, self.purpose);
        let calls = self.queue.call_next(&mut state);
        drop(state);
        for PermitDelivery { to, permit } in calls {
            // A stream that has just left drops its permit, which calls the next one.
            let _ = to.send(permit);
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut state = self.queue.lock();
        for line in &mut state.lines {
            if line.is_for(self.device, self.purpose) {
                line.waiting.remove(&self.number);
            }
        }
        state.lines.retain(|line| !line.waiting.is_empty());
    }
}

/// How fast one device opens streams.
#[derive(Debug)]
pub(crate) struct OpenRate {
    left: f64,
    at: Instant,
}

impl OpenRate {
    pub(crate) fn new(now: Instant) -> Self {
        Self { left: BURST, at: now }
    }

    /// Counts one more stream. Returns how long this one must wait, and the device's later ones
    /// behind it.
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

    use farwire_protocol::id::Target;

    use super::*;
    use crate::testing::header;

    /// How often something was woken.
    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A stream that waits.
    struct Entering {
        entering: Pin<Box<dyn Future<Output = StreamPermit>>>,
        woken: Arc<Woken>,
    }

    impl Entering {
        fn new(queue: &Arc<StreamQueue>, number: u8, purpose: StreamUse) -> Self {
            let entering = Box::pin(queue.clone().enter(device(number), purpose));
            let mut waiting = Self { entering, woken: Arc::default() };
            assert!(waiting.poll().is_pending());
            waiting
        }

        fn poll(&mut self) -> Poll<StreamPermit> {
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
        while shares.take(device(number), StreamUse::Other) {
            count += 1;
        }
        count
    }

    #[test]
    fn handshakes_and_control_are_told_from_everything_else() {
        let of = |class| StreamUse::of(&header(class));
        assert_eq!(of(Class::Control), StreamUse::Control);
        assert_eq!((of(Class::Interactive), of(Class::Bulk)), (StreamUse::Other, StreamUse::Other));
        let handshake = Header::handshake(Target([1; 16]), 9);
        assert_eq!(StreamUse::of(&handshake), StreamUse::Handshake);
    }

    #[test]
    fn no_device_has_all_of_it_and_each_gets_some() {
        let mut shares = Shares::default();
        assert_eq!(take_all(&mut shares, 1), MAX_OF_DEVICE - URGENT);
        assert_eq!(take_all(&mut shares, 2), SCARCE - MAX_OF_DEVICE + URGENT);
        for late in 3..=5 {
            assert_eq!(take_all(&mut shares, late), FEW, "device {late}");
        }
        assert_eq!(take_all(&mut shares, 7), 0, "there are no more");
        shares.give_back(device(1), StreamUse::Other);
        let mut take = |number| shares.take(device(number), StreamUse::Other);
        assert!(!take(1) && take(7));
    }

    #[test]
    fn whoever_has_all_that_it_may_have_can_still_stop_what_runs() {
        let mut shares = Shares::default();
        for flooding in 1..=5 {
            take_all(&mut shares, flooding);
        }
        for device in [1, 2, 9].map(device) {
            assert!(
                shares.take(device, StreamUse::Control)
                    && shares.take(device, StreamUse::Handshake)
            );
        }
        let urgent = (0..ALL).filter(|_| shares.take(device(1), StreamUse::Control)).count();
        assert_eq!(urgent, URGENT as usize - 6, "not without end");
    }

    #[test]
    fn handshakes_that_are_not_finished_are_few() {
        let mut shares = Shares::default();
        let mut take = |number, purpose| shares.take(device(number), purpose);
        let count = (0..MAX_OF_DEVICE).filter(|_| take(1, StreamUse::Handshake)).count();
        assert_eq!(count, MAX_HANDSHAKES as usize);
        assert!(take(1, StreamUse::Other) && take(2, StreamUse::Handshake));
        shares.give_back(device(1), StreamUse::Handshake);
        let mut take = |number, purpose| shares.take(device(number), purpose);
        assert!(take(1, StreamUse::Handshake) && !take(1, StreamUse::Handshake));
    }

    #[test]
    fn nothing_is_kept_of_devices_that_have_nothing_open() {
        let mut shares = Shares::default();
        for number in 0..200 {
            let purpose = if number % 2 == 0 { StreamUse::Handshake } else { StreamUse::Other };
            assert!(shares.take(device(number), purpose));
            shares.give_back(device(number), purpose);
        }
        assert!(shares.devices.is_empty() && shares.all == 0);
    }

    #[test]
    fn a_flood_of_opens_is_slowed_down_to_the_rate() {
        let begun = Instant::now();
        let mut rate = OpenRate::new(begun);
        let waits: Vec<_> = (0..6_000).map(|_| rate.open(begun)).collect();
        assert!(waits[3_999].is_zero() && waits[4_000] > Duration::ZERO);
        assert_eq!(waits[5_999].as_millis(), 1_000);
        assert!(rate.open(begun + Duration::from_secs(60)).is_zero(), "it is forgiven");
    }

    #[test]
    fn a_stream_that_ends_wakes_the_first_who_may_have_its_room_and_nobody_else() {
        let queue = Arc::new(StreamQueue::default());
        let turn = |number| queue.knock(device(number), StreamUse::Other).map_err(drop).unwrap();
        let mut first: Vec<_> = (0..MAX_OF_DEVICE - URGENT).map(|_| turn(1)).collect();
        let mut waiting: Vec<_> =
            (0..50).map(|_| Entering::new(&queue, 1, StreamUse::Other)).collect();
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
        assert!(inner.lines.is_empty() && inner.shares.all == 0 && inner.shares.devices.is_empty());
    }

    #[test]
    fn nobody_overtakes_who_came_before_and_devices_take_turns() {
        let queue = Arc::new(StreamQueue::default());
        let turn = |number| queue.knock(device(number), StreamUse::Other).map_err(drop).unwrap();
        let few = |number| (0..FEW).map(move |_| turn(number));
        let mut all: Vec<_> = (1..=15).flat_map(few).collect();
        assert_eq!(all.len(), usize::try_from(ALL - URGENT).unwrap());
        let [mut a, mut b] = [16, 16].map(|number| Entering::new(&queue, number, StreamUse::Other));
        let mut c = Entering::new(&queue, 17, StreamUse::Other);
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
        let queue = Arc::new(StreamQueue::default());
        let mut turns = Vec::new();
        for _ in 0..MAX_OF_DEVICE - URGENT {
            turns.push(queue.clone().enter(device(1), StreamUse::Other).await);
        }
        let waiting = tokio::spawn(queue.clone().enter(device(1), StreamUse::Other));
        queue.clone().enter(device(2), StreamUse::Other).await;
        assert!(!waiting.is_finished());
        turns.pop();
        waiting.await.unwrap();
    }
}
