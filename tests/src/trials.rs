//! Trials: what is tried in small by the tests, and at length by `cargo xtask soak`.

pub mod crowd;
pub mod files;
pub mod kills;
pub mod relay;
pub mod restarts;
pub mod shells;
pub mod strangers;

/// Chance that can be had again: the seed is told wherever something was found with it.
#[derive(Clone, Copy, Debug)]
pub struct Dice(u64);

impl Dice {
    /// Those of this seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below `sides`.
    pub fn roll(&mut self, sides: u64) -> u64 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % sides
    }
}
