//! `archive`: a directory of a server as one tar archive, as the server writes it.

use std::fs::File;
use std::io::{self, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Args;
use farwire_protocol::failure::{Failure, Kind};
use serde_json::json;
use tempfile::NamedTempFile;

use super::unfinished::{incomplete, missed_json};
use crate::cli::output::{Json, print_bytes, print_json};
use crate::client::Client;
use crate::files::place::ServerPath;
use crate::files::site::Face;
use crate::files::transfer::{io_failure, may_be_replaced, there_already, through_link};
use crate::text::human;
use crate::verbs::files::archive::{ArchiveAnswer, MakeArchive};

/// Write a directory on a server, with everything in it, as a tar archive
///
/// To standard output, or to a file, which appears under its name only once it is complete. The
/// archive holds files and directories, with their permissions and times; symbolic links and
/// special files are left out, and counted. It is not compressed: pipe it to `zstd` or `gzip` for
/// that.
#[derive(Args, Debug)]
pub(crate) struct Archive {
    /// The directory: SERVER or SERVER:PATH
    dir: ServerPath,
    /// Write to this file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Replace the file if it exists
    #[arg(short, long, requires = "output")]
    force: bool,
    /// Leave out names that begin with a dot, and what .gitignore excludes
    #[arg(long)]
    tidy: bool,
    #[command(flatten)]
    pub(crate) json: Json,
}

impl Archive {
    pub(super) async fn carry_out(&self, client: &Client) -> Result<u8, Failure> {
        let begun = Instant::now();
        let archive = MakeArchive { dir: &self.dir, tidy: self.tidy };
        let answer = match &self.output {
            Some(path) => {
                let mut target = Target::begin(path, self.force)?;
                let take = &mut |bytes: &[u8]| target.write(bytes);
                let fetched = archive.carry_out(client, Face::Cli, take).await?;
                target.finish()?;
                fetched
            }
            None if self.json.json || io::stdout().is_terminal() => {
                return Err(Failure::new(
                    Kind::InvalidArgument,
                    "standard output is a terminal or has the JSON, and cannot take the archive",
                )
                .with_hint("use -o FILE, or a pipe: `farwire files archive SERVER:DIR | tar -t`"));
            }
            None => archive.carry_out(client, Face::Cli, &mut print_bytes).await?,
        };
        let ArchiveAnswer { bytes, files, skipped, unread, missed } = answer;
        let links = skipped.saturating_sub(unread);
        if links > 0 {
            note!("farwire: {links} symbolic links and special files were left out");
        }
        if self.json.json {
            print_json(&json!({
                "files": files, "bytes": bytes, "skipped": skipped,
                "failed": missed_json(&missed), "seconds": begun.elapsed().as_secs_f64(),
            }))?;
        } else if io::stderr().is_terminal() {
            let (bytes, time) = (human::size(bytes), human::duration(begun.elapsed()));
            note!("{files} files, {bytes} in {time}");
        }
        if unread > 0 {
            let text = format!("{unread} files or directories could not be read");
            return Ok(incomplete(&missed, &Failure::new(Kind::PermissionDenied, text)));
        }
        if missed.is_empty() {
            return Ok(0);
        }
        let text = format!("{} files changed while they were read", missed.len());
        let failure = Failure::new(Kind::ChangedMeanwhile, text)
            .with_hint("their content in the archive may be inconsistent: write it again");
        Ok(incomplete(&missed, &failure))
    }
}

/// A file that gets its name once it is complete.
struct Target {
    path: PathBuf,
    force: bool,
    file: NamedTempFile,
}

impl Target {
    fn begin(path: &Path, force: bool) -> Result<Self, Failure> {
        let path = through_link(path);
        // This is checked again at the end; checking first spares a user who forgot `--force` the
        // wait.
        may_be_replaced(&path, force)?;
        let above = match path.parent() {
            Some(above) if !above.as_os_str().is_empty() => above,
            _ => Path::new("."),
        };
        let file = tempfile::Builder::new().prefix(".farwire-").make_in(above, |path| {
            // With the permissions of any new file.
            File::options().write(true).create_new(true).open(path)
        });
        let file = file.map_err(|error| io_failure(&path, &error))?;
        Ok(Self { path, force, file })
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.file.write_all(bytes).map_err(|error| io_failure(&self.path, &error))
    }

    fn finish(self) -> Result<(), Failure> {
        let Self { path, force, file } = self;
        may_be_replaced(&path, force)?;
        let named = match force {
            true => file.persist(&path),
            false => file.persist_noclobber(&path),
        };
        named.map(drop).map_err(|error| match error.error.kind() {
            io::ErrorKind::AlreadyExists => there_already(&path),
            _ => io_failure(&path, &error.error),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use rustix::fs::{CWD, FileType, Mode, mknodat};

    use super::*;

    #[test]
    fn only_a_regular_file_is_replaced() {
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| place.path().join(name);
        mknodat(CWD, at("fifo"), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        symlink(at("fifo"), at("to-fifo")).unwrap();
        for name in ["fifo", "to-fifo"] {
            let refused = Target::begin(&at(name), true).map(drop).unwrap_err();
            assert_eq!(refused.kind, Kind::NotAFile, "{name}");
        }
        // It came while the archive was written.
        let target = Target::begin(&at("new"), true).unwrap();
        fs::rename(at("fifo"), at("new")).unwrap();
        assert_eq!(target.finish().unwrap_err().kind, Kind::NotAFile);
        fs::write(at("file"), "old").unwrap();
        symlink("file", at("link")).unwrap();
        let mut target = Target::begin(&at("link"), true).unwrap();
        target.write(b"tar").unwrap();
        target.finish().unwrap();
        assert_eq!(fs::read(at("file")).unwrap(), b"tar");
        assert!(at("link").is_symlink());
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 4, "nothing else is left");
    }
}
