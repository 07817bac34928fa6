//! The messages between agent and worker, which are of the same build.

use farwire_protocol::failure::Failure;
use farwire_protocol::id::Id;
use farwire_protocol::streams::files::{Enter, Root};
use minicbor::{Decode, Encode};

/// An order of the agent.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub enum Order {
    /// The first order: work on the directory that comes with it. A pipe for the audit log comes
    /// too, if `audit` is set, and a store for undo, if there is one.
    #[n(0)]
    Setup(#[n(0)] Box<Setup>),
    /// Serve the stream whose socket comes with it.
    #[n(1)]
    Serve(#[n(0)] Box<Serve>),
}

/// What the owner of a root allows: see [`crate::rules::Rules`].
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(map)]
#[expect(missing_docs, reason = "most are those of the rules")]
pub struct Setup {
    #[n(0)]
    pub writable: bool,
    #[n(1)]
    pub follow: bool,
    #[n(2)]
    pub mounts: bool,
    #[n(3)]
    pub hard_links: bool,
    #[n(4)]
    pub hidden: Vec<String>,
    #[n(5)]
    pub kept: Vec<String>,
    #[n(6)]
    pub largest: u64,
    #[n(7)]
    pub spare: u64,
    #[n(8)]
    pub kept_bytes: u64,
    #[n(9)]
    pub name: String,
    #[n(10)]
    pub audit: bool,
}

/// A stream to serve.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(map)]
pub struct Serve {
    /// The request that opened it.
    #[n(0)]
    pub enter: Enter,
    /// The description of the root that is sent first.
    #[n(1)]
    pub root: Root,
    /// Who asks, for display: device, surface and client.
    #[n(2)]
    pub who: String,
    /// The device of whoever asks.
    #[n(3)]
    pub device: Id,
}

/// A report of the worker.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub enum Report {
    /// The worker is ready.
    #[n(0)]
    Ready {
        /// What the kernel enforces, such as `landlock 7`; empty if nothing.
        #[n(0)]
        confined: String,
    },
    /// The worker cannot be set up.
    #[n(1)]
    Failed(#[n(0)] Failure),
}
