//! Short ids, such as `r12` and `s3`: what each stands for, and which server has it.
//!
//! Each id is assigned once, by this installation, and kept in its home. The other ways to name a
//! *session*, by its name or by the chosen default, are in [`crate::sessions::find`].

use farwire_keystore::{Class, JobOrigin, ShortId};
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::id::Nonce;
use farwire_protocol::streams::control::Job;

use crate::client::{Client, Server};
use crate::runs::record;
use crate::text::neutral::neutral_within;

/// A run or a session that a short id stands for.
#[derive(Clone, Debug)]
pub struct Handle {
    /// The short id.
    pub id: ShortId,
    /// The server that has it.
    pub server: Server,
    /// Its id on that server.
    pub job: Nonce,
}

impl Handle {
    /// Parses a short id and looks it up in the home, without the network.
    ///
    /// # Errors
    ///
    /// `unknown_id`, and `unknown_server` for an id whose server is no longer pinned.
    pub fn find(client: &Client, id: &str) -> Result<Self, Failure> {
        let unknown = || {
            let shown = neutral_within(id, 40);
            Failure::new(Kind::UnknownId, format!("there is no run `{shown}`"))
        };
        let short: ShortId = id.trim().parse().map_err(|_| unknown())?;
        let job = client.ids.find(short)?.ok_or_else(unknown)?;
        let pinned = client.home.pins().of_agent(&job.agent, &job.server)?;
        let (name, pin) = pinned.ok_or_else(|| {
            let message =
                format!("the server of `{short}` (`{}`) is no longer known here", job.server);
            Failure::new(Kind::UnknownServer, message)
        })?;
        Ok(Self { id: short, server: Server { name, pin }, job: job.job })
    }

    /// Finds a session by its short id.
    ///
    /// # Errors
    ///
    /// Those of [`Self::find`], and `unknown_id` for the id of a run.
    pub fn find_session(client: &Client, id: &str) -> Result<Self, Failure> {
        let found = Self::find(client, id)?;
        match found.id.class {
            Class::Session => Ok(found),
            _ => Err(Failure::new(Kind::UnknownId, format!("`{}` is not a session", found.id))),
        }
    }

    /// The handle of a job that a server has listed. A job that was never seen before gets its id.
    pub fn of_job(client: &Client, server: &Server, job: &Job) -> Result<Self, Failure> {
        let class = if job.session.is_some() { Class::Session } else { Class::Run };
        Self::of(client, server, class, job.job)
    }

    /// The handle of a session. A job that was never seen before gets its id.
    pub fn of_session(client: &Client, server: &Server, session: Nonce) -> Result<Self, Failure> {
        Self::of(client, server, Class::Session, session)
    }

    fn of(client: &Client, server: &Server, class: Class, job: Nonce) -> Result<Self, Failure> {
        let id = client.ids.id_of(record(class, JobOrigin::Elsewhere, server, job))?;
        Ok(Self { id, server: server.clone(), job })
    }

    /// Whether it is a session.
    pub fn is_session(&self) -> bool {
        self.id.class == Class::Session
    }
}
