//! The tuning of QUIC: windows, timers, connection ids, resets.

use std::net::{SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use aws_lc_rs::hmac;
use farwire_protocol::outer::Role;
use quinn::{
    AckFrequencyConfig, ConnectionId, ConnectionIdGenerator, EndpointConfig, IdleTimeout,
    MtuDiscoveryConfig, TransportConfig, VarInt,
};
use socket2::{Domain, Protocol, Socket, Type};

use crate::outer::congestion::{Attended, CappedCubicFactory};

/// The receive window of one stream. At a round trip of 20 ms it allows 1.6 Gbit/s.
const STREAM_WINDOW: u32 = 4 << 20;

/// The maximum number of streams that a peer may have open on a connection.
pub(super) const STREAMS: u32 = 256;

/// The maximum number of open streams before the relay knows that a program is a bridge. quinn
/// allocates 80 bytes for each possible stream; 256 of them would be a third of the memory of an
/// idle agent.
const FIRST_STREAMS: u32 = 16;

/// Must not be below streams × stream window: otherwise readers that have stopped freeze every
/// other stream of the connection. Windows are limits, not allocations.
pub(super) const CONNECTION_WINDOW: u32 = STREAMS * STREAM_WINDOW;

/// The relay's receive window for a connection without streams: HELLO, what a bridge sends without
/// waiting for the answer, and calls, which are read as they arrive.
const FIRST_WINDOW: u32 = 64 << 10;

/// How much unacknowledged data the relay buffers for a connection without streams: one answer.
const FIRST_SEND_WINDOW: u32 = 256 << 10;

/// An agent's receive window for all streams whose first frame has not authenticated. An honest
/// relay needs a fraction of it: such a stream is read frame by frame.
const UNPROVEN_WINDOW: u32 = 16 << 20;

/// The window of an enrolling agent: the answers of a mailbox are at most 256 KiB, one at a time.
const MAILBOX_WINDOW: u32 = 512 << 10;

/// An agent's receive window for a connection with this many authenticated streams.
pub(super) fn window(authenticated: u32) -> u32 {
    UNPROVEN_WINDOW + authenticated.min(STREAMS) * STREAM_WINDOW
}

/// The maximum of unacknowledged data that a connection buffers for all its streams.
const SEND_WINDOW: u64 = 16 << 20;

/// The relay's receive window for a connection with this many streams. It covers all of them
/// unread: with less, stalled readers would block the others.
pub(super) fn relay_window(streams: u32) -> u32 {
    FIRST_WINDOW + streams.min(STREAMS) * STREAM_WINDOW
}

/// How much unacknowledged data the relay buffers for a connection with this many streams.
pub(super) fn relay_send_window(streams: u32) -> u64 {
    let all = u64::from(streams.min(STREAMS)) * u64::from(STREAM_WINDOW);
    (u64::from(FIRST_SEND_WINDOW) + all).min(SEND_WINDOW)
}

/// The keep-alive interval. NAT mappings live for at least 30 s. An idle agent learns with its next
/// packet that its relay was restarted: even if all reconnect at once, they are back within ten
/// seconds.
const KEEP_ALIVE: Duration = Duration::from_secs(7);

/// The idle timeout, in milliseconds.
const IDLE: u32 = 30_000;

/// The initial estimate of the round trip. With the default of 333 ms the first loss costs a
/// second.
const INITIAL_RTT: Duration = Duration::from_millis(100);

/// How long a peer may delay an acknowledgement. A lost key is retransmitted only after this delay.
/// If the echo comes sooner, it carries the acknowledgement.
const ACK_DELAY: Duration = Duration::from_millis(5);

/// The size requested for a socket's kernel buffers; the system may grant less.
const SOCKET_BUFFER: usize = 4 << 20;

/// The largest UDP payload. It fits the jumbo frames of clouds and loopback, as a packet costs
/// nearly the same whatever its size. Path MTU discovery probes for it; an interface with an MTU of
/// 1,500 bytes rejects the probes before they leave the machine. It is not larger because quinn
/// passes ten packets to the kernel in one call, which accepts at most 65,507 bytes, and would
/// mistake the error for a black hole.
pub(super) const LARGEST_PACKET: u16 = 6_500;

/// The packet size before the path MTU is known.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Path {
    /// Any path: the size that every path of the Internet carries.
    Far,
    /// A path within this machine, which carries the largest size. Discovery would only delay the
    /// first answers: it continues as long as replies arrive immediately.
    Near,
}

impl Path {
    /// Classifies the path to an address.
    pub(super) fn to(address: SocketAddr) -> Self {
        if address.ip().to_canonical().is_loopback() { Self::Near } else { Self::Far }
    }
}

/// The transport configuration of a client, which keeps its NAT mapping alive.
///
/// Only an agent lets the relay open streams: each may cost as much memory as its window.
pub(super) fn client(path: Path, role: Role, attended: &Attended) -> Arc<TransportConfig> {
    let (streams, window) = match role {
        Role::Agent => (STREAMS, UNPROVEN_WINDOW),
        Role::Device => (0, CONNECTION_WINDOW),
        Role::Enrolling => (0, MAILBOX_WINDOW),
    };
    let mut config = config(path);
    config
        .congestion_controller_factory(Arc::new(CappedCubicFactory { attended: attended.clone() }));
    config
        .keep_alive_interval(Some(KEEP_ALIVE))
        .receive_window(window.into())
        .max_concurrent_bidi_streams(streams.into());
    Arc::new(config)
}

/// The transport configuration of a server, for a peer that is unknown as yet and has no streams.
pub(super) fn server(path: Path) -> Arc<TransportConfig> {
    let mut config = config(path);
    config
        .receive_window(relay_window(0).into())
        .send_window(relay_send_window(0))
        .max_concurrent_bidi_streams(FIRST_STREAMS.into());
    Arc::new(config)
}

fn config(path: Path) -> TransportConfig {
    let mut discovery = MtuDiscoveryConfig::default();
    discovery.upper_bound(LARGEST_PACKET);
    let mut acks = AckFrequencyConfig::default();
    acks.max_ack_delay(Some(ACK_DELAY));
    let mut config = TransportConfig::default();
    config.ack_frequency_config(Some(acks));
    if path == Path::Near {
        config.initial_mtu(LARGEST_PACKET);
    }
    config
        .mtu_discovery_config(Some(discovery))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW))
        .send_window(SEND_WINDOW)
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(IDLE))))
        .initial_rtt(INITIAL_RTT)
        .datagram_receive_buffer_size(None);
    config
}

/// Creates a UDP socket with buffers as large as the system allows.
pub(super) fn socket(address: SocketAddr) -> std::io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() && address.ip().is_unspecified() {
        socket.set_only_v6(false)?;
    }
    // Larger buffers are better, but not required.
    let _ = socket.set_recv_buffer_size(SOCKET_BUFFER);
    let _ = socket.set_send_buffer_size(SOCKET_BUFFER);
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// The endpoint configuration of a client.
pub(super) fn client_endpoint() -> EndpointConfig {
    endpoint(EndpointConfig::default())
}

fn endpoint(mut config: EndpointConfig) -> EndpointConfig {
    config.max_udp_payload_size(LARGEST_PACKET).expect("it is between 1,200 and 65,527");
    config
}

/// The endpoint configuration of a server: connection ids that name endpoint and node, and
/// stateless resets that a restarted process can still sign, so that its former peers learn of the
/// restart at once.
pub(super) fn server_endpoint(
    node: u16,
    reset_key: &[u8; 32],
    cid_key: &[u8; 32],
) -> EndpointConfig {
    let reset_key = hmac::Key::new(hmac::HMAC_SHA256, reset_key);
    let mut config = endpoint(EndpointConfig::new(Arc::new(reset_key)));
    let key = hmac::Key::new(hmac::HMAC_SHA256, cid_key);
    config.cid_generator(move || Box::new(CidGenerator::new(node, key.clone())));
    // quinn's own limit would answer only one of the stray packets of each read, and a thousand
    // agents would learn late that the relay was restarted. Our limit is in `CidGenerator`.
    config.min_reset_interval(Duration::ZERO);
    config
}

/// The maximum number of stray packets with our ids that are answered per second. An answer is
/// smaller than the packet, so that it cannot amplify; this bounds what answering costs us.
const RESETS_PER_SECOND: u32 = 20_000;

/// Connection ids of 8 bytes: endpoint u8 · node u16 · random, 4 bytes · keyed check u8.
struct CidGenerator {
    endpoint: u8,
    node: u16,
    key: hmac::Key,
    strays: Mutex<StrayCount>,
}

/// How many packets of connections that no longer exist were recognised in the current second.
#[derive(Default)]
struct StrayCount {
    since: Option<Instant>,
    count: u32,
}

impl CidGenerator {
    fn new(node: u16, key: hmac::Key) -> Self {
        Self { endpoint: 0, node, key, strays: Mutex::default() }
    }

    /// Whether one more stray packet may be answered.
    fn may_answer(&self, now: Instant) -> bool {
        let mut strays = self.strays.lock().expect("nothing panics while it is held");
        if strays.since.is_none_or(|since| now.duration_since(since) >= Duration::from_secs(1)) {
            *strays = StrayCount { since: Some(now), count: 0 };
        }
        strays.count += 1;
        strays.count <= RESETS_PER_SECOND
    }

    /// Computes the check byte. It filters out most foreign packets; a stateless reset for the rest
    /// costs little.
    fn check(&self, head: &[u8]) -> u8 {
        hmac::sign(&self.key, head).as_ref().first().copied().unwrap_or_default()
    }
}

impl ConnectionIdGenerator for CidGenerator {
    fn generate_cid(&mut self) -> ConnectionId {
        let mut id = [0; 8];
        id[0] = self.endpoint;
        id[1..3].copy_from_slice(&self.node.to_be_bytes());
        // quinn detects a collision; without random numbers ids are guessable, but not wrong.
        let _ = getrandom::fill(&mut id[3..7]);
        id[7] = self.check(&id[..7]);
        ConnectionId::new(&id)
    }

    fn validate(&self, cid: &ConnectionId) -> Result<(), quinn_proto::InvalidCid> {
        let fits = cid.len() == 8 && self.check(&cid[..7]) == cid[7];
        // quinn calls this for packets of unknown connections, before it answers them.
        if fits && self.may_answer(Instant::now()) { Ok(()) } else { Err(quinn_proto::InvalidCid) }
    }

    fn cid_len(&self) -> usize {
        8
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_name_their_node_and_foreign_ones_are_told_apart() {
        let ids =
            |key: u8| CidGenerator::new(0x0203, hmac::Key::new(hmac::HMAC_SHA256, &[key; 32]));
        let id = ids(7).generate_cid();
        assert_eq!(id[..3], [0, 2, 3]);
        assert!(ids(7).validate(&id).is_ok() && ids(8).validate(&id).is_err());
        assert!(ids(7).validate(&ConnectionId::new(&[0; 4])).is_err());
    }

    #[test]
    fn a_flood_of_strays_is_answered_up_to_a_limit_and_again_in_the_next_second() {
        let ids = CidGenerator::new(1, hmac::Key::new(hmac::HMAC_SHA256, &[7; 32]));
        let now = Instant::now();
        let answered = (0..2 * RESETS_PER_SECOND).filter(|_| ids.may_answer(now)).count();
        assert_eq!(answered, RESETS_PER_SECOND as usize);
        assert!(ids.may_answer(now + Duration::from_secs(1)));
    }
}
