//! Leases that move together: those of the sessions of one group, or of one session alone.
//!
//! Everything is looked at before anything is changed: it happens to all of them, or to none.

use std::ops::DerefMut;
use std::time::Duration;

use farwire_protocol::streams::session::{LeaseChange, TypingRule};

use super::{HANDED, Hands, Refusal, Until, lifetime};
use crate::gate::principal::Principal;

/// The hands of a session that something is done to, and of the others of its group.
pub(crate) struct Group<'a, H> {
    /// The session itself is the first.
    members: &'a mut [H],
    now: Duration,
}

impl<'a, H: DerefMut<Target = Hands>> Group<'a, H> {
    /// The first of them is the session that is meant.
    pub(crate) fn new(members: &'a mut [H], now: Duration) -> Self {
        members.iter_mut().for_each(|hands| hands.expire(now));
        Self { members, now }
    }

    fn meant(&mut self) -> Option<&mut Hands> {
        self.members.first_mut().map(|hands| &mut **hands)
    }

    /// The first of them, and those others that are leased.
    fn leased(&mut self) -> impl Iterator<Item = &mut Hands> {
        let members = self.members.iter_mut().map(|hands| &mut **hands).enumerate();
        members.filter(|(at, hands)| *at == 0 || hands.lease.is_some()).map(|(_, hands)| hands)
    }

    fn check(&mut self, check: impl Fn(&mut Hands) -> Result<(), Refusal>) -> Result<(), Refusal> {
        self.leased().try_for_each(check)
    }

    /// `who` takes the lease if nobody else has one here, or renews it.
    pub(crate) fn attach(&mut self, who: &Principal, for_ms: u32) -> Result<(), Refusal> {
        let now = self.now;
        self.check(|hands| hands.may_act(who, now))?;
        let Some(hands) = self.meant() else { return Ok(()) };
        if hands.read_only {
            return Err(Refusal::ReadOnly);
        }
        if hands.lease.is_none() {
            hands.rule_allows(who, now)?;
        }
        hands.give(who, lifetime(for_ms, now), None, now);
        Ok(())
    }

    /// `who` gives what it has to `heir`.
    pub(crate) fn hand_over(
        &mut self,
        who: &Principal,
        heir: &Principal,
        reason: Option<&str>,
    ) -> Result<(), Refusal> {
        let now = self.now;
        self.check(|hands| hands.may_act(who, now))?;
        if self.meant().is_none_or(|hands| hands.lease.is_none()) {
            return Err(Refusal::Free);
        }
        if heir == who {
            return Ok(());
        }
        for hands in self.leased() {
            let ttl = match hands.lease.as_ref().map(|lease| lease.until) {
                Some(Until::Unheard { ttl, .. }) => ttl,
                _ => HANDED,
            };
            let until = Until::Unheard { ttl, at: now + ttl };
            hands.pass(LeaseChange::HandedOver, Some((heir, until)), reason, now);
        }
        Ok(())
    }

    /// `who` takes the lease from whoever has it. An agent says from which client, and leaves users theirs.
    pub(crate) fn take_over(
        &mut self,
        who: &Principal,
        from: Option<&str>,
        reason: Option<&str>,
        for_ms: u32,
    ) -> Result<(), Refusal> {
        let now = self.now;
        if !who.is_user() {
            self.check(|hands| agent_may_take(hands, who, from, now))?;
            if self.members.iter().all(|hands| hands.lease.is_none()) {
                return Err(Refusal::Free);
            }
        }
        let until = lifetime(for_ms, now);
        self.leased().for_each(|hands| hands.give(who, until, reason, now));
        Ok(())
    }

    /// A user takes the lease for as long as a stream lives.
    pub(crate) fn take(&mut self, who: &Principal, stream: u64) -> Result<(), Refusal> {
        let now = self.now;
        if !who.is_user() {
            return Err(Refusal::NoUser);
        }
        self.leased().for_each(|hands| hands.give(who, Until::Gone(stream), None, now));
        Ok(())
    }

    /// The first joins the others: `who` may do that if it brings no second holder among them.
    pub(crate) fn join(&mut self, who: &Principal) -> Result<(), Refusal> {
        let now = self.now;
        self.check(|hands| hands.may_act(who, now))
    }
}

fn agent_may_take(
    hands: &Hands,
    who: &Principal,
    from: Option<&str>,
    now: Duration,
) -> Result<(), Refusal> {
    // One that nobody has is taken with the others.
    let Some(lease) = &hands.lease else { return hands.rule_allows(who, now) };
    if lease.holder == *who {
        return Ok(());
    }
    if lease.holder.is_user() {
        return Err(Refusal::Leased(lease.holder.clone(), lease.since));
    }
    let from = from.ok_or(Refusal::Unnamed)?;
    if hands.policy == TypingRule::UserOnly {
        return Err(Refusal::UserOnly);
    }
    if lease.holder.client.as_deref() != Some(from) {
        return Err(Refusal::Leased(lease.holder.clone(), lease.since));
    }
    Ok(())
}
