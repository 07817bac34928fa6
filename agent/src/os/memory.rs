//! Memory that is free again goes back to the system.
//!
//! The allocator gives back by itself what is free at the end of its heap. What lies between things
//! that stay it keeps, and the grids of screens are many small pieces that do.

#![expect(unsafe_code, reason = "the C library is asked")]

use std::sync::atomic::{AtomicUsize, Ordering};

/// What is free is given back when so much has been freed: it takes a millisecond or two.
const STEP: usize = 8 << 20;

static FREED: AtomicUsize = AtomicUsize::new(0);

/// About so many bytes have been freed in small pieces.
pub(crate) fn freed(bytes: usize) {
    if FREED.fetch_add(bytes, Ordering::Relaxed) + bytes >= STEP {
        FREED.store(0, Ordering::Relaxed);
        give_back();
    }
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn give_back() {
    // SAFETY: it may be called at any time by any thread, and touches nothing that is in use.
    unsafe { libc::malloc_trim(0) };
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn give_back() {}
