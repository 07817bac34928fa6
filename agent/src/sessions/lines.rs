//! Events as lines of a file.

use std::sync::Arc;
use std::time::Duration;

use data_encoding::{BASE64, HEXLOWER};
use farwire_protocol::id::Id;
use farwire_protocol::streams::session::Size;
use farwire_protocol::streams::session::{LeaseChange, TypingRule};
use serde::{Deserialize, Serialize};

use crate::gate::principal::Principal;
use crate::terminal::events::{Event, TEXT, What};
use crate::terminal::typing_rights::Transfer;

/// One event.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default)]
struct EventLine {
    n: u64,
    at_ms: u64,
    offset: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    actor: Option<Who>,
    what: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    /// Text that is not UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    base64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    length: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<(u16, u16)>,
    #[serde(skip_serializing_if = "Option::is_none")]
    read_only: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    way: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<Who>,
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<Who>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    policy: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    signal: Option<i32>,
}

/// Who did it.
#[derive(Debug, Deserialize, Serialize)]
struct Who {
    id: String,
    device: String,
    surface: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    client: Option<String>,
}

impl Who {
    fn of(actor: &Principal) -> Self {
        Self {
            id: HEXLOWER.encode(&actor.device.0),
            device: actor.name.to_string(),
            surface: actor.surface.to_string(),
            client: actor.client.as_deref().map(str::to_owned),
        }
    }

    fn actor(self) -> Option<Principal> {
        let device = HEXLOWER.decode(self.id.as_bytes()).ok()?.try_into().ok()?;
        let surface = self.surface.parse().ok()?;
        let client = self.client.map(Arc::from);
        Some(Principal { client, ..Principal::new(Id(device), surface, self.device) })
    }
}

/// Events as text, one a line.
pub(crate) fn write(events: &[Event]) -> Vec<u8> {
    let mut text = Vec::new();
    for event in events {
        // Everything in it can be written.
        if serde_json::to_writer(&mut text, &line(event)).is_ok() {
            text.push(b'\n');
        }
    }
    text
}

fn line(event: &Event) -> EventLine {
    let mut line = EventLine {
        n: event.number,
        at_ms: event.at_ms,
        offset: event.offset,
        actor: event.actor.as_deref().map(Who::of),
        ..EventLine::default()
    };
    line.what = match &event.what {
        What::Opened => "opened",
        What::Typed { text, length } => {
            line.length = Some(*length);
            match text.as_deref().map(|text| (text, std::str::from_utf8(text))) {
                Some((_, Ok(text))) => line.text = Some(text.to_owned()),
                Some((text, Err(_))) => line.base64 = Some(BASE64.encode(text)),
                None => {}
            }
            "typed"
        }
        What::Resized(size) => {
            line.size = Some((size.cols, size.rows));
            "resized"
        }
        What::Joined { read_only } => {
            line.read_only = Some(*read_only);
            "joined"
        }
        What::Left => "left",
        What::Leased(transfer) => {
            line.way = Some(transfer.way.name().to_owned());
            line.from = transfer.from.as_ref().map(Who::of);
            line.to = transfer.to.as_ref().map(Who::of);
            line.reason = transfer.reason.clone();
            "leased"
        }
        What::Rule(policy) => {
            line.policy = Some(policy.name().to_owned());
            "policy"
        }
        What::Signalled(signal) => {
            line.signal = Some(*signal);
            "signalled"
        }
        What::Refused(length) => {
            line.length = Some(*length);
            "refused"
        }
        What::Recovered => "recovered",
        What::Changed => "changed",
        What::Closed => "closed",
        What::Ended => "ended",
    }
    .to_owned();
    line
}

/// Parses events from lines; skips invalid ones.
pub(crate) fn read(text: &[u8]) -> Vec<Event> {
    let mut events: Vec<Event> = Vec::new();
    for line in text.split(|&byte| byte == b'\n') {
        let event = serde_json::from_slice(line).ok().and_then(event);
        // They must be in order, each once.
        if let Some(event) = event
            && events.last().is_none_or(|last| last.number < event.number)
        {
            events.push(event);
        }
    }
    events
}

fn event(line: EventLine) -> Option<Event> {
    let what = match line.what.as_str() {
        "opened" => What::Opened,
        "typed" => {
            let text = match (line.text, line.base64) {
                (Some(text), _) => Some(text.into_bytes()),
                (None, Some(text)) => BASE64.decode(text.as_bytes()).ok(),
                (None, None) => None,
            };
            What::Typed { text: text.filter(|text| text.len() <= TEXT), length: line.length? }
        }
        "resized" => {
            let (cols, rows) = line.size?;
            What::Resized(Size { cols, rows })
        }
        "joined" => What::Joined { read_only: line.read_only? },
        "left" => What::Left,
        "leased" => {
            let name = line.way?;
            let ways = [
                LeaseChange::Acquired,
                LeaseChange::Released,
                LeaseChange::HandedOver,
                LeaseChange::TakenOver,
                LeaseChange::Expired,
            ];
            What::Leased(Box::new(Transfer {
                way: ways.into_iter().find(|way| way.name() == name)?,
                from: line.from.and_then(Who::actor),
                to: line.to.and_then(Who::actor),
                reason: line.reason,
                at: Duration::ZERO,
            }))
        }
        "policy" => What::Rule(TypingRule::from_name(&line.policy?)?),
        "signalled" => What::Signalled(line.signal?),
        "refused" => What::Refused(line.length?),
        "recovered" => What::Recovered,
        "changed" => What::Changed,
        "closed" => What::Closed,
        "ended" => What::Ended,
        _ => return None,
    };
    let actor = line.actor.and_then(Who::actor).map(Arc::new);
    Some(Event { number: line.n, at_ms: line.at_ms, offset: line.offset, actor, what })
}

#[cfg(test)]
mod tests {
    use farwire_protocol::surface::Surface;

    use super::*;

    #[test]
    fn every_event_is_read_as_it_was_written() {
        let device = Principal::new(Id([7; 32]), Surface::AiLocal, "d");
        let actor = Principal { client: Some("c".into()), ..device };
        let transfer = Transfer {
            way: LeaseChange::TakenOver,
            from: Some(actor.clone()),
            to: None,
            reason: Some("why \"quoted\"".to_owned()),
            at: Duration::ZERO,
        };
        let whats = [
            What::Opened,
            What::Typed { text: Some("ls\r\n\u{e4}".into()), length: 5 },
            What::Typed { text: Some(vec![0xff, 3]), length: 2 },
            What::Typed { text: None, length: 9 },
            What::Resized(Size { cols: 80, rows: 24 }),
            What::Joined { read_only: true },
            What::Left,
            What::Leased(Box::new(transfer)),
            What::Rule(TypingRule::AgentOnly),
            What::Signalled(15),
            What::Refused(3),
            What::Recovered,
            What::Changed,
            What::Closed,
            What::Ended,
        ];
        let events: Vec<_> = (1..)
            .zip(whats)
            .map(|(number, what)| Event {
                number,
                at_ms: number * 10,
                offset: number * 100,
                actor: Some(Arc::new(actor.clone())).filter(|_| number % 2 == 0),
                what,
            })
            .collect();
        let text = write(&events);
        assert_eq!(read(&text), events);
        let damaged =
            [b"{\"n\":1}\n\xff{\n".as_slice(), &text, b"{\"n\":99,\"what\":\"le"].concat();
        assert_eq!(read(&damaged), events, "what is damaged is passed over");
    }

    #[test]
    fn any_lines_are_read_without_a_panic() {
        bolero::check!().for_each(|text| drop(read(text)));
    }
}
