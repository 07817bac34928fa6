//! Enrollment: from a token to a device that may connect.
//!
//! Nothing is written until the relay has confirmed the token. Then keys and the sealed request are
//! stored, and only then is the request posted; the same bytes are posted again until an answer
//! comes, which may be after a reboot: `run` continues with it.

use std::time::Duration;

use ed25519_dalek::SigningKey;
use farwire_keystore::{AddedBy, Device, Enrolled, Enrollment, Pending, StateDir};
use farwire_link::outer::congestion::Attended;
use farwire_link::outer::dial::{self, Connection, Identity};
use farwire_protocol::address::Relay;
use farwire_protocol::bundle::{self, Bundle, SignedBundle};
use farwire_protocol::cbor::Blob;
use farwire_protocol::enroll::{BadMail, EnrollAnswer, Request};
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::id::{Id, Kind as IdKind, Kn, Kt, Nonce};
use farwire_protocol::outer::{
    EnrollmentState, MailGet, MailPiece, MailPut, MailState, Notice, Role,
};
use farwire_protocol::token::{BadToken, Token};
use tokio::time::{sleep, timeout};

use crate::build::BUILD;
use crate::jobs;
use crate::os::clock::unix_time;
use crate::os::facts::Facts;

/// How often to ask for an answer when no notice comes.
const ASK: Duration = Duration::from_secs(20);

/// The pause between dials while waiting for an answer.
const REDIAL: Duration = Duration::from_secs(3);

/// Reads a token and says what is wrong with it.
pub(crate) fn parse(text: &str) -> Result<Token, Failure> {
    text.parse().map_err(|error: BadToken| Failure::new(Kind::TokenMalformed, error.to_string()))
}

/// How an enrollment went.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// The device may connect.
    Enrolled(Enrolled),
    /// Nobody has answered yet.
    Pending,
}

/// Enrolls with this token, waiting at most `patience` for the answer. `address` is where its relay
/// is reached, if not as in the token.
pub(crate) async fn enroll(
    state: &StateDir,
    token: Token,
    address: Option<String>,
    patience: Duration,
) -> Result<Outcome, Failure> {
    if let Enrollment::Enrolled(enrolled) = state.enrollments().load()? {
        let message = format!("this agent is already enrolled, as `{}`", enrolled.name);
        return Err(Failure::new(Kind::AlreadyEnrolled, message));
    }
    let mut relay = token.relay.clone();
    if let Some(address) = address {
        relay.addresses = vec![address];
    }
    // A throwaway identity asks: our own is created only once the token is known to be good.
    let throwaway = throwaway(&token)?;
    let connection = greet(&relay, &throwaway).await?;
    let known = connection.call(&EnrollmentState { enrollment: token.enrollment }).await?;
    let pending_here =
        matches!(state.enrollments().load()?, Enrollment::Pending(p) if p.token == token);
    if known.state == MailState::Answered && !pending_here {
        // The token is refused in any case.
        let _ = tell_inviter(&connection, &token, &throwaway).await;
    }
    check(known.state, known.time, &token, pending_here)?;
    drop(connection);
    let pending = prepare(state, token, relay)?;
    answer(state, &pending, patience).await
}

/// Lets the inviter know that somebody else has the token, too. Only the inviter can tell that
/// it was used: for an unused token, this would be the first request. The relay refuses ours, and
/// passes it on.
async fn tell_inviter(
    connection: &Connection,
    token: &Token,
    throwaway: &Identity,
) -> Result<(), Failure> {
    let enrollment = token.enrollment;
    let request = request(token, &throwaway.bundle)?;
    let mail = connection.call(&MailGet { enrollment: Some(enrollment), after: None }).await?;
    let of_another = |piece: &MailPiece| {
        let opened = EnrollAnswer::open(token, &piece.blob, &request, &throwaway.bundle.id);
        matches!(opened, Err(BadMail::AnotherRequest))
    };
    if mail.pieces.iter().any(of_another) {
        connection.call(&MailPut { enrollment, blob: Blob(request) }).await?;
    }
    Ok(())
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
        // Somebody else has asked with it: the inviter learns of it, and refuses both.
        MailState::Waiting => Ok(()),
        MailState::Answered => {
            Err(Failure::new(Kind::TokenUsed, "the token has already been used"))
        }
        MailState::Expired => {
            let ago = relay_time.saturating_sub(token.expires);
            Err(Failure::new(Kind::TokenExpired, format!("the token expired {ago} s ago")))
        }
        MailState::Unknown => Err(Failure::new(
            Kind::TokenUnknown,
            "the relay does not know this token, or has forgotten it",
        )),
    }
}

/// Creates the identity and the sealed request, and stores both.
fn prepare(state: &StateDir, token: Token, relay: Relay) -> Result<Pending, Failure> {
    let guard = state.lock()?;
    let identity = match state.identity()? {
        Some(identity) => identity,
        None => {
            let identity = state.create_identity(&guard, token.trust_domain, unix_time())?;
            if let Err(error) = jobs::prepare(state.path()) {
                tracing::warn!(%error, "the journal cannot be created yet");
            }
            identity
        }
    };
    let bundle = identity.set_trust_domain(&guard, token.trust_domain)?;
    let sealed = request(&token, &bundle)?;
    let pending = Pending { token, relay, request: sealed, started: unix_time() };
    state.enrollments().begin(&guard, pending)
}

/// The request to the inviter to accept this agent, sealed so that only the inviter can read it.
fn request(token: &Token, bundle: &SignedBundle) -> Result<Vec<u8>, Failure> {
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
    request.seal(token).map_err(|error| Failure::new(Kind::Internal, error.to_string()))
}

/// An identity for a single request.
fn throwaway(token: &Token) -> Result<Identity, Failure> {
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
        trust_domain: token.trust_domain,
    };
    Ok(Identity {
        role: Role::Enrolling,
        bundle: bundle.sign(&id),
        kt,
        instance: Nonce::ZERO,
        build: BUILD.to_owned(),
        found: None,
        enrollment: Some(token.enrollment),
        attended: Attended::default(),
    })
}

fn identity(state: &StateDir, enrollment: Nonce) -> Result<Identity, Failure> {
    let identity = state.identity()?;
    let identity =
        identity.ok_or_else(|| Failure::new(Kind::NotEnrolled, "this agent has no identity"))?;
    let transport = identity.open_transport()?;
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
    state: &StateDir,
    pending: &Pending,
    patience: Duration,
) -> Result<Outcome, Failure> {
    let mut posted = false;
    let mut last = None;
    let asked = timeout(patience, async {
        loop {
            match ask(state, pending, &mut posted).await {
                Ok(answer) => return Ok(answer),
                Err(failure) if is_final(&failure) => return Err(failure),
                Err(failure) => {
                    tracing::warn!(kind = %failure.kind, why = failure.message, "no answer yet");
                    last = Some(failure);
                    sleep(REDIAL).await;
                }
            }
        }
    });
    match asked.await {
        Ok(answer) => finish(state, pending, answer?).map(Outcome::Enrolled),
        Err(_) if posted => Ok(Outcome::Pending),
        Err(_) => Err(unreached(&pending.relay, patience, last)),
    }
}

/// The failure of a request that no relay took in time, after this last attempt.
fn unreached(relay: &Relay, patience: Duration, last: Option<Failure>) -> Failure {
    let (addresses, seconds) = (relay.addresses.join(", "), patience.as_secs());
    let text = format!("the relay at {addresses} was not reached within {seconds} s");
    match last {
        Some(Failure { message, hint, .. }) => {
            Failure { kind: Kind::RelayUnreachable, message: format!("{text}: {message}"), hint }
        }
        None => Failure::new(Kind::RelayUnreachable, text),
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

/// The inviter's answer, and the device that may connect.
type EnrollOutcome = Result<(EnrollAnswer, SignedBundle), BadMail>;

async fn ask(
    state: &StateDir,
    pending: &Pending,
    posted: &mut bool,
) -> Result<EnrollOutcome, Failure> {
    let enrollment = pending.token.enrollment;
    let me = own_bundle(state)?.id;
    let mut ignored = false;
    let connection = greet(&pending.relay, &identity(state, enrollment)?).await?;
    let mut notices = connection.notices();
    connection.call(&MailPut { enrollment, blob: Blob(pending.request.clone()) }).await?;
    *posted = true;
    loop {
        let mail = connection.call(&MailGet { enrollment: Some(enrollment), after: None }).await?;
        let pieces = mail.pieces.iter().map(|piece| piece.blob.0.as_slice());
        if let Some(verdict) = verdict(pending, &me, pieces) {
            return Ok(verdict);
        }
        if !mail.pieces.is_empty() && !ignored {
            tracing::warn!("ignored an answer that is not from the device that created the token");
            ignored = true;
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

/// The first answer that the inviter has signed. Anything else is the relay's doing, or damage on
/// the way, and proves nothing: the true answer may still come.
fn verdict<'a>(
    pending: &Pending,
    me: &Id,
    pieces: impl Iterator<Item = &'a [u8]>,
) -> Option<EnrollOutcome> {
    pieces
        .map(|piece| EnrollAnswer::open(&pending.token, piece, &pending.request, me))
        .find(|opened| !opened.as_ref().is_err_and(|bad| !bad.is_from_inviter()))
}

fn own_bundle(state: &StateDir) -> Result<SignedBundle, Failure> {
    let identity = state.identity()?;
    let identity =
        identity.ok_or_else(|| Failure::new(Kind::NotEnrolled, "this agent has no identity"))?;
    identity.open_public()
}

/// Stores the answer of the inviter.
fn finish(
    state: &StateDir,
    pending: &Pending,
    verdict: EnrollOutcome,
) -> Result<Enrolled, Failure> {
    let guard = state.lock()?;
    let (answer, device) = match verdict {
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
    let device =
        Device { name: answer.device_name, bundle: device, added: now, how: AddedBy::Enrollment };
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
pub(crate) fn fingerprint(state: &StateDir) -> Result<String, Failure> {
    let identity = state
        .identity()?
        .ok_or_else(|| Failure::new(Kind::NotEnrolled, "this agent has no identity yet"))?;
    Ok(identity.open_public()?.id.fingerprint(IdKind::Agent))
}

#[cfg(test)]
mod tests {
    use farwire_protocol::enroll::{AnswerDelegation, blob_hash};
    use farwire_protocol::id::Surf;

    use farwire_protocol::id::TrustDomain;

    use super::*;

    fn bundle(seed: u8, kind: IdKind) -> (SigningKey, SignedBundle) {
        let id = SigningKey::from_bytes(&[seed; 32]);
        let kt = SigningKey::from_bytes(&[seed + 1; 32]).verifying_key().to_bytes();
        let bundle = Bundle {
            version: bundle::VERSION,
            kind,
            id: Id(id.verifying_key().to_bytes()),
            kn: Kn([9; 32]),
            kt: Kt(kt),
            kd: None,
            seq: 1,
            not_before: 0,
            handshake: 1,
            trust_domain: TrustDomain([8; 32]),
        };
        let signed = bundle.sign(&id);
        (id, signed)
    }

    /// A request, and the true answer to it or to another one.
    fn asked(about: &[u8]) -> (Pending, Id, Vec<u8>) {
        let (id, device) = bundle(1, IdKind::Device);
        let agent = bundle(20, IdKind::Agent).1.id;
        let token = Token {
            relay: Relay { addresses: vec!["r:1".into()], key: Kt([1; 32]) },
            trust_domain: TrustDomain([8; 32]),
            inviter: device.id,
            enrollment: Nonce([4; 16]),
            secret: zeroize::Zeroizing::new([5; 32]),
            expires: 9,
        };
        let key = SigningKey::from_bytes(&[66; 32]);
        let surf = Surf(key.verifying_key().to_bytes());
        let delegation = AnswerDelegation::sign(&token, surf, &id);
        let answer = EnrollAnswer {
            request: Blob(blob_hash(about).to_vec()),
            agent,
            device: Blob(device.encode()),
            name: "web-1".into(),
            device_name: "laptop".into(),
        };
        let blob = answer.seal(&token, &delegation, &key).unwrap();
        let relay = token.relay.clone();
        (Pending { token, relay, request: b"ours".to_vec(), started: 0 }, agent, blob)
    }

    #[test]
    fn a_flipped_byte_anywhere_in_an_answer_is_no_answer_and_the_true_one_still_counts() {
        let (pending, me, whole) = asked(b"ours");
        for at in 0..whole.len() {
            let mut bad = whole.clone();
            bad[at] ^= 1;
            assert!(verdict(&pending, &me, [bad.as_slice()].into_iter()).is_none(), "byte {at}");
            let found = verdict(&pending, &me, [&bad[..], &whole[..]].into_iter());
            assert_eq!(found.unwrap().unwrap().0.name, "web-1");
        }
        for none in [&b""[..], &whole[..40], &[0; 64]] {
            assert!(verdict(&pending, &me, [none].into_iter()).is_none());
        }
    }

    #[test]
    fn a_true_answer_to_another_request_ends_it() {
        let (pending, me, blob) = asked(b"somebody else's");
        let refused = verdict(&pending, &me, [blob.as_slice()].into_iter()).unwrap();
        assert!(matches!(refused, Err(BadMail::AnotherRequest)));
    }
}
