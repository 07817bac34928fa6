//! One connection's control conversation: calls in, answers and notices out.

use std::future::ready;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use farwire_link::outer::control::{self, ControlError};
use farwire_link::outer::listen::Guest;
use farwire_link::outer::{RecvHalf, SendHalf};
use farwire_protocol::bundle::SignedBundle;
use farwire_protocol::cbor::{self, Blob};
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::id::{Id, Kind as IdKind, Nonce};
use farwire_protocol::outer::{
    Answer, Call, Done, EnrollmentIs, EnrollmentState, LIMIT, List, Lookup, Mail, MailAnswer,
    MailGet, MailPut, Notice, Presence as PresenceVerb, Record, ServerCreate, ServerRemove,
    ServerUpdate, Servers, Verb, Welcome, page,
};
use minicbor::Encode;
use tokio::sync::{Mutex, mpsc};
use tokio::time::timeout;

use crate::clock::{now, seconds};
use crate::hello::Admitted;
use crate::presence::Ticket;
use crate::run::Relay;
use crate::store::{Acceptance, Server, ServerPage, StoredRequest, WorkspaceId};
use crate::turns::Turn;

/// How long somebody who is displaced may take to hear of it, at least, and in round trips, and at most. Mostly it
/// is a process that was killed, and streams to it wait for so long before they go to the one after it.
const FAREWELL: Duration = Duration::from_millis(500);
const FAREWELL_ROUNDS: u32 = 3;
const LONGEST_FAREWELL: Duration = Duration::from_secs(2);

/// How a conversation ended that did not break off.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Displaced {
    /// It has taken note that another has its place: it lives.
    Living,
    /// Nothing was heard from it.
    Silent,
}

/// What is known of a connection once it has been let in.
#[derive(Debug)]
pub(crate) struct Visit<'a> {
    pub(crate) relay: &'a Arc<Relay>,
    pub(crate) who: Admitted,
    pub(crate) ticket: Ticket,
    pub(crate) link: &'a Guest,
}

/// The answer to HELLO.
pub(crate) fn welcome(remote: SocketAddr, mail: bool) -> Welcome {
    Welcome {
        node: "1".to_owned(),
        build: crate::run::BUILD.to_owned(),
        time: seconds(now()),
        streams: 256,
        observed: remote.to_string(),
        mail: Some(mail),
    }
}

/// Writes the answer to a call.
pub(crate) async fn answer<T: Encode<()>>(
    send: &mut SendHalf,
    id: u32,
    result: Result<T, Failure>,
) -> std::io::Result<()> {
    control::write(send, &answer_to(id, result.map(|value| cbor::encode(&value)))).await
}

/// An answer that can be sent, whatever it was to say.
fn answer_to(id: u32, result: Result<Vec<u8>, Failure>) -> Answer {
    let answer = match result {
        Ok(body) => Answer { id, failure: None, body: Blob(body) },
        Err(failure) => Answer { id, failure: Some(failure), body: Blob::default() },
    };
    if cbor::encode(&answer).len() <= LIMIT {
        return answer;
    }
    let failure =
        Failure::new(Kind::TooLarge, "the relay's answer is larger than a message may be");
    Answer { id, failure: Some(failure), body: Blob::default() }
}

impl Visit<'_> {
    /// Serves calls until the connection ends, which is an error, as is anything that is not a call,
    /// or until another has taken its place, and has been told so.
    pub(crate) async fn serve(
        &self,
        mut recv: RecvHalf,
        send: SendHalf,
        mut notices: mpsc::Receiver<Notice>,
    ) -> Result<Displaced, ControlError> {
        // A peer that does not read its answers is not read any more either.
        let send = Mutex::new(send);
        let answers = async {
            loop {
                let call: Call = control::read(&mut recv).await?;
                // On the heap for as long as it takes: a connection that is idle, as most are, would
                // keep room for the largest query otherwise.
                let answer = Box::pin(self.carry_out(&call)).await;
                control::write(&mut *send.lock().await, &answer).await?;
            }
        };
        let told = async {
            while let Some(notice) = notices.recv().await {
                let notice = Answer { id: 0, failure: None, body: Blob(cbor::encode(&notice)) };
                control::write(&mut *send.lock().await, &notice).await?;
            }
            // A close overtakes what has been said.
            let mut send = send.lock().await;
            send.finish();
            let patience = (self.link.rtt() * FAREWELL_ROUNDS).clamp(FAREWELL, LONGEST_FAREWELL);
            let heard = timeout(patience, send.acknowledged()).await == Ok(true);
            Ok(if heard { Displaced::Living } else { Displaced::Silent })
        };
        tokio::select! {
            ended = answers => ended,
            ended = told => ended,
        }
    }

    async fn carry_out(&self, call: &Call) -> Answer {
        let result = match self.relay.calls.take_in_time(Some(self.who.workspace())).await {
            Ok(turn) => self.answered(call, Arc::new(turn)).await,
            Err(failure) => Err(failure),
        };
        answer_to(call.id, result)
    }

    async fn answered(&self, call: &Call, turn: Arc<Turn>) -> Result<Vec<u8>, Failure> {
        match call.verb {
            PresenceVerb::NUMBER => self.with(call, |verb| ready(self.presence(verb))).await,
            List::NUMBER => self.with(call, |verb| self.list(verb)).await,
            Lookup::NUMBER => self.with(call, |verb| self.lookup(verb)).await,
            ServerCreate::NUMBER => self.with(call, |verb| self.create(verb)).await,
            ServerUpdate::NUMBER => self.with(call, |verb| self.update(verb, turn)).await,
            ServerRemove::NUMBER => self.with(call, |verb| self.remove(verb, turn)).await,
            EnrollmentState::NUMBER => self.with(call, |verb| self.enrollment(verb)).await,
            MailPut::NUMBER => self.with(call, |verb| self.put_mail(verb)).await,
            MailGet::NUMBER => self.with(call, |verb| self.get_mail(verb)).await,
            MailAnswer::NUMBER => self.with(call, |verb| self.answer_mail(verb, turn)).await,
            _ => Err(Failure::new(Kind::Unsupported, "the relay does not know this request")
                .with_hint("update the relay")),
        }
    }

    /// Decodes a verb, carries it out, encodes what it answers.
    async fn with<V, F>(&self, call: &Call, serve: impl FnOnce(V) -> F) -> Result<Vec<u8>, Failure>
    where
        V: Verb,
        F: Future<Output = Result<V::Answer, Failure>>,
    {
        let verb = cbor::decode(&call.body, LIMIT).map_err(|error| {
            Failure::caused(Kind::ProtocolViolation, "the request makes no sense", &error)
        })?;
        Ok(cbor::encode(&serve(verb).await?))
    }

    fn device(&self) -> Result<(Id, WorkspaceId), Failure> {
        match self.who {
            Admitted::Device { id, workspace } => Ok((id, workspace)),
            _ => Err(not_for_you()),
        }
    }

    fn enrolling(&self, enrollment: Nonce) -> Result<(), Failure> {
        match self.who {
            Admitted::Enrolling { enrollment: own, .. } if own == enrollment => Ok(()),
            _ => Err(not_for_you()),
        }
    }

    fn presence(&self, verb: PresenceVerb) -> Result<Done, Failure> {
        let Admitted::Agent { id, .. } = self.who else { return Err(not_for_you()) };
        if verb.admits.len() > 1024 {
            return Err(Failure::new(
                Kind::TooLarge,
                "an agent admits at most 1,024 devices by hand",
            ));
        }
        self.relay.presence.admits(id, self.ticket, verb.admits);
        Ok(Done {})
    }

    async fn list(&self, verb: List) -> Result<Servers, Failure> {
        let (_, workspace) = self.device()?;
        // What programs hand back is where the page begins.
        let from = verb.page.unwrap_or(0);
        let ServerPage { servers: found, mut more } =
            self.relay.store.list_servers(workspace, from).await?;
        let all = found.len();
        let servers = page(found.into_iter().map(|server| self.filled(server)).collect());
        more |= servers.len() < all;
        let taken = u32::try_from(servers.len()).unwrap_or(u32::MAX);
        let next = from.checked_add(taken).filter(|_| more);
        Ok(Servers { servers, next })
    }

    async fn lookup(&self, verb: Lookup) -> Result<Record, Failure> {
        let (id, workspace) = self.device()?;
        if !self.relay.presence.may_see(id, workspace, verb.agent) {
            return Err(Failure::new(
                Kind::UnknownServer,
                "the relay has no such server for this device",
            ));
        }
        let server = self.relay.store.server_of_agent(verb.agent).await?;
        let own = server.workspace == workspace;
        let mut record = self.filled(server);
        if !own {
            // Names and labels are for the workspace that gave them.
            record.name.clear();
            record.labels.clear();
        }
        Ok(record)
    }

    async fn create(&self, verb: ServerCreate) -> Result<Record, Failure> {
        let (_, workspace) = self.device()?;
        let server = self.relay.store.create_server(workspace, &verb).await?;
        Ok(self.filled(server))
    }

    async fn update(&self, verb: ServerUpdate, turn: Arc<Turn>) -> Result<Record, Failure> {
        let (_, workspace) = self.device()?;
        let relay = self.relay.clone();
        let server = self.whole(turn, async move {
            let server = relay.store.update_server(workspace, &verb).await?;
            relay.presence.put(&server);
            Ok(server)
        });
        Ok(self.filled(server.await?))
    }

    /// Makes a change of the books and of who is let through as one: in the order of the changes, and to its end
    /// whatever becomes of the connection that asked for it, which gives its turn up no sooner.
    async fn whole<T: Send + 'static>(
        &self,
        turn: Arc<Turn>,
        change: impl Future<Output = Result<T, Failure>> + Send + 'static,
    ) -> Result<T, Failure> {
        let relay = self.relay.clone();
        let changed = tokio::spawn(async move {
            let _turn = turn;
            let _order = relay.changes.lock().await;
            change.await
        });
        changed.await.unwrap_or_else(|error| {
            Err(Failure::caused(Kind::Internal, "the change broke off", &error))
        })
    }

    async fn remove(&self, verb: ServerRemove, turn: Arc<Turn>) -> Result<Done, Failure> {
        let (_, workspace) = self.device()?;
        let relay = self.relay.clone();
        self.whole(turn, async move {
            let server = relay.store.remove_server(workspace, &verb.name).await?;
            if let Some(agent) = server.record.agent {
                relay.presence.remove(agent);
            }
            Ok(Done {})
        })
        .await
    }

    async fn enrollment(&self, verb: EnrollmentState) -> Result<EnrollmentIs, Failure> {
        self.enrolling(verb.enrollment)?;
        let state = self.relay.store.enrollment_state(verb.enrollment).await?;
        Ok(EnrollmentIs { state, time: seconds(now()) })
    }

    async fn put_mail(&self, verb: MailPut) -> Result<Done, Failure> {
        self.enrolling(verb.enrollment)?;
        let StoredRequest { workspace, late } =
            self.relay.store.put_request(verb.enrollment, &verb.blob).await?;
        self.relay.presence.tell_devices(workspace, &Notice::Mail);
        if late {
            return Err(Failure::new(Kind::TokenUsed, "the token has been used"));
        }
        Ok(Done {})
    }

    async fn get_mail(&self, verb: MailGet) -> Result<Mail, Failure> {
        match self.who {
            Admitted::Device { workspace, .. } => {
                let after = verb.after.unwrap_or(0);
                self.relay.store.list_requests(workspace, verb.enrollment, after).await
            }
            Admitted::Enrolling { enrollment, .. } => {
                self.relay.store.enrollment_answer(enrollment).await
            }
            Admitted::Agent { .. } => Err(not_for_you()),
        }
    }

    async fn answer_mail(&self, verb: MailAnswer, turn: Arc<Turn>) -> Result<Record, Failure> {
        let (_, workspace) = self.device()?;
        let agent = SignedBundle::decode_kind(&verb.agent, IdKind::Agent).map_err(|error| {
            Failure::caused(Kind::InvalidArgument, "the agent's bundle", &error)
        })?;
        let relay = self.relay.clone();
        let server = self.whole(turn, async move {
            let Acceptance { server, replaced } =
                relay.store.accept_agent(workspace, &verb, &agent).await?;
            if let Some(before) = replaced {
                // Another agent takes the place of the one that the record had.
                relay.presence.remove(before);
            }
            relay.presence.accepted(&server);
            relay.presence.tell_enrolling(verb.enrollment, &Notice::Mail);
            Ok(server)
        });
        Ok(self.filled(server.await?))
    }

    fn filled(&self, server: Server) -> Record {
        self.relay.presence.fill(server.record)
    }
}

fn not_for_you() -> Failure {
    Failure::new(Kind::RelayDenied, "this connection may not ask for that")
}
