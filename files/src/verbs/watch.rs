//! `watch`: waits until something changes, without polling.

use std::collections::{BTreeMap, BTreeSet};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::id::Id;
use farwire_protocol::streams::files::{Done, Entry, ToBridge, Watch, What};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;

use super::batch::Batch;
use super::desk::{Desk, VerbError};
use crate::fault::fault;
use crate::path::{HIDDEN, Rel};
use crate::peer::Peer;
use crate::tree::{EVERYTHING, Stat, Tree};

/// The longest wait.
const LONGEST: Duration = Duration::from_secs(600);

/// Changes within this time after the first one are reported with it.
const TOGETHER: Duration = Duration::from_millis(50);

/// The most waits at once: each holds a thread.
const WATCHERS: usize = 48;

/// The most waits of one device, which keeps threads for its other questions.
const OF_ONE: usize = 12;

/// The most directories that one question watches.
const DIRECTORIES: usize = 4_096;

/// The most names in an answer.
const NAMES: usize = 1_000;

/// The size of an entry in a message, besides its path.
const OVERHEAD: usize = 96;

/// The number of waits of each device.
static WATCHES: Mutex<WatchCounts> = Mutex::new(WatchCounts(BTreeMap::new()));

#[derive(Debug, Default)]
struct WatchCounts(BTreeMap<Id, usize>);

impl WatchCounts {
    fn take(&mut self, device: Id) -> Result<(), Failure> {
        let own = self.0.get(&device).copied().unwrap_or_default();
        let busy = |text: String| Err(Failure::new(Kind::Busy, text));
        if own >= OF_ONE {
            return busy(format!(
                "this device already waits {OF_ONE} times for changes of this root, the maximum"
            ));
        }
        if self.0.values().sum::<usize>() >= WATCHERS {
            return busy(format!(
                "{WATCHERS} requests already wait for changes of this root, the maximum"
            ));
        }
        self.0.insert(device, own + 1);
        Ok(())
    }

    fn leave(&mut self, device: Id) {
        match self.0.get_mut(&device) {
            Some(own) if *own > 1 => *own -= 1,
            _ => drop(self.0.remove(&device)),
        }
    }
}

fn watches() -> MutexGuard<'static, WatchCounts> {
    WATCHES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The right to wait, until it is dropped.
struct WatchPermit(Id);

impl WatchPermit {
    /// Takes a permit for a device.
    fn take(device: Id) -> Result<Self, Failure> {
        watches().take(device)?;
        Ok(Self(device))
    }
}

impl Drop for WatchPermit {
    fn drop(&mut self) {
        watches().leave(self.0);
    }
}

/// The events that are watched in a directory.
const CHANGES: WatchFlags = WatchFlags::CREATE
    .union(WatchFlags::DELETE)
    .union(WatchFlags::CLOSE_WRITE)
    .union(WatchFlags::MODIFY)
    .union(WatchFlags::ATTRIB)
    .union(WatchFlags::MOVED_FROM)
    .union(WatchFlags::MOVED_TO)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MOVE_SELF);

pub(super) fn watch(
    desk: &Desk<'_>,
    watch: &Watch,
    peer: &mut dyn Peer,
) -> Result<Done, VerbError> {
    let tree = desk.tree;
    let path = Rel::parse(&watch.path)?;
    let _place = WatchPermit::take(desk.device)?;
    let deadline = Instant::now() + Duration::from_millis(watch.wait_ms).min(LONGEST);
    let failed = |error: Errno| VerbError::Failed(fault(&path, error));
    if is_missing(tree, &path) {
        // A revision means that it existed before, so its absence is a change.
        let seen = watch.revision.is_some();
        if seen || wait_for(tree, &path, deadline, peer.socket().as_ref())? {
            return send_changes(tree, &path, &BTreeSet::new(), peer);
        }
        return Ok(Done { count: Some(0), ..Done::default() });
    }
    let mut watched = Watched::new(&path)?;
    watched.add(tree, &Rel::ROOT)?;
    if watch.deep.unwrap_or(false) {
        watched.add_all(tree)?;
    }
    // A change before the watch was set up shows in the revision.
    let before = tree.stat(&path)?;
    if watch.revision.is_some_and(|seen| seen != before.revision) {
        return send_changes(tree, &path, &BTreeSet::new(), peer);
    }
    let socket = peer.socket();
    let mut names = BTreeSet::new();
    let mut changed = false;
    let mut until = deadline;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        match wait(&watched.events, socket.as_ref(), left).map_err(failed)? {
            Woken::Gone => return Err(VerbError::Broken),
            Woken::Late if changed => return send_changes(tree, &path, &names, peer),
            Woken::Late => return Ok(Done { count: Some(0), ..Done::default() }),
            Woken::Events => {}
        }
        let seen = watched.read(tree, &mut names).map_err(failed)?;
        if seen && !changed {
            changed = true;
            until = deadline.min(Instant::now() + TOGETHER);
        }
    }
}

fn is_missing(tree: &Tree, path: &Rel) -> bool {
    tree.stat(path)
        .is_err_and(|failure| matches!(failure.kind, Kind::NoSuchFile | Kind::NotADirectory))
}

/// Waits until something exists at a path. Returns whether it does.
fn wait_for(
    tree: &Tree,
    path: &Rel,
    deadline: Instant,
    socket: Option<&OwnedFd>,
) -> Result<bool, VerbError> {
    let failed = |error: Errno| VerbError::Failed(fault(path, error));
    // The nearest existing parent: the path can only appear through it.
    let nearest = || {
        let mut above = path.clone();
        while is_missing(tree, &above) {
            above = above.split().map(|(above, _)| above).unwrap_or_default();
        }
        above
    };
    loop {
        let above = nearest();
        if above == *path {
            return Ok(true);
        }
        let mut watched = Watched::new(&above)?;
        match watched.add(tree, &Rel::ROOT) {
            Err(failure) if failure.kind == Kind::NoSuchFile && !above.is_root() => continue,
            added => added?,
        }
        // No event tells of what appeared before the watch was set up.
        if nearest() != above {
            continue;
        }
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match wait(&watched.events, socket, left).map_err(failed)? {
                Woken::Gone => return Err(VerbError::Broken),
                Woken::Late => return Ok(!is_missing(tree, path)),
                Woken::Events => {}
            }
            if watched.read(tree, &mut BTreeSet::new()).map_err(failed)? {
                break;
            }
        }
    }
}

/// Watches directories beneath a path.
struct Watched {
    path: Rel,
    events: OwnedFd,
    /// The path of each relative to the first one, and its real path.
    directories: BTreeMap<i32, (Rel, Rel)>,
}

impl Watched {
    fn new(path: &Rel) -> Result<Self, Failure> {
        let events = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC);
        let events = events.map_err(|error| fault(path, error))?;
        Ok(Self { path: path.clone(), events, directories: BTreeMap::new() })
    }

    /// Adds a directory.
    fn add(&mut self, tree: &Tree, at: &Rel) -> Result<(), Failure> {
        let path = self.path.join(at.as_bytes());
        let (found, _) = tree.find(&path)?;
        let real = tree.real(&found, &path)?;
        // Watches the directory that was found, and not one that has taken its place.
        let handle = format!("/proc/self/fd/{}", found.as_raw_fd());
        let number = inotify::add_watch(&self.events, handle, CHANGES);
        let number = number.map_err(|error| fault(&path, error))?;
        self.directories.insert(number, (at.clone(), real));
        Ok(())
    }

    /// Adds all directories beneath it.
    fn add_all(&mut self, tree: &Tree) -> Result<(), Failure> {
        let path = self.path.clone();
        if tree.stat(&path)?.what != What::Directory {
            return Ok(());
        }
        tree.walk(&path, EVERYTHING, &mut |visited| {
            tree.listener().check_after_name()?;
            let failed = |error| fault(&path.join(visited.at.as_bytes()), error);
            let what = visited.what().map_err(failed)?;
            if what != Some(What::Directory) {
                return Ok(false);
            }
            if self.directories.len() >= DIRECTORIES {
                let text = format!("{path} has more than {DIRECTORIES} directories");
                return Err(Failure::new(Kind::TooLarge, text).with_hint("watch a part of it"));
            }
            match self.add(tree, visited.at) {
                Err(failure) if failure.kind == Kind::NoSuchFile => Ok(false),
                added => added.map(|()| true),
            }
        })?;
        Ok(())
    }

    /// Reads events. Returns whether any is worth reporting: changes of hidden files wake nobody.
    fn read(&self, tree: &Tree, names: &mut BTreeSet<Vec<u8>>) -> Result<bool, Errno> {
        let mut buffer = [MaybeUninit::uninit(); 16 << 10];
        let mut reader = inotify::Reader::new(&self.events, &mut buffer);
        let mut worth = false;
        loop {
            let event = match reader.next() {
                Ok(event) => event,
                Err(Errno::AGAIN) => return Ok(worth),
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error),
            };
            let Some(name) = event.file_name().map(|name| name.to_bytes()) else {
                worth |= !event.events().contains(ReadFlags::IGNORED);
                continue;
            };
            let Some((at, real)) = self.directories.get(&event.wd()) else {
                // The queue overflowed, so something has changed.
                worth = true;
                continue;
            };
            let hidden = &tree.rules().hidden;
            if name.starts_with(HIDDEN) || hidden.fits_itself(real.join(name).as_bytes()) {
                continue;
            }
            worth = true;
            if names.len() < NAMES {
                names.insert(at.join(name).as_bytes().to_vec());
            }
        }
    }
}

/// Why a wait ended.
enum Woken {
    Events,
    Late,
    /// The answer is no longer wanted, or another question came.
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

/// Sends the current entries of what changed. What no longer exists has revision 0.
fn send_changes(
    tree: &Tree,
    path: &Rel,
    names: &BTreeSet<Vec<u8>>,
    peer: &mut dyn Peer,
) -> Result<Done, VerbError> {
    let mut batch = Batch::new();
    let mut count = 0;
    for name in names {
        let at = path.join(name);
        let entry = match tree.stat_link(&at) {
            Ok(stat) => stat.entry(name),
            Err(_) => missing_entry(name),
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
    let entry = entry.unwrap_or_else(|_| missing_entry(path.as_bytes()));
    Ok(Done { entry: Some(entry), count: Some(u64::max(count, 1)), ..Done::default() })
}

fn missing_entry(path: &[u8]) -> Entry {
    let path = farwire_protocol::cbor::Blob(path.to_vec());
    let what = What::Other;
    Entry { path, what, size: 0, modified: 0, revision: 0, mode: 0, hash: None, target: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_device_waits_so_often_and_leaves_room_for_others() {
        let mut waiting = WatchCounts::default();
        let (a, b) = (Id([0; 32]), |n: u8| Id([n; 32]));
        for _ in 0..OF_ONE {
            waiting.take(a).unwrap();
        }
        assert_eq!(waiting.take(a).unwrap_err().kind, Kind::Busy);
        let others = (1..=u8::MAX).take_while(|n| waiting.take(b(*n)).is_ok()).count();
        assert_eq!(others, WATCHERS - OF_ONE);
        waiting.leave(a);
        waiting.take(a).unwrap();
        (0..OF_ONE).for_each(|_| waiting.leave(a));
        (1..=u8::MAX).take(others).for_each(|n| waiting.leave(b(n)));
        assert!(waiting.0.is_empty());
    }
}
