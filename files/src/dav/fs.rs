//! The tree as dav-server sees it, for one request.
//!
//! Implements only what the remaining methods need: reading, properties, and the empty file that a
//! lock creates. Nothing is written, removed or moved through here.

use std::fmt;
use std::fs::File;
use std::future::ready;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use dav_server::davpath::DavPath;
use dav_server::fs::{
    DavDirEntry, DavFile, DavFileSystem, DavMetaData, DavProp, FsError, FsFuture, FsResult,
    FsStream, OpenOptions, ReadDirMeta,
};
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::streams::files::{How, What};
use http::StatusCode;

use super::live::tag;
use super::locks::Locks;
use super::open_file::OpenDavFile;
use super::props::{ATTRIBUTE, Props};
use super::target::url;
use crate::path::Rel;
use crate::tree::{Stat, Tree, WriteOptions};

/// The state of a file.
#[derive(Clone, Debug)]
pub(super) struct Meta(Stat);

impl Meta {
    /// Wraps a state for dav-server.
    pub(super) fn boxed(stat: Stat) -> Box<dyn DavMetaData> {
        Box::new(Self(stat))
    }
}

impl DavMetaData for Meta {
    fn len(&self) -> u64 {
        self.0.size
    }

    fn modified(&self) -> FsResult<SystemTime> {
        // dav-server cannot format times before 1970.
        let nanos = u64::try_from(self.0.modified).unwrap_or(0);
        UNIX_EPOCH.checked_add(Duration::from_nanos(nanos)).ok_or(FsError::GeneralFailure)
    }

    fn is_dir(&self) -> bool {
        self.0.what == What::Directory
    }

    fn etag(&self) -> Option<String> {
        Some(tag(&self.0))
    }

    fn status_changed(&self) -> FsResult<SystemTime> {
        self.modified()
    }
}

/// The tree, for one request.
#[derive(Clone)]
pub(super) struct DavFiles {
    tree: Arc<Tree>,
    locks: Arc<Locks>,
    opened: Arc<Mutex<Option<Arc<File>>>>,
}

impl DavFiles {
    /// The tree for a request.
    pub(super) fn new(tree: &Arc<Tree>, locks: &Arc<Locks>) -> Self {
        Self { tree: tree.clone(), locks: locks.clone(), opened: Arc::default() }
    }

    /// The file that was opened last.
    pub(super) fn last_opened(&self) -> Option<Arc<File>> {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn open_file(&self, path: &DavPath, options: &OpenOptions) -> FsResult<Box<dyn DavFile>> {
        let path = rel(path)?;
        if options.write {
            // A lock on a path without a file creates it.
            if !options.create {
                return Err(FsError::NotFound);
            }
            let wanted = WriteOptions { how: How::Create, ..WriteOptions::default() };
            self.tree.draft(&path, wanted).and_then(|draft| draft.commit()).map_err(fs_error)?;
        }
        let (file, stat) = self.tree.open(&path).map_err(fs_error)?;
        let file = Arc::new(file);
        *self.opened.lock().unwrap_or_else(PoisonError::into_inner) = Some(file.clone());
        Ok(Box::new(OpenDavFile::new(file, stat)))
    }

    /// Changes properties: all of them, or none.
    fn patch(
        &self,
        path: &DavPath,
        patch: Vec<(bool, DavProp)>,
    ) -> FsResult<Vec<(StatusCode, DavProp)>> {
        let path = rel(path)?;
        let _one = self.locks.properties();
        let bytes = self.tree.attribute(&path, ATTRIBUTE).map_err(fs_error)?;
        let mut props = bytes.map(|bytes| Props::read(&bytes)).unwrap_or_default();
        let mut failed = None;
        for (at, (set, prop)) in patch.iter().enumerate() {
            if props.set(to_prop(prop), *set).is_err() {
                failed = Some((Some(at), StatusCode::UNPROCESSABLE_ENTITY));
                break;
            }
        }
        if failed.is_none() {
            failed = match props.write() {
                Err(_) => Some((None, StatusCode::INSUFFICIENT_STORAGE)),
                Ok(bytes) => {
                    let done = self.tree.set_attribute(&path, ATTRIBUTE, bytes.as_deref());
                    done.err().map(|failure| (None, property_status(&failure)))
                }
            };
        }
        let status = |at: usize| match failed {
            None => StatusCode::OK,
            Some((None, status)) => status,
            Some((Some(bad), status)) if bad == at => status,
            Some(_) => StatusCode::FAILED_DEPENDENCY,
        };
        let told = patch.into_iter().enumerate();
        Ok(told.map(|(at, (_, prop))| (status(at), DavProp { xml: None, ..prop })).collect())
    }
}

impl fmt::Debug for DavFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Files").finish_non_exhaustive()
    }
}

impl DavFileSystem for DavFiles {
    fn open<'a>(
        &'a self,
        path: &'a DavPath,
        options: OpenOptions,
    ) -> FsFuture<'a, Box<dyn DavFile>> {
        Box::pin(ready(self.open_file(path, &options)))
    }

    fn read_dir<'a>(
        &'a self,
        _path: &'a DavPath,
        _meta: ReadDirMeta,
    ) -> FsFuture<'a, FsStream<Box<dyn DavDirEntry>>> {
        // dav-server answers nothing that needs a listing.
        Box::pin(ready(Err(FsError::NotImplemented)))
    }

    fn metadata<'a>(&'a self, path: &'a DavPath) -> FsFuture<'a, Box<dyn DavMetaData>> {
        let stat = rel(path).and_then(|path| self.tree.stat(&path).map_err(fs_error));
        Box::pin(ready(stat.map(Meta::boxed)))
    }

    fn create_dir<'a>(&'a self, path: &'a DavPath) -> FsFuture<'a, ()> {
        let made = rel(path).and_then(|path| self.tree.make_directory(&path).map_err(fs_error));
        Box::pin(ready(made))
    }

    fn patch_props<'a>(
        &'a self,
        path: &'a DavPath,
        patch: Vec<(bool, DavProp)>,
    ) -> FsFuture<'a, Vec<(StatusCode, DavProp)>> {
        Box::pin(ready(self.patch(path, patch)))
    }
}

/// A property in the form that we store.
fn to_prop(prop: &DavProp) -> super::props::Prop {
    super::props::Prop {
        space: prop.namespace.clone().unwrap_or_default(),
        name: prop.name.clone(),
        xml: prop.xml.clone().unwrap_or_default().into(),
    }
}

/// Parses a path of dav-server's as if it came from outside.
pub(super) fn rel(path: &DavPath) -> FsResult<Rel> {
    let bytes = path.as_bytes();
    let bytes = bytes.strip_prefix(b"/").unwrap_or(bytes);
    Rel::parse(bytes.strip_suffix(b"/").unwrap_or(bytes)).map_err(fs_error)
}

/// A path for dav-server.
pub(super) fn dav_path(prefix: &str, path: &Rel) -> DavPath {
    let url = url(prefix, path, false);
    let mut path = DavPath::new(&url).expect("a URL that was made from a path can be read");
    path.set_prefix(prefix).expect("it begins with the prefix");
    path
}

/// The error for dav-server.
pub(super) fn fs_error(failure: Failure) -> FsError {
    match failure.kind {
        Kind::NoSuchFile | Kind::NotADirectory => FsError::NotFound,
        Kind::FileExists => FsError::Exists,
        Kind::ReadOnly
        | Kind::OutsideRoot
        | Kind::PermissionDenied
        | Kind::NotAFile
        | Kind::DirectoryNotEmpty
        | Kind::InvalidArgument
        | Kind::Unsupported => FsError::Forbidden,
        Kind::DiskFull => FsError::InsufficientStorage,
        Kind::TooLarge => FsError::TooLarge,
        _ => FsError::GeneralFailure,
    }
}

fn property_status(failure: &Failure) -> StatusCode {
    match failure.kind {
        Kind::DiskFull | Kind::TooLarge => StatusCode::INSUFFICIENT_STORAGE,
        Kind::Io | Kind::ResourceExhausted => StatusCode::INTERNAL_SERVER_ERROR,
        _ => StatusCode::FORBIDDEN,
    }
}
