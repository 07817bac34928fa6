//! Reads the output of a run or a session: the part that is new, or any part that is kept.

use std::time::Duration;

use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::streams::run::{Delivery, Digest, Read, Request, Take, View};
use tokio::time::Instant;

use super::observer::Observer;
use super::run::{Excerpt, RunAnswer, SLACK};
use crate::client::Client;
use crate::handles::Handle;
use crate::runs::answer::{NoAnswer, RunReply, ask};

/// Waits for output of a run that comes after an offset, or for its end.
#[derive(Clone, Debug)]
pub struct NewOutput {
    /// The offset from which on output is new.
    pub from: u64,
    /// A line that matches this expression ends the wait.
    pub until: Option<String>,
    /// How long to wait, and how much to bring.
    pub excerpt: Excerpt,
}

impl NewOutput {
    /// Waits. A caller that cancels only stops waiting: the run goes on.
    ///
    /// # Errors
    ///
    /// `cancelled`. That the server does not answer is part of the answer.
    pub async fn carry_out(
        self,
        client: &Client,
        run: Handle,
        observer: &dyn Observer,
    ) -> Result<RunAnswer, Failure> {
        let patience = self.excerpt.wait + SLACK;
        let digest = Digest { from: Some(self.from), until: self.until, ..self.excerpt.digest() };
        let request = Request::Take(Take { job: run.job, delivery: Delivery::Digest(digest) });
        let begun = Instant::now();
        let asked = ask(client, &run.server, &request, patience, |news| observer.hear(&news));
        let answer = tokio::select! {
            answer = asked => answer,
            () = observer.cancellation().cancelled() => {
                return Err(Failure::new(Kind::Cancelled, "the wait was cancelled; the run goes on"));
            }
        };
        Ok(RunAnswer { handle: run, answer, waited: begun.elapsed() })
    }
}

/// Reads a part of what is kept.
#[derive(Clone, Debug)]
pub struct OutputPart {
    /// Which part.
    pub view: View,
    /// How many bytes it has at most.
    pub budget: u32,
    /// How long the server may take.
    pub patience: Duration,
}

impl OutputPart {
    /// Reads it.
    ///
    /// # Errors
    ///
    /// What the server says, or why it does not answer.
    pub async fn carry_out(self, client: &Client, of: &Handle) -> Result<RunReply, Failure> {
        let read = Read { job: of.job, view: self.view, budget: self.budget };
        let answer = ask(client, &of.server, &Request::Read(read), self.patience, |_| ()).await;
        answer.map_err(NoAnswer::failure)
    }
}
