//! The memory of one log, shared by its writer and its readers.
//!
//! ```text
//!     Head | switches: ring of (offset and stream, count) | index: ring of (offset, lines) | bytes: ring
//! ```
//!
//! It is a file without a name that both sides have mapped. One side writes: a holder process. The
//! other reads: the agent, which may be killed and come again. Neither waits for the other.
//!
//! # Invariants
//!
//! - [`Marks`] are published under a sequence number that is odd meanwhile: a reader gets all of
//!   them from one moment, or looks again.
//! - An entry or a byte is in place before the marks say so, and is overwritten only after they
//!   have said that it is gone. After copying, a reader checks the marks again before it trusts the
//!   copy.
//! - A position computed from what the other side has written is always reduced to the size of its
//!   ring: a writer that writes nonsense makes a reader read nonsense, and nothing else.

#![expect(unsafe_code, reason = "memory that two processes have mapped")]

mod typists;

use std::io;
use std::os::fd::OwnedFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

pub(crate) use self::typists::TypistSlot;
use self::typists::{TYPISTS, Typist};

/// At most this many changes between streams are kept.
pub(super) const SWITCHES: u64 = 65_536;

/// At most this many entries of the line index are kept.
pub(super) const ENTRIES: u64 = 8_192;

/// At most this many bytes of a log are in memory.
pub(super) const RING: u64 = 1 << 20;

const HEAD: usize = 4_096;
const SWITCHES_AT: usize = HEAD;
const INDEX_AT: usize = SWITCHES_AT + 16 * SWITCHES as usize;
const RING_AT: usize = INDEX_AT + 16 * ENTRIES as usize;
const LENGTH: usize = RING_AT + RING as usize;

/// A reader that finds the marks changing this often yields the processor to the writer.
const SPINS: u64 = 1_000;

/// After this long the reader assumes that the writer died in the middle of an update. On a busy
/// machine the writer may merely be waiting, and marks from two moments are not to be believed, so
/// it is generous.
const DEAD: Duration = Duration::from_secs(2);

/// The extent of a log at one moment.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Marks {
    /// The offset of the oldest byte that is kept.
    pub(super) start: u64,
    /// Line feeds before it.
    pub(super) start_lines: u64,
    /// The offset after the newest byte.
    pub(super) end: u64,
    /// Line feeds before it.
    pub(super) lines: u64,
    /// From here on bytes are in the ring.
    pub(super) ring: u64,
    /// Up to here bytes are in the file.
    pub(super) file: u64,
    /// The first switch that is kept.
    pub(super) first_switch: u64,
    /// The next switch to be made.
    pub(super) next_switch: u64,
    /// The first entry of the line index that is kept.
    pub(super) first_entry: u64,
    /// The next entry to be made.
    pub(super) next_entry: u64,
    /// Whether the last byte is a line feed, or there is none: 0 or 1.
    pub(super) whole: u64,
    /// Whether there is a file: 0 or 1.
    pub(super) filed: u64,
    /// The error number of the disk, once it has failed.
    pub(super) failed: u64,
}

pub(super) const MARKS: usize = 13;

impl Marks {
    pub(super) fn numbers(&self) -> [u64; MARKS] {
        [
            self.start,
            self.start_lines,
            self.end,
            self.lines,
            self.ring,
            self.file,
            self.first_switch,
            self.next_switch,
            self.first_entry,
            self.next_entry,
            self.whole,
            self.filed,
            self.failed,
        ]
    }

    pub(super) fn from_numbers(numbers: [u64; MARKS]) -> Self {
        let [start, start_lines, end, lines, ring, file, rest @ ..] = numbers;
        let [first_switch, next_switch, first_entry, next_entry, whole, filed, failed] = rest;
        Self {
            start,
            start_lines,
            end,
            lines,
            ring,
            file,
            first_switch,
            next_switch,
            first_entry,
            next_entry,
            whole,
            filed,
            failed,
        }
    }
}

#[repr(C)]
struct MemoryHead {
    sequence: AtomicU64,
    marks: [AtomicU64; MARKS],
    /// The lowest offset that a lossless reader has not read; `u64::MAX` without one.
    hold: AtomicU64,
    /// The writer waits for a reader.
    blocked: AtomicU32,
    /// The reading side wants to hear of the next change.
    listening: AtomicU32,
    /// How many bytes of standard input have been passed on.
    input: AtomicU64,
    /// The same for each client that types into a terminal; the oldest is overwritten first.
    typists: [Typist; TYPISTS],
    next_typist: AtomicU64,
    /// An agent has read everything before this offset, and has answered the terminal queries in
    /// it.
    seen: AtomicU64,
    /// The number of the last event of a session.
    events: AtomicU64,
    /// What `input` will be after the current write: more than `input` only during a write, or if
    /// an agent died in one.
    input_begun: AtomicU64,
}

/// The mapped memory.
#[derive(Debug)]
pub(crate) struct Memory {
    base: NonNull<u8>,
    /// What the other side maps; the mapping needs it no longer.
    file: Mutex<Option<Arc<OwnedFd>>>,
}

// SAFETY: everything in it is atomic, or guarded as the module says.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

impl Memory {
    /// The memory of an empty log.
    pub(crate) fn new() -> io::Result<Arc<Self>> {
        let file = unnamed()?;
        let memory = Self::map(file)?;
        memory.head().hold.store(u64::MAX, Ordering::Relaxed);
        Ok(Arc::new(memory))
    }

    /// Memory that the other side has made.
    pub(crate) fn open(file: OwnedFd) -> io::Result<Arc<Self>> {
        if rustix::fs::fstat(&file)?.st_size.unsigned_abs() != LENGTH as u64 {
            return Err(io::Error::other("the memory of a log has another size"));
        }
        Self::map(file).map(Arc::new)
    }

    fn map(file: OwnedFd) -> io::Result<Self> {
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: asks for new pages wherever there is room. The file cannot become shorter than
        // the mapping: see `unnamed`.
        let base =
            unsafe { mmap(std::ptr::null_mut(), LENGTH, access, MapFlags::SHARED, &file, 0)? };
        let base = NonNull::new(base.cast()).ok_or_else(|| io::Error::other("mapped nowhere"))?;
        Ok(Self { base, file: Mutex::new(Some(Arc::new(file))) })
    }

    /// What the other side needs to map it too, until [`Self::let_go_of_file`].
    pub(crate) fn file(&self) -> Option<Arc<OwnedFd>> {
        self.lock().clone()
    }

    /// Closes the file, since the other side has it: with thousands of logs, only the mappings are
    /// kept.
    pub(crate) fn let_go_of_file(&self) {
        *self.lock() = None;
    }

    fn lock(&self) -> MutexGuard<'_, Option<Arc<OwnedFd>>> {
        self.file.lock().expect("nothing panics while it is held")
    }

    fn head(&self) -> &MemoryHead {
        // SAFETY: the mapping begins with it, is aligned to a page, and lives as long as `self`.
        // Any bytes are a valid value.
        unsafe { self.base.cast::<MemoryHead>().as_ref() }
    }

    fn pair(&self, at: usize, slot: u64, count: u64) -> (&AtomicU64, &AtomicU64) {
        let at = at + 16 * usize::try_from(slot % count).unwrap_or(0);
        // SAFETY: the remainder keeps it within its ring, which is aligned and within the mapping.
        unsafe {
            let first = self.base.add(at).cast::<AtomicU64>();
            (first.as_ref(), first.add(1).as_ref())
        }
    }

    fn get(&self, at: usize, slot: u64, count: u64) -> (u64, u64) {
        let (first, second) = self.pair(at, slot, count);
        (first.load(Ordering::Relaxed), second.load(Ordering::Relaxed))
    }

    fn set(&self, at: usize, slot: u64, count: u64, value: (u64, u64)) {
        let (first, second) = self.pair(at, slot, count);
        first.store(value.0, Ordering::Relaxed);
        second.store(value.1, Ordering::Relaxed);
    }

    pub(super) fn switch(&self, slot: u64) -> (u64, u64) {
        self.get(SWITCHES_AT, slot, SWITCHES)
    }

    pub(super) fn set_switch(&self, slot: u64, value: (u64, u64)) {
        self.set(SWITCHES_AT, slot, SWITCHES, value);
    }

    pub(super) fn entry(&self, slot: u64) -> (u64, u64) {
        self.get(INDEX_AT, slot, ENTRIES)
    }

    pub(super) fn set_entry(&self, slot: u64, value: (u64, u64)) {
        self.set(INDEX_AT, slot, ENTRIES, value);
    }

    /// All marks from one moment.
    pub(super) fn marks(&self) -> Marks {
        let head = self.head();
        let mut waiting = None;
        for spin in 0.. {
            let before = head.sequence.load(Ordering::Acquire);
            let values = head.marks.each_ref().map(|mark| mark.load(Ordering::Relaxed));
            fence(Ordering::Acquire);
            let same = head.sequence.load(Ordering::Relaxed) == before;
            let dead = waiting.is_some_and(|since: Instant| since.elapsed() > DEAD);
            if same && before.is_multiple_of(2) || dead {
                return Marks::from_numbers(values);
            }
            if spin < SPINS {
                std::hint::spin_loop();
            } else {
                waiting.get_or_insert_with(Instant::now);
                std::thread::yield_now();
            }
        }
        Marks::default()
    }

    /// Publishes marks. For the one writer.
    pub(super) fn publish(&self, marks: &Marks) {
        let head = self.head();
        let before = head.sequence.load(Ordering::Relaxed);
        // A writer that died during an update left an odd number: this update continues from it.
        let odd = before | 1;
        head.sequence.store(odd, Ordering::Relaxed);
        fence(Ordering::Release);
        for (place, value) in head.marks.iter().zip(marks.numbers()) {
            place.store(value, Ordering::Relaxed);
        }
        head.sequence.store(odd + 1, Ordering::Release);
        // Whatever is overwritten from now on is overwritten after that.
        fence(Ordering::SeqCst);
    }

    /// Copies bytes of the ring from `offset` on. The copy is valid if the marks, read again, still
    /// have `offset` in the ring.
    pub(super) fn copy(&self, offset: u64, out: &mut [u8]) {
        let mut done = 0;
        while done < out.len() {
            let at = usize::try_from((offset + done as u64) % RING).unwrap_or(0);
            let length = (out.len() - done).min(RING as usize - at);
            let Some(part) = out.get_mut(done..done + length) else { return };
            // SAFETY: `at + length` is within the ring, and `part` is ours. The writer may be
            // changing these bytes, as the invariants say; then the copy is thrown away.
            unsafe {
                let from = self.base.add(RING_AT + at).as_ptr().cast_const();
                std::ptr::copy_nonoverlapping(from, part.as_mut_ptr(), length);
            }
            done += length;
        }
        fence(Ordering::Acquire);
    }

    /// The bytes of the ring from `offset` on, at most `limit`, up to where it wraps. For the one
    /// writer, which has published that they are not in use.
    #[expect(clippy::mut_from_ref, reason = "there is one writer, and it is `&mut` itself")]
    pub(super) fn slot(&self, offset: u64, limit: usize) -> &mut [u8] {
        let at = usize::try_from(offset % RING).unwrap_or(0);
        let length = limit.min(RING as usize - at);
        // SAFETY: within the ring; nobody else writes there.
        unsafe { std::slice::from_raw_parts_mut(self.base.add(RING_AT + at).as_ptr(), length) }
    }

    /// The lowest offset that a lossless reader has not read.
    pub(super) fn hold(&self) -> Option<u64> {
        Some(self.head().hold.load(Ordering::SeqCst)).filter(|&hold| hold != u64::MAX)
    }

    /// Publishes where lossless readers are. Returns `true` if the writer waits for that.
    pub(super) fn set_hold(&self, hold: Option<u64>) -> bool {
        self.head().hold.store(hold.unwrap_or(u64::MAX), Ordering::SeqCst);
        self.head().blocked.load(Ordering::SeqCst) == 1
            && self.head().blocked.swap(0, Ordering::SeqCst) == 1
    }

    /// Records that the writer waits. It must check the holds once more after this.
    pub(super) fn block(&self) {
        self.head().blocked.store(1, Ordering::SeqCst);
    }

    /// Asks for a notice of the next change. The reading side must check once more after this.
    pub(crate) fn listen(&self) {
        self.head().listening.store(1, Ordering::SeqCst);
    }

    /// Whether the reading side has asked for a notice of a change. Clears the request.
    pub(crate) fn must_tell(&self) -> bool {
        self.head().listening.load(Ordering::SeqCst) == 1
            && self.head().listening.swap(0, Ordering::SeqCst) == 1
    }

    /// How much standard input has been passed on.
    pub(crate) fn input(&self) -> u64 {
        self.head().input.load(Ordering::Relaxed)
    }

    /// Announces a write of at most `bytes` more bytes; [`Self::add_input`] then says how many were
    /// written.
    pub(crate) fn begin_input(&self, bytes: u64) {
        let until = self.input().saturating_add(bytes);
        // SeqCst: another process must see this before the write that follows.
        self.head().input_begun.store(until, Ordering::SeqCst);
    }

    /// Counts bytes of it that have been passed on.
    pub(crate) fn add_input(&self, bytes: u64) {
        let until = self.head().input.fetch_add(bytes, Ordering::SeqCst).saturating_add(bytes);
        self.head().input_begun.store(until, Ordering::SeqCst);
    }

    /// Whether [`Self::input`] is exact: no agent died between writing and counting.
    pub(crate) fn knows_input(&self) -> bool {
        self.head().input_begun.load(Ordering::SeqCst) <= self.input()
    }
}

/// Whether a head fits its page.
const _: () = assert!(size_of::<MemoryHead>() <= HEAD, "a head is at most a page");

impl Memory {
    /// The offset up to which an agent has read.
    pub(crate) fn seen_until(&self) -> u64 {
        self.head().seen.load(Ordering::Relaxed)
    }

    /// Records that an agent has read up to this offset, and answers the queries before it.
    pub(crate) fn see(&self, until: u64) {
        self.head().seen.fetch_max(until, Ordering::Relaxed);
    }

    /// The number of the last event.
    pub(crate) fn events(&self) -> u64 {
        self.head().events.load(Ordering::Relaxed)
    }

    /// Records the number of the last event.
    pub(crate) fn count_events(&self, last: u64) {
        self.head().events.fetch_max(last, Ordering::Relaxed);
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and nothing that borrows from it is left. It cannot fail.
        let _ = unsafe { munmap(self.base.as_ptr().cast(), LENGTH) };
    }
}

/// A file without a name, in memory, that nobody can make shorter.
#[cfg(target_os = "linux")]
fn unnamed() -> io::Result<OwnedFd> {
    use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};

    let file = memfd_create(c"farwire-log", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    rustix::fs::ftruncate(&file, LENGTH as u64)?;
    fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
    Ok(file)
}

/// The closest that other systems have: an unlinked file.
#[cfg(not(target_os = "linux"))]
fn unnamed() -> io::Result<OwnedFd> {
    use rustix::fs::{Mode, OFlags};

    let mut name = [0; 16];
    getrandom::fill(&mut name).map_err(io::Error::other)?;
    let name = std::env::temp_dir().join(format!(".{}", data_encoding::HEXLOWER.encode(&name)));
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::CLOEXEC;
    let file = rustix::fs::open(&name, flags, Mode::RUSR | Mode::WUSR)?;
    rustix::fs::unlink(&name)?;
    rustix::fs::ftruncate(&file, LENGTH as u64)?;
    Ok(file)
}
