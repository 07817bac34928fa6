//! The relay's URL: the address where programs reach it, its key, and an invite if one is wanted.

use std::io::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::path::PathBuf;

use ed25519_dalek::SigningKey;
use farwire_link::outer::listen::Listener;
use farwire_protocol::address::{Invite, Relay as RelayAddress, RelayUrl};
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::id::Kt;

use crate::config::{self, Config};
use crate::data::DataDirectory;
use crate::store::{self, Store};

/// Runs `farwire-relay url`, or `farwire-relay invite`, which adds a new invite.
pub(crate) fn run(data: Option<PathBuf>, with_invite: bool) -> Result<(), Failure> {
    let data = DataDirectory::open(config::data_path(data)?)?;
    let (address, key) = (data.address()?, data.tls_key()?);
    let invite = if with_invite { Some(make_invite(&data)?) } else { None };
    print(&format!("{}\n", url(address, &key, invite)))
        .map_err(|error| Failure::new(Kind::Io, format!("the URL could not be printed: {error}")))
}

/// Makes an invite in the store, also beside a running relay.
fn make_invite(data: &DataDirectory) -> Result<Invite, Failure> {
    let database = data.database()?;
    let lock = data.lock();
    let make = async {
        let store = match &lock {
            Ok(_) => store::open(&database).await?,
            Err(failure) if failure.kind == Kind::AlreadyRunning => store::join(&database).await?,
            Err(failure) => return Err(failure.clone()),
        };
        store.make_invite().await
    };
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Kind::ResourceExhausted, format!("no runtime: {error}")))?
        .block_on(make)
}

/// Returns the URL that a starting relay prints: with an invite as long as nobody has made a
/// workspace.
pub(crate) async fn of_new_relay(
    store: &dyn Store,
    address: String,
    key: &SigningKey,
) -> Result<RelayUrl, Failure> {
    // With a full disk there is no invite, and the relay serves the workspaces that it has.
    let invite = if store.has_workspace().await? { None } else { store.make_invite().await.ok() };
    Ok(url(address, key, invite))
}

fn url(address: String, key: &SigningKey, invite: Option<Invite>) -> RelayUrl {
    let key = Kt(key.verifying_key().to_bytes());
    RelayUrl { relay: RelayAddress { addresses: vec![address], key }, invite }
}

/// Returns the address for URLs: the configured one, else the listener's, else the primary one of
/// this machine.
pub(crate) fn advertised_address(config: &Config, listener: &Listener) -> Result<String, Failure> {
    if let Some(address) = &config.advertise {
        return Ok(address.clone());
    }
    let bound = listener
        .address()
        .map_err(|error| Failure::new(Kind::Io, format!("no local address: {error}")))?;
    let ip = if bound.ip().is_unspecified() { primary_address() } else { bound.ip() };
    Ok(SocketAddr::new(ip, bound.port()).to_string())
}

/// Returns the local address of the route to the world. Nothing is sent.
fn primary_address() -> IpAddr {
    let found = UdpSocket::bind("0.0.0.0:0").and_then(|socket| {
        socket.connect("192.0.2.1:9")?;
        socket.local_addr()
    });
    found.map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |address| address.ip())
}

/// Prints to standard output at once.
pub(crate) fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}
