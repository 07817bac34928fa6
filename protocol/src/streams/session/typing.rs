//! Who may type into a session: the lease, and the rule that holds where nobody has it.

use minicbor::{Decode, Encode};

use super::Actor;

/// A reason has at most as many bytes.
pub const REASON_LIMIT: usize = 200;

/// The longest that a lease lasts without being renewed, in milliseconds.
pub const LEASE_LIMIT_MS: u32 = 3_600_000;

/// Who may type where nobody has a lease. A user is a surface `human`, and an agent any other.
#[derive(Clone, Copy, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(index_only)]
pub enum TypingRule {
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

impl TypingRule {
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
        Self::ALL.iter().copied().find(|rule| rule.name() == name)
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
pub enum LeaseChange {
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

impl LeaseChange {
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
    pub way: LeaseChange,
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

/// Who may type now, as all who are attached are told.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(map)]
pub struct TypingRights {
    /// By the rule.
    #[n(0)]
    pub rule: TypingRule,
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
