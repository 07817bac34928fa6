//! Checksums for clients that detect changes by them, and times that such clients set.
//!
//! WebDAV has no checksums. rclone and the clients of ownCloud ask for a property of ownCloud's:
//! SHA-1 and MD5 of the content. Whether a file has it depends on its size alone, so that clients
//! compare like with like. Results are cached by the state of the file.

use std::collections::HashMap;
use std::io::Read as _;
use std::sync::{Mutex, OnceLock, PoisonError};

use data_encoding::HEXLOWER;
use farwire_protocol::streams::files::What;
use md5::Md5;
use sha1::{Digest as _, Sha1};
use xmltree::Element;

use super::filter::DavRequest;
use super::locks::Touch;
use super::reply::{Refusal, Reply, XML};
use super::serving::{Now, Serving};
use super::target::url;
use super::xml::Shape;
use crate::path::Rel;
use crate::tree::Stat;

/// The namespace of ownCloud's properties.
pub(super) const OWNCLOUD: &str = "http://owncloud.org/ns";

/// The largest file with checksums: a directory of such files is still listed quickly.
const LARGEST: u64 = 256 << 10;

/// The most files whose checksums are cached, of all roots together.
const CACHED: usize = 100_000;

/// Device, inode and revision of a file.
type FileState = (u64, u64, u64);

fn cache() -> &'static Mutex<HashMap<FileState, String>> {
    static CACHED: OnceLock<Mutex<HashMap<FileState, String>>> = OnceLock::new();
    CACHED.get_or_init(Mutex::default)
}

impl Serving<'_> {
    /// The checksums of a file. `None` if it is too large or cannot be read.
    pub(super) fn sums(&self, path: &Rel, stat: &Stat) -> Option<String> {
        if stat.what != What::File || stat.size > LARGEST {
            return None;
        }
        let state = (stat.device, stat.inode, stat.revision);
        let held = || cache().lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sums) = held().get(&state) {
            return Some(sums.clone());
        }
        let (file, opened) = self.tree.open(path).ok()?;
        let mut content = Vec::new();
        file.take(LARGEST + 1).read_to_end(&mut content).ok()?;
        // The checksums must belong to the state that is sent with them.
        if opened.revision != stat.revision || content.len() as u64 != stat.size {
            return None;
        }
        let (sha1, md5) = (Sha1::digest(&content), Md5::digest(&content));
        let sums = format!("SHA1:{} MD5:{}", HEXLOWER.encode(&sha1), HEXLOWER.encode(&md5));
        let mut held = held();
        if held.len() >= CACHED {
            held.clear();
        }
        held.insert(state, sums.clone());
        Some(sums)
    }

    /// Answers a PROPPATCH that sets the time of a file, as rclone sends it. `None` for any other.
    pub(super) fn set_time(
        &self,
        request: &DavRequest,
        now: &Now,
        shape: &Shape,
        body: &[u8],
    ) -> Option<Result<Reply, Refusal>> {
        // One property in a `prop` in a `set` in `propertyupdate`, and nothing else.
        let one = shape.root.is("propertyupdate") && shape.elements == 4;
        let root = one.then(|| Element::parse(body).ok()).flatten()?;
        let prop = root.get_child("set")?.get_child("prop")?;
        let property = prop
            .get_child("lastmodified")
            .filter(|one| one.namespace.as_deref() == Some(super::xml::DAV))?;
        let seconds: i64 = property.get_text()?.trim().parse().ok()?;
        let modified = seconds.checked_mul(1_000_000_000)?;
        let path = &request.target.path;
        let set = || {
            now.stat.ok_or(Refusal::status(404))?;
            self.check_unlocked(path, Touch::default())?;
            let set = self.tree.set_rights(path, None, Some(modified));
            set.map_err(|failure| Refusal::from_failure(&failure))?;
            let href = url(self.prefix, path, now.is_a(What::Directory));
            let body = format!(
                "<?xml version=\"1.0\" encoding=\"utf-8\"?><D:multistatus xmlns:D=\"DAV:\">\
                 <D:response><D:href>{href}</D:href><D:propstat><D:prop><D:lastmodified/></D:prop>\
                 <D:status>HTTP/1.1 200 OK</D:status></D:propstat></D:response></D:multistatus>"
            );
            Ok(Reply { status: 207, headers: vec![XML], body })
        };
        Some(set())
    }
}
