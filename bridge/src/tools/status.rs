//! `status`: what is open on the servers.
//!
//! The answers of fast servers are shown after a moment, and slow or stuck servers are named. Only
//! what is shown gets a short id.

use farwire_protocol::failure::Failure;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::client::Client;
use crate::fleet::Gathered;
use crate::handles::Handle;
use crate::render::status::{JobRow, table};
use crate::text::Word;
use crate::text::header::{Call, Header, Key};
use crate::text::shown::Budget;
use crate::tools::answer::with_failures;
use crate::tools::caller::Caller;
use crate::tools::seat::Seat;
use crate::tools::tool::{Effect, Tool};
use crate::verbs::status::{ListJobs, ServerJobs};

/// More rows than fit into an answer.
const ROWS: usize = 400;

/// The arguments of `status`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StatusTool {
    /// Only this server.
    pub server: Option<String>,
    /// Include ended ones.
    pub all: Option<bool>,
    /// Continue after this id.
    pub after: Option<String>,
}

impl Tool for StatusTool {
    const NAME: &'static str = "status";
    const TITLE: &'static str = "List runs and sessions";
    const ABOUT: &'static str = "List what is open: runs and sessions with id, state, who may type, age, owner; with all, also ended ones.";
    const EFFECT: Effect = Effect::READS;

    async fn call(self, seat: &Seat, _: &Caller) -> Result<String, Failure> {
        let client = seat.client().await?;
        let all = self.all.unwrap_or(false);
        let inquiry = ListJobs { server: self.server.clone(), all }.carry_out(client).await?;
        let Gathered { known, mut trouble } = inquiry.fleet.shortly().await;
        trouble.extend(inquiry.away);
        let jobs = || known.iter().flat_map(|one| one.jobs.iter().map(move |job| (one, job)));
        let total = jobs().count();
        let sessions = jobs().filter(|(_, job)| job.session.is_some()).count();
        let mut header = Header::new(Word::Open).words(count(total - sessions, "run"));
        if sessions > 0 {
            header = header.words(count(sessions, "session"));
        }
        let first = self.after.as_deref().map(|id| place_after(client, &known, id)).transpose()?;
        let first = first.unwrap_or(0);
        let rows = jobs().skip(first).take(ROWS);
        let rows = rows.map(|(one, job)| JobRow::of(client, &one.server, job));
        let rows = rows.collect::<Result<Vec<_>, Failure>>()?;
        let (text, shown) = table(&rows).within(Budget::default());
        header = with_failures(header, &trouble);
        if first > 0 || shown < total {
            header = header.field(Key::Shown, shown);
        }
        let line = match (rows.iter().take(shown).next_back(), trouble.first()) {
            (Some(last), _) if first + shown < total => {
                header.next(&self.again().with("after", &last.id))
            }
            (_, Some((name, _))) if self.server.is_none() => {
                header.next(&Call::new(Self::NAME).with("server", name))
            }
            _ => header.end(),
        };
        Ok(format!("{line}\n{text}{}", say_unknown(&trouble)))
    }
}

impl StatusTool {
    /// The same call, without `after`.
    fn again(&self) -> Call {
        let call = Call::new(Self::NAME).with_some("server", self.server.as_ref());
        call.with_some("all", self.all.filter(|all| *all))
    }
}

/// Says what is missing from a list, which a model might take to be complete.
fn say_unknown(trouble: &[(String, Failure)]) -> String {
    const NAMED: usize = 20;
    if trouble.is_empty() {
        return String::new();
    }
    let names: Vec<&str> = trouble.iter().take(NAMED).map(|(name, _)| name.as_str()).collect();
    let more = match trouble.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("Not known, because there was no answer: what is open on {}{more}.\n", names.join(", "))
}

/// How many rows come before those after this id.
fn place_after(client: &Client, known: &[ServerJobs], id: &str) -> Result<usize, Failure> {
    let handle = Handle::find(client, id)?;
    let agent = handle.server.pin.bundle.id;
    let mut rows = known.iter().flat_map(|one| one.jobs.iter().map(move |job| (one, job)));
    let at = rows.position(|(one, job)| one.server.pin.bundle.id == agent && job.job == handle.job);
    // It may have ended meanwhile: then the list starts from the beginning.
    Ok(at.map_or(0, |at| at + 1))
}

fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}
