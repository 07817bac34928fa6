//! What stands here where a file is to go. Only a regular file is ever replaced: a device, a FIFO,
//! a socket or a symbolic link is something that others use under that name.

use std::fs::{self, FileType};
use std::io;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};

use farwire_protocol::failure::{Failure, Kind};

use super::io_failure;
use crate::text::neutral::neutral;

/// That a file may be put in this place: nothing is there, or with `overwrite` a regular file.
///
/// # Errors
///
/// `not_a_file` for anything else, and `file_exists`.
pub(crate) fn may_be_replaced(target: &Path, overwrite: bool) -> Result<(), Failure> {
    match fs::symlink_metadata(target) {
        Ok(is) if !is.is_file() => {
            let (shown, what) = (neutral(&target.display().to_string()), word(is.file_type()));
            Err(Failure::new(Kind::NotAFile, format!("{shown} is {what}, and is not replaced"))
                .with_hint("name another file"))
        }
        Ok(_) if !overwrite => Err(there_already(target)),
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(io_failure(target, &error)),
    }
}

/// What something is that is no regular file.
fn word(what: FileType) -> &'static str {
    if what.is_dir() {
        "a directory"
    } else if what.is_symlink() {
        "a symbolic link"
    } else if what.is_fifo() {
        "a FIFO"
    } else if what.is_socket() {
        "a socket"
    } else if what.is_char_device() || what.is_block_device() {
        "a device"
    } else {
        "no regular file"
    }
}

/// Where a file goes that a person or a model has named a place for: through a symbolic link, as
/// with cp(1). A link that leads nowhere stays in the way.
pub(crate) fn through_link(target: &Path) -> PathBuf {
    match target.is_symlink() {
        true => fs::canonicalize(target).unwrap_or_else(|_| target.to_path_buf()),
        false => target.to_path_buf(),
    }
}

pub(crate) fn there_already(target: &Path) -> Failure {
    let text = format!("{} is there already", neutral(&target.display().to_string()));
    Failure::new(Kind::FileExists, text)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    use rustix::fs::{CWD, FileType, Mode, mknodat};

    use super::*;
    use crate::files::transfer::local::Incoming;

    #[test]
    fn only_a_regular_file_is_replaced() {
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| place.path().join(name);
        mknodat(CWD, at("fifo"), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        let _listener = UnixListener::bind(at("socket")).unwrap();
        fs::create_dir(at("dir")).unwrap();
        fs::write(at("file"), "old").unwrap();
        symlink(at("file"), at("link")).unwrap();
        symlink(at("nothing"), at("dangling")).unwrap();
        for name in ["fifo", "socket", "dir", "link", "dangling"] {
            let before = fs::symlink_metadata(at(name)).unwrap().file_type();
            for overwrite in [false, true] {
                let refused = Incoming::begin(&at(name), 7, overwrite).unwrap_err();
                assert_eq!(refused.kind, Kind::NotAFile, "{name}");
                assert!(!refused.hint().contains("--force"), "{refused}");
            }
            // It came after the transfer had begun.
            let incoming = Incoming::begin(&at("new"), 7, true).unwrap();
            fs::rename(at(name), at("new")).unwrap();
            assert_eq!(incoming.finish(0o644, 5).unwrap_err().kind, Kind::NotAFile, "{name}");
            assert_eq!(fs::symlink_metadata(at("new")).unwrap().file_type(), before, "{name}");
            fs::rename(at("new"), at(name)).unwrap();
        }
        let mut incoming = Incoming::begin(&at("file"), 7, true).unwrap();
        incoming.write(b"new").unwrap();
        incoming.finish(0o644, 5).unwrap();
        assert_eq!(fs::read(at("file")).unwrap(), b"new");
    }

    #[test]
    fn a_link_that_is_named_leads_to_its_file() {
        let place = tempfile::tempdir().unwrap();
        let real = place.path().canonicalize().unwrap();
        let at = |name: &str| real.join(name);
        fs::write(at("file"), "").unwrap();
        symlink("file", at("link")).unwrap();
        symlink("nothing", at("dangling")).unwrap();
        assert_eq!(through_link(&at("link")), at("file"));
        for name in ["file", "dangling", "nothing"] {
            assert_eq!(through_link(&at(name)), at(name));
        }
    }
}
