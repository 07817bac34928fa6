//! What one agent process has: its keys, its jobs, its links, and who may come in.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use farwire_keystore::{Device, State, Transport};
use farwire_link::inner::agent::{Link, Me, Turned};
use farwire_link::outer::congestion::Attended;
use farwire_link::outer::opening::{Opening, OpeningError};
use farwire_link::outer::{RecvHalf, SendHalf};
use farwire_protocol::cbor::Blob;
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::handshake::{Accept, Claim, Limits, Peer};
use farwire_protocol::header::{Reset, Route};
use farwire_protocol::id::Nonce;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;
use zeroize::Zeroizing;

use crate::conversations::{About, Conversations};
use crate::files::Roots;
use crate::files::spec::Spec;
use crate::jobs::owner::Owner;
use crate::jobs::{CONCURRENT, Jobs, holders};
use crate::links::Links;
use crate::rates::Rates;
use crate::streams::{self, Context};

/// Program and version, as others see it.
pub(crate) const BUILD: &str = concat!("farwire-agent ", env!("CARGO_PKG_VERSION"));

/// So many handshakes at once: each costs a millisecond and some memory.
const HALF_OPEN: usize = 16;

/// Seconds since 1970.
pub(crate) fn unix_time() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// One agent process.
#[derive(Debug)]
pub(crate) struct Agent {
    pub(crate) state: State,
    pub(crate) transport: Transport,
    pub(crate) instance: Nonce,
    pub(crate) started: Instant,
    pub(crate) jobs: Arc<Jobs>,
    pub(crate) conversations: Conversations,
    pub(crate) links: Links,
    /// The directories that the owner has opened.
    pub(crate) roots: Roots,
    /// Whether somebody is at a terminal.
    pub(crate) attended: Attended,
    rates: Rates,
    half_open: Semaphore,
    streams: TaskTracker,
}

impl Agent {
    /// Takes over what the agent before it had. Of `sessions` so many may be open at once; `roots` are open
    /// for files.
    pub(crate) async fn new(
        state: State,
        transport: Transport,
        (sessions, roots): (Option<usize>, &[Spec]),
    ) -> Result<Self, Failure> {
        let roots = Roots::open(roots, state.path()).await?;
        let mut instance = [0; 16];
        getrandom::fill(&mut instance).map_err(|error| {
            Failure::new(Kind::ResourceExhausted, format!("no random numbers: {error}"))
        })?;
        let instance = Nonce(instance);
        let jobs = Jobs::open(state.path(), instance, holders::process)?;
        let jobs = Arc::new(jobs.with_sessions(sessions));
        let conversations = Conversations::default();
        for (owner, conversation, job, delivery) in jobs.adopt().await {
            conversations.recall(&owner, conversation, About { job, delivery, taken: false });
        }
        Ok(Self {
            state,
            transport,
            instance,
            started: Instant::now(),
            jobs,
            conversations,
            links: Links::default(),
            roots,
            attended: Attended::default(),
            rates: Rates::default(),
            half_open: Semaphore::new(HALF_OPEN),
            streams: TaskTracker::new(),
        })
    }

    /// Serves a stream that the relay has opened, on a task of its own.
    pub(crate) fn receive(self: &Arc<Self>, send: SendHalf, recv: RecvHalf) {
        let agent = self.clone();
        self.streams.spawn(async move { agent.serve(send, recv).await });
    }

    async fn serve(self: Arc<Self>, mut send: SendHalf, mut recv: RecvHalf) {
        let refusal = match Opening::read_routed(&mut recv).await {
            Ok((_, opening)) if opening.header.target != self.transport.bundle.id.target() => {
                Reset::Malformed
            }
            Ok((route, opening)) if opening.header.is_handshake() => {
                return self.shake(route, &opening, send, recv).await;
            }
            Ok((_, opening)) => match self.links.find(&opening.header.link) {
                Some(found) => return self.admit(found, &opening, send, recv).await,
                None => Reset::UnknownLink,
            },
            Err(OpeningError::Bad(_)) => Reset::Malformed,
            Err(OpeningError::Broken(_) | OpeningError::Slow) => Reset::Cancelled,
        };
        recv.stop(refusal);
        send.reset(refusal);
    }

    async fn admit(
        self: Arc<Self>,
        (link, owner): (Arc<Link>, Arc<Owner>),
        opening: &Opening,
        send: SendHalf,
        recv: RecvHalf,
    ) {
        match link.admit(opening, send, recv).await {
            Ok((open, mut writer, mut reader)) => {
                if !self.links.may_open(&link) {
                    reader.io().stop(Reset::Overloaded);
                    writer.io().reset(Reset::Overloaded);
                    return;
                }
                let context = Context { agent: self, link: link.clone(), owner };
                tokio::select! {
                    () = streams::serve(context, open, writer, reader) => {}
                    // The stream is cut, and its run goes on: the bridge takes it up on a new link.
                    () = link.over() => {}
                }
            }
            Err((turned, mut send, mut recv)) => {
                tracing::debug!(%turned, "a stream was turned away");
                recv.stop(turned.reset());
                send.reset(turned.reset());
            }
        }
    }

    async fn shake(&self, route: Route, opening: &Opening, mut send: SendHalf, mut recv: RecvHalf) {
        let permit = self.half_open.try_acquire();
        let (true, Ok(_permit)) = (self.rates.begin(route), permit) else {
            recv.stop(Reset::Overloaded);
            send.reset(Reset::Overloaded);
            return;
        };
        let bundle = &self.transport.bundle;
        let me = Me {
            kn: Zeroizing::new(*self.transport.kn.as_bytes()),
            peer: Peer { id: bundle.id, kn: bundle.kn, trust_domain: bundle.trust_domain },
        };
        match Link::answer(&me, opening, &mut send, &mut recv, |claim| self.judge(claim, route))
            .await
        {
            Ok((link, owner)) => {
                if !self.links.insert(Arc::new(link), Arc::new(owner)) {
                    tracing::warn!("a link's id was taken");
                }
            }
            Err(turned) => {
                tracing::info!(%turned, "a handshake was turned away");
                if !matches!(turned, Turned::Rejected(_)) {
                    recv.stop(turned.reset());
                    send.reset(turned.reset());
                }
            }
        }
    }

    /// Whether somebody who has proven a device's keys may come in, and as whom.
    fn judge(&self, claim: &Claim, route: Route) -> Result<(Accept, Owner), Failure> {
        let device = self.authorised(claim)?;
        if !self.rates.complete(route, device.bundle.id) {
            return Err(Failure::new(Kind::Overloaded, "this device connects too often")
                .with_hint("keep one process, as `farwire mcp serve` does, or wait a moment"));
        }
        let surface = match claim.surface() {
            Some(Ok(delegation)) => delegation.surface,
            Some(Err(error)) => {
                return Err(Failure::caused(
                    Kind::NotAuthorized,
                    "the surface is not proven",
                    &error,
                ));
            }
            None => return Err(Failure::new(Kind::NotAuthorized, "no surface is proven")),
        };
        let accept = Accept {
            bundle: Blob(self.transport.bundle.encode()),
            log_head: None,
            grants: None,
            beacon: None,
            surface: surface.clone(),
            instance: self.instance,
            limits: Some(Limits { streams: Some(256), runs: u32::try_from(CONCURRENT).ok() }),
            build: BUILD.to_owned(),
            time: unix_time(),
        };
        Ok((accept, Owner { device: device.bundle.id, surface, name: device.name }))
    }

    /// Read from the disk each time: a device that was removed is out at once.
    fn authorised(&self, claim: &Claim) -> Result<Device, Failure> {
        let refused = || {
            let device = claim.bundle.id.fingerprint(farwire_protocol::id::Kind::Device);
            Failure::new(Kind::NotAuthorized, format!("device {device} is not authorised here"))
        };
        let device = self.state.devices().lookup(&claim.bundle.id)?.ok_or_else(refused)?;
        if !claim.bundle.succeeds(&device.bundle) {
            return Err(Failure::new(
                Kind::NotAuthorized,
                "a newer bundle of this device is known",
            ));
        }
        Ok(device)
    }
}
