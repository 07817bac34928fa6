//! What can be done to a session besides typing: leases, the rule, size, signals, limits, labels,
//! its end.

use farwire_link::inner::sealed::Writer;
use farwire_protocol::conversation::{Counts, Open};
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::streams::session::Size as SizeMessage;
use farwire_protocol::streams::session::{
    Action, Caller, Control, Heir, Labels, Limits, REASON_LIMIT, TypingRule,
};
use tokio::io::AsyncWrite;

use super::answer::state_of;
use crate::gate::demand::Demand;
use crate::gate::principal::Principal;
use crate::gate::{Allowed, Asker};
use crate::jobs::job::Job;
use crate::os::clock::boottime;
use crate::os::pty::{self, Size};
use crate::sessions::{Session, Sessions};
use crate::streams::context::Context;
use crate::streams::context::finish;
use crate::terminal::events::What;
use crate::terminal::filing::{self, changed_labels, changed_limits};
use crate::terminal::typing_rights::{Arbiter, Group, Refusal};

/// Carries out the request, and answers with the new state of the session.
pub(super) async fn serve<W: AsyncWrite + Unpin>(
    context: &Context,
    open: &Open,
    control: &Control,
    writer: &mut Writer<W>,
) -> Result<(), Failure> {
    let all = &context.services.control_conversations;
    let seat = all.enter(&context.asker.who, open.conversation, open.generation, ()).await?;
    let asker = context.asker.calling_itself(control.caller.as_ref())?;
    let sessions = &context.services.sessions;
    let session = sessions.find(&asker, control.session)?;
    act(sessions, &session, &asker, &control.action)?;
    // It is done: a later stream need not wait until the answer has gone out.
    drop(seat);
    finish(writer, Counts::default(), &state_of(&session, &asker.who).await?).await
}

fn act(
    sessions: &Sessions,
    session: &Allowed<Session>,
    asker: &Asker,
    action: &Action,
) -> Result<(), Failure> {
    let who = &*asker.who;
    if session.job.has_ended() && !matches!(action, Action::Limits(_) | Action::Label(_)) {
        return Err(already_over(&session.job));
    }
    match action {
        Action::Acquire(for_ms) => {
            together(sessions, session, who, |group| group.attach(who, *for_ms))
        }
        Action::Release => {
            let now = boottime();
            let done = session.terminal.typing().arbiter.detach(who, now);
            settle(session, who, done)
        }
        Action::HandOver { to, reason } => {
            let (heir, reason) = (heir(who, to)?, reason_of(reason.as_deref())?);
            together(sessions, session, who, |group| group.hand_over(who, &heir, reason))
        }
        Action::TakeOver { from, reason, for_ms } => {
            let reason = reason_of(reason.as_deref())?;
            let take = |group: &mut Members<'_, '_>| {
                group.take_over(who, from.as_deref(), reason, *for_ms)
            };
            together(sessions, session, who, take)?;
            clear(sessions, session, who)
        }
        Action::Rule(policy) => rule(session, who, *policy),
        Action::Resize(size) => resize(session, who, *size),
        Action::Signal(signal) => send_signal(session, who, *signal),
        Action::Limits(limits) => bound(session, who, *limits),
        Action::Label(labels) => label(sessions, session, asker, labels),
        Action::Close => {
            check(session.terminal.typing().arbiter.may_act(who, boottime()))?;
            session.terminal.note(Some(who), What::Closed);
            session.job.stop(None).map(drop)
        }
        _ => Err(Failure::new(Kind::Unsupported, "this agent does not know that action")
            .with_hint("update the agent")),
    }
}

/// The failure that says that and how the session has ended.
pub(super) fn already_over(job: &Job) -> Failure {
    use farwire_protocol::streams::run::Exit;

    let how = match job.state().exit {
        Some(Exit::Code(code)) => format!(" with exit code {code}"),
        Some(Exit::Signal(signal)) => format!(" by signal {}", crate::os::signals::name(signal)),
        None => String::new(),
    };
    Failure::new(Kind::AlreadyEnded, format!("the session has ended{how}"))
}

fn check(done: Result<(), Refusal>) -> Result<(), Failure> {
    done.map_err(|refusal| refusal.failure(boottime()))
}

/// Records the result of an act of `who`.
fn settle(session: &Session, who: &Principal, done: Result<(), Refusal>) -> Result<(), Failure> {
    session.terminal.settle(Some(who));
    check(done)
}

type Members<'a, 'b> = Group<'a, &'b mut Arbiter>;

/// Changes the leases of a session and of its group in one step.
fn together(
    sessions: &Sessions,
    session: &Session,
    who: &Principal,
    act: impl FnOnce(&mut Members<'_, '_>) -> Result<(), Refusal>,
) -> Result<(), Failure> {
    let labels = session.terminal.filing().labels.clone();
    among(&sessions.group(session, &labels), who, act)
}

fn among(
    members: &[Session],
    who: &Principal,
    act: impl FnOnce(&mut Members<'_, '_>) -> Result<(), Refusal>,
) -> Result<(), Failure> {
    let done = {
        // Everybody locks them in this order.
        let mut ordered: Vec<_> = members.iter().enumerate().collect();
        ordered.sort_by_key(|(_, member)| member.job.id.0);
        let mut typing: Vec<_> =
            ordered.iter().map(|(at, member)| (*at, member.terminal.typing())).collect();
        typing.sort_by_key(|(at, _)| *at);
        let mut arbiters: Vec<_> =
            typing.iter_mut().map(|(_, typing)| &mut typing.arbiter).collect();
        act(&mut Group::new(&mut arbiters, boottime()))
    };
    for member in members {
        member.terminal.settle(Some(who));
    }
    check(done)
}

/// A user takes the lease for the lifetime of a stream.
pub(super) fn take(
    sessions: &Sessions,
    session: &Session,
    who: &Principal,
    stream: u64,
) -> Result<(), Failure> {
    if session.job.has_ended() {
        return Err(already_over(&session.job));
    }
    together(sessions, session, who, |group| group.take(who, stream))?;
    clear(sessions, session, who)
}

/// `who` releases the lease.
pub(super) fn release(session: &Session, who: &Principal) -> Result<(), Failure> {
    let done = session.terminal.typing().arbiter.detach(who, boottime());
    settle(session, who, done)
}

/// A stream has ended: releases the leases that were bound to it, in all of the group.
pub(super) fn let_go(sessions: &Sessions, session: &Session, who: &Principal, stream: u64) {
    let labels = session.terminal.filing().labels.clone();
    for member in sessions.group(session, &labels) {
        member.terminal.typing().arbiter.end_stream(stream, boottime());
        member.terminal.settle(Some(who));
    }
}

/// Discards what agents have typed and nobody has read, if a user has taken over.
fn clear(sessions: &Sessions, session: &Session, who: &Principal) -> Result<(), Failure> {
    if who.is_user() {
        let labels = session.terminal.filing().labels.clone();
        for member in sessions.group(session, &labels) {
            let terminal = &member.terminal;
            let now = boottime();
            let holds = terminal.typing().arbiter.holder(now).is_some_and(|holder| holder == who);
            if holds {
                terminal.clear_agents(who);
            }
        }
    }
    Ok(())
}

/// Another client, or another surface, of the same device.
fn heir(who: &Principal, to: &Heir) -> Result<Principal, Failure> {
    let caller = Caller { client: to.client.clone(), owner: None };
    let heir = who.calling_itself(Some(&caller))?;
    let Some(surface) = &to.surface else { return Ok(heir) };
    let surface = surface.parse().map_err(|_| {
        Failure::new(Kind::InvalidArgument, format!("`{surface}` is not a surface"))
            .with_hint("use `human`, `ai-local` or `publish:ID`")
    })?;
    Ok(Principal { surface, ..heir })
}

fn reason_of(reason: Option<&str>) -> Result<Option<&str>, Failure> {
    match reason {
        Some(text) if text.len() > REASON_LIMIT || text.chars().any(char::is_control) => {
            let text =
                format!("a reason has at most {REASON_LIMIT} bytes, and no control characters");
            Err(Failure::new(Kind::InvalidArgument, text))
        }
        reason => Ok(reason.filter(|text| !text.is_empty())),
    }
}

fn rule(session: &Session, who: &Principal, policy: TypingRule) -> Result<(), Failure> {
    let terminal = &session.terminal;
    let (done, changed) = {
        let mut typing = terminal.typing();
        let before = typing.arbiter.policy();
        let done = typing.arbiter.rule(who, policy, boottime());
        (done, before != typing.arbiter.policy())
    };
    if changed {
        terminal.note(Some(who), What::Rule(policy));
        terminal.tell_rights();
        terminal.remember();
    }
    settle(session, who, done)
}

/// Gives the terminal a size, unless somebody else is to decide that.
pub(super) fn resize(session: &Session, who: &Principal, size: SizeMessage) -> Result<(), Failure> {
    let terminal = &session.terminal;
    let now = boottime();
    let size = Size::new(size.cols, size.rows);
    let changed = {
        let mut typing = terminal.typing();
        check(typing.arbiter.may_act(who, now))?;
        typing.arbiter.renew(who, now);
        // Under the lock: once somebody else decides, the size stays theirs.
        terminal.resize(size)
    };
    if changed {
        let size = SizeMessage { cols: size.cols, rows: size.rows };
        terminal.note(Some(who), What::Resized(size));
    }
    Ok(())
}

/// Signals the foreground group, as a key would.
fn send_signal(session: &Session, who: &Principal, signal: i32) -> Result<(), Failure> {
    use std::os::fd::AsFd as _;

    if !(1..=31).contains(&signal) {
        return Err(Failure::new(Kind::InvalidArgument, format!("{signal} is not a signal")));
    }
    let Session { job, terminal } = session;
    let now = boottime();
    {
        let mut typing = terminal.typing();
        // A signal does not wait for the turn of the exchange that it interrupts.
        check(typing.arbiter.may_take_turn(who, now))?;
        typing.arbiter.renew(who, now);
    }
    let master = job.program.master().ok_or_else(|| already_over(job))?;
    pty::signal_foreground(master.as_fd(), signal).map_err(|error| {
        Failure::caused(Kind::AlreadyEnded, "no program is in the foreground", &error)
    })?;
    terminal.note(Some(who), What::Signalled(signal));
    Ok(())
}

fn bound(session: &Session, who: &Principal, change: Limits) -> Result<(), Failure> {
    let Session { job, terminal } = session;
    filing::check(&Labels::default(), &change)?;
    check(terminal.typing().arbiter.may_act(who, boottime()))?;
    let limits = {
        let mut filed = terminal.filing();
        filed.limits = changed_limits(filed.limits, change);
        filed.limits
    };
    job.bound(&limits);
    terminal.note(Some(who), What::Changed);
    terminal.remember();
    Ok(())
}

fn label(
    sessions: &Sessions,
    session: &Session,
    asker: &Asker,
    change: &Labels,
) -> Result<(), Failure> {
    let who = &*asker.who;
    let Session { job, terminal } = session;
    filing::check(change, &Limits::default())?;
    let before = terminal.filing().labels.clone();
    let labels = changed_labels(&before, change.clone());
    if change.owner.as_deref().is_some_and(|owner| before.owner.as_deref() != Some(owner)) {
        return Err(Failure::new(
            Kind::InvalidArgument,
            "the owner of a session cannot be changed",
        ));
    }
    if labels.read_only != before.read_only {
        asker.may(&Demand::SetReadOnly(job.facts()))?;
    }
    // It must not bring a second holder into a group.
    among(&sessions.group(session, &labels), who, |group| {
        group.join(who)?;
        terminal.filing().labels = labels.clone();
        Ok(())
    })?;
    terminal.typing().arbiter.set_read_only(labels.read_only == Some(true));
    terminal.note(Some(who), What::Changed);
    terminal.tell_rights();
    terminal.remember();
    Ok(())
}
