//! What the agent says to a worker, and the worker to the agent. Both are of one build.

use farwire_protocol::failure::Failure;
use farwire_protocol::id::Id;
use farwire_protocol::streams::files::{Enter, Root};
use minicbor::{Decode, Encode};

/// What the agent wants.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub enum Order {
    /// Be the worker of the directory that comes with this. The first order. With it come a pipe for a line
    /// about each question, if `audit`, and a directory for what was changed, if that is to be kept.
    #[n(0)]
    Setup(#[n(0)] Box<Setup>),
    /// Serve the stream whose socket comes with this.
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

/// Serve a stream.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(map)]
pub struct Serve {
    /// What was asked for.
    #[n(0)]
    pub enter: Enter,
    /// What is said of the root first.
    #[n(1)]
    pub root: Root,
    /// Who asks, for people: device, surface and client.
    #[n(2)]
    pub who: String,
    /// Which device that is.
    #[n(3)]
    pub device: Id,
}

/// What a worker says.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub enum Report {
    /// It is set up, and this is what the kernel enforces.
    #[n(0)]
    Ready {
        /// Such as `landlock 7`; empty where there is nothing.
        #[n(0)]
        confined: String,
    },
    /// It cannot be set up.
    #[n(1)]
    Failed(#[n(0)] Failure),
}
