//! `job_wait`: waits for several jobs in one call.

use std::time::Duration;

use farwire_protocol::failure::Failure;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::text::header::{Call, Fate, Header, Key};
use crate::text::table::Table;
use crate::text::{Word, human};
use crate::tools::caller::Caller;
use crate::tools::seat::Seat;
use crate::tools::tool::{Effect, Tool};
use crate::verbs::wait::{Enough, WaitForJobs, WaitForJobsAnswer, WaitedJob};

/// The arguments of `job_wait`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JobWait {
    /// Run or session ids, e.g. r12, s3.
    pub ids: Vec<String>,
    /// all (default) or any.
    pub mode: Option<Mode>,
    /// Seconds (default 25).
    pub timeout: Option<f64>,
}

/// For how many.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "doc comments would go into the schema that models pay for")]
pub enum Mode {
    #[default]
    All,
    Any,
}

impl Tool for JobWait {
    const NAME: &'static str = "job_wait";
    const TITLE: &'static str = "Wait for jobs";
    const ABOUT: &'static str = "Wait for several runs or sessions at once, on one or many servers, until all or any of \
        them have ended: a barrier in one call.";
    const EFFECT: Effect = Effect::READS;

    async fn call(self, seat: &Seat, caller: &Caller) -> Result<String, Failure> {
        let client = seat.shared_client().await?;
        let (wait, clamped) = seat.wait(self.timeout)?;
        let enough = match self.mode.unwrap_or_default() {
            Mode::All => Enough::All,
            Mode::Any => Enough::Any,
        };
        let verb = WaitForJobs { ids: self.ids, enough, wait };
        let WaitForJobsAnswer { jobs, ended, done } = verb.carry_out(client, caller).await?;
        let mut table = Table::new().limit(1, 64).limit(4, 200);
        for WaitedJob { handle, state } in &jobs {
            let (how, time, why) = match state {
                Ok(state) => {
                    let time = human::duration(Duration::from_millis(state.duration_ms));
                    (Fate::of(state).to_string(), time, format!("lines={}", state.lines))
                }
                Err(failure) => {
                    (format!("error={}", failure.kind), String::new(), failure.message.clone())
                }
            };
            table.row([handle.id.to_string(), handle.server.name.clone(), how, time, why]);
        }
        let mut header =
            Header::new(Word::Status).words(format_args!("{ended} of {} ended", jobs.len()));
        if clamped {
            header = header.field(Key::WaitLimit, format_args!("{}s", wait.as_secs()));
        }
        let line = match done {
            true => header.end(),
            false => header.next(&Call::new(Self::NAME).with("ids", "…")),
        };
        Ok(format!("{line}\n{}", table.text()))
    }
}
