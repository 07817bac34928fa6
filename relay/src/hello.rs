//! Who may connect: the proof in HELLO, the bundle, and the books.
//!
//! All proofs come first, and the books are only read until it is known who somebody is: whoever is not let
//! in has changed nothing.

use farwire_link::outer::listen::Arrival;
use farwire_protocol::bundle::SignedBundle;
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::genesis::Genesis;
use farwire_protocol::id::{Id, Kind as IdKind, Nonce};
use farwire_protocol::outer::{Hello, Role, hello_text};

use crate::store::{Founding, Store, WorkspaceId};

/// As what somebody has been let in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Admitted {
    Device { id: Id, workspace: WorkspaceId },
    Agent { id: Id, instance: Nonce, workspace: WorkspaceId },
    Enrolling { enrollment: Nonce, workspace: WorkspaceId },
}

fn denied(message: impl Into<String>) -> Failure {
    Failure::new(Kind::RelayDenied, message)
}

impl Admitted {
    /// To whose account it goes what they do.
    pub(crate) fn workspace(self) -> WorkspaceId {
        match self {
            Self::Device { workspace, .. }
            | Self::Agent { workspace, .. }
            | Self::Enrolling { workspace, .. } => workspace,
        }
    }
}

/// Checks a HELLO. What it claims is bound to this connection by the key of its TLS.
pub(crate) async fn admit(
    store: &dyn Store,
    arrival: &Arrival,
    hello: &Hello,
) -> Result<Admitted, Failure> {
    let wanted = match hello.role {
        Role::Device => IdKind::Device,
        Role::Agent | Role::Enrolling => IdKind::Agent,
    };
    let bundle = SignedBundle::decode_kind(&hello.bundle, wanted)
        .map_err(|error| Failure::caused(Kind::RelayDenied, "the bundle is refused", &error))?;
    if bundle.kt != arrival.key {
        return Err(denied("the bundle names another TLS key than this connection's"));
    }
    let key = Id(arrival.key.0).verifying().ok_or_else(|| denied("a weak TLS key"))?;
    let proof = ed25519_dalek::Signature::from_bytes(&hello.proof.0);
    key.verify_strict(&hello_text(&arrival.exporter), &proof)
        .map_err(|_| denied("the proof is not for this connection"))?;
    match hello.role {
        Role::Device => device(store, &bundle, hello).await,
        Role::Agent => {
            let workspace = store.server_of_agent(bundle.id).await?.workspace;
            store.admit_agent(&bundle, workspace).await?;
            Ok(Admitted::Agent { id: bundle.id, instance: hello.instance, workspace })
        }
        Role::Enrolling => {
            let enrollment = hello.enrollment.ok_or_else(|| denied("no enrollment is named"))?;
            let workspace = store.enrollment_workspace(enrollment).await?.ok_or_else(|| {
                let message = "the relay knows no such token, or no longer";
                Failure::new(Kind::TokenUnknown, message)
            })?;
            Ok(Admitted::Enrolling { enrollment, workspace })
        }
    }
}

async fn device(
    store: &dyn Store,
    bundle: &SignedBundle,
    hello: &Hello,
) -> Result<Admitted, Failure> {
    let id = bundle.id;
    let (Some(invite), Some(genesis)) = (&hello.invite, &hello.genesis) else {
        let workspace = store.admit_device(bundle).await?;
        let workspace = workspace.ok_or_else(|| {
            denied("the relay does not know this device")
                .with_hint("`farwire init --relay -` with an invite makes a workspace for it")
        })?;
        return Ok(Admitted::Device { id, workspace });
    };
    let event = Genesis::decode(genesis).map_err(|error| denied(error.to_string()))?;
    let founder = SignedBundle::decode(&event.device).map_err(|_| denied("a damaged genesis"))?;
    if founder.id != id {
        return Err(denied("the genesis is another device's"));
    }
    Ok(Admitted::Device {
        id,
        workspace: store.found_workspace(Founding { device: bundle, invite, genesis }).await?,
    })
}
