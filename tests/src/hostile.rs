//! A relay in the hands of an enemy: it holds the relay's real key, terminates both hops, records
//! everything, and alters what it is told to.
//!
//! It can do all that the real one could. What it achieves is what the tests are about.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ed25519_dalek::SigningKey;
use farwire_link::outer::listen::{Arrival, Guest, Listener, Options};
use farwire_link::outer::opening::Opening;
use farwire_link::outer::{RecvHalf, SendHalf, control, reset_of};
use farwire_protocol::cbor::{self, Blob};
use farwire_protocol::header::Reset;
use farwire_protocol::outer::{
    Answer, Call, Done, Hello, LIMIT, List, Mail, MailGet, Presence, Role, Servers, Verb as _,
    Welcome,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::watch;

use crate::World;
use crate::world::program_file;

/// Which way bytes go.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Way {
    /// From the bridge to the agent.
    Forth,
    /// Back.
    Back,
}

/// What is done to one stream, by its number in the order of opening; handshakes count.
#[derive(Clone, Debug)]
pub enum Mischief {
    /// Flips a bit of the byte at this offset after the header.
    Flip(Way, usize),
    /// Ends this direction after so many bytes, as if it were its end.
    Finish(Way, usize),
    /// Flips a bit of the frame or handshake message with this number, from 0.
    FlipFrame(Way, usize),
    /// Breaks the stream off for this reason after so many bytes of this direction.
    Break(Way, usize, Reset),
    /// Exchanges the first two frames of this direction.
    Swap(Way),
    /// Repeats the first frame of this direction.
    Repeat(Way),
    /// Holds everything of this direction back for [`HOLD`], and then lets it go.
    Hold(Way),
    /// Lets what comes first of this direction pass, and holds the rest back as [`Self::Hold`]
    /// does.
    HoldRest(Way),
    /// Turns the stream away for this reason: the agent never hears of it.
    TurnAway(Reset),
    /// Breaks the answer off for this reason before its first byte, and lets the request pass.
    Refuse(Reset),
    /// Closes the whole connection of the bridge once the request has passed.
    Close,
    /// Breaks the stream off towards the bridge for this reason once so many bytes of the request
    /// have come, and keeps them from the agent until [`Hostile::let_go`].
    Detain(usize, Reset),
}

/// Longer than a stream may be acted on, and than a silent one is waited for.
pub const HOLD: Duration = Duration::from_secs(50);

/// Every code of a reset, and two that nobody knows.
pub const CODES: [u32; 14] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 77, u32::MAX];

/// A stream as it went by.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// Header and rest, as they came.
    pub head: Vec<u8>,
    /// What the bridge sent after them.
    pub forth: Vec<u8>,
    /// What the agent sent.
    pub back: Vec<u8>,
}

/// The enemy.
#[derive(Debug)]
pub struct Hostile {
    shared: Arc<Shared>,
    task: tokio::task::JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    agent: watch::Sender<Option<Guest>>,
    streams: Mutex<Vec<Recorded>>,
    opened: AtomicUsize,
    plan: Mutex<Vec<(usize, Mischief)>>,
    /// What is done to every stream.
    always: Mutex<Option<Mischief>>,
    /// What is detained may go on.
    let_go: watch::Sender<bool>,
    /// So many streams that were detained have been answered, or turned away.
    answered: watch::Sender<usize>,
}

impl Drop for Hostile {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Hostile {
    /// Takes the place of a world's relay. The agent comes at once: it is started anew, so that it
    /// does not wait until it has noticed that the relay was killed.
    pub async fn replace(world: &mut World, server: &str) -> Self {
        let key = world.relay_key();
        world.end_agent(server).await;
        world.kill_relay().await;
        let hostile = Self::start(key, world.port);
        world.launch_agent(server, &program_file("farwire-agent"));
        hostile.agent().await;
        hostile
    }

    /// Takes the place of the relay with this key on this port.
    fn start(key: [u8; 32], port: u16) -> Self {
        let listener = Listener::bind(&Options {
            listen: SocketAddr::from(([127, 0, 0, 1], port)),
            key: SigningKey::from_bytes(&key),
            node: 1,
            reset_key: [1; 32],
            cid_key: [2; 32],
            keylog: None,
        })
        .expect("the port is free");
        let shared = Arc::new(Shared {
            agent: watch::Sender::new(None),
            streams: Mutex::default(),
            opened: AtomicUsize::new(0),
            plan: Mutex::default(),
            always: Mutex::default(),
            let_go: watch::Sender::new(false),
            answered: watch::Sender::new(0),
        });
        let task = tokio::spawn({
            let shared = shared.clone();
            async move {
                while let Some(knock) = listener.accept().await {
                    let shared = shared.clone();
                    tokio::spawn(async move {
                        if let Ok(arrival) = knock.enter().await {
                            arrival.link.trust();
                            visit(&shared, arrival).await;
                        }
                    });
                }
            }
        });
        Self { shared, task }
    }

    /// Waits until an agent is here.
    pub async fn agent(&self) -> Guest {
        let mut agent = self.shared.agent.subscribe();
        let found = agent.wait_for(Option::is_some).await.expect("it lives").clone();
        found.expect("it was waited for")
    }

    /// Does this to the stream that is the `n`th from now on.
    pub fn plan(&self, n: usize, mischief: Mischief) {
        let at = self.shared.opened.load(Ordering::SeqCst) + n;
        self.shared.plan.lock().expect("whole").push((at, mischief));
    }

    /// Does this to every stream from now on, or nothing any more.
    pub fn always(&self, mischief: Option<Mischief>) {
        *self.shared.always.lock().expect("whole") = mischief;
    }

    /// Passes on what was detained, and waits until the agent has answered it, or turned it away.
    pub async fn let_go(&self) {
        let mut answered = self.shared.answered.subscribe();
        self.shared.let_go.send_replace(true);
        answered.wait_for(|answered| *answered > 0).await.expect("it lives");
    }

    /// Forgets what was planned and has not come to pass.
    pub fn forget_plans(&self) {
        self.shared.plan.lock().expect("whole").clear();
    }

    /// How many streams have been opened.
    pub fn opened(&self) -> usize {
        self.shared.opened.load(Ordering::SeqCst)
    }

    /// Everything that went by, in the order of opening.
    pub fn recorded(&self) -> Vec<Recorded> {
        self.shared.streams.lock().expect("whole").clone()
    }

    /// Opens a stream to the agent with these bytes and gives what comes back until its end.
    pub async fn inject(&self, bytes: &[u8]) -> Vec<u8> {
        let (mut send, mut recv) = self.agent().await.open().await.expect("the agent is here");
        send.write_all(&7_u32.to_be_bytes()).await.expect("it takes bytes");
        // The agent may turn the stream away before it has all of it.
        let _ = send.write_all(bytes).await;
        send.finish();
        let mut back = Vec::new();
        // However it ends: what came is what counts.
        let _ = recv.read_to_end(&mut back).await;
        back
    }
}

async fn visit(shared: &Arc<Shared>, arrival: Arrival) {
    let Arrival { link, mut send, mut recv, .. } = arrival;
    let Ok(call) = control::read::<Call>(&mut recv).await else { return };
    let Ok(hello) = cbor::decode::<Hello>(&call.body, LIMIT) else { return };
    let welcome = Welcome {
        node: "1".to_owned(),
        build: "hostile".to_owned(),
        time: 0,
        streams: 256,
        observed: "0.0.0.0:0".to_owned(),
        mail: Some(false),
    };
    if say(&mut send, call.id, &welcome).await.is_err() {
        return;
    }
    match hello.role {
        Role::Agent => {
            shared.agent.send_replace(Some(link.clone()));
        }
        _ => {
            let (shared, link) = (shared.clone(), link.clone());
            tokio::spawn(async move {
                while let Ok((send, recv)) = link.accept().await {
                    tokio::spawn(carry(shared.clone(), link.clone(), (send, recv)));
                }
            });
        }
    }
    while let Ok(call) = control::read::<Call>(&mut recv).await {
        let said = match call.verb {
            Presence::NUMBER => say(&mut send, call.id, &Done {}).await,
            MailGet::NUMBER => {
                say(&mut send, call.id, &Mail { pieces: Vec::new(), next: None }).await
            }
            List::NUMBER => {
                say(&mut send, call.id, &Servers { servers: Vec::new(), next: None }).await
            }
            _ => return,
        };
        if said.is_err() {
            return;
        }
    }
}

async fn say<T: minicbor::Encode<()>>(
    send: &mut SendHalf,
    id: u32,
    body: &T,
) -> std::io::Result<()> {
    control::write(send, &Answer { id, failure: None, body: Blob(cbor::encode(body)) }).await
}

async fn carry(shared: Arc<Shared>, bridge: Guest, (mut send, mut recv): (SendHalf, RecvHalf)) {
    let number = shared.opened.fetch_add(1, Ordering::SeqCst);
    let Ok(opening) = Opening::read(&mut recv).await else { return };
    let head = [opening.raw.as_slice(), &opening.rest].concat();
    {
        let mut streams = shared.streams.lock().expect("whole");
        let empty = Recorded { head: Vec::new(), forth: Vec::new(), back: Vec::new() };
        if streams.len() <= number {
            streams.resize(number + 1, empty);
        }
        streams[number].head.clone_from(&head);
    }
    let plan: Vec<Mischief> = {
        let plan = shared.plan.lock().expect("whole");
        let planned = plan.iter().filter(|(at, _)| *at == number).map(|(_, what)| what.clone());
        planned.chain(shared.always.lock().expect("whole").clone()).collect()
    };
    if let Some(reason) = plan.iter().find_map(|what| match what {
        Mischief::TurnAway(reason) => Some(*reason),
        _ => None,
    }) {
        recv.stop(reason);
        return send.reset(reason);
    }
    let Some(agent) = shared.agent.borrow().clone() else {
        send.reset(Reset::Offline);
        return;
    };
    if let Some((bytes, reason)) = plan.iter().find_map(|what| match what {
        Mischief::Detain(bytes, reason) => Some((*bytes, *reason)),
        _ => None,
    }) {
        return detain(&shared, &agent, (head, bytes, reason), (send, recv)).await;
    }
    let Ok((mut far_send, far_recv)) = agent.open().await else { return };
    let first = [1_u32.to_be_bytes().as_slice(), &head].concat();
    if far_send.write_all(&first).await.is_err() {
        return;
    }
    let back = async {
        if plan.iter().any(|what| matches!(what, Mischief::Close)) {
            let mut far_recv = far_recv;
            // The agent answers, so it has been asked.
            let _ = far_recv.read_chunk(1).await;
            return bridge.close(Reset::Closing);
        }
        half(&shared, number, Way::Back, &plan, (far_recv, send)).await;
    };
    tokio::join!(half(&shared, number, Way::Forth, &plan, (recv, far_send)), back);
}

/// See [`Mischief::Detain`].
async fn detain(
    shared: &Shared,
    agent: &Guest,
    (head, wanted, reason): (Vec<u8>, usize, Reset),
    (mut send, mut recv): (SendHalf, RecvHalf),
) {
    let mut detained = [1_u32.to_be_bytes().as_slice(), &head].concat();
    let all = detained.len() + wanted;
    while detained.len() < all {
        let Ok(Some(chunk)) = recv.read_chunk(64 << 10).await else { break };
        detained.extend_from_slice(&chunk);
    }
    send.reset(reason);
    recv.stop(reason);
    let mut let_go = shared.let_go.subscribe();
    if let_go.wait_for(|gone| *gone).await.is_err() {
        return;
    }
    let Ok((mut send, mut recv)) = agent.open().await else { return };
    let _ = send.write_all(&detained).await;
    // It answers, or turns the stream away.
    let _ = recv.read_chunk(1).await;
    shared.answered.send_modify(|answered| *answered += 1);
    let _ = recv.read_to_end(&mut Vec::new()).await;
}

/// Where the frames of a direction begin: each has two bytes of length before it.
#[derive(Default)]
struct Frames {
    number: usize,
    prefix: Vec<u8>,
    left: usize,
}

impl Frames {
    /// The number of the frame of which this byte is the first after its length, if it is one.
    fn begins(&mut self, byte: u8) -> Option<usize> {
        if self.left > 0 {
            self.left -= 1;
            return None;
        }
        if self.prefix.len() < 2 {
            self.prefix.push(byte);
            return None;
        }
        self.left = usize::from(u16::from_be_bytes([self.prefix[0], self.prefix[1]])).max(1) - 1;
        self.prefix.clear();
        self.number += 1;
        Some(self.number - 1)
    }
}

/// Flips a bit at the beginning of each frame that the plan names.
fn flip_frames(frames: &mut Frames, bytes: &mut [u8], plan: &[Mischief], way: Way) {
    for byte in bytes {
        let begins = frames.begins(*byte);
        let flips = |what: &Mischief| match what {
            Mischief::FlipFrame(w, at) => *w == way && begins == Some(*at),
            _ => false,
        };
        if plan.iter().any(flips) {
            *byte ^= 1;
        }
    }
}

async fn half(
    shared: &Shared,
    number: usize,
    way: Way,
    plan: &[Mischief],
    (mut recv, mut send): (RecvHalf, SendHalf),
) {
    let mut seen = 0;
    let mut frames = Frames::default();
    let mut held: Vec<u8> = Vec::new();
    let reorders = plan
        .iter()
        .any(|what| matches!(what, Mischief::Swap(w) | Mischief::Repeat(w) if *w == way));
    let (mut reordered, mut late) = (false, false);
    if plan.iter().any(|what| matches!(what, Mischief::Hold(w) if *w == way)) {
        tokio::time::sleep(HOLD).await;
    }
    let refused = plan.iter().find_map(|what| match what {
        Mischief::Refuse(reason) if way == Way::Back => Some(*reason),
        _ => None,
    });
    if let Some(reason) = refused {
        // The other half goes on, so that the agent does what it was asked.
        return send.reset(reason);
    }
    loop {
        let chunk = match recv.read_chunk(64 << 10).await {
            Ok(Some(chunk)) => chunk,
            Ok(None) => break,
            // With the same reason, as an honest relay does.
            Err(error) => return send.reset(reset_of(&error).unwrap_or(Reset::Cancelled)),
        };
        let mut bytes = chunk.to_vec();
        record(shared, number, way, &bytes);
        if reorders && !reordered {
            held.extend_from_slice(&bytes);
            match reorder(&held, plan, way) {
                Some(new) => {
                    bytes = new;
                    held.clear();
                    reordered = true;
                }
                None => continue,
            }
        }
        flip_frames(&mut frames, &mut bytes, plan, way);
        for what in plan {
            match what {
                Mischief::Flip(w, at) if *w == way && (seen..seen + bytes.len()).contains(at) => {
                    bytes[at - seen] ^= 1;
                }
                Mischief::Finish(w, at) if *w == way && seen + bytes.len() > *at => {
                    let _ = send.write_all(&bytes[..at.saturating_sub(seen)]).await;
                    send.finish();
                    return;
                }
                Mischief::Break(w, at, reason) if *w == way && seen + bytes.len() > *at => {
                    let _ = send.write_all(&bytes[..at.saturating_sub(seen)]).await;
                    send.reset(*reason);
                    return;
                }
                _ => {}
            }
        }
        let rest = |what: &Mischief| matches!(what, Mischief::HoldRest(w) if *w == way);
        if seen > 0 && !late && plan.iter().any(rest) {
            late = true;
            tokio::time::sleep(HOLD).await;
        }
        seen += bytes.len();
        if let Err(error) = send.write_all(&bytes).await {
            return recv.stop(reset_of(&error).unwrap_or(Reset::Cancelled));
        }
    }
    let _ = send.write_all(&held).await;
    send.finish();
}

fn record(shared: &Shared, number: usize, way: Way, bytes: &[u8]) {
    let mut streams = shared.streams.lock().expect("whole");
    let stream = &mut streams[number];
    match way {
        Way::Forth => stream.forth.extend_from_slice(bytes),
        Way::Back => stream.back.extend_from_slice(bytes),
    }
}

/// The bytes with their first frames exchanged or repeated, once enough of them have come.
fn reorder(held: &[u8], plan: &[Mischief], way: Way) -> Option<Vec<u8>> {
    let end = |from: usize| {
        let prefix = held.get(from..from + 2)?;
        let end = from + 2 + usize::from(u16::from_be_bytes([prefix[0], prefix[1]]));
        (held.len() >= end).then_some(end)
    };
    let first = end(0)?;
    let repeat = plan.iter().any(|what| matches!(what, Mischief::Repeat(w) if *w == way));
    if repeat {
        return Some([&held[..first], held].concat());
    }
    let second = end(first)?;
    Some([&held[first..second], &held[..first], &held[second..]].concat())
}
