//! The address and key of a relay: the URL that `farwire-relay` prints and `init` reads.
//!
//! `farwire://HOST:PORT[,HOST:PORT…]/KEY[#INVITE]`, key and invite in base32 (RFC 4648, lower case,
//! no padding). The invite is a one-time secret: the URL travels through standard input, not argv.

use core::fmt;
use core::str::FromStr;

use zeroize::Zeroize as _;

use crate::id::Kt;

/// The maximum number of addresses in a URL or a list.
pub const MAX_ADDRESSES: usize = 8;

/// A relay: addresses to try in order, and the key that must answer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Relay {
    /// `host:port`, at least one; a host is a name or an IP address.
    pub addresses: Vec<String>,
    /// The relay's TLS key.
    pub key: Kt,
}

/// A one-time secret that creates a workspace. Wiped when dropped and never printed by `Debug`.
#[derive(Clone, Eq, PartialEq)]
pub struct Invite(pub [u8; 32]);

impl Drop for Invite {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for Invite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Invite(…)")
    }
}

/// The content of a relay's URL.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RelayUrl {
    /// The relay's addresses and key.
    pub relay: Relay,
    /// The invite, if the URL contains one.
    pub invite: Option<Invite>,
}

/// Why a text is not a relay's URL.
#[derive(Debug, Eq, PartialEq, thiserror::Error)]
pub enum BadUrl {
    /// It does not begin with `farwire://`.
    #[error("a relay's URL begins with `farwire://`")]
    Scheme,
    /// An address is missing or malformed, or there are too many.
    #[error("the address must be HOST:PORT")]
    Address,
    /// The key is missing, truncated or not base32.
    #[error("the relay's key is missing or truncated")]
    Key,
    /// The invite is truncated or not base32.
    #[error("the invite is truncated")]
    Invite,
}

/// Encodes bytes in lower-case base32 without padding.
pub(crate) fn base32(bytes: &[u8]) -> String {
    data_encoding::BASE32_NOPAD.encode(bytes).to_ascii_lowercase()
}

/// Decodes [`base32`], in either case.
pub(crate) fn unbase32(text: &str) -> Option<Vec<u8>> {
    data_encoding::BASE32_NOPAD.decode(text.to_ascii_uppercase().as_bytes()).ok()
}

/// Whether `text` is HOST:PORT with a plausible host. Resolving it is up to the caller that dials.
pub fn valid_address(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    let host_fits = if let Some(inner) = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
        inner.parse::<core::net::Ipv6Addr>().is_ok()
    } else {
        !host.is_empty()
            && host.len() <= 253
            && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.'))
    };
    host_fits && port.parse::<u16>().is_ok_and(|port| port != 0)
}

impl FromStr for RelayUrl {
    type Err = BadUrl;

    fn from_str(text: &str) -> Result<Self, BadUrl> {
        let rest = text.trim().strip_prefix("farwire://").ok_or(BadUrl::Scheme)?;
        let (rest, invite) = match rest.split_once('#') {
            Some((rest, invite)) => (rest, Some(invite)),
            None => (rest, None),
        };
        let (addresses, key) = rest.split_once('/').ok_or(BadUrl::Key)?;
        let addresses: Vec<String> = addresses.split(',').map(str::to_owned).collect();
        if addresses.len() > MAX_ADDRESSES || !addresses.iter().all(|one| valid_address(one)) {
            return Err(BadUrl::Address);
        }
        let key = unbase32(key).and_then(|key| key.try_into().ok()).ok_or(BadUrl::Key)?;
        let invite = match invite {
            Some(invite) => {
                let bytes = unbase32(invite).and_then(|bytes| bytes.try_into().ok());
                Some(Invite(bytes.ok_or(BadUrl::Invite)?))
            }
            None => None,
        };
        Ok(Self { relay: Relay { addresses, key: Kt(key) }, invite })
    }
}

impl fmt::Display for RelayUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "farwire://{}/{}", self.relay.addresses.join(","), base32(&self.relay.key.0))?;
        match &self.invite {
            Some(invite) => write!(f, "#{}", base32(&invite.0)),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_comes_back_with_and_without_its_invite() {
        let relay = Relay {
            addresses: vec!["relay.example:4433".into(), "[::1]:4433".into()],
            key: Kt([5; 32]),
        };
        for invite in [None, Some(Invite([6; 32]))] {
            let url = RelayUrl { relay: relay.clone(), invite };
            assert_eq!(url.to_string().parse::<RelayUrl>().unwrap(), url);
        }
    }

    #[test]
    fn cut_and_foreign_urls_say_what_is_wrong() {
        let key = base32(&[5; 32]);
        for (text, error) in [
            ("https://a:1/x".to_owned(), BadUrl::Scheme),
            (format!("farwire://a/{key}"), BadUrl::Address),
            (format!("farwire://a:0/{key}"), BadUrl::Address),
            (format!("farwire://a b:1/{key}"), BadUrl::Address),
            ("farwire://a:1".to_owned(), BadUrl::Key),
            (format!("farwire://a:1/{}", &key[1..]), BadUrl::Key),
            (format!("farwire://a:1/{key}#abc"), BadUrl::Invite),
        ] {
            assert_eq!(text.parse::<RelayUrl>().unwrap_err(), error, "{text}");
        }
    }

    #[test]
    fn any_text_is_read_without_a_panic() {
        bolero::check!().with_type::<String>().for_each(|text| {
            if let Ok(url) = text.parse::<RelayUrl>() {
                assert_eq!(url.to_string().parse::<RelayUrl>().unwrap(), url);
            }
        });
    }
}
