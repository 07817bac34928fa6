//! How many streams each device may have open on this agent, so that one does not take them all.
//!
//! All streams of all devices come over one connection, which carries a limited number. A device may
//! have seven eighths of what the others leave: there is always room for one more device. Streams of
//! the class for control are not limited, so that what runs can be stopped.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::header::Class;
use farwire_protocol::id::Id;

/// So many streams are open at once, as the transport has it.
pub(crate) const STREAMS: usize = 256;

/// Open streams by device.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shares {
    open: Arc<Mutex<HashMap<Id, usize>>>,
}

/// One open stream. It counts until it is dropped.
#[derive(Debug)]
pub(crate) struct Share {
    device: Id,
    of: Shares,
}

impl Shares {
    fn lock(&self) -> MutexGuard<'_, HashMap<Id, usize>> {
        self.open.lock().expect("nothing panics while it is held")
    }

    /// Opens one more stream for a device, or says that it has too many.
    pub(crate) fn take(&self, device: Id, class: Class) -> Result<Share, Failure> {
        let mut open = self.lock();
        let all: usize = open.values().sum();
        let own = open.get(&device).copied().unwrap_or(0);
        let free = STREAMS.saturating_sub(all - own);
        if class != Class::Control && own >= free - free / 8 {
            let text = format!("this device has {own} streams open on the server");
            return Err(Failure::new(Kind::Overloaded, text)
                .with_hint("nothing was started; try again when some of them have ended"));
        }
        *open.entry(device).or_insert(0) += 1;
        Ok(Share { device, of: self.clone() })
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut open = self.of.lock();
        if let Some(own) = open.get_mut(&self.device) {
            *own -= 1;
            if *own == 0 {
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
