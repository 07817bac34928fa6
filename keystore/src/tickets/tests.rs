//! Tickets: which request is accepted, only once, and what survives a crash.

use std::path::Path;

use farwire_protocol::cbor::Blob;
use farwire_protocol::enroll::{self, EnrollAnswer, Request};
use farwire_protocol::failure::Kind as Failed;
use farwire_protocol::id::Kind;
use zeroize::Zeroizing;

use super::*;
use crate::Home;
use crate::claim::tests::{bundle, changed};
use crate::file::FileBody as _;
use crate::file::tests::check_damage;
use crate::relay::tests::relay;
use crate::steps::power;

const EXPIRES: u64 = 1000;

fn id_key() -> SigningKey {
    SigningKey::from_bytes(&[1; 32])
}

fn ticket(seed: u8) -> Ticket {
    let device = bundle(1, Kind::Device, 1);
    let token = Token {
        relay: relay(),
        trust_domain: device.trust_domain,
        inviter: device.id,
        enrollment: Nonce([seed; 16]),
        secret: Zeroizing::new([0xc5; 32]),
        expires: EXPIRES,
    };
    let labels = BTreeMap::from([("env".to_owned(), "prod".to_owned())]);
    Ticket::mint(token, "web-1", labels, &id_key(), 7).unwrap()
}

fn answered(request: u8) -> Answered {
    Answered {
        agent: bundle(20, Kind::Agent, 1),
        request: [request; 32],
        response: vec![9; 3000],
        at: 50,
        settled: false,
        reused_by: None,
    }
}

fn home() -> (tempfile::TempDir, Home) {
    let temp = tempfile::tempdir().unwrap();
    let home = Home::create(&temp.path().join("home")).unwrap();
    (temp, home)
}

fn failed<T: core::fmt::Debug>(result: Result<T, TicketError>) -> Failed {
    Failure::from(result.unwrap_err()).kind
}

#[test]
fn a_ticket_that_was_kept_can_answer_a_request() {
    let (_temp, home) = home();
    home.tickets().create(&home.lock().unwrap(), &ticket(4)).unwrap();
    let kept = home.tickets().load(&Nonce([4; 16])).unwrap();
    assert_eq!((kept.name.as_str(), kept.created, &kept.state), ("web-1", 7, &TicketState::Open));
    assert_eq!((&kept.token, &kept.labels["env"]), (&ticket(4).token, &"prod".to_owned()));
    let agent = bundle(20, Kind::Agent, 1);
    let request = Request {
        bundle: Blob(agent.encode()),
        enrollment: kept.token.enrollment,
        hostname: "h".into(),
        os: "linux".into(),
        nonce: Nonce([6; 16]),
    };
    let sent = request.seal(&kept.token).unwrap();
    let answer = EnrollAnswer {
        request: Blob(enroll::blob_hash(&sent).to_vec()),
        agent: agent.id,
        device: Blob(bundle(1, Kind::Device, 1).encode()),
        name: kept.name.clone(),
        device_name: "laptop".into(),
    };
    let key = kept.answer_key().unwrap();
    let response = answer.seal(&kept.token, &kept.delegation, &key).unwrap();
    EnrollAnswer::open(&kept.token, &response, &sent, &agent.id).unwrap();
}

#[test]
fn one_request_is_accepted_and_gets_the_same_answer_for_ever() {
    let (_temp, home) = home();
    let guard = home.lock().unwrap();
    let tickets = home.tickets();
    tickets.create(&guard, &ticket(4)).unwrap();
    let enrollment = Nonce([4; 16]);
    assert_eq!(tickets.answer(&guard, &enrollment, answered(1)).unwrap(), answered(1));
    let again = Answered { response: vec![8; 10], at: 60, ..answered(1) };
    assert_eq!(tickets.answer(&guard, &enrollment, again).unwrap(), answered(1));
    assert_eq!(failed(tickets.answer(&guard, &enrollment, answered(2))), Failed::TokenUsed);
    assert!(!tickets.alarm(&guard, &enrollment, &[], 70).unwrap(), "too late for an alarm");
    tickets.hold(&guard, &enrollment, late()).unwrap();
    let kept = tickets.load(&enrollment).unwrap();
    assert_eq!(kept.state, TicketState::Answered(Box::new(answered(1))));
    assert!(kept.answer_key().is_none(), "no other answer can be signed");
    tickets.settle(&guard, &enrollment).unwrap();
    let TicketState::Answered(settled) = tickets.load(&enrollment).unwrap().state else { panic!() };
    assert!(settled.settled);
    let unknown = tickets.answer(&guard, &Nonce([9; 16]), answered(1));
    assert_eq!(failed(unknown), Failed::TokenUnknown);
}

fn late() -> Late {
    Late { request: vec![3; 700], agent: bundle(20, Kind::Agent, 1).id, seen: EXPIRES + 5 }
}

#[test]
fn a_late_request_waits_for_a_person_and_the_first_one_stays() {
    let (_temp, home) = home();
    let guard = home.lock().unwrap();
    let tickets = home.tickets();
    tickets.create(&guard, &ticket(4)).unwrap();
    let enrollment = Nonce([4; 16]);
    assert!(!ticket(4).is_late(EXPIRES - 1) && ticket(4).is_late(EXPIRES));
    tickets.hold(&guard, &enrollment, late()).unwrap();
    tickets.hold(&guard, &enrollment, Late { seen: 1, ..late() }).unwrap();
    let kept = tickets.load(&enrollment).unwrap();
    assert_eq!(kept.state, TicketState::Late(late()));
    assert!(kept.answer_key().is_some());
    tickets.answer(&guard, &enrollment, answered(1)).unwrap();
}

#[test]
fn after_an_alarm_nobody_is_accepted() {
    let (_temp, home) = home();
    let guard = home.lock().unwrap();
    let tickets = home.tickets();
    tickets.create(&guard, &ticket(4)).unwrap();
    let enrollment = Nonce([4; 16]);
    let agents = [Id([1; 32]), Id([2; 32])];
    assert!(tickets.alarm(&guard, &enrollment, &agents, 70).unwrap());
    assert!(tickets.alarm(&guard, &enrollment, &[], 80).unwrap());
    tickets.hold(&guard, &enrollment, late()).unwrap();
    let refused = tickets.answer(&guard, &enrollment, answered(1));
    assert_eq!(failed(refused), Failed::EnrollmentRejected);
    let kept = tickets.load(&enrollment).unwrap();
    assert_eq!(kept.state, TicketState::Alarmed { agents: agents.to_vec(), seen: 70 });
    assert!(kept.answer_key().is_none());
}

#[test]
fn tickets_are_removed_seven_days_after_their_end() {
    const WEEK: u64 = 7 * 24 * 3600;
    let (_temp, home) = home();
    let guard = home.lock().unwrap();
    let tickets = home.tickets();
    for seed in [1, 2] {
        tickets.create(&guard, &ticket(seed)).unwrap();
    }
    tickets.hold(&guard, &Nonce([2; 16]), late()).unwrap();
    let left = || tickets.list().unwrap().entries.len();
    tickets.sweep(&guard, EXPIRES + WEEK - 1).unwrap();
    assert_eq!(left(), 2);
    tickets.sweep(&guard, EXPIRES + WEEK).unwrap();
    assert_eq!(left(), 1, "the late one was seen later");
    tickets.sweep(&guard, EXPIRES + 5 + WEEK).unwrap();
    assert_eq!(left(), 0);
    tickets.sweep(&guard, u64::MAX).unwrap();
}

#[test]
fn an_enrollment_has_one_ticket_and_a_name_that_can_be_one() {
    let (_temp, home) = home();
    let guard = home.lock().unwrap();
    let tickets = home.tickets();
    tickets.create(&guard, &ticket(4)).unwrap();
    tickets.create(&guard, &ticket(4)).unwrap_err();
    let bad = Ticket { name: "../x".into(), ..ticket(5) };
    assert_eq!(tickets.create(&guard, &bad).unwrap_err().kind, Failed::InvalidArgument);
    assert_eq!(tickets.list().unwrap().entries.len(), 1);
    assert!(tickets.remove(&guard, &Nonce([4; 16])).unwrap());
    assert!(!tickets.remove(&guard, &Nonce([4; 16])).unwrap());
}

#[test]
fn damage_in_every_state_is_noticed_and_disables_one_ticket() {
    let (_temp, home) = home();
    let guard = home.lock().unwrap();
    let tickets = home.tickets();
    tickets.create(&guard, &ticket(4)).unwrap();
    tickets.create(&guard, &ticket(5)).unwrap();
    let enrollment = Nonce([4; 16]);
    let path = |seed| home.path().join(format!("tickets/{}.ticket", Nonce([seed; 16])));
    let read = || tickets.load(&enrollment).map(drop).map_err(Failure::from);
    check_damage(&path(4), read);
    let short = Late { request: vec![3; 10], ..late() };
    tickets.hold(&guard, &enrollment, short).unwrap();
    check_damage(&path(4), read);
    tickets.answer(&guard, &enrollment, Answered { response: vec![1; 10], ..answered(1) }).unwrap();
    check_damage(&path(4), read);
    std::fs::copy(path(5), path(4)).unwrap();
    let listing = tickets.list().unwrap();
    assert_eq!((listing.entries.len(), listing.warnings.len()), (1, 1));
}

#[test]
fn no_secret_is_printed() {
    let ticket = ticket(4);
    let shown = format!("{ticket:?} {:?}", ticket.answer_key());
    let key = ticket.answer_key.as_ref().unwrap().as_bytes();
    let hex = data_encoding::HEXLOWER.encode(key);
    let list = format!("{key:?}");
    assert!(!shown.contains(&hex) && !shown.contains(&list[1..list.len() - 1]));
    assert!(!shown.contains("197, 197") && !shown.contains("c5c5") && !shown.contains("fwe_"));
}

#[test]
fn after_a_power_cut_a_ticket_that_was_burned_stays_burned() {
    let prepare = |path: &Path| {
        let home = Home::create(path).unwrap();
        home.tickets().create(&home.lock().unwrap(), &ticket(4)).unwrap();
    };
    let burn = |path: &Path| {
        let home = Home::open(path)?;
        home.tickets().answer(&home.lock()?, &Nonce([4; 16]), answered(1))?;
        Ok(())
    };
    power::cut_everywhere(prepare, burn, |path, done| {
        let kept = Home::open(path).unwrap().tickets().load(&Nonce([4; 16])).unwrap();
        let burned = kept.state == TicketState::Answered(Box::new(answered(1)));
        assert!(burned || (kept.state == TicketState::Open && !done));
    });
    power::fail_everywhere(prepare, burn, |path| {
        Home::open(path).unwrap().tickets().load(&Nonce([4; 16])).unwrap();
    });
}

#[test]
fn the_longest_mail_fits() {
    let (_temp, home) = home();
    let guard = home.lock().unwrap();
    let tickets = home.tickets();
    let mut long = ticket(4);
    long.labels = (0..64).map(|at| (format!("{at:0>64}"), "v".repeat(120))).collect();
    tickets.create(&guard, &long).unwrap();
    let response = vec![9; farwire_protocol::outer::MAIL_LIMIT];
    let agent = changed(20, Kind::Agent, |bundle| bundle.seq = u64::MAX);
    let answer = Answered { response, agent, ..answered(1) };
    tickets.answer(&guard, &Nonce([4; 16]), answer).unwrap();
}

#[test]
fn any_ticket_is_read_without_a_panic() {
    bolero::check!().for_each(|bytes: &[u8]| {
        let _ = file::parse::<Ticket>(bytes);
        if let Ok(ticket) = Ticket::read(bytes) {
            let mut again = Vec::new();
            ticket.write(&mut again);
            assert_eq!(Ticket::read(&again).unwrap().state, ticket.state);
        }
    });
}

#[test]
fn a_second_use_of_a_token_is_news_once_and_changes_nothing_else() {
    let (_temp, home) = home();
    let tickets = home.tickets();
    let guard = home.lock().unwrap();
    let ticket = ticket(4);
    let enrollment = ticket.token.enrollment;
    tickets.create(&guard, &ticket).unwrap();
    let (ours, other) = (bundle(20, Kind::Agent, 1).id, bundle(21, Kind::Agent, 1).id);
    assert!(!tickets.reused(&guard, &enrollment, &other).unwrap(), "nobody has been accepted");
    tickets.answer(&guard, &enrollment, answered(1)).unwrap();
    tickets.settle(&guard, &enrollment).unwrap();
    assert!(!tickets.reused(&guard, &enrollment, &ours).unwrap(), "the agent that was let in");
    assert!(tickets.reused(&guard, &enrollment, &other).unwrap());
    assert!(!tickets.reused(&guard, &enrollment, &other).unwrap(), "it has been said");
    let kept = tickets.load(&enrollment).unwrap();
    let expected = Answered { settled: true, reused_by: Some(other), ..answered(1) };
    assert_eq!(kept.state, TicketState::Answered(Box::new(expected)));
}
