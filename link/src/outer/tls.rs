//! TLS 1.3 with raw Ed25519 public keys (RFC 7250) on both ends, and nothing else.
//!
//! All bytes of a key are compared; certificates, chains, other algorithms, early data and
//! resumption are not supported. A resumed session would survive the revocation of its key.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use ed25519_dalek::SigningKey;
use farwire_protocol::id::Kt;
use farwire_protocol::outer::ALPN;
use rustix::fs::OFlags;
use rustls::client::AlwaysResolvesClientRawPublicKeys;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls13_signature_with_raw_key};
use rustls::pki_types::{
    CertificateDer, PrivateKeyDer, ServerName, SubjectPublicKeyInfoDer, UnixTime,
};
use rustls::server::AlwaysResolvesServerRawPublicKeys;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::sign::CertifiedKey;
use rustls::version::TLS13;
use rustls::{
    ClientConfig, DigitallySignedStruct, DistinguishedName, Error, ServerConfig, SignatureScheme,
};
use zeroize::Zeroizing;

/// The DER prefix of an Ed25519 public key, before its 32 bytes (RFC 8410).
const SPKI: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// The DER prefix of an Ed25519 secret key, before its 32 bytes (RFC 8410).
const PKCS8: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];

/// Extracts the key from a peer's "certificate", if that is a raw Ed25519 key.
pub(super) fn raw_key(spki: &[u8]) -> Option<Kt> {
    spki.strip_prefix(&SPKI).and_then(|key| key.try_into().ok()).map(Kt)
}

fn provider() -> Arc<CryptoProvider> {
    // The default offers X25519MLKEM768 first.
    Arc::new(aws_lc_rs::default_provider())
}

fn certified(provider: &CryptoProvider, key: &SigningKey) -> Result<Arc<CertifiedKey>, Error> {
    let mut secret = Zeroizing::new(PKCS8.to_vec());
    secret.extend_from_slice(&*Zeroizing::new(key.to_bytes()));
    let der = PrivateKeyDer::Pkcs8(secret.as_slice().into());
    let signer = provider.key_provider.load_private_key(der.clone_key())?;
    let spki = [SPKI.as_slice(), key.verifying_key().as_bytes()].concat();
    Ok(Arc::new(CertifiedKey::new(vec![CertificateDer::from(spki)], signer)))
}

/// The TLS configuration of a program, which presents `key` and accepts only `relay`. Sets
/// `mismatch` if a peer presents another key.
pub(super) fn client(
    key: &SigningKey,
    relay: Kt,
    mismatch: Arc<AtomicBool>,
) -> Result<ClientConfig, Error> {
    let provider = provider();
    let certified = certified(&provider, key)?;
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(PinnedKey { relay, mismatch }))
        .with_client_cert_resolver(Arc::new(AlwaysResolvesClientRawPublicKeys::new(certified)));
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.enable_sni = false;
    config.enable_early_data = false;
    config.resumption = rustls::client::Resumption::disabled();
    Ok(config)
}

/// The TLS configuration of the relay, which presents `key` and accepts any Ed25519 key; HELLO
/// names the owner.
pub(super) fn server(key: &SigningKey, keylog: Option<&Path>) -> Result<ServerConfig, Error> {
    let provider = provider();
    let certified = certified(&provider, key)?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(Arc::new(AnyKey))
        .with_cert_resolver(Arc::new(AlwaysResolvesServerRawPublicKeys::new(certified)));
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.max_early_data_size = 0;
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    if let Some(path) = keylog {
        let log = KeyLog::open(path);
        let log =
            log.map_err(|error| Error::General(format!("the key log cannot be written: {error}")))?;
        config.key_log = Arc::new(log);
    }
    Ok(config)
}

fn signature(
    message: &[u8],
    cert: &CertificateDer<'_>,
    dss: &DigitallySignedStruct,
) -> Result<HandshakeSignatureValid, Error> {
    verify_tls13_signature_with_raw_key(
        message,
        &SubjectPublicKeyInfoDer::from(cert.as_ref()),
        dss,
        &provider().signature_verification_algorithms,
    )
}

fn tls12() -> Error {
    Error::General("TLS 1.2 is not supported".to_owned())
}

fn one_raw_key(cert: &CertificateDer<'_>, chain: &[CertificateDer<'_>]) -> Result<Kt, Error> {
    let unfit = || Error::InvalidCertificate(rustls::CertificateError::BadEncoding);
    if chain.is_empty() { raw_key(cert).ok_or_else(unfit) } else { Err(unfit()) }
}

/// Accepts only the pinned key.
#[derive(Debug)]
struct PinnedKey {
    relay: Kt,
    mismatch: Arc<AtomicBool>,
}

impl ServerCertVerifier for PinnedKey {
    fn verify_server_cert(
        &self,
        cert: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if one_raw_key(cert, chain)? == self.relay {
            return Ok(ServerCertVerified::assertion());
        }
        self.mismatch.store(true, Ordering::Relaxed);
        Err(Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer))
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

/// Accepts any Ed25519 key that its owner can sign with.
#[derive(Debug)]
struct AnyKey;

impl ClientCertVerifier for AnyKey {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        cert: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        one_raw_key(cert, chain).map(|_| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

/// Logs TLS secrets in the NSS format, for tests and debugging: the relay has nothing to hide.
#[derive(Debug)]
struct KeyLog(Mutex<File>);

impl KeyLog {
    /// Opens a regular file that only its owner can access. No link is followed: the relay may have
    /// more rights than the user who placed the link.
    fn open(path: &Path) -> io::Result<Self> {
        // Without NONBLOCK, opening a FIFO in the file's place would block for ever.
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .custom_flags(i32::try_from(flags.bits()).map_err(io::Error::other)?)
            .open(path)?;
        if !file.metadata()?.is_file() {
            return Err(io::Error::other("it is not a regular file"));
        }
        // An existing file may have other permissions.
        file.set_permissions(Permissions::from_mode(0o600))?;
        Ok(Self(Mutex::new(file)))
    }
}

impl rustls::KeyLog for KeyLog {
    fn log(&self, label: &str, client_random: &[u8], secret: &[u8]) {
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let line = format!("{label} {} {}\n", hex(client_random), hex(secret));
        if let Ok(mut file) = self.0.lock() {
            // The key log is optional: a failed write must not fail the connection.
            let _ = file.write_all(line.as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::time::{SystemTime, UNIX_EPOCH};

    use super::*;

    #[test]
    fn secrets_are_written_through_no_link_and_for_the_owner_alone() {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos();
        let directory =
            std::env::temp_dir().join(format!("farwire-keylog-{}-{now}", std::process::id()));
        fs::create_dir(&directory).unwrap();
        let [file, link, pipe] = ["file", "link", "pipe"].map(|name| directory.join(name));
        fs::write(&file, "before\n").unwrap();
        fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
        symlink(&file, &link).unwrap();
        assert!(KeyLog::open(&link).is_err() && KeyLog::open(&directory).is_err());
        let fifo = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, fifo, rustix::fs::Mode::RUSR, 0).unwrap();
        assert!(KeyLog::open(&pipe).is_err());
        rustls::KeyLog::log(&KeyLog::open(&file).unwrap(), "LABEL", &[1], &[2]);
        assert_eq!(fs::read_to_string(&file).unwrap(), "before\nLABEL 01 02\n");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        fs::remove_dir_all(&directory).unwrap();
    }
}
