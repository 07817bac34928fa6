//! Who may type into a session, who did, and what else was done to it.
//!
//! The agent decides all of it by the authenticated device and surface of a link. The name of a client
//! is what the opener says of itself: it tells apart the hands of one surface, and grants nothing.

use minicbor::{Decode, Encode};

use super::Size;
use crate::cbor::Blob;
use crate::id::Nonce;

/// A client, an owner, a tag or a group is named by at most as many bytes.
pub const LABEL_LIMIT: usize = 64;

/// A reason has at most as many bytes.
pub const REASON_LIMIT: usize = 200;

/// The longest that a lease lasts without being renewed, in milliseconds.
pub const LEASE_LIMIT_MS: u32 = 3_600_000;

/// What the opener says of itself.
#[derive(Clone, Debug, Decode, Default, Encode, Eq, PartialEq)]
#[cbor(map)]
pub struct Caller {
    /// Which client of its surface it is.
    #[n(0)]
    pub client: Option<String>,
    /// For whom it acts: a session with an owner is known to nobody who names another.
    #[n(1)]
    pub owner: Option<String>,
}

/// Somebody who did something.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(map)]
pub struct Actor {
    /// What the agent calls the device.
    #[n(0)]
    pub device: String,
    /// Its surface.
    #[n(1)]
    pub surface: String,
    /// Which client of it, as it says.
    #[n(2)]
    pub client: Option<String>,
    /// It is whoever asks.
    #[n(3)]
    pub mine: Option<bool>,
}

/// Who may type where nobody has a lease. A user is a surface `human`, and an agent any other.
#[derive(Clone, Copy, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(index_only)]
pub enum Policy {
    /// Everybody.
    #[n(0)]
    Shared,
    /// Users.
    #[n(1)]
    UserOnly,
    /// Everybody, but no agent while a user types or has a line unfinished.
    #[n(2)]
    UserPriority,
    /// Agents.
    #[n(3)]
    AgentOnly,
}

impl Policy {
    /// All, in the order of their numbers.
    pub const ALL: &[Self] = &[Self::Shared, Self::UserOnly, Self::UserPriority, Self::AgentOnly];

    /// As people and models read it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Shared => "shared",
            Self::UserOnly => "user-only",
            Self::UserPriority => "user-priority",
            Self::AgentOnly => "agent-only",
        }
    }

    /// The one with this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|policy| policy.name() == name)
    }
}

/// The right to type, held by one.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(map)]
pub struct Lease {
    /// Who has it.
    #[n(0)]
    pub holder: Actor,
    /// For how long, in milliseconds.
    #[cbor(n(1), decode_with = "crate::peer::count")]
    pub age_ms: u64,
    /// When it ends if it is not renewed, in milliseconds from now; absent while somebody who is attached
    /// holds it.
    #[cbor(n(2), decode_with = "crate::peer::some_count", nil = "crate::peer::absent")]
    pub left_ms: Option<u64>,
}

/// How a lease came or went.
#[derive(Clone, Copy, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(index_only)]
pub enum Way {
    /// It was free, and somebody took it.
    #[n(0)]
    Attached,
    /// Its holder let go of it.
    #[n(1)]
    Detached,
    /// Its holder gave it to somebody.
    #[n(2)]
    HandedOver,
    /// Somebody took it from its holder.
    #[n(3)]
    TakenOver,
    /// Its holder was not heard of for too long.
    #[n(4)]
    Expired,
}

impl Way {
    /// As people and models read it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Attached => "attach",
            Self::Detached => "detach",
            Self::HandedOver => "handoff",
            Self::TakenOver => "takeover",
            Self::Expired => "expired",
        }
    }
}

/// A change of a lease.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(map)]
pub struct Transfer {
    /// How.
    #[n(0)]
    pub way: Way,
    /// Who had it.
    #[n(1)]
    pub from: Option<Actor>,
    /// Who has it since.
    #[n(2)]
    pub to: Option<Actor>,
    /// Why, in the words of whoever did it.
    #[n(3)]
    pub reason: Option<String>,
    /// How long ago, in milliseconds.
    #[cbor(n(4), decode_with = "crate::peer::count")]
    pub age_ms: u64,
}

/// To whom a lease goes.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(map)]
pub struct Heir {
    /// A surface of the same device; the giver's own when absent.
    #[n(0)]
    pub surface: Option<String>,
    /// A client of it; whichever names none when absent.
    #[n(1)]
    pub client: Option<String>,
}

/// What a session is filed under.
#[derive(Clone, Debug, Decode, Default, Encode, Eq, PartialEq)]
#[cbor(map)]
pub struct Labels {
    /// For whom it is: see [`Caller::owner`].
    #[n(0)]
    pub owner: Option<String>,
    /// To find it by.
    #[n(1)]
    pub tag: Option<String>,
    /// The leases of a group move together.
    #[n(2)]
    pub group: Option<String>,
    /// Nobody types, whoever it is.
    #[n(3)]
    pub read_only: Option<bool>,
}

/// Bounds of a session.
#[derive(Clone, Copy, Debug, Decode, Default, Encode, Eq, PartialEq)]
#[cbor(map)]
pub struct Limits {
    /// It is closed when nobody has typed and nothing was said for so many milliseconds.
    #[cbor(n(0), decode_with = "crate::peer::some_clamped", nil = "crate::peer::absent")]
    pub idle_ms: Option<u64>,
    /// It is forgotten so many milliseconds after its end.
    #[cbor(n(1), decode_with = "crate::peer::some_clamped", nil = "crate::peer::absent")]
    pub keep_ms: Option<u64>,
    /// Its program may say so many bytes in a second, and waits beyond that.
    #[cbor(n(2), decode_with = "crate::peer::some_clamped", nil = "crate::peer::absent")]
    pub output_rate: Option<u64>,
    /// So many bytes in a second may be typed.
    #[cbor(n(3), decode_with = "crate::peer::some_clamped", nil = "crate::peer::absent")]
    pub input_rate: Option<u64>,
    /// So many bytes of what it said are kept.
    #[cbor(n(4), decode_with = "crate::peer::some_clamped", nil = "crate::peer::absent")]
    pub kept: Option<u64>,
}

/// Does something to a session. Answered with how it is then.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(map)]
pub struct Control {
    /// Which.
    #[n(0)]
    pub session: Nonce,
    /// Who asks.
    #[n(1)]
    pub caller: Option<Caller>,
    /// What is done.
    #[n(2)]
    pub action: Action,
}

/// What can be done to a session besides typing.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
#[non_exhaustive]
pub enum Action {
    /// Take the lease if it is free, or renew it, for so many milliseconds from now.
    #[n(0)]
    Attach(#[n(0)] u32),
    /// Let go of the lease.
    #[n(1)]
    Detach,
    /// Give the lease to somebody.
    #[n(2)]
    HandOver {
        /// To whom.
        #[n(0)]
        to: Heir,
        /// Why.
        #[n(1)]
        reason: Option<String>,
    },
    /// Take the lease from whoever has it. A surface that is not `human` names the client that it takes
    /// it from, and cannot take it from a user.
    #[n(3)]
    TakeOver {
        /// From which client.
        #[n(0)]
        from: Option<String>,
        /// Why.
        #[n(1)]
        reason: Option<String>,
        /// For so many milliseconds; as for [`Action::Attach`].
        #[n(2)]
        for_ms: u32,
    },
    /// Who may type. Users only.
    #[n(4)]
    Policy(#[n(0)] Policy),
    /// Give the terminal a size.
    #[n(5)]
    Resize(#[n(0)] Size),
    /// Send a signal to the program in the foreground.
    #[n(6)]
    Signal(#[n(0)] i32),
    /// Change these bounds, and leave those that are absent.
    #[n(7)]
    Limits(#[n(0)] Limits),
    /// File it under these, and leave those that are absent. Its owner does not change.
    #[n(8)]
    Label(#[n(0)] Labels),
    /// End its program, as a stop without a signal does.
    #[n(9)]
    Close,
}

/// Asks what happened to a session.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(map)]
pub struct Events {
    /// Which.
    #[n(0)]
    pub session: Nonce,
    /// Who asks.
    #[n(1)]
    pub caller: Option<Caller>,
    /// From this number on.
    #[cbor(n(2), decode_with = "crate::peer::clamped")]
    pub from: u64,
    /// At most so many.
    #[n(3)]
    pub limit: u32,
    /// If there is none yet, wait for so many milliseconds for one.
    #[cbor(n(4), decode_with = "crate::peer::clamped")]
    pub wait_ms: u64,
    /// And no longer than until the log reaches beyond this offset.
    #[cbor(n(5), decode_with = "crate::peer::some_clamped", nil = "crate::peer::absent")]
    pub offset: Option<u64>,
}

/// Something that happened to a session.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(map)]
pub struct Event {
    /// Counted from 1 in each session.
    #[cbor(n(0), decode_with = "crate::peer::count")]
    pub number: u64,
    /// When, in milliseconds since 1970 by the server's clock.
    #[cbor(n(1), decode_with = "crate::peer::count")]
    pub at_ms: u64,
    /// The end of the log then.
    #[cbor(n(2), decode_with = "crate::peer::count")]
    pub offset: u64,
    /// Who did it, if it was somebody.
    #[n(3)]
    pub actor: Option<Actor>,
    /// What; absent if it is of a newer agent's.
    #[n(4)]
    pub what: Option<What>,
}

/// What happened.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
#[non_exhaustive]
pub enum What {
    /// It was opened.
    #[n(0)]
    Opened,
    /// Something was typed.
    #[n(1)]
    Typed {
        /// The beginning of it; absent where the terminal did not show what is typed, and for secrets.
        #[n(0)]
        text: Option<Blob>,
        /// How many bytes.
        #[cbor(n(1), decode_with = "crate::peer::count")]
        length: u64,
    },
    /// Its terminal has another size.
    #[n(2)]
    Resized(#[n(0)] Size),
    /// Somebody attached; to look only, if so.
    #[n(3)]
    Joined(#[n(0)] bool),
    /// Somebody who was attached left.
    #[n(4)]
    Left,
    /// A lease changed.
    #[n(5)]
    Leased(#[n(0)] Transfer),
    /// Others may type now.
    #[n(6)]
    Policy(#[n(0)] Policy),
    /// The program in the foreground was sent a signal.
    #[n(7)]
    Signalled(#[cbor(n(0), decode_with = "crate::peer::signal")] i32),
    /// So many bytes were not typed because somebody else may.
    #[n(8)]
    Refused(#[cbor(n(0), decode_with = "crate::peer::count")] u64),
    /// Another agent process took it over; what happened in between was not noted.
    #[n(9)]
    Recovered,
    /// It is filed or bounded in another way.
    #[n(10)]
    Changed,
    /// It was told to end.
    #[n(11)]
    Closed,
    /// Its program ended.
    #[n(12)]
    Ended,
}

/// Somebody who is attached.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(map)]
pub struct Participant {
    /// Who.
    #[n(0)]
    pub actor: Actor,
    /// To look only.
    #[n(1)]
    pub read_only: bool,
    /// For how long, in milliseconds.
    #[cbor(n(2), decode_with = "crate::peer::count")]
    pub age_ms: u64,
    /// How long ago they typed last, in milliseconds.
    #[cbor(n(3), decode_with = "crate::peer::some_count", nil = "crate::peer::absent")]
    pub typed_ms: Option<u64>,
}

/// Who may type now, as all who are attached are told.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(map)]
pub struct Hands {
    /// By the rule.
    #[n(0)]
    pub policy: Policy,
    /// By the lease, which goes before the rule.
    #[n(1)]
    pub lease: Option<Lease>,
    /// Whoever is told this may.
    #[n(2)]
    pub may_type: bool,
    /// The last change of the lease.
    #[n(3)]
    pub transfer: Option<Transfer>,
    /// A user has a line unfinished.
    #[n(4)]
    pub drafting: Option<Actor>,
}

/// Why a session has no program any more without having ended.
#[derive(Clone, Copy, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(index_only)]
pub enum Lost {
    /// The host was started anew.
    #[n(0)]
    HostRebooted,
    /// What held it has died.
    #[n(1)]
    HolderDied,
}

impl Lost {
    /// As people and models read it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::HostRebooted => "host_rebooted",
            Self::HolderDied => "holder_died",
        }
    }
}
