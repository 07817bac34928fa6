//! The replay window of a link: each stream number is accepted once, whatever the relay repeats.
//!
//! The window covers [`WINDOW`] numbers below the highest one seen; older numbers are stale. Call
//! [`Sids::claim`] only after the stream's first frame has authenticated, so that forged streams
//! neither move the window nor use up numbers.

/// The size of the replay window, in stream numbers.
pub const WINDOW: u64 = 65_536;

const WORDS: usize = (WINDOW / 64) as usize;

/// Why a stream number is refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Refused {
    /// The number is odd: only the bridge opens streams in this version, and its numbers are even.
    #[error("the stream number is reserved for the agent")]
    Parity,
    /// The number has been used.
    #[error("the stream number was used before")]
    Reused,
    /// The number is below the window.
    #[error("the stream number is below the replay window")]
    Stale,
}

/// The stream numbers used on one link.
#[derive(Debug)]
pub struct Sids {
    /// One bit for each number of the window, by its index modulo the window.
    bits: Box<[u64; WORDS]>,
    /// One more than the highest index seen; 0 when none was.
    next: u64,
}

impl Default for Sids {
    fn default() -> Self {
        Self { bits: Box::new([0; WORDS]), next: 0 }
    }
}

impl Sids {
    /// Claims a number, which succeeds only once.
    pub fn claim(&mut self, sid: u64) -> Result<(), Refused> {
        if !sid.is_multiple_of(2) {
            return Err(Refused::Parity);
        }
        let index = sid / 2;
        if index >= self.next {
            self.advance(index);
        } else if self.next - index > WINDOW {
            return Err(Refused::Stale);
        }
        let (word, bit) = Self::place(index);
        if self.bits[word] & bit != 0 {
            return Err(Refused::Reused);
        }
        self.bits[word] |= bit;
        Ok(())
    }

    /// Moves the window so that `index` is its highest, and forgets the numbers that fall out.
    fn advance(&mut self, index: u64) {
        if index - self.next >= WINDOW {
            self.bits.fill(0);
        } else {
            for stale in self.next..=index {
                let (word, bit) = Self::place(stale);
                self.bits[word] &= !bit;
            }
        }
        self.next = index + 1;
    }

    fn place(index: u64) -> (usize, u64) {
        let slot = index % WINDOW;
        (usize::try_from(slot / 64).expect("below the number of words"), 1 << (slot % 64))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_equals_a_set_with_a_window(
            steps in prop::collection::vec((0_u64..4, 0_u64..200_000), 1..400),
        ) {
            let (mut sids, mut model, mut highest) = (Sids::default(), HashSet::new(), None::<u64>);
            for (how, n) in steps {
                let index = match how {
                    0 => n,
                    1 => highest.unwrap_or(0) + n % 3,
                    2 => highest.unwrap_or(0).saturating_sub(n),
                    _ => highest.unwrap_or(0).saturating_sub(n % 70_000),
                };
                let stale = highest.is_some_and(|top| top + 1 > index && top + 1 - index > WINDOW);
                let expected = if stale {
                    Err(Refused::Stale)
                } else if model.insert(index) {
                    Ok(())
                } else {
                    Err(Refused::Reused)
                };
                prop_assert_eq!(sids.claim(index * 2), expected);
                highest = Some(highest.map_or(index, |top| top.max(index)));
            }
        }
    }

    #[test]
    fn odd_numbers_and_the_very_last_one() {
        let mut sids = Sids::default();
        assert_eq!(sids.claim(1), Err(Refused::Parity));
        assert_eq!(sids.claim(u64::MAX - 1), Ok(()));
        assert_eq!(sids.claim(u64::MAX - 1), Err(Refused::Reused));
        assert_eq!(sids.claim(0), Err(Refused::Stale));
    }
}
