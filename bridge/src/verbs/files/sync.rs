//! `sync`: a directory is made like another one, here or on a server.

use std::path::PathBuf;

use farwire_protocol::failure::{Failure, Kind};

use super::transfer::may_be_used;
use crate::client::{Client, Server};
use crate::files::place::{Place, ServerPath};
use crate::files::site::Face;
use crate::files::sync::{Direction, SyncPlan, carry_out, plan};
use crate::files::transfer::{Meter, Transfer};

/// Which directory is made like which.
#[derive(Debug)]
pub struct Sync {
    /// The directory here.
    pub local: PathBuf,
    /// The directory on a server.
    pub remote: ServerPath,
    /// Which of them changes.
    pub direction: Direction,
    /// Remove what is only at the destination.
    pub delete: bool,
    /// Compare contents, not only sizes and times.
    pub checksum: bool,
}

/// What has to be done, and how to do it.
#[derive(Debug)]
pub struct PlannedSync<'a> {
    client: &'a Client,
    meter: &'a Meter,
    server: Server,
    place: Place,
    sync: Sync,
    plan: SyncPlan,
}

/// What a sync does, or would do.
#[derive(Debug)]
pub struct SyncAnswer {
    /// Which side changes.
    pub direction: Direction,
    /// What is sent or fetched, with sizes; directories end with `/`.
    pub moved: Vec<(String, u64)>,
    /// What is removed.
    pub removed: Vec<Vec<u8>>,
    /// What gets other rights, or another time, and nothing else.
    pub set: Vec<String>,
    /// How many files are the same.
    pub same: u64,
    /// Links and special files, which are left out.
    pub left_out: Vec<Vec<u8>>,
}

impl SyncAnswer {
    /// What is done with files that differ, in a word.
    pub fn verb(&self) -> &'static str {
        match self.direction {
            Direction::Up => "send",
            Direction::Down => "fetch",
        }
    }
}

impl Sync {
    /// Compares both directories.
    ///
    /// # Errors
    ///
    /// `not_granted` for a model that would remove something here; those of the server and of this
    /// machine.
    pub async fn plan<'a>(
        self,
        client: &'a Client,
        face: Face,
        meter: &'a Meter,
    ) -> Result<PlannedSync<'a>, Failure> {
        if face == Face::Mcp && self.delete && self.direction == Direction::Down {
            let text = face.refusal("sync", "nothing is removed on this computer");
            return Err(Failure::new(Kind::NotGranted, text).with_hint("leave delete out"));
        }
        may_be_used(client, face, "sync", &self.local)?;
        let (server, place) = self.remote.place(client).await?;
        let (sync, none) = (self, SyncPlan::default());
        let mut planned = PlannedSync { client, meter, server, place, sync, plan: none };
        let (direction, checksum) = (planned.sync.direction, planned.sync.checksum);
        let plan = plan(&planned.transfer(), direction, checksum).await?;
        planned.plan = plan;
        Ok(planned)
    }
}

impl PlannedSync<'_> {
    fn transfer(&self) -> Transfer<'_> {
        Transfer {
            client: self.client,
            server: &self.server,
            remote: self.place.clone(),
            local: self.sync.local.clone(),
            overwrite: true,
            recursive: true,
            upward: self.sync.direction == Direction::Up,
            meter: self.meter,
        }
    }

    /// What it does, or would do.
    pub fn answer(&self) -> SyncAnswer {
        let Self { plan, sync, .. } = self;
        SyncAnswer {
            direction: sync.direction,
            moved: plan.transfers(),
            removed: if sync.delete { plan.removed() } else { Vec::new() },
            set: plan.set(),
            same: plan.same,
            left_out: plan.left_out.clone(),
        }
    }

    /// Does nothing, and notes as missed what a sync could not read.
    pub fn leave(self) {
        self.plan.note_unread(self.meter);
    }

    /// Does it. `meter` says how far it is, and what was missed.
    ///
    /// # Errors
    ///
    /// Those of the server and of this machine.
    pub async fn carry_out(mut self) -> Result<(), Failure> {
        let plan = std::mem::take(&mut self.plan);
        carry_out(&self.transfer(), plan, self.sync.delete).await
    }
}
