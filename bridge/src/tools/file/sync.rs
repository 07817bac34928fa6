//! `file_sync`: a directory is made like another one, here or on a server.

use std::time::Instant;

use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::quote::quoted;
use schemars::JsonSchema;
use serde::Deserialize;

use super::copy::{End, apart, not_ours, told, watched};
use crate::files::place::find;
use crate::files::sync::{Direction, carry_out, plan};
use crate::files::transfer::{Meter, Transfer};
use crate::text::header::{Header, Key};
use crate::text::table::Table;
use crate::text::{Word, human};
use crate::tools::{Caller, Desk, Effect, Tool, budget};

/// The arguments of `file_sync`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FileSync {
    /// SERVER:PATH, or an absolute path here.
    pub from: String,
    /// Where it is to be the same: the other of both.
    pub to: String,
    /// Remove what is only in `to`, if that is on a server.
    pub delete: Option<bool>,
    /// Compare contents, not only sizes and times.
    pub checksum: Option<bool>,
    /// Only say what would be done.
    pub dry_run: Option<bool>,
}

impl Tool for FileSync {
    const NAME: &'static str = "file_sync";
    const TITLE: &'static str = "Sync directory";
    const ABOUT: &'static str = "Make a directory on a server like one on this computer, or the other way round: \
        only what differs is sent.";
    const EFFECT: Effect =
        Effect { read_only: false, destructive: true, idempotent: true, open_world: false };

    async fn call(self, desk: &Desk, caller: &Caller) -> Result<String, Failure> {
        let client = desk.client().await?;
        let begun = Instant::now();
        let (local, (server, path), direction) =
            apart(End::parse(&self.from), End::parse(&self.to)).ok_or_else(|| {
                let text = "file_sync: one end must be SERVER:PATH, and the other here";
                Failure::new(Kind::InvalidArgument, text)
                    .with_hint("file_copy copies between servers")
            })?;
        let (dry, delete) = (self.dry_run.unwrap_or(false), self.delete.unwrap_or(false));
        if delete && direction == Direction::Down {
            return Err(Failure::new(
                Kind::NotGranted,
                "file_sync: nothing is removed on this computer",
            )
            .with_hint("leave delete out"));
        }
        not_ours(Self::NAME, client.home.path(), &local)?;
        let server = client.find(&server).await?;
        let remote = find(client, &server, &path).await?;
        let (meter, upward) = (Meter::default(), direction == Direction::Up);
        let transfer = Transfer {
            client,
            server: &server,
            remote,
            local,
            overwrite: true,
            recursive: true,
            upward,
            meter: &meter,
        };
        let plan =
            watched(caller, &meter, plan(&transfer, direction, self.checksum.unwrap_or(false)))
                .await?;
        let removed = if delete { plan.removed() } else { Vec::new() };
        let (moved, same, skipped) = (plan.moved(), plan.same, plan.left_out.len());
        let set = plan.set();
        if !dry {
            watched(caller, &meter, carry_out(&transfer, plan, delete)).await?;
            meter.outcome()?;
        }
        let verb = if upward { "send" } else { "fetch" };
        let mut table = Table::new().limit(1, 300);
        for (path, size) in &moved {
            table.row([verb, path, &human::size(*size)]);
        }
        for path in &removed {
            table.row(["remove", &*quoted(path), ""]);
        }
        for path in &set {
            table.row(["set", path, ""]);
        }
        let (text, shown) = table.within(budget(None));
        let would = if dry { "would " } else { "" };
        let words = format!(
            "{would}{verb} {}, {would}remove {}, {same} are the same",
            moved.len(),
            removed.len()
        );
        let mut header = Header::new(Word::Copy).words(words).time(begun.elapsed());
        if skipped > 0 {
            header = header.field(Key::Skipped, skipped);
        }
        let text = format!("{text}{}", told(&meter));
        Ok(format!("{}\n{text}", header.field(Key::Entries, shown).end()))
    }
}
