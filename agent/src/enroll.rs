//! Enrollment: from a token to a device that may come in.
//!
//! Nothing is written before the relay has said that the token is good. Then keys and the sealed
//! request are kept, and only then it is posted; the same bytes are posted again until an answer
//! comes, which may be after a reboot: `run` goes on with it.

use std::time::Duration;

use ed25519_dalek::SigningKey;
use farwire_keystore::{Device, Enrolled, Enrollment, How, Pending, State};
use farwire_link::outer::congestion::Attended;
use farwire_link::outer::dial::{self, Connection, Identity};
use farwire_protocol::address::Relay;
use farwire_protocol::bundle::{self, Bundle};
use farwire_protocol::cbor::Blob;
use farwire_protocol::enroll::{Answer, BadMail, Request};
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::id::{Id, Kind as IdKind, Kn, Kt, Nonce, TrustDomain};
use farwire_protocol::outer::{EnrollmentState, MailGet, MailPut, MailState, Notice, Role};
use farwire_protocol::token::{BadToken, Token};
use tokio::time::{sleep, timeout};

use crate::agent::{BUILD, unix_time};
use crate::os::facts::Facts;

/// How often an answer is asked for when no notice comes.
const ASK: Duration = Duration::from_secs(20);

/// Between dials while an answer is waited for.
const REDIAL: Duration = Duration::from_secs(3);

/// Reads a token and says what is wrong with it.
pub(crate) fn parse(text: &str) -> Result<Token, Failure> {
    text.parse().map_err(|error: BadToken| Failure::new(Kind::TokenMalformed, error.to_string()))
}

/// How an enrollment went.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// The device may come in.
    Enrolled(Enrolled),
    /// Nobody has answered yet.
    Pending,
}

/// Enrolls with this token, waiting at most `patience` for the answer. `address` is where its relay is
/// reached, if not as in the token.
pub(crate) async fn enroll(
    state: &State,
    token: Token,
    address: Option<String>,
    patience: Duration,
) -> Result<Outcome, Failure> {
    if let Enrollment::Enrolled(enrolled) = state.enrollments().load()? {
        let message = format!("this agent is enrolled already, as `{}`", enrolled.name);
        return Err(Failure::new(Kind::AlreadyEnrolled, message));
    }
    let mut relay = token.relay.clone();
    if let Some(address) = address {
        relay.addresses = vec![address];
    }
    // A throwaway identity asks: our own is not made before the token is known to be good.
    let connection = greet(&relay, &throwaway(token.enrollment)?).await?;
    let known = connection.call(&EnrollmentState { enrollment: token.enrollment }).await?;
    let pending_here =
        matches!(state.enrollments().load()?, Enrollment::Pending(p) if p.token == token);
    check(known.state, known.time, &token, pending_here)?;
    drop(connection);
    let pending = prepare(state, token, relay)?;
    answer(state, &pending, patience).await
}

fn check(
    state: MailState,
    relay_time: u64,
    token: &Token,
    pending_here: bool,
) -> Result<(), Failure> {
    match state {
        MailState::Open => Ok(()),
        MailState::Waiting | MailState::Answered if pending_here => Ok(()),
        // Somebody else has asked with it: the inviter is told, and refuses both.
        MailState::Waiting => Ok(()),
        MailState::Answered => Err(Failure::new(Kind::TokenUsed, "the token has been used")),
        MailState::Expired => {
            let ago = relay_time.saturating_sub(token.expires);
            Err(Failure::new(Kind::TokenExpired, format!("the token expired {ago} s ago")))
        }
        MailState::Unknown => {
            Err(Failure::new(Kind::TokenUnknown, "the relay knows no such token, or no longer"))
        }
    }
}

/// Makes the identity and the sealed request, and keeps both.
fn prepare(state: &State, token: Token, relay: Relay) -> Result<Pending, Failure> {
    let guard = state.lock()?;
    let identity = match state.identity()? {
        Some(identity) => identity,
        None => state.create_identity(&guard, token.trust_domain, unix_time())?,
    };
    let bundle = identity.set_trust_domain(&guard, token.trust_domain)?;
    let mut nonce = [0; 16];
    getrandom::fill(&mut nonce).map_err(|error| {
        Failure::new(Kind::ResourceExhausted, format!("no random numbers: {error}"))
    })?;
    let facts = Facts::read();
    let request = Request {
        bundle: Blob(bundle.encode()),
        enrollment: token.enrollment,
        hostname: facts.hostname,
        os: format!("{}, {}", facts.system, facts.arch),
        nonce: Nonce(nonce),
    };
    let sealed =
        request.seal(&token).map_err(|error| Failure::new(Kind::Internal, error.to_string()))?;
    let pending = Pending { token, relay, request: sealed, started: unix_time() };
    state.enrollments().begin(&guard, pending)
}

/// An identity that lives as long as one question.
fn throwaway(enrollment: Nonce) -> Result<Identity, Failure> {
    let random = || {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes).map(|()| bytes).map_err(|error| {
            Failure::new(Kind::ResourceExhausted, format!("no random numbers: {error}"))
        })
    };
    let (id, kt) = (SigningKey::from_bytes(&random()?), SigningKey::from_bytes(&random()?));
    let bundle = Bundle {
        version: bundle::VERSION,
        kind: IdKind::Agent,
        id: Id(id.verifying_key().to_bytes()),
        // Nobody shakes hands with it.
        kn: Kn(random()?),
        kt: Kt(kt.verifying_key().to_bytes()),
        kd: None,
        seq: 1,
        not_before: 0,
        handshake: 1,
        trust_domain: TrustDomain::NONE,
    };
    Ok(Identity {
        role: Role::Enrolling,
        bundle: bundle.sign(&id),
        kt,
        instance: Nonce::ZERO,
        build: BUILD.to_owned(),
        found: None,
        enrollment: Some(enrollment),
        attended: Attended::default(),
    })
}

fn identity(state: &State, enrollment: Nonce) -> Result<Identity, Failure> {
    let identity = state.identity()?;
    let identity =
        identity.ok_or_else(|| Failure::new(Kind::NotEnrolled, "this agent has no identity"))?;
    let transport = identity.open_transport(None)?;
    Ok(Identity {
        role: Role::Enrolling,
        bundle: transport.bundle,
        kt: transport.kt,
        instance: Nonce::ZERO,
        build: BUILD.to_owned(),
        found: None,
        enrollment: Some(enrollment),
        attended: Attended::default(),
    })
}

async fn greet(relay: &Relay, identity: &Identity) -> Result<Connection, Failure> {
    let connection = dial::dial(relay, identity).await?;
    connection.welcome().await?;
    Ok(connection)
}

/// Posts the request and waits for its answer, over as many connections as it takes.
pub(crate) async fn answer(
    state: &State,
    pending: &Pending,
    patience: Duration,
) -> Result<Outcome, Failure> {
    let mut posted = false;
    let asked = timeout(patience, async {
        loop {
            match ask(state, pending, &mut posted).await {
                Ok(blob) => return Ok(blob),
                Err(failure) if is_final(&failure) => return Err(failure),
                Err(failure) => {
                    tracing::warn!(kind = %failure.kind, why = failure.message, "no answer yet");
                    sleep(REDIAL).await;
                }
            }
        }
    });
    match asked.await {
        Ok(blob) => accept(state, pending, &blob?).map(Outcome::Enrolled),
        Err(_) if posted => Ok(Outcome::Pending),
        Err(_) => Err(Failure::new(Kind::RelayUnreachable, "the relay could not be reached")),
    }
}

fn is_final(failure: &Failure) -> bool {
    matches!(
        failure.kind,
        Kind::TokenUsed
            | Kind::TokenExpired
            | Kind::TokenUnknown
            | Kind::TooLarge
            | Kind::RelayKeyMismatch
    )
}

async fn ask(state: &State, pending: &Pending, posted: &mut bool) -> Result<Blob, Failure> {
    let enrollment = pending.token.enrollment;
    let connection = greet(&pending.relay, &identity(state, enrollment)?).await?;
    let mut notices = connection.notices();
    connection.call(&MailPut { enrollment, blob: Blob(pending.request.clone()) }).await?;
    *posted = true;
    loop {
        let mail = connection.call(&MailGet { enrollment: Some(enrollment) }).await?;
        if let Some(piece) = mail.pieces.into_iter().next() {
            return Ok(piece.blob);
        }
        tokio::select! {
            notice = notices.recv() => match notice {
                Ok(Notice::Mail) => {}
                Ok(_) => continue,
                Err(_) => return Err(Failure::new(Kind::RelayUnreachable, "the connection ended")),
            },
            closed = connection.closed() => {
                return Err(Failure::caused(Kind::RelayUnreachable, "the connection ended", &closed));
            }
            () = sleep(ASK) => {}
        }
    }
}

/// Believes an answer only if it is from whoever minted the token, and about us.
fn accept(state: &State, pending: &Pending, blob: &[u8]) -> Result<Enrolled, Failure> {
    let identity = state.identity()?;
    let identity =
        identity.ok_or_else(|| Failure::new(Kind::NotEnrolled, "this agent has no identity"))?;
    let me = identity.open_public()?;
    let guard = state.lock()?;
    let (answer, device) = match Answer::open(&pending.token, blob, &pending.request, &me.id) {
        Ok(answer) => answer,
        Err(error) => {
            state.enrollments().abandon(&guard)?;
            let kind = match error {
                BadMail::AnotherRequest => Kind::TokenUsed,
                _ => Kind::EnrollmentRejected,
            };
            return Err(Failure::caused(kind, "the enrollment was not accepted", &error));
        }
    };
    let now = unix_time();
    let device = Device {
        name: answer.device_name,
        bundle: device,
        surfaces_required: true,
        added: now,
        how: How::Enrollment,
    };
    let enrolled = Enrolled {
        relay: pending.relay.clone(),
        name: answer.name,
        inviter: pending.token.inviter,
        trust_domain: pending.token.trust_domain,
        at: now,
    };
    state.enrollments().finish(&guard, &enrolled, &device)?;
    Ok(enrolled)
}

/// The fingerprint of this agent, for people to compare.
pub(crate) fn fingerprint(state: &State) -> Result<String, Failure> {
    let identity = state
        .identity()?
        .ok_or_else(|| Failure::new(Kind::NotEnrolled, "this agent has no identity yet"))?;
    Ok(identity.open_public()?.id.fingerprint(IdKind::Agent))
}
