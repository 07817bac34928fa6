//! Who may speak to a server on this machine.

use data_encoding::BASE64;
use hyper::header::{
    AUTHORIZATION, CONNECTION, HOST, HeaderMap, HeaderName, HeaderValue, ORIGIN, TE, TRAILER,
    TRANSFER_ENCODING, UPGRADE, WWW_AUTHENTICATE,
};
use hyper::{Response, StatusCode};
use subtle::ConstantTimeEq as _;

/// What a request must bring.
pub struct Guard {
    token: String,
    hosts: Vec<String>,
}

impl std::fmt::Debug for Guard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Guard").field("hosts", &self.hosts).finish_non_exhaustive()
    }
}

impl Guard {
    /// For this token, at these authorities (`HOST:PORT`).
    pub fn new(token: String, hosts: Vec<String>) -> Self {
        Self { token, hosts }
    }

    /// The answer to a request that may not be carried: `None` if it may. The token comes first:
    /// without it nothing is learnt. `here` is the address that the client came to, which is one of
    /// ours, too.
    pub fn refuses(&self, headers: &HeaderMap, here: Option<&str>) -> Option<Response<()>> {
        let refused = |status| {
            let mut response = Response::new(());
            *response.status_mut() = status;
            Some(response)
        };
        if !self.knows(headers) {
            let mut response = refused(StatusCode::UNAUTHORIZED)?;
            let basic = HeaderValue::from_static("Basic realm=\"farwire\"");
            response.headers_mut().insert(WWW_AUTHENTICATE, basic);
            return Some(response);
        }
        let host = single(headers, &HOST);
        let ours = || self.hosts.iter().map(String::as_str).chain(here);
        let known = |host: &str| ours().any(|ours| ours.eq_ignore_ascii_case(host));
        if !host.is_some_and(known) {
            return refused(StatusCode::MISDIRECTED_REQUEST);
        }
        if headers.contains_key(ORIGIN) {
            let from_us = |origin: &str| origin.strip_prefix("http://").is_some_and(known);
            if !single(headers, &ORIGIN).is_some_and(from_us) {
                return refused(StatusCode::FORBIDDEN);
            }
        }
        None
    }

    fn knows(&self, headers: &HeaderMap) -> bool {
        let Some(value) = single(headers, &AUTHORIZATION) else { return false };
        let Some((scheme, rest)) = value.split_once(' ') else { return false };
        let given = match scheme.to_ascii_lowercase().as_str() {
            "bearer" => rest.trim().as_bytes().to_vec(),
            "basic" => {
                let Ok(pair) = BASE64.decode(rest.trim().as_bytes()) else { return false };
                match pair.iter().position(|&byte| byte == b':') {
                    Some(at) => pair.get(at + 1..).unwrap_or_default().to_vec(),
                    None => return false,
                }
            }
            _ => return false,
        };
        given.ct_eq(self.token.as_bytes()).into()
    }
}

/// The value of a header that stands there once.
fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(value)
}

/// Whether a header is for the server, and not for this connection or for us.
pub(super) fn is_carried(name: &HeaderName) -> bool {
    let ours = [AUTHORIZATION, CONNECTION, TRANSFER_ENCODING, TE, TRAILER, UPGRADE, ORIGIN];
    !ours.contains(name)
        && name != "keep-alive"
        && name != "proxy-authorization"
        && name != "cookie"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(lines: &[(&'static str, &str)]) -> Option<u16> {
        let guard = Guard::new("secret".to_owned(), vec!["127.0.0.1:80".to_owned()]);
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_str(value).unwrap());
        }
        guard.refuses(&headers, Some("192.0.2.1:80")).map(|response| response.status().as_u16())
    }

    #[test]
    fn only_who_knows_the_token_and_means_us_is_carried() {
        let host = ("host", "127.0.0.1:80");
        let basic = format!("Basic {}", BASE64.encode(b"farwire:secret"));
        let basic = ("authorization", basic.as_str());
        assert_eq!(refused(&[host, basic]), None);
        assert_eq!(refused(&[host, ("authorization", "Bearer secret")]), None);
        assert_eq!(refused(&[host, basic, ("origin", "http://127.0.0.1:80")]), None);
        for wrong in [
            "Bearer other",
            "Bearer",
            "secret",
            "Basic !",
            "Basic c2VjcmV0",
            "Digest secret",
            "Bearer secret2",
        ] {
            assert_eq!(refused(&[host, ("authorization", wrong)]), Some(401), "{wrong}");
        }
        assert_eq!(refused(&[("host", "192.0.2.1:80"), basic]), None, "where it came to");
        assert_eq!(refused(&[("host", "192.0.2.2:80"), basic]), Some(421));
        assert_eq!(refused(&[host]), Some(401));
        assert_eq!(refused(&[host, basic, basic]), Some(401));
        assert_eq!(refused(&[basic]), Some(421));
        assert_eq!(refused(&[("host", "evil.example"), basic]), Some(421));
        assert_eq!(refused(&[host, host, basic]), Some(421));
        for origin in ["http://evil.example", "null", "https://127.0.0.1:80"] {
            assert_eq!(refused(&[host, basic, ("origin", origin)]), Some(403), "{origin}");
        }
    }
}
