//! The head and the records of the journal, as lines of text with a checksum at the end of each.

use farwire_protocol::id::Nonce;
use sha2::{Digest as _, Sha256};

/// One half of a SHA-256: against accidents, and against an owner who would only harm itself.
pub(super) type Hash = [u8; 16];

/// How a head begins.
const MAGIC: &str = "farwire-journal 2";

/// The id of a boot has at most this many bytes; the rest is blank.
const BOOT: usize = 36;

/// Bytes of a checksum, in hexadecimal digits.
const CHECK: usize = 16;

/// The length of a head, in bytes. It never changes, so that a head can be rewritten in its place.
pub(super) const HEAD: usize =
    MAGIC.len() + 1 + 32 + 1 + 16 + 1 + 16 + 1 + 1 + 1 + BOOT + 1 + CHECK + 1;

/// The longest record, in bytes.
const LINE: usize = 256;

/// The head of a file.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct JournalHead {
    /// The agent process that writes it.
    pub(super) instance: Nonce,
    /// How many records this process has written to files before this one.
    pub(super) from: u64,
    /// Up to here it must be intact, in bytes.
    pub(super) length: u64,
    /// This file and the one before hold every request that ever came.
    pub(super) complete: bool,
    /// The id of the boot in which it was written.
    pub(super) boot: String,
}

/// One record.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum JournalRecord {
    /// Every request of this earlier process is in here.
    Process(Nonce),
    /// A request is reserved.
    Reserved { name: Hash, body: Hash },
    /// Its program has ended.
    Ended { name: Hash, end: Box<str> },
}

impl JournalHead {
    pub(super) fn line(&self) -> Vec<u8> {
        let Self { instance, from, length, complete, boot } = self;
        let instance = hex(&instance.0);
        let complete = u8::from(*complete);
        let boot = boot.get(..BOOT.min(boot.len())).unwrap_or_default();
        with_checksum(format!(
            "{MAGIC} {instance} {from:016x} {length:016x} {complete} {boot:<BOOT$} "
        ))
    }

    pub(super) fn parse(line: &[u8]) -> Option<Self> {
        let text = verify_checksum(line)?.strip_prefix(MAGIC)?.strip_prefix(' ')?;
        let mut words = text.splitn(5, ' ');
        let head = Self {
            instance: Nonce(unhex(words.next()?)?),
            from: number(words.next()?)?,
            length: number(words.next()?)?,
            complete: match words.next()? {
                "0" => false,
                "1" => true,
                _ => return None,
            },
            boot: words.next()?.trim_end().to_owned(),
        };
        // No other spelling counts.
        (head.line() == line).then_some(head)
    }
}

impl JournalRecord {
    pub(super) fn line(&self, number: u64) -> Vec<u8> {
        with_checksum(match self {
            Self::Process(instance) => format!("p {number:016x} {} ", hex(&instance.0)),
            Self::Reserved { name, body } => {
                format!("r {number:016x} {} {} ", hex(name), hex(body))
            }
            Self::Ended { name, end } => format!("e {number:016x} {} {end} ", hex(name)),
        })
    }

    /// Its number, and the record.
    pub(super) fn parse(line: &[u8]) -> Option<(u64, Self)> {
        if line.len() > LINE {
            return None;
        }
        let text = verify_checksum(line)?;
        let mut words = text.splitn(4, ' ');
        let (kind, sequence) = (words.next()?, number(words.next()?)?);
        let (first, rest) = (unhex(words.next()?)?, words.next()?.trim_end_matches(' '));
        let record = match kind {
            "p" => Self::Process(Nonce(first)),
            "r" => Self::Reserved { name: first, body: unhex(rest)? },
            "e" => Self::Ended { name: first, end: rest.into() },
            _ => return None,
        };
        (record.line(sequence) == line).then_some((sequence, record))
    }
}

/// A line of the first format, which had neither a head nor checksums.
pub(super) fn parse_first(line: &[u8]) -> Option<JournalRecord> {
    let line = str::from_utf8(line).ok().filter(|line| line.len() <= LINE)?;
    let (kind, rest) = line.split_once(' ')?;
    let (name, rest) = rest.split_once(' ')?;
    let name = unhex(name)?;
    match kind {
        "r" => {
            let (time, body) = rest.split_once(' ')?;
            let _: u64 = time.parse().ok()?;
            Some(JournalRecord::Reserved { name, body: unhex(body)? })
        }
        "e" => Some(JournalRecord::Ended { name, end: rest.into() }),
        _ => None,
    }
}

/// The text with its checksum, as a line.
fn with_checksum(text: String) -> Vec<u8> {
    let check = check(text.as_bytes());
    let mut line = text.into_bytes();
    line.extend(check.as_bytes());
    line.push(b'\n');
    line
}

/// The text of a line, if its checksum matches.
fn verify_checksum(line: &[u8]) -> Option<&str> {
    let line = line.strip_suffix(b"\n")?;
    let (text, given) = line.split_at_checked(line.len().checked_sub(CHECK)?)?;
    (check(text).as_bytes() == given).then_some(())?;
    str::from_utf8(text).ok()
}

fn check(bytes: &[u8]) -> String {
    let hash = Sha256::digest(bytes);
    hex(hash.get(..CHECK / 2).unwrap_or_default())
}

fn number(text: &str) -> Option<u64> {
    u64::from_str_radix(text, 16).ok()
}

fn unhex(text: &str) -> Option<Hash> {
    data_encoding::HEXLOWER.decode(text.as_bytes()).ok()?.try_into().ok()
}

fn hex(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(bytes)
}
