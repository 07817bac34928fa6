//! The whole command, from its arguments to the bytes in the files.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::PathBuf;

use clap::Parser as _;
use expect_test::Expect;
use serde_json::Value;

use super::arguments::NAMES;
use super::client::{Document, ExistingEntry};
use super::*;

mod claude;
mod codex;
mod verify;

/// A user's home and a project in a directory of their own.
struct World {
    directory: tempfile::TempDir,
    context: Context,
}

impl World {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (user_home, cwd) = (directory.path().join("home"), directory.path().join("project"));
        fs::create_dir(&user_home).unwrap();
        fs::create_dir(&cwd).unwrap();
        let tool = |name, read_only| Tool { name, read_only };
        let context = Context {
            exe: "/opt/farwire/bin/farwire".into(),
            user_home,
            cwd,
            farwire_home: None,
            env: [("PATH".into(), "/usr/bin:/bin".into())].into(),
            tools: vec![
                tool("servers", true),
                tool("status", true),
                tool("run", false),
                tool("output", true),
                tool("stop", false),
            ],
        };
        Self { directory, context }
    }

    /// A world in which `file` in the home has this text.
    fn with(file: &str, text: impl AsRef<[u8]>) -> Self {
        let world = Self::new();
        let path = world.home(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        world
    }

    fn home(&self, file: &str) -> PathBuf {
        self.context.user_home.join(file)
    }

    fn read(&self, file: &str) -> String {
        fs::read_to_string(self.home(file)).unwrap()
    }

    /// Runs `farwire setup` with these words.
    fn try_setup(&self, words: &str) -> Result<SetupReport, Failure> {
        run(&parsed(words).unwrap(), &self.context)
    }

    fn setup(&self, words: &str) -> SetupReport {
        self.try_setup(words).unwrap()
    }

    /// What the command says: its answer, then its failure.
    fn says(&self, words: &str) -> String {
        let (answer, failure) = match self.try_setup(words) {
            Ok(report) => (report.to_string(), report.failure()),
            Err(failure) => (String::new(), Some(failure)),
        };
        let failure = failure.map(|failure| {
            format!("error[{}]: {failure}\nhint: {}\n", failure.kind, failure.hint())
        });
        let said = answer + &failure.unwrap_or_default();
        said.replace(self.directory.path().to_str().unwrap(), "")
    }

    fn check(&self, words: &str, said: Expect) {
        said.assert_eq(&self.says(words));
    }

    /// Every file below, with its bytes and what would change if it were written again.
    fn snapshot(&self) -> Vec<Seen> {
        let mut found = Vec::new();
        let mut directories = vec![self.directory.path().to_owned()];
        while let Some(directory) = directories.pop() {
            for entry in fs::read_dir(directory).unwrap() {
                let path = entry.unwrap().path();
                let metadata = fs::symlink_metadata(&path).unwrap();
                if metadata.is_dir() {
                    directories.push(path);
                    continue;
                }
                let bytes = fs::read(&path).unwrap_or_default();
                let written = (metadata.mtime(), metadata.mtime_nsec());
                found.push(Seen { path, bytes, inode: metadata.ino(), written });
            }
        }
        found.sort();
        found
    }
}

/// A file as it was at one moment.
#[derive(Debug, Eq, Ord, PartialEq, PartialOrd)]
struct Seen {
    path: PathBuf,
    bytes: Vec<u8>,
    inode: u64,
    written: (i64, i64),
}

/// The arguments that these words are.
fn parsed(words: &str) -> Result<SetupArgs, clap::Error> {
    let words = std::iter::once("setup").chain(words.split_whitespace());
    Line::try_parse_from(words).map(|line| line.args)
}

#[derive(clap::Parser)]
struct Line {
    #[command(flatten)]
    args: SetupArgs,
}

/// Sets `client` up where `file` has the text `before`, twice, and takes it back.
fn round_trip(client: &str, file: &str, before: &[u8]) {
    let shown = String::from_utf8_lossy(before).into_owned();
    let world = World::with(file, before);
    assert_eq!(world.setup(client).status, SetupStatus::Installed, "{shown:?}");
    let installed = world.snapshot();
    assert_eq!(world.setup(client).status, SetupStatus::AlreadyConfigured, "{shown:?}");
    assert_eq!(world.snapshot(), installed, "a second run writes nothing: {shown:?}");
    let report = world.setup(&format!("{client} --remove"));
    assert_eq!(report.status, SetupStatus::Removed, "{shown:?}");
    let after = fs::read(world.home(file)).unwrap();
    assert_eq!(String::from_utf8_lossy(&after), shown, "every byte is back");
    assert_eq!(world.snapshot().len(), 1, "nothing is left over: {shown:?}");
}

#[test]
fn what_the_command_line_refuses() {
    use clap::CommandFactory as _;
    Line::command().debug_assert();
    for words in
        ["", "emacs", "codex --print --remove", "codex --remove --verify", "codex --scope team"]
    {
        assert!(parsed(words).is_err(), "{words}");
    }
    assert_eq!(parsed("codex").unwrap().scope, Scope::User);
}

#[test]
fn a_name_or_a_path_that_cannot_be_written_is_refused_before_anything_is_read() {
    use std::os::unix::ffi::OsStrExt as _;
    let mut world = World::new();
    assert_eq!(world.try_setup("codex --name a.b").unwrap_err().kind, Kind::InvalidArgument);
    world.context.exe = std::ffi::OsStr::from_bytes(b"/opt/\xff/farwire").into();
    assert_eq!(world.try_setup("claude").unwrap_err().kind, Kind::InvalidArgument);
    assert!(world.snapshot().is_empty());
}

#[test]
fn the_environment_is_not_in_what_is_logged_about_us() {
    let mut world = World::new();
    world.context.env.insert("TOKEN".into(), "s3cret".into());
    assert!(!format!("{:?}", world.context).contains("s3cret"));
}

#[test]
fn a_read_only_file_is_named_and_left_alone() {
    for (client, file) in [("codex", ".codex/config.toml"), ("claude", ".claude.json")] {
        let world = World::with(file, "");
        fs::set_permissions(world.home(file), fs::Permissions::from_mode(0o444)).unwrap();
        let before = world.snapshot();
        let failure = world.try_setup(client).unwrap_err();
        assert_eq!(failure.kind, Kind::Io);
        assert!(failure.message.ends_with(&format!("{file}` is read-only")), "{failure}");
        assert!(failure.hint().contains("--print"));
        assert_eq!(world.snapshot(), before);
    }
}

#[test]
fn a_directory_that_cannot_be_written_is_named() {
    let mut world = World::with(".codex/config.toml", "a = 1\n");
    let directory = world.home(".codex");
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o555)).unwrap();
    // Permissions do not bind root; there, a place is needed where nobody can make a file.
    let bound = fs::write(directory.join("probe"), "").is_err();
    if !bound {
        world.context.env.insert("CODEX_HOME".into(), "/proc/self/task".into());
    }
    let failure = world.try_setup("codex").unwrap_err();
    assert_eq!(failure.kind, Kind::Io);
    let named = if bound { ".codex/config.toml" } else { "/proc/self/task/config.toml" };
    assert!(failure.message.contains(named), "{failure}");
    assert_eq!(world.read(".codex/config.toml"), "a = 1\n");
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn a_linked_file_stays_a_link() {
    for (client, file) in [("codex", ".codex/config.toml"), ("claude", ".claude.json")] {
        let world = World::with("dotfiles/real", "");
        let link = world.home(file);
        fs::create_dir_all(link.parent().unwrap()).unwrap();
        std::os::unix::fs::symlink(world.home("dotfiles/real"), &link).unwrap();
        world.setup(client);
        assert!(link.is_symlink());
        assert!(world.read("dotfiles/real").contains("/opt/farwire/bin/farwire"));
        assert_eq!(world.setup(client).status, SetupStatus::AlreadyConfigured);
        world.setup(&format!("{client} --remove"));
        assert!(link.is_symlink());
        assert_eq!(world.read("dotfiles/real"), "");
    }
}

#[test]
fn print_writes_nothing_and_reads_nothing() {
    for (client, file) in [("codex", ".codex/config.toml"), ("claude", ".claude.json")] {
        let world = World::with(file, "this is [ neither TOML nor JSON");
        let before = world.snapshot();
        let report = world.setup(&format!("{client} --print --approve"));
        assert_eq!(report.status, SetupStatus::Printed);
        assert!(report.entry.unwrap()["args"].is_array());
        assert_eq!(world.snapshot(), before);
    }
}

#[test]
fn the_json_answer_has_these_members() {
    let world = World::new();
    let answer = serde_json::to_value(world.setup("codex")).unwrap();
    let members: Vec<_> = answer.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(members, ["backup", "client", "entry", "file", "status", "verify"]);
    assert_eq!((&answer["client"], &answer["status"]), (&"codex".into(), &"installed".into()));
}

#[test]
fn the_arguments_name_every_client() {
    let names: Vec<_> = CLIENTS.iter().map(|client| client.name()).collect();
    assert_eq!(names, NAMES);
}
