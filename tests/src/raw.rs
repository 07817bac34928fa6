//! QUIC connections to a relay by a client that keeps to none of our rules.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use ed25519_dalek::SigningKey;
use quinn::crypto::rustls::QuicClientConfig;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{AlwaysResolvesClientRawPublicKeys, ResolvesClientCert};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};

use crate::simulated::random;

/// DER before the 32 bytes of an Ed25519 key: public (RFC 8410) and secret.
const SPKI: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
const PKCS8: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];

/// What a client shows of itself.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Shows {
    /// A raw key that nobody knows.
    Key,
    /// A raw key that is not the one it signs with.
    AnothersKey,
    /// Nothing.
    Nothing,
}

/// Connects to whoever answers at this port of loopback.
///
/// # Errors
///
/// When the connection is refused, closed or not answered.
pub async fn connect(port: u16, alpn: &[u8], shows: Shows) -> Result<quinn::Connection, String> {
    let from = socket(Ipv4Addr::UNSPECIFIED.into())?;
    connect_from(&from, port, alpn, shows).await
}

/// A socket for many connections, at this address of ours.
///
/// # Errors
///
/// When there is none.
pub fn socket(address: IpAddr) -> Result<quinn::Endpoint, String> {
    quinn::Endpoint::client(SocketAddr::new(address, 0)).map_err(|error| error.to_string())
}

/// The same as [`connect`] from a socket that is there.
///
/// # Errors
///
/// As [`connect`].
pub async fn connect_from(
    socket: &quinn::Endpoint,
    port: u16,
    alpn: &[u8],
    shows: Shows,
) -> Result<quinn::Connection, String> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody));
    let mut config = match shows {
        Shows::Nothing => config.with_client_cert_resolver(Arc::new(Silent)),
        Shows::Key | Shows::AnothersKey => {
            let key = SigningKey::from_bytes(&random());
            let der = [PKCS8.as_slice(), &key.to_bytes()].concat();
            let der = PrivateKeyDer::Pkcs8(der.into());
            let signer = provider.key_provider.load_private_key(der).expect("a key");
            let mut public = key.verifying_key().to_bytes();
            if shows == Shows::AnothersKey {
                public = SigningKey::from_bytes(&random()).verifying_key().to_bytes();
            }
            let spki = CertificateDer::from([SPKI.as_slice(), &public].concat());
            let certified = Arc::new(CertifiedKey::new(vec![spki], signer));
            let resolver = AlwaysResolvesClientRawPublicKeys::new(certified);
            config.with_client_cert_resolver(Arc::new(resolver))
        }
    };
    config.alpn_protocols = vec![alpn.to_vec()];
    config.enable_sni = false;
    let tls = QuicClientConfig::try_from(config).expect("TLS for QUIC");
    let relay = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    socket
        .connect_with(quinn::ClientConfig::new(Arc::new(tls)), relay, "farwire")
        .map_err(|error| error.to_string())?
        .await
        .map_err(|error| error.to_string())
}

/// Shows no certificate.
#[derive(Debug)]
struct Silent;

impl ResolvesClientCert for Silent {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        None
    }

    fn has_certs(&self) -> bool {
        false
    }

    fn only_raw_public_keys(&self) -> bool {
        true
    }
}

/// Takes anybody for the relay.
#[derive(Debug)]
struct Anybody;

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.3 only".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}
