//! The data directory: a lock, three keys, and where the address is written down for `url`.
//!
//! Keys are made once. A key file that is there and is not whole is an error: a relay with another
//! key is another relay to everybody who pinned it.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{
    DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
};
use std::path::{Path, PathBuf};

use ed25519_dalek::SigningKey;
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::id::Kt;
use zeroize::Zeroizing;

/// The directory, and that it is private.
#[derive(Debug)]
pub(crate) struct Data {
    path: PathBuf,
}

fn io_failure(path: &Path, error: &io::Error) -> Failure {
    Failure::new(Kind::Io, format!("{}: {error}", path.display()))
}

impl Data {
    pub(crate) fn open(path: PathBuf) -> Result<Self, Failure> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&path)
            .and_then(|()| fs::metadata(&path))
            .map_err(|error| io_failure(&path, &error))
            .and_then(|found| {
                if found.mode() & 0o077 == 0 {
                    return Ok(Self { path: path.clone() });
                }
                let message = format!("{} can be entered by others", path.display());
                let hint = format!("chmod 700 {}", path.display());
                Err(Failure::new(Kind::KeystorePermissions, message).with_hint(hint))
            })
    }

    /// Takes the directory for this process alone, until the file is dropped.
    pub(crate) fn lock(&self) -> Result<File, Failure> {
        let path = self.path.join("lock");
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&path)
            .map_err(|error| io_failure(&path, &error))?;
        if file.try_lock().is_err() {
            let pid = fs::read_to_string(&path).unwrap_or_default();
            let message =
                format!("a relay (pid {}) uses {} already", pid.trim(), self.path.display());
            return Err(Failure::new(Kind::AlreadyRunning, message));
        }
        file.set_len(0)
            .and_then(|()| writeln!(file, "{}", std::process::id()))
            .map_err(|error| io_failure(&path, &error))?;
        Ok(file)
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.path.join("relay.db")
    }

    pub(crate) fn tls_key(&self) -> Result<SigningKey, Failure> {
        let path = self.path.join("relay.key");
        if !path.exists() && self.database().exists() {
            // A new key would be another relay to everybody who pinned this one.
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
        match fs::metadata(&path) {
            Ok(found) if found.mode() & 0o077 != 0 => {
                let message = format!("{} can be read by others", path.display());
                let hint = format!("chmod 600 {}", path.display());
                return Err(Failure::new(Kind::KeystorePermissions, message).with_hint(hint));
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let mut key = Zeroizing::new([0; 32]);
                getrandom::fill(&mut *key).map_err(|error| {
                    Failure::new(Kind::Io, format!("no random numbers: {error}"))
                })?;
                self.write(name, &*key)?;
                return Ok(key);
            }
            Err(error) => return Err(io_failure(&path, &error)),
        }
        let bytes = Zeroizing::new(fs::read(&path).map_err(|error| io_failure(&path, &error))?);
        bytes.as_slice().try_into().map(Zeroizing::new).map_err(|_| {
            let message = format!("{} has {} bytes instead of 32", path.display(), bytes.len());
            Failure::new(Kind::KeystoreCorrupt, message)
        })
    }

    /// Writes beside and renames, so that there is the old file or the new one.
    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), Failure> {
        let (path, beside) = (self.path.join(name), self.path.join(format!(".{name}.new")));
        let written = || {
            let mut file = OpenOptions::new()
                .create(true)
                .truncate(true)
                .write(true)
                .mode(0o600)
                .open(&beside)?;
            file.set_permissions(Permissions::from_mode(0o600))?;
            file.write_all(bytes)?;
            file.sync_all()?;
            fs::rename(&beside, &path)?;
            File::open(&self.path)?.sync_all()
        };
        written().map_err(|error| io_failure(&path, &error))
    }

    /// Writes down at which address the relay is reached, for `url` and `invite`.
    pub(crate) fn remember_address(&self, address: &str) -> Result<(), Failure> {
        self.write("address", address.as_bytes())
    }

    pub(crate) fn address(&self) -> Result<String, Failure> {
        let path = self.path.join("address");
        fs::read_to_string(&path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Failure::new(
                Kind::Configuration,
                format!("no relay has run with {} yet", self.path.display()),
            )
            .with_hint("start `farwire-relay serve` once, or name another directory with --data"),
            _ => io_failure(&path, &error),
        })
    }
}

/// The public half, as URLs name it.
pub(crate) fn public(key: &SigningKey) -> Kt {
    Kt(key.verifying_key().to_bytes())
}
