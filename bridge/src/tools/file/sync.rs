//! `file_sync`: makes one directory like another, here or on a server.

use std::time::Instant;

use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::quote::quote;
use schemars::JsonSchema;
use serde::Deserialize;

use super::copy::{notes, watch_progress};
use crate::files::place::Endpoint;
use crate::files::site::Face;
use crate::files::transfer::Meter;
use crate::text::header::{Header, Key};
use crate::text::table::Table;
use crate::text::{Word, human};
use crate::tools::arguments::budget;
use crate::tools::caller::Caller;
use crate::tools::seat::Seat;
use crate::tools::tool::{Effect, Tool};
use crate::verbs::files::sync::Sync;

/// The arguments of `file_sync`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FileSync {
    /// SERVER:PATH, or an absolute path on this computer.
    pub from: String,
    /// Destination: SERVER:PATH if from is on this computer, else an absolute path on it.
    pub to: String,
    /// Remove what exists only in `to`; refused if `to` is on this computer.
    pub delete: Option<bool>,
    /// Compare contents, not only sizes and times.
    pub checksum: Option<bool>,
    /// Only show what would be done.
    pub dry_run: Option<bool>,
}

impl Tool for FileSync {
    const NAME: &'static str = "file_sync";
    const TITLE: &'static str = "Sync directory";
    const ABOUT: &'static str = "Make a directory on a server the same as one on this computer, or the reverse: \
        only differences are sent.";
    const EFFECT: Effect =
        Effect { read_only: false, destructive: true, idempotent: true, open_world: false };

    async fn call(self, seat: &Seat, caller: &Caller) -> Result<String, Failure> {
        let client = seat.client().await?;
        let begun = Instant::now();
        let ends = Endpoint::apart(Endpoint::parse(&self.from), Endpoint::parse(&self.to));
        let (local, remote, direction) = ends.ok_or_else(|| {
            let text =
                "file_sync: one of from and to must be SERVER:PATH, the other a path on this computer";
            Failure::new(Kind::InvalidArgument, text).with_hint("file_copy copies between servers")
        })?;
        let (delete, checksum) = (self.delete.unwrap_or(false), self.checksum.unwrap_or(false));
        let (meter, dry) = (Meter::default(), self.dry_run.unwrap_or(false));
        let sync = Sync { local, remote, direction, delete, checksum };
        let planned = watch_progress(caller, &meter, sync.plan(client, Face::Mcp, &meter)).await?;
        let answer = planned.answer();
        if !dry {
            watch_progress(caller, &meter, planned.carry_out()).await?;
            meter.outcome()?;
        }
        let (verb, moved, removed) = (answer.verb(), &answer.moved, &answer.removed);
        let mut table = Table::new().limit(1, 300);
        for (path, size) in moved {
            table.row([verb, path, &human::size(*size)]);
        }
        for path in removed {
            table.row(["remove", &*quote(path), ""]);
        }
        for path in &answer.set {
            table.row(["set", path, ""]);
        }
        let (text, shown) = table.within(budget(None));
        let would = if dry { "would " } else { "" };
        let words = format!(
            "{would}{verb} {}, {would}remove {}, {} are the same",
            moved.len(),
            removed.len(),
            answer.same
        );
        let mut header = Header::new(Word::Copy).words(words).time(begun.elapsed());
        if !answer.left_out.is_empty() {
            header = header.field(Key::Skipped, answer.left_out.len());
        }
        let text = format!("{text}{}", notes(&meter));
        Ok(format!("{}\n{text}", header.field(Key::Entries, shown).end()))
    }
}
