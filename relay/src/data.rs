//! The data directory: a lock, three keys, the database's file, and where the address is written down for `url`.
//!
//! Keys are made once. A key file that is there and is not whole is an error: a relay with another
//! key is another relay to everybody who pinned it. Everything goes through a handle of the directory, and
//! no link is followed: the relay may run with more rights than who put a link there. What only helps, as
//! the address, is no reason not to serve: a disk may be full.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use ed25519_dalek::SigningKey;
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::id::Kt;
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;
use zeroize::Zeroizing;

/// The database, and what SQLite keeps beside it.
const DATABASE: &str = "relay.db";
const BESIDE_DATABASE: [&str; 2] = ["relay.db-wal", "relay.db-shm"];

/// No file of ours that is read whole is longer.
const LONGEST: u64 = 4096;

/// The directory, and that it is private.
#[derive(Debug)]
pub(crate) struct Data {
    handle: File,
    path: PathBuf,
}

fn io_failure(path: &Path, error: &io::Error) -> Failure {
    Failure::new(Kind::Io, format!("{}: {error}", path.display()))
}

fn insecure(message: String, hint: String) -> Failure {
    Failure::new(Kind::KeystorePermissions, message).with_hint(hint)
}

/// Whether a file or directory is ours.
fn check_owner(path: &Path, found: &fs::Metadata) -> Result<(), Failure> {
    if found.uid() == rustix::process::geteuid().as_raw() {
        return Ok(());
    }
    let message = format!("{} belongs to another user", path.display());
    Err(insecure(message, format!("run the relay as that user, or chown {}", path.display())))
}

impl Data {
    pub(crate) fn open(path: PathBuf) -> Result<Self, Failure> {
        let failed = |error: &io::Error| io_failure(&path, error);
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&path)
            .map_err(|error| failed(&error))?;
        let handle = File::open(&path).map_err(|error| failed(&error))?;
        let found = handle.metadata().map_err(|error| failed(&error))?;
        check_owner(&path, &found)?;
        if found.mode() & 0o077 != 0 {
            let message = format!("{} can be entered by others", path.display());
            return Err(insecure(message, format!("chmod 700 {}", path.display())));
        }
        Ok(Self { handle, path })
    }

    /// Opens a file as it is: a regular one, of ours, and no link. `None` when there is none.
    fn file(&self, name: &str, flags: OFlags) -> Result<Option<File>, Failure> {
        let path = self.path.join(name);
        // Without NONBLOCK, opening a pipe in a file's place would wait for ever.
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = match rustix::fs::openat(&self.handle, name, flags, Mode::RUSR | Mode::WUSR) {
            Ok(fd) => File::from(fd),
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::LOOP) => {
                let message = format!("{} is a link, and no link is followed here", path.display());
                return Err(insecure(message, "put the file itself there".to_owned()));
            }
            Err(errno) => return Err(io_failure(&path, &errno.into())),
        };
        let found = file.metadata().map_err(|error| io_failure(&path, &error))?;
        if !found.is_file() {
            let message = format!("{} is no regular file", path.display());
            return Err(insecure(message, "put the file itself there".to_owned()));
        }
        check_owner(&path, &found)?;
        Ok(Some(file))
    }

    /// The content of a small file, if there is one.
    fn read(&self, name: &str) -> Result<Option<Zeroizing<Vec<u8>>>, Failure> {
        let Some(file) = self.file(name, OFlags::RDONLY)? else { return Ok(None) };
        let mut bytes = Zeroizing::new(Vec::new());
        file.take(LONGEST)
            .read_to_end(&mut bytes)
            .map_err(|error| io_failure(&self.path.join(name), &error))?;
        Ok(Some(bytes))
    }

    /// Takes the directory for this process alone, until the file is dropped.
    pub(crate) fn lock(&self) -> Result<File, Failure> {
        let path = self.path.join("lock");
        let opened = self.file("lock", OFlags::RDWR | OFlags::CREATE)?;
        let mut file = opened.ok_or_else(|| io_failure(&path, &Errno::NOENT.into()))?;
        if file.try_lock().is_err() {
            let mut pid = String::new();
            // Who it is only helps.
            let _ = (&file).take(20).read_to_string(&mut pid);
            let message =
                format!("a relay (pid {}) uses {} already", pid.trim(), self.path.display());
            return Err(Failure::new(Kind::AlreadyRunning, message));
        }
        // The lock holds without the number, for which there may be no room.
        let _ = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
        Ok(file)
    }

    /// The database's file, made if it is missing, so that SQLite opens no link and what it makes is ours alone.
    pub(crate) fn database(&self) -> Result<PathBuf, Failure> {
        let path = self.path.join(DATABASE);
        let made = self.file(DATABASE, OFlags::RDWR | OFlags::CREATE)?;
        let beside = BESIDE_DATABASE.map(|name| self.file(name, OFlags::RDWR));
        for file in std::iter::once(Ok(made)).chain(beside) {
            if let Some(file) = file? {
                rustix::fs::fchmod(&file, Mode::RUSR | Mode::WUSR)
                    .map_err(|errno| io_failure(&path, &errno.into()))?;
            }
        }
        Ok(path)
    }

    pub(crate) fn tls_key(&self) -> Result<SigningKey, Failure> {
        let holds =
            |name| rustix::fs::statat(&self.handle, name, AtFlags::SYMLINK_NOFOLLOW).is_ok();
        if !holds("relay.key") && holds(DATABASE) {
            // A new key would be another relay to everybody who pinned this one.
            let path = self.path.join("relay.key");
            let message = format!("{} is missing, and the records are there", path.display());
            return Err(Failure::new(Kind::KeystoreCorrupt, message));
        }
        Ok(SigningKey::from_bytes(&*self.key("relay.key")?))
    }

    pub(crate) fn reset_key(&self) -> Result<[u8; 32], Failure> {
        Ok(*self.key("reset.key")?)
    }

    pub(crate) fn cid_key(&self) -> Result<[u8; 32], Failure> {
        Ok(*self.key("cid.key")?)
    }

    /// A key of 32 bytes, made when there is no file.
    fn key(&self, name: &str) -> Result<Zeroizing<[u8; 32]>, Failure> {
        let path = self.path.join(name);
        if let Some(file) = self.file(name, OFlags::RDONLY)? {
            let found = file.metadata().map_err(|error| io_failure(&path, &error))?;
            if found.mode() & 0o077 != 0 {
                let message = format!("{} can be read by others", path.display());
                return Err(insecure(message, format!("chmod 600 {}", path.display())));
            }
        }
        let Some(bytes) = self.read(name)? else {
            let mut key = Zeroizing::new([0; 32]);
            getrandom::fill(&mut *key)
                .map_err(|error| Failure::new(Kind::Io, format!("no random numbers: {error}")))?;
            self.write(name, &*key).map_err(|error| io_failure(&path, &error))?;
            return Ok(key);
        };
        bytes.as_slice().try_into().map(Zeroizing::new).map_err(|_| {
            let message = format!("{} has {} bytes instead of 32", path.display(), bytes.len());
            Failure::new(Kind::KeystoreCorrupt, message)
        })
    }

    /// Writes beside and renames, so that there is the old file or the new one.
    fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let beside = format!(".{name}.new");
        // What a crash has left, or whatever else has this name, is not written to.
        let _ = rustix::fs::unlinkat(&self.handle, beside.as_str(), AtFlags::empty());
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let made =
            rustix::fs::openat(&self.handle, beside.as_str(), flags, Mode::RUSR | Mode::WUSR)?;
        let mut file = File::from(made);
        let written = file.write_all(bytes).and_then(|()| file.sync_all());
        if let Err(error) = written {
            // It would take room that somebody else may need.
            let _ = rustix::fs::unlinkat(&self.handle, beside.as_str(), AtFlags::empty());
            return Err(error);
        }
        rustix::fs::renameat(&self.handle, beside.as_str(), &self.handle, name)?;
        self.handle.sync_all()
    }

    /// Writes down at which address the relay is reached, for `url` and `invite`.
    pub(crate) fn remember_address(&self, address: &str) {
        if self.read("address").is_ok_and(|old| old.is_some_and(|old| *old == address.as_bytes())) {
            return;
        }
        if let Err(error) = self.write("address", address.as_bytes()) {
            tracing::warn!(%error, "the address could not be written down for `farwire-relay url`");
        }
    }

    pub(crate) fn address(&self) -> Result<String, Failure> {
        let bytes = self.read("address")?.ok_or_else(|| {
            let message = format!("no relay has run with {} yet", self.path.display());
            Failure::new(Kind::Configuration, message).with_hint(
                "start `farwire-relay serve` once, or name another directory with --data",
            )
        })?;
        String::from_utf8(bytes.to_vec()).map_err(|_| {
            let message = format!("{} is damaged", self.path.join("address").display());
            Failure::new(Kind::Configuration, message)
        })
    }
}

/// The public half, as URLs name it.
pub(crate) fn public(key: &SigningKey) -> Kt {
    Kt(key.verifying_key().to_bytes())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    fn private() -> (tempfile::TempDir, Data) {
        let temp = tempfile::tempdir().unwrap();
        let data = Data::open(temp.path().join("data")).unwrap();
        (temp, data)
    }

    fn mode(path: &Path) -> u32 {
        fs::symlink_metadata(path).unwrap().mode() & 0o7777
    }

    #[test]
    fn keys_are_made_once_and_are_ours_alone() {
        let (_temp, data) = private();
        let key = data.tls_key().unwrap().to_bytes();
        assert_eq!(data.tls_key().unwrap().to_bytes(), key);
        assert_eq!(mode(&data.path.join("relay.key")), 0o600);
        fs::set_permissions(data.path.join("relay.key"), fs::Permissions::from_mode(0o644))
            .unwrap();
        assert_eq!(data.tls_key().unwrap_err().kind, Kind::KeystorePermissions);
        fs::remove_file(data.path.join("relay.key")).unwrap();
        data.database().unwrap();
        assert_eq!(data.tls_key().unwrap_err().kind, Kind::KeystoreCorrupt);
    }

    #[test]
    fn no_link_is_followed_and_nothing_is_written_through_one() {
        let (temp, data) = private();
        let outside = temp.path().join("outside");
        fs::write(&outside, "not ours to change").unwrap();
        for name in ["relay.key", "reset.key", "cid.key", "lock", "address", DATABASE] {
            symlink(&outside, data.path.join(name)).unwrap();
        }
        for name in BESIDE_DATABASE {
            symlink(temp.path().join("elsewhere"), data.path.join(name)).unwrap();
        }
        symlink(&outside, data.path.join(".address.new")).unwrap();
        let refused = [
            data.tls_key().map(drop),
            data.reset_key().map(drop),
            data.cid_key().map(drop),
            data.lock().map(drop),
            data.address().map(drop),
            data.database().map(drop),
        ];
        for result in refused {
            assert_eq!(result.unwrap_err().kind, Kind::KeystorePermissions);
        }
        fs::remove_file(data.path.join(DATABASE)).unwrap();
        assert_eq!(data.database().unwrap_err().kind, Kind::KeystorePermissions);
        // A name is replaced, and not what it leads to.
        data.remember_address("192.0.2.1:4433");
        assert_eq!(data.address().unwrap(), "192.0.2.1:4433");
        assert_eq!(fs::read_to_string(&outside).unwrap(), "not ours to change");
        assert!(!temp.path().join("elsewhere").exists());
    }

    #[test]
    fn the_database_is_ours_alone_also_where_an_older_relay_made_it() {
        let (_temp, data) = private();
        fs::write(data.path.join(DATABASE), "").unwrap();
        fs::set_permissions(data.path.join(DATABASE), fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(mode(&data.database().unwrap()), 0o600);
    }

    #[test]
    fn one_relay_at_a_time() {
        let (_temp, data) = private();
        let lock = data.lock().unwrap();
        let second = data.lock().unwrap_err();
        assert_eq!(second.kind, Kind::AlreadyRunning);
        assert!(second.message.contains(&std::process::id().to_string()), "{}", second.message);
        drop(lock);
        data.lock().unwrap();
    }
}
