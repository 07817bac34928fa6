//! `job_wait`: one call that waits for many.

use std::time::Duration;

use farwire_protocol::failure::{Failure, Kind};
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use crate::handles::Handle;
use crate::sessions::window::end;
use crate::text::header::{Call, Fate, Header, Key};
use crate::text::table::Table;
use crate::text::{Word, human};
use crate::tools::{Caller, Desk, Effect, Tool};

/// No more jobs are waited for at once.
const MOST: usize = 64;

/// How long an answer may be on its way.
const SLACK: Duration = Duration::from_secs(3);

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

    async fn call(self, desk: &Desk, caller: &Caller) -> Result<String, Failure> {
        if self.ids.is_empty() || self.ids.len() > MOST {
            let text = format!("ids: between 1 and {MOST}");
            return Err(Failure::new(Kind::InvalidArgument, text));
        }
        let client = desk.shared_client().await?;
        let (wait, clamped) = desk.wait(self.timeout)?;
        let jobs =
            self.ids.iter().map(|id| Handle::find(client, id)).collect::<Result<Vec<_>, _>>()?;
        let mode = self.mode.unwrap_or_default();
        let mut waiting = JoinSet::new();
        for (at, Handle { server, job, .. }) in jobs.iter().cloned().enumerate() {
            let client = client.clone();
            waiting.spawn(async move { (at, end(&client, &server, job, wait).await) });
        }
        let mut ends: Vec<_> = jobs.iter().map(|_| None).collect();
        let deadline = Instant::now() + wait + SLACK;
        loop {
            let next = tokio::select! {
                next = timeout_at(deadline, waiting.join_next()) => next,
                () = caller.cancelled.cancelled() => {
                    return Err(Failure::new(Kind::Cancelled, "the wait was cancelled; the jobs go on"));
                }
            };
            let Ok(Some(Ok((at, state)))) = next else { break };
            let over = state.as_ref().is_ok_and(|state| !state.is_open());
            if let Some(end) = ends.get_mut(at) {
                *end = Some(state);
            }
            if over && mode == Mode::Any {
                break;
            }
        }
        drop(waiting);
        let (mut over, mut table) = (0, Table::new().limit(1, 64).limit(4, 200));
        for (Handle { id, server, job }, state) in jobs.iter().zip(ends) {
            let state = match state {
                Some(state) => state,
                None => end(client, server, *job, Duration::ZERO).await,
            };
            let (how, time, why) = match state {
                Ok(state) => {
                    over += usize::from(!state.is_open());
                    let time = human::duration(Duration::from_millis(state.duration_ms));
                    (Fate::of(&state).to_string(), time, format!("lines={}", state.lines))
                }
                Err(failure) => (format!("error={}", failure.kind), String::new(), failure.message),
            };
            table.row([id.to_string(), server.name.clone(), how, time, why]);
        }
        let header =
            Header::new(Word::Status).words(format_args!("{over} of {} ended", jobs.len()));
        let header = match clamped {
            true => header.field(Key::WaitLimit, format_args!("{}s", wait.as_secs())),
            false => header,
        };
        let done = match mode {
            Mode::All => over == jobs.len(),
            Mode::Any => over > 0,
        };
        let line = match done {
            true => header.end(),
            false => header.next(&Call::new(Self::NAME).with("ids", "…")),
        };
        Ok(format!("{line}\n{}", table.text()))
    }
}
