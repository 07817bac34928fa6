//! Enrollment: the messages between agent and inviter through the relay's mailbox.
//!
//! ```text
//! blob = salt [32] ‖ ChaCha20-Poly1305(key, nonce 0, aad empty, text)
//! key  = HKDF-SHA256(salt, secret, LP("farwire/enroll/1") ‖ "req" or "resp" ‖ hash of the token)
//! ```
//!
//! The secret of the token authenticates both directions, so that neither the relay nor the network
//! can substitute a key of its own. The answer is also signed, by a key that the inviter's `ID`
//! delegated to this one enrollment when it minted the token: a process that holds that key can
//! answer it without `ID`. No content of a blob needs secrecy once the token leaks.

use chacha20poly1305::aead::{AeadInOut as _, KeyInit as _};
use chacha20poly1305::{ChaCha20Poly1305, Nonce as CipherNonce};
use ed25519_dalek::SigningKey;
use hkdf::Hkdf;
use minicbor::{Decode, Encode};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::bundle::{BundleError, SignedBundle};
use crate::cbor::{self, Blob};
use crate::id::{Id, Kind, Nonce, Surf};
use crate::lp;
use crate::outer::MAIL_LIMIT;
use crate::peer;
use crate::signed::Signed;
use crate::token::Token;

const ANSWER_LABEL: &str = "farwire-sig-v1/enroll-answer";
const DELEGATION_LABEL: &str = "farwire-sig-v1/enroll-delegation";
const SALT: usize = 32;
const TAG: usize = 16;

/// The direction of a blob.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Way {
    /// From the agent to the inviter.
    Request,
    /// From the inviter to the agent.
    Answer,
}

/// The agent's request.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(map)]
pub struct Request {
    /// The agent's signed bundle.
    #[n(0)]
    pub bundle: Blob,
    /// The enrollment.
    #[n(1)]
    pub enrollment: Nonce,
    /// The self-reported host name; for people.
    #[n(2)]
    pub hostname: String,
    /// The self-reported operating system and architecture; for people.
    #[n(3)]
    pub os: String,
    /// 16 random bytes.
    #[n(4)]
    pub nonce: Nonce,
}

/// The inviter's answer.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(map)]
pub struct EnrollAnswer {
    /// SHA-256 of the sealed request that was accepted.
    #[n(0)]
    pub request: Blob,
    /// The agent that was accepted.
    #[n(1)]
    pub agent: Id,
    /// The signed bundle of the device that is authorised from now on.
    #[n(2)]
    pub device: Blob,
    /// The name of the server.
    #[n(3)]
    pub name: String,
    /// The name of the device.
    #[n(4)]
    pub device_name: String,
}

/// "Whoever holds this key may answer this enrollment for me", signed by the inviter's `ID`.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(map)]
pub struct AnswerDelegation {
    /// The inviter.
    #[n(0)]
    pub inviter: Id,
    /// The enrollment.
    #[n(1)]
    pub enrollment: Nonce,
    /// The hash of the token.
    #[n(2)]
    pub token: Blob,
    /// The key.
    #[n(3)]
    pub key: Surf,
}

/// A signed answer with the proof that its signer may answer.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(map)]
struct SignedAnswer {
    #[n(0)]
    delegation: Signed,
    #[n(1)]
    answer: Signed,
}

/// Why enrollment mail is refused.
#[derive(Debug, thiserror::Error)]
pub enum BadMail {
    /// The blob was not sealed with this token's secret, or was altered.
    #[error("it was not sealed with this token")]
    Unauthentic,
    /// The blob is authentic, but its content does not decode.
    #[error("malformed enrollment mail")]
    Malformed(#[from] cbor::Error),
    /// The agent's or the device's bundle is invalid.
    #[error("the bundle in it is invalid")]
    Bundle(#[from] BundleError),
    /// The answer is not signed by the inviter of the token, or is for another enrollment.
    #[error("it is not signed by the device that created the token")]
    NotTheInviter,
    /// The answer is to another request than ours.
    #[error("another request was accepted")]
    AnotherRequest,
    /// The operating system's random number generator failed.
    #[error("cannot get random numbers")]
    Random,
}

impl BadMail {
    /// Whether the error proves that the inviter sent the mail. All other mail may come from the
    /// relay, from somebody who has the token, or from damage in transit, and says nothing about
    /// the enrollment.
    pub const fn is_from_inviter(&self) -> bool {
        matches!(self, Self::AnotherRequest)
    }
}

fn key(token: &Token, way: Way, salt: &[u8]) -> ChaCha20Poly1305 {
    let mut info = lp::join(&[b"farwire/enroll/1"]);
    info.extend_from_slice(match way {
        Way::Request => b"req",
        Way::Answer => b"resp",
    });
    info.extend_from_slice(&token.hash());
    let mut key = Zeroizing::new([0; 32]);
    Hkdf::<Sha256>::new(Some(salt), &*token.secret)
        .expand(&info, &mut *key)
        .expect("32 bytes are in range");
    ChaCha20Poly1305::new((&*key).into())
}

fn seal(token: &Token, way: Way, text: &[u8]) -> Result<Vec<u8>, BadMail> {
    let mut blob = vec![0; SALT];
    getrandom::fill(&mut blob).map_err(|_| BadMail::Random)?;
    let cipher = key(token, way, &blob);
    blob.extend_from_slice(text);
    let tag = cipher
        .encrypt_inout_detached(&CipherNonce::from([0; 12]), b"", (&mut blob[SALT..]).into())
        .expect("mail is far below the cipher's limit");
    blob.extend_from_slice(&tag);
    Ok(blob)
}

fn open(token: &Token, way: Way, blob: &[u8]) -> Result<Vec<u8>, BadMail> {
    if blob.len() < SALT + TAG || blob.len() > MAIL_LIMIT {
        return Err(BadMail::Unauthentic);
    }
    let (salt, sealed) = blob.split_at(SALT);
    let (text, tag) = sealed.split_last_chunk::<TAG>().ok_or(BadMail::Unauthentic)?;
    let mut text = text.to_vec();
    key(token, way, salt)
        .decrypt_inout_detached(
            &CipherNonce::from([0; 12]),
            b"",
            text.as_mut_slice().into(),
            &(*tag).into(),
        )
        .map_err(|_| BadMail::Unauthentic)?;
    Ok(text)
}

/// The SHA-256 of a sealed blob, which names the request in its answer.
pub fn blob_hash(blob: &[u8]) -> [u8; 32] {
    Sha256::digest(blob).into()
}

impl Request {
    /// Seals the request. Do this once and store the bytes: sealing again makes another request.
    pub fn seal(&self, token: &Token) -> Result<Vec<u8>, BadMail> {
        seal(token, Way::Request, &cbor::encode(self))
    }

    /// Opens a request and checks the bundle in it, which must be an agent's, of this trust domain.
    pub fn open(token: &Token, blob: &[u8]) -> Result<(Self, SignedBundle), BadMail> {
        let text = open(token, Way::Request, blob)?;
        let request: Self = peer::decode(&text, MAIL_LIMIT)?;
        let bundle = SignedBundle::decode_kind(&request.bundle, Kind::Agent)?;
        if request.enrollment != token.enrollment || bundle.trust_domain != token.trust_domain {
            return Err(BadMail::Unauthentic);
        }
        Ok((request, bundle))
    }
}

impl AnswerDelegation {
    /// Authorises `key` to answer this token, signed by the inviter's `ID`.
    pub fn sign(token: &Token, key: Surf, id: &SigningKey) -> Vec<u8> {
        let delegation = Self {
            inviter: token.inviter,
            enrollment: token.enrollment,
            token: Blob(token.hash().to_vec()),
            key,
        };
        cbor::encode(&Signed::new(DELEGATION_LABEL, cbor::encode(&delegation), id))
    }
}

impl EnrollAnswer {
    /// Signs the answer with the delegated key, and seals it.
    pub fn seal(
        &self,
        token: &Token,
        delegation: &[u8],
        key: &SigningKey,
    ) -> Result<Vec<u8>, BadMail> {
        let delegation = cbor::decode(delegation, MAIL_LIMIT)?;
        let answer = Signed::new(ANSWER_LABEL, cbor::encode(self), key);
        seal(token, Way::Answer, &cbor::encode(&SignedAnswer { delegation, answer }))
    }

    /// Opens an answer, which must be sealed with the token, signed for its inviter, and to exactly
    /// this request of this agent. Returns the bundle of the device to authorise.
    pub fn open(
        token: &Token,
        blob: &[u8],
        request: &[u8],
        me: &Id,
    ) -> Result<(Self, SignedBundle), BadMail> {
        let text = open(token, Way::Answer, blob)?;
        let signed: SignedAnswer = cbor::decode(&text, MAIL_LIMIT)?;
        let inviter = token.inviter.verifying().ok_or(BadMail::NotTheInviter)?;
        let delegation = signed
            .delegation
            .verify(DELEGATION_LABEL, &inviter)
            .map_err(|_| BadMail::NotTheInviter)?;
        let delegation: AnswerDelegation = cbor::decode(delegation, MAIL_LIMIT)?;
        let fits = delegation.inviter == token.inviter
            && delegation.enrollment == token.enrollment
            && *delegation.token == token.hash();
        let key = Id(delegation.key.0).verifying().filter(|_| fits);
        let key = key.ok_or(BadMail::NotTheInviter)?;
        let answer =
            signed.answer.verify(ANSWER_LABEL, &key).map_err(|_| BadMail::NotTheInviter)?;
        let answer: Self = peer::decode(answer, MAIL_LIMIT)?;
        if *answer.request != blob_hash(request) || answer.agent != *me {
            return Err(BadMail::AnotherRequest);
        }
        let device = SignedBundle::decode_kind(&answer.device, Kind::Device)?;
        if device.id != token.inviter {
            return Err(BadMail::NotTheInviter);
        }
        Ok((answer, device))
    }
}

#[cfg(test)]
mod tests;
