//! The spool against a plain vector, with limits so small that everything happens.

use std::os::unix::fs::MetadataExt as _;

use proptest::prelude::*;
use regex::bytes::Regex;

use super::limits::{HOLE, Stream};
use super::*;
use bytes::Bytes;
use farwire_protocol::cbor;

fn tiny() -> SpoolLimits {
    SpoolLimits {
        memory: 64,
        window: 128,
        total: 1 << 20,
        fallback: 256,
        block: 32,
        ahead: u64::MAX,
    }
}

/// A log with both its sides in one process.
struct Log {
    spool: Spool,
    writer: SpoolWriter,
    unblocked: Arc<std::sync::atomic::AtomicUsize>,
}

impl std::ops::Deref for Log {
    type Target = Spool;

    fn deref(&self) -> &Spool {
        &self.spool
    }
}

impl Log {
    fn new(limits: SpoolLimits, path: PathBuf) -> Self {
        let memory = Memory::new().unwrap();
        let unblocked = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let counted = unblocked.clone();
        let spool = Spool::new(memory.clone(), path.clone(), move || {
            counted.fetch_add(1, Ordering::SeqCst);
        });
        Self { spool, writer: SpoolWriter::new(memory, limits, path), unblocked }
    }

    fn append(&mut self, stream: Stream, bytes: Bytes) {
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let fill = |slot: &mut [u8]| {
                let count = rest.len().min(slot.len());
                slot[..count].copy_from_slice(&rest[..count]);
                Ok(count)
            };
            let count = self.writer.append(stream, rest.len(), fill).unwrap();
            rest = &rest[count..];
        }
        self.poke();
    }

    fn finish(&mut self) {
        self.writer.finish();
        self.spool.finish();
    }

    fn marks(&self) -> memory::Marks {
        self.spool.log().marks()
    }
}

fn spool(limits: SpoolLimits) -> (tempfile::TempDir, Log) {
    let directory = tempfile::tempdir().unwrap();
    let log = Log::new(limits, directory.path().join("log"));
    (directory, log)
}

/// The log of another agent that reads the record.
fn as_written(spool: &Spool) -> Spool {
    let written = cbor::encode(&spool.write_down().unwrap());
    Spool::from_written(cbor::decode(&written, 4 << 20).unwrap(), spool.path().into()).unwrap()
}

/// Everything that can be read, by stream, and what was reported as lost.
fn read_all(reader: &mut SpoolReader) -> (Vec<(Stream, u8)>, u64) {
    let (mut all, mut lost) = (Vec::new(), 0);
    loop {
        match reader.next(50) {
            Item::Data(stream, bytes) => all.extend(bytes.iter().map(|&byte| (stream, byte))),
            Item::Gap { stdout, stderr, .. } => lost += stdout + stderr,
            Item::UpToDate { .. } => return (all, lost),
        }
    }
}

proptest! {
    #[test]
    fn what_was_appended_is_read_in_order_with_its_stream(
        pieces in prop::collection::vec((1_u8..3, prop::collection::vec(any::<u8>(), 1..90)), 1..60),
        cut in 0_usize..3000,
    ) {
        let (_directory, mut spool) = spool(tiny());
        let mut early = spool.reader(0, Mode::Lossless);
        let mut model = Vec::new();
        for (stream, bytes) in &pieces {
            spool.append(*stream, Bytes::copy_from_slice(bytes));
            model.extend(bytes.iter().map(|&byte| (*stream, byte)));
        }
        spool.finish();
        prop_assert_eq!(read_all(&mut early), (model.clone(), 0));
        let cut = cut.min(model.len());
        let mut late = spool.reader(cut as u64, Mode::Lagging);
        prop_assert_eq!(read_all(&mut late).0, &model[cut..]);
        // The position of a reader of both streams can be found again from its two counts.
        let of = |stream| model[..cut].iter().filter(|(s, _)| *s == stream).count() as u64;
        prop_assert_eq!(spool.offset_of(of(1), of(2)), Some(cut as u64));
        // The next agent reads the same.
        let next = as_written(&spool);
        prop_assert_eq!(next.stats(), spool.stats());
        prop_assert_eq!(next.offset_of(of(1), of(2)), Some(cut as u64));
        prop_assert_eq!(read_all(&mut next.reader(0, Mode::Lagging)).0, model.clone());
        spool.release_memory();
        prop_assert_eq!(read_all(&mut spool.reader(0, Mode::Lagging)).0, model);
    }

    #[test]
    fn views_equal_those_of_a_plain_text(
        text in prop::collection::vec(prop::sample::select(b"ab\n\n\nxyz".to_vec()), 0..2000),
        first in 1_u64..300,
        count in 0_u64..50,
    ) {
        let (_directory, mut spool) = spool(tiny());
        for part in text.chunks(37) {
            spool.append(1, Bytes::copy_from_slice(part));
        }
        let lines: Vec<&[u8]> = text.split_inclusive(|&byte| byte == b'\n').collect();
        let total = lines.len() as u64;
        prop_assert_eq!(spool.stats().lines, total);
        let slice = |from: u64, count: u64| {
            let from = (from - 1).min(total);
            lines[from as usize..(from + count).min(total) as usize].concat()
        };
        prop_assert_eq!(spool.head(count, 9999).bytes, slice(1, count));
        let range = spool.range(first, count, 9999);
        prop_assert_eq!(&range.bytes, &slice(first, count));
        if first <= total {
            prop_assert_eq!((range.first_line, range.starts_within), (first, false));
        }
        prop_assert_eq!(spool.tail(count, 9999).bytes, slice(total.saturating_sub(count) + 1, count));
        let tail = spool.tail(total, 10);
        prop_assert_eq!(&tail.bytes, &text[text.len().saturating_sub(10)..]);
        let pattern = Regex::new("a.*b").unwrap();
        let expected: Vec<u64> = (1..)
            .zip(&lines)
            .filter(|(number, line)| *number >= first && pattern.is_match(line.strip_suffix(b"\n").unwrap_or(line)))
            .map(|(number, _)| number)
            .collect();
        let (matches, more) = spool.grep(&pattern, first, 1000, 99_999);
        prop_assert_eq!(matches.iter().map(|found| found.line).collect::<Vec<_>>(), expected.clone());
        prop_assert_eq!(more, None);
        let near = |number: &u64| number.saturating_sub(2).max(1)..=(number + 2).min(total);
        let wanted: std::collections::BTreeSet<u64> = expected.iter().flat_map(near).collect();
        let (around, more) = spool.around(&matches, 2, 99_999, None);
        prop_assert_eq!(more, None);
        for line in &around {
            let whole = &lines[usize::try_from(line.first_line - 1).unwrap()];
            prop_assert_eq!(&line.bytes[..], whole.strip_suffix(b"\n").unwrap_or(whole));
        }
        let numbers: Vec<u64> = around.iter().map(|line| line.first_line).collect();
        prop_assert_eq!(numbers, wanted.into_iter().collect::<Vec<_>>());
        let (some, more) = spool.grep(&pattern, first, 2, 99_999);
        prop_assert_eq!(some.len(), expected.len().min(2));
        prop_assert_eq!(more, expected.get(2).copied());
    }
}

#[test]
fn little_output_costs_no_file_and_little_memory() {
    let (directory, mut spool) = spool(SpoolLimits::default());
    spool.append(1, Bytes::from_static(b"hello\n"));
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    assert_eq!(spool.stats().memory, 6);
}

#[test]
fn the_oldest_bytes_go_and_are_counted_and_the_disk_gets_its_space_back() {
    let limits = SpoolLimits { total: 4 << 20, ..SpoolLimits::default() };
    let (directory, mut spool) = spool(limits);
    let line = Bytes::from(vec![b'x'; 9999].into_iter().chain([b'\n']).collect::<Vec<_>>());
    let mut lagging = spool.reader(0, Mode::Lagging);
    for _ in 0..3000 {
        spool.append(1, line.clone());
    }
    let stats = spool.stats();
    assert_eq!((stats.end, stats.lines), (30_000_000, 3000));
    assert!(stats.end - stats.start <= limits.total + HOLE, "{stats:?}");
    assert_eq!(stats.start, stats.dropped_lines * 10_000, "dropped at the ends of lines here");
    let (rest, lost) = read_all(&mut lagging);
    assert_eq!((lost, lost + rest.len() as u64), (stats.start, stats.end));
    let blocks = std::fs::metadata(directory.path().join("log")).unwrap().blocks() * 512;
    assert!(blocks <= limits.total + (2 << 20), "{blocks} bytes on disk");
    assert!(stats.memory < 1 << 20, "{stats:?}");
    assert_eq!(spool.head(1, 99_999).first_line, stats.dropped_lines + 1);
    spool.finish();
    let next = as_written(&spool);
    assert_eq!(next.stats(), spool.stats());
    assert_eq!(next.head(1, 99_999).first_line, stats.dropped_lines + 1);
    // Without the file nothing of it is left, and that is counted, too.
    std::fs::remove_file(directory.path().join("log")).unwrap();
    let stats = as_written(&spool).stats();
    assert_eq!((stats.start, stats.end, stats.dropped_lines), (30_000_000, 30_000_000, 3000));
}

#[test]
fn a_lossless_reader_holds_the_program_and_letting_go_frees_it() {
    let (_directory, mut spool) = spool(SpoolLimits { total: 100, ..tiny() });
    let mut reader = spool.reader(0, Mode::Lossless);
    assert!(spool.writer.has_room());
    spool.append(1, Bytes::from(vec![1; 150]));
    let told = || spool.unblocked.load(Ordering::SeqCst);
    assert!(!spool.writer.has_room() && told() == 0);
    reader.next(140);
    assert!(spool.writer.has_room() && told() == 1, "it has moved, and the writer was told, once");
    reader.next(1);
    assert_eq!(told(), 1, "nobody waited for that");
    spool.append(1, Bytes::from(vec![1; 150]));
    let told = || spool.unblocked.load(Ordering::SeqCst);
    assert!(!spool.writer.has_room());
    drop(reader);
    assert!(spool.writer.has_room() && told() == 2);
}

#[test]
fn a_reader_hears_of_what_came_before_it_listened() {
    let (_directory, mut spool) = spool(tiny());
    let mut reader = spool.reader(0, Mode::Lagging);
    assert!(futures_pending(&mut Box::pin(reader.wait())));
    spool.append(1, Bytes::from_static(b"x"));
    assert!(spool.memory().unwrap().must_tell(), "somebody listens");
    assert!(!spool.memory().unwrap().must_tell(), "and is told once");
    assert!(!futures_pending(&mut Box::pin(reader.wait())));
    assert_eq!(reader.next(9), Item::Data(1, Bytes::from_static(b"x")));
    assert!(futures_pending(&mut Box::pin(reader.wait())));
}

fn futures_pending(future: &mut (impl Future<Output = ()> + Unpin)) -> bool {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    std::pin::Pin::new(future).poll(&mut context).is_pending()
}

/// One thread writes as fast as it can, as if it were another process, and others read what has
/// just been written or dropped.
#[test]
fn what_is_read_while_it_is_written_is_what_was_written() {
    const TOTAL: u64 = 64 << 20;
    let byte = |at: u64| ((at * 31) >> 3) as u8;
    let directory = tempfile::tempdir().unwrap();
    let limits = SpoolLimits { total: 4 << 20, ..SpoolLimits::default() };
    let Log { spool, mut writer, .. } = Log::new(limits, directory.path().join("log"));
    std::thread::scope(|scope| {
        scope.spawn(move || {
            while writer.end() < TOTAL {
                let at = writer.end();
                let stream = 1 + (at / 100_000 % 2) as u8;
                let fill = |slot: &mut [u8]| {
                    slot.iter_mut().zip(at..).for_each(|(place, at)| *place = byte(at));
                    Ok(slot.len())
                };
                writer.append(stream, 1 + (at % 90_001) as usize, fill).unwrap();
            }
        });
        for seed in 0..2 {
            let spool = spool.clone();
            scope.spawn(move || {
                let mut reader = spool.reader(0, Mode::Lagging);
                let mut counted = 0;
                while reader.offset() < TOTAL {
                    let before = reader.offset();
                    match reader.next(30_000 + seed * 70_000) {
                        Item::Data(_, bytes) => {
                            let wrong = bytes.iter().zip(before..).find(|(b, at)| **b != byte(*at));
                            assert_eq!(wrong, None, "from {before} on");
                            counted += bytes.len() as u64;
                        }
                        Item::Gap { stdout, stderr, .. } => counted += stdout + stderr,
                        Item::UpToDate { .. } => std::thread::yield_now(),
                    }
                    assert_eq!(counted, reader.offset());
                }
            });
        }
    });
}

#[test]
fn without_a_disk_the_newest_bytes_are_kept_in_memory() {
    let mut spool = Log::new(tiny(), PathBuf::from("/no/such/directory/log"));
    for n in 0..100_u8 {
        spool.append(1, Bytes::from(vec![n; 10]));
    }
    let stats = spool.stats();
    assert!(stats.memory_only.is_some() && stats.memory <= 256 + 100, "{stats:?}");
    let (rest, lost) = read_all(&mut spool.reader(0, Mode::Lagging));
    assert_eq!(lost + rest.len() as u64, 1000);
    assert_eq!(rest.last(), Some(&(1, 99)));
}

#[test]
fn a_program_that_alternates_with_every_byte_cannot_use_up_memory() {
    let (_directory, mut spool) = spool(SpoolLimits::default());
    for n in 0..200_000_u32 {
        spool.append(1 + (n % 2) as u8, Bytes::from_static(b"."));
    }
    let marks = spool.marks();
    assert!(marks.next_switch - marks.first_switch <= memory::SWITCHES);
    let (first, second) = spool.log().counts_at(&marks, marks.start);
    assert!(marks.start > 0 && first + second == marks.start);
    assert!(first.abs_diff(second) <= 1, "{first} and {second}");
}

#[test]
fn one_endless_line_is_searched_by_its_beginning() {
    let (_directory, mut spool) = spool(SpoolLimits::default());
    for n in 0..40 {
        let filler = if n == 0 { b"needle".to_vec() } else { vec![b'.'; 100_000] };
        spool.append(1, Bytes::from(filler));
    }
    let (matches, _) = spool.grep(&Regex::new("^needle").unwrap(), 1, 10, 9999);
    assert!(matches.len() == 1 && matches[0].cut && matches[0].bytes.len() == SHOWN_LINE);
    let found = |from| {
        let mut search = LogSearch::new(&spool, Regex::new("needle").unwrap(), from);
        std::iter::repeat_with(|| search.step()).find(|step| *step != SearchStep::More).unwrap()
    };
    assert_eq!((found(0), found(1)), (SearchStep::Matched, SearchStep::UpToDate));
}

const SHOWN_LINE: usize = 2 << 10;

#[test]
fn a_search_takes_the_middle_of_no_line_for_its_beginning() {
    let (_directory, mut spool) = spool(SpoolLimits::default());
    let mut search = LogSearch::new(&spool, Regex::new("^[0-9]+ passed").unwrap(), 0);
    let mut goes_on = |bytes: &[u8]| {
        spool.append(1, Bytes::copy_from_slice(bytes));
        std::iter::repeat_with(|| search.step()).find(|step| *step != SearchStep::More).unwrap()
    };
    assert_eq!(goes_on(&[b'.'; 10_000]), SearchStep::UpToDate);
    for byte in b"  12 passed, of 40\nrest of it: " {
        assert_eq!(goes_on(&[*byte]), SearchStep::UpToDate);
    }
    assert_eq!(goes_on(b"12 passed\n40 pass"), SearchStep::UpToDate);
    assert_eq!(goes_on(b"ed"), SearchStep::Matched, "also before its end has come");
}

#[test]
fn a_search_goes_on_in_a_line_without_an_end() {
    let (_directory, mut spool) = spool(SpoolLimits::default());
    let searches = ["^100%", "100%"].map(|text| Regex::new(text).unwrap());
    let mut searches = searches.map(|pattern| LogSearch::new(&spool, pattern, 0));
    let mut goes_on = |bytes: &[u8]| {
        spool.append(1, Bytes::copy_from_slice(bytes));
        searches.each_mut().map(|search| {
            std::iter::repeat_with(|| search.step()).find(|step| *step != SearchStep::More).unwrap()
        })
    };
    for _ in 0..4_000 {
        assert_eq!(goes_on(b" 99% of 20 files, some time is left\r"), [SearchStep::UpToDate; 2]);
    }
    assert_eq!(goes_on(b"10"), [SearchStep::UpToDate; 2]);
    assert_eq!(goes_on(b"0%"), [SearchStep::UpToDate, SearchStep::Matched]);
}

#[test]
fn the_file_stays_until_nobody_will_ask_for_it() {
    let count = |directory: &tempfile::TempDir| std::fs::read_dir(directory).unwrap().count();
    let (directory, mut log) = spool(tiny());
    log.append(1, Bytes::from(vec![1; 1000]));
    drop(log);
    assert_eq!(count(&directory), 1, "a holder may still write to it");

    let (directory, mut log) = spool(tiny());
    log.append(1, Bytes::from(vec![1; 1000]));
    log.finish();
    let again = log.spool.clone();
    drop(log);
    assert_eq!(count(&directory), 1, "the next agent may be asked for it");
    again.discard();
    assert_eq!(count(&directory), 1, "somebody may be reading it");
    drop(again);
    assert_eq!(count(&directory), 0);
}

#[test]
fn what_is_finished_holds_no_descriptor_and_no_more_memory_than_it_has_bytes() {
    let (_directory, mut log) = spool(SpoolLimits::default());
    log.append(1, Bytes::from(vec![b'x'; 5_000]));
    log.finish();
    assert!(log.memory().is_none() && log.stats().memory == 5_000);

    let (_directory, mut log) = spool(SpoolLimits::default());
    let text: Vec<u8> = (0..1 << 20).map(|at: u32| (at / 7) as u8).collect();
    log.append(1, Bytes::from(text.clone()));
    log.finish();
    assert!(log.memory().is_none() && log.stats().memory == 0);
    assert!(lock(&log.shared.file).is_none());
    let mut reader = log.reader(0, Mode::Lossless);
    let mut read = Vec::new();
    while let Item::Data(1, bytes) = reader.next(100_000) {
        read.extend_from_slice(&bytes);
    }
    assert!(read == text, "it is read from the file all the same");
}

#[test]
fn a_reader_that_was_cut_is_told_what_it_missed_and_nothing_else() {
    let (_directory, mut spool) = spool(SpoolLimits { total: 1 << 20, ..SpoolLimits::default() });
    for n in 0..400_u32 {
        spool.append(1 + (n % 2) as u8, Bytes::from(vec![b'\n'; 10_000]));
    }
    let marks = spool.marks();
    assert!(marks.start > 200_000);
    let mut reader = spool.reader(30_000, Mode::Lossless).having(20_000, 10_000);
    let (first, second) = spool.log().counts_at(&marks, marks.start);
    let Item::Gap { stdout, stderr, .. } = reader.next(1) else { panic!("no gap") };
    assert_eq!((stdout, stderr), (first - 20_000, second - 10_000));
}

#[test]
fn memory_of_another_size_is_refused() {
    let file = File::open("/dev/null").unwrap();
    assert!(Memory::open(file.into()).is_err());
}

#[test]
fn the_place_of_whoever_types_is_given_to_nobody_else_while_they_do() {
    let memory = Memory::new().unwrap();
    let id = |n: u8| [n; 16];
    let first = memory.seat(id(0), false, 0).unwrap();
    memory.took(first, 7);
    let mut others = (1..=200).map(|n| memory.seat(id(n), false, first.bit()).unwrap());
    assert!(others.all(|place| place != first));
    assert_eq!(memory.seat(id(0), true, first.bit()), Some(first), "it is still theirs");
    assert_eq!(memory.bytes_taken(first), Some(7));
    assert_eq!(memory.seat(id(201), false, u64::MAX), None, "there is none");
}

#[test]
fn whoever_returns_to_a_place_that_was_given_away_types_nothing_twice() {
    let memory = Memory::new().unwrap();
    let id = |n: u8| [n; 16];
    let first = memory.seat(id(0), false, 0).unwrap();
    assert_eq!(memory.bytes_taken(first), Some(0), "a new client has typed nothing");
    memory.took(first, 7);
    for other in 1..=64 {
        memory.seat(id(other), false, 0).unwrap();
    }
    let again = memory.seat(id(0), true, 0).unwrap();
    assert_eq!(memory.bytes_taken(again), None);
    // It may not have heard that, and comes once more.
    memory.settle(again);
    assert_eq!(memory.seat(id(0), true, 0), Some(again));
    assert_eq!(memory.bytes_taken(again), None);
    // What it types now it counts from 0.
    memory.begin_taking(again, 5);
    assert_eq!(memory.bytes_taken(again), None);
    memory.took_more(again, 3);
    memory.settle(again);
    assert_eq!(memory.bytes_taken(again), Some(3));
}

#[test]
fn what_an_agent_died_over_stays_unknown_until_the_client_counts_anew() {
    let memory = Memory::new().unwrap();
    let place = memory.seat([1; 16], false, 0).unwrap();
    memory.took(place, 7);
    memory.begin_taking(place, 9);
    for _ in 0..2 {
        assert_eq!(memory.seat([1; 16], true, 0), Some(place));
        assert_eq!(memory.bytes_taken(place), None);
        memory.settle(place);
    }
    memory.begin_taking(place, 4);
    memory.took(place, 4);
    assert_eq!(memory.seat([1; 16], true, 0), Some(place));
    assert_eq!(memory.bytes_taken(place), Some(4));
}

#[test]
fn a_line_is_matched_as_a_terminal_shows_it_and_shown_as_it_is() {
    let (_directory, mut spool) = spool(SpoolLimits::default());
    let said = b"\x1b[?2004l\r\x1b]133;C;abc;1\x07DONE\r\n\x1b[32m9999\x1b[0m\r\n";
    spool.append(1, Bytes::from_static(said));
    for pattern in ["^DONE$", "^9999$"] {
        let pattern = Regex::new(pattern).unwrap();
        let mut search = LogSearch::new(&spool, pattern.clone(), 0);
        assert_eq!(search.step(), SearchStep::Matched, "{pattern}");
        let (matches, _) = spool.grep(&pattern, 1, 10, 9999);
        assert_eq!(matches.len(), 1, "{pattern}");
        assert!(matches[0].bytes.ends_with(b"\r"), "{pattern}");
    }
}
