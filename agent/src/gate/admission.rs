//! Who may be here: one decision, made at the handshake and repeated for as long as a link lives.
//!
//! Files that cannot be read admit nobody. `lockout.rs` repeats the decision.

use farwire_keystore::Device;
use farwire_protocol::bundle::SignedBundle;
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::id::Kind as IdKind;

/// Whether the holder of `bundle` may be here, according to the agent's files about that device.
pub(crate) fn admit(
    known: Result<Option<Device>, Failure>,
    bundle: &SignedBundle,
) -> Result<Device, Failure> {
    let device = known?.ok_or_else(|| {
        let device = bundle.id.fingerprint(IdKind::Device);
        Failure::new(Kind::NotAuthorized, format!("device {device} is not authorized here"))
    })?;
    if !bundle.succeeds(&device.bundle) {
        return Err(Failure::new(
            Kind::NotAuthorized,
            "the server knows newer keys of this device",
        ));
    }
    Ok(device)
}

/// The failure of a stream that ends because its device may not stay.
pub(crate) fn locked_out(why: &Failure) -> Failure {
    let message = match why.kind {
        Kind::NotAuthorized => "this device was locked out of the server".to_owned(),
        _ => format!(
            "the server cannot tell whether this device is still authorized: {}",
            why.message
        ),
    };
    Failure::new(Kind::NotAuthorized, message).with_hint(
        "what it started there goes on; `farwire-agent device add` on the server authorizes it again",
    )
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::SigningKey;
    use farwire_keystore::AddedBy;
    use farwire_protocol::bundle::Bundle;
    use farwire_protocol::id::{Id, Kn, Kt, TrustDomain};

    use super::*;

    fn bundle(seq: u64) -> SignedBundle {
        let key = SigningKey::from_bytes(&[1; 32]);
        let bundle = Bundle {
            version: farwire_protocol::bundle::VERSION,
            kind: IdKind::Device,
            id: Id(key.verifying_key().to_bytes()),
            kn: Kn([9; 32]),
            kt: Kt(SigningKey::from_bytes(&[2; 32]).verifying_key().to_bytes()),
            kd: None,
            seq,
            not_before: 0,
            handshake: 1,
            trust_domain: TrustDomain::NONE,
        };
        bundle.sign(&key)
    }

    fn device(name: &str, seq: u64) -> Device {
        Device { name: name.to_owned(), bundle: bundle(seq), added: 0, how: AddedBy::ByHand }
    }

    #[test]
    fn only_a_device_whose_file_is_there_and_not_newer_may_be_here() {
        let kind = |known, seq| admit(known, &bundle(seq)).map_err(|failure| failure.kind);
        assert!(kind(Ok(Some(device("laptop", 2))), 2).is_ok());
        assert!(kind(Ok(Some(device("renamed", 2))), 2).is_ok(), "a name decides nothing");
        assert!(kind(Ok(Some(device("laptop", 2))), 3).is_ok(), "a newer bundle");
        assert_eq!(kind(Ok(Some(device("laptop", 3))), 2).unwrap_err(), Kind::NotAuthorized);
        assert_eq!(kind(Ok(None), 2).unwrap_err(), Kind::NotAuthorized);
        let damaged = Failure::new(Kind::KeystoreCorrupt, "damaged");
        assert_eq!(kind(Err(damaged), 2).unwrap_err(), Kind::KeystoreCorrupt, "fails closed");
    }

    #[test]
    fn who_is_locked_out_is_told_so_and_that_programs_go_on() {
        for kind in [Kind::NotAuthorized, Kind::KeystoreCorrupt, Kind::Io] {
            let told = locked_out(&Failure::new(kind, "some reason"));
            assert_eq!(told.kind, Kind::NotAuthorized);
            assert!(told.hint().contains("goes on"), "{told}");
        }
    }
}
