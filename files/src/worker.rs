//! The process that works on files: one for each root, confined to it.
//!
//! ```text
//!     agent -- Order::Setup, root -----------> worker      once; answered by Ready or Failed
//!           -- Order::Serve, a socket -------> worker      for each stream
//!           == packets (see `packet`) ======== worker      there: questions in, answers out
//! ```
//!
//! A worker has no network and no keys, and can open nothing but what is beneath its root: see
//! [`confine`]. An idle stream costs a descriptor; an active one has one of 64 threads. If a
//! question makes the worker panic, only that question fails. If the worker dies, the questions in
//! progress fail, and the agent starts another.

pub mod audit;
mod confine;
pub mod message;
pub mod packet;
mod stream;
mod syscalls;
mod threads;

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use farwire_protocol::cbor;
use farwire_protocol::failure::{Failure, Kind};

use self::audit::{Audit, AuditLine};
use self::message::{Order, Report, Serve, Setup};
use self::packet::{PACKET, Packet};
use self::stream::Stream;
use self::threads::Threads;
use crate::dav::Locks;
use crate::path::Rel;
use crate::rules::Rules;
use crate::transfers::Transfers;
use crate::tree::Tree;
use crate::undo::Undo;

/// What all streams of a root share.
#[derive(Debug)]
pub(crate) struct RootState {
    tree: Tree,
    locks: Arc<Locks>,
    undo: Option<Arc<Undo>>,
    transfers: Arc<Transfers>,
    audit: Option<Arc<Audit>>,
}

/// Serves until the agent closes the socket.
///
/// # Errors
///
/// `io` if the socket to the agent breaks. A problem with the root is reported to the agent
/// instead.
pub fn run(control: &OwnedFd) -> Result<(), Failure> {
    let failed = |error: io::Error| Failure::new(Kind::Io, format!("the file worker: {error}"));
    let mut buffer = vec![0; PACKET];
    // The first packet says which root this is the worker of.
    let Some(first) = packet::receive(control, &mut buffer).map_err(failed)? else { return Ok(()) };
    let report =
        |report: &Report| packet::send(control, &cbor::encode(report), &[]).map_err(failed);
    let shared = match set_up(first) {
        Ok((shared, confined)) => {
            report(&Report::Ready { confined })?;
            shared
        }
        Err(failure) => return report(&Report::Failed(failure)),
    };
    let threads = Threads::start().map_err(failed)?;
    while let Some(packet) = packet::receive(control, &mut buffer).map_err(failed)? {
        // The agent knows our version, and sends no order that we do not know.
        let Ok(Order::Serve(serve)) = cbor::decode::<Order>(&packet.bytes, PACKET) else {
            continue;
        };
        let Some(socket) = packet.descriptors.into_iter().next() else { continue };
        match begin(&shared, &serve, socket) {
            Ok(stream) => threads.add(stream).map_err(failed)?,
            Err((failure, socket)) => {
                if let Some(audit) = &shared.audit {
                    let below = serve.enter.below.as_ref().map_or(&[][..], |below| below);
                    let (verb, failure) = ("enter".to_owned(), Some(failure.kind));
                    audit.note(&AuditLine {
                        who: &serve.who,
                        verb,
                        below,
                        failure,
                        ..AuditLine::default()
                    });
                }
                Stream::refuse(&socket, failure);
            }
        }
    }
    Ok(())
}

fn set_up(packet: Packet) -> Result<(RootState, String), Failure> {
    let broken =
        || Failure::new(Kind::Internal, "the file worker received a malformed setup message");
    let Ok(Order::Setup(setup)) = cbor::decode::<Order>(&packet.bytes, PACKET) else {
        return Err(broken());
    };
    let mut descriptors = packet.descriptors.into_iter();
    let root = descriptors.next().ok_or_else(broken)?;
    let audit = setup.audit.then(|| descriptors.next()).flatten();
    let audit = audit.map(|pipe| Arc::new(Audit::new(pipe)));
    let store = descriptors.next();
    let rules = setup.rules()?;
    crate::tree::remember_umask();
    let confined = confine::confine(&root, store.as_ref(), &rules)?;
    // This probes the kernel, once.
    let tree = Tree::enter(root, rules)?;
    let undo = store.map(|store| Undo::open(store, setup.kept_bytes)).transpose()?.map(Arc::new);
    let (locks, transfers) = Default::default();
    Ok((RootState { tree, locks, undo, transfers, audit }, confined))
}

/// Makes a stream of a socket.
fn begin(shared: &RootState, serve: &Serve, socket: OwnedFd) -> Result<Stream, (Failure, OwnedFd)> {
    let tree = || {
        let mut tree = shared.tree.share();
        if let Some(below) = serve.enter.below.as_ref().filter(|below| !below.is_empty()) {
            tree = tree.below(&Rel::parse(below)?)?;
        }
        Ok(if serve.enter.read_only.unwrap_or(false) { tree.read_only() } else { tree })
    };
    match tree() {
        Ok(tree) => Ok(Stream::new(socket, tree, shared, serve)),
        Err(failure) => Err((failure, socket)),
    }
}

impl Setup {
    fn rules(&self) -> Result<Rules, Failure> {
        Ok(Rules {
            writable: self.writable,
            follow: self.follow,
            mounts: self.mounts,
            hard_links: self.hard_links,
            hidden: crate::rules::Patterns::new(&self.hidden)?,
            kept: crate::rules::Patterns::new(&self.kept)?,
            largest: self.largest,
            spare: self.spare,
        })
    }
}
