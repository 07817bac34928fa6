//! Trials: what is tried in small by the tests, and at length by `cargo xtask soak`.

pub mod crowd;
pub mod restarts;
