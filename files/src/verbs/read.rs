//! `read`: bytes, lines or the end of a file.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::ops::Range;

use farwire_protocol::cbor::Blob;
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::streams::files::{Done, Part, Read, ToBridge};

use super::desk::{Desk, VerbError};
use super::list;
use super::memory::MemoryShare;
use crate::path::Rel;
use crate::peer::{OpenedFile, Peer};
use crate::tree::{Stat, has_no_size};

/// The largest file whose lines are counted to the end.
const COUNTED: u64 = 64 << 20;

/// The most bytes of an answer in lines.
const BUDGET: usize = 4 << 20;

const BLOCK: usize = 128 << 10;

pub(super) fn read(desk: &Desk<'_>, read: &Read, peer: &mut dyn Peer) -> Result<Done, VerbError> {
    let (tree, listener) = (desk.tree, desk.tree.listener());
    let path = Rel::parse(&read.path)?;
    let (mut file, stat) = tree.open(&path)?;
    if read.revision.is_some_and(|expected| expected != stat.revision) {
        return Err(crate::tree::changed_meanwhile(&path).into());
    }
    peer.say(&ToBridge::Entries(vec![stat.entry(path.as_bytes())]))?;
    let failed = |error: std::io::Error| {
        VerbError::Failed(Failure::new(Kind::Io, format!("{path}: {error}")))
    };
    let mut done = Done::default();
    if read.hash.unwrap_or(false) {
        let copy = file.try_clone().map_err(failed)?;
        let bytes = match (read.before, read.part) {
            (Some(true), Part::Bytes { offset, .. }) => offset,
            _ => u64::MAX,
        };
        done.hash = Some(Blob(list::digest_of(copy, bytes, listener).map_err(failed)?));
        file.rewind().map_err(failed)?;
    }
    let mut share = MemoryShare::default();
    let no_size = has_no_size(&file, &stat);
    let size = if no_size { u64::MAX } else { stat.size };
    match read.part {
        Part::Bytes { offset, length } if no_size => {
            let wanted = offset..length.map_or(u64::MAX, |length| offset.saturating_add(length));
            let (bytes, more) = send_to_end(desk, &file, wanted, peer)?;
            done.bytes = Some(bytes);
            done.more = Some(more);
        }
        Part::Bytes { offset, length } => {
            let rest = stat.size.saturating_sub(offset);
            let length = length.unwrap_or(rest).min(rest);
            peer.file_of(OpenedFile { file: &file, path: &path, stat: &stat }, offset, length)?;
            done.bytes = Some(length);
            done.more = Some(offset.saturating_add(length) < stat.size);
        }
        Part::Lines { first, count, budget } => {
            share.take(memory_for_lines(size, budget))?;
            let first = first.max(1);
            let wanted = first..first.saturating_add(count.into());
            let mut reads = listener.reader(file.try_clone().map_err(failed)?);
            let lines = lines(&mut reads, &stat, wanted, limit(budget)).map_err(failed)?;
            lines.send(&mut done, peer)?;
            say_if_changed(OpenedFile { file: &file, path: &path, stat: &stat }, peer)?;
        }
        Part::Tail { count, budget } => {
            share.take(memory_for_lines(size, budget))?;
            let (many, limit) = (u64::from(count), limit(budget));
            let lines = match no_size {
                true => tail_to_end(&mut listener.reader(&file), many, limit),
                false => tail(&mut file, &stat, many, limit),
            };
            let lines = lines.map_err(failed)?;
            lines.send(&mut done, peer)?;
            say_if_changed(OpenedFile { file: &file, path: &path, stat: &stat }, peer)?;
        }
    }
    Ok(done)
}

/// Sends a range of a file without a size. Returns how many bytes there were, and whether more
/// follow.
fn send_to_end(
    desk: &Desk<'_>,
    mut file: &File,
    wanted: Range<u64>,
    peer: &mut dyn Peer,
) -> Result<(u64, bool), VerbError> {
    let failed = |error: std::io::Error| {
        VerbError::Failed(Failure::caused(Kind::Io, "the file cannot be read on", &error))
    };
    let mut block = vec![0; BLOCK];
    let (mut at, mut sent) = (0, 0);
    file.rewind().map_err(failed)?;
    // Some of these files cannot be read from the middle.
    loop {
        desk.tree.listener().check()?;
        let length = file.read(&mut block).map_err(failed)?;
        let next = at + length as u64;
        let within = |end: u64| usize::try_from(end.clamp(at, next) - at).unwrap_or(length);
        let (from, to) = (within(wanted.start), within(wanted.end));
        let bytes = block.get(from..to).unwrap_or_default();
        peer.data(bytes)?;
        sent += bytes.len() as u64;
        if length == 0 || next > wanted.end {
            return Ok((sent, next > wanted.end));
        }
        at = next;
    }
}

/// Sends the current entry of a file if it changed while it was read.
fn say_if_changed(opened: OpenedFile<'_>, peer: &mut dyn Peer) -> Result<(), VerbError> {
    match rustix::fs::fstat(opened.file).map(|now| Stat::new(&now)) {
        Ok(now) if now.revision != opened.stat.revision => {
            peer.say(&ToBridge::Entries(vec![now.entry(opened.path.as_bytes())]))?;
        }
        _ => {}
    }
    Ok(())
}

fn limit(budget: u32) -> usize {
    usize::try_from(budget).unwrap_or(BUDGET).min(BUDGET)
}

/// Memory for collecting lines: twice their size, because they are joined.
fn memory_for_lines(size: u64, budget: u32) -> usize {
    let found = limit(budget).min(usize::try_from(size).unwrap_or(BUDGET));
    2 * (found + BLOCK)
}

/// A range of lines.
#[derive(Debug, Default, Eq, PartialEq)]
struct Lines {
    bytes: Vec<u8>,
    /// The number of the first line. Unknown if the file before it was not read.
    first: Option<u64>,
    /// The number of lines in the file, if they were counted.
    all: Option<u64>,
    /// Whether a part of what was asked for is missing.
    cut: bool,
    count: u64,
}

impl Lines {
    fn send(self, done: &mut Done, peer: &mut dyn Peer) -> Result<(), VerbError> {
        peer.data(&self.bytes)?;
        done.bytes = Some(self.bytes.len() as u64);
        done.first = self.first;
        done.lines = self.all;
        done.count = Some(self.count);
        done.more = Some(self.cut);
        Ok(())
    }
}

/// Counts lines. The last one may lack its newline.
fn count(bytes: &[u8]) -> u64 {
    let ends = bytes.iter().filter(|&&byte| byte == b'\n').count() as u64;
    ends + u64::from(bytes.last().is_some_and(|&byte| byte != b'\n'))
}

/// The lines with these numbers, counted from 1, as many as fit.
fn lines(
    file: &mut impl std::io::Read,
    stat: &Stat,
    wanted: Range<u64>,
    budget: usize,
) -> std::io::Result<Lines> {
    let Range { start: first, end } = wanted;
    let mut found = Lines { first: Some(first), ..Lines::default() };
    let mut block = vec![0; BLOCK];
    let mut line = 1;
    let mut open = false;
    loop {
        let length = file.read(&mut block)?;
        let Some(bytes) = block.get(..length).filter(|bytes| !bytes.is_empty()) else { break };
        let mut rest = bytes;
        while line < end && !rest.is_empty() {
            let at = rest.iter().position(|&byte| byte == b'\n');
            let (piece, next) = rest.split_at(at.map_or(rest.len(), |at| at + 1));
            if line >= first {
                let space = budget.saturating_sub(found.bytes.len());
                found.cut |= piece.len() > space;
                found.bytes.extend_from_slice(piece.get(..space).unwrap_or(piece));
            }
            line += u64::from(at.is_some());
            open = at.is_none();
            rest = next;
        }
        if line >= end {
            if stat.size > COUNTED {
                found.count = count(&found.bytes);
                found.cut = true;
                return Ok(found);
            }
            line += rest.iter().filter(|&&byte| byte == b'\n').count() as u64;
            open = rest.last().map_or(open, |&byte| byte != b'\n');
        }
    }
    let all = line - 1 + u64::from(open);
    found.all = Some(all);
    found.count = count(&found.bytes);
    found.cut |= end <= all;
    Ok(found)
}

/// The last lines, at least one, as many as fit.
fn tail(file: &mut File, stat: &Stat, many: u64, budget: usize) -> std::io::Result<Lines> {
    let many = many.max(1);
    let mut bytes = Vec::new();
    let mut at = stat.size;
    // Reads one newline more than lines: the one before the first line.
    while at > 0 && bytes.len() <= budget {
        let step = at.min(BLOCK as u64);
        at -= step;
        file.seek(SeekFrom::Start(at))?;
        let mut block = vec![0; usize::try_from(step).unwrap_or(BLOCK)];
        file.read_exact(&mut block)?;
        block.append(&mut bytes);
        bytes = block;
        if count(&bytes) > many {
            break;
        }
    }
    let mut from = start_of_last(&bytes, many);
    let within = bytes.len() - from > budget;
    from = from.max(bytes.len().saturating_sub(budget));
    let begin = at + from as u64;
    let bytes = bytes.split_off(from);
    let mut found = Lines { count: count(&bytes), bytes, first: None, all: None, cut: begin > 0 };
    if stat.size <= COUNTED {
        file.rewind()?;
        let mut before = 0;
        let mut left = begin;
        let mut block = vec![0; BLOCK];
        while left > 0 {
            let step = usize::try_from(left.min(BLOCK as u64)).unwrap_or(BLOCK);
            let length = file.read(block.get_mut(..step).unwrap_or_default())?;
            let read = block.get(..length).filter(|read| !read.is_empty());
            let Some(read) = read else { break };
            before += read.iter().filter(|&&byte| byte == b'\n').count() as u64;
            left -= length as u64;
        }
        found.first = Some(before + 1);
        found.all = Some(before + found.count);
    }
    found.cut |= within;
    Ok(found)
}

/// Where the last lines begin.
fn start_of_last(bytes: &[u8], many: u64) -> usize {
    let mut from = 0;
    for _ in 0..count(bytes).saturating_sub(many) {
        let rest = bytes.get(from..).unwrap_or_default();
        from += rest.iter().position(|&byte| byte == b'\n').map_or(rest.len(), |at| at + 1);
    }
    from
}

/// Like [`tail`], of a file that can only be read from its beginning.
fn tail_to_end(file: &mut impl std::io::Read, many: u64, budget: usize) -> std::io::Result<Lines> {
    let mut bytes = Vec::new();
    let mut block = vec![0; BLOCK];
    // The lines, and whether there were bytes, that are no longer in `bytes`.
    let (mut before, mut cut) = (0, false);
    loop {
        let length = file.read(&mut block)?;
        let Some(read) = block.get(..length).filter(|read| !read.is_empty()) else { break };
        bytes.extend_from_slice(read);
        if bytes.len() > 2 * budget {
            let old = bytes.drain(..bytes.len() - budget);
            before += old.filter(|&byte| byte == b'\n').count() as u64;
            cut = true;
        }
    }
    let all = before + count(&bytes);
    let from = start_of_last(&bytes, many.max(1)).max(bytes.len().saturating_sub(budget));
    let bytes = bytes.split_off(from);
    let count = count(&bytes);
    let first = Some(all.saturating_sub(count) + 1);
    Ok(Lines { bytes, first, all: Some(all), cut: cut || from > 0, count })
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use proptest::prelude::*;

    use super::*;

    fn file(text: &[u8]) -> (File, Stat) {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(text).unwrap();
        file.rewind().unwrap();
        let stat = Stat::new(&rustix::fs::fstat(&file).unwrap());
        (file, stat)
    }

    proptest! {
        /// Both ways of reading agree with splitting the whole text.
        #[test]
        fn lines_are_those_of_the_whole(text in "[ab\n]{0,60}", first in 1_u64..9, many in 0_u64..9) {
            let bytes = text.as_bytes();
            let all: Vec<&[u8]> = bytes.split_inclusive(|&byte| byte == b'\n').collect();
            let (mut opened, stat) = file(bytes);
            let found = lines(&mut opened, &stat, first..first + many, 1000).unwrap();
            let from = usize::try_from(first - 1).unwrap().min(all.len());
            let to = usize::try_from(first - 1 + many).unwrap().min(all.len());
            prop_assert_eq!(&found.bytes, &all[from..to].concat());
            prop_assert_eq!(found.all, Some(all.len() as u64));
            prop_assert_eq!(found.cut, to < all.len() && usize::try_from(first - 1 + many).unwrap() < all.len() || first + many <= all.len() as u64);
            let (mut opened, stat) = file(bytes);
            let found = tail(&mut opened, &stat, many, 1000).unwrap();
            prop_assert_eq!(&tail_to_end(&mut &bytes[..], many, 1000).unwrap(), &found);
            let from = all.len() - usize::try_from(many.max(1)).unwrap().min(all.len());
            prop_assert_eq!(&found.bytes, &all[from..].concat());
            prop_assert_eq!((found.first, found.all), (Some(from as u64 + 1), Some(all.len() as u64)));
            prop_assert_eq!(found.cut, from > 0);
        }
    }

    #[test]
    fn a_long_line_is_cut_to_the_budget_and_it_is_said() {
        let (mut opened, stat) = file(&[b'x'; 3_000_000]);
        let found = lines(&mut opened, &stat, 1..6, 100).unwrap();
        assert_eq!((found.bytes.len(), found.cut, found.all), (100, true, Some(1)));
        let found = tail(&mut opened, &stat, 5, 100).unwrap();
        assert_eq!((found.bytes.len(), found.cut), (100, true));
    }
}
