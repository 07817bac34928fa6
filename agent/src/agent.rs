//! One agent process: its keys, its jobs, its links, and who may connect.

use std::sync::Arc;
use std::time::Duration;

use farwire_keystore::{StateDir, Transport};
use farwire_link::inner::agent::{Link, Me, Rejection};
use farwire_link::inner::sealed::Writer;
use farwire_link::outer::congestion::Attended;
use farwire_link::outer::opening::{Opening, OpeningError};
use farwire_link::outer::{RecvHalf, SendHalf};
use farwire_protocol::bundle::SignedBundle;
use farwire_protocol::cbor::Blob;
use farwire_protocol::conversation::{End, message};
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::handshake::{Accept, Claim, Limits, Peer};
use farwire_protocol::header::{Reset, Route};
use farwire_protocol::id::Nonce;
use tokio::time::{Instant, timeout};
use tokio_util::task::TaskTracker;
use zeroize::Zeroizing;

use crate::build::BUILD;
use crate::conversations::{About, Conversations};
use crate::files::Roots;
use crate::files::spec::Spec;
use crate::gate::admission;
use crate::gate::demand::Demand;
use crate::gate::principal::Principal;
use crate::gate::reason::Denied;
use crate::jobs::users::Users;
use crate::jobs::{CONCURRENT, Jobs, Recalled, holders};
use crate::links::half_open::HalfOpen;
use crate::links::shares::STREAMS;
use crate::links::{Linked, Links};
use crate::os::clock::unix_time;
use crate::rates::Rates;
use crate::sessions::Sessions;
use crate::streams;
use crate::streams::context::{Context, Services};

/// How long the last frame of a stream that is cut may take to leave. A peer that does not read
/// gets a reset.
const LAST_WORD: Duration = Duration::from_millis(500);

/// One agent process.
#[derive(Debug)]
pub(crate) struct Agent {
    pub(crate) state: StateDir,
    pub(crate) transport: Transport,
    /// What streams use of it.
    pub(crate) services: Arc<Services>,
    rates: Rates,
    half_open: HalfOpen,
    streams: TaskTracker,
}

impl Agent {
    /// Takes over what the previous agent had. At most `sessions` may be open at once; `roots` are
    /// open for files.
    pub(crate) async fn new(
        state: StateDir,
        transport: Transport,
        sessions: Option<usize>,
        roots: &[Spec],
    ) -> Result<Self, Failure> {
        let roots = Roots::open(roots, state.path()).await?;
        let mut instance = [0; 16];
        getrandom::fill(&mut instance).map_err(|error| {
            Failure::new(Kind::ResourceExhausted, format!("no random numbers: {error}"))
        })?;
        let instance = Nonce(instance);
        let jobs = Arc::new(Jobs::open(state.path(), instance, holders::process)?);
        let sessions = Arc::new(Sessions::open(jobs.clone(), state.path(), sessions)?);
        let conversations = Conversations::default();
        for recalled in sessions.adopt().await {
            let Recalled { owner, conversation, job, delivery } = recalled;
            conversations.recall(&owner, conversation, About { job, delivery, taken: false });
        }
        let services = Services {
            instance,
            started: Instant::now(),
            jobs,
            sessions,
            users: Users::new(),
            conversations,
            file_conversations: Conversations::default(),
            control_conversations: Conversations::default(),
            links: Links::default(),
            roots,
            attended: Attended::default(),
        };
        Ok(Self {
            state,
            transport,
            services: Arc::new(services),
            rates: Rates::default(),
            half_open: HalfOpen::default(),
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
            Ok((_, opening)) => match self.services.links.find(&opening.header.link) {
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
        linked: Linked,
        opening: &Opening,
        send: SendHalf,
        recv: RecvHalf,
    ) {
        let Linked { link, asker } = linked;
        match link.admit(opening, send, recv).await {
            Ok((open, mut writer, mut reader)) => {
                let entered = match self.services.links.enter(&link, opening.header.class) {
                    Ok(entered) => entered,
                    Err(failure) => {
                        let denied = asker.may(&Demand::Stay).err();
                        let failure = denied.map_or(failure, Denied::failure);
                        return last_word(writer, failure).await;
                    }
                };
                reader.io().authenticated();
                let entered = Arc::new(entered);
                let context = Context {
                    asker: asker.clone(),
                    link: link.clone(),
                    services: self.services.clone(),
                    entered: entered.clone(),
                };
                let cut = tokio::select! {
                    biased;
                    denied = asker.wait_for_denial() => Some(Cut::Denied(denied)),
                    () = link.wait_for_end() => Some(Cut::Forgotten),
                    () = streams::serve(context, open, &mut writer, reader) => None,
                };
                drop(entered);
                match cut {
                    None => {}
                    Some(Cut::Denied(denied)) => last_word(writer, denied.failure()).await,
                    // Rights are withdrawn before the link ends: report the loss.
                    Some(Cut::Forgotten) => match asker.may(&Demand::Stay) {
                        Err(denied) => last_word(writer, denied.failure()).await,
                        Ok(()) => writer.io().reset(Reset::UnknownLink),
                    },
                }
            }
            Err((turned, mut send, mut recv)) => {
                tracing::debug!(%turned, "a stream was refused");
                recv.stop(turned.reset());
                send.reset(turned.reset());
            }
        }
    }

    async fn shake(&self, route: Route, opening: &Opening, mut send: SendHalf, mut recv: RecvHalf) {
        if !self.rates.begin(route) {
            recv.stop(Reset::Overloaded);
            send.reset(Reset::Overloaded);
            return;
        }
        let place = self.half_open.take(route);
        let bundle = &self.transport.bundle;
        let me = Me {
            kn: Zeroizing::new(*self.transport.kn.as_bytes()),
            peer: Peer { id: bundle.id, kn: bundle.kn, trust_domain: bundle.trust_domain },
        };
        let answered = tokio::select! {
            biased;
            answered = Link::answer(&me, opening, &mut send, &mut recv, |claim| self.judge(claim, route)) => Some(answered),
            () = place.wait_for_loss() => None,
        };
        let Some(answered) = answered else {
            recv.stop(Reset::Overloaded);
            send.reset(Reset::Overloaded);
            return;
        };
        match answered {
            Ok((link, (who, bundle))) => {
                self.renew(&bundle).await;
                if !self.services.links.insert(Arc::new(link), Arc::new(who), bundle) {
                    tracing::warn!("a link's id was taken");
                }
            }
            Err(turned) => {
                tracing::info!(%turned, "a handshake was refused");
                if !matches!(turned, Rejection::Rejected(_)) {
                    recv.stop(turned.reset());
                    send.reset(turned.reset());
                }
            }
        }
    }

    /// Whether a peer that has proven a device's keys may connect, and as whom.
    fn judge(
        &self,
        claim: &Claim,
        route: Route,
    ) -> Result<(Accept, (Principal, SignedBundle)), Failure> {
        let device =
            admission::admit(self.state.devices().lookup(&claim.bundle.id), &claim.bundle)?;
        if !self.rates.complete(route, device.bundle.id) {
            return Err(Failure::new(Kind::Overloaded, "this device makes handshakes too often")
                .with_hint("keep one process, as `farwire mcp serve` does, or wait a moment"));
        }
        let surface = match claim.surface() {
            Some(Ok(delegation)) => delegation.surface,
            Some(Err(error)) => {
                return Err(Failure::caused(
                    Kind::NotAuthorized,
                    "the surface is not authenticated",
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
            instance: self.services.instance,
            limits: Some(Limits {
                streams: u32::try_from(STREAMS).ok(),
                runs: u32::try_from(CONCURRENT).ok(),
            }),
            build: BUILD.to_owned(),
            time: unix_time(),
        };
        let who = Principal::new(device.bundle.id, surface, device.name);
        Ok((accept, (who, claim.bundle.clone())))
    }

    /// Stores a newer bundle of a device, so that the older one is refused from now on, also by the
    /// next agent process. If that fails, the link stays: the device has proven both.
    async fn renew(&self, bundle: &SignedBundle) {
        let known = self.state.devices().lookup(&bundle.id);
        if known.is_ok_and(|known| known.is_none_or(|device| device.bundle == *bundle)) {
            return;
        }
        let (state, bundle) = (self.state.clone(), bundle.clone());
        let renewed = tokio::task::spawn_blocking(move || {
            Ok::<_, Failure>(state.devices().renew(&state.lock()?, &bundle)?)
        });
        match renewed.await {
            Ok(Ok(_)) => {}
            Ok(Err(why)) => tracing::warn!(%why, "a newer bundle of a device was not stored"),
            Err(why) => tracing::warn!(%why, "a newer bundle of a device was not stored"),
        }
    }
}

/// Why a stream is cut while it is served.
enum Cut {
    /// Its device is no longer allowed here.
    Denied(Denied),
    /// Its link is forgotten. Its run goes on, and the bridge resumes it on a new link.
    Forgotten,
}

/// Ends a stream with a sealed refusal, which nobody in between can forge.
async fn last_word(mut writer: Writer<SendHalf>, failure: Failure) {
    if !writer.has_ended() {
        writer.end(&message(&End::from_failure(failure)));
    }
    if timeout(LAST_WORD, writer.finish()).await.is_err() {
        writer.io().reset(Reset::Closing);
    }
}
