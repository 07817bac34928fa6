//! Extended attributes that programs attach to files and directories.

use std::os::fd::{AsFd, OwnedFd};

use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::streams::files::What;
use rustix::fs::{OFlags, XattrFlags};
use rustix::io::Errno;

use super::root::Tree;
use super::stat::Stat;
use super::walk::Listing;
use crate::fault::fault;
use crate::path::Rel;

/// No attribute is larger than this.
const LENGTH: usize = 64 << 10;

impl Tree {
    /// An attribute of a file or directory. `None` if it does not have it, or can have none.
    pub fn attribute(&self, path: &Rel, name: &str) -> Result<Option<Vec<u8>>, Failure> {
        let (file, ..) = self.open_any(path)?;
        read(&file, name).map_err(|error| fault(path, error))
    }

    /// Sets an attribute of a file or directory, or removes it.
    ///
    /// # Errors
    ///
    /// `unsupported` if the file system has no attributes, `disk_full` if this one is too large for
    /// it.
    pub fn set_attribute(
        &self,
        path: &Rel,
        name: &str,
        value: Option<&[u8]>,
    ) -> Result<(), Failure> {
        self.check_writable(path)?;
        // Replacing the file copies its attributes: one set during that would be lost without the
        // lock.
        let is_file = self.find(path)?.1.what == What::File;
        let place = is_file.then(|| self.place_to_write(path)).transpose()?;
        let _name_lock = place.as_ref().map(|place| self.lock_name(place));
        let (file, real, stat) = self.open_any(path)?;
        if self.rules.kept.fit(&real) {
            let text = format!("{path} is protected: programs such as ssh or the shell trust it");
            return Err(Failure::new(Kind::ReadOnly, text));
        }
        if stat.what == What::File && stat.links > 1 && !self.rules.hard_links {
            let text =
                format!("{path} has several hard links, some of which may be outside the root");
            return Err(Failure::new(Kind::OutsideRoot, text));
        }
        self.listener.check()?;
        let done = match value {
            Some(value) => rustix::fs::fsetxattr(&file, name, value, XattrFlags::empty()),
            None => match rustix::fs::fremovexattr(&file, name) {
                Err(Errno::NODATA) => Ok(()),
                other => other,
            },
        };
        done.map_err(|error| match error {
            Errno::OPNOTSUPP => {
                let text = format!("{path} is on a file system without extended attributes");
                Failure::new(Kind::Unsupported, text)
            }
            Errno::TOOBIG | Errno::RANGE => fault(path, Errno::NOSPC),
            other => fault(path, other),
        })
    }

    /// Opens a regular file or a directory, and nothing else.
    fn open_any(&self, path: &Rel) -> Result<(OwnedFd, Rel, Stat), Failure> {
        let (_, stat) = self.find(path)?;
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        let flags = match stat.what {
            What::File => flags,
            What::Directory => flags | OFlags::DIRECTORY,
            What::Link | What::Other => return Err(fault(path, Errno::NXIO)),
        };
        let (file, real) = self.reach(path, path, flags)?;
        // The file may have been replaced since it was found.
        let stat = Stat::new(&rustix::fs::fstat(&file).map_err(|error| fault(path, error))?);
        if !matches!(stat.what, What::File | What::Directory) {
            return Err(fault(path, Errno::NXIO));
        }
        Ok((file, real, stat))
    }
}

impl Listing<'_> {
    /// An attribute of a file or directory in this listing. `None` if it cannot be read.
    pub fn attribute(&self, name: &[u8], stat: &Stat, attribute: &str) -> Option<Vec<u8>> {
        if !matches!(stat.what, What::File | What::Directory) {
            return None;
        }
        let file = self.open_any(name).ok()?;
        read(&file, attribute).ok().flatten()
    }
}

/// Reads an attribute. `None` if there is none of this name, or can be none.
fn read(file: impl AsFd, name: &str) -> Result<Option<Vec<u8>>, Errno> {
    // Most files have none, and need no buffer.
    let read = rustix::fs::fgetxattr_query(&file, name).and_then(|_| {
        let mut value = vec![0; LENGTH];
        let length = rustix::fs::fgetxattr(&file, name, &mut value[..])?;
        value.truncate(length);
        Ok(value)
    });
    match read {
        Ok(value) => Ok(Some(value)),
        Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(None),
        Err(error) => Err(error),
    }
}
