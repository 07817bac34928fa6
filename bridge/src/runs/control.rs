//! Control requests to a server: jobs, stops, facts.

use std::convert::Infallible;
use std::time::Duration;

use farwire_keystore::{JobOrigin, ShortId};
use farwire_link::inner::bridge::Link;
use farwire_protocol::conversation::{End, Open, message, read};
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::header::Class;
use farwire_protocol::id::Nonce;
use farwire_protocol::streams::Kind as StreamKind;
use farwire_protocol::streams::control::{
    Answer, Ask, Call, Facts, Job, JobFilter, Reply, Stop, Stopped,
};
use tokio::time::{sleep, timeout};

use crate::client::{Client, Server};
use crate::conversation::{
    self, Attempts, Carried, Carrier, Effects, NoAnswer, Remote, Trouble, carry,
};
use crate::known_roots::check_name;
use crate::machine::random_nonce;

/// How long to keep asking a question.
const PATIENCE: Duration = Duration::from_secs(20);

/// The most jobs of a server that are listed: an agent keeps at most 10,000 sessions and 4,096
/// other jobs.
const JOBS: usize = 15_000;

/// How often to send a sign of life on a link whose streams may be silent for hours: a link expires
/// after ten minutes of silence.
const ATTEND: Duration = Duration::from_secs(120);

/// A stream that leaves a request unanswered for this long is taken to be held back.
const WINDOW: Duration = Duration::from_secs(8);

/// What a second copy of a question would do. The agent carries out a stop without a signal once
/// for the job or the request that it names, and a second KILL or TERM changes nothing. Of other
/// signals each copy acts: a second INT makes many programs give up what they were saving.
fn effects(ask: &Ask) -> Effects {
    match ask {
        Ask::Stop(Stop { signal: Some(signal), .. })
            if ![libc::SIGKILL, libc::SIGTERM].contains(signal) =>
        {
            Effects::Each
        }
        Ask::Stop(_) | Ask::Close => Effects::Once,
        _ => Effects::None,
    }
}

/// Asks one question that changes nothing.
///
/// # Errors
///
/// The agent's failure, or why it could not be asked within 20 s.
pub async fn ask(client: &Client, server: &Server, ask: Ask) -> Result<Answer, Failure> {
    answer(client, server, ask).await.map_err(NoAnswer::failure)
}

/// Asks one question, and repeats it over new streams when they break.
async fn answer(client: &Client, server: &Server, ask: Ask) -> Result<Answer, NoAnswer> {
    let attempts = Attempts::new(effects(&ask), Some(PATIENCE));
    carry(Remote::new(client, server), attempts, &mut Question(ask)).await
}

struct Question(Ask);

impl Carried for Question {
    type Answer = Answer;

    async fn attempt(
        &mut self,
        remote: Remote<'_>,
        attempts: &mut Attempts,
    ) -> Result<Answer, Trouble> {
        let mut carrier = Carrier::open(remote, Class::Control, attempts).await?;
        let conversation = random_nonce().map_err(Trouble::here)?;
        let create = Some(Vec::new().into());
        let open = conversation::open(StreamKind::Control, conversation, 0, create);
        let answered = timeout(WINDOW, self.over(&mut carrier, open)).await;
        answered.unwrap_or_else(|_| Err(Trouble::silent(remote.server)))
    }
}

impl Question {
    async fn over(&self, carrier: &mut Carrier<'_>, open: Open) -> Result<Answer, Trouble> {
        carrier.begin(open);
        carrier.message(&message(&Call { id: 1, ask: Some(self.0.clone()) }));
        carrier.finish().await?;
        let frame = carrier.last().await?;
        let nonsense = |_| Trouble::nonsense("the answer is malformed");
        if frame.last {
            let end: End = read(&frame.payload).map_err(nonsense)?;
            return Err(end
                .failure
                .map_or_else(|| Trouble::nonsense("no answer"), Trouble::agent_failure));
        }
        let reply: Reply = read(&frame.payload).map_err(nonsense)?;
        match (reply.failure, reply.answer) {
            (Some(failure), _) => Err(Trouble::agent_failure(failure)),
            (None, Some(answer)) => Ok(answer),
            (None, None) => Err(Trouble::nonsense("the answer is from a newer agent")),
        }
    }
}

fn unexpected<T>() -> Result<T, Failure> {
    Err(Failure::new(Kind::ProtocolViolation, "the answer is for another request"))
}

/// Shows the server that we are still here.
pub async fn ping(client: &Client, server: &Server) -> Result<(), Failure> {
    ask(client, server, Ask::Ping).await.map(drop)
}

/// Keeps a link alive while a stream on it may be silent for hours. Ends when the stream should go
/// on over a new link.
pub(crate) async fn attend(remote: Remote<'_>, link: &Link) {
    loop {
        sleep(ATTEND).await;
        if link.is_stale() {
            return;
        }
        // The stream itself shows whether the server can be reached.
        let _ = ping(remote.client, remote.server).await;
    }
}

/// Waits for the answer to a question that may take hours, and keeps its link alive meanwhile: an
/// agent forgets a link on which it hears nothing.
pub(crate) async fn attended<T>(
    remote: Remote<'_>,
    link: &Link,
    asked: impl Future<Output = T>,
) -> T {
    let attending = Box::pin(async {
        attend(remote, link).await;
        // The question stays on its stream.
        std::future::pending::<Infallible>().await
    });
    tokio::select! {
        biased;
        answer = asked => answer,
        never = attending => match never {},
    }
}

/// The jobs of a server, newest first.
pub async fn jobs(client: &Client, server: &Server, running: bool) -> Result<Vec<Job>, Failure> {
    let mut all: Vec<Job> = Vec::new();
    loop {
        let after = all.last().map(|job| job.job);
        let list = JobFilter { after, running: Some(running) };
        let Answer::Jobs(page) = ask(client, server, Ask::List(list)).await? else {
            return unexpected();
        };
        let more = page.more.unwrap_or(false) && !page.jobs.is_empty();
        all.extend(page.jobs);
        if !more || all.len() >= JOBS {
            all.truncate(JOBS);
            return Ok(all);
        }
    }
}

/// Stops a job with a signal, or with INT, TERM and KILL.
///
/// # Errors
///
/// `outcome_unknown` if a stop that may have arrived was not answered; `unknown_id` for a job that
/// the agent does not know, unless it is a request that the agent has refused for good.
pub async fn stop(
    client: &Client,
    server: &Server,
    job: Nonce,
    signal: Option<i32>,
) -> Result<Stopped, Failure> {
    stop_sent(client, server, job, None, signal).await
}

/// Stops a run whose request was first sent to a known agent process: if the request has not
/// arrived, the agent can say that it never will.
pub async fn stop_sent(
    client: &Client,
    server: &Server,
    job: Nonce,
    instance: Option<Nonce>,
    signal: Option<i32>,
) -> Result<Stopped, Failure> {
    match stop_seen(client, server, job, signal).await {
        // The job has the id of the request: this also catches one that has not arrived.
        Err(failure) if failure.kind == Kind::UnknownId => {
            let by_request = Stop { request: Some(job), job: None, signal, instance };
            stopped(client, server, by_request).await
        }
        stopped => stopped,
    }
}

/// Stops the job that a short id names. Only for a job that was requested here can an agent say
/// that it will never start.
///
/// # Errors
///
/// As [`stop`].
pub async fn stop_known(
    client: &Client,
    server: &Server,
    id: ShortId,
    job: Nonce,
    signal: Option<i32>,
) -> Result<Stopped, Failure> {
    match client.ids.find(id)?.map(|known| known.asked) {
        Some(JobOrigin::Here) => stop(client, server, job, signal).await,
        Some(JobOrigin::Elsewhere) | None => stop_seen(client, server, job, signal).await,
    }
}

/// Stops a job that was seen on its server.
async fn stop_seen(
    client: &Client,
    server: &Server,
    job: Nonce,
    signal: Option<i32>,
) -> Result<Stopped, Failure> {
    let by_job = Stop { request: None, job: Some(job), signal, instance: None };
    stopped(client, server, by_job).await
}

async fn stopped(client: &Client, server: &Server, stop: Stop) -> Result<Stopped, Failure> {
    let answer = answer(client, server, Ask::Stop(stop)).await;
    let look = "check its state with `status` before you send the signal again";
    match answer.map_err(|no| no.outcome("it was stopped", look))? {
        Answer::Stopped(stopped) => Ok(stopped),
        _ => unexpected(),
    }
}

/// Returns the state of one job.
pub async fn inspect(client: &Client, server: &Server, job: Nonce) -> Result<Job, Failure> {
    match ask(client, server, Ask::Inspect(job)).await? {
        Answer::Job(job) => Ok(job),
        _ => unexpected(),
    }
}

/// Returns facts about the server's machine.
pub async fn facts(client: &Client, server: &Server) -> Result<Facts, Failure> {
    match ask(client, server, Ask::Facts).await? {
        Answer::Facts(facts) => check_facts(facts),
        _ => unexpected(),
    }
}

/// Checks that the names of the roots are valid.
fn check_facts(facts: Facts) -> Result<Facts, Failure> {
    facts.roots.iter().flatten().try_for_each(check_name)?;
    Ok(facts)
}

#[cfg(test)]
mod tests {
    use farwire_protocol::streams::files::Root;

    use super::*;

    #[test]
    fn facts_with_roots_that_can_have_no_such_name_are_refused() {
        let facts = |name: &str| Facts {
            hostname: String::new(),
            os: String::new(),
            arch: String::new(),
            user: String::new(),
            shell: String::new(),
            uptime: 0,
            time: 0,
            running: 0,
            spooled: 0,
            roots: Some(vec![Root {
                name: name.to_owned(),
                path: b"/srv".to_vec().into(),
                writable: false,
                excludes: None,
                confined: None,
                asks: None,
                beats: None,
            }]),
        };
        let longest = "a".repeat(32);
        for name in ["work", "a.b-c_9", &longest] {
            assert!(check_facts(facts(name)).is_ok(), "{name}");
        }
        let longer = "a".repeat(33);
        for name in
            ["", "..", ".x", "../x", "/etc", "a/b", "A", "a b", "a\u{1b}[2J", "\u{e9}", &longer]
        {
            let failure = check_facts(facts(name)).unwrap_err();
            assert_eq!(failure.kind, Kind::ProtocolViolation, "{name:?}");
            assert!(!failure.message.contains('\u{1b}'), "{failure}");
        }
    }
}
