//! The enrollment token: everything that an agent needs to find and to authenticate its inviter.
//!
//! ```text
//! fwe_ and the base32 of:
//! version u8 · relay key [32] · count u8 · (length u8 · address)* · genesis hash [32]
//! · inviter ID [32] · enrollment id [16] · secret [32] · expiry u64 · CRC-32 u32
//! ```
//!
//! The relay learns only the enrollment id and the lifetime.

use core::fmt;
use core::str::FromStr;

use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::address::{self, MAX_ADDRESSES, Relay};
use crate::id::{Id, Kt, Nonce, TrustDomain};

/// The prefix of a token.
pub const PREFIX: &str = "fwe_";

/// The maximum length of a token.
pub const LIMIT: usize = 2048;

/// The version of the token's format.
const VERSION: u8 = 1;

/// An enrollment token. Its secret is wiped when dropped and never printed by `Debug`.
#[derive(Clone, Eq, PartialEq)]
pub struct Token {
    /// The relay.
    pub relay: Relay,
    /// The workspace: the agent's trust domain from now on.
    pub trust_domain: TrustDomain,
    /// The inviting device.
    pub inviter: Id,
    /// The relay's id of this enrollment.
    pub enrollment: Nonce,
    /// The secret that authenticates the request and its answer between agent and inviter.
    pub secret: Zeroizing<[u8; 32]>,
    /// When it expires by the inviter's clock, seconds since 1970.
    pub expires: u64,
}

/// Why a text is not a token.
#[derive(Debug, Eq, PartialEq, thiserror::Error)]
pub enum BadToken {
    /// A token of the control plane, which only reserves a record.
    #[error("this is a reservation (`fwr_`), not an enrollment token (`fwe_`)")]
    Reservation,
    /// Another prefix.
    #[error("an enrollment token begins with `fwe_`")]
    Prefix,
    /// A character that is not base32.
    #[error("character {0} does not belong in a token")]
    Character(usize),
    /// The token was truncated, extended or mistyped.
    #[error("the token is truncated or mistyped")]
    Damaged,
    /// A newer format version.
    #[error("the token has version {0}, this program knows {VERSION}")]
    Version(u8),
}

impl Token {
    fn public_bytes(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        out.extend_from_slice(&self.relay.key.0);
        out.push(u8::try_from(self.relay.addresses.len()).expect("at most eight addresses"));
        for address in &self.relay.addresses {
            out.push(u8::try_from(address.len()).expect("an address has at most 255 bytes"));
            out.extend_from_slice(address.as_bytes());
        }
        out.extend_from_slice(&self.trust_domain.0);
        out.extend_from_slice(&self.inviter.0);
        out.extend_from_slice(&self.enrollment.0);
        out
    }

    /// The SHA-256 of the token without its secret and its checksum, which names the token in keys
    /// and answers.
    pub fn hash(&self) -> [u8; 32] {
        let mut hash = Sha256::new_with_prefix(self.public_bytes());
        hash.update(self.expires.to_be_bytes());
        hash.finalize().into()
    }

    /// The text to hand over. It contains the secret.
    pub fn encode(&self) -> Zeroizing<String> {
        let mut bytes = Zeroizing::new(self.public_bytes());
        bytes.extend_from_slice(&*self.secret);
        bytes.extend_from_slice(&self.expires.to_be_bytes());
        let crc = crc32(&bytes);
        bytes.extend_from_slice(&crc.to_be_bytes());
        Zeroizing::new(format!("{PREFIX}{}", address::base32(&bytes)))
    }
}

impl FromStr for Token {
    type Err = BadToken;

    fn from_str(text: &str) -> Result<Self, BadToken> {
        let text = text.trim();
        if text.starts_with("fwr_") {
            return Err(BadToken::Reservation);
        }
        let digits = text.strip_prefix(PREFIX).ok_or(BadToken::Prefix)?;
        if digits.len() > LIMIT {
            return Err(BadToken::Damaged);
        }
        let stranger = |byte: u8| !matches!(byte.to_ascii_lowercase(), b'a'..=b'z' | b'2'..=b'7');
        if let Some(at) = digits.bytes().position(stranger) {
            return Err(BadToken::Character(PREFIX.len() + at + 1));
        }
        let bytes = Zeroizing::new(address::unbase32(digits).ok_or(BadToken::Damaged)?);
        read(&bytes)
    }
}

fn read(bytes: &[u8]) -> Result<Token, BadToken> {
    let (body, crc) = bytes.split_last_chunk::<4>().ok_or(BadToken::Damaged)?;
    if crc32(body) != u32::from_be_bytes(*crc) {
        return Err(BadToken::Damaged);
    }
    let mut rest = body;
    let [version] = take(&mut rest)?;
    if version != VERSION {
        return Err(BadToken::Version(version));
    }
    let key = Kt(take(&mut rest)?);
    let [count] = take(&mut rest)?;
    if count == 0 || usize::from(count) > MAX_ADDRESSES {
        return Err(BadToken::Damaged);
    }
    let mut addresses = Vec::with_capacity(usize::from(count));
    for _ in 0..count {
        let [length] = take(&mut rest)?;
        let (address, after) =
            rest.split_at_checked(usize::from(length)).ok_or(BadToken::Damaged)?;
        let address = core::str::from_utf8(address).map_err(|_| BadToken::Damaged)?;
        if !address::valid_address(address) {
            return Err(BadToken::Damaged);
        }
        addresses.push(address.to_owned());
        rest = after;
    }
    let token = Token {
        relay: Relay { addresses, key },
        trust_domain: TrustDomain(take(&mut rest)?),
        inviter: Id(take(&mut rest)?),
        enrollment: Nonce(take(&mut rest)?),
        secret: Zeroizing::new(take(&mut rest)?),
        expires: u64::from_be_bytes(take(&mut rest)?),
    };
    if rest.is_empty() { Ok(token) } else { Err(BadToken::Damaged) }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], BadToken> {
    let (head, tail) = rest.split_first_chunk::<N>().ok_or(BadToken::Damaged)?;
    *rest = tail;
    Ok(*head)
}

/// CRC-32 (ISO-HDLC). It detects typing errors; no security depends on it.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 }
        })
    })
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token")
            .field("relay", &self.relay)
            .field("enrollment", &self.enrollment)
            .field("expires", &self.expires)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> Token {
        Token {
            relay: Relay { addresses: vec!["relay.example:4433".into()], key: Kt([1; 32]) },
            trust_domain: TrustDomain([2; 32]),
            inviter: Id([3; 32]),
            enrollment: Nonce([4; 16]),
            secret: Zeroizing::new([0xc5; 32]),
            expires: 1_800_000_000,
        }
    }

    #[test]
    fn a_token_comes_back_in_either_case_and_with_blanks_around_it() {
        let text = token().encode();
        assert_eq!(text.parse::<Token>().unwrap(), token());
        assert_eq!(
            format!(" fwe_{}\n", text[4..].to_uppercase()).parse::<Token>().unwrap(),
            token()
        );
    }

    #[test]
    fn every_cut_and_every_changed_character_is_noticed() {
        let text = token().encode();
        for length in 4..text.len() {
            assert!(text[..length].parse::<Token>().is_err(), "cut to {length}");
        }
        for at in 4..text.len() {
            let mut bad = text.as_bytes().to_vec();
            bad[at] = if bad[at] == b'a' { b'b' } else { b'a' };
            let bad = String::from_utf8(bad).unwrap();
            // The last character carries bits that the encoding does not use: base32 refuses them.
            assert!(bad.parse::<Token>().is_err(), "changed at {at}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_and_where() {
        assert_eq!("hello".parse::<Token>().unwrap_err(), BadToken::Prefix);
        assert_eq!("fwr_abc".parse::<Token>().unwrap_err(), BadToken::Reservation);
        assert_eq!("fwe_ab!c".parse::<Token>().unwrap_err(), BadToken::Character(7));
        assert_eq!("fwe_".parse::<Token>().unwrap_err(), BadToken::Damaged);
    }

    #[test]
    fn the_secret_is_not_printed() {
        let shown = format!("{:?}", token());
        assert!(!shown.contains("197") && !shown.contains("c5c5"), "{shown}");
    }

    #[test]
    fn any_bytes_are_read_without_a_panic() {
        bolero::check!().for_each(|bytes: &[u8]| {
            let mut checked = bytes.to_vec();
            checked.extend_from_slice(&crc32(bytes).to_be_bytes());
            let _ = read(&checked);
            let _ = String::from_utf8_lossy(bytes).parse::<Token>();
        });
    }
}
