//! How QUIC is tuned: windows, timers, connection ids, resets.

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

use crate::outer::congestion::{Attended, Short};

/// How much of one stream may be under way. At 20 ms this is 1.6 Gbit/s.
const STREAM_WINDOW: u32 = 4 << 20;

/// How many streams a peer may have open on a connection.
pub(super) const STREAMS: u32 = 256;

/// How many a program may have open at the relay before it is known to be a bridge. quinn keeps 80 bytes
/// for each stream that may come, which is a third of what an idle agent costs.
const FIRST_STREAMS: u32 = 16;

/// Must not be below streams × stream window: otherwise readers that have stopped freeze every
/// other stream of the connection. Windows are limits, not allocations.
pub(super) const CONNECTION_WINDOW: u32 = STREAMS * STREAM_WINDOW;

/// How much may come to the relay on a connection without streams: a HELLO, what a bridge says without waiting for
/// the answer, and calls, which are read as they come.
const FIRST_WINDOW: u32 = 64 << 10;

/// How much the relay keeps for a connection without streams until it is acknowledged: one answer.
const FIRST_SEND_WINDOW: u32 = 256 << 10;

/// How much may come to an agent on all streams together whose first frame has not authenticated. An honest
/// relay needs a fraction of it: such a stream is read frame by frame.
const UNPROVEN_WINDOW: u32 = 16 << 20;

/// The answers of a mailbox are at most 256 KiB, one at a time.
const MAILBOX_WINDOW: u32 = 512 << 10;

/// The connection's window at an agent while so many streams have authenticated.
pub(super) fn window(authenticated: u32) -> u32 {
    UNPROVEN_WINDOW + authenticated.min(STREAMS) * STREAM_WINDOW
}

/// Unacknowledged data that a connection keeps for all its streams.
const SEND_WINDOW: u64 = 16 << 20;

/// How much may come to the relay on a connection with so many streams, whether it is read or not: less, and readers
/// that have stopped would freeze the others.
pub(super) fn relay_window(streams: u32) -> u32 {
    FIRST_WINDOW + streams.min(STREAMS) * STREAM_WINDOW
}

/// How much the relay keeps for a connection with so many streams until it is acknowledged.
pub(super) fn relay_send_window(streams: u32) -> u64 {
    let all = u64::from(streams.min(STREAMS)) * u64::from(STREAM_WINDOW);
    (u64::from(FIRST_SEND_WINDOW) + all).min(SEND_WINDOW)
}

/// NAT mappings live for 30 s at least. An idle agent learns with its next packet that its relay was
/// restarted: with the rush of the return, everybody is back within ten seconds.
const KEEP_ALIVE: Duration = Duration::from_secs(7);

/// Without a sign of life for so long a connection is over.
const IDLE: u32 = 30_000;

/// The first guess of the round trip. The default of 333 ms makes the first loss cost a second.
const INITIAL_RTT: Duration = Duration::from_millis(100);

/// How long a peer may keep an acknowledgement. All of it is waited before a lost key is sent again. The echo
/// brings the acknowledgement along where it comes sooner.
const ACK_DELAY: Duration = Duration::from_millis(5);

/// Kernel buffers of a socket. What the system allows is taken.
const SOCKET_BUFFER: usize = 4 << 20;

/// Fits into the jumbo frames that clouds and loopback have: a packet costs nearly the same whatever
/// its size. It is tried, never assumed; an interface of 1,500 bytes turns the attempts away before
/// they leave the machine. Not larger, because quinn gives the kernel ten packets with one call, which
/// takes at most 65,507 bytes, and would take the refusal for a path that swallows packets.
pub(super) const LARGEST_PACKET: u16 = 6_500;

/// How large packets are before the path has been tried.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Path {
    /// Any: what every path of the Internet carries.
    Far,
    /// Within this machine, which carries the largest. A search would only hold up the first answers:
    /// it goes on for as long as the replies come at once.
    Near,
}

impl Path {
    /// The path to this address.
    pub(super) fn to(address: SocketAddr) -> Self {
        if address.ip().to_canonical().is_loopback() { Self::Near } else { Self::Far }
    }
}

/// The transport of a client, which keeps its NAT mapping alive.
///
/// Only an agent lets the relay open streams: each costs as much memory as its window.
pub(super) fn client(path: Path, role: Role, attended: &Attended) -> Arc<TransportConfig> {
    let (streams, window) = match role {
        Role::Agent => (STREAMS, UNPROVEN_WINDOW),
        Role::Device => (0, CONNECTION_WINDOW),
        Role::Enrolling => (0, MAILBOX_WINDOW),
    };
    let mut config = config(path);
    config.congestion_controller_factory(Arc::new(Short { attended: attended.clone() }));
    config
        .keep_alive_interval(Some(KEEP_ALIVE))
        .receive_window(window.into())
        .max_concurrent_bidi_streams(streams.into());
    Arc::new(config)
}

/// The transport of a server, towards somebody of whom it knows nothing yet and who has no stream.
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

/// A UDP socket with buffers as large as the system lets us have.
pub(super) fn socket(address: SocketAddr) -> std::io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() && address.ip().is_unspecified() {
        socket.set_only_v6(false)?;
    }
    // Larger buffers are better, and not having them is no error.
    let _ = socket.set_recv_buffer_size(SOCKET_BUFFER);
    let _ = socket.set_send_buffer_size(SOCKET_BUFFER);
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// The endpoint of a client.
pub(super) fn client_endpoint() -> EndpointConfig {
    endpoint(EndpointConfig::default())
}

fn endpoint(mut config: EndpointConfig) -> EndpointConfig {
    config.max_udp_payload_size(LARGEST_PACKET).expect("it is between 1,200 and 65,527");
    config
}

/// The endpoint of a server: ids that name endpoint and node, and resets that a restarted process
/// still signs, so that its former peers know at once.
pub(super) fn server_endpoint(
    node: u16,
    reset_key: &[u8; 32],
    cid_key: &[u8; 32],
) -> EndpointConfig {
    let reset_key = hmac::Key::new(hmac::HMAC_SHA256, reset_key);
    let mut config = endpoint(EndpointConfig::new(Arc::new(reset_key)));
    let key = hmac::Key::new(hmac::HMAC_SHA256, cid_key);
    config.cid_generator(move || Box::new(Ids::new(node, key.clone())));
    // quinn's own limit would answer one of all stray packets that are read together, and a thousand
    // agents would wait for the news that the relay was restarted. Ours is in `Ids`.
    config.min_reset_interval(Duration::ZERO);
    config
}

/// So many stray packets with ids of ours are answered in a second. An answer is smaller than what it
/// answers; this bounds what answering costs us.
const RESETS_PER_SECOND: u32 = 20_000;

/// Connection ids of 8 bytes: endpoint u8 · node u16 · random, 4 bytes · keyed check u8.
struct Ids {
    endpoint: u8,
    node: u16,
    key: hmac::Key,
    /// In which second how many ids of connections that are not ours any more were recognised.
    strays: Mutex<(Option<Instant>, u32)>,
}

impl Ids {
    fn new(node: u16, key: hmac::Key) -> Self {
        Self { endpoint: 0, node, key, strays: Mutex::default() }
    }

    /// Whether one more stray packet may be answered.
    fn may_answer(&self, now: Instant) -> bool {
        let mut strays = self.strays.lock().expect("nothing panics while it is held");
        if strays.0.is_none_or(|since| now.duration_since(since) >= Duration::from_secs(1)) {
            *strays = (Some(now), 0);
        }
        strays.1 += 1;
        strays.1 <= RESETS_PER_SECOND
    }

    /// Turns most strays away; a stateless reset for the rest costs little.
    fn check(&self, head: &[u8]) -> u8 {
        hmac::sign(&self.key, head).as_ref().first().copied().unwrap_or_default()
    }
}

impl ConnectionIdGenerator for Ids {
    fn generate_cid(&mut self) -> ConnectionId {
        let mut id = [0; 8];
        id[0] = self.endpoint;
        id[1..3].copy_from_slice(&self.node.to_be_bytes());
        // A collision is noticed by quinn; a generator that fails makes ids guessable, not wrong.
        let _ = getrandom::fill(&mut id[3..7]);
        id[7] = self.check(&id[..7]);
        ConnectionId::new(&id)
    }

    fn validate(&self, cid: &ConnectionId) -> Result<(), quinn_proto::InvalidCid> {
        let fits = cid.len() == 8 && self.check(&cid[..7]) == cid[7];
        // quinn asks for packets of connections that it does not know, before it answers them.
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
        let ids = |key: u8| Ids::new(0x0203, hmac::Key::new(hmac::HMAC_SHA256, &[key; 32]));
        let id = ids(7).generate_cid();
        assert_eq!(id[..3], [0, 2, 3]);
        assert!(ids(7).validate(&id).is_ok() && ids(8).validate(&id).is_err());
        assert!(ids(7).validate(&ConnectionId::new(&[0; 4])).is_err());
    }

    #[test]
    fn a_flood_of_strays_is_answered_up_to_a_limit_and_again_in_the_next_second() {
        let ids = Ids::new(1, hmac::Key::new(hmac::HMAC_SHA256, &[7; 32]));
        let now = Instant::now();
        let answered = (0..2 * RESETS_PER_SECOND).filter(|_| ids.may_answer(now)).count();
        assert_eq!(answered, RESETS_PER_SECOND as usize);
        assert!(ids.may_answer(now + Duration::from_secs(1)));
    }
}
