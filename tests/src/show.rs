//! What is shown of sessions, recorded as it happens: `cargo xtask show`.

pub mod replaced;
pub mod screens;
pub mod secrets;
pub mod together;

use std::fmt::Write as _;
use std::path::Path;

use serde_json::Value;

use crate::{Model, World};

/// The server that all of it happens on.
pub const SERVER: &str = "web-1";

/// What makes a shell's prompt the same everywhere.
const PLAIN: &str = "PS1='$ '; printf '\\033]0;work\\007'; clear";

/// A world with a server, and a directory `work` in it.
async fn world() -> World {
    let world = World::with_server(SERVER).await;
    std::fs::create_dir(world.path("work")).expect("a directory");
    world
}

/// A recording: what was asked, and what was answered.
#[derive(Debug)]
pub struct Record {
    text: String,
    /// Where the scratch files are: told to nobody.
    scratch: String,
}

impl Record {
    /// An empty one with a heading. What names this directory is shown without it.
    pub fn new(heading: &str, scratch: &Path) -> Self {
        Self { text: format!("{heading}\n"), scratch: scratch.display().to_string() }
    }

    /// Says something in words of its own.
    pub fn says(&mut self, text: &str) {
        let text = self.shown(text);
        write!(self.text, "\n{text}\n").expect("a string takes all");
    }

    /// Calls a tool, and records both sides. `lines` of the answer are kept.
    pub async fn calls(
        &mut self,
        model: &mut Model,
        tool: &str,
        arguments: Value,
        lines: usize,
    ) -> String {
        let call = call(tool, &arguments);
        let (text, error) = model.call(tool, arguments).await;
        assert!(!error, "{call}: {text}");
        self.keeps(&call, &text, lines);
        text
    }

    /// Calls a tool that must fail, and records both sides.
    pub async fn refused(&mut self, model: &mut Model, tool: &str, arguments: Value) -> String {
        let call = call(tool, &arguments);
        let (text, error) = model.call(tool, arguments).await;
        assert!(error, "{call}: {text}");
        self.keeps(&call, &text, usize::MAX);
        text
    }

    fn keeps(&mut self, call: &str, text: &str, lines: usize) {
        let all = text.lines().count();
        let mut kept: Vec<&str> = text.lines().take(lines).map(str::trim_end).collect();
        let rest = format!("… {} more lines", all.saturating_sub(lines));
        if all > lines {
            kept.push(&rest);
        }
        let kept = kept.iter().map(|line| format!("    {line}")).collect::<Vec<_>>().join("\n");
        let (call, kept) = (self.shown(call), self.shown(&kept));
        write!(self.text, "\n  > {call}\n{kept}\n").expect("a string takes all");
    }

    fn shown(&self, text: &str) -> String {
        text.replace(&format!("{}/", self.scratch), "").replace(&self.scratch, ".")
    }

    /// Writes it down.
    pub fn write(&self, directory: &Path, name: &str) -> std::io::Result<()> {
        std::fs::create_dir_all(directory)?;
        let text: Vec<&str> = self.text.lines().map(str::trim_end).collect();
        std::fs::write(directory.join(name), text.join("\n") + "\n")
    }
}

fn call(tool: &str, arguments: &Value) -> String {
    let pairs = arguments.as_object().into_iter().flatten();
    let shown: Vec<String> = pairs.map(|(name, value)| format!("{name}={value}")).collect();
    format!("{tool}({})", shown.join(", "))
}

/// The id in an answer's header.
pub fn id_in(text: &str) -> String {
    text.split(' ').nth(1).expect("an id").trim_end_matches(']').to_owned()
}
