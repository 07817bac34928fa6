//! The data directory: a lock, three keys, the node's id, the database's file, and the address for
//! `url`.
//!
//! Keys are made once. A damaged key file is an error: a relay with another key is another relay to
//! everybody who pinned it. All access goes through a handle of the directory and follows no link,
//! because the relay may have more rights than the user who put a link there. The relay serves even
//! if it cannot write down what merely helps, such as the address: the disk may be full.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use ed25519_dalek::SigningKey;
use farwire_protocol::failure::{Failure, Kind};
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;
use zeroize::Zeroizing;

use crate::node::NodeId;

/// The database, and the files that SQLite keeps beside it.
const DATABASE: &str = "relay.db";
const BESIDE_DATABASE: [&str; 2] = ["relay.db-wal", "relay.db-shm"];

/// Most bytes that are read of a small file. None of ours has more.
const LONGEST: u64 = 4096;

/// The data directory, which nobody else can enter.
#[derive(Debug)]
pub(crate) struct DataDirectory {
    handle: File,
    path: PathBuf,
}

fn io_failure(path: &Path, error: &io::Error) -> Failure {
    Failure::new(Kind::Io, format!("{}: {error}", path.display()))
}

fn insecure(message: String, hint: String) -> Failure {
    Failure::new(Kind::KeystorePermissions, message).with_hint(hint)
}

fn exposed(path: &Path, metadata: &fs::Metadata) -> String {
    let mode = metadata.mode() & 0o7777;
    format!("{} is accessible to other users (mode {mode:04o})", path.display())
}

/// Checks that a file or directory belongs to our user.
fn check_owner(path: &Path, metadata: &fs::Metadata) -> Result<(), Failure> {
    if metadata.uid() == rustix::process::geteuid().as_raw() {
        return Ok(());
    }
    let message = format!("{} belongs to another user", path.display());
    Err(insecure(message, format!("run the relay as that user, or chown {}", path.display())))
}

impl DataDirectory {
    /// Opens the directory, and creates it if it is missing.
    pub(crate) fn open(path: PathBuf) -> Result<Self, Failure> {
        let failed = |error: &io::Error| io_failure(&path, error);
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&path)
            .map_err(|error| failed(&error))?;
        let handle = File::open(&path).map_err(|error| failed(&error))?;
        let metadata = handle.metadata().map_err(|error| failed(&error))?;
        check_owner(&path, &metadata)?;
        if metadata.mode() & 0o077 != 0 {
            let message = exposed(&path, &metadata);
            return Err(insecure(message, format!("chmod 700 {}", path.display())));
        }
        Ok(Self { handle, path })
    }

    /// Opens a regular file of our user, and follows no link. Returns `None` if there is no file.
    fn open_file(&self, name: &str, flags: OFlags) -> Result<Option<File>, Failure> {
        let path = self.path.join(name);
        // Without NONBLOCK, opening a pipe with this name would wait for ever.
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = match rustix::fs::openat(&self.handle, name, flags, Mode::RUSR | Mode::WUSR) {
            Ok(fd) => File::from(fd),
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::LOOP) => {
                let message = format!(
                    "{} is a symbolic link, which the relay does not follow",
                    path.display()
                );
                return Err(insecure(message, "put a regular file there".to_owned()));
            }
            Err(errno) => return Err(io_failure(&path, &errno.into())),
        };
        let metadata = file.metadata().map_err(|error| io_failure(&path, &error))?;
        if !metadata.is_file() {
            let message = format!("{} is not a regular file", path.display());
            return Err(insecure(message, "put a regular file there".to_owned()));
        }
        check_owner(&path, &metadata)?;
        Ok(Some(file))
    }

    /// Reads a small file. Returns `None` if there is no file.
    fn read(&self, name: &str) -> Result<Option<Zeroizing<Vec<u8>>>, Failure> {
        let Some(file) = self.open_file(name, OFlags::RDONLY)? else { return Ok(None) };
        let mut bytes = Zeroizing::new(Vec::new());
        file.take(LONGEST)
            .read_to_end(&mut bytes)
            .map_err(|error| io_failure(&self.path.join(name), &error))?;
        Ok(Some(bytes))
    }

    /// Reserves the directory for this process until the file is dropped.
    pub(crate) fn lock(&self) -> Result<File, Failure> {
        let path = self.path.join("lock");
        let opened = self.open_file("lock", OFlags::RDWR | OFlags::CREATE)?;
        let mut file = opened.ok_or_else(|| io_failure(&path, &Errno::NOENT.into()))?;
        if file.try_lock().is_err() {
            let mut pid = String::new();
            // The message is useful without the process id.
            let _ = (&file).take(20).read_to_string(&mut pid);
            let message =
                format!("a relay (pid {}) already uses {}", pid.trim(), self.path.display());
            return Err(Failure::new(Kind::AlreadyRunning, message));
        }
        // The lock holds without the number: the disk may be full.
        let _ = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
        Ok(file)
    }

    /// Returns the path of the database. Creates the file if it is missing, so that SQLite opens no
    /// link and nobody else can read what it creates.
    pub(crate) fn database(&self) -> Result<PathBuf, Failure> {
        let path = self.path.join(DATABASE);
        let made = self.open_file(DATABASE, OFlags::RDWR | OFlags::CREATE)?;
        let beside = BESIDE_DATABASE.map(|name| self.open_file(name, OFlags::RDWR));
        for file in std::iter::once(Ok(made)).chain(beside) {
            if let Some(file) = file? {
                rustix::fs::fchmod(&file, Mode::RUSR | Mode::WUSR)
                    .map_err(|errno| io_failure(&path, &errno.into()))?;
            }
        }
        Ok(path)
    }

    /// Returns the key that programs pin. It is made with the directory, and never again once there
    /// are records.
    pub(crate) fn tls_key(&self) -> Result<SigningKey, Failure> {
        let exists =
            |name| rustix::fs::statat(&self.handle, name, AtFlags::SYMLINK_NOFOLLOW).is_ok();
        if !exists("relay.key") && exists(DATABASE) {
            let path = self.path.join("relay.key");
            let message = format!("{} is missing, although the relay has records", path.display());
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

    /// Returns the id of this node, made by the first start. An operator may change the file.
    pub(crate) fn node(&self) -> Result<NodeId, Failure> {
        let Some(bytes) = self.read("node")? else {
            let node = NodeId::random()?;
            if let Err(error) = self.write("node", format!("{node}\n").as_bytes()) {
                tracing::warn!(%error, "the node's id could not be stored: the next start creates another");
            }
            return Ok(node);
        };
        let text = str::from_utf8(&bytes).ok().map(str::trim);
        text.and_then(|text| text.parse().ok()).ok_or_else(|| {
            let path = self.path.join("node");
            Failure::new(
                Kind::Configuration,
                format!("{} does not contain a node number", path.display()),
            )
            .with_hint("write a number from 0 to 65535, or delete the file for a new one")
        })
    }

    /// Returns a key of 32 bytes, and makes it if there is no file.
    fn key(&self, name: &str) -> Result<Zeroizing<[u8; 32]>, Failure> {
        let path = self.path.join(name);
        if let Some(file) = self.open_file(name, OFlags::RDONLY)? {
            let metadata = file.metadata().map_err(|error| io_failure(&path, &error))?;
            if metadata.mode() & 0o077 != 0 {
                let message = exposed(&path, &metadata);
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

    /// Writes a new file and renames it, so that a crash leaves the old content or the new one.
    fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let beside = format!(".{name}.new");
        // A file left by a crash, or a link, must not be written to.
        let _ = rustix::fs::unlinkat(&self.handle, beside.as_str(), AtFlags::empty());
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let made =
            rustix::fs::openat(&self.handle, beside.as_str(), flags, Mode::RUSR | Mode::WUSR)?;
        let mut file = File::from(made);
        let written = file.write_all(bytes).and_then(|()| file.sync_all());
        if let Err(error) = written {
            // It takes up space, of which there may be none.
            let _ = rustix::fs::unlinkat(&self.handle, beside.as_str(), AtFlags::empty());
            return Err(error);
        }
        rustix::fs::renameat(&self.handle, beside.as_str(), &self.handle, name)?;
        self.handle.sync_all()
    }

    /// Writes down the address where the relay is reached, for `url` and `invite`.
    pub(crate) fn remember_address(&self, address: &str) {
        if self.read("address").is_ok_and(|old| old.is_some_and(|old| *old == address.as_bytes())) {
            return;
        }
        if let Err(error) = self.write("address", address.as_bytes()) {
            tracing::warn!(%error, "the address could not be stored for `farwire-relay url`");
        }
    }

    pub(crate) fn address(&self) -> Result<String, Failure> {
        let bytes = self.read("address")?.ok_or_else(|| {
            let message = format!("no relay has used {} yet", self.path.display());
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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    fn private() -> (tempfile::TempDir, DataDirectory) {
        let temp = tempfile::tempdir().unwrap();
        let data = DataDirectory::open(temp.path().join("data")).unwrap();
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
        for name in ["relay.key", "reset.key", "cid.key", "node", "lock", "address", DATABASE] {
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
            data.node().map(drop),
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
    fn the_id_of_a_node_is_made_once_and_may_be_chosen() {
        let (_temp, data) = private();
        let node = data.node().unwrap();
        assert_eq!(data.node().unwrap(), node);
        let path = data.path.join("node");
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("{node}\n"));
        fs::write(&path, "65535").unwrap();
        assert_eq!(data.node().unwrap().number(), u16::MAX);
        for damaged in ["", "65536", "one", "\u{fffd}"] {
            fs::write(&path, damaged).unwrap();
            assert_eq!(data.node().unwrap_err().kind, Kind::Configuration, "{damaged}");
        }
    }

    #[test]
    fn a_node_that_cannot_write_its_id_down_has_one_all_the_same() {
        let (_temp, data) = private();
        // A directory cannot be replaced by a file.
        fs::create_dir(data.path.join(".node.new")).unwrap();
        data.node().unwrap();
        assert!(!data.path.join("node").exists());
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
