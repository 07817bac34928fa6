//! `archive`: a directory as a tar archive, built while it is read.
//!
//! The format is that of POSIX: a header of 512 bytes for each entry, its content padded to 512
//! bytes, and 1,024 zero bytes at the end. What does not fit a header goes into a pax header before
//! it. Only files and directories are archived, without their owners. Archives are not unpacked
//! here.

use std::cell::RefCell;

use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::streams::files::{Archive, Done, What};

use super::desk::{Desk, VerbError};
use super::tidy::Tidy;
use super::unread::Unread;
use crate::path::Rel;
use crate::peer::{Broken, OpenedFile, Peer};
use crate::rules::LISTED;
use crate::tree::{EVERYTHING, Stat, Visited};

/// The size of everything in an archive is a multiple of this.
const BLOCK: usize = 512;

/// The largest size that a header can hold: eleven octal digits.
const LARGEST: u64 = 0o77_777_777_777;

pub(super) fn archive(
    desk: &Desk<'_>,
    archive: &Archive,
    peer: &mut dyn Peer,
) -> Result<Done, VerbError> {
    let (tree, listener) = (desk.tree, desk.tree.listener());
    let path = Rel::parse(&archive.path)?;
    let mut tidy = archive.tidy.unwrap_or(false).then(|| Tidy::new(tree, &path)).transpose()?;
    let unread = RefCell::new(Unread::new(path.clone()));
    let mut packed =
        Packed { peer, unread: &unread, bytes: 0, files: 0, entries: 0, links: 0, broken: false };
    let mut visit = |visited: &Visited<'_>| {
        listener.check_after_name()?;
        if let Some(tidy) = &mut tidy
            && tidy.leaves_out(visited)?
        {
            return Ok(false);
        }
        packed.visit(visited)
    };
    let walked =
        tree.walk_reporting(&path, EVERYTHING, &mut visit, &mut |at| unread.borrow_mut().add(at));
    match walked {
        Err(_) if packed.broken => return Err(VerbError::Broken),
        other => other?,
    }
    packed.send(&[0; 2 * BLOCK])?;
    let mut done = Done { bytes: Some(packed.bytes), files: Some(packed.files), ..Done::default() };
    let links = packed.links;
    let unread = unread.into_inner();
    let skipped = links + unread.count();
    done.skipped = (skipped > 0).then_some(skipped);
    unread.report(&mut done);
    Ok(done)
}

/// An archive being sent.
struct Packed<'a> {
    peer: &'a mut dyn Peer,
    unread: &'a RefCell<Unread>,
    bytes: u64,
    files: u64,
    entries: usize,
    /// The number of links and special files, which are left out.
    links: u64,
    broken: bool,
}

impl Packed<'_> {
    /// Adds an entry of the walk. Returns whether to descend into it.
    fn visit(&mut self, visited: &Visited<'_>) -> Result<bool, Failure> {
        let name = &visited.listed.name;
        let looked = self.unread.borrow_mut().found_or_unread(visited.at, visited.stat());
        let Some(stat) = looked else { return Ok(false) };
        let (path, directory) = (visited.at.as_bytes(), stat.what == What::Directory);
        if !directory && stat.what != What::File {
            self.links += 1;
            return Ok(false);
        }
        if self.entries >= LISTED {
            let text = format!("there are more than {LISTED} entries");
            return Err(
                Failure::new(Kind::TooLarge, text).with_hint("archive a part of it at a time")
            );
        }
        let put = if directory {
            self.send(&header(&[path, b"/"].concat(), &stat))
        } else {
            let opened = visited.listing.open(name);
            // The state of the file that was opened, which is the one that is sent.
            let opened = opened.and_then(|file| rustix::fs::fstat(&file).map(|stat| (file, stat)));
            let Ok((file, opened)) = opened else {
                self.unread.borrow_mut().add(visited.at);
                return Ok(false);
            };
            self.files += 1;
            let stat = Stat::new(&opened);
            self.send(&header(path, &stat)).and_then(|()| {
                self.content(OpenedFile { file: &file, path: visited.at, stat: &stat })
            })
        };
        self.entries += 1;
        put.map_err(|Broken| {
            self.broken = true;
            Failure::new(Kind::Cancelled, "nobody listens")
        })?;
        Ok(directory)
    }

    fn send(&mut self, bytes: &[u8]) -> Result<(), Broken> {
        self.bytes += bytes.len() as u64;
        self.peer.data(bytes)
    }

    fn content(&mut self, opened: OpenedFile<'_>) -> Result<(), Broken> {
        let size = opened.stat.size;
        self.peer.file_of(opened, 0, size)?;
        self.bytes += size;
        let over = usize::try_from(size % BLOCK as u64).unwrap_or(0);
        self.send([0; BLOCK].get(..(BLOCK - over) % BLOCK).unwrap_or_default())
    }
}

/// The header of an entry, after a pax header if it needs one.
fn header(path: &[u8], stat: &Stat) -> Vec<u8> {
    let size = if stat.what == What::File { stat.size } else { 0 };
    let seconds = stat.modified.div_euclid(1_000_000_000);
    let mut more = Vec::new();
    // Without a pax header, programs disagree about the encoding of other bytes.
    let plain = path.iter().all(|byte| matches!(byte, b' '..=b'~'));
    if path.len() > 100 || !plain {
        if std::str::from_utf8(path).is_err() {
            record(&mut more, b"hdrcharset", b"BINARY");
        }
        record(&mut more, b"path", path);
    }
    if size > LARGEST {
        record(&mut more, b"size", size.to_string().as_bytes());
    }
    let in_range = u64::try_from(seconds).ok().filter(|seconds| *seconds <= LARGEST);
    if in_range.is_none() {
        record(&mut more, b"mtime", seconds.to_string().as_bytes());
    }
    let mut bytes = Vec::new();
    if !more.is_empty() {
        let pax =
            Ustar { path: b"pax", kind: b'x', mode: 0o644, size: more.len() as u64, modified: 0 };
        bytes.extend_from_slice(&pax.block());
        bytes.extend_from_slice(&more);
        bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
    }
    let kind = if stat.what == What::Directory { b'5' } else { b'0' };
    let (mode, modified) = (stat.mode & 0o777, in_range.unwrap_or(0));
    let ustar = Ustar { path, kind, mode, size: size.min(LARGEST), modified };
    bytes.extend_from_slice(&ustar.block());
    bytes
}

/// Appends a line of a pax header: its own length in decimal, key and value.
fn record(to: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    // The digits are part of the length.
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    to.extend_from_slice(length.to_string().as_bytes());
    for part in [b" ", key, b"=", value, b"\n"] {
        to.extend_from_slice(part);
    }
}

/// The fields of a header that vary here.
struct Ustar<'a> {
    /// The path, which is cut off after 100 bytes.
    path: &'a [u8],
    kind: u8,
    mode: u32,
    size: u64,
    /// The modification time, in seconds since 1970.
    modified: u64,
}

impl Ustar<'_> {
    /// Encodes the header.
    fn block(&self) -> [u8; BLOCK] {
        let Self { path, kind, mode, size, modified } = *self;
        let mut block = [0; BLOCK];
        let mut put = |at: usize, bytes: &[u8]| {
            for (to, byte) in block.iter_mut().skip(at).zip(bytes) {
                *to = *byte;
            }
        };
        put(0, path.get(..100).unwrap_or(path));
        put(100, format!("{mode:07o}\0{:07o}\0{:07o}\0", 0, 0).as_bytes());
        put(124, format!("{size:011o}\0{modified:011o}\0").as_bytes());
        // The checksum, which is computed as if this field were blank.
        put(148, b"        ");
        put(156, &[kind]);
        put(257, b"ustar\x0000");
        let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
        for (to, byte) in block.iter_mut().skip(148).zip(format!("{sum:06o}\0 ").bytes()) {
            *to = byte;
        }
        block
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_length_of_a_line_counts_its_own_digits() {
        for size in 0..2_000 {
            let mut line = Vec::new();
            record(&mut line, b"path", &vec![b'x'; size]);
            let said = line.split(|&byte| byte == b' ').next().unwrap();
            assert_eq!(String::from_utf8_lossy(said), line.len().to_string());
        }
    }

    #[test]
    fn what_does_not_fit_a_header_stands_before_it() {
        let mut stat = Stat::new(&rustix::fs::stat("/").unwrap());
        (stat.what, stat.size, stat.modified) = (What::File, LARGEST, 5_000_000_000);
        assert_eq!(header(&[b'x'; 100], &stat).len(), BLOCK);
        assert_eq!(header(&[b'x'; 101], &stat).len(), 3 * BLOCK);
        (stat.size, stat.modified) = (LARGEST + 1, -1);
        let bytes = header(b"a", &stat);
        assert!(bytes[BLOCK..].starts_with(b"19 size=8589934592\n12 mtime=-1\n"));
    }
}
