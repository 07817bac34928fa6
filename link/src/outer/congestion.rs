//! The congestion window: as much as loss allows, and less while somebody is at a terminal.
//!
//! Loss-based control fills the queue at the bottleneck of a path, and every key then waits in it,
//! whatever its priority here. While somebody is at a terminal, the bytes in flight are capped so
//! that this queue stays short. Otherwise they are not: a flow that always yields is starved by
//! other flows.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use quinn::congestion::{Controller, ControllerFactory, CubicConfig};
use quinn_proto::RttEstimator;

/// The longest queueing delay on a far path. Smaller values are within the noise of radio links and
/// busy machines.
const QUEUE: Duration = Duration::from_millis(15);

/// A path with at most this delay without a queue is within a building, or a machine.
const NEAR: Duration = Duration::from_millis(2);

/// The longest queueing delay on a near path.
const NEAR_QUEUE: Duration = Duration::from_micros(500);

/// How long a minimum round trip is remembered, and after that once more as the previous one.
const MEMORY: Duration = Duration::from_secs(5);

/// The number of packets that may always be in flight: with fewer, every packet wakes all
/// processes.
const LEAST: u64 = 8;

/// Whether somebody is at a terminal. Clones share the state.
#[derive(Clone, Debug, Default)]
pub struct Attended(Arc<AtomicUsize>);

impl Attended {
    /// Marks that somebody is at a terminal until the returned guard is dropped.
    pub fn begin(&self) -> Attendance {
        self.0.fetch_add(1, Ordering::Relaxed);
        Attendance(self.clone())
    }

    fn is_active(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 0
    }
}

/// A guard: somebody is at a terminal as long as it lives.
#[derive(Debug)]
pub struct Attendance(Attended);

impl Drop for Attendance {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Builds a [`CappedCubic`] for each connection.
#[derive(Debug)]
pub(super) struct CappedCubicFactory {
    pub(super) attended: Attended,
}

impl ControllerFactory for CappedCubicFactory {
    fn build(self: Arc<Self>, now: Instant, mtu: u16) -> Box<dyn Controller> {
        let cubic = Arc::new(CubicConfig::default()).build(now, mtu);
        Box::new(CappedCubic { cubic, cap: Cap::new(mtu), attended: self.attended.clone() })
    }
}

/// CUBIC, with a cap while somebody is at a terminal.
struct CappedCubic {
    cubic: Box<dyn Controller>,
    cap: Cap,
    attended: Attended,
}

impl Controller for CappedCubic {
    fn on_sent(&mut self, now: Instant, bytes: u64, last: u64) {
        self.cubic.on_sent(now, bytes, last);
    }

    fn on_ack(
        &mut self,
        now: Instant,
        sent: Instant,
        bytes: u64,
        app_limited: bool,
        rtt: &RttEstimator,
    ) {
        self.cubic.on_ack(now, sent, bytes, app_limited, rtt);
        if self.attended.is_active() {
            let path = PathState { window: self.cubic.window(), min_rtt: rtt.min() };
            self.cap.on_ack(now, sent, bytes, path);
        } else {
            self.cap.lift();
        }
    }

    fn on_end_acks(&mut self, now: Instant, in_flight: u64, app_limited: bool, last: Option<u64>) {
        self.cubic.on_end_acks(now, in_flight, app_limited, last);
    }

    fn on_congestion_event(&mut self, now: Instant, sent: Instant, persistent: bool, lost: u64) {
        self.cubic.on_congestion_event(now, sent, persistent, lost);
    }

    fn on_mtu_update(&mut self, mtu: u16) {
        self.cubic.on_mtu_update(mtu);
        self.cap.packet = u64::from(mtu);
    }

    fn window(&self) -> u64 {
        self.cubic.window().min(self.cap.bytes)
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        let (cubic, cap) = (self.cubic.clone_box(), self.cap.clone());
        Box::new(Self { cubic, cap, attended: self.attended.clone() })
    }

    fn initial_window(&self) -> u64 {
        self.cubic.initial_window()
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

/// The number of bytes that may be in flight so that the queue stays short.
#[derive(Clone, Debug)]
struct Cap {
    bytes: u64,
    packet: u64,
    /// The measured round trip: when it began, the bytes and packets acknowledged in it, and the
    /// sum of the packets' round-trip times.
    since: Option<Instant>,
    acknowledged: u64,
    packets: u32,
    total_rtt: Duration,
    min_rtt: MinRtt,
    /// The cap to restore after a round that probes the path without a queue.
    probing: Option<u64>,
}

/// What the loss-based controller and QUIC know of the path.
#[derive(Clone, Copy, Debug)]
struct PathState {
    /// The loss-based window.
    window: u64,
    /// The shortest round trip ever.
    min_rtt: Duration,
}

/// The minimum round trip of the recent past: paths change, and may become longer.
#[derive(Clone, Debug)]
struct MinRtt {
    since: Option<Instant>,
    current: Duration,
    previous: Duration,
}

impl MinRtt {
    fn new(known: Duration) -> Self {
        Self { since: None, current: known, previous: known }
    }

    /// Starts a new period if the current one is over, and forgets the previous one. Returns
    /// whether it did.
    fn roll_over(&mut self, now: Instant) -> bool {
        let old = self.since.is_some_and(|since| now.duration_since(since) > MEMORY);
        if old {
            (self.since, self.previous, self.current) = (Some(now), self.current, Duration::MAX);
        }
        old
    }

    /// Adds a round trip; returns the minimum.
    fn add(&mut self, rtt: Duration, now: Instant) -> Duration {
        self.since.get_or_insert(now);
        self.current = self.current.min(rtt);
        self.current.min(self.previous)
    }
}

impl Cap {
    fn new(mtu: u16) -> Self {
        Self {
            bytes: u64::MAX,
            packet: u64::from(mtu),
            since: None,
            acknowledged: 0,
            packets: 0,
            total_rtt: Duration::ZERO,
            min_rtt: MinRtt::new(Duration::MAX),
            probing: None,
        }
    }

    fn lift(&mut self) {
        (self.bytes, self.since, self.probing) = (u64::MAX, None, None);
    }

    /// Adjusts the cap when a packet of `bytes`, which left at `sent`, was acknowledged.
    fn on_ack(&mut self, now: Instant, sent: Instant, bytes: u64, path: PathState) {
        if self.since.is_none() {
            self.min_rtt = MinRtt::new(path.min_rtt);
        }
        let min_rtt = self.min_rtt.add(now.duration_since(sent), now);
        let since = *self.since.get_or_insert(now);
        // A packet of the previous round measures that round.
        if sent < since {
            return;
        }
        self.acknowledged += bytes;
        self.packets += 1;
        self.total_rtt += now.duration_since(sent);
        if self.acknowledged < LEAST * self.packet {
            return;
        }
        if let Some(cap) = self.probing.take() {
            self.bytes = cap;
            return self.next_round(now);
        }
        let queue = if min_rtt <= NEAR { NEAR_QUEUE } else { QUEUE };
        let (in_flight, rtt) = (self.bytes.min(path.window), self.total_rtt / self.packets);
        self.bytes = if rtt > min_rtt + queue {
            // As much as arrives within the delay without a queue, plus half of the allowed queue.
            let wanted = (min_rtt + queue / 2).as_secs_f64() / rtt.as_secs_f64();
            let most = (in_flight as f64 * wanted.max(0.5)) as u64;
            most.max(LEAST * self.packet)
        } else {
            in_flight.saturating_add(in_flight / 8).max(LEAST * self.packet)
        };
        if self.min_rtt.roll_over(now) {
            // One round with hardly anything in flight measures the delay without a queue.
            self.probing = Some(self.bytes);
            self.bytes = LEAST * self.packet;
        }
        self.next_round(now);
    }

    fn next_round(&mut self, now: Instant) {
        (self.since, self.acknowledged) = (Some(now), 0);
        (self.packets, self.total_rtt) = (0, Duration::ZERO);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MTU: u16 = 1_200;

    /// Sends for twenty seconds through a bottleneck of `rate` bytes per second, on a path with the
    /// minimum round trip `min_rtt`. Returns the cap at the end.
    fn settle(rate: f64, min_rtt: Duration) -> u64 {
        let mut cap = Cap::new(MTU);
        let window = 4 << 20;
        let begun = Instant::now();
        let mut now = Duration::ZERO;
        while now < Duration::from_secs(20) {
            let in_flight = cap.bytes.min(window);
            let rtt = min_rtt.max(Duration::from_secs_f64(in_flight as f64 / rate));
            // Everything in flight is acknowledged, packet by packet.
            for n in 0..=in_flight / u64::from(MTU) {
                let at = begun + now + rtt + Duration::from_nanos(n);
                cap.on_ack(at, at - rtt, u64::from(MTU), PathState { window, min_rtt });
            }
            now += rtt + Duration::from_millis(1);
        }
        cap.bytes
    }

    #[test]
    fn the_queue_of_a_path_is_kept_short_and_the_path_full() {
        for (rate, least, queue) in [(2.5e6, 50, QUEUE), (1e6, 1, NEAR_QUEUE), (30e6, 20, QUEUE)] {
            let least = Duration::from_millis(least);
            let cap = settle(rate, least) as f64;
            let full = rate * least.as_secs_f64();
            let most = rate * (least + queue).as_secs_f64() * 1.2;
            let floor = (LEAST * u64::from(MTU)) as f64;
            // At least LEAST packets are always in flight, which queue on so short a path.
            let most = most.max(floor + rate * QUEUE.as_secs_f64());
            assert!(cap >= full * 0.8 && cap <= most, "{cap} {full} {most}");
        }
    }

    #[test]
    fn a_path_that_becomes_longer_is_full_again_soon() {
        let (mut cap, begun) = (Cap::new(MTU), Instant::now());
        let path = PathState { window: 1 << 20, min_rtt: Duration::from_millis(2) };
        let mut bytes = |from: Duration, rtt: Duration| {
            for n in 0..20_000 {
                let at = begun + from + Duration::from_millis(n);
                cap.on_ack(at, at - rtt, u64::from(MTU), path);
            }
            cap.bytes
        };
        bytes(Duration::from_secs(1), Duration::from_millis(2));
        assert!(bytes(Duration::from_secs(30), Duration::from_millis(100)) > 1 << 20);
    }

    #[test]
    fn without_anybody_at_a_terminal_nothing_is_held_back() {
        let mut cap = Cap::new(MTU);
        cap.bytes = 10_000;
        cap.lift();
        assert_eq!(cap.bytes, u64::MAX);
        let attended = Attended::default();
        let (one, other) = (attended.begin(), attended.begin());
        drop(one);
        assert!(attended.is_active());
        drop(other);
        assert!(!attended.is_active());
    }
}
