//! Stops a run or a session, or sends it a signal.

use std::time::Duration;

use farwire_protocol::failure::Failure;
use farwire_protocol::streams::control::Stopped;
use farwire_protocol::streams::run::State;

use crate::client::Client;
use crate::handles::Handle;
use crate::runs::control;
use crate::sessions::window::end;

/// Longer than INT, TERM and KILL take, 5 s apart.
pub const LADDER: Duration = Duration::from_secs(12);

/// A program that handles a single signal is given this long to end.
const SINGLE: Duration = Duration::from_secs(2);

/// Stops a run or a session.
#[derive(Clone, Debug)]
pub struct StopJob {
    /// Its short id.
    pub id: String,
    /// Only this signal, instead of INT, TERM and KILL.
    pub signal: Option<i32>,
}

/// The server's answer to a stop.
#[derive(Clone, Debug)]
pub struct StopAnswer {
    /// What was stopped.
    pub handle: Handle,
    /// Whether it was signalled, had ended, or will never start.
    pub stopped: Stopped,
    /// How long it may take to end.
    patience: Duration,
}

impl StopJob {
    /// Sends the signal, or the first of them. Does not wait for the end.
    ///
    /// # Errors
    ///
    /// `unknown_id`, and `outcome_unknown` where the server may have received it and did not
    /// answer.
    pub async fn carry_out(&self, client: &Client) -> Result<StopAnswer, Failure> {
        let handle = Handle::find(client, &self.id)?;
        let Handle { id, server, job } = &handle;
        let stopped = control::stop_known(client, server, *id, *job, self.signal).await?;
        let patience = if self.signal.is_some() { SINGLE } else { LADDER };
        Ok(StopAnswer { handle, stopped, patience })
    }
}

impl StopAnswer {
    /// Waits until the program has ended, for as long as that may take. Returns how it is then.
    ///
    /// # Errors
    ///
    /// Why the server does not say.
    pub async fn state(&self, client: &Client) -> Result<State, Failure> {
        end(client, &self.handle.server, self.handle.job, self.patience).await
    }
}
