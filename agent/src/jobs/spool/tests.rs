//! The spool against a plain vector, with limits so small that everything happens.

use std::os::unix::fs::MetadataExt as _;

use proptest::prelude::*;
use regex::bytes::Regex;

use super::*;

fn tiny() -> Limits {
    Limits { memory: 64, window: 128, total: 1 << 20, fallback: 256, block: 32 }
}

fn spool(limits: Limits) -> (tempfile::TempDir, Spool) {
    let directory = tempfile::tempdir().unwrap();
    let spool = Spool::new(limits, directory.path().join("log"));
    (directory, spool)
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
        let (_directory, spool) = spool(tiny());
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
        // Where a reader of both streams was cut is found again from its two counts.
        let of = |stream| model[..cut].iter().filter(|(s, _)| *s == stream).count() as u64;
        prop_assert_eq!(spool.offset_of(of(1), of(2)), Some(cut as u64));
        spool.release_memory();
        prop_assert_eq!(read_all(&mut spool.reader(0, Mode::Lagging)).0, model);
    }

    #[test]
    fn views_equal_those_of_a_plain_text(
        text in prop::collection::vec(prop::sample::select(b"ab\n\n\nxyz".to_vec()), 0..2000),
        first in 1_u64..300,
        count in 0_u64..50,
    ) {
        let (_directory, spool) = spool(tiny());
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
        let (some, more) = spool.grep(&pattern, first, 2, 99_999);
        prop_assert_eq!(some.len(), expected.len().min(2));
        prop_assert_eq!(more, expected.get(2).copied());
    }
}

#[test]
fn little_output_costs_no_file_and_little_memory() {
    let (directory, spool) = spool(Limits::default());
    spool.append(1, Bytes::from_static(b"hello\n"));
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    assert_eq!(spool.stats().memory, 6);
}

#[test]
fn the_oldest_bytes_go_and_are_counted_and_the_disk_gets_its_space_back() {
    let limits = Limits { total: 4 << 20, ..Limits::default() };
    let (directory, spool) = spool(limits);
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
}

#[tokio::test]
async fn a_lossless_reader_holds_the_program_and_letting_go_frees_it() {
    let (_directory, spool) = spool(Limits { total: 100, ..tiny() });
    let reader = spool.reader(0, Mode::Lossless);
    spool.room().await;
    spool.append(1, Bytes::from(vec![1; 150]));
    let mut room = Box::pin(spool.room());
    assert!(futures_pending(&mut room), "there is no room");
    drop(reader);
    room.await;
}

fn futures_pending(future: &mut (impl Future<Output = ()> + Unpin)) -> bool {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    std::pin::Pin::new(future).poll(&mut context).is_pending()
}

#[test]
fn without_a_disk_the_newest_bytes_are_kept_in_memory() {
    let spool = Spool::new(tiny(), PathBuf::from("/no/such/directory/log"));
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
    let (_directory, spool) = spool(Limits::default());
    for n in 0..200_000_u32 {
        spool.append(1 + (n % 2) as u8, Bytes::from_static(b"."));
    }
    let inner = spool.lock();
    assert!(inner.switches.len() <= SWITCHES + 1);
    assert_eq!(inner.gone[1] + inner.gone[2], inner.start);
}

#[test]
fn one_endless_line_is_searched_by_its_beginning() {
    let (_directory, spool) = spool(Limits::default());
    for n in 0..40 {
        let filler = if n == 0 { b"needle".to_vec() } else { vec![b'.'; 100_000] };
        spool.append(1, Bytes::from(filler));
    }
    let (matches, _) = spool.grep(&Regex::new("^needle").unwrap(), 1, 10, 9999);
    assert!(matches.len() == 1 && matches[0].cut && matches[0].bytes.len() == SHOWN_LINE);
    assert!(spool.matches_after(&Regex::new("needle").unwrap(), 0));
    assert!(!spool.matches_after(&Regex::new("needle").unwrap(), 1));
}

const SHOWN_LINE: usize = 2 << 10;

#[test]
fn the_file_is_gone_with_its_spool() {
    let (directory, spool) = spool(tiny());
    spool.append(1, Bytes::from(vec![1; 1000]));
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
    drop(spool);
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[test]
fn what_is_finished_holds_no_descriptor_and_no_more_memory_than_it_has_bytes() {
    let (_directory, log) = spool(Limits::default());
    let large = Bytes::from(vec![b'x'; 64 << 10]);
    log.append(1, large.slice(..5_000));
    log.finish();
    {
        let inner = log.lock();
        assert!(inner.file.is_none() && inner.memory.len() == 1 && inner.memory[0].len() == 5_000);
    }
    assert!(large.try_into_mut().is_ok(), "nobody holds the whole buffer for a part of it");

    let (_directory, log) = spool(Limits::default());
    let text: Vec<u8> = (0..1 << 20).map(|at: u32| (at / 7) as u8).collect();
    log.append(1, Bytes::from(text.clone()));
    log.finish();
    {
        let inner = log.lock();
        assert!(inner.filed && inner.file.is_none() && inner.memory.is_empty());
    }
    let mut reader = log.reader(0, Mode::Lossless);
    let mut read = Vec::new();
    while let Item::Data(1, bytes) = reader.next(100_000) {
        read.extend_from_slice(&bytes);
    }
    assert!(read == text, "it is read from the file all the same");
}
