//! Who may ask what, and what a call changes for others.

use std::collections::BTreeMap;

use farwire_protocol::header::Reset;
use farwire_protocol::id::Id;
use farwire_protocol::outer::{MailState, ServerState};

use super::*;
use crate::store::conformance::{Founded, accept, create, new_workspace};
use crate::testing::{TestRelay, agent, device, relay};
use crate::workspace::Enrolling;

/// A relay with one workspace.
struct TestWorkspace {
    test: TestRelay,
    owner: Founded,
}

async fn workspace() -> TestWorkspace {
    let test = relay().await;
    let owner = new_workspace(&*test.relay.store, 1).await;
    TestWorkspace { test, owner }
}

/// A connection of a device, with the notices that it gets.
struct TestDevice<'a> {
    visitor: Visitor<'a>,
    inbox: mpsc::Receiver<Notice>,
}

impl TestWorkspace {
    fn relay(&self) -> &Arc<Relay> {
        &self.test.relay
    }

    fn device(&self) -> TestDevice<'_> {
        self.device_of(1, &self.owner)
    }

    fn device_of(&self, seed: u8, founded: &Founded) -> TestDevice<'_> {
        let member = Member { id: device(seed).id, workspace: founded.workspace };
        let (notices, inbox) = mpsc::channel(8);
        let (ticket, _) = self.relay().presence.device_arrived(member, notices).unwrap();
        let visitor = Visitor { relay: self.relay(), who: Admitted::Device(member), ticket };
        TestDevice { visitor, inbox }
    }

    fn enrolling(&self, enrollment: u8) -> Visitor<'_> {
        let workspace = self.owner.workspace;
        let enrolling = Enrolling { enrollment: Nonce([enrollment; 16]), workspace };
        let ticket = self.relay().presence.enrolling_arrived(enrolling, mpsc::channel(8).0);
        Visitor { relay: self.relay(), who: Admitted::Enrolling(enrolling), ticket }
    }

    /// A connection of an agent, as far as calls are concerned: presence does not have it.
    fn agent(&self) -> Visitor<'_> {
        let (id, instance) = (agent(9, self.owner.domain).id, Nonce([1; 16]));
        let who = Admitted::Agent { id, instance, workspace: self.owner.workspace };
        Visitor { who, ..self.enrolling(9) }
    }
}

async fn ask<V: Verb>(visitor: &Visitor<'_>, verb: &V) -> Result<V::Answer, Failure> {
    let body = Blob(cbor::encode(verb));
    let answer = visitor.carry_out(&Call { id: 7, verb: V::NUMBER, body }).await;
    assert_eq!(answer.id, 7);
    match answer.failure {
        Some(failure) => Err(failure),
        None => Ok(cbor::decode(&answer.body, LIMIT).unwrap()),
    }
}

async fn kind<V: Verb>(visitor: &Visitor<'_>, verb: &V) -> Kind {
    ask(visitor, verb).await.err().expect("it is refused").kind
}

fn new_server(name: &str, enrollment: u8) -> ServerCreate {
    let (name, labels) = (name.to_owned(), BTreeMap::from([("env".to_owned(), "test".to_owned())]));
    ServerCreate { name, labels, enrollment: Nonce([enrollment; 16]), lifetime: 60 }
}

fn suspension(name: &str, suspended: bool) -> ServerUpdate {
    let suspended = Some(suspended);
    ServerUpdate { name: name.to_owned(), suspended, ..ServerUpdate::default() }
}

#[tokio::test]
async fn each_role_asks_its_own_business_and_nothing_else() {
    let test = workspace().await;
    let TestDevice { visitor: owner, .. } = test.device();
    let (enrolling, agent) = (test.enrolling(1), test.agent());
    ask(&owner, &new_server("web-1", 1)).await.unwrap();
    let own = Nonce([1; 16]);
    let (list, lookup) = (List { page: None }, Lookup { agent: Id([9; 32]) });
    let (update, remove) = (suspension("web-1", true), ServerRemove { name: "web-1".to_owned() });
    let answer = MailAnswer { enrollment: own, agent: Blob::default(), blob: Blob::default() };
    for other in [&enrolling, &agent] {
        assert_eq!(kind(other, &list).await, Kind::RelayDenied);
        assert_eq!(kind(other, &lookup).await, Kind::RelayDenied);
        assert_eq!(kind(other, &new_server("web-2", 2)).await, Kind::RelayDenied);
        assert_eq!(kind(other, &update).await, Kind::RelayDenied);
        assert_eq!(kind(other, &remove).await, Kind::RelayDenied);
        assert_eq!(kind(other, &answer).await, Kind::RelayDenied);
    }
    let (state, put) = (EnrollmentState { enrollment: own }, put(1, b"request"));
    for other in [&owner, &agent, &test.enrolling(2)] {
        assert_eq!(kind(other, &state).await, Kind::RelayDenied);
        assert_eq!(kind(other, &put).await, Kind::RelayDenied);
    }
    let get = MailGet { enrollment: None, after: None };
    let admissions = Admissions { admits: vec![] };
    assert_eq!(kind(&agent, &get).await, Kind::RelayDenied);
    for other in [&owner, &enrolling] {
        assert_eq!(kind(other, &admissions).await, Kind::RelayDenied);
    }
    // And what is theirs is answered.
    ask(&agent, &admissions).await.unwrap();
    assert_eq!(ask(&enrolling, &state).await.unwrap().state, MailState::Open);
    assert_eq!(ask(&enrolling, &get).await.unwrap().pieces, []);
    assert_eq!(ask(&owner, &list).await.unwrap().servers.len(), 1);
}

fn put(enrollment: u8, blob: &[u8]) -> MailPut {
    MailPut { enrollment: Nonce([enrollment; 16]), blob: Blob(blob.to_vec()) }
}

#[tokio::test]
async fn an_unknown_verb_is_unsupported_and_nonsense_a_violation() {
    let test = workspace().await;
    let TestDevice { visitor, .. } = test.device();
    for (verb, kind) in [(999, Kind::Unsupported), (Lookup::NUMBER, Kind::ProtocolViolation)] {
        let answer = visitor.carry_out(&Call { id: 1, verb, body: Blob(vec![0xff]) }).await;
        assert_eq!(answer.failure.unwrap().kind, kind);
    }
    let admits = vec![Id([1; 32]); MAX_ADMITTED + 1];
    assert_eq!(kind(&test.agent(), &Admissions { admits }).await, Kind::TooLarge);
}

#[test]
fn an_answer_that_no_message_has_room_for_becomes_a_failure() {
    let fits = answer_to(3, Ok(vec![1; LIMIT - 100]));
    assert!(fits.failure.is_none() && fits.id == 3);
    let answer = answer_to(3, Ok(vec![1; LIMIT]));
    assert_eq!(answer.failure.unwrap().kind, Kind::TooLarge);
    assert!(answer.body.is_empty() && answer.id == 3);
    let failure = Failure::new(Kind::RelayDenied, "x".repeat(LIMIT));
    assert_eq!(answer_to(3, Err(failure)).failure.unwrap().kind, Kind::TooLarge);
}

#[test]
fn a_displaced_program_has_three_round_trips_within_bounds() {
    let farewell = |ms| farewell(Duration::from_millis(ms)).as_millis();
    assert_eq!((farewell(0), farewell(300), farewell(5_000)), (500, 900, 2_000));
}

#[test]
fn the_answer_to_hello_names_the_node() {
    let welcome = welcome(NodeId::TEST, "192.0.2.1:5".parse().unwrap(), true);
    assert_eq!((welcome.node.as_str(), welcome.observed.as_str()), ("7", "192.0.2.1:5"));
    assert_eq!((welcome.streams, welcome.mail), (256, Some(true)));
}

#[tokio::test]
async fn a_list_comes_in_pages_that_join_without_a_gap() {
    let test = workspace().await;
    let TestDevice { visitor, .. } = test.device();
    for number in 0..=200 {
        let name = format!("web-{number:03}");
        create(&*test.relay().store, test.owner.workspace, &name, number).await.unwrap();
    }
    let first = ask(&visitor, &List { page: None }).await.unwrap();
    assert_eq!((first.servers.len(), first.next), (200, Some(200)));
    let second = ask(&visitor, &List { page: first.next }).await.unwrap();
    assert_eq!((second.servers[0].name.as_str(), second.next), ("web-200", None));
    let beyond = ask(&visitor, &List { page: Some(u32::MAX) }).await.unwrap();
    assert!(beyond.servers.is_empty() && beyond.next.is_none());
}

#[tokio::test]
async fn another_workspace_sees_no_server() {
    let test = workspace().await;
    let other = new_workspace(&*test.relay().store, 2).await;
    let TestDevice { visitor: owner, .. } = test.device();
    let TestDevice { visitor: stranger, .. } = test.device_of(2, &other);
    ask(&owner, &new_server("web-1", 1)).await.unwrap();
    let agent = agent(3, test.owner.domain);
    ask(&owner, &acceptance(1, &agent)).await.unwrap();
    assert_eq!(ask(&owner, &Lookup { agent: agent.id }).await.unwrap().name, "web-1");
    assert_eq!(kind(&stranger, &Lookup { agent: agent.id }).await, Kind::UnknownServer);
    assert_eq!(kind(&stranger, &suspension("web-1", true)).await, Kind::UnknownServer);
    let remove = ServerRemove { name: "web-1".to_owned() };
    assert_eq!(kind(&stranger, &remove).await, Kind::UnknownServer);
    assert_eq!(kind(&stranger, &acceptance(1, &agent)).await, Kind::TokenUnknown);
    assert!(ask(&stranger, &List { page: None }).await.unwrap().servers.is_empty());
}

fn acceptance(enrollment: u8, agent: &SignedBundle) -> MailAnswer {
    let (enrollment, blob) = (Nonce([enrollment; 16]), Blob(vec![enrollment; 9]));
    MailAnswer { enrollment, agent: Blob(agent.encode()), blob }
}

#[tokio::test]
async fn presence_follows_each_change_of_a_record() {
    let test = workspace().await;
    let TestDevice { visitor: owner, .. } = test.device();
    let (first, second) = (agent(3, test.owner.domain), agent(4, test.owner.domain));
    let member = Member { id: device(1).id, workspace: test.owner.workspace };
    let refusal = |agent: &SignedBundle| {
        test.relay().presence.passage(member, agent.id.target()).unwrap_err()
    };
    ask(&owner, &new_server("web-1", 1)).await.unwrap();
    assert_eq!(refusal(&first), Reset::UnknownServer);
    let record = ask(&owner, &acceptance(1, &first)).await.unwrap();
    assert_eq!((record.state, record.agent), (ServerState::Offline, Some(first.id)));
    assert_eq!(refusal(&first), Reset::Offline);
    ask(&owner, &suspension("web-1", true)).await.unwrap();
    assert_eq!(refusal(&first), Reset::Suspended);
    ask(&owner, &suspension("web-1", false)).await.unwrap();
    // Another agent takes the place of the first one.
    let renewal = ServerUpdate { enrollment: Some(Nonce([2; 16])), ..suspension("web-1", false) };
    ask(&owner, &renewal).await.unwrap();
    ask(&owner, &acceptance(2, &second)).await.unwrap();
    assert_eq!((refusal(&first), refusal(&second)), (Reset::UnknownServer, Reset::Offline));
    ask(&owner, &ServerRemove { name: "web-1".to_owned() }).await.unwrap();
    assert_eq!(refusal(&second), Reset::UnknownServer);
}

#[tokio::test]
async fn mail_reaches_its_reader_and_a_second_use_of_the_token_only_the_inviter() {
    let test = workspace().await;
    let TestDevice { visitor: owner, mut inbox } = test.device();
    ask(&owner, &new_server("web-1", 1)).await.unwrap();
    let enrolling = test.enrolling(1);
    ask(&enrolling, &put(1, b"request")).await.unwrap();
    assert_eq!(inbox.try_recv().ok(), Some(Notice::Mail));
    let get = MailGet { enrollment: None, after: None };
    let mail = ask(&owner, &get).await.unwrap();
    assert_eq!(mail.pieces[0].blob.0, b"request");
    accept(&*test.relay().store, test.owner.workspace, 1, &agent(3, test.owner.domain))
        .await
        .unwrap();
    assert_eq!(ask(&enrolling, &get).await.unwrap().pieces.len(), 1, "its answer");
    assert_eq!(kind(&enrolling, &put(1, b"another")).await, Kind::TokenUsed);
    assert_eq!(inbox.try_recv().ok(), Some(Notice::Mail));
    assert_eq!(ask(&owner, &get).await.unwrap().pieces[0].late, Some(true));
}
