//! Who may connect: the proof in HELLO, the bundle, and what the store says about its owner.
//!
//! All proofs are checked first, and the store is only read until it is known who somebody is: a
//! program that is not let in has changed nothing.

use farwire_protocol::bundle::SignedBundle;
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::genesis::Genesis;
use farwire_protocol::id::{Id, Kind as IdKind, Kt, Nonce};
use farwire_protocol::outer::{Hello, Role, hello_text};

use crate::store::{Founding, Store};
use crate::workspace::{Enrolling, Member, WorkspaceId};

/// What helps a program whose keys do not belong together.
const RESTORE: &str = "restore it from a backup";

/// As whom a program was let in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Admitted {
    Device(Member),
    Agent { id: Id, instance: Nonce, workspace: WorkspaceId },
    Enrolling(Enrolling),
}

impl Admitted {
    /// Returns the workspace that pays for what the program does.
    pub(crate) fn workspace(self) -> WorkspaceId {
        match self {
            Self::Device(member) => member.workspace,
            Self::Agent { workspace, .. } => workspace,
            Self::Enrolling(enrolling) => enrolling.workspace,
        }
    }
}

/// What a TLS handshake has proven.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Proven {
    /// The key that the peer holds.
    pub(crate) key: Kt,
    /// What binds a signature to this connection.
    pub(crate) exporter: [u8; 32],
}

/// Checks a HELLO that came over a connection.
pub(crate) async fn admit(
    store: &dyn Store,
    proven: &Proven,
    hello: &Hello,
) -> Result<Admitted, Failure> {
    let bundle = check_proof(proven, hello)?;
    match hello.role {
        Role::Device => admit_device(store, &bundle, hello).await,
        Role::Agent => {
            let workspace = store.server_of_agent(bundle.id).await?.workspace;
            store.admit_agent(&bundle, workspace).await?;
            Ok(Admitted::Agent { id: bundle.id, instance: hello.instance, workspace })
        }
        Role::Enrolling => {
            let enrollment =
                hello.enrollment.ok_or_else(|| denial("the HELLO names no enrollment"))?;
            let workspace = store.enrollment_workspace(enrollment).await?.ok_or_else(|| {
                Failure::new(
                    Kind::TokenUnknown,
                    "the relay does not know this token, or has forgotten it",
                )
            })?;
            Ok(Admitted::Enrolling(Enrolling { enrollment, workspace }))
        }
    }
}

/// Checks that the bundle fits the role and that its owner holds its `KT`, on this very connection.
fn check_proof(proven: &Proven, hello: &Hello) -> Result<SignedBundle, Failure> {
    let (wanted, whose) = match hello.role {
        Role::Device => (IdKind::Device, "device"),
        Role::Agent | Role::Enrolling => (IdKind::Agent, "agent"),
    };
    let bundle = SignedBundle::decode_kind(&hello.bundle, wanted).map_err(|error| {
        let text = format!("the {whose}'s identity is damaged");
        Failure::caused(Kind::RelayDenied, text, &error).with_hint(RESTORE)
    })?;
    if bundle.kt != proven.key {
        let text = format!(
            "the {whose}'s identity is damaged: its bundle and its connection have different TLS keys"
        );
        return Err(denial(text).with_hint(RESTORE));
    }
    let key = Id(proven.key.0).verifying().ok_or_else(|| denial("the TLS key is weak"))?;
    let signature = ed25519_dalek::Signature::from_bytes(&hello.proof.0);
    key.verify_strict(&hello_text(&proven.exporter), &signature)
        .map_err(|_| denial("the proof in HELLO does not verify"))?;
    Ok(bundle)
}

async fn admit_device(
    store: &dyn Store,
    bundle: &SignedBundle,
    hello: &Hello,
) -> Result<Admitted, Failure> {
    let id = bundle.id;
    let (Some(invite), Some(genesis)) = (&hello.invite, &hello.genesis) else {
        let workspace = store.admit_device(bundle).await?.ok_or_else(|| {
            denial("the relay does not know this device")
                .with_hint("`farwire init --relay -` with an invite creates a workspace for it")
        })?;
        return Ok(Admitted::Device(Member { id, workspace }));
    };
    let event = Genesis::decode(genesis).map_err(|error| denial(error.to_string()))?;
    let founder =
        SignedBundle::decode(&event.device).map_err(|_| denial("the genesis event is damaged"))?;
    if founder.id != id {
        return Err(denial("the genesis event is of another device"));
    }
    let founding = Founding { device: bundle, invite, genesis };
    let workspace = store.found_workspace(founding).await?;
    Ok(Admitted::Device(Member { id, workspace }))
}

fn denial(message: impl Into<String>) -> Failure {
    Failure::new(Kind::RelayDenied, message)
}

#[cfg(test)]
mod tests;
