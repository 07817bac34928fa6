//! The owner's settings for a root: on the command line, and in the state directory once it is to
//! stay.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use clap::Args;
use farwire_files::rules::{FILE, Patterns};
use farwire_files::undo::QUOTA;
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::streams::files::{ROOT_NAME_LIMIT, is_root_name};
use serde::{Deserialize, Serialize};

/// The file with the roots that stay.
const FILE_NAME: &str = "roots.toml";

/// At most this many roots: each has a process.
const ROOTS: usize = 32;

/// A root has at most this many bytes of patterns: whoever enters it gets them in one message.
const PATTERNS: usize = 8 << 10;

/// One root.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Spec {
    /// Its name.
    pub(crate) name: String,
    /// Its directory.
    pub(crate) dir: PathBuf,
    /// Whether anything in it may be changed.
    #[serde(default)]
    pub(crate) writable: bool,
    /// What in it is treated as if it did not exist.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) exclude: Vec<String>,
    /// Symbolic links are not followed at all.
    #[serde(default)]
    pub(crate) refuse_symlinks: bool,
    /// What is mounted beneath it is not part of it.
    #[serde(default)]
    pub(crate) one_filesystem: bool,
    /// Files with several names are written to.
    #[serde(default)]
    pub(crate) allow_hardlinked_writes: bool,
    /// It may be a sensitive directory.
    #[serde(default)]
    pub(crate) allow_sensitive: bool,
    /// The largest file that is written, in bytes.
    #[serde(default = "largest")]
    pub(crate) largest: u64,
    /// How many bytes of the disk stay free.
    #[serde(default)]
    pub(crate) keep_free: u64,
    /// How many bytes of what was changed are kept for undo.
    #[serde(default = "undo")]
    pub(crate) undo: u64,
}

fn largest() -> u64 {
    FILE
}

fn undo() -> u64 {
    QUOTA
}

/// The options about roots.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Options {
    /// Open this directory for files, read-only unless `:rw` follows; may be given several times
    #[arg(long = "fs-root", value_name = "[NAME=]DIR[:ro|:rw]")]
    roots: Vec<String>,
    /// Hide what matches this .gitignore-style pattern in these roots; may be given several times
    #[arg(long = "fs-exclude", value_name = "GLOB", requires = "roots")]
    exclude: Vec<String>,
    /// Which symbolic links to follow: those that stay beneath the root, or none
    #[arg(
        long = "fs-symlinks",
        value_name = "WHICH",
        default_value = "beneath",
        requires = "roots"
    )]
    symlinks: Symlinks,
    /// Do not cross into other file systems
    #[arg(long = "fs-one-filesystem", requires = "roots")]
    one_filesystem: bool,
    /// Allow writes to files with several hard links, some of which may be outside the root
    #[arg(long = "fs-allow-hardlinked-writes", requires = "roots")]
    allow_hardlinked_writes: bool,
    /// Open even /, /etc, a home directory, or a directory with the agent's own files
    #[arg(long = "fs-allow-sensitive", requires = "roots")]
    allow_sensitive: bool,
    /// The largest file that may be written, such as 500M [default: 64G]
    #[arg(long = "fs-largest", value_name = "SIZE", value_parser = size, requires = "roots")]
    largest: Option<u64>,
    /// Keep this much disk space free, such as 1G [default: 0]
    #[arg(long = "fs-keep-free", value_name = "SIZE", value_parser = size, requires = "roots")]
    keep_free: Option<u64>,
    /// Keep up to this much replaced content for undo; 0 disables undo [default: 512M]
    #[arg(long = "fs-undo", value_name = "SIZE", value_parser = size, requires = "roots")]
    undo: Option<u64>,
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, clap::ValueEnum)]
enum Symlinks {
    #[default]
    Beneath,
    Refuse,
}

/// A number of bytes, with the suffix K, M, G or T.
fn size(text: &str) -> Result<u64, String> {
    let wrong = || "not a size such as 500M".to_owned();
    let (digits, unit) = match text.find(|c: char| !c.is_ascii_digit()) {
        Some(at) => text.split_at(at),
        None => (text, ""),
    };
    let shift = match unit.to_ascii_uppercase().as_str() {
        "" | "B" => 0,
        "K" | "KIB" => 10,
        "M" | "MIB" => 20,
        "G" | "GIB" => 30,
        "T" | "TIB" => 40,
        _ => return Err(wrong()),
    };
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    number.checked_mul(1 << shift).ok_or_else(wrong)
}

impl Options {
    /// The roots that the options name.
    pub(crate) fn specs(&self) -> Result<Vec<Spec>, Failure> {
        self.roots.iter().map(|text| self.spec(text)).collect()
    }

    fn spec(&self, text: &str) -> Result<Spec, Failure> {
        let invalid =
            |why: &str| Failure::new(Kind::InvalidArgument, format!("--fs-root {text}: {why}"));
        let (text_of_dir, writable) = match text.rsplit_once(':') {
            Some((dir, "rw")) => (dir, true),
            Some((dir, "ro")) => (dir, false),
            _ => (text, false),
        };
        let (name, dir) = match text_of_dir.split_once('=') {
            Some((name, dir)) if !name.contains('/') => (Some(name), dir),
            _ => (None, text_of_dir),
        };
        if dir.is_empty() {
            return Err(invalid("it names no directory"));
        }
        // As a plain name it would hide nothing, although its owner believes that it does.
        if let Some(pattern) = self.exclude.iter().find(|pattern| pattern.starts_with('!')) {
            let text = format!("--fs-exclude {pattern}: a pattern cannot revoke another one");
            return Err(Failure::new(Kind::InvalidArgument, text).with_hint(
                "omit it; a name that begins with an exclamation mark is written `\\!…`",
            ));
        }
        let dir = std::path::absolute(dir).map_err(|error| invalid(&error.to_string()))?;
        let name = match name {
            Some(name) => name.to_owned(),
            None => named_for(&dir).ok_or_else(|| invalid("give it a name, as in NAME=DIR"))?,
        };
        let spec = Spec {
            name,
            dir,
            writable,
            exclude: self.exclude.clone(),
            refuse_symlinks: self.symlinks == Symlinks::Refuse,
            one_filesystem: self.one_filesystem,
            allow_hardlinked_writes: self.allow_hardlinked_writes,
            allow_sensitive: self.allow_sensitive,
            largest: self.largest.unwrap_or(FILE),
            keep_free: self.keep_free.unwrap_or(0),
            undo: self.undo.unwrap_or(QUOTA),
        };
        spec.check()?;
        Ok(spec)
    }
}

/// The name of a directory, in the characters that a root's name may have.
fn named_for(dir: &Path) -> Option<String> {
    let name = dir.file_name()?.to_string_lossy().to_ascii_lowercase();
    let may = |c: char| matches!(c, 'a'..='z' | '0'..='9' | '-' | '_' | '.');
    let plain = |c: char| if may(c) { c } else { '-' };
    let name: String = name.chars().map(plain).take(ROOT_NAME_LIMIT).collect();
    let name = name.trim_matches(['-', '.']).to_owned();
    (!name.is_empty()).then_some(name)
}

impl Spec {
    /// Refuses what can never be served.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        let invalid = |why: &str| {
            let shown: String = self.name.chars().filter(|c| !c.is_control()).take(40).collect();
            Failure::new(Kind::InvalidArgument, format!("root `{shown}`: {why}"))
        };
        if !is_root_name(&self.name) {
            return Err(invalid("a name has up to 32 of a-z, 0-9, -, _ and ."));
        }
        if !self.dir.is_absolute() {
            return Err(invalid("the directory must be an absolute path"));
        }
        let bytes: usize = self.exclude.iter().map(|pattern| pattern.len() + 8).sum();
        if bytes > PATTERNS {
            return Err(invalid("its patterns have more than 8 KiB")
                .with_hint("use fewer patterns, such as one for a whole directory"));
        }
        Patterns::new(&self.exclude).map(drop)
    }
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct RootsFile {
    #[serde(default)]
    root: Vec<Spec>,
}

/// Reads the recorded roots.
pub(crate) fn read(state: &Path) -> Result<Vec<Spec>, Failure> {
    let path = state.join(FILE_NAME);
    let bad = |why: &dyn std::fmt::Display| {
        let why = why.to_string().replace('\n', " ");
        Failure::new(Kind::Configuration, format!("{} cannot be used: {why}", path.display()))
    };
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(bad(&error)),
    };
    let written: RootsFile = toml::from_str(&text).map_err(|error| bad(&error))?;
    written.root.iter().try_for_each(Spec::check)?;
    Ok(written.root)
}

/// Records roots.
pub(crate) fn write(state: &Path, roots: &[Spec]) -> Result<(), Failure> {
    let path = state.join(FILE_NAME);
    let failed = |error: &dyn std::fmt::Display| {
        Failure::new(Kind::Io, format!("{}: {error}", path.display()))
    };
    let text =
        toml::to_string(&RootsFile { root: roots.to_vec() }).map_err(|error| failed(&error))?;
    let beside = state.join(".roots.new");
    let put = || {
        let mut options = fs::OpenOptions::new();
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.write(true).create(true).truncate(true).open(&beside)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&beside, &path)
    };
    put().map_err(|error| failed(&error))
}

/// The recorded roots with more added; a later one replaces an earlier one of the same name.
pub(crate) fn together(written: Vec<Spec>, more: Vec<Spec>) -> Result<Vec<Spec>, Failure> {
    let mut all = written;
    for (at, spec) in more.iter().enumerate() {
        if more.iter().take(at).any(|other| other.name == spec.name) {
            let text = format!("two roots are called `{}`", spec.name);
            return Err(
                Failure::new(Kind::InvalidArgument, text).with_hint("give them names: NAME=DIR")
            );
        }
        all.retain(|other| other.name != spec.name);
        all.push(spec.clone());
    }
    if all.len() > ROOTS {
        return Err(Failure::new(Kind::TooLarge, format!("more than {ROOTS} roots")));
    }
    Ok(all)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Roots as options name them.
    pub(in crate::files) fn specs(texts: &[&str]) -> Vec<Spec> {
        texts.iter().map(|text| spec(text).unwrap()).collect()
    }

    fn spec(text: &str) -> Result<Spec, Failure> {
        Options::default().spec(text)
    }

    #[test]
    fn a_root_has_a_name_a_directory_and_a_mode() {
        let parts = |text: &str| {
            let spec = spec(text).unwrap();
            (spec.name, spec.dir.display().to_string(), spec.writable)
        };
        assert_eq!(
            parts("/srv/Work Space"),
            ("work-space".into(), "/srv/Work Space".into(), false)
        );
        assert_eq!(parts("w=/srv/a:rw"), ("w".into(), "/srv/a".into(), true));
        assert_eq!(parts("/srv/a:b:ro"), ("a-b".into(), "/srv/a:b".into(), false));
        assert_eq!(parts("/srv/a=b"), ("a-b".into(), "/srv/a=b".into(), false));
        for bad in ["", ":rw", "w=", "W=/srv/a", "/", ".x=/srv", "w =/srv/a"] {
            assert!(spec(bad).is_err(), "{bad}");
        }
        let exclude = vec!["a".repeat(1_000); 9];
        let many = Spec { exclude, ..spec("/srv/a").unwrap() }.check().unwrap_err();
        assert!(many.message.contains("8 KiB"), "{many}");
        assert_eq!((size("3"), size("2k"), size("1G")), (Ok(3), Ok(2048), Ok(1 << 30)));
        assert!(size("x").is_err() && size("99999999999T").is_err() && size("1X").is_err());
    }

    #[test]
    fn a_pattern_that_would_take_back_another_is_refused() {
        let with = |pattern: &str| {
            Options { exclude: vec![pattern.to_owned()], ..Options::default() }.spec("/srv/a")
        };
        assert_eq!(with("!x").unwrap_err().kind, Kind::InvalidArgument);
        assert!(with("\\!x").is_ok() && with("x!").is_ok());
    }

    #[test]
    fn what_is_written_down_is_read_again() {
        let place = tempfile::tempdir().unwrap();
        assert_eq!(read(place.path()).unwrap(), []);
        let one = spec("w=/srv/a:rw").unwrap();
        write(place.path(), std::slice::from_ref(&one)).unwrap();
        assert_eq!(read(place.path()).unwrap(), std::slice::from_ref(&one));
        let other = Spec { writable: false, ..one.clone() };
        assert_eq!(
            together(vec![one.clone()], vec![other.clone()]).unwrap(),
            std::slice::from_ref(&other)
        );
        assert!(together(Vec::new(), vec![one, other]).is_err());
        fs::write(
            place.path().join(FILE_NAME),
            "[[root]]\nname = 'a'\ndir = '/a'\nwriteable = true\n",
        )
        .unwrap();
        assert_eq!(read(place.path()).unwrap_err().kind, Kind::Configuration);
    }
}
