//! What is on our screen: the terminal's output, and now and then a notice in brackets.

use std::cell::Cell;

use farwire_protocol::failure::Failure;
use farwire_protocol::id::Nonce;
use farwire_protocol::streams::session::Attached;
use farwire_protocol::streams::session::{TypingRights, TypingRule};
use tokio::io::AsyncWriteExt as _;
use tokio::net::unix::pipe;
use tokio::sync::{mpsc, watch};

use super::keyboard::Done;
use crate::render::typing::actor;
use crate::sessions::attach::{AttachEvent, Do};
use crate::text::neutral::neutral_within;
use crate::text::passage::Passage;

/// How much is gathered before it is written.
const GATHERED: usize = 256 << 10;

/// What is on our screen.
pub(super) struct Shown<'a> {
    pub(super) name: String,
    pub(super) session: Option<Nonce>,
    /// Whether the keyboard is ours.
    pub(super) held: &'a Cell<bool>,
    /// Where our reactions to events go.
    pub(super) todo: &'a mpsc::Sender<Do>,
    may_type: bool,
    /// How many bytes of the terminal were shown.
    bytes: u64,
    /// Nobody holds it, and it was ours when the link broke: take it again once the link is back.
    wants_back: bool,
    /// A refusal was shown, and nothing has changed since.
    refused: bool,
    /// The changes made to our terminal.
    done: Done,
    passage: Passage,
    /// What is being written, and how much of it has been.
    out: Vec<u8>,
    written: usize,
    /// A new session begins on an empty screen.
    pub(super) clear: bool,
}

impl<'a> Shown<'a> {
    pub(super) fn new(held: &'a Cell<bool>, todo: &'a mpsc::Sender<Do>, done: Done) -> Self {
        let (name, may_type) = (String::new(), true);
        let (session, bytes, wants_back, refused) = (None, 0, false, false);
        let (passage, out) = Default::default();
        Self {
            name,
            session,
            held,
            todo,
            may_type,
            bytes,
            wants_back,
            refused,
            done,
            passage,
            out,
            written: 0,
            clear: true,
        }
    }

    /// Writes events, and counts the terminal's bytes that were written, until there are no more
    /// events. It is cancel-safe: called again, it leaves nothing out and writes nothing twice.
    pub(super) async fn write(
        &mut self,
        output: &mut pipe::Sender,
        events: &mut mpsc::Receiver<AttachEvent>,
        counting: &watch::Sender<u64>,
    ) {
        loop {
            while let Some(rest) = self.out.get(self.written..).filter(|rest| !rest.is_empty()) {
                match output.write(rest).await {
                    Ok(written) if written > 0 => self.written += written,
                    // The terminal is gone, and the reading half notices.
                    _ => std::future::pending().await,
                }
            }
            counting.send_replace(self.bytes);
            let Some(event) = events.recv().await else { return };
            let (mut out, mut passage) =
                (std::mem::take(&mut self.out), std::mem::take(&mut self.passage));
            out.clear();
            self.show(event, &mut passage, &mut out);
            while out.len() <= GATHERED
                && let Ok(event) = events.try_recv()
            {
                self.show(event, &mut passage, &mut out);
            }
            (self.out, self.written, self.passage) = (out, 0, passage);
        }
    }

    fn show(&mut self, event: AttachEvent, passage: &mut Passage, out: &mut Vec<u8>) {
        match event {
            AttachEvent::Bytes(bytes) => {
                self.bytes += bytes.len() as u64;
                let from = out.len();
                passage.pass(&bytes, out);
                self.done.borrow_mut().read(out.get(from..).unwrap_or_default(), |_| ());
            }
            AttachEvent::Attached(Attached { name, session, known, .. }) => {
                (self.name, self.session) = (name, Some(session));
                if self.clear && known == Some(false) {
                    out.extend_from_slice(b"\x1b[m\x1b[H\x1b[2J");
                }
            }
            AttachEvent::Screen => {
                *passage = Passage::default();
                let done = self.done.take();
                out.extend_from_slice(done.undo().as_bytes());
                out.extend_from_slice(b"\x1b[m\x1b[H\x1b[2J");
            }
            AttachEvent::Refused(failure) => {
                // One line for as long as nothing changes, not one for each key.
                if !self.refused {
                    self.refused = true;
                    say(&refusal(&failure), passage, out);
                }
            }
            AttachEvent::Typing(rights) => {
                if let Some(text) = self.typing(&rights) {
                    say(&text, passage, out);
                }
            }
            AttachEvent::Lost(why) => {
                self.wants_back = self.held.get();
                let why = neutral_within(&why, 200);
                say(&format!("farwire: {why}; reconnecting, Ctrl-] leaves"), passage, out);
            }
            AttachEvent::Back(0) => self.wants_back |= self.held.get(),
            AttachEvent::Back(lost) => {
                self.wants_back |= self.held.get();
                say(
                    &format!(
                        "farwire: reconnected; it is not known whether the last {lost} bytes that were typed have arrived"
                    ),
                    passage,
                    out,
                );
            }
        }
    }

    /// The notice about a change, if it matters to the attached person.
    fn typing(&mut self, rights: &TypingRights) -> Option<String> {
        let holder = rights.lease.as_ref().map(|lease| &lease.holder);
        let mine = holder.is_some_and(|holder| holder.mine == Some(true));
        let (held, could) = (self.held.replace(mine), self.may_type);
        self.may_type = rights.may_type;
        if mine {
            self.wants_back = false;
        }
        if std::mem::take(&mut self.wants_back) && holder.is_none() {
            // It was lost with the link. If the queue is full, it is full of keys, and they ask
            // again later.
            let _ = self.todo.try_send(Do::Take);
            return None;
        }
        if could != self.may_type || held != mine {
            self.refused = false;
        }
        let text = match (held, mine, holder) {
            (false, true, _) => "the keyboard is yours; Ctrl-^ releases it".to_owned(),
            (true, false, Some(other)) => {
                format!("{} took the keyboard; Ctrl-^ takes it back", actor(other))
            }
            (true, false, None) if rights.may_type => "you released the keyboard".to_owned(),
            (_, false, Some(other)) if could && !rights.may_type => {
                format!("{} has the keyboard; Ctrl-^ takes it", actor(other))
            }
            (_, false, None) if could && !rights.may_type => rule(rights),
            (false, false, _) if !could && rights.may_type => "you may type again".to_owned(),
            _ => return None,
        };
        Some(format!("farwire: {text}"))
    }
}

fn rule(rights: &TypingRights) -> String {
    match (rights.rule, &rights.drafting) {
        (TypingRule::AgentOnly, _) => {
            "only AI clients may type here; Ctrl-^ takes the keyboard".to_owned()
        }
        (_, Some(other)) => format!("{} is typing", actor(other)),
        _ => "you may not type here now".to_owned(),
    }
}

fn refusal(failure: &Failure) -> String {
    format!("farwire: not typed: {}", neutral_within(&failure.message, 200))
}

/// Says something: on a line of its own, or, where a program has the screen to itself, on the last
/// row.
fn say(text: &str, passage: &Passage, out: &mut Vec<u8>) {
    let line = match passage.alternate() {
        true => format!("\x1b7\x1b[999;1H\x1b[0;7m\x1b[K[{text}]\x1b[0m\x1b8"),
        false => format!("\r\n[{text}]\r\n"),
    };
    out.extend_from_slice(line.as_bytes());
}

#[cfg(test)]
mod tests {
    use farwire_protocol::failure::Kind;
    use farwire_protocol::streams::session::{Actor, Lease};

    use super::*;

    fn typing(holder: Option<bool>, may_type: bool) -> AttachEvent {
        let actor = |mine| Actor {
            device: "laptop".to_owned(),
            surface: if mine { "human" } else { "ai-local" }.to_owned(),
            client: None,
            mine: Some(mine),
        };
        let lease = |mine| Lease { holder: actor(mine), age_ms: 0, left_ms: None };
        AttachEvent::Typing(Box::new(TypingRights {
            rule: TypingRule::Shared,
            lease: holder.map(lease),
            may_type,
            transfer: None,
            drafting: None,
        }))
    }

    /// What is said of each event, one line each.
    fn said(events: Vec<AttachEvent>) -> Vec<String> {
        let held = Cell::new(false);
        let (todo, mut doing) = mpsc::channel(9);
        let mut shown = Shown::new(&held, &todo, Done::default());
        let mut passage = Passage::default();
        let mut said = Vec::new();
        for event in events {
            let mut out = Vec::new();
            shown.show(event, &mut passage, &mut out);
            said.push(String::from_utf8(out).unwrap().trim().to_owned());
        }
        if doing.try_recv().is_ok() {
            said.push("take".to_owned());
        }
        said
    }

    #[test]
    fn a_line_is_said_only_when_it_matters() {
        assert_eq!(said(vec![typing(None, true), typing(None, true)]), ["", ""]);
        let all = said(vec![
            typing(None, true),
            typing(Some(false), false),
            typing(Some(true), true),
            typing(Some(true), true),
            typing(Some(false), false),
            typing(None, true),
        ]);
        assert_eq!(
            all,
            [
                "",
                "[farwire: laptop/ai-local has the keyboard; Ctrl-^ takes it]",
                "[farwire: the keyboard is yours; Ctrl-^ releases it]",
                "",
                "[farwire: laptop/ai-local took the keyboard; Ctrl-^ takes it back]",
                "[farwire: you may type again]",
            ]
        );
    }

    #[test]
    fn many_refused_keys_are_one_line() {
        let refused =
            || AttachEvent::Refused(Failure::new(Kind::InputLocked, "it is locked\x1b[2J"));
        let all = said(vec![refused(), refused(), typing(Some(true), true), refused()]);
        assert!(all[0].starts_with("[farwire: not typed: it is locked"), "{all:?}");
        assert!(!all[0].contains("\x1b[2J") && all[1].is_empty() && !all[3].is_empty(), "{all:?}");
    }

    #[test]
    fn a_keyboard_that_went_with_the_link_is_taken_back_if_nobody_has_it() {
        let lost = || AttachEvent::Lost("gone".to_owned());
        let all =
            said(vec![typing(Some(true), true), lost(), AttachEvent::Back(0), typing(None, true)]);
        assert_eq!(all.last().unwrap(), "take");
        let all = said(vec![
            typing(Some(true), true),
            lost(),
            AttachEvent::Back(0),
            typing(Some(false), false),
        ]);
        assert!(all.last().unwrap().contains("took the keyboard"), "{all:?}");
    }

    #[test]
    fn within_a_full_screen_program_the_line_is_the_last_row() {
        let all = said(vec![
            AttachEvent::Bytes(bytes::Bytes::from_static(b"\x1b[?1049h")),
            typing(Some(true), true),
            AttachEvent::Bytes(bytes::Bytes::from_static(b"\x1b[?1049l")),
            typing(None, true),
        ]);
        assert!(all[1].starts_with("\x1b7\x1b[999;1H") && all[1].ends_with("\x1b8"), "{all:?}");
        assert_eq!(all[3], "[farwire: you released the keyboard]");
    }
}
