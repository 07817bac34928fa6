//! Decides whether a bundle may be stored: it is valid, newer than any that we have seen, and
//! shares no key with another identity.
//!
//! The highest sequence number of an `ID` is remembered even after its pin or device was removed:
//! an old bundle names keys that may have been replaced because they leaked.

use farwire_protocol::bundle::{Bundle, BundleError, SignedBundle};
use farwire_protocol::cbor::{self, Blob};
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::id::Id;
use farwire_protocol::signed::Signed;
use minicbor::{Decode, Encode};
use sha2::{Digest as _, Sha256};

use crate::dir::Dir;
use crate::fault::{Damage, FileError};
use crate::file::{self, FileBody, Format};
use crate::identity;
use crate::lock::Guard;

/// The file of removed identities.
const RETIRED: &str = "retired";

/// At most this many removed identities are remembered; then the oldest are forgotten.
const MOST_RETIRED: usize = 4096;

/// Why a bundle is refused.
#[derive(Debug, thiserror::Error)]
pub enum BundleRefused {
    /// The bundle is invalid, or of the wrong kind.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// A newer bundle of the same identity has been seen.
    #[error("the bundle has sequence number {offered}, but {known} is known")]
    Older {
        /// The highest number that we have seen.
        known: u64,
        /// The number of this bundle.
        offered: u64,
    },
    /// The same identity has signed two different bundles with one number.
    #[error("another bundle with sequence number {0} is known")]
    Forked(u64),
    /// Another identity holds one of its keys.
    #[error("it shares a key with `{holder}`")]
    SharedKey {
        /// The local name of the identity that holds the key.
        holder: String,
    },
}

impl From<BundleRefused> for Failure {
    fn from(refused: BundleRefused) -> Self {
        match refused {
            BundleRefused::Bundle(error @ BundleError::WrongKind { .. }) => {
                Self::new(Kind::WrongKeyKind, error.to_string())
            }
            BundleRefused::Bundle(error) => {
                Self::caused(Kind::InvalidArgument, "the bundle is invalid", &error)
            }
            BundleRefused::Older { .. } | BundleRefused::Forked(_) => {
                Self::new(Kind::InvalidArgument, refused.to_string()).with_hint(
                    "use the bundle that the other side shows now, not a copy of an old one",
                )
            }
            BundleRefused::SharedKey { .. } => {
                Self::new(Kind::InvalidArgument, refused.to_string()).with_hint(
                    "two identities never share a key: one of them is not what it claims to be",
                )
            }
        }
    }
}

/// A bundle that has been seen: its identity, sequence number and hash.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(map)]
pub(crate) struct Mark {
    #[n(0)]
    id: Id,
    #[n(1)]
    seq: u64,
    #[n(2)]
    digest: Blob,
}

impl Mark {
    pub(crate) fn of(bundle: &SignedBundle) -> Self {
        let digest = Blob(Sha256::digest(bundle.encode()).to_vec());
        Self { id: bundle.id, seq: bundle.seq, digest }
    }

    /// Checks that `offered` is newer than the seen bundle, or identical to it.
    pub(crate) fn admits(&self, offered: &SignedBundle) -> Result<(), BundleRefused> {
        if offered.seq < self.seq {
            return Err(BundleRefused::Older { known: self.seq, offered: offered.seq });
        }
        if offered.seq == self.seq && Self::of(offered) != *self {
            return Err(BundleRefused::Forked(self.seq));
        }
        Ok(())
    }
}

/// Checks that none of `others` with another identity holds a key of `offered`.
pub(crate) fn check_unshared<'a>(
    offered: &Bundle,
    others: impl IntoIterator<Item = (&'a str, &'a Bundle)>,
) -> Result<(), BundleRefused> {
    let ours = keys(offered);
    for (name, other) in others {
        if other.id != offered.id && keys(other).any(|key| ours.clone().any(|our| our == key)) {
            return Err(BundleRefused::SharedKey { holder: name.to_owned() });
        }
    }
    Ok(())
}

fn keys(bundle: &Bundle) -> impl Iterator<Item = [u8; 32]> + Clone + use<> {
    let Bundle { id, kn, kt, kd, .. } = bundle;
    [Some(id.0), Some(kn.0), Some(kt.0), kd.map(|kd| kd.0)].into_iter().flatten()
}

/// Checks that `offered` neither has our own identity nor shares a key with it.
pub(crate) fn check_foreign(
    dir: &Dir,
    offered: &Bundle,
) -> Result<Result<(), BundleRefused>, FileError> {
    const SELF: &str = "this installation";
    let Some(own) = identity::bundle(dir)? else { return Ok(Ok(())) };
    if own.id == offered.id {
        return Ok(Err(BundleRefused::SharedKey { holder: SELF.to_owned() }));
    }
    Ok(check_unshared(offered, [(SELF, &*own)]))
}

/// Decodes a bundle from one of our own files without verifying its signature. The result is only
/// good for comparing keys.
pub(crate) fn decode_unverified(bytes: &[u8]) -> Result<Bundle, cbor::Error> {
    let signed: Signed = cbor::decode(bytes, farwire_protocol::bundle::LIMIT)?;
    cbor::decode(&signed.bytes, farwire_protocol::bundle::LIMIT)
}

/// The marks of identities that were removed here, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Retired(Vec<Mark>);

impl FileBody for Retired {
    const FORMAT: Format = Format { kind: "retired", version: 1, limit: 512 * 1024 };

    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&cbor::encode(&self.0));
    }

    fn read(body: &[u8]) -> Result<Self, Damage> {
        let marks: Vec<Mark> = cbor::decode(body, Self::FORMAT.limit)?;
        Ok(Self(marks))
    }
}

impl Retired {
    pub(crate) fn load(dir: &Dir) -> Result<Self, FileError> {
        Ok(file::load(dir, RETIRED)?.unwrap_or_default())
    }

    /// Checks that `offered` is not older than the bundle that its identity had when it was
    /// removed.
    pub(crate) fn admits(&self, offered: &SignedBundle) -> Result<(), BundleRefused> {
        self.0.iter().find(|mark| mark.id == offered.id).map_or(Ok(()), |mark| mark.admits(offered))
    }

    /// Remembers the last bundle of an identity that is removed.
    pub(crate) fn remember(
        mut self,
        dir: &Dir,
        guard: &Guard,
        bundle: &SignedBundle,
    ) -> Result<(), FileError> {
        self.0.retain(|mark| mark.id != bundle.id);
        self.0.push(Mark::of(bundle));
        self.0.drain(..self.0.len().saturating_sub(MOST_RETIRED));
        file::save(dir, guard, RETIRED, &self)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use ed25519_dalek::SigningKey;
    use farwire_protocol::id::{Kind as Of, Kn, Kt, TrustDomain};

    use super::*;
    use crate::file::tests::check_damage;
    use crate::lock::{self, STATE};

    /// A bundle of an identity made from `seed`, with this number.
    pub(crate) fn bundle(seed: u8, kind: Of, seq: u64) -> SignedBundle {
        changed(seed, kind, |bundle| bundle.seq = seq)
    }

    /// As [`bundle`], with `change` applied before it is signed.
    pub(crate) fn changed(seed: u8, kind: Of, change: impl Fn(&mut Bundle)) -> SignedBundle {
        let key = SigningKey::from_bytes(&[seed; 32]);
        let kt = SigningKey::from_bytes(&[seed ^ 0x80; 32]);
        let mut bundle = Bundle {
            version: farwire_protocol::bundle::VERSION,
            kind,
            id: Id(key.verifying_key().to_bytes()),
            kn: Kn([seed.wrapping_add(9); 32]),
            kt: Kt(kt.verifying_key().to_bytes()),
            kd: None,
            seq: 1,
            not_before: 0,
            handshake: 1,
            trust_domain: TrustDomain([2; 32]),
        };
        change(&mut bundle);
        bundle.sign(&key)
    }

    #[test]
    fn only_a_newer_bundle_or_the_very_same_follows() {
        let mark = Mark::of(&bundle(1, Of::Agent, 5));
        mark.admits(&bundle(1, Of::Agent, 5)).unwrap();
        mark.admits(&bundle(1, Of::Agent, 6)).unwrap();
        let older = mark.admits(&bundle(1, Of::Agent, 4));
        assert!(matches!(older, Err(BundleRefused::Older { known: 5, offered: 4 })));
        let other = changed(1, Of::Agent, |bundle| {
            bundle.seq = 5;
            bundle.not_before = 1;
        });
        assert!(matches!(mark.admits(&other), Err(BundleRefused::Forked(5))));
    }

    #[test]
    fn a_key_of_another_identity_is_refused_whatever_its_use() {
        let held = bundle(1, Of::Agent, 1);
        let others = || [("web-1", &*held)];
        check_unshared(&bundle(2, Of::Agent, 1), others()).unwrap();
        check_unshared(&bundle(1, Of::Agent, 2), others()).unwrap();
        let take: [fn(&mut Bundle, &Bundle); 3] = [
            |mine, held| mine.kn = held.kn,
            |mine, held| mine.kt = held.kt,
            |mine, held| mine.kt = Kt(held.id.0),
        ];
        for take in take {
            let thief = changed(2, Of::Agent, |bundle| take(bundle, &held));
            let refused = check_unshared(&thief, others()).unwrap_err();
            assert!(refused.to_string().contains("web-1"), "{refused}");
        }
    }

    #[test]
    fn what_was_removed_is_remembered_up_to_a_limit() {
        let temp = tempfile::tempdir().unwrap();
        let dir = Dir::create(&temp.path().join("home")).unwrap();
        let guard = lock::acquire(&dir, STATE).unwrap();
        let gone = bundle(1, Of::Agent, 5);
        Retired::load(&dir).unwrap().remember(&dir, &guard, &gone).unwrap();
        Retired::load(&dir).unwrap().remember(&dir, &guard, &gone).unwrap();
        let retired = Retired::load(&dir).unwrap();
        assert_eq!(retired.0.len(), 1);
        assert!(retired.admits(&bundle(1, Of::Agent, 4)).is_err());
        retired.admits(&bundle(2, Of::Agent, 4)).unwrap();
        let many = Retired(
            (0..MOST_RETIRED)
                .map(|at| {
                    let mut id = [0; 32];
                    id[..8].copy_from_slice(&at.to_be_bytes());
                    Mark { id: Id(id), ..Mark::of(&gone) }
                })
                .collect(),
        );
        many.remember(&dir, &guard, &gone).unwrap();
        let retired = Retired::load(&dir).unwrap();
        assert_eq!(retired.0.len(), MOST_RETIRED);
        assert!(retired.admits(&bundle(1, Of::Agent, 4)).is_err(), "the newest is kept");
    }

    #[test]
    fn damage_to_the_memory_is_noticed() {
        let temp = tempfile::tempdir().unwrap();
        let dir = Dir::create(&temp.path().join("home")).unwrap();
        let guard = lock::acquire(&dir, STATE).unwrap();
        Retired::default().remember(&dir, &guard, &bundle(1, Of::Agent, 5)).unwrap();
        check_damage(&dir.file_path(RETIRED), || Ok(Retired::load(&dir).map(drop)?));
    }

    #[test]
    fn any_memory_is_read_without_a_panic() {
        bolero::check!().for_each(|bytes: &[u8]| {
            let _ = Retired::read(bytes);
            let _ = decode_unverified(bytes);
        });
    }
}
