//! Gives freed memory back to the system.
//!
//! By itself, the allocator gives back only what is free at the end of its heap. It keeps what lies
//! between live pieces, and the grids of screens are many small pieces of that kind.

#![expect(unsafe_code, reason = "the C library is asked")]

use std::sync::atomic::{AtomicUsize, Ordering};

/// Memory is given back when this much has been freed: it takes a millisecond or two.
const STEP: usize = 8 << 20;

static FREED: AtomicUsize = AtomicUsize::new(0);

/// Records that about this many bytes have been freed in small pieces.
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
