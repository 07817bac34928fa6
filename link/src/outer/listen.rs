//! The relay's end: accepts connections, learns their keys, and waits for their control stream.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ed25519_dalek::SigningKey;
use farwire_protocol::header::Reset;
use farwire_protocol::id::Kt;
use quinn::crypto::rustls::QuicServerConfig;
use rustls::pki_types::CertificateDer;
use tokio::time::timeout;

use crate::outer::dial::exporter;
use crate::outer::halves::{RecvHalf, SendHalf};
use crate::outer::socket::Socket;
use crate::outer::transport::Path;
use crate::outer::{Closed, tls, transport};

/// How long a TLS handshake may take. Programs time out an address after the same time.
const HANDSHAKE: Duration = Duration::from_secs(6);

/// How long the first stream may take after the handshake.
const FIRST_STREAM: Duration = Duration::from_secs(5);

/// The maximum number of connections that have not finished their handshake; beyond it, peers must
/// validate their address.
const MAX_INCOMING: usize = 4096;

/// The configuration of a listener.
#[derive(Debug)]
pub struct Options {
    /// The address to listen on.
    pub listen: SocketAddr,
    /// The relay's TLS key.
    pub key: SigningKey,
    /// The number of this node.
    pub node: u16,
    /// Signs stateless resets, including those for connections of an earlier process.
    pub reset_key: [u8; 32],
    /// Authenticates our connection ids.
    pub cid_key: [u8; 32],
    /// The file to which TLS secrets are logged.
    pub keylog: Option<PathBuf>,
}

/// Why listening failed.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The address cannot be bound.
    #[error("cannot listen on {address}")]
    Address {
        /// The address.
        address: SocketAddr,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// TLS cannot be configured.
    #[error("TLS cannot be set up: {0}")]
    Tls(String),
    /// The configuration has no cipher for QUIC's initial packets, which is a bug of ours.
    #[error("the TLS configuration has no cipher for QUIC")]
    Quic,
}

/// A socket that accepts connections of programs.
#[derive(Debug)]
pub struct Listener {
    endpoint: quinn::Endpoint,
    /// The configuration for programs on this machine.
    near: Arc<quinn::ServerConfig>,
}

impl Listener {
    /// Binds the socket and starts to listen.
    pub fn bind(options: &Options) -> Result<Self, ListenError> {
        let address = options.listen;
        let no_address = |source| ListenError::Address { address, source };
        let tls = tls::server(&options.key, options.keylog.as_deref())
            .map_err(|error| ListenError::Tls(error.to_string()))?;
        let tls = QuicServerConfig::try_from(tls).map_err(|_| ListenError::Quic)?;
        let mut config = quinn::ServerConfig::with_crypto(Arc::new(tls));
        config
            .transport_config(transport::server(Path::Far))
            .max_incoming(MAX_INCOMING)
            .incoming_buffer_size(16 << 10)
            .incoming_buffer_size_total(16 << 20);
        let mut near = config.clone();
        near.transport_config(transport::server(Path::Near));
        let socket = transport::socket(address).and_then(Socket::new).map_err(no_address)?;
        let endpoint = quinn::Endpoint::new_with_abstract_socket(
            transport::server_endpoint(options.node, &options.reset_key, &options.cid_key),
            Some(config),
            socket,
            Arc::new(quinn::TokioRuntime),
        )
        .map_err(no_address)?;
        Ok(Self { endpoint, near: Arc::new(near) })
    }

    /// The local address.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.endpoint.local_addr()
    }

    /// Waits for the next connection attempt; returns `None` when the listener is closed.
    pub async fn accept(&self) -> Option<Knock> {
        let incoming = self.endpoint.accept().await?;
        let near = Path::to(incoming.remote_address()) == Path::Near;
        Some(Knock { incoming, config: near.then(|| self.near.clone()) })
    }

    /// The number of open connections.
    pub fn open(&self) -> usize {
        self.endpoint.open_connections()
    }

    /// Stops accepting connections and closes the open ones.
    pub async fn close(&self) {
        self.endpoint.close(Reset::Closing.code().into(), b"");
        // Do not wait for peers that do not respond.
        let _ = timeout(Duration::from_millis(500), self.endpoint.wait_idle()).await;
    }
}

/// A connection attempt, of which only an address is known.
#[derive(Debug)]
pub struct Knock {
    incoming: quinn::Incoming,
    /// Overrides the listener's configuration.
    config: Option<Arc<quinn::ServerConfig>>,
}

impl Knock {
    /// The source address, which may be spoofed until it is validated.
    pub fn remote(&self) -> SocketAddr {
        self.incoming.remote_address()
    }

    /// Demands address validation (Retry), unless the address is validated. Returns `None` if it
    /// did.
    pub fn validated(self) -> Option<Self> {
        if self.incoming.remote_address_validated() {
            return Some(self);
        }
        // Fails only for a validated address.
        let _ = self.incoming.retry();
        None
    }

    /// Whether the address is validated.
    pub fn is_validated(&self) -> bool {
        self.incoming.remote_address_validated()
    }

    /// Drops the attempt without an answer. A genuine program retries.
    pub fn ignore(self) {
        self.incoming.ignore();
    }

    /// Completes the TLS handshake and waits for the control stream.
    pub async fn enter(self) -> Result<Arrival, Closed> {
        let shake = async {
            let connecting = match self.config {
                Some(config) => self.incoming.accept_with(config)?,
                None => self.incoming.accept()?,
            };
            Ok(connecting.await?)
        };
        let quic = timeout(HANDSHAKE, shake).await.unwrap_or(Err(Closed::Silent))?;
        let arrive = async {
            let (send, recv) = quic.accept_bi().await?;
            let key = quic
                .peer_identity()
                .and_then(|any| any.downcast::<Vec<CertificateDer<'static>>>().ok())
                .and_then(|certs| certs.first().and_then(|cert| tls::raw_key(cert)))
                .ok_or_else(|| Closed::Transport("no raw public key".to_owned()))?;
            let exporter = exporter(&quic);
            Ok(Arrival {
                link: Guest { quic: quic.clone() },
                key,
                exporter,
                send: SendHalf::new(send),
                recv: RecvHalf::new(recv),
            })
        };
        timeout(FIRST_STREAM, arrive).await.unwrap_or(Err(Closed::Silent))
    }
}

/// A program that has proven a TLS key.
#[derive(Debug)]
pub struct Arrival {
    /// Its connection.
    pub link: Guest,
    /// The key.
    pub key: Kt,
    /// The TLS exporter, to which HELLO is bound.
    pub exporter: [u8; 32],
    /// The control stream, towards the program.
    pub send: SendHalf,
    /// The control stream, from the program.
    pub recv: RecvHalf,
}

/// A connection at the relay. Clones share it.
#[derive(Clone, Debug)]
pub struct Guest {
    quic: quinn::Connection,
}

impl Guest {
    /// Sets the windows for `streams` streams, in both directions. A call must not ask for less
    /// than an earlier one: quinn deducts a smaller window from later reads.
    pub fn make_room(&self, streams: u32) {
        self.quic.set_receive_window(transport::relay_window(streams).into());
        self.quic.set_send_window(transport::relay_send_window(streams));
    }

    /// Sets the windows for the maximum number of streams.
    pub fn trust(&self) {
        self.make_room(transport::STREAMS);
    }

    /// The maximum number of bytes held for a program with windows for `streams` streams.
    pub fn room(streams: u32) -> u64 {
        u64::from(transport::relay_window(streams)) + transport::relay_send_window(streams)
    }

    /// Raises the limit of concurrent streams to what a bridge needs.
    pub fn widen(&self) {
        self.quic.set_max_concurrent_bi_streams(transport::STREAMS.into());
    }

    /// The round trip, as QUIC estimates it.
    pub fn rtt(&self) -> Duration {
        self.quic.rtt()
    }

    /// Opens a stream towards the program.
    pub async fn open(&self) -> Result<(SendHalf, RecvHalf), Closed> {
        let (send, recv) = self.quic.open_bi().await?;
        Ok((SendHalf::new(send), RecvHalf::new(recv)))
    }

    /// Accepts the next stream that the program opens.
    pub async fn accept(&self) -> Result<(SendHalf, RecvHalf), Closed> {
        let (send, recv) = self.quic.accept_bi().await?;
        Ok((SendHalf::new(send), RecvHalf::new(recv)))
    }

    /// Waits until the connection has ended.
    pub async fn closed(&self) -> Closed {
        self.quic.closed().await.into()
    }

    /// Why the connection has ended, if it has.
    pub fn close_reason(&self) -> Option<Closed> {
        self.quic.close_reason().map(Closed::from)
    }

    /// Closes the connection.
    pub fn close(&self, reason: Reset) {
        self.quic.close(reason.code().into(), b"");
    }

    /// The current address of the program.
    pub fn remote(&self) -> SocketAddr {
        self.quic.remote_address()
    }
}
