//! Who may type into a session: the lease, and the typing rule that applies while nobody holds it.

use minicbor::{Decode, Encode};

use super::Actor;

/// The maximum length of a reason, in bytes.
pub const REASON_LIMIT: usize = 200;

/// The maximum lifetime of a lease without renewal, in milliseconds.
pub const LEASE_LIMIT_MS: u32 = 3_600_000;

/// Who may type while nobody holds a lease. A user is a surface `human`, and an agent any other.
#[derive(Clone, Copy, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(index_only)]
pub enum TypingRule {
    /// Everybody.
    #[n(0)]
    Shared,
    /// Users.
    #[n(1)]
    UserOnly,
    /// Everybody, except agents while a user is typing or has an unfinished line.
    #[n(2)]
    UserPriority,
    /// Agents.
    #[n(3)]
    AgentOnly,
}

impl TypingRule {
    /// All rules, in the order of their numbers.
    pub const ALL: &[Self] = &[Self::Shared, Self::UserOnly, Self::UserPriority, Self::AgentOnly];

    /// The name for people and models.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Shared => "shared",
            Self::UserOnly => "user-only",
            Self::UserPriority => "user-priority",
            Self::AgentOnly => "agent-only",
        }
    }

    /// Returns the rule with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|rule| rule.name() == name)
    }
}

/// The exclusive right to type.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(map)]
pub struct Lease {
    /// The holder.
    #[n(0)]
    pub holder: Actor,
    /// The time since it was taken, in milliseconds.
    #[cbor(n(1), decode_with = "crate::peer::count")]
    pub age_ms: u64,
    /// The time until it expires unless it is renewed, in milliseconds; absent while an attached
    /// client holds it.
    #[cbor(n(2), decode_with = "crate::peer::some_count", nil = "crate::peer::absent")]
    pub left_ms: Option<u64>,
}

/// How a lease changed.
#[derive(Clone, Copy, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(index_only)]
pub enum LeaseChange {
    /// It was free, and an actor took it.
    #[n(0)]
    Acquired,
    /// Its holder released it.
    #[n(1)]
    Released,
    /// Its holder gave it to another actor.
    #[n(2)]
    HandedOver,
    /// An actor took it from its holder.
    #[n(3)]
    TakenOver,
    /// Its holder gave no sign of life for too long.
    #[n(4)]
    Expired,
}

impl LeaseChange {
    /// The name for people and models.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Acquired => "attach",
            Self::Released => "detach",
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
    /// How it changed.
    #[n(0)]
    pub way: LeaseChange,
    /// The previous holder.
    #[n(1)]
    pub from: Option<Actor>,
    /// The new holder.
    #[n(2)]
    pub to: Option<Actor>,
    /// The reason, in the words of the actor.
    #[n(3)]
    pub reason: Option<String>,
    /// The time since the change, in milliseconds.
    #[cbor(n(4), decode_with = "crate::peer::count")]
    pub age_ms: u64,
}

/// The receiver of a lease.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(map)]
pub struct Heir {
    /// A surface of the same device; the giver's own when absent.
    #[n(0)]
    pub surface: Option<String>,
    /// A client of that surface; when absent the client without a name.
    #[n(1)]
    pub client: Option<String>,
}

/// Who may type now, as reported to each attached client.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(map)]
pub struct TypingRights {
    /// The typing rule.
    #[n(0)]
    pub rule: TypingRule,
    /// The lease, which takes precedence over the rule.
    #[n(1)]
    pub lease: Option<Lease>,
    /// Whether the client that gets this may type.
    #[n(2)]
    pub may_type: bool,
    /// The latest change of the lease.
    #[n(3)]
    pub transfer: Option<Transfer>,
    /// The user that has an unfinished line.
    #[n(4)]
    pub drafting: Option<Actor>,
}
