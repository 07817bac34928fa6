//! Leases that move together: those of the sessions of one group, or of one session alone.
//!
//! Everything is checked before anything is changed: a change happens to all of them, or to none.

use std::ops::DerefMut;
use std::time::Duration;

use farwire_protocol::streams::session::{LeaseChange, TypingRule};

use super::{Arbiter, HANDED, Refusal, Until, lifetime};
use crate::gate::principal::Principal;

/// The arbiters of a session that is to be changed, and of the others of its group.
pub(crate) struct Group<'a, H> {
    /// The session itself is the first.
    members: &'a mut [H],
    now: Duration,
}

impl<'a, H: DerefMut<Target = Arbiter>> Group<'a, H> {
    /// The first of them is the session itself.
    pub(crate) fn new(members: &'a mut [H], now: Duration) -> Self {
        members.iter_mut().for_each(|arbiter| arbiter.expire(now));
        Self { members, now }
    }

    fn target(&mut self) -> Option<&mut Arbiter> {
        self.members.first_mut().map(|arbiter| &mut **arbiter)
    }

    /// The first of them, and those others that are leased.
    fn leased(&mut self) -> impl Iterator<Item = &mut Arbiter> {
        let members = self.members.iter_mut().map(|arbiter| &mut **arbiter).enumerate();
        members
            .filter(|(at, arbiter)| *at == 0 || arbiter.lease.is_some())
            .map(|(_, arbiter)| arbiter)
    }

    fn check(
        &mut self,
        check: impl Fn(&mut Arbiter) -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        self.leased().try_for_each(check)
    }

    /// `who` takes the lease if nobody else has one here, or renews it.
    pub(crate) fn attach(&mut self, who: &Principal, for_ms: u32) -> Result<(), Refusal> {
        let now = self.now;
        self.check(|arbiter| arbiter.may_act(who, now))?;
        let Some(arbiter) = self.target() else { return Ok(()) };
        if arbiter.read_only {
            return Err(Refusal::ReadOnly);
        }
        if arbiter.lease.is_none() {
            arbiter.rule_allows(who, now)?;
        }
        arbiter.give(who, lifetime(for_ms, now), None, now);
        Ok(())
    }

    /// `who` hands the leases that it has over to `heir`.
    pub(crate) fn hand_over(
        &mut self,
        who: &Principal,
        heir: &Principal,
        reason: Option<&str>,
    ) -> Result<(), Refusal> {
        let now = self.now;
        self.check(|arbiter| arbiter.may_act(who, now))?;
        if self.target().is_none_or(|arbiter| arbiter.lease.is_none()) {
            return Err(Refusal::Free);
        }
        if heir == who {
            return Ok(());
        }
        for arbiter in self.leased() {
            let ttl = match arbiter.lease.as_ref().map(|lease| lease.until) {
                Some(Until::Unheard { ttl, .. }) => ttl,
                _ => HANDED,
            };
            let until = Until::Unheard { ttl, at: now + ttl };
            arbiter.pass(LeaseChange::HandedOver, Some((heir, until)), reason, now);
        }
        Ok(())
    }

    /// `who` takes the lease from whoever has it. An agent has to say from which client, and cannot
    /// take one from a user.
    pub(crate) fn take_over(
        &mut self,
        who: &Principal,
        from: Option<&str>,
        reason: Option<&str>,
        for_ms: u32,
    ) -> Result<(), Refusal> {
        let now = self.now;
        if !who.is_user() {
            self.check(|arbiter| agent_may_take(arbiter, who, from, now))?;
            if self.members.iter().all(|arbiter| arbiter.lease.is_none()) {
                return Err(Refusal::Free);
            }
        }
        let until = lifetime(for_ms, now);
        self.leased().for_each(|arbiter| arbiter.give(who, until, reason, now));
        Ok(())
    }

    /// A user takes the lease for the lifetime of a stream.
    pub(crate) fn take(&mut self, who: &Principal, stream: u64) -> Result<(), Refusal> {
        let now = self.now;
        if !who.is_user() {
            return Err(Refusal::NoUser);
        }
        self.leased().for_each(|arbiter| arbiter.give(who, Until::Gone(stream), None, now));
        Ok(())
    }

    /// The first joins the others: `who` may do that unless it brings a second holder into the
    /// group.
    pub(crate) fn join(&mut self, who: &Principal) -> Result<(), Refusal> {
        let now = self.now;
        self.check(|arbiter| arbiter.may_act(who, now))
    }
}

fn agent_may_take(
    arbiter: &Arbiter,
    who: &Principal,
    from: Option<&str>,
    now: Duration,
) -> Result<(), Refusal> {
    // A free lease is taken with the others.
    let Some(lease) = &arbiter.lease else { return arbiter.rule_allows(who, now) };
    if lease.holder == *who {
        return Ok(());
    }
    if lease.holder.is_user() {
        return Err(Refusal::Leased(lease.holder.clone(), lease.since));
    }
    let from = from.ok_or(Refusal::Unnamed)?;
    if arbiter.policy == TypingRule::UserOnly {
        return Err(Refusal::UserOnly);
    }
    if lease.holder.client.as_deref() != Some(from) {
        return Err(Refusal::Leased(lease.holder.clone(), lease.since));
    }
    Ok(())
}
