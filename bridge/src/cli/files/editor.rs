//! `edit` without texts: a person's editor on a copy, which is written back.

use std::ffi::OsString;
use std::fs::{DirBuilder, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use farwire_protocol::cbor::Blob;
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::streams::files::{Ask, How, Part, Read, TEXT_LIMIT, Write};
use tokio::process::Command;

use super::change::print_change;
use crate::cli::output::Json;
use crate::cli::runtime::InterruptsLent;
use crate::client::Client;
use crate::files::place::Place;
use crate::files::place::ServerPath;
use crate::files::site::{Face, Site};
use crate::verbs::files::Changed;

/// A copy of a file, in a directory that nobody else can enter.
struct Desk {
    dir: PathBuf,
    file: PathBuf,
}

impl Desk {
    fn new(name: &str, content: &[u8]) -> Result<Self, Failure> {
        let mut random = [0; 8];
        getrandom::fill(&mut random).map_err(|error| {
            Failure::new(Kind::ResourceExhausted, format!("no random numbers: {error}"))
        })?;
        let random = data_encoding::HEXLOWER.encode(&random);
        let dir = std::env::temp_dir().join(format!("farwire-edit-{random}"));
        // It must not exist: it would be somebody else's.
        DirBuilder::new().mode(0o700).create(&dir).map_err(|error| wrong(&dir, &error))?;
        let desk = Self { file: dir.join(name), dir };
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o600);
        let written = options.open(&desk.file).and_then(|mut file| file.write_all(content));
        match written {
            Ok(()) => Ok(desk),
            Err(error) => {
                let failure = wrong(&desk.file, &error);
                desk.clear();
                Err(failure)
            }
        }
    }

    fn read(&self) -> Result<Vec<u8>, Failure> {
        std::fs::read(&self.file).map_err(|error| wrong(&self.file, &error))
    }

    /// Editors leave files besides the one that they were given: remove all of them.
    fn clear(self) {
        // What cannot be removed stays in a private directory, until the system cleans it up.
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

fn wrong(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(Kind::Io, format!("{}: {error}", path.display()))
}

/// Fetches a file, lets a person edit it, and writes it back if nobody has changed it meanwhile.
pub(super) async fn edit(
    client: &Client,
    path: &ServerPath,
    revision: Option<u64>,
    json: Json,
) -> Result<(), Failure> {
    let mut at = path.site(client, Face::Cli).await?;
    let (before, revision) = fetch(&mut at, revision).await?;
    let desk = Desk::new(&name(&at.place.path), &before)?;
    let after = match run(editor(), &desk.file).await.and_then(|()| desk.read()) {
        Ok(after) => after,
        Err(failure) => {
            desk.clear();
            return Err(failure);
        }
    };
    if after == before {
        desk.clear();
        note!("farwire: nothing was changed");
        return Ok(());
    }
    // An editor may be open for hours: the connection may have changed by now.
    let mut at = match path.site(client, Face::Cli).await {
        Ok(at) => at,
        Err(failure) => return Err(with_draft_path(failure, &desk)),
    };
    let write = |place: &Place| Write {
        revision: Some(revision),
        undo: Some(true),
        ..Write::new(Blob(place.path.clone()), How::Replace)
    };
    let answer = at.ask_with(Some(&after), |place| Ask::Write(write(place))).await;
    let done = answer.map_err(|failure| with_draft_path(failure, &desk))?.done;
    desk.clear();
    print_change(&Changed::new(at.place.clone(), done), json)
}

async fn fetch(at: &mut Site, revision: Option<u64>) -> Result<(Vec<u8>, u64), Failure> {
    let path = |place: &Place| Blob(place.path.clone());
    let stat = at.ask(|place| Ask::Stat(path(place))).await?.done.entry;
    let nothing = || Failure::new(Kind::ProtocolViolation, "the answer has no entry");
    let entry = stat.ok_or_else(nothing)?;
    if entry.size > TEXT_LIMIT as u64 {
        let text = format!("{} is too large for an editor", at.place.to_text());
        return Err(Failure::new(Kind::TooLarge, text).with_hint(
            "fetch it with `farwire files get`, edit it, and send it back with `farwire files put`",
        ));
    }
    let revision = Some(revision.unwrap_or(entry.revision));
    let read = |place: &Place| {
        let part = Part::Bytes { offset: 0, length: None };
        Ask::Read(Read { path: path(place), part, revision, hash: None, before: None })
    };
    let answer = at.ask(read).await?;
    let entry = answer.entries.first().ok_or_else(nothing)?;
    Ok((answer.content, entry.revision))
}

/// The name of the copy, by which editors choose syntax colours. It comes from a server, or from a
/// person.
fn name(path: &[u8]) -> String {
    let name = path.rsplit(|&byte| byte == b'/').next().unwrap_or_default();
    let name: String = String::from_utf8_lossy(name)
        .chars()
        .filter(|char| char.is_ascii_alphanumeric() || matches!(char, '.' | '-' | '_'))
        .take(100)
        .collect();
    match name.trim_start_matches(['.', '-']) {
        "" => "file".to_owned(),
        name => name.to_owned(),
    }
}

/// The editor that a person has chosen.
fn editor() -> OsString {
    let set = |name| std::env::var_os(name).filter(|value: &OsString| !value.is_empty());
    set("VISUAL").or_else(|| set("EDITOR")).unwrap_or_else(|| "vi".into())
}

/// Runs the editor, and waits for it.
async fn run(editor: OsString, file: &Path) -> Result<(), Failure> {
    let shown = editor.to_string_lossy().into_owned();
    let failed = |why: String| {
        Failure::new(Kind::Io, format!("the editor `{shown}` {why}; nothing was changed"))
            .with_hint("set EDITOR to an editor that waits until the file is closed")
    };
    let _interrupts = InterruptsLent::new();
    // A person's editor may have options, as for git.
    let mut script = editor;
    script.push(" \"$@\"");
    let status = Command::new("/bin/sh").arg("-c").arg(script).arg("farwire").arg(file).status();
    match status.await {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(failed(format!("ended with {status}"))),
        Err(error) => Err(failed(format!("cannot be started: {error}"))),
    }
}

/// Adds where the edited text is kept to a failure to write it back.
fn with_draft_path(failure: Failure, desk: &Desk) -> Failure {
    let hint = format!("what you wrote is kept in {}; {}", desk.file.display(), failure.hint());
    failure.with_hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_has_a_harmless_name_and_nobody_else_reads_it() {
        use std::os::unix::fs::MetadataExt as _;
        assert_eq!(name(b"srv/nginx.conf"), "nginx.conf");
        assert_eq!(name(b"a/.env"), "env");
        assert_eq!(name(b"x/-c;rm $HOME"), "crmHOME");
        assert_eq!(name("ü/ö".as_bytes()), "file");
        let desk = Desk::new("a.rs", b"fn").unwrap();
        assert_eq!(desk.read().unwrap(), b"fn");
        assert_eq!(std::fs::metadata(&desk.file).unwrap().mode() & 0o777, 0o600);
        assert_eq!(std::fs::metadata(&desk.dir).unwrap().mode() & 0o777, 0o700);
        let dir = desk.dir.clone();
        desk.clear();
        assert!(!dir.exists());
    }

    #[tokio::test]
    async fn an_editor_with_options_is_run_and_one_that_fails_says_so() {
        let desk = Desk::new("a b", b"old").unwrap();
        let editor = "/bin/sh -c 'printf %s \"$0\" > \"$1\"' 'new text'";
        run(editor.into(), &desk.file).await.unwrap();
        assert_eq!(desk.read().unwrap(), b"new text");
        let failure = run("false".into(), &desk.file).await.unwrap_err();
        assert!(failure.message.contains("nothing was changed"), "{failure}");
        desk.clear();
    }

    #[test]
    fn what_was_typed_is_named_where_it_could_not_be_written() {
        let why = with_draft_path(
            Failure::new(Kind::ChangedMeanwhile, "no"),
            &Desk { dir: "/d".into(), file: "/d/f".into() },
        );
        assert!(why.hint().contains("/d/f") && why.hint().contains("read it again"), "{why:?}");
    }
}
