//! Each rule by itself; all of them together are compared with a model.

use std::sync::Arc;

use farwire_protocol::id::Id;
use farwire_protocol::surface::Surface;

use super::*;
use crate::gate::principal::Principal;

mod model;

fn actor(device: u8, surface: Surface, client: Option<&str>) -> Principal {
    let client = client.map(Arc::from);
    Principal { client, ..Principal::new(Id([device; 32]), surface, format!("d{device}")) }
}

fn user() -> Principal {
    actor(1, Surface::Human, None)
}

fn agent(client: &str) -> Principal {
    actor(1, Surface::AiLocal, Some(client))
}

fn at(millis: u64) -> Duration {
    Duration::from_millis(1_000_000 + millis)
}

fn arbiter() -> Arbiter {
    Arbiter::new(TypingRule::UserPriority, None)
}

fn one<T>(
    arbiter: &mut Arbiter,
    now: u64,
    act: impl FnOnce(&mut Group<'_, &mut Arbiter>) -> T,
) -> T {
    let mut members = [arbiter];
    act(&mut Group::new(&mut members, at(now)))
}

fn ways(arbiter: &mut Arbiter) -> Vec<LeaseChange> {
    arbiter.news().iter().map(|transfer| transfer.way).collect()
}

#[test]
fn agents_wait_while_a_user_types_and_while_a_line_is_unfinished() {
    let mut arbiter = arbiter();
    assert_eq!(arbiter.may_type(&agent("a"), at(0)), Ok(()));
    arbiter.note_typing(&user(), b"ls", at(0));
    for now in [0, 1_999, 2_000, 29_999] {
        let refused = Err(Refusal::UserTypes(user(), at(0)));
        assert_eq!(arbiter.may_type(&agent("a"), at(now)), refused, "{now}");
        assert_eq!(arbiter.may_type(&user(), at(now)), Ok(()));
    }
    assert_eq!(arbiter.may_type(&agent("a"), at(30_000)), Ok(()), "it was left");
    for end in [b"\r".as_slice(), b"\x03", b"\x15", b"more\n"] {
        arbiter.note_typing(&user(), b"x", at(40_000));
        arbiter.note_typing(&user(), end, at(41_000));
        assert!(arbiter.may_type(&agent("a"), at(42_999)).is_err());
        assert_eq!(arbiter.may_type(&agent("a"), at(43_000)), Ok(()), "{end:?}");
    }
    arbiter.note_typing(&user(), b"\r\x1b\x7f", at(50_000));
    assert_eq!(arbiter.may_type(&agent("a"), at(52_000)), Ok(()), "nothing of a line");
}

#[test]
fn each_rule_says_who_types_where_nobody_has_a_lease() {
    for (rule, user_may, agent_may) in [
        (TypingRule::Shared, Ok(()), Ok(())),
        (TypingRule::UserOnly, Ok(()), Err(Refusal::UserOnly)),
        (TypingRule::UserPriority, Ok(()), Ok(())),
        (TypingRule::AgentOnly, Err(Refusal::AgentOnly), Ok(())),
    ] {
        let mut arbiter = arbiter();
        assert_eq!(arbiter.rule(&agent("a"), rule, at(0)), Err(Refusal::NoUser));
        assert_eq!(arbiter.rule(&user(), rule, at(0)), Ok(()));
        assert_eq!(arbiter.may_type(&user(), at(0)), user_may, "{rule:?}");
        assert_eq!(arbiter.may_type(&agent("a"), at(0)), agent_may, "{rule:?}");
        assert_eq!(one(&mut arbiter, 0, |one| one.attach(&agent("a"), 1_000)), agent_may);
        arbiter.set_read_only(true);
        assert_eq!(arbiter.may_type(&user(), at(0)), Err(Refusal::ReadOnly));
    }
}

#[test]
fn a_lease_is_one_actors_goes_before_the_rule_and_ends_unheard() {
    let mut arbiter = arbiter();
    let (a, b) = (agent("a"), agent("b"));
    for now in [0, 500] {
        assert_eq!(one(&mut arbiter, now, |one| one.attach(&a, 10_000)), Ok(()));
    }
    assert_eq!(ways(&mut arbiter), [LeaseChange::Acquired], "again is no news");
    let refused = Err(Refusal::Leased(a.clone(), at(0)));
    assert_eq!(one(&mut arbiter, 600, |one| one.attach(&b, 10_000)), refused);
    for other in
        [&b, &user(), &actor(2, Surface::AiLocal, Some("a")), &actor(1, Surface::AiLocal, None)]
    {
        assert_eq!(arbiter.may_type(other, at(600)), refused, "{other}");
        assert_eq!(arbiter.may_act(other, at(600)), refused);
        assert_eq!(arbiter.detach(other, at(600)), refused);
    }
    arbiter.note_typing(&a, b"x", at(10_000));
    assert_eq!(arbiter.may_type(&a, at(19_999)), Ok(()), "typing renews it");
    assert_eq!(arbiter.may_type(&b, at(20_000)), Ok(()));
    assert_eq!(ways(&mut arbiter), [LeaseChange::Expired]);
    let transfer = arbiter.transfer().unwrap();
    assert_eq!((&transfer.from, &transfer.to, transfer.at), (&Some(a.clone()), &None, at(20_000)));
    assert_eq!(arbiter.detach(&b, at(21_000)), Ok(()), "nobody has it");
    assert_eq!(ways(&mut arbiter), []);
}

#[test]
fn a_lease_lasts_between_a_second_and_an_hour() {
    for (asked, lasts) in [(0, 1_000), (1, 1_000), (5_000, 5_000), (u32::MAX, 3_600_000)] {
        let mut arbiter = arbiter();
        one(&mut arbiter, 0, |one| one.attach(&agent("a"), asked)).unwrap();
        assert!(arbiter.holder(at(lasts - 1)).is_some() && arbiter.holder(at(lasts)).is_none());
    }
}

#[test]
fn it_is_handed_over_by_its_holder_only() {
    let mut arbiter = arbiter();
    let (a, b) = (agent("a"), agent("b"));
    assert_eq!(one(&mut arbiter, 0, |one| one.hand_over(&a, &b, None)), Err(Refusal::Free));
    one(&mut arbiter, 0, |one| one.attach(&a, 10_000)).unwrap();
    let refused = Err(Refusal::Leased(a.clone(), at(0)));
    assert_eq!(one(&mut arbiter, 1, |one| one.hand_over(&b, &b, None)), refused);
    assert_eq!(one(&mut arbiter, 2, |one| one.hand_over(&a, &b, Some("why"))), Ok(()));
    assert_eq!(ways(&mut arbiter), [LeaseChange::Acquired, LeaseChange::HandedOver]);
    let Transfer { from, to, reason, .. } = arbiter.transfer().unwrap();
    assert_eq!((from.as_ref(), to.as_ref(), reason.as_deref()), (Some(&a), Some(&b), Some("why")));
    assert!(arbiter.may_type(&a, at(3)).is_err() && arbiter.may_type(&b, at(3)).is_ok());
    assert!(arbiter.holder(at(10_002)).is_none(), "as long as the giver's");
}

#[test]
fn a_user_takes_from_anybody_and_an_agent_from_the_agent_that_it_names() {
    let (a, b) = (agent("a"), agent("b"));
    let mut arbiter = arbiter();
    let take = |arbiter: &mut Arbiter, who: &Principal, from: Option<&str>| {
        one(arbiter, 1, |one| one.take_over(who, from, None, 10_000))
    };
    assert_eq!(take(&mut arbiter, &b, Some("a")), Err(Refusal::Free));
    one(&mut arbiter, 0, |one| one.attach(&a, 10_000)).unwrap();
    assert_eq!(take(&mut arbiter, &b, None), Err(Refusal::Unnamed));
    let refused = Err(Refusal::Leased(a.clone(), at(0)));
    assert_eq!(take(&mut arbiter, &b, Some("c")), refused);
    assert_eq!(take(&mut arbiter, &b, Some("a")), Ok(()));
    assert_eq!(take(&mut arbiter, &user(), None), Ok(()));
    assert_eq!(take(&mut arbiter, &b, Some("")), Err(Refusal::Leased(user(), at(1))));
    let other = actor(2, Surface::Human, None);
    assert_eq!(take(&mut arbiter, &other, None), Ok(()), "another user");
    assert_eq!(
        ways(&mut arbiter),
        [
            LeaseChange::Acquired,
            LeaseChange::TakenOver,
            LeaseChange::TakenOver,
            LeaseChange::TakenOver
        ]
    );
    arbiter.rule(&other, TypingRule::UserOnly, at(2)).unwrap();
    assert_eq!(arbiter.holder(at(2)), Some(&other), "a user keeps it");
    one(&mut arbiter, 2, |one| one.hand_over(&other, &a, None)).unwrap();
    assert_eq!(arbiter.may_type(&a, at(3)), Ok(()), "a user may hand over where only users type");
    assert_eq!(take(&mut arbiter, &b, Some("a")), Err(Refusal::UserOnly));
    arbiter.rule(&user(), TypingRule::UserOnly, at(4)).unwrap();
    assert_eq!(arbiter.holder(at(4)), None, "said again, no agent keeps it");
}

#[test]
fn what_a_stream_has_taken_lives_as_long_as_the_stream() {
    let mut arbiter = arbiter();
    one(&mut arbiter, 0, |one| one.attach(&agent("a"), 10_000)).unwrap();
    assert_eq!(one(&mut arbiter, 0, |one| one.take(&agent("b"), 7)), Err(Refusal::NoUser));
    one(&mut arbiter, 0, |one| one.take(&user(), 7)).unwrap();
    assert_eq!(arbiter.holder(at(999_999_999)), Some(&user()));
    arbiter.end_stream(8, at(1));
    assert_eq!(arbiter.holder(at(1)), Some(&user()), "it was another stream");
    arbiter.end_stream(7, at(2));
    assert_eq!(arbiter.holder(at(2)), None);
    assert_eq!(
        ways(&mut arbiter),
        [LeaseChange::Acquired, LeaseChange::TakenOver, LeaseChange::Released]
    );
}

#[test]
fn the_leases_of_a_group_move_together_or_not_at_all() {
    let (a, b) = (agent("a"), agent("b"));
    let mut all = [arbiter(), arbiter(), arbiter()];
    let act =
        |all: &mut [Arbiter; 3], meant: usize, act: &dyn Fn(&mut Group<'_, &mut Arbiter>) -> _| {
            let mut members: Vec<_> = all.iter_mut().collect();
            members.rotate_left(meant);
            act(&mut Group::new(&mut members, at(0)))
        };
    let holders = |all: &mut [Arbiter; 3]| all.each_mut().map(|one| one.holder(at(0)).cloned());
    act(&mut all, 0, &|group| group.attach(&a, 9_000)).unwrap();
    let refused = Err(Refusal::Leased(a.clone(), at(0)));
    assert_eq!(act(&mut all, 1, &|group| group.attach(&b, 9_000)), refused, "another member's");
    act(&mut all, 1, &|group| group.attach(&a, 9_000)).unwrap();
    assert_eq!(holders(&mut all), [Some(a.clone()), Some(a.clone()), None]);
    act(&mut all, 1, &|group| group.hand_over(&a, &b, None)).unwrap();
    assert_eq!(holders(&mut all), [Some(b.clone()), Some(b.clone()), None]);
    assert!(act(&mut all, 2, &|group| group.take_over(&a, Some("x"), None, 9_000)).is_err());
    assert_eq!(holders(&mut all), [Some(b.clone()), Some(b), None]);
    act(&mut all, 2, &|group| group.take(&user(), 1)).unwrap();
    assert_eq!(holders(&mut all), [Some(user()), Some(user()), Some(user())]);
}

#[test]
fn whose_line_is_pending_is_known_and_so_is_what_time_alone_changes() {
    let mut arbiter = arbiter();
    arbiter.note_typing(&agent("a"), b"rm -rf", at(0));
    assert_eq!(arbiter.of_agent(), (true, true));
    arbiter.note_typing(&user(), b"x", at(1));
    assert_eq!(arbiter.of_agent(), (true, false));
    assert!(arbiter.tick(at(1)) && !arbiter.tick(at(2)), "told once");
    assert!(!arbiter.tick(at(2_001)), "the line is unfinished");
    arbiter.note_typing(&user(), b"\r", at(3_000));
    assert_eq!(arbiter.of_agent(), (false, false));
    assert!(arbiter.tick(at(3_000)), "no draft any more");
    assert!(!arbiter.tick(at(4_999)) && arbiter.tick(at(5_000)), "and agents wait no longer");
}

#[test]
fn a_device_that_is_gone_keeps_no_lease_and_leaves_others_theirs() {
    let mut arbiter = arbiter();
    one(&mut arbiter, 0, |group| group.attach(&agent("a"), 3_600_000)).unwrap();
    arbiter.end_device(&Id([2; 32]), at(1));
    assert!(arbiter.holder(at(1)).is_some(), "of another device");
    arbiter.end_device(&Id([1; 32]), at(1));
    assert_eq!(arbiter.holder(at(1)), None);
}
