//! Live properties, which describe the current state of a file (RFC 4918, section 15).

use std::ffi::OsStr;
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use farwire_protocol::streams::files::What;
use jiff::Timestamp;
use jiff::fmt::rfc2822;
use xml::EmitterConfig;
use xmltree::Element;

use super::locks::Lock;
use super::serving::Serving;
use super::sums::OWNCLOUD;
use super::target::url;
use super::xml::{DAV, Name};
use crate::path::Rel;
use crate::tree::Stat;

/// The namespace of the property of mod_dav.
const APACHE: &str = "http://apache.org/dav/props/";

/// The namespace of the properties of Windows.
const MICROSOFT: &str = "urn:schemas-microsoft-com:";

/// A live property.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Live {
    Created,
    Length,
    Type,
    Tag,
    Modified,
    Locked,
    Kind,
    Lockable,
    Free,
    Used,
    Executable,
    WindowsCreated,
    WindowsModified,
    WindowsAttributes,
    Checksums,
}

/// The names of live properties. `allprop` returns the first [`USUAL`].
pub(super) const LIVE: [(Live, &str, &str); 15] = [
    (Live::Created, DAV, "creationdate"),
    (Live::Length, DAV, "getcontentlength"),
    (Live::Type, DAV, "getcontenttype"),
    (Live::Tag, DAV, "getetag"),
    (Live::Modified, DAV, "getlastmodified"),
    (Live::Locked, DAV, "lockdiscovery"),
    (Live::Kind, DAV, "resourcetype"),
    (Live::Lockable, DAV, "supportedlock"),
    (Live::Free, DAV, "quota-available-bytes"),
    (Live::Used, DAV, "quota-used-bytes"),
    (Live::Executable, APACHE, "executable"),
    (Live::WindowsCreated, MICROSOFT, "Win32CreationTime"),
    (Live::WindowsModified, MICROSOFT, "Win32LastModifiedTime"),
    (Live::WindowsAttributes, MICROSOFT, "Win32FileAttributes"),
    (Live::Checksums, OWNCLOUD, "checksums"),
];

/// The number of those that RFC 4918 defines.
pub(super) const USUAL: usize = 8;

impl Live {
    /// The property with this name.
    pub(super) fn of(name: &Name) -> Option<Self> {
        let same =
            |&&(_, space, local): &&(_, &str, &str)| name.local == local && name.space == space;
        LIVE.iter().find(same).map(|&(live, ..)| live)
    }

    /// Whether every file of this kind has it.
    pub(super) fn suits(self, what: What) -> bool {
        match self {
            Self::Length => what != What::Directory,
            Self::Executable | Self::Checksums => what == What::File,
            _ => true,
        }
    }

    /// Writes the current value. Returns whether there is one.
    pub(super) fn write(
        self,
        serving: &Serving<'_>,
        path: &Rel,
        stat: &Stat,
        out: &mut Vec<u8>,
    ) -> bool {
        let directory = stat.what == What::Directory;
        match self {
            _ if !self.suits(stat.what) => return false,
            // The creation time is unknown.
            Self::Created => return moment(stat).is_some_and(|at| say(out, &at)),
            Self::Modified | Self::WindowsCreated | Self::WindowsModified => {
                let printed = moment(stat).and_then(|at| {
                    rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&at).ok()
                });
                return printed.is_some_and(|printed| say(out, &printed));
            }
            Self::Length => return say(out, &stat.size),
            Self::Type if directory => out.extend_from_slice(b"httpd/unix-directory"),
            Self::Type => out.extend_from_slice(content_type(path).as_bytes()),
            Self::Tag => return say(out, &format_args!("\"{}\"", tag(stat))),
            Self::Locked if serving.read_only => {}
            Self::Locked => {
                for lock in serving.locks.covering(&serving.key(path)) {
                    active(serving, &lock, out);
                }
            }
            Self::Kind if directory => out.extend_from_slice(b"<D:collection/>"),
            Self::Kind => {}
            // A read-only root has no locks.
            Self::Lockable if serving.read_only => {}
            Self::Lockable => ["exclusive", "shared"].iter().for_each(|scope| {
                let entry = format_args!(
                    "<D:lockentry><D:lockscope><D:{scope}/></D:lockscope>\
                     <D:locktype><D:write/></D:locktype></D:lockentry>"
                );
                say(out, &entry);
            }),
            Self::Free | Self::Used => {
                let space = serving.tree.space();
                return space.is_ok_and(|(all, free)| {
                    say(out, &if self == Self::Free { free } else { all.saturating_sub(free) })
                });
            }
            Self::Executable => out.push(if stat.mode & 0o111 == 0 { b'F' } else { b'T' }),
            Self::Checksums => {
                return serving.sums(path, stat).is_some_and(|sums| {
                    say(out, &format_args!("<x:checksum>{sums}</x:checksum>"))
                });
            }
            Self::WindowsAttributes => {
                let dotted = path.split().is_some_and(|(_, name)| name.starts_with(b"."));
                let attributes = u32::from(dotted) << 1 | if directory { 0x10 } else { 0x20 };
                return say(out, &format_args!("{attributes:08x}"));
            }
        }
        true
    }
}

/// The revision of a file, as in its entity tag.
pub(super) fn tag(stat: &Stat) -> String {
    format!("{:012x}", stat.revision)
}

/// The media type of a file, by its name.
fn content_type(path: &Rel) -> &'static str {
    let guess = mime_guess::from_path(Path::new(OsStr::from_bytes(path.as_bytes())));
    guess.first_raw().unwrap_or("application/octet-stream")
}

/// The modification time in seconds. dav-server cannot format times before 1970, and nor do we.
fn moment(stat: &Stat) -> Option<Timestamp> {
    Timestamp::from_second(stat.modified.max(0).div_euclid(1_000_000_000)).ok()
}

fn say(out: &mut Vec<u8>, text: &dyn std::fmt::Display) -> bool {
    write!(out, "{text}").is_ok()
}

/// Writes a lock for somebody who asks what is locked.
fn active(serving: &Serving<'_>, lock: &Lock, out: &mut Vec<u8>) {
    // A lock above our root covers the root.
    let path = lock.path.beneath(serving.tree.base()).unwrap_or_default();
    let text = format_args!(
        "<D:activelock><D:lockscope><D:{scope}/></D:lockscope><D:locktype><D:write/></D:locktype>\
         <D:depth>{depth}</D:depth><D:timeout>Second-{left}</D:timeout>\
         <D:locktoken><D:href>{token}</D:href></D:locktoken>\
         <D:lockroot><D:href>{root}</D:href></D:lockroot>",
        scope = if lock.shared { "shared" } else { "exclusive" },
        depth = if lock.deep { "infinity" } else { "0" },
        left = lock.time_left(serving.locks.now()).as_secs(),
        token = lock.token,
        root = url(serving.prefix, &Rel::ROOT.join(path), false),
    );
    say(out, &text);
    if let Some(owner) = &lock.owner {
        element(owner, out);
    }
    out.extend_from_slice(b"</D:activelock>");
}

/// Writes a parsed element, completely or not at all.
pub(super) fn element(element: &Element, out: &mut Vec<u8>) -> bool {
    let before = out.len();
    let config = EmitterConfig::new().write_document_declaration(false);
    let written = element.write_with_config(&mut *out, config).is_ok();
    if !written {
        out.truncate(before);
    }
    written
}
