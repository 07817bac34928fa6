//! `file_write`: the whole content of a file.

use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::streams::files::How;
use schemars::JsonSchema;
use serde::Deserialize;

use super::{header, parse_revision};
use crate::files::place::ServerPath;
use crate::files::site::Face;
use crate::tools::caller::Caller;
use crate::tools::seat::Seat;
use crate::tools::tool::{Effect, Tool};
use crate::verbs::files::write::Write;

/// The arguments of `file_write`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FileWrite {
    /// Server name.
    pub server: String,
    /// Path on the server; directories are made.
    pub path: String,
    /// The whole text.
    pub content: String,
    /// Default: create.
    pub mode: Option<Mode>,
    /// From file_read, to replace what was read.
    pub rev: Option<String>,
    /// Octal permissions, e.g. 755.
    pub perm: Option<String>,
    /// Replace a file that was not read.
    pub force: Option<bool>,
}

/// What may exist before the write.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "doc comments would go into the schema that models pay for")]
pub enum Mode {
    // Nothing.
    Create,
    // The file that was read.
    Replace,
    // What is added to.
    Append,
}

impl Tool for FileWrite {
    const NAME: &'static str = "file_write";
    const TITLE: &'static str = "Write file";
    const ABOUT: &'static str = "Create a file on a server, replace it (rev from file_read, or force) or append \
        to it. Atomic; can be undone with file_undo.";
    const EFFECT: Effect =
        Effect { read_only: false, destructive: true, idempotent: true, open_world: false };

    async fn call(self, seat: &Seat, _: &Caller) -> Result<String, Failure> {
        let client = seat.client().await?;
        let revision = self.rev.as_deref().map(parse_revision).transpose()?;
        let force = self.force.unwrap_or(false);
        let how = match self.mode {
            Some(Mode::Append) => How::Append,
            _ if force => How::Put,
            _ if revision.is_some() => How::Replace,
            Some(Mode::Replace) => {
                let text =
                    "file_write: mode=replace needs the rev of the file that it replaces, or force";
                return Err(Failure::new(Kind::InvalidArgument, text).with_hint(
                    "file_read shows rev; force=true replaces the file whatever its rev is",
                ));
            }
            None | Some(Mode::Create) => How::Create,
        };
        let file = ServerPath::new(&self.server, &self.path);
        let (revision, mode) = (revision.filter(|_| !force), self.perm.as_deref().map(rights));
        let write = Write { file: &file, how, revision, mode: mode.transpose()? };
        let answer = write.carry_out(client, Face::Mcp, self.content.as_bytes()).await;
        let changed = answer.map_err(|failure| match failure.kind {
            Kind::FileExists => failure
                .with_hint("to replace it, file_read it and give its rev, or give force=true"),
            Kind::ChangedMeanwhile => failure.with_hint("file_read it again, and give the new rev"),
            _ => failure,
        })?;
        Ok(format!("{}\n", header(&changed, "written").end()))
    }
}

/// Rights in octal digits.
fn rights(text: &str) -> Result<u32, Failure> {
    let number = u32::from_str_radix(text.trim_start_matches("0o"), 8).ok();
    number.filter(|mode| *mode <= 0o777).ok_or_else(|| {
        Failure::new(Kind::InvalidArgument, "perm is not an octal number from 0 to 777")
    })
}
