//! Serves `control` streams: queries about jobs, stops, heartbeats.

use farwire_link::inner::sealed::{Reader, Writer};
use farwire_protocol::conversation::{End, message, read};
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::frame::Kind as FrameKind;
use farwire_protocol::streams::control::{Answer, Ask, Call, Facts, Job, JobFilter, Jobs, Reply};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

use crate::gate::Allowed;
use crate::gate::demand::Demand;
use crate::os::clock::unix_time;
use crate::os::facts::Facts as Machine;
use crate::os::user::User;
use crate::streams::context::{Context, link_lost};
use crate::streams::session::answer::DRAWN;

/// At most this many jobs are listed on a page.
const PAGE: usize = 30;

/// At most this many bytes of them: a page fits a frame, whatever titles programs have given their
/// terminals.
const PAGE_BYTES: usize = 12 << 10;

/// Answers until the bridge ends the stream.
pub(crate) async fn serve<W, R>(
    context: &Context,
    writer: &mut Writer<W>,
    mut reader: Reader<R>,
) -> Result<(), Failure>
where
    W: AsyncWrite + Unpin + Send,
    R: AsyncRead + Unpin + Send,
{
    loop {
        let frame = reader.next().await?;
        context.link.note_activity();
        if frame.last {
            writer.end(&message(&End::default()));
            return writer.finish().await.map_err(|_| link_lost());
        }
        if frame.kind != FrameKind::Control {
            return Err(Failure::new(Kind::ProtocolViolation, "DATA on a control stream"));
        }
        let call: Call = read(&frame.payload).map_err(|error| {
            Failure::caused(Kind::ProtocolViolation, "the request is malformed", &error)
        })?;
        let close = matches!(call.ask, Some(Ask::Close));
        draw(context, call.ask.as_ref()).await;
        let reply = match answer(context, call.ask).await {
            Ok(answer) => Reply { id: call.id, failure: None, answer: Some(answer) },
            Err(failure) => Reply { id: call.id, failure: Some(failure), answer: None },
        };
        writer.message(&message(&reply));
        writer.flush().await.map_err(|_| link_lost())?;
        if close {
            context.services.links.close(&context.link);
        }
    }
}

/// Draws the screens that an answer reports, for at most as long as an answer may take. Other
/// requests go on meanwhile, and a screen that takes longer is reported as last seen.
async fn draw(context: &Context, ask: Option<&Ask>) {
    let jobs = &context.services.jobs;
    let found = match ask {
        Some(Ask::List(JobFilter { after, running })) => {
            jobs.list(&context.asker, *after, running.unwrap_or(false), PAGE).0
        }
        Some(Ask::Inspect(id)) => {
            jobs.find(&context.asker, *id).into_iter().map(Allowed::into_inner).collect()
        }
        _ => Vec::new(),
    };
    let all = async {
        for job in &found {
            if let Some(terminal) = &job.terminal {
                terminal.draw().await;
            }
        }
    };
    let _ = timeout(DRAWN, all).await;
}

/// As many as fit, and whether there are more.
fn page(shown: impl Iterator<Item = Job>, more: bool) -> Jobs {
    let mut page = Jobs { jobs: Vec::new(), more: Some(more) };
    let mut bytes = 0;
    for job in shown {
        bytes += message(&job).len();
        if bytes > PAGE_BYTES && !page.jobs.is_empty() {
            page.more = Some(true);
            break;
        }
        page.jobs.push(job);
    }
    page
}

async fn answer(context: &Context, ask: Option<Ask>) -> Result<Answer, Failure> {
    let jobs = &context.services.jobs;
    match ask {
        Some(Ask::Ping | Ask::Close) => Ok(Answer::Done),
        Some(Ask::Stop(stop)) => jobs.stop(&context.asker, &stop).map(Answer::Stopped),
        Some(Ask::List(JobFilter { after, running })) => {
            let (found, more) = jobs.list(&context.asker, after, running.unwrap_or(false), PAGE);
            let shown = found.iter().map(|job| job.show(&context.asker.who, false));
            Ok(Answer::Jobs(page(shown, more)))
        }
        Some(Ask::Inspect(id)) => {
            Ok(Answer::Job(jobs.find(&context.asker, id)?.show(&context.asker.who, true)))
        }
        Some(Ask::Facts) => {
            context.asker.may(&Demand::Facts)?;
            facts_of(context).await.map(Answer::Facts)
        }
        _ => Err(Failure::new(Kind::Unsupported, "this agent does not know that request")
            .with_hint("update the agent")),
    }
}

async fn facts_of(context: &Context) -> Result<Facts, Failure> {
    let read = context.services.users.own(|| (User::current(), Machine::read()));
    let (user, machine) = read.await?;
    let user = user?;
    let (running, spooled) = context.services.jobs.load();
    Ok(Facts {
        hostname: machine.hostname,
        os: machine.system,
        arch: machine.arch,
        user: user.name.to_string_lossy().into_owned(),
        shell: user.shell.to_string_lossy().into_owned(),
        uptime: context.services.started.elapsed().as_secs(),
        time: unix_time(),
        running: u32::try_from(running).unwrap_or(u32::MAX),
        spooled,
        roots: Some(context.services.roots.list()).filter(|roots| !roots.is_empty()),
    })
}
