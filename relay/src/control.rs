//! The control conversation of one connection: calls in, answers and notices out.

use std::future::ready;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use farwire_link::outer::control::{self, ControlError};
use farwire_link::outer::listen::Guest;
use farwire_link::outer::{RecvHalf, SendHalf};
use farwire_protocol::bundle::SignedBundle;
use farwire_protocol::cbor::{self, Blob};
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::id::{Kind as IdKind, Nonce};
use farwire_protocol::outer::{
    Answer, Call, Done, EnrollmentIs, EnrollmentState, LIMIT, List, Lookup, Mail, MailAnswer,
    MailGet, MailPut, Notice, Presence as Admissions, Record, ServerCreate, ServerRemove,
    ServerUpdate, Servers, Verb, Welcome, page,
};
use minicbor::Encode;
use tokio::sync::{Mutex, mpsc};
use tokio::time::timeout;

use crate::clock::{now, seconds};
use crate::hello::Admitted;
use crate::node::NodeId;
use crate::presence::Ticket;
use crate::relay::{BUILD, Relay};
use crate::store::{Acceptance, Server, ServerPage, StoredRequest};
use crate::turns::Turn;
use crate::workspace::Member;

/// Streams that one connection may have open, as programs are told.
const STREAMS: u32 = 256;

/// Most devices of other workspaces that an agent may admit.
const MAX_ADMITTED: usize = 1_024;

/// How long a displaced program may take to acknowledge that: some round trips, within these
/// bounds. Mostly it is a process that was killed, and streams to it wait for this long before they
/// go to the process after it.
const FAREWELL_ROUNDS: u32 = 3;
const SHORTEST_FAREWELL: Duration = Duration::from_millis(500);
const LONGEST_FAREWELL: Duration = Duration::from_secs(2);

/// Whether a program that was displaced still lives.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Displaced {
    /// It acknowledged that another process has its place.
    Living,
    /// It acknowledged nothing.
    Silent,
}

/// A connection that was let in, and what it may ask.
#[derive(Debug)]
pub(crate) struct Visitor<'a> {
    pub(crate) relay: &'a Arc<Relay>,
    pub(crate) who: Admitted,
    pub(crate) ticket: Ticket,
}

/// Returns the answer to a HELLO that came from `remote`.
pub(crate) fn welcome(node: NodeId, remote: SocketAddr, mail: bool) -> Welcome {
    Welcome {
        node: node.to_string(),
        build: BUILD.to_owned(),
        time: seconds(now()),
        streams: STREAMS,
        observed: remote.to_string(),
        mail: Some(mail),
    }
}

/// Writes the answer to a call.
pub(crate) async fn answer<T: Encode<()>>(
    send: &mut SendHalf,
    call: u32,
    result: Result<T, Failure>,
) -> io::Result<()> {
    control::write(send, &answer_to(call, result.map(|value| cbor::encode(&value)))).await
}

/// Makes an answer that fits into a message, whatever the result is.
fn answer_to(call: u32, result: Result<Vec<u8>, Failure>) -> Answer {
    let answer = match result {
        Ok(body) => Answer { id: call, failure: None, body: Blob(body) },
        Err(failure) => failure_answer(call, failure),
    };
    if cbor::encode(&answer).len() <= LIMIT {
        return answer;
    }
    let message = "the relay's answer is larger than a message may be";
    failure_answer(call, Failure::new(Kind::TooLarge, message))
}

fn failure_answer(call: u32, failure: Failure) -> Answer {
    Answer { id: call, failure: Some(failure), body: Blob::default() }
}

/// Returns how long a program at this distance may take to acknowledge that it was displaced.
fn farewell(round_trip: Duration) -> Duration {
    (round_trip * FAREWELL_ROUNDS).clamp(SHORTEST_FAREWELL, LONGEST_FAREWELL)
}

impl Visitor<'_> {
    /// Answers calls and sends notices until the connection ends or breaks the protocol, which is
    /// an error, or until another process has taken its place and it was told so.
    pub(crate) async fn converse(
        &self,
        link: &Guest,
        mut recv: RecvHalf,
        send: SendHalf,
        mut notices: mpsc::Receiver<Notice>,
    ) -> Result<Displaced, ControlError> {
        // A peer that does not read its answers is not read any more either.
        let send = Mutex::new(send);
        let answer_calls = async {
            loop {
                let call: Call = control::read(&mut recv).await?;
                // On the heap while it lasts: connections are idle nearly all of the time, and each
                // would keep the room for the largest query otherwise.
                let answer = Box::pin(self.carry_out(&call)).await;
                control::write(&mut *send.lock().await, &answer).await?;
            }
        };
        let send_notices = async {
            while let Some(notice) = notices.recv().await {
                let notice = Answer { id: 0, failure: None, body: Blob(cbor::encode(&notice)) };
                control::write(&mut *send.lock().await, &notice).await?;
            }
            // The registration was taken over. A close would overtake the last notice: wait until
            // it was received.
            let mut send = send.lock().await;
            send.finish();
            let received = timeout(farewell(link.rtt()), send.acknowledged()).await == Ok(true);
            Ok(if received { Displaced::Living } else { Displaced::Silent })
        };
        tokio::select! {
            ended = answer_calls => ended,
            ended = send_notices => ended,
        }
    }

    async fn carry_out(&self, call: &Call) -> Answer {
        let result = match self.relay.calls.take_in_time(Some(self.who.workspace())).await {
            Ok(turn) => self.dispatch(call, Arc::new(turn)).await,
            Err(failure) => Err(failure),
        };
        answer_to(call.id, result)
    }

    async fn dispatch(&self, call: &Call, turn: Arc<Turn>) -> Result<Vec<u8>, Failure> {
        match call.verb {
            Admissions::NUMBER => serve_verb(call, |verb| ready(self.admit_devices(verb))).await,
            List::NUMBER => serve_verb(call, |verb| self.list(verb)).await,
            Lookup::NUMBER => serve_verb(call, |verb| self.lookup(verb)).await,
            ServerCreate::NUMBER => serve_verb(call, |verb| self.create(verb)).await,
            ServerUpdate::NUMBER => serve_verb(call, |verb| self.update(verb, turn)).await,
            ServerRemove::NUMBER => serve_verb(call, |verb| self.remove(verb, turn)).await,
            EnrollmentState::NUMBER => serve_verb(call, |verb| self.enrollment_state(verb)).await,
            MailPut::NUMBER => serve_verb(call, |verb| self.put_mail(verb)).await,
            MailGet::NUMBER => serve_verb(call, |verb| self.get_mail(verb)).await,
            MailAnswer::NUMBER => serve_verb(call, |verb| self.answer_mail(verb, turn)).await,
            _ => Err(Failure::new(Kind::Unsupported, "the relay does not know this request")
                .with_hint("update the relay")),
        }
    }

    fn device(&self) -> Result<Member, Failure> {
        match self.who {
            Admitted::Device(member) => Ok(member),
            Admitted::Agent { .. } | Admitted::Enrolling(_) => Err(not_allowed()),
        }
    }

    fn check_enrolling(&self, enrollment: Nonce) -> Result<(), Failure> {
        match self.who {
            Admitted::Enrolling(own) if own.enrollment == enrollment => Ok(()),
            _ => Err(not_allowed()),
        }
    }

    fn admit_devices(&self, verb: Admissions) -> Result<Done, Failure> {
        let Admitted::Agent { .. } = self.who else { return Err(not_allowed()) };
        if verb.admits.len() > MAX_ADMITTED {
            return Err(Failure::new(
                Kind::TooLarge,
                "the agent authorizes more than 1,024 devices, the maximum: remove some with `farwire-agent device rm`",
            ));
        }
        self.relay.presence.admit_devices(self.ticket, verb.admits);
        Ok(Done {})
    }

    async fn list(&self, verb: List) -> Result<Servers, Failure> {
        let workspace = self.device()?.workspace;
        let skip = verb.page.unwrap_or(0);
        let found = self.relay.store.list_servers(workspace, skip).await?;
        let ServerPage { servers, more } = found;
        let read = servers.len();
        let servers = page(servers.into_iter().map(|server| self.complete(server)).collect());
        let more = more || servers.len() < read;
        let sent = u32::try_from(servers.len()).unwrap_or(u32::MAX);
        let next = skip.checked_add(sent).filter(|_| more);
        Ok(Servers { servers, next })
    }

    async fn lookup(&self, verb: Lookup) -> Result<Record, Failure> {
        let device = self.device()?;
        if !self.relay.presence.may_see(device, verb.agent) {
            return Err(Failure::new(
                Kind::UnknownServer,
                "the relay has no such server for this device",
            ));
        }
        let server = self.relay.store.server_of_agent(verb.agent).await?;
        let own = server.workspace == device.workspace;
        let mut record = self.complete(server);
        if !own {
            // Names and labels are for the workspace that gave them.
            record.name.clear();
            record.labels.clear();
        }
        Ok(record)
    }

    async fn create(&self, verb: ServerCreate) -> Result<Record, Failure> {
        let workspace = self.device()?.workspace;
        let server = self.relay.store.create_server(workspace, &verb).await?;
        Ok(self.complete(server))
    }

    async fn update(&self, verb: ServerUpdate, turn: Arc<Turn>) -> Result<Record, Failure> {
        let workspace = self.device()?.workspace;
        let relay = self.relay.clone();
        let server = self.change(turn, async move {
            let server = relay.store.update_server(workspace, &verb).await?;
            relay.presence.record(&server);
            Ok(server)
        });
        Ok(self.complete(server.await?))
    }

    async fn remove(&self, verb: ServerRemove, turn: Arc<Turn>) -> Result<Done, Failure> {
        let workspace = self.device()?.workspace;
        let relay = self.relay.clone();
        self.change(turn, async move {
            let server = relay.store.remove_server(workspace, &verb.name).await?;
            if let Some(agent) = server.record.agent {
                relay.presence.forget(agent);
            }
            Ok(Done {})
        })
        .await
    }

    /// Makes a change of the store and of presence as one: in the order of the changes, and to its
    /// end even if the connection that asked for it breaks. The turn of the call is given back
    /// after it, too.
    async fn change<T: Send + 'static>(
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

    async fn enrollment_state(&self, verb: EnrollmentState) -> Result<EnrollmentIs, Failure> {
        self.check_enrolling(verb.enrollment)?;
        let state = self.relay.store.enrollment_state(verb.enrollment).await?;
        Ok(EnrollmentIs { state, time: seconds(now()) })
    }

    async fn put_mail(&self, verb: MailPut) -> Result<Done, Failure> {
        self.check_enrolling(verb.enrollment)?;
        let StoredRequest { workspace, late } =
            self.relay.store.put_request(verb.enrollment, &verb.blob).await?;
        self.relay.presence.notify_devices(workspace, &Notice::Mail);
        if late {
            return Err(Failure::new(Kind::TokenUsed, "the token has been used"));
        }
        Ok(Done {})
    }

    async fn get_mail(&self, verb: MailGet) -> Result<Mail, Failure> {
        let store = &self.relay.store;
        match self.who {
            Admitted::Device(member) => {
                let after = verb.after.unwrap_or(0);
                store.list_requests(member.workspace, verb.enrollment, after).await
            }
            Admitted::Enrolling(own) => store.enrollment_answer(own.enrollment).await,
            Admitted::Agent { .. } => Err(not_allowed()),
        }
    }

    async fn answer_mail(&self, verb: MailAnswer, turn: Arc<Turn>) -> Result<Record, Failure> {
        let workspace = self.device()?.workspace;
        let agent = SignedBundle::decode_kind(&verb.agent, IdKind::Agent).map_err(|error| {
            Failure::caused(Kind::InvalidArgument, "the agent's bundle", &error)
        })?;
        let relay = self.relay.clone();
        let server = self.change(turn, async move {
            let accepted = relay.store.accept_agent(workspace, &verb, &agent).await?;
            let Acceptance { server, replaced } = accepted;
            if let Some(replaced) = replaced {
                relay.presence.forget(replaced);
            }
            relay.presence.record_accepted(&server);
            relay.presence.notify_enrolling(verb.enrollment, &Notice::Mail);
            Ok(server)
        });
        Ok(self.complete(server.await?))
    }

    fn complete(&self, server: Server) -> Record {
        self.relay.presence.complete(server.record)
    }
}

/// Decodes a verb, serves it, and encodes the answer.
async fn serve_verb<V, F>(call: &Call, serve: impl FnOnce(V) -> F) -> Result<Vec<u8>, Failure>
where
    V: Verb,
    F: Future<Output = Result<V::Answer, Failure>>,
{
    let verb = cbor::decode(&call.body, LIMIT)
        .map_err(|error| Failure::caused(Kind::ProtocolViolation, "malformed request", &error))?;
    Ok(cbor::encode(&serve(verb).await?))
}

fn not_allowed() -> Failure {
    Failure::new(Kind::RelayDenied, "this connection may not make that request")
}

#[cfg(test)]
mod tests;
