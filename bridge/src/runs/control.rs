//! Questions to a server: jobs, stops, facts.

use std::time::Duration;

use farwire_protocol::conversation::{End, Open, message, read};
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::header::Class;
use farwire_protocol::id::Nonce;
use farwire_protocol::streams::Kind as StreamKind;
use farwire_protocol::streams::control::{
    Answer, Ask, Call, Facts, Job, List, Reply, Stop, Stopped,
};

use tokio::time::{Instant, sleep, timeout_at};

use crate::client::{Client, Server, backoff, broken, random_nonce};

/// How long a server may take to answer a question, over however many streams.
const PATIENCE: Duration = Duration::from_secs(20);

/// No more jobs of a server are listed: an agent keeps 10,000 sessions and 4,096 others at most.
const JOBS: usize = 15_000;

/// At most this many times after the first. A server that does not exist any more is not asked for longer.
const ATTEMPTS: u32 = 5;

/// Asks one question. Every question may be repeated, and is when a stream breaks on its way: a server
/// that is being restarted breaks more than one.
pub async fn ask(client: &Client, server: &Server, ask: Ask) -> Result<Answer, Failure> {
    let deadline = Instant::now() + PATIENCE;
    let mut attempt = 0;
    loop {
        let answered = timeout_at(deadline, try_once(client, server, ask.clone())).await;
        let answered = answered.unwrap_or_else(|_| {
            let message = format!("`{}` did not answer in time", server.name);
            Err(Failure::new(Kind::TimedOut, message))
        });
        // What turns out to be gone is made anew at once; after that we wait.
        let wait = if attempt > 0 { backoff(attempt) } else { Duration::ZERO };
        match answered {
            Err(failure)
                if failure.kind == Kind::LinkLost
                    && attempt < ATTEMPTS
                    && Instant::now() + wait < deadline =>
            {
                sleep(wait).await;
                attempt += 1;
            }
            answer => return answer,
        }
    }
}

async fn try_once(client: &Client, server: &Server, ask: Ask) -> Result<Answer, Failure> {
    let mut stream = client.stream(server, Class::Control).await?;
    stream.writer.open(Open {
        kind: StreamKind::Control.number(),
        conversation: random_nonce()?,
        generation: 0,
        create: Some(Vec::new().into()),
        have: None,
        more: None,
    });
    stream.writer.message(&message(&Call { id: 1, ask: Some(ask) }));
    stream.writer.end(&message(&End::default()));
    let lost = |_| Failure::new(Kind::LinkLost, "the stream broke off");
    stream.writer.finish().await.map_err(lost)?;
    let frame = match stream.reader.next().await {
        Ok(frame) => frame,
        Err(error) => {
            client.broke(server, &stream.link, &error);
            return Err(broken(error, server));
        }
    };
    stream.link.heard(frame.payload.len());
    let nonsense = |_| Failure::new(Kind::ProtocolViolation, "an answer that makes no sense");
    if frame.last {
        let end: End = read(&frame.payload).map_err(nonsense)?;
        return Err(end
            .failure
            .unwrap_or_else(|| Failure::new(Kind::ProtocolViolation, "no answer")));
    }
    let reply: Reply = read(&frame.payload).map_err(nonsense)?;
    match (reply.failure, reply.answer) {
        (Some(failure), _) => Err(failure),
        (None, Some(answer)) => Ok(answer),
        (None, None) => Err(Failure::new(Kind::IncompatibleVersion, "an answer of a newer agent")),
    }
}

fn unexpected<T>() -> Result<T, Failure> {
    Err(Failure::new(Kind::ProtocolViolation, "the answer to another question"))
}

/// Shows the server that we are still here.
pub async fn ping(client: &Client, server: &Server) -> Result<(), Failure> {
    ask(client, server, Ask::Ping).await.map(drop)
}

/// The jobs of a server, newest first.
pub async fn jobs(client: &Client, server: &Server, running: bool) -> Result<Vec<Job>, Failure> {
    let mut all: Vec<Job> = Vec::new();
    loop {
        let after = all.last().map(|job| job.job);
        let list = List { after, running: Some(running) };
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
pub async fn stop(
    client: &Client,
    server: &Server,
    job: Nonce,
    signal: Option<i32>,
) -> Result<Stopped, Failure> {
    stop_sent(client, server, (job, None), signal).await
}

/// The same for a run whose request was first sent to a known agent process: if the request has not
/// arrived, the agent can say that it never will.
pub async fn stop_sent(
    client: &Client,
    server: &Server,
    (job, instance): (Nonce, Option<Nonce>),
    signal: Option<i32>,
) -> Result<Stopped, Failure> {
    // The job has the id of the request: this also catches one that has not arrived.
    let stop = Stop { request: Some(job), job: None, signal, instance };
    let by_request = ask(client, server, Ask::Stop(stop)).await?;
    match by_request {
        Answer::Stopped(Stopped::NeverStarted) => {
            // Not ours by request; it may be somebody else's that we may stop.
            let stop = Stop { request: None, job: Some(job), signal, instance: None };
            match ask(client, server, Ask::Stop(stop)).await {
                Ok(Answer::Stopped(stopped)) => Ok(stopped),
                Err(failure) if failure.kind == Kind::UnknownId => Ok(Stopped::NeverStarted),
                Ok(_) => unexpected(),
                Err(failure) => Err(failure),
            }
        }
        Answer::Stopped(stopped) => Ok(stopped),
        _ => unexpected(),
    }
}

/// How one job is.
pub async fn inspect(client: &Client, server: &Server, job: Nonce) -> Result<Job, Failure> {
    match ask(client, server, Ask::Inspect(job)).await? {
        Answer::Job(job) => Ok(job),
        _ => unexpected(),
    }
}

/// What machine a server is.
pub async fn facts(client: &Client, server: &Server) -> Result<Facts, Failure> {
    match ask(client, server, Ask::Facts).await? {
        Answer::Facts(facts) => checked(facts),
        _ => unexpected(),
    }
}

/// Facts from which names can be taken.
fn checked(facts: Facts) -> Result<Facts, Failure> {
    facts.roots.iter().flatten().try_for_each(crate::files::named)?;
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
            }]),
        };
        let longest = "a".repeat(32);
        for name in ["work", "a.b-c_9", &longest] {
            assert!(checked(facts(name)).is_ok(), "{name}");
        }
        let longer = "a".repeat(33);
        for name in
            ["", "..", ".x", "../x", "/etc", "a/b", "A", "a b", "a\u{1b}[2J", "\u{e9}", &longer]
        {
            let failure = checked(facts(name)).unwrap_err();
            assert_eq!(failure.kind, Kind::ProtocolViolation, "{name:?}");
            assert!(!failure.message.contains('\u{1b}'), "{failure}");
        }
    }
}
