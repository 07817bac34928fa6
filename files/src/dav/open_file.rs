//! A file that dav-server reads itself: for several ranges at once.

use std::fs::File;
use std::future::ready;
use std::io::SeekFrom;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use bytes::Bytes;
use dav_server::fs::{DavFile, DavMetaData, FsError, FsFuture};

use super::fs::Meta;
use crate::tree::Stat;

/// The most bytes of one read.
const PIECE: usize = 64 << 10;

/// A file being read.
#[derive(Debug)]
pub(super) struct OpenDavFile {
    file: Arc<File>,
    stat: Stat,
    at: u64,
}

impl OpenDavFile {
    /// Begins at the start of the file.
    pub(super) fn new(file: Arc<File>, stat: Stat) -> Self {
        Self { file, stat, at: 0 }
    }
}

impl DavFile for OpenDavFile {
    fn metadata(&mut self) -> FsFuture<'_, Box<dyn DavMetaData>> {
        Box::pin(ready(Ok(Meta::boxed(self.stat))))
    }

    fn write_buf(&mut self, _: Box<dyn bytes::Buf + Send>) -> FsFuture<'_, ()> {
        Box::pin(ready(Err(FsError::Forbidden)))
    }

    fn write_bytes(&mut self, _: Bytes) -> FsFuture<'_, ()> {
        Box::pin(ready(Err(FsError::Forbidden)))
    }

    fn read_bytes(&mut self, count: usize) -> FsFuture<'_, Bytes> {
        let mut piece = vec![0; count.min(PIECE)];
        let read = match self.file.read_at(&mut piece, self.at) {
            // The file has become shorter. dav-server would go on with zeros.
            Ok(0) if count > 0 => Err(FsError::GeneralFailure),
            Ok(length) => {
                piece.truncate(length);
                self.at += length as u64;
                Ok(Bytes::from(piece))
            }
            Err(_) => Err(FsError::GeneralFailure),
        };
        Box::pin(ready(read))
    }

    fn seek(&mut self, position: SeekFrom) -> FsFuture<'_, u64> {
        let at = match position {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.stat.size.checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = at.unwrap_or(self.at);
        Box::pin(ready(at.ok_or(FsError::GeneralFailure)))
    }

    fn flush(&mut self) -> FsFuture<'_, ()> {
        Box::pin(ready(Ok(())))
    }
}
