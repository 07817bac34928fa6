//! How much may be under way: as much as loss allows, and less while somebody waits for keys.
//!
//! Loss-based control fills the queue at the narrowest place of a path, and every key then waits in it,
//! whatever its priority here. While somebody is at a terminal, what is under way is held to what keeps
//! that queue short. Otherwise it is not: a flow that always yields gets nothing beside those of others.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use quinn::congestion::{Controller, ControllerFactory, CubicConfig};
use quinn_proto::RttEstimator;

/// A queue of a far path is not longer. Smaller ones are the noise of radio and of busy machines.
const QUEUE: Duration = Duration::from_millis(15);

/// A path that takes no longer than this without a queue is within a house, or a machine.
const NEAR: Duration = Duration::from_millis(2);

/// A queue of a near path is not longer.
const NEAR_QUEUE: Duration = Duration::from_micros(500);

/// For so long the shortest time of a packet is remembered, and once more.
const MEMORY: Duration = Duration::from_secs(5);

/// So many packets may always be under way: a packet at a time wakes everybody for each.
const LEAST: u64 = 8;

/// Whether somebody is at a terminal. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Attended(Arc<AtomicUsize>);

impl Attended {
    /// Somebody is, until what is returned is dropped.
    pub fn begin(&self) -> Attendance {
        self.0.fetch_add(1, Ordering::Relaxed);
        Attendance(self.clone())
    }

    fn is(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 0
    }
}

/// Somebody is at a terminal as long as it lives.
#[derive(Debug)]
pub struct Attendance(Attended);

impl Drop for Attendance {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Makes controllers.
#[derive(Debug)]
pub(super) struct Short {
    pub(super) attended: Attended,
}

impl ControllerFactory for Short {
    fn build(self: Arc<Self>, now: Instant, mtu: u16) -> Box<dyn Controller> {
        let cubic = Arc::new(CubicConfig::default()).build(now, mtu);
        Box::new(Capped { cubic, cap: Cap::new(mtu), attended: self.attended.clone() })
    }
}

struct Capped {
    cubic: Box<dyn Controller>,
    cap: Cap,
    attended: Attended,
}

impl Controller for Capped {
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
        if self.attended.is() {
            self.cap.acknowledged(now, sent, bytes, (self.cubic.window(), rtt.min()));
        } else {
            self.cap.lift();
        }
    }

    fn on_end_acks(&mut self, now: Instant, under_way: u64, app_limited: bool, last: Option<u64>) {
        self.cubic.on_end_acks(now, under_way, app_limited, last);
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

/// How much may be under way for the queue to be short.
#[derive(Clone, Debug)]
struct Cap {
    bytes: u64,
    packet: u64,
    /// The round trip that is being looked at: when it began, what was acknowledged in it, of how
    /// many packets, and how long those took together.
    since: Option<Instant>,
    acknowledged: u64,
    packets: u32,
    took: Duration,
    least: Least,
    /// What was allowed before the round in which the path is looked at.
    looking: Option<u64>,
}

/// The shortest time that a packet took, of late: paths change, and become longer, too.
#[derive(Clone, Debug)]
struct Least {
    since: Option<Instant>,
    now: Duration,
    before: Duration,
}

impl Least {
    fn new(known: Duration) -> Self {
        Self { since: None, now: known, before: known }
    }

    /// Whether it was looked at long ago; then what was known before that is forgotten.
    fn is_old(&mut self, now: Instant) -> bool {
        let old = self.since.is_some_and(|since| now.duration_since(since) > MEMORY);
        if old {
            (self.since, self.before, self.now) = (Some(now), self.now, Duration::MAX);
        }
        old
    }

    /// With another one; gives the shortest.
    fn with(&mut self, took: Duration, now: Instant) -> Duration {
        self.since.get_or_insert(now);
        self.now = self.now.min(took);
        self.now.min(self.before)
    }
}

impl Cap {
    fn new(mtu: u16) -> Self {
        let (bytes, packet, took) = (u64::MAX, u64::from(mtu), Duration::ZERO);
        Self {
            bytes,
            packet,
            since: None,
            acknowledged: 0,
            packets: 0,
            took,
            least: Least::new(Duration::MAX),
            looking: None,
        }
    }

    fn lift(&mut self) {
        (self.bytes, self.since, self.looking) = (u64::MAX, None, None);
    }

    /// A packet has arrived. `window` is how much may be under way otherwise, and `ever` the shortest time
    /// that one ever took.
    fn acknowledged(
        &mut self,
        now: Instant,
        sent: Instant,
        bytes: u64,
        (window, ever): (u64, Duration),
    ) {
        if self.since.is_none() {
            self.least = Least::new(ever);
        }
        let least = self.least.with(now.duration_since(sent), now);
        let since = *self.since.get_or_insert(now);
        // What was sent in the round before says how that was.
        if sent < since {
            return;
        }
        self.acknowledged += bytes;
        self.packets += 1;
        self.took += now.duration_since(sent);
        if self.acknowledged < LEAST * self.packet {
            return;
        }
        if let Some(before) = self.looking.take() {
            self.bytes = before;
            return self.next_round(now);
        }
        let queue = if least <= NEAR { NEAR_QUEUE } else { QUEUE };
        let (under_way, took) = (self.bytes.min(window), self.took / self.packets);
        self.bytes = if took > least + queue {
            // What arrives in the time without a queue, and half of the queue that may be.
            let wanted = (least + queue / 2).as_secs_f64() / took.as_secs_f64();
            let most = (under_way as f64 * wanted.max(0.5)) as u64;
            most.max(LEAST * self.packet)
        } else {
            under_way.saturating_add(under_way / 8).max(LEAST * self.packet)
        };
        if self.least.is_old(now) {
            // For one round hardly anything is under way, which shows how long the path is without a queue.
            self.looking = Some(self.bytes);
            self.bytes = LEAST * self.packet;
        }
        self.next_round(now);
    }

    fn next_round(&mut self, now: Instant) {
        (self.since, self.acknowledged) = (Some(now), 0);
        (self.packets, self.took) = (0, Duration::ZERO);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MTU: u16 = 1_200;

    /// Sends for a second through a place that takes `rate` bytes a second, on a path of `least`. Gives the
    /// cap at the end.
    fn settle(rate: f64, least: Duration) -> u64 {
        let mut cap = Cap::new(MTU);
        let window = 4 << 20;
        let begun = Instant::now();
        let mut now = Duration::ZERO;
        while now < Duration::from_secs(20) {
            let under_way = cap.bytes.min(window);
            let took = least.max(Duration::from_secs_f64(under_way as f64 / rate));
            // All that is under way comes back, packet by packet.
            for n in 0..=under_way / u64::from(MTU) {
                let at = begun + now + took + Duration::from_nanos(n);
                cap.acknowledged(at, at - took, u64::from(MTU), (window, least));
            }
            now += took + Duration::from_millis(1);
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
            // Less than the least is never under way, and makes a queue of its own on so short a path.
            let most = most.max(floor + rate * QUEUE.as_secs_f64());
            assert!(cap >= full * 0.8 && cap <= most, "{cap} {full} {most}");
        }
    }

    #[test]
    fn a_path_that_becomes_longer_is_full_again_soon() {
        let (mut cap, begun) = (Cap::new(MTU), Instant::now());
        let mut bytes = |from: Duration, took: Duration| {
            for n in 0..20_000 {
                let at = begun + from + Duration::from_millis(n);
                cap.acknowledged(
                    at,
                    at - took,
                    u64::from(MTU),
                    (1 << 20, Duration::from_millis(2)),
                );
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
        assert!(attended.is());
        drop(other);
        assert!(!attended.is());
    }
}
