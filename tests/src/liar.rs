//! An agent with the real keys of a server that sends what no honest one does.

use std::sync::Arc;

use farwire_keystore::{Enrollment, StateDir, Transport};
use farwire_link::inner::agent::{Link, Me};
use farwire_link::outer::congestion::Attended;
use farwire_link::outer::dial::{self, Connection, Identity};
use farwire_link::outer::opening::Opening;
use farwire_link::outer::{RecvHalf, SendHalf};
use farwire_protocol::address::Relay;
use farwire_protocol::cbor::Blob;
use farwire_protocol::handshake::{Accept, Peer};
use farwire_protocol::id::Nonce;
use farwire_protocol::outer::Role;
use farwire_protocol::streams::Kind;
use farwire_protocol::surface::Surface;
use tokio::task::JoinHandle;
use zeroize::Zeroizing;

use crate::World;
use crate::simulated::nonce;

/// What it sends on a stream, in order.
#[derive(Clone, Debug)]
pub enum Said {
    /// A message.
    Message(Vec<u8>),
    /// Bytes of a channel.
    Data(u8, Vec<u8>),
    /// The last frame.
    End(Vec<u8>),
}

/// Returns what to send on a stream of a kind, by its request: the first message of a control
/// stream, and otherwise the message that created the conversation.
pub type Script = Arc<dyn Fn(Kind, &[u8]) -> Vec<Said> + Send + Sync>;

/// The lying agent, until it is dropped.
#[derive(Debug)]
pub struct Liar(JoinHandle<()>);

impl Drop for Liar {
    fn drop(&mut self) {
        self.0.abort();
    }
}

struct Lies {
    transport: Transport,
    instance: Nonce,
    links: std::sync::Mutex<Vec<Arc<Link>>>,
    script: Script,
    build: String,
}

impl Liar {
    /// Takes the place of a server's agent, which must have ended. `build` is the build that it
    /// claims to be.
    pub async fn start(world: &World, server: &str, build: &str, script: Script) -> Self {
        let state = StateDir::open(&world.path(server)).expect("a state");
        let identity = state.identity().expect("it can be read").expect("there is one");
        let Enrollment::Enrolled(enrolled) = state.enrollments().load().expect("it can be read")
        else {
            panic!("{server} is not enrolled")
        };
        let transport = identity.open_transport().expect("its keys");
        let lies = Arc::new(Lies {
            transport,
            instance: nonce(),
            links: std::sync::Mutex::default(),
            script,
            build: build.to_owned(),
        });
        let connection = lies.connect(&enrolled.relay).await;
        Self(tokio::spawn(async move {
            while let Ok((send, recv)) = connection.accept().await {
                let lies = lies.clone();
                tokio::spawn(async move { lies.serve(send, recv).await });
            }
        }))
    }
}

impl Lies {
    async fn connect(&self, relay: &Relay) -> Connection {
        let identity = Identity {
            role: Role::Agent,
            bundle: self.transport.bundle.clone(),
            kt: self.transport.kt.clone(),
            instance: self.instance,
            build: self.build.clone(),
            found: None,
            enrollment: None,
            attended: Attended::default(),
        };
        let connection = dial::dial(relay, &identity).await.expect("the relay answers");
        connection.welcome().await.expect("the relay lets it in");
        connection
    }

    async fn serve(&self, send: SendHalf, mut recv: RecvHalf) {
        let Ok((_, opening)) = Opening::read_routed(&mut recv).await else { return };
        if opening.header.is_handshake() {
            return self.shake(&opening, send, recv).await;
        }
        let link = {
            let links = self.links.lock().expect("nothing panics while it is held");
            links.iter().find(|link| link.id() == opening.header.link).cloned()
        };
        let Some(link) = link else { return };
        let Ok((open, mut writer, mut reader)) = link.admit(&opening, send, recv).await else {
            return;
        };
        let kind = Kind::from_number(open.kind);
        let mut request = open.create.map(|create| create.0).unwrap_or_default();
        if kind == Kind::Control {
            let Ok(frame) = reader.next().await else { return };
            request = frame.payload.to_vec();
        }
        for said in (self.script)(kind, &request) {
            match said {
                Said::Message(bytes) => writer.message(&bytes),
                Said::Data(channel, bytes) => writer.data(channel, &bytes),
                Said::End(bytes) => writer.end(&bytes),
            }
        }
        // The bridge may have hung up because of what it received.
        let _ = writer.flush().await;
        while reader.next().await.is_ok() {}
    }

    async fn shake(&self, opening: &Opening, send: SendHalf, recv: RecvHalf) {
        let bundle = &self.transport.bundle;
        let me = Me {
            kn: Zeroizing::new(*self.transport.kn.as_bytes()),
            peer: Peer { id: bundle.id, kn: bundle.kn, trust_domain: bundle.trust_domain },
        };
        let accept = Accept {
            bundle: Blob(bundle.encode()),
            log_head: None,
            grants: None,
            beacon: None,
            surface: Surface::Human,
            instance: self.instance,
            limits: None,
            build: self.build.clone(),
            time: 0,
        };
        if let Ok((link, ())) = Link::answer(&me, opening, send, recv, |_| Ok((accept, ()))).await {
            self.links.lock().expect("nothing panics while it is held").push(Arc::new(link));
        }
    }
}
