//! The record of a session, for an agent that starts when no holder has it any more.

use std::sync::Arc;
use std::time::Duration;

use data_encoding::HEXLOWER;
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::id::Id;
use farwire_protocol::streams::run::{Exit, Reason};
use farwire_protocol::streams::session::{Labels, Limits, Lost, TypingRule};
use serde::{Deserialize, Serialize};

use super::Session;
use crate::gate::principal::Principal;
use crate::holder::micros;
use crate::jobs::job::Past;
use crate::os::clock::{boot_id, boottime, unix_millis};
use crate::os::pty::Size;
use crate::program::Phase;
use crate::terminal::{Beginning, Filed};

/// What a session is, and how it ended. Times are milliseconds since 1970.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct SessionRecord {
    name: String,
    command: String,
    user: String,
    device: String,
    device_name: String,
    surface: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    owner: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tag: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    group: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    keep_ms: Option<u64>,
    policy: String,
    cols: u16,
    rows: u16,
    started_ms: u64,
    /// The boot in which it was started.
    boot: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    end: Option<SessionEnd>,
}

/// How it ended, or that this is unknown.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct SessionEnd {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    code: Option<i32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    signal: Option<i32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lost: Option<String>,
    ended_ms: u64,
    /// In microseconds since boot, which no change of the clock affects.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ended_us: Option<u64>,
    duration_ms: u64,
}

impl SessionRecord {
    /// What is known of a session now.
    pub(crate) fn of(Session { job, terminal }: &Session) -> Self {
        let Filed { labels, limits, lost, .. } = terminal.filing().clone();
        let policy = terminal.typing().arbiter.policy();
        let (size, state) = (terminal.size(), job.state());
        let end = job.ended_for().map(|ago| SessionEnd {
            code: state.exit.and_then(|exit| match exit {
                Exit::Code(code) => Some(code),
                Exit::Signal(_) => None,
            }),
            signal: state.exit.and_then(|exit| match exit {
                Exit::Signal(signal) => Some(signal),
                Exit::Code(_) => None,
            }),
            reason: state.reason.map(|reason| match reason {
                Reason::Timeout => "timeout".to_owned(),
                Reason::Stopped => "stopped".to_owned(),
            }),
            lost: lost.map(|lost| lost.name().to_owned()),
            ended_ms: unix_millis().saturating_sub(millis(ago)),
            ended_us: Some(micros(boottime().saturating_sub(ago))),
            duration_ms: state.duration_ms,
        });
        Self {
            name: terminal.name.clone(),
            command: job.command().to_owned(),
            user: job.user().to_owned(),
            device: HEXLOWER.encode(&job.owner.device.0),
            device_name: job.owner.name.to_string(),
            surface: job.owner.surface.to_string(),
            owner: labels.owner,
            tag: labels.tag,
            group: labels.group,
            keep_ms: limits.keep_ms,
            policy: policy.name().to_owned(),
            cols: size.cols,
            rows: size.rows,
            started_ms: unix_millis().saturating_sub(millis(job.age())),
            boot: boot_id(),
            end,
        }
    }

    /// The part that may change: the record is written again when this differs.
    pub(crate) fn change_key(&self) -> String {
        let Self { owner, tag, group, keep_ms, policy, cols, rows, end, .. } = self;
        let end = end.as_ref().map(|end| (end.code, end.signal, &end.lost));
        format!("{owner:?} {tag:?} {group:?} {keep_ms:?} {policy} {cols} {rows} {end:?}")
    }

    /// When it was requested.
    pub(crate) fn started_ms(&self) -> u64 {
        self.started_ms
    }

    /// A session of an earlier agent that no holder has, as it is from now on: ended, or lost.
    /// Returns `None` for an invalid record.
    pub(crate) fn past(mut self) -> Option<(Self, Past, Beginning)> {
        let (now, here) = (unix_millis(), boot_id());
        let lost = match &self.end {
            // It has an end with neither an exit nor a loss: it never began.
            Some(SessionEnd { code: None, signal: None, lost: None, .. }) => return None,
            Some(SessionEnd { lost: None, .. }) => None,
            Some(SessionEnd { lost: Some(name), .. }) if name == Lost::HolderDied.name() => {
                Some(Lost::HolderDied)
            }
            Some(_) => Some(Lost::HostRebooted),
            None if self.boot == here => Some(Lost::HolderDied),
            None => Some(Lost::HostRebooted),
        };
        let end = self.end.get_or_insert_with(|| SessionEnd {
            code: None,
            signal: None,
            reason: None,
            lost: lost.map(|lost| lost.name().to_owned()),
            ended_ms: now,
            ended_us: Some(micros(boottime())),
            duration_ms: 0,
        });
        let exit = match (end.code, end.signal) {
            (Some(code), _) => Some(Exit::Code(code)),
            (None, signal) => signal.map(Exit::Signal),
        };
        let phase = match (exit, lost) {
            (Some(exit), None) => {
                let reason = match end.reason.as_deref() {
                    Some("timeout") => Some(Reason::Timeout),
                    Some("stopped") => Some(Reason::Stopped),
                    _ => None,
                };
                Phase::Ended { exit, reason, output_end: 0, escaped: 0 }
            }
            (_, lost) => Phase::Failed(Failure::new(Kind::OutcomeUnknown, why(lost))),
        };
        let past = Past {
            phase,
            // It ended before this boot, or an older agent wrote the record.
            ended: match (end.ended_us, self.boot == here) {
                (Some(at), true) => Some(Duration::from_micros(at)),
                (_, false) => Some(Duration::ZERO),
                (None, true) => None,
            },
            started_ms: self.started_ms,
            ended_ms: end.ended_ms,
            duration_ms: end.duration_ms,
        };
        let device: [u8; 32] = HEXLOWER.decode(self.device.as_bytes()).ok()?.try_into().ok()?;
        // Its owner must be known.
        Id(device).verifying()?;
        self.surface.parse::<farwire_protocol::surface::Surface>().ok()?;
        let labels = Labels {
            owner: self.owner.clone(),
            tag: self.tag.clone(),
            group: self.group.clone(),
            read_only: None,
        };
        let limits = Limits { keep_ms: self.keep_ms, ..Limits::default() };
        let beginning = Beginning {
            name: self.name.clone(),
            nonce: None,
            size: Size::new(self.cols, self.rows),
            filed: Filed { labels, limits, recovered_ms: None, lost },
            policy: TypingRule::from_name(&self.policy).unwrap_or(TypingRule::UserPriority),
            transfer: None,
        };
        Some((self, past, beginning))
    }

    /// Its owner.
    pub(crate) fn owner(&self) -> Option<Arc<Principal>> {
        let device = HEXLOWER.decode(self.device.as_bytes()).ok()?.try_into().ok()?;
        let surface = self.surface.parse().ok()?;
        Some(Arc::new(Principal::new(Id(device), surface, &*self.device_name)))
    }

    /// Its command, and the user that it ran as.
    pub(crate) fn program(self) -> (String, String) {
        (self.command, self.user)
    }
}

fn why(lost: Option<Lost>) -> &'static str {
    match lost {
        Some(Lost::HostRebooted) => {
            "the machine was restarted while it ran; how it ended is not known"
        }
        Some(Lost::HolderDied) => {
            "the process that held the program has died; the program may have ended or still run"
        }
        None => "it could not be started, or how it ended is not known",
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
