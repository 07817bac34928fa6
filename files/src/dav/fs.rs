//! The tree as dav-server asks for it, on behalf of one request.
//!
//! Only what it needs for the methods that are left to it: reading, properties, and the empty file that a
//! lock makes. Content is never written through here, and nothing is removed or moved.

use std::fmt;
use std::fs::File;
use std::future::ready;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use dav_server::davpath::DavPath;
use dav_server::fs::{
    DavDirEntry, DavFile, DavFileSystem, DavMetaData, DavProp, FsError, FsFuture, FsResult,
    FsStream, OpenOptions, ReadDirMeta,
};
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::streams::files::How;
use http::StatusCode;

use super::entries::{Entries, Meta};
use super::locks::Locks;
use super::opened::Opened;
use super::props::{ATTRIBUTE, Props};
use super::target::url;
use super::xml::Name;
use crate::path::Rel;
use crate::tree::{Tree, Wanted};

/// Which of the properties that we only keep somebody wants to see.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) enum Kept {
    /// None.
    #[default]
    None,
    /// Those that are asked for by name.
    Named,
    /// The names of all.
    Names,
    /// All.
    All,
}

/// The properties of one file.
type Seen = Option<(Rel, Arc<Props>)>;

/// The tree, for one request.
#[derive(Clone)]
pub(super) struct Files {
    tree: Arc<Tree>,
    locks: Arc<Locks>,
    kept: Kept,
    /// It is a listing: states are told with their quotes there.
    listing: bool,
    opened: Arc<Mutex<Option<Arc<File>>>>,
    /// The properties that were read last: dav-server asks for them one by one.
    seen: Arc<Mutex<Seen>>,
    /// Of the properties that we only keep, those that were asked for and are there.
    found: Arc<Mutex<Vec<Name>>>,
}

impl Files {
    /// The tree for a request that wants to see these properties.
    pub(super) fn new(tree: &Arc<Tree>, locks: &Arc<Locks>, kept: Kept, listing: bool) -> Self {
        Self {
            tree: tree.clone(),
            locks: locks.clone(),
            kept,
            listing,
            opened: Arc::default(),
            seen: Arc::default(),
            found: Arc::default(),
        }
    }

    /// The file that was opened last.
    pub(super) fn opened(&self) -> Option<Arc<File>> {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The properties that were found since this was asked last.
    pub(super) fn found(&self) -> Vec<Name> {
        std::mem::take(&mut self.found.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn open_file(&self, path: &DavPath, options: &OpenOptions) -> FsResult<Box<dyn DavFile>> {
        let path = rel(path)?;
        if options.write {
            // A lock on what is not there makes it.
            if !options.create {
                return Err(FsError::NotFound);
            }
            let wanted = Wanted { how: How::Create, ..Wanted::default() };
            self.tree.draft(&path, wanted).and_then(|draft| draft.commit()).map_err(fs_error)?;
        }
        let (file, stat) = self.tree.open(&path).map_err(fs_error)?;
        let file = Arc::new(file);
        *self.opened.lock().unwrap_or_else(PoisonError::into_inner) = Some(file.clone());
        Ok(Box::new(Opened::new(file, stat)))
    }

    fn properties(&self, path: &DavPath) -> FsResult<Arc<Props>> {
        let path = rel(path)?;
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, props)) = seen.as_ref().filter(|(at, _)| *at == path) {
            debug_assert_eq!(*at, path);
            return Ok(props.clone());
        }
        let bytes = self.tree.attribute(&path, ATTRIBUTE).map_err(fs_error)?;
        let props = Arc::new(bytes.map(|bytes| Props::read(&bytes)).unwrap_or_default());
        *seen = Some((path, props.clone()));
        Ok(props)
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
            if props.set(kept(prop), *set).is_err() {
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

impl fmt::Debug for Files {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Files").field("kept", &self.kept).finish_non_exhaustive()
    }
}

impl DavFileSystem for Files {
    fn open<'a>(
        &'a self,
        path: &'a DavPath,
        options: OpenOptions,
    ) -> FsFuture<'a, Box<dyn DavFile>> {
        Box::pin(ready(self.open_file(path, &options)))
    }

    fn read_dir<'a>(
        &'a self,
        path: &'a DavPath,
        _meta: ReadDirMeta,
    ) -> FsFuture<'a, FsStream<Box<dyn DavDirEntry>>> {
        let entries = rel(path)
            .and_then(|path| Entries::begin(&self.tree, &path, self.listing).map_err(fs_error));
        Box::pin(ready(entries.map(|entries| {
            let entries: FsStream<Box<dyn DavDirEntry>> =
                Box::pin(futures_util::stream::iter(entries));
            entries
        })))
    }

    fn metadata<'a>(&'a self, path: &'a DavPath) -> FsFuture<'a, Box<dyn DavMetaData>> {
        let stat = rel(path).and_then(|path| self.tree.stat(&path).map_err(fs_error));
        Box::pin(ready(stat.map(|stat| Meta::boxed(stat, self.listing))))
    }

    fn create_dir<'a>(&'a self, path: &'a DavPath) -> FsFuture<'a, ()> {
        let made = rel(path).and_then(|path| self.tree.make_directory(&path).map_err(fs_error));
        Box::pin(ready(made))
    }

    fn have_props<'a>(
        &'a self,
        _path: &'a DavPath,
    ) -> Pin<Box<dyn Future<Output = bool> + Send + 'a>> {
        Box::pin(ready(self.kept != Kept::None))
    }

    fn patch_props<'a>(
        &'a self,
        path: &'a DavPath,
        patch: Vec<(bool, DavProp)>,
    ) -> FsFuture<'a, Vec<(StatusCode, DavProp)>> {
        Box::pin(ready(self.patch(path, patch)))
    }

    fn get_props<'a>(&'a self, path: &'a DavPath, _do_content: bool) -> FsFuture<'a, Vec<DavProp>> {
        let props = match self.kept {
            // dav-server asks for all of them besides those that it was asked for.
            Kept::None | Kept::Named => Ok(Vec::new()),
            Kept::Names | Kept::All => self.properties(path).map(|props| {
                let told = |prop: &super::props::Prop| DavProp {
                    name: prop.name.clone(),
                    prefix: None,
                    namespace: Some(prop.space.clone()).filter(|space| !space.is_empty()),
                    xml: (self.kept == Kept::All).then(|| prop.xml.0.clone()),
                };
                props.props.iter().map(told).collect()
            }),
        };
        Box::pin(ready(props))
    }

    fn get_prop<'a>(&'a self, path: &'a DavPath, prop: DavProp) -> FsFuture<'a, Vec<u8>> {
        let found = self.properties(path).and_then(|props| {
            let space = prop.namespace.as_deref().unwrap_or_default();
            let kept = props.get(space, &prop.name).ok_or(FsError::NotFound)?;
            let name = Name { space: kept.space.clone(), local: kept.name.clone() };
            self.found.lock().unwrap_or_else(PoisonError::into_inner).push(name);
            Ok(kept.xml.0.clone())
        });
        Box::pin(ready(found))
    }

    fn get_quota(&self) -> FsFuture<'_, (u64, Option<u64>)> {
        // It takes what is used from the second number to tell what is free.
        let quota = self.tree.space().map(|(_, free)| (0, Some(free))).map_err(fs_error);
        Box::pin(ready(quota))
    }
}

/// A property as we keep it.
fn kept(prop: &DavProp) -> super::props::Prop {
    super::props::Prop {
        space: prop.namespace.clone().unwrap_or_default(),
        name: prop.name.clone(),
        xml: prop.xml.clone().unwrap_or_default().into(),
    }
}

/// A path of dav-server's, read again as if it came from outside.
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

/// What a failure of the tree is for dav-server.
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
