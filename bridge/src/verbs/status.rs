//! What is open on the servers: runs and sessions.
//!
//! All servers are asked at once, and a face decides how long it waits for the slow ones: see
//! [`crate::fleet`].

use farwire_protocol::failure::Failure;
use farwire_protocol::streams::control::Job;

use super::servers::{self, Inquiry};
use crate::client::{Client, Server};
use crate::fleet::Fleet;
use crate::runs::control;

/// Asks what is open.
#[derive(Clone, Debug, Default)]
pub struct ListJobs {
    /// Only on this server.
    pub server: Option<String>,
    /// Runs and sessions that have ended, too.
    pub all: bool,
}

/// A server and its jobs, newest first.
#[derive(Clone, Debug)]
pub struct ServerJobs {
    /// The server.
    pub server: Server,
    /// Its runs and sessions.
    pub jobs: Vec<Job>,
}

impl ListJobs {
    /// Asks the named server, or all that the relay lists as online. What runs on those that are
    /// away goes on, and is not known.
    ///
    /// # Errors
    ///
    /// `unknown_server`, or why the relay does not say which servers are online.
    pub async fn carry_out<'a>(
        &self,
        client: &'a Client,
    ) -> Result<Inquiry<'a, ServerJobs>, Failure> {
        let (online, away) = servers::reachable(client, self.server.as_deref()).await?;
        let running = !self.all;
        let fleet = Fleet::ask(online, move |server| async move {
            let jobs = control::jobs(client, &server, running).await?;
            Ok(ServerJobs { server, jobs })
        });
        Ok(Inquiry { fleet, away })
    }
}
