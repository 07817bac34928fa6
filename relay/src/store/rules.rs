//! The decisions that every store makes alike: limits, lifetimes, and who may do what to which
//! record.
//!
//! Pure functions over what an implementation has read, so that an implementation is its queries
//! and nothing else. The failures that callers see are made here, in the same words for every
//! database.

use std::collections::BTreeMap;

use farwire_protocol::bundle::SignedBundle;
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::genesis::trust_domain;
use farwire_protocol::id::{Kt, TrustDomain};
use farwire_protocol::outer::{
    LABELS, MAIL_BLOBS, MAIL_LIMIT, MailState, Record, ServerState, ServerUpdate, valid_label,
    valid_name,
};

use super::records::StoredRequest;
use crate::workspace::WorkspaceId;

/// Most servers of one workspace.
const MAX_SERVERS: i64 = 10_000;

/// Most enrollments that are kept for one workspace. Each may hold 64 KiB of mail.
pub(super) const MAX_ENROLLMENTS: i64 = 20_000;

/// Longest lifetime of a token, in seconds.
const MAX_TOKEN_LIFETIME: u32 = 7 * 24 * 3600;

/// Lifetime of a token whose request names none, in seconds.
pub(super) const TOKEN_LIFETIME: u32 = 3600;

/// Lifetime of an invite, in seconds.
pub(super) const INVITE_LIFETIME: i64 = 3600;

/// How long mail is kept after its token expired, and after its answer, in seconds.
pub(super) const MAIL_KEPT: i64 = 7 * 24 * 3600;

/// How long a duplicate is reported after it was last seen, in seconds: twice the longest wait of a
/// displaced agent. If both processes still live, one has displaced the other again by then.
pub(super) const DUPLICATE_SHOWN: i64 = 2 * 3600;

/// Most records that are read for one page of a list. The page may be full of bytes before that.
pub(super) const SERVERS_READ: usize = 200;

/// Most requests that are read for one answer. The answer may be full of bytes before that.
pub(super) const REQUESTS_READ: usize = 64;

/// An invite as it is kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct KeptInvite {
    pub(super) expires: i64,
    /// The key of the device that used it.
    pub(super) used_by: Option<Kt>,
}

/// An identity that was let in before.
#[derive(Clone, Debug)]
pub(super) struct KnownIdentity {
    /// The newest bundle that was seen, encoded.
    pub(super) bundle: Vec<u8>,
    /// Whether its owner has connected with the bundle's `KT`.
    pub(super) proven: bool,
    pub(super) workspace: Option<WorkspaceId>,
}

/// How a bundle reached the relay.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum BundleSource {
    /// Its owner connected with its `KT`.
    Owner,
    /// A device of a workspace accepted it. Its keys are claims.
    Acceptance,
}

/// An enrollment as it is kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct KeptEnrollment {
    pub(super) workspace: WorkspaceId,
    pub(super) expires: i64,
    pub(super) answered: Option<i64>,
}

/// An answer as it is kept.
#[derive(Clone, Debug)]
pub(super) struct KeptAnswer {
    pub(super) blob: Vec<u8>,
    /// The SHA-256 of the agent's bundle; older versions did not keep it.
    pub(super) bundle: Option<Vec<u8>>,
}

/// What becomes of a request that was sent to a mailbox.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Filing {
    /// The mailbox has the same bytes already.
    Known(StoredRequest),
    /// The mailbox must store it.
    New(StoredRequest),
}

impl Filing {
    pub(super) fn request(self) -> StoredRequest {
        match self {
            Self::Known(request) | Self::New(request) => request,
        }
    }
}

/// The fields of a server after an update.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct ServerFields<'a> {
    pub(super) name: &'a str,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) suspended: bool,
}

/// Returns whether a duplicate that was last seen at `seen` is still reported.
pub(crate) fn is_duplicate(seen: i64, now: i64) -> bool {
    seen.saturating_add(DUPLICATE_SHOWN) >= now
}

/// Returns the state of a server, as far as its record decides it.
pub(super) fn server_state(enrolled: bool, suspended: bool) -> ServerState {
    match (suspended, enrolled) {
        (true, _) => ServerState::Suspended,
        (false, true) => ServerState::Offline,
        (false, false) => ServerState::Pending,
    }
}

pub(super) fn check_name(name: &str) -> Result<(), Failure> {
    if valid_name(name) {
        return Ok(());
    }
    Err(invalid(format!("`{}` is not a valid server name", excerpt(name))).with_hint(
        "use 1 to 64 letters, digits, `-`, `_` or `.`, beginning with a letter or a digit",
    ))
}

pub(super) fn check_labels(labels: &BTreeMap<String, String>) -> Result<(), Failure> {
    if labels.len() > LABELS {
        return Err(invalid(format!(
            "{} labels were given, at most {LABELS} are allowed",
            labels.len()
        )));
    }
    match labels.iter().find(|(key, value)| !valid_label(key, value)) {
        Some((key, _)) => Err(invalid(format!("the label `{}` is not valid", excerpt(key)))),
        None => Ok(()),
    }
}

/// Checks that a workspace may have one more server.
pub(super) fn check_server_count(servers: i64) -> Result<(), Failure> {
    if servers < MAX_SERVERS {
        return Ok(());
    }
    Err(Failure::new(
        Kind::TooLarge,
        format!("the workspace already has {MAX_SERVERS} servers, the maximum"),
    ))
}

/// Checks that a workspace may have one more token, of this lifetime in seconds.
pub(super) fn check_token(lifetime: u32, enrollments: i64) -> Result<(), Failure> {
    if lifetime == 0 || lifetime > MAX_TOKEN_LIFETIME {
        return Err(invalid("the lifetime of a token must be from 1 second to 7 days"));
    }
    if enrollments < MAX_ENROLLMENTS {
        return Ok(());
    }
    let message = format!("the workspace already has {MAX_ENROLLMENTS} tokens, the maximum");
    Err(Failure::new(Kind::TooLarge, message).with_hint(
        "the relay forgets a token a week after it expired, or when its server is removed",
    ))
}

/// Applies an update to a record.
pub(super) fn apply_update<'a>(
    record: Record,
    suspended: bool,
    update: &'a ServerUpdate,
) -> Result<ServerFields<'a>, Failure> {
    let name = update.rename.as_ref().unwrap_or(&update.name);
    let mut labels = record.labels;
    labels.extend(update.set.clone().unwrap_or_default());
    for key in update.unset.iter().flatten() {
        labels.remove(key);
    }
    check_name(name)?;
    check_labels(&labels)?;
    Ok(ServerFields { name, labels, suspended: update.suspended.unwrap_or(suspended) })
}

/// Decides whether an invite makes a workspace for a device with the key `kt`, which has
/// `workspace` already or not. Returns the workspace that it made before, if this device used it.
pub(super) fn redeem(
    invite: Option<KeptInvite>,
    kt: Kt,
    workspace: Option<WorkspaceId>,
    now: i64,
) -> Result<Option<WorkspaceId>, Failure> {
    let unusable = |message| Failure::new(Kind::InviteUsed, message);
    let invite = invite.ok_or_else(|| unusable("the relay knows no such invite"))?;
    match invite.used_by {
        Some(user) if user == kt && workspace.is_some() => Ok(workspace),
        Some(_) => Err(unusable("the invite has already been used")),
        None if invite.expires < now => Err(unusable("the invite has expired")),
        None if workspace.is_some() => Err(has_workspace()),
        None => Ok(None),
    }
}

/// Decides whether a bundle may replace the known one of its identity. Returns whether its `KT` is
/// proven.
pub(super) fn succeed(
    known: Option<&KnownIdentity>,
    bundle: &SignedBundle,
    source: BundleSource,
) -> Result<bool, Failure> {
    let by_owner = source == BundleSource::Owner;
    let Some(known) = known else { return Ok(by_owner) };
    let old = SignedBundle::decode(&known.bundle)
        .map_err(|_| denial("the relay's record of this identity is damaged"))?;
    if known.bundle != bundle.encode() && !bundle.succeeds(&old) {
        return Err(denial("the relay knows newer keys of this identity")
            .with_hint("was the directory with the keys restored or copied? use the newest copy"));
    }
    Ok(by_owner || (known.proven && old.kt == bundle.kt))
}

/// Returns how far an enrollment with this many requests has come.
pub(super) fn mail_state(enrollment: &KeptEnrollment, requests: i64, now: i64) -> MailState {
    match enrollment {
        KeptEnrollment { answered: Some(_), .. } => MailState::Answered,
        _ if requests > 0 => MailState::Waiting,
        KeptEnrollment { expires, .. } if *expires < now => MailState::Expired,
        _ => MailState::Open,
    }
}

/// Decides what becomes of a request to an enrollment that has `requests` already. `known` says
/// whether the same bytes are among them, and whether they came late.
pub(super) fn file_request(
    enrollment: &KeptEnrollment,
    known: Option<bool>,
    requests: i64,
    now: i64,
) -> Result<Filing, Failure> {
    let workspace = enrollment.workspace;
    if let Some(late) = known {
        return Ok(Filing::Known(StoredRequest { workspace, late }));
    }
    if mail_state(enrollment, requests, now) == MailState::Expired {
        return Err(Failure::new(Kind::TokenExpired, "the token has expired"));
    }
    if requests >= i64::try_from(MAIL_BLOBS).unwrap_or(i64::MAX) {
        return Err(Failure::new(Kind::TokenUsed, "several other servers have used the token"));
    }
    Ok(Filing::New(StoredRequest { workspace, late: enrollment.answered.is_some() }))
}

/// Checks the size of a request or an answer.
pub(super) fn check_mail_size(what: &str, blob: &[u8]) -> Result<(), Failure> {
    if blob.len() <= MAIL_LIMIT {
        return Ok(());
    }
    Err(Failure::new(Kind::TooLarge, format!("an enrollment {what} is at most 16 KiB")))
}

/// Checks that an answer, and the bundle that it accepts, are those that were given before, if any
/// were. `bundle` is the SHA-256 of the bundle.
pub(super) fn check_answer(
    previous: Option<&KeptAnswer>,
    blob: &[u8],
    bundle: &[u8],
) -> Result<(), Failure> {
    let same = previous.is_none_or(|previous| {
        previous.blob == blob && previous.bundle.as_ref().is_none_or(|known| known == bundle)
    });
    if same {
        return Ok(());
    }
    Err(Failure::new(Kind::TokenUsed, "the enrollment has already been answered"))
}

/// Checks that a workspace may bind this agent to a record. The agent's own bundle names the
/// workspace that it lets in, and a record of another workspace keeps its agent: nobody takes or
/// reserves the agents of others.
pub(super) fn check_binding(
    genesis: &[u8],
    agent: &SignedBundle,
    bound_elsewhere: bool,
) -> Result<(), Failure> {
    if bound_elsewhere {
        let message = "this agent belongs to another workspace";
        return Err(Failure::new(Kind::AlreadyEnrolled, message));
    }
    if agent.trust_domain != TrustDomain::NONE && agent.trust_domain != trust_domain(genesis) {
        return Err(invalid("the agent's bundle names another workspace"));
    }
    Ok(())
}

pub(super) fn denial(message: &str) -> Failure {
    Failure::new(Kind::RelayDenied, message)
}

fn invalid(message: impl Into<String>) -> Failure {
    Failure::new(Kind::InvalidArgument, message)
}

pub(super) fn has_workspace() -> Failure {
    denial("this device already has a workspace on this relay")
}

pub(super) fn key_of_another() -> Failure {
    denial("another identity uses the same TLS key").with_hint(
        "was the directory with the keys copied? run `farwire init` or `farwire-agent enroll` in a new one",
    )
}

pub(super) fn unknown_server(name: &str) -> Failure {
    let message = format!("the relay has no server called `{}`", excerpt(name));
    Failure::new(Kind::UnknownServer, message)
}

pub(super) fn unknown_agent() -> Failure {
    denial("the relay has no record of this agent")
        .with_hint("it was removed: `farwire-agent leave`, then enroll it with a new token")
}

pub(super) fn name_taken(name: &str) -> Failure {
    let message = format!("a server called `{}` already exists", excerpt(name));
    Failure::new(Kind::NameTaken, message)
}

pub(super) fn enrollment_taken() -> Failure {
    invalid("there is an enrollment with this id already")
        .with_hint("make a new token: its id is random")
}

pub(super) fn unknown_enrollment() -> Failure {
    Failure::new(Kind::TokenUnknown, "the relay knows no such enrollment")
}

/// Shortens and escapes a peer's text for a message to that peer: at most as long as a name may be.
fn excerpt(text: &str) -> String {
    let mut excerpt: String = text.chars().take(64).flat_map(char::escape_default).collect();
    if text.chars().nth(64).is_some() {
        excerpt.push('…');
    }
    excerpt
}

#[cfg(test)]
mod tests;
