//! Rights and times of the last change. Those of directories are set when all in them is done, as
//! what is done in a directory changes its time, and as nothing can be put into one that may not be
//! written to.

use std::fs::{self, File, FileTimes, Permissions};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use farwire_protocol::cbor::Blob;
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::streams::files::{Ask, Attributes};
use rustix::fs::OFlags;

use super::ends::Transfer;
use super::local::io_failure;
use super::patience::Patience;

/// So many are set before the first is answered.
const AHEAD: usize = 64;

/// What something is to have.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(in crate::files) struct Rights {
    /// Its path from where the transfer began.
    pub(in crate::files) path: Vec<u8>,
    /// `rwx` for three.
    pub(in crate::files) mode: u32,
    /// The time of the last change, in nanoseconds since 1970.
    pub(in crate::files) modified: i64,
}

impl Rights {
    /// The same, and all that the owner may need.
    pub(in crate::files) fn with_owner_access(&self) -> Self {
        Self { mode: self.mode | 0o700, ..self.clone() }
    }
}

/// Sets them on the server, the innermost first. What may not be set is noted as missed.
///
/// # Errors
///
/// Those of the way to the server.
pub(in crate::files) async fn set_there(
    transfer: &Transfer<'_>,
    mut all: Vec<Rights>,
) -> Result<(), Failure> {
    all.sort_by(|one, other| other.path.cmp(&one.path));
    let mut done = 0;
    let mut patience = Patience::new(transfer.meter);
    while let Err(failure) = many(transfer, &all, &mut done, &mut patience).await {
        patience.wait(failure).await?;
    }
    Ok(())
}

async fn many(
    transfer: &Transfer<'_>,
    all: &[Rights],
    done: &mut usize,
    patience: &mut Patience<'_>,
) -> Result<(), Failure> {
    let rest = all.get(*done..).unwrap_or_default();
    if rest.is_empty() {
        return Ok(());
    }
    let mut files = transfer.enter_on(patience).await?;
    if !files.root.sets_attributes() {
        let text = "the agent is older, and does not set permissions and times of directories";
        transfer.meter.remark(transfer.server.name.as_bytes(), text);
        return files.leave().await;
    }
    for some in rest.chunks(AHEAD) {
        for Rights { path, mode, modified } in some {
            files.up.ask(Ask::Attributes(Attributes {
                path: Blob(transfer.remote.join(path)),
                mode: Some(mode & 0o777),
                modified: Some(*modified),
            }))?;
        }
        files.up.flush().await?;
        for one in some {
            let set = files.down.answer().await.map(drop);
            transfer.meter.or_miss(&one.path, set)?;
            *done += 1;
        }
    }
    files.leave().await
}

/// Sets them here, the innermost first, beneath this directory. What may not be set is noted as
/// missed.
pub(in crate::files) fn set_here(transfer: &Transfer<'_>, mut all: Vec<(Rights, PathBuf)>) {
    all.sort_by(|one, other| other.0.path.cmp(&one.0.path));
    for (rights, target) in all {
        if let Err(failure) = set(&target, &rights) {
            transfer.meter.miss(&rights.path, failure);
        }
    }
}

/// Through a handle, and through no link: a name may be another thing by now. A directory keeps its
/// set-id and sticky bits.
fn set(target: &Path, rights: &Rights) -> Result<(), Failure> {
    let wrong = |error: std::io::Error| io_failure(target, &error);
    let is = fs::symlink_metadata(target).map_err(wrong)?;
    if !is.is_dir() && !is.is_file() {
        return Err(Failure::new(
            Kind::NotAFile,
            format!("{} is not a regular file", target.display()),
        ));
    }
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    let open =
        |write: bool| File::options().read(!write).write(write).custom_flags(flags).open(target);
    let file = match open(false) {
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied && is.is_file() => {
            open(true)
        }
        opened => opened,
    };
    let file = file.map_err(wrong)?;
    let is = file.metadata().map_err(wrong)?;
    let shared = if is.is_dir() { is.mode() & 0o7000 } else { 0 };
    let mode = (rights.mode & 0o777) | shared;
    if is.mode() & 0o7777 != mode {
        file.set_permissions(Permissions::from_mode(mode)).map_err(wrong)?;
    }
    file.set_times(FileTimes::new().set_modified(time(rights.modified))).map_err(wrong)
}

/// A time of the wire.
pub(super) fn time(nanos: i64) -> SystemTime {
    let distance = Duration::from_nanos(nanos.unsigned_abs());
    if nanos < 0 { UNIX_EPOCH - distance } else { UNIX_EPOCH + distance }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rights_and_times_are_set_exactly_and_through_no_link() {
        let place = tempfile::tempdir().unwrap();
        let dir = place.path().join("d");
        fs::create_dir(&dir).unwrap();
        fs::set_permissions(&dir, Permissions::from_mode(0o2700)).unwrap();
        let rights = |mode| Rights { path: Vec::new(), mode, modified: -1_500_000_000 };
        set(&dir, &rights(0o555)).unwrap();
        let is = fs::metadata(&dir).unwrap();
        assert_eq!((is.mode() & 0o7777, is.mtime(), is.mtime_nsec()), (0o2555, -2, 500_000_000));
        let link = place.path().join("link");
        std::os::unix::fs::symlink(&dir, &link).unwrap();
        assert!(set(&link, &rights(0o777)).is_err());
        assert_eq!(fs::metadata(&dir).unwrap().mode() & 0o777, 0o555);
        let file = place.path().join("f");
        fs::write(&file, "").unwrap();
        for mode in [0o4755, 0o200, 0o666] {
            set(&file, &rights(mode)).unwrap();
            assert_eq!(fs::metadata(&file).unwrap().mode() & 0o7777, mode & 0o777);
        }
    }
}
