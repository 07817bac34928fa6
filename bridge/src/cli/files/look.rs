//! `roots`, `ls`, `stat`, `cat` and `search`: looking, without changing anything.

use std::io::IsTerminal as _;
use std::ops::ControlFlow::{Break, Continue};
use std::sync::Arc;

use clap::Args;
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::quote::quote;
use farwire_protocol::streams::files::{Entry, Match, Root, Sort, What};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::unfinished::{all_was_read, code_of_unread};
use crate::cli::output::{Json, print, print_bytes, print_json, reader_is_gone};
use crate::client::Client;
use crate::files::place::ServerPath;
use crate::files::place::served;
use crate::files::roots;
use crate::files::site::Face;
use crate::runs::control;
use crate::text::chars;
use crate::text::human;
use crate::text::neutral::neutral_within;
use crate::text::table::Table;
use crate::verbs::files::cat::{Cat as Content, CatAnswer};
use crate::verbs::files::list::ListRequest;
use crate::verbs::files::search::SearchRequest;
use crate::verbs::files::stat::LookUp;

/// List the directories that are open for files on a server
#[derive(Args, Debug)]
pub(crate) struct Roots {
    /// The server
    server: String,
    #[command(flatten)]
    pub(crate) json: Json,
}

impl Roots {
    pub(super) async fn carry_out(&self, client: &Client) -> Result<(), Failure> {
        let server = client.find(&self.server).await?;
        let listed = control::facts(client, &server).await?.roots.unwrap_or_default();
        let mut roots = Vec::new();
        for root in listed {
            let served = served(client, &server, &root).await;
            roots.push((root, served));
        }
        if self.json.json {
            let all = roots.iter().map(|(root, served)| root_json(root, served.as_ref()));
            return print_json(&all.collect::<Vec<_>>());
        }
        let mut table = Table::new().limit(2, 200).limit(3, 300);
        for (root, served) in &roots {
            let how = match served {
                Ok(root) => root.confined.clone().unwrap_or_else(|| "not confined".to_owned()),
                Err(failure) => format!("not served: {}", failure.message),
            };
            table.row([&root.name, mode(root), &quote(&root.path), &how]);
        }
        print(&table.text())
    }
}

fn mode(root: &Root) -> &'static str {
    if root.writable { "rw" } else { "ro" }
}

/// A root, as `--json` shows it.
fn root_json(root: &Root, served: Result<&Root, &Failure>) -> Value {
    json!({
        "name": root.name, "path": quote(&root.path), "mode": mode(root),
        "excludes": root.excludes.clone().unwrap_or_default(),
        "confined": served.ok().and_then(|root| root.confined.clone()),
        "served": served.is_ok(), "why": served.err().map(|failure| &failure.message),
    })
}

/// The type of an entry, in a word.
fn word(what: What) -> &'static str {
    match what {
        What::File => "file",
        What::Directory => "directory",
        What::Link => "link",
        What::Other => "other",
    }
}

pub(super) fn entry_json(entry: &Entry, path: &str) -> Value {
    json!({
        "path": path, "type": word(entry.what), "size": entry.size, "modified": time(entry),
        "mode": format!("{:04o}", entry.mode), "rev": format!("{:012x}", entry.revision),
        "target": entry.target.map(word),
    })
}

fn time(entry: &Entry) -> String {
    Timestamp::from_nanosecond(i128::from(entry.modified))
        .map(|time| format!("{time:.0}"))
        .unwrap_or_default()
}

/// List a directory on a server, or its roots if it has several and no path is given
///
/// Paths that cannot be read are named, the rest is listed, and the exit code is 2.
#[derive(Args, Debug)]
pub(crate) struct Ls {
    /// The directory: SERVER or SERVER:PATH
    dir: ServerPath,
    /// Show permissions, size and time
    #[arg(short, long)]
    long: bool,
    /// List subdirectories, too, at all levels
    #[arg(short = 'R', long)]
    recursive: bool,
    /// Only what matches this .gitignore-style pattern; a leading `!` excludes it instead
    #[arg(short, long, value_name = "PATTERN")]
    glob: Vec<String>,
    /// Leave out names that begin with a dot, and what .gitignore excludes
    #[arg(long)]
    tidy: bool,
    /// Sort order
    #[arg(long, value_name = "ORDER", default_value = "name")]
    sort: LsOrder,
    #[command(flatten)]
    pub(crate) json: Json,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum LsOrder {
    Name,
    Size,
    Time,
}

impl Ls {
    pub(super) async fn carry_out(&self, client: &Client) -> Result<u8, Failure> {
        if self.dir.path.is_empty()
            && let Some(roots) = several_roots(client, &self.dir.server).await?
        {
            return self.print_roots(&roots).map(|()| 0);
        }
        let list = ListRequest {
            dir: &self.dir,
            depth: if self.recursive { u32::MAX } else { 1 },
            globs: self.glob.clone(),
            limit: None,
            sort: match self.sort {
                LsOrder::Name => Sort::Name,
                LsOrder::Size => Sort::Size,
                LsOrder::Time => Sort::Time,
            },
            tidy: self.tidy,
        };
        let answer = list.carry_out(client, Face::Cli).await?;
        let name = |entry: &Entry| quote(&entry.path).into_owned();
        if self.json.json {
            let all: Vec<_> =
                answer.entries.iter().map(|entry| entry_json(entry, &name(entry))).collect();
            print_json(&all)?;
            return Ok(code_of_unread(all_was_read(&answer.place, &answer.unread)));
        }
        let mut text = String::new();
        for entry in &answer.entries {
            let slash: &[u8] = if entry.what == What::Directory { b"/" } else { b"" };
            let name = quote(&[&entry.path[..], slash].concat()).into_owned();
            if self.long {
                let size =
                    if entry.what == What::File { human::size(entry.size) } else { "-".to_owned() };
                text.push_str(&long(entry, &size));
            }
            text.push_str(&name);
            text.push('\n');
        }
        if answer.more {
            note!("farwire: there are more entries; -g narrows them down");
        }
        print(&text)?;
        Ok(code_of_unread(all_was_read(&answer.place, &answer.unread)))
    }
}

impl Ls {
    /// The roots, if the path does not name one.
    fn print_roots(&self, roots: &[Root]) -> Result<(), Failure> {
        if self.json.json {
            let one = |root: &Root| json!({"name": root.name, "path": quote(&root.path), "mode": mode(root)});
            return print_json(&roots.iter().map(one).collect::<Vec<_>>());
        }
        let mut table = Table::new().limit(2, 200);
        for root in roots {
            table.row([&root.name, mode(root), &quote(&root.path)]);
        }
        print(&table.text())
    }
}

/// The roots of a server that has more than one.
async fn several_roots(client: &Client, server: &str) -> Result<Option<Arc<[Root]>>, Failure> {
    let server = client.find(server).await?;
    let roots = roots::list(client, &server).await?;
    Ok(Some(roots).filter(|roots| roots.len() > 1))
}

fn long(entry: &Entry, size: &str) -> String {
    let kind = match entry.what {
        What::File => '-',
        What::Directory => 'd',
        What::Link => 'l',
        What::Other => '?',
    };
    let right = |at: u32, letter: char| if entry.mode >> at & 1 == 1 { letter } else { '-' };
    let rights: String =
        (0..9_u32).zip("rwxrwxrwx".chars()).map(|(at, letter)| right(8 - at, letter)).collect();
    format!("{kind}{rights} {size:>6} {} ", time(entry))
}

/// Show a file on a server: its type, size, time, permissions and revision
#[derive(Args, Debug)]
pub(crate) struct Stat {
    /// The file: SERVER:PATH
    file: ServerPath,
    #[command(flatten)]
    pub(crate) json: Json,
}

impl Stat {
    pub(super) async fn carry_out(&self, client: &Client) -> Result<(), Failure> {
        let answer = LookUp { path: &self.file }.carry_out(client, Face::Cli).await?;
        let value = entry_json(&answer.entry, &answer.place.to_text());
        if self.json.json {
            return print_json(&value);
        }
        let fields = ["path", "type", "size", "modified", "mode", "rev", "target"];
        let shown = fields.iter().filter_map(|name| match value.get(name)? {
            Value::Null => None,
            Value::String(text) => Some(format!("{name:<9} {}\n", neutral_within(text, 4_096))),
            other => Some(format!("{name:<9} {other}\n")),
        });
        print(&shown.collect::<String>())
    }
}

/// Print the contents of files on a server, byte for byte
#[derive(Args, Debug)]
pub(crate) struct Cat {
    /// The files: SERVER:PATH
    #[arg(required = true)]
    files: Vec<ServerPath>,
}

impl Cat {
    pub(super) async fn carry_out(&self, client: &Client) -> Result<(), Failure> {
        for file in &self.files {
            let answer = Content { file }
                .carry_out(client, Face::Cli, &mut |bytes| {
                    print_bytes(bytes)?;
                    Ok(if reader_is_gone() { Break(()) } else { Continue(()) })
                })
                .await?;
            if reader_is_gone() {
                return Ok(());
            }
            changed_meanwhile(&answer)?;
        }
        Ok(())
    }
}

/// The output for a file that was changed while it was read may mix several versions. A file that
/// only grew, as logs do, was printed as it was.
fn changed_meanwhile(answer: &CatAnswer) -> Result<(), Failure> {
    let (Some(opened), Some(now)) = (&answer.opened, &answer.changed) else { return Ok(()) };
    let shown = answer.place.to_text();
    if now.size > opened.size && answer.bytes >= opened.size {
        note!("farwire: {shown} grew while it was read");
        return Ok(());
    }
    let text = format!("{shown} changed while it was read; the output may mix several versions");
    Err(Failure::new(Kind::ChangedMeanwhile, text).with_hint("read it again"))
}

/// Prints text that contains lines of a server's files; on a terminal, without control sequences.
pub(super) fn put_text(bytes: &[u8]) -> Result<(), Failure> {
    match std::io::stdout().is_terminal() {
        true => print(&harmless(bytes)),
        false => print_bytes(bytes),
    }
}

/// The same text, with control sequences made visible and invisible characters removed.
fn harmless(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let keep = |char: char| {
        if matches!(char, '\n' | '\t') { Some(char) } else { chars::visible_form(char) }
    };
    text.chars().filter_map(keep).collect()
}

/// Search the files on a server, as ripgrep does; only matches are transferred
///
/// Exits with 1 if nothing matches, and with 2 if something could not be read. In a binary file
/// (one that contains a NUL), only matches before the NUL are shown; with --all, or if the file is
/// named, a match at or after it is reported as well.
#[derive(Args, Debug)]
pub(crate) struct Search {
    /// A regular expression
    pattern: String,
    /// Where to search: SERVER or SERVER:PATH
    place: ServerPath,
    /// Treat the pattern as plain text, not as a regular expression
    #[arg(short = 'F', long)]
    fixed: bool,
    /// Ignore case
    #[arg(short, long)]
    ignore_case: bool,
    /// Search only files that match this .gitignore-style pattern
    #[arg(short, long, value_name = "PATTERN")]
    glob: Vec<String>,
    /// Lines to show before and after each match [default: 0]
    #[arg(short = 'C', long, value_name = "LINES")]
    context: Option<u32>,
    /// Stop after this many matches [default and maximum: 100,000]
    #[arg(short = 'm', long, value_name = "COUNT")]
    limit: Option<u32>,
    /// Also search names that begin with a dot, and what .gitignore excludes
    #[arg(long)]
    all: bool,
    /// Print only the names of files with matches
    #[arg(short = 'l', long)]
    files: bool,
    #[command(flatten)]
    pub(crate) json: Json,
}

impl Search {
    pub(super) async fn carry_out(&self, client: &Client) -> Result<u8, Failure> {
        let search = SearchRequest {
            path: &self.place,
            pattern: self.pattern.clone(),
            fixed: self.fixed,
            ignore_case: self.ignore_case,
            globs: self.glob.clone(),
            context: self.context,
            limit: self.limit,
            all: self.all,
            names: self.files,
        };
        let answer = search.carry_out(client, Face::Cli).await?;
        let path = |found: &Match| answer.place.argument_for(&found.path);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if self.json.json {
            let line = |found: &Match| {
                json!({
                    "path": path(found), "line": found.line, "text": text(&found.text),
                    "context": found.beside.unwrap_or(false), "binary": found.binary.unwrap_or(false),
                    "cut": found.cut_before.or(found.cut_after).unwrap_or(false),
                })
            };
            let matches: Vec<_> = answer.matches.iter().map(line).collect();
            print_json(&json!({
                "matches": matches, "files": answer.files, "more": answer.more,
                "binary": answer.binary, "unread": answer.unread.count,
            }))?;
        } else {
            let mut out = String::new();
            for found in &answer.matches {
                let path = path(found);
                let sign = if found.beside == Some(true) { '-' } else { ':' };
                let cut = |cut: Option<bool>| if cut == Some(true) { "…" } else { "" };
                let line = match (self.files, found.binary == Some(true)) {
                    (true, _) => format!("{path}\n"),
                    (false, true) if sign == '-' => {
                        format!("{path}: binary file, searched up to its first NUL\n")
                    }
                    (false, true) => format!("{path}: binary file matches\n"),
                    (false, false) => format!(
                        "{path}{sign}{}{sign}{}{}{}\n",
                        found.line,
                        cut(found.cut_before),
                        neutral_within(&text(&found.text), 1_000),
                        cut(found.cut_after),
                    ),
                };
                out.push_str(&line);
            }
            print(&out)?;
            if answer.more == Some(true) {
                note!("farwire: there are more matches; --limit shows more, -g narrows them down");
            }
        }
        match all_was_read(&answer.place, &answer.unread) {
            Ok(()) => Ok(u8::from(answer.count == 0)),
            Err(failure) => {
                note!("farwire: {}", failure.message);
                Ok(2)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_file_holds_does_not_command_a_terminal() {
        let shown = harmless(b"+a\tb\r\n-\x1b]52;c;eA==\x07\xe2\x80\xae\n");
        assert!(shown.starts_with("+a\tb") && shown.contains("\n-") && shown.ends_with('\n'));
        assert!(shown.chars().all(|char| matches!(char, '\n' | '\t') || !char.is_control()));
        assert!(!shown.contains('\u{202e}'));
    }
}
