//! Who may type into a session: the holder of a lease or, if there is none, whoever a rule allows.
//!
//! ```text
//!     read-only?  -- yes --> nobody
//!     lease?      -- yes --> its holder
//!     rule        ---------> shared | users | users first | agents
//!     turn?       -- yes --> its holder, and users
//! ```
//!
//! Times are since boot and come as arguments. Changes of the lease are collected in
//! [`Arbiter::news`], for the caller to record as events.
//!
//! # Invariants
//!
//! - An actor is a device and a surface that the link has authenticated. A client chooses its own
//!   name, which tells the clients of one surface apart and gives no rights over another surface.
//! - A user takes the lease from anybody; an agent never takes it from a user, and gets none
//!   against the rule unless a user hands it over.
//! - All leased sessions of one group are leased to the same actor.

use std::time::Duration;

use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::id::Id;
use farwire_protocol::streams::session::{
    self as wire, LEASE_LIMIT_MS, LeaseChange, Transfer as Shown, TypingRule,
};

use crate::gate::principal::Principal;
use crate::gate::reason::Denied;

mod group;
mod turns;

pub(crate) use self::group::Group;
pub(crate) use self::turns::Taken;
use self::turns::Turns;

/// Where users come first, no agent types for this long after a user's last key.
const QUIET: Duration = Duration::from_secs(2);

/// A line that a user has left unfinished for this long holds up no agent any more.
const DRAFT: Duration = Duration::from_secs(30);

/// The shortest lease.
const SHORTEST: Duration = Duration::from_secs(1);

/// Lifetime of a lease that is handed over by a holder who had no deadline: long enough for the
/// receiver to notice.
const HANDED: Duration = Duration::from_secs(300);

/// How a lease came or went, and when.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Transfer {
    pub(crate) way: LeaseChange,
    pub(crate) from: Option<Principal>,
    pub(crate) to: Option<Principal>,
    pub(crate) reason: Option<String>,
    pub(crate) at: Duration,
}

impl Transfer {
    /// The wire form, as seen by `to`.
    pub(crate) fn show(&self, to: Option<&Principal>, now: Duration) -> Shown {
        Shown {
            way: self.way,
            from: self.from.as_ref().map(|actor| actor.show(to)),
            to: self.to.as_ref().map(|actor| actor.show(to)),
            reason: self.reason.clone(),
            age_ms: millis(now.saturating_sub(self.at)),
        }
    }
}

/// Why somebody may not type.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Refusal {
    /// Their device may not be here any more.
    Denied(Denied),
    /// Nobody types into this session.
    ReadOnly,
    /// Somebody else has the lease, since then.
    Leased(Principal, Duration),
    /// By the rule, only users type.
    UserOnly,
    /// By the rule, only agents type.
    AgentOnly,
    /// A user is typing; the last key came at this time.
    UserTypes(Principal, Duration),
    /// Only users may do this.
    NoUser,
    /// An agent has to say from whom it takes a lease.
    Unnamed,
    /// Nobody has the lease that is given or taken.
    Free,
    /// Somebody else's exchange has its turn, since then.
    Turn(Principal, Duration),
    /// A user has ended the turn.
    Interrupted(Principal),
}

impl Refusal {
    /// The failure that the asker gets.
    pub(crate) fn failure(&self, now: Duration) -> Failure {
        let ago = |then: Duration| now.saturating_sub(then).as_secs();
        match self {
            Self::Denied(denied) => denied.clone().failure(),
            Self::ReadOnly => Failure::new(Kind::InputLocked, "this session is read-only")
                .with_hint(
                    "nobody can type until a user or the surface that opened it changes that",
                ),
            Self::Leased(holder, since) => {
                let text = format!("{holder} has held the keyboard for {} s", ago(*since));
                Failure::new(Kind::InputLocked, text)
            }
            Self::UserOnly => Failure::new(Kind::InputLocked, "only users may type (user-only)")
                .with_hint("ask the user to change the policy, or to hand over"),
            Self::AgentOnly => {
                Failure::new(Kind::InputLocked, "only AI clients may type (agent-only)")
                    .with_hint("take over, or change the policy")
            }
            Self::UserTypes(user, last) => {
                let text = format!("{user} is typing (user-priority), last {} s ago", ago(*last));
                Failure::new(Kind::InputLocked, text)
                    .with_hint("wait until the line is finished, then look before you type")
            }
            Self::NoUser => Failure::new(Kind::NotGranted, "only a user may do that"),
            Self::Unnamed => {
                let text = "a takeover must name the client that has the lease";
                Failure::new(Kind::InvalidArgument, text)
            }
            Self::Free => Failure::new(Kind::ChangedMeanwhile, "nobody has the lease")
                .with_hint("acquire it instead"),
            Self::Turn(holder, since) => {
                let text = format!(
                    "{holder} has typed something, and has waited {} s for the outcome",
                    ago(*since)
                );
                Failure::new(Kind::TerminalBusy, text)
                    .with_hint("nothing was typed; wait for it to end, or open another session")
            }
            Self::Interrupted(user) => {
                Failure::new(Kind::InputLocked, format!("{user} has started to type"))
                    .with_hint("look at the screen before you type again")
            }
        }
    }
}

/// How long a lease lasts.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Until {
    /// It expires at `at`, which is `ttl` after its holder's last sign of life.
    Unheard { ttl: Duration, at: Duration },
    /// As long as this stream.
    Gone(u64),
}

#[derive(Clone, Debug)]
struct Lease {
    holder: Principal,
    since: Duration,
    until: Until,
}

/// Who may type into one session.
#[derive(Clone, Debug)]
pub(crate) struct Arbiter {
    policy: TypingRule,
    read_only: bool,
    lease: Option<Lease>,
    transfer: Option<Transfer>,
    /// Which user typed last, and when.
    user: Option<(Principal, Duration)>,
    /// A user has typed part of the current line; and an agent has.
    user_line: bool,
    agent_line: bool,
    /// The last typist was an agent.
    agent_last: bool,
    /// What changes with time alone, as last reported: a user drafts, and agents wait.
    told: (bool, bool),
    news: Vec<Transfer>,
    /// Whose exchange types now, and which ones wait.
    pub(crate) turns: Turns,
}

impl Arbiter {
    pub(crate) fn new(policy: TypingRule, transfer: Option<Transfer>) -> Self {
        Self {
            policy,
            read_only: false,
            lease: None,
            transfer,
            user: None,
            user_line: false,
            agent_line: false,
            agent_last: false,
            told: (false, false),
            news: Vec::new(),
            turns: Turns::default(),
        }
    }

    /// The rule.
    pub(crate) fn policy(&self) -> TypingRule {
        self.policy
    }

    /// The last change of the lease.
    pub(crate) fn transfer(&self) -> Option<&Transfer> {
        self.transfer.as_ref()
    }

    /// The changes of the lease since the last call.
    pub(crate) fn news(&mut self) -> Vec<Transfer> {
        std::mem::take(&mut self.news)
    }

    /// Who has the lease.
    pub(crate) fn holder(&mut self, now: Duration) -> Option<&Principal> {
        self.expire(now);
        self.lease.as_ref().map(|lease| &lease.holder)
    }

    /// Who has the lease, and for how long already.
    pub(crate) fn lease(&mut self, now: Duration) -> Option<(Principal, Duration)> {
        self.expire(now);
        let lease = self.lease.as_ref()?;
        Some((lease.holder.clone(), now.saturating_sub(lease.since)))
    }

    /// Whether `who` may type now.
    pub(crate) fn may_type(&mut self, who: &Principal, now: Duration) -> Result<(), Refusal> {
        self.may_take_turn(who, now)?;
        match self.turns.holder() {
            Some((holder, since)) if holder != who && !who.is_user() => {
                Err(Refusal::Turn(holder.clone(), since))
            }
            _ => Ok(()),
        }
    }

    /// Whether `who` may type once it is its turn.
    pub(crate) fn may_take_turn(&mut self, who: &Principal, now: Duration) -> Result<(), Refusal> {
        if self.read_only {
            return Err(Refusal::ReadOnly);
        }
        self.may_act(who, now)?;
        if self.lease.is_some() { Ok(()) } else { self.rule_allows(who, now) }
    }

    /// Whether `who` may do what changes a session but types nothing: nobody else has the lease.
    pub(crate) fn may_act(&mut self, who: &Principal, now: Duration) -> Result<(), Refusal> {
        self.expire(now);
        match &self.lease {
            Some(lease) if lease.holder != *who => {
                Err(Refusal::Leased(lease.holder.clone(), lease.since))
            }
            _ => Ok(()),
        }
    }

    fn rule_allows(&self, who: &Principal, now: Duration) -> Result<(), Refusal> {
        match (self.policy, who.is_user()) {
            (TypingRule::Shared, _) | (TypingRule::UserOnly | TypingRule::UserPriority, true) => {
                Ok(())
            }
            (TypingRule::AgentOnly, user) => {
                if user {
                    Err(Refusal::AgentOnly)
                } else {
                    Ok(())
                }
            }
            (TypingRule::UserOnly, false) => Err(Refusal::UserOnly),
            (TypingRule::UserPriority, false) => match &self.user {
                Some((user, last)) if self.waits(now) => {
                    Err(Refusal::UserTypes(user.clone(), *last))
                }
                _ => Ok(()),
            },
        }
    }

    /// The user whose line is unfinished.
    fn drafting(&self, now: Duration) -> Option<&Principal> {
        let (user, last) = self.user.as_ref()?;
        (self.user_line && now < *last + DRAFT).then_some(user)
    }

    /// Whether agents wait where users come first.
    fn waits(&self, now: Duration) -> bool {
        let typing = self.user.as_ref().is_some_and(|(_, last)| now < *last + QUIET);
        typing || self.drafting(now).is_some()
    }

    /// `who` has typed this.
    pub(crate) fn note_typing(&mut self, who: &Principal, bytes: &[u8], now: Duration) {
        self.renew(who, now);
        let ends = |byte: &u8| matches!(byte, b'\r' | b'\n' | 0x03 | 0x15);
        let rest = match bytes.iter().rposition(ends) {
            Some(at) => {
                (self.user_line, self.agent_line) = (false, false);
                bytes.get(at + 1..).unwrap_or_default()
            }
            None => bytes,
        };
        let line = rest.iter().any(|&byte| byte >= b' ' && byte != 0x7f);
        self.agent_last = !who.is_user();
        if self.agent_last {
            self.agent_line |= line;
        } else {
            self.user_line |= line;
            match &mut self.user {
                Some((user, last)) if user == who => *last = now,
                user => *user = Some((who.clone(), now)),
            }
        }
    }

    /// Records a sign of life of `who`.
    pub(crate) fn renew(&mut self, who: &Principal, now: Duration) {
        self.expire(now);
        if let Some(Lease { holder, until: Until::Unheard { ttl, at }, .. }) = &mut self.lease
            && holder == who
        {
            *at = now + *ttl;
        }
    }

    /// Ends a lease whose holder has shown no sign of life.
    fn expire(&mut self, now: Duration) {
        if let Some(Lease { until: Until::Unheard { at, .. }, .. }) = &self.lease
            && now >= *at
        {
            let at = *at;
            self.pass(LeaseChange::Expired, None, None, at);
        }
    }

    /// Makes the changes that come with time alone. Returns whether there is something to report.
    pub(crate) fn tick(&mut self, now: Duration) -> bool {
        self.expire(now);
        let waits =
            self.policy == TypingRule::UserPriority && self.lease.is_none() && self.waits(now);
        let state = (self.drafting(now).is_some(), waits);
        std::mem::replace(&mut self.told, state) != state || !self.news.is_empty()
    }

    /// Passes the lease to somebody, or to nobody.
    fn pass(
        &mut self,
        way: LeaseChange,
        to: Option<(&Principal, Until)>,
        reason: Option<&str>,
        at: Duration,
    ) {
        if let Some((to, _)) = &to {
            // The end of the log does not matter: the new holder has typed nothing yet.
            self.turns.interrupt(to, u64::MAX);
        }
        let from = self.lease.take().map(|lease| lease.holder);
        self.lease = to.map(|(holder, until)| Lease { holder: holder.clone(), since: at, until });
        let (to, reason) = (to.map(|(to, _)| to.clone()), reason.map(str::to_owned));
        let transfer = Transfer { way, from, to, reason, at };
        self.transfer = Some(transfer.clone());
        self.news.push(transfer);
    }

    /// Gives the lease to `who`, whoever had it. If `who` has it already, only its deadline
    /// changes.
    fn give(&mut self, who: &Principal, until: Until, reason: Option<&str>, now: Duration) {
        match &mut self.lease {
            Some(lease) if lease.holder == *who => lease.until = until,
            Some(_) => self.pass(LeaseChange::TakenOver, Some((who, until)), reason, now),
            None => self.pass(LeaseChange::Acquired, Some((who, until)), reason, now),
        }
    }

    /// `who` releases the lease. It is no error if nobody has it.
    pub(crate) fn detach(&mut self, who: &Principal, now: Duration) -> Result<(), Refusal> {
        self.may_act(who, now)?;
        if self.lease.is_some() {
            self.pass(LeaseChange::Released, None, None, now);
        }
        Ok(())
    }

    /// A stream has ended, and with it a lease that was bound to it.
    pub(crate) fn end_stream(&mut self, stream: u64, now: Duration) {
        if matches!(&self.lease, Some(lease) if lease.until == Until::Gone(stream)) {
            self.pass(LeaseChange::Released, None, None, now);
        }
    }

    /// Ends the lease of a device that was removed.
    pub(crate) fn end_device(&mut self, device: &Id, now: Duration) {
        if self.lease.as_ref().is_some_and(|lease| lease.holder.device == *device) {
            self.pass(LeaseChange::Released, None, Some("its device was removed"), now);
        }
    }

    /// `who` changes the rule. If only users may type then, an agent loses its lease.
    pub(crate) fn rule(
        &mut self,
        who: &Principal,
        rule: TypingRule,
        now: Duration,
    ) -> Result<(), Refusal> {
        if !who.is_user() {
            return Err(Refusal::NoUser);
        }
        self.expire(now);
        self.policy = rule;
        if rule == TypingRule::UserOnly
            && self.lease.as_ref().is_some_and(|lease| !lease.holder.is_user())
        {
            self.pass(LeaseChange::Released, None, Some("only users may type now"), now);
        }
        Ok(())
    }

    /// Makes the session read-only for everybody, or no longer.
    pub(crate) fn set_read_only(&mut self, read_only: bool) {
        self.read_only = read_only;
    }

    /// Whether the current line is an agent's, to be discarded before a user goes on; and whether
    /// the last typist was an agent.
    pub(crate) fn of_agent(&self) -> (bool, bool) {
        (self.agent_line, self.agent_last)
    }

    /// The wire form, as seen by `to`.
    pub(crate) fn show(&mut self, to: &Principal, now: Duration) -> wire::TypingRights {
        // A turn is short, and is not reported.
        let may_type = self.may_take_turn(to, now).is_ok();
        let lease = self.lease.as_ref().map(|lease| wire::Lease {
            holder: lease.holder.show(Some(to)),
            age_ms: millis(now.saturating_sub(lease.since)),
            left_ms: match lease.until {
                Until::Unheard { at, .. } => Some(millis(at.saturating_sub(now))),
                Until::Gone(_) => None,
            },
        });
        wire::TypingRights {
            rule: self.policy,
            lease,
            may_type,
            transfer: self.transfer.as_ref().map(|transfer| transfer.show(Some(to), now)),
            drafting: self.drafting(now).map(|user| user.show(Some(to))),
        }
    }
}

/// The lifetime of a lease that is requested for `asked` milliseconds.
fn lifetime(asked: u32, now: Duration) -> Until {
    let longest = Duration::from_millis(LEASE_LIMIT_MS.into());
    let ttl = Duration::from_millis(asked.into()).clamp(SHORTEST, longest);
    Until::Unheard { ttl, at: now + ttl }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
