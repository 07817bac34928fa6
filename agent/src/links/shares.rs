//! How many streams each device may have open on this agent, so that one does not take them all.
//!
//! All streams of all devices come over one connection, which carries a limited number. A device
//! may have seven eighths of what the others leave, so that there is always room for one more
//! device. Control streams have a limit of their own, so that what runs can be stopped.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::header::Class;
use farwire_protocol::id::Id;

/// At most this many streams are open at once, by the transport's limit.
pub(crate) const STREAMS: usize = 256;

/// At most this many control streams of one device are open. Each of them serves one request.
const CONTROL: usize = 64;

/// Open streams by device.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shares {
    open: Arc<Mutex<HashMap<Id, Open>>>,
}

/// The open streams of one device.
#[derive(Clone, Copy, Debug, Default)]
struct Open {
    all: usize,
    control: usize,
}

/// One open stream. It counts until it is dropped.
#[derive(Debug)]
pub(crate) struct Share {
    device: Id,
    control: bool,
    of: Shares,
}

impl Shares {
    fn lock(&self) -> MutexGuard<'_, HashMap<Id, Open>> {
        self.open.lock().expect("nothing panics while it is held")
    }

    /// Opens one more stream for a device, or fails if it has too many.
    pub(crate) fn take(&self, device: Id, class: Class) -> Result<Share, Failure> {
        let mut open = self.lock();
        let all: usize = open.values().map(|one| one.all).sum();
        let own = open.get(&device).copied().unwrap_or_default();
        let free = STREAMS.saturating_sub(all - own.all);
        let control = class == Class::Control;
        let full = if control { own.control >= CONTROL } else { own.all >= free - free / 8 };
        if full {
            let text = format!("this device already has {} streams open on the server", own.all);
            return Err(Failure::new(Kind::Overloaded, text)
                .with_hint("nothing was started; try again when some of them have ended"));
        }
        let own = open.entry(device).or_default();
        own.all += 1;
        own.control += usize::from(control);
        Ok(Share { device, control, of: self.clone() })
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut open = self.of.lock();
        if let Some(own) = open.get_mut(&self.device) {
            own.all -= 1;
            own.control -= usize::from(self.control);
            if own.all == 0 {
                open.remove(&self.device);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(shares: &Shares, device: u8) -> Vec<Share> {
        std::iter::from_fn(|| shares.take(Id([device; 32]), Class::Interactive).ok()).collect()
    }

    #[test]
    fn streams_for_control_are_bounded_for_each_device() {
        let shares = Shares::default();
        let control = |device: u8| shares.take(Id([device; 32]), Class::Control).ok();
        let taken: Vec<_> = std::iter::from_fn(|| control(1)).collect();
        assert_eq!(taken.len(), CONTROL);
        assert!(control(2).is_some(), "another device's are its own");
        assert!(
            shares.take(Id([1; 32]), Class::Interactive).is_ok(),
            "nor are they those for work"
        );
        drop(taken);
        assert!(control(1).is_some() && shares.lock().is_empty());
    }

    #[test]
    fn a_device_that_takes_all_it_can_leaves_room_for_the_next_ones() {
        let shares = Shares::default();
        let taken: Vec<_> = (1..=3).map(|device| fill(&shares, device)).collect();
        let counts: Vec<_> = taken.iter().map(Vec::len).collect();
        assert_eq!(counts, [224, 28, 4]);
        assert!(shares.take(Id([1; 32]), Class::Control).is_ok(), "it can still stop something");
        drop(taken);
        assert!(shares.lock().is_empty());
        assert_eq!(fill(&shares, 9).len(), 224);
    }
}
