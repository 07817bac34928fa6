//! The programs together: real processes on loopback, an MCP client, and a relay that misbehaves.
//!
//! A [`World`] has a relay, a bridge and servers, each a process of its own in a scratch directory;
//! all of them end with it, on every path. Tests wait for states and never for time.

pub mod dav;
pub mod hand;
pub mod hostile;
pub mod liar;
pub mod model;
pub mod person;
pub mod raw;
pub mod show;
pub mod simulated;
pub mod trials;
pub mod world;

pub use model::{Era, Model};
pub use world::{Done, World};

use std::time::Duration;

/// How long anything in a test may take. Long, because machines are slow and states come in the
/// end.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until `probe` gives something.
///
/// # Panics
///
/// When it never does.
pub async fn until<T>(what: &str, mut probe: impl AsyncFnMut() -> Option<T>) -> T {
    let waiting = async {
        loop {
            if let Some(found) = probe().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    match tokio::time::timeout(PATIENCE, waiting).await {
        Ok(found) => found,
        Err(_) => panic!("waited in vain for: {what}"),
    }
}

/// Whether the tests run as root. If not, prints that what needs root is skipped.
pub fn is_root_or_skips(what: &str) -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("skipped: {what} needs root");
    }
    root
}

/// Runs a program of the system. `None` if it is not here, or fails.
pub fn system(program: &str, arguments: &[&str]) -> Option<()> {
    let done = std::process::Command::new(program).args(arguments).output().ok()?;
    done.status.success().then_some(())
}
