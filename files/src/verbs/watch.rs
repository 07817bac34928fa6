//! `watch`: waits until something changes, without looking again and again.

use std::collections::BTreeSet;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::streams::files::{Done, Entry, ToBridge, Watch, What};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;

use super::{Batch, Stop};
use crate::fault::fault;
use crate::path::{HIDDEN, Rel};
use crate::peer::Peer;
use crate::tree::{Stat, Tree};

/// Nobody waits longer at once.
const LONGEST: Duration = Duration::from_secs(600);

/// What comes within this time after the first change is told with it.
const TOGETHER: Duration = Duration::from_millis(50);

/// So many wait at once: each holds a thread.
const WATCHERS: usize = 16;

/// So many names are told.
const NAMES: usize = 1_000;

/// What an entry takes in a message besides its path.
const OVERHEAD: usize = 96;

/// One of those who may wait.
struct Place;

static WAITING: AtomicUsize = AtomicUsize::new(0);

impl Place {
    fn take() -> Result<Self, Failure> {
        if WAITING.fetch_add(1, Ordering::Relaxed) >= WATCHERS {
            WAITING.fetch_sub(1, Ordering::Relaxed);
            let text = format!("{WATCHERS} others wait for changes of this root already");
            return Err(Failure::new(Kind::Busy, text));
        }
        Ok(Self)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        WAITING.fetch_sub(1, Ordering::Relaxed);
    }
}

pub(super) fn watch(tree: &Tree, watch: &Watch, peer: &mut dyn Peer) -> Result<Done, Stop> {
    let path = Rel::parse(&watch.path)?;
    let _place = Place::take()?;
    let failed = |error: Errno| Stop::Failed(fault(&path, error));
    let events = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).map_err(failed)?;
    let (found, _) = tree.found(&path)?;
    let real = tree.real(&found, &path)?;
    let shown = |name: &[u8]| {
        !name.starts_with(HIDDEN) && !tree.rules().hidden.fits_itself(real.join(name).as_bytes())
    };
    let flags = WatchFlags::CREATE
        | WatchFlags::DELETE
        | WatchFlags::CLOSE_WRITE
        | WatchFlags::MODIFY
        | WatchFlags::ATTRIB
        | WatchFlags::MOVED_FROM
        | WatchFlags::MOVED_TO
        | WatchFlags::DELETE_SELF
        | WatchFlags::MOVE_SELF;
    // What was found, and not what may have come in its place.
    let handle = format!("/proc/self/fd/{}", found.as_raw_fd());
    inotify::add_watch(&events, handle, flags).map_err(failed)?;
    // What changed before it was watched is seen by its state.
    let before = tree.stat(&path)?;
    if watch.revision.is_some_and(|seen| seen != before.revision) {
        return told(tree, &path, &BTreeSet::new(), peer);
    }
    let deadline = Instant::now() + Duration::from_millis(watch.wait_ms).min(LONGEST);
    let socket = peer.socket();
    let mut names = BTreeSet::new();
    let mut changed = false;
    let mut until = deadline;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        match wait(&events, socket.as_ref(), left).map_err(failed)? {
            Woken::Gone => return Err(Stop::Broken),
            Woken::Late if changed => return told(tree, &path, &names, peer),
            Woken::Late => return Ok(Done { count: Some(0), ..Done::default() }),
            Woken::Events => {}
        }
        let seen = read(&events, &shown, &mut names).map_err(failed)?;
        if seen && !changed {
            changed = true;
            until = deadline.min(Instant::now() + TOGETHER);
        }
    }
}

/// Why a wait ended.
enum Woken {
    Events,
    Late,
    /// Nobody waits for the answer any more, or somebody asks further.
    Gone,
}

fn wait(events: &OwnedFd, socket: Option<&OwnedFd>, left: Duration) -> Result<Woken, Errno> {
    let time = Timespec {
        tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(left.subsec_nanos()),
    };
    let mut fds = vec![PollFd::new(events, PollFlags::IN)];
    fds.extend(socket.map(|socket| PollFd::new(socket, PollFlags::RDHUP)));
    if rustix::io::retry_on_intr(|| poll(&mut fds, Some(&time)))? == 0 {
        return Ok(Woken::Late);
    }
    let over = PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR;
    let gone = fds.get(1).is_some_and(|socket| socket.revents().intersects(over));
    Ok(if gone { Woken::Gone } else { Woken::Events })
}

/// Reads what happened; says whether that is worth telling. What is hidden changes and nobody wakes.
fn read(
    events: &OwnedFd,
    shown: &dyn Fn(&[u8]) -> bool,
    names: &mut BTreeSet<Vec<u8>>,
) -> Result<bool, Errno> {
    let mut buffer = [MaybeUninit::uninit(); 16 << 10];
    let mut reader = inotify::Reader::new(events, &mut buffer);
    let mut worth = false;
    loop {
        match reader.next() {
            Ok(event) => match event.file_name() {
                Some(name) if !shown(name.to_bytes()) => {}
                Some(name) => {
                    worth = true;
                    if names.len() < NAMES {
                        names.insert(name.to_bytes().to_vec());
                    }
                }
                None => worth |= !event.events().contains(ReadFlags::IGNORED),
            },
            Err(Errno::AGAIN) => return Ok(worth),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
}

/// Tells what is there now of what changed. What is gone has the revision 0.
fn told(
    tree: &Tree,
    path: &Rel,
    names: &BTreeSet<Vec<u8>>,
    peer: &mut dyn Peer,
) -> Result<Done, Stop> {
    let mut batch = Batch::new();
    let mut count = 0;
    for name in names {
        let at = path.join(name);
        let entry = match tree.stat_link(&at) {
            Ok(stat) => stat.entry(name),
            Err(_) => gone(name),
        };
        count += 1;
        if let Some(full) = batch.push(entry, name.len() + OVERHEAD) {
            peer.say(&ToBridge::Entries(full))?;
        }
    }
    if let Some(rest) = batch.rest() {
        peer.say(&ToBridge::Entries(rest))?;
    }
    let entry = tree.stat(path).map(|stat: Stat| stat.entry(path.as_bytes()));
    let entry = entry.unwrap_or_else(|_| gone(path.as_bytes()));
    Ok(Done { entry: Some(entry), count: Some(u64::max(count, 1)), ..Done::default() })
}

fn gone(path: &[u8]) -> Entry {
    let path = farwire_protocol::cbor::Blob(path.to_vec());
    let what = What::Other;
    Entry { path, what, size: 0, modified: 0, revision: 0, mode: 0, hash: None, target: None }
}
