//! `get` and `put`: files between this machine and a server.

use std::path::{Component, Path, PathBuf};

use farwire_protocol::failure::{Failure, Kind};

use crate::client::Client;
use crate::files::place::{Place, ServerPath};
use crate::files::site::Face;
use crate::files::transfer::{Meter, Transfer, beneath, download, upload};

/// What is fetched.
#[derive(Debug)]
pub struct Fetch<'a> {
    /// From where.
    pub from: &'a ServerPath,
    /// Where to; without a path to the working directory, under its own name.
    pub to: Option<PathBuf>,
    /// Replace what is here.
    pub overwrite: bool,
    /// A directory with all that is in it.
    pub recursive: bool,
}

/// What is sent.
#[derive(Debug)]
pub struct Send<'a> {
    /// From where.
    pub from: PathBuf,
    /// Where to.
    pub to: &'a ServerPath,
    /// Replace what exists.
    pub overwrite: bool,
    /// A directory with all that is in it.
    pub recursive: bool,
}

impl Fetch<'_> {
    /// Fetches it. `meter` says how far it is, and what was left out or missed.
    ///
    /// # Errors
    ///
    /// Those of the server and of this machine. The same goes on where it stopped.
    pub async fn carry_out(
        self,
        client: &Client,
        face: Face,
        meter: &Meter,
    ) -> Result<(), Failure> {
        if let Some(to) = &self.to {
            may_be_used(client, face, "copy", to)?;
        }
        let (server, remote) = self.from.place(client).await?;
        let local = match self.to {
            Some(to) => to,
            None if self.recursive => own_name(&remote)?,
            None => PathBuf::from("."),
        };
        let Self { overwrite, recursive, .. } = self;
        let (server, upward) = (&server, false);
        let transfer =
            Transfer { client, server, remote, local, overwrite, recursive, upward, meter };
        Box::pin(download(&transfer)).await
    }
}

impl Send<'_> {
    /// Sends it. `meter` says how far it is, and what was left out or missed.
    ///
    /// # Errors
    ///
    /// Those of the server and of this machine. The same goes on where it stopped.
    pub async fn carry_out(
        self,
        client: &Client,
        face: Face,
        meter: &Meter,
    ) -> Result<(), Failure> {
        may_be_used(client, face, "copy", &self.from)?;
        let (server, remote) = self.to.place(client).await?;
        let Self { from: local, overwrite, recursive, .. } = self;
        let (server, upward) = (&server, true);
        let transfer =
            Transfer { client, server, remote, local, overwrite, recursive, upward, meter };
        Box::pin(upload(&transfer)).await
    }
}

/// The directory here that is called as one on a server is, which decides no more than that.
fn own_name(remote: &Place) -> Result<PathBuf, Failure> {
    let name = remote.path.rsplit(|&byte| byte == b'/').next().unwrap_or_default();
    let name = if name.is_empty() { remote.root.as_bytes() } else { name };
    beneath(Path::new(""), name)
}

/// That a model has named an absolute path here that is not where our keys and secrets are: it
/// neither gets them nor puts others in their place. People may name any path.
///
/// # Errors
///
/// `invalid_argument` and `not_granted`.
pub(super) fn may_be_used(
    client: &Client,
    face: Face,
    verb: &str,
    local: &Path,
) -> Result<(), Failure> {
    match face {
        Face::Cli => Ok(()),
        Face::Mcp => is_not_ours(client.home.path(), local).map_err(|failure| Failure {
            message: face.refusal(verb, &failure.message),
            ..failure
        }),
    }
}

fn is_not_ours(home: &Path, local: &Path) -> Result<(), Failure> {
    if !local.is_absolute() {
        let text = format!("`{}` is neither SERVER:PATH nor absolute", local.display());
        return Err(Failure::new(Kind::InvalidArgument, text));
    }
    let real = |path: &Path| -> Option<PathBuf> {
        // What is not there yet is where its directory is.
        path.ancestors().find_map(|above| {
            let real = above.canonicalize().ok()?;
            Some(real.join(path.strip_prefix(above).ok()?))
        })
    };
    let (Some(home), Some(local)) = (real(home), real(local)) else { return Ok(()) };
    // A path with `..` in what is not there yet leads nowhere.
    let odd = local.components().any(|part| part == Component::ParentDir);
    if odd || local.starts_with(&home) || home.starts_with(&local) {
        let text = "Farwire's own keys and secrets are there";
        return Err(Failure::new(Kind::NotGranted, text).with_hint("name another path"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_keys_are_neither_sent_nor_replaced() {
        let place = tempfile::tempdir().unwrap();
        let home = place.path().join("config/farwire");
        std::fs::create_dir_all(&home).unwrap();
        std::os::unix::fs::symlink(&home, place.path().join("link")).unwrap();
        for ours in
            ["config/farwire", "config/farwire/new", "config", "", "link/identity", "x/../config"]
        {
            let refused = is_not_ours(&home, &place.path().join(ours)).unwrap_err();
            assert_eq!(refused.kind, Kind::NotGranted, "{ours}");
        }
        for other in ["config/other", "config/farwire2", "file", "new/deep/file"] {
            is_not_ours(&home, &place.path().join(other)).unwrap();
        }
    }

    #[test]
    fn what_is_fetched_stays_here_whatever_it_is_called() {
        let named = |root: &str, path: &str| {
            let (root, root_path, path) = (root.to_owned(), b"/srv".to_vec(), path.into());
            own_name(&Place { root, root_path, path, several: false })
        };
        assert_eq!(named("work", "").unwrap(), Path::new("work"));
        assert_eq!(named("work", "a/b").unwrap(), Path::new("b"));
        for (root, path) in [
            ("..", ""),
            ("/etc/cron.d", ""),
            ("../x", ""),
            ("", ""),
            ("work", "a/.."),
            ("work", "a/."),
        ] {
            let bad =
                matches!(named(root, path), Err(failure) if failure.kind == Kind::OutsideRoot);
            assert!(bad, "{root:?} {path:?}");
        }
    }
}
