//! Who types, in words for people and models.

use std::time::Duration;

use farwire_protocol::streams::session::{
    Actor, Event, Lease, Participant, Transfer, TypingRights, What,
};

use crate::text::neutral::neutral_within;
use crate::text::{human, signal};

/// At most this many characters of a name are shown.
const NAME: usize = 64;

/// At most this many characters of typed text are shown.
const TYPED: usize = 100;

/// Somebody: `laptop/human`, `laptop/ai-local codex`.
pub fn actor(actor: &Actor) -> String {
    let place = format!("{}/{}", actor.device, actor.surface);
    match &actor.client {
        Some(client) => neutral_within(&format!("{place} {client}"), NAME),
        None => neutral_within(&place, NAME),
    }
}

/// The same, with a mark if it is ourselves.
pub fn actor_or_you(one: &Actor) -> String {
    match one.mine {
        Some(true) => "you".to_owned(),
        _ => actor(one),
    }
}

/// Who may type, in a word or two: the holder of the lease, or the policy.
pub fn who(rights: Option<&TypingRights>) -> String {
    match rights {
        None => String::new(),
        Some(TypingRights { lease: Some(lease), .. }) => actor_or_you(&lease.holder),
        Some(rights) => rights.rule.name().to_owned(),
    }
}

/// A lease in a sentence: who has it, since when and until when.
pub fn lease(lease: &Lease) -> String {
    let age = ago(lease.age_ms);
    match lease.left_ms {
        Some(left) => {
            format!("{}, taken {age}, {} left", actor_or_you(&lease.holder), time(left))
        }
        None => format!("{}, taken {age}, while attached", actor_or_you(&lease.holder)),
    }
}

/// How the lease came to its holder.
pub fn transfer(transfer: &Transfer) -> String {
    let mut text = transfer.way.name().to_owned();
    if let Some(from) = &transfer.from {
        text.push_str(" from ");
        text.push_str(&actor_or_you(from));
    }
    if let Some(to) = &transfer.to {
        text.push_str(" to ");
        text.push_str(&actor_or_you(to));
    }
    if let Some(reason) = &transfer.reason {
        text.push_str(": ");
        text.push_str(&neutral_within(reason, TYPED));
    }
    text
}

/// An attached client, in one line.
pub fn participant(one: &Participant) -> String {
    let mut text = format!("{} for {}", actor_or_you(&one.actor), time(one.age_ms));
    if one.read_only {
        text.push_str(", read-only");
    }
    if let Some(typed) = one.typed_ms {
        text.push_str(", typed ");
        text.push_str(&ago(typed));
    }
    text
}

/// What happened, in a few words.
pub fn event(event: &Event) -> String {
    match &event.what {
        None => "an event that this version does not know".to_owned(),
        Some(What::Opened) => "opened".to_owned(),
        Some(What::Typed { text: Some(text), length }) => {
            let shown = neutral_within(&String::from_utf8_lossy(text), TYPED);
            match *length > text.len() as u64 {
                true => format!("typed {length} bytes: {shown}"),
                false => format!("typed {shown}"),
            }
        }
        Some(What::Typed { text: None, length }) => format!("typed {length} bytes, not shown"),
        Some(What::Resized(size)) => format!("resized to {}x{}", size.cols, size.rows),
        Some(What::Joined(true)) => "attached read-only".to_owned(),
        Some(What::Joined(false)) => "attached".to_owned(),
        Some(What::Left) => "left".to_owned(),
        Some(What::Leased(change)) => format!("keyboard: {}", transfer(change)),
        Some(What::Rule(policy)) => format!("policy {}", policy.name()),
        Some(What::Signalled(number)) => format!("signal {}", signal::name(*number)),
        Some(What::Refused(bytes)) => format!("refused: {bytes} bytes were not typed"),
        Some(What::Recovered) => "taken over by another agent process".to_owned(),
        Some(What::Changed) => "labels or limits changed".to_owned(),
        Some(What::Closed) => "asked to end".to_owned(),
        Some(What::Ended) => "ended".to_owned(),
        Some(_) => "an event that this version does not know".to_owned(),
    }
}

/// An elapsed time: `3m20s ago`.
pub fn ago(millis: u64) -> String {
    format!("{} ago", time(millis))
}

fn time(millis: u64) -> String {
    human::duration(Duration::from_millis(millis))
}

#[cfg(test)]
mod tests {
    use farwire_protocol::cbor::Blob;
    use farwire_protocol::streams::session::{LeaseChange, TypingRule};

    use super::*;

    fn somebody(surface: &str, client: Option<&str>, mine: bool) -> Actor {
        let (device, surface) = ("laptop".to_owned(), surface.to_owned());
        Actor { device, surface, client: client.map(str::to_owned), mine: Some(mine) }
    }

    #[test]
    fn who_types_is_the_holder_or_the_rule() {
        let mut rights = TypingRights {
            rule: TypingRule::UserPriority,
            lease: None,
            may_type: true,
            transfer: None,
            drafting: None,
        };
        assert_eq!(who(None), "");
        assert_eq!(who(Some(&rights)), "user-priority");
        let holder = somebody("ai-local", Some("codex\n"), false);
        rights.lease = Some(Lease { holder, age_ms: 61_000, left_ms: None });
        assert_eq!(who(Some(&rights)), "laptop/ai-local codex ");
        let held = rights.lease.as_ref().unwrap();
        assert_eq!(lease(held), "laptop/ai-local codex , taken 1m01s ago, while attached");
        let holder = somebody("human", None, true);
        let held = Lease { holder, age_ms: 0, left_ms: Some(30_000) };
        assert_eq!(lease(&held), "you, taken 0.0s ago, 30s left");
    }

    #[test]
    fn what_happened_is_told_in_a_line_whatever_was_typed() {
        let told = |what| {
            let event = Event { number: 1, at_ms: 2, offset: 3, actor: None, what };
            super::event(&event)
        };
        let text = Some(Blob(b"ls\r\x1b]52;c;x\x07".to_vec()));
        let said = told(Some(What::Typed { text, length: 99 }));
        assert!(said.starts_with("typed 99 bytes: ls ") && !said.contains('\x1b'), "{said}");
        assert_eq!(told(Some(What::Typed { text: None, length: 7 })), "typed 7 bytes, not shown");
        let change = Transfer {
            way: LeaseChange::TakenOver,
            from: Some(somebody("ai-local", None, false)),
            to: Some(somebody("human", None, true)),
            reason: Some("mine now".to_owned()),
            age_ms: 0,
        };
        let said = told(Some(What::Leased(change)));
        assert_eq!(said, "keyboard: takeover from laptop/ai-local to you: mine now");
        assert_eq!(told(None), "an event that this version does not know");
    }
}
