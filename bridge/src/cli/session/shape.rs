//! `farwire session resize`, `signal`, `label`, `limits` and `close`: the properties of a session,
//! except who types.

use std::time::Duration;

use clap::{ArgAction, Args};
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::streams::session::{
    Action, Caller, LABEL_LIMIT, Labels, Limits, Size, Status,
};

use super::show::{limits, row};
use super::which::Which;
use crate::cli::output::{Json, print, print_json};
use crate::cli::server::duration;
use crate::client::Client;
use crate::handles::Handle;
use crate::sessions::control;
use crate::text::neutral::neutral;
use crate::text::signal;

#[derive(Args, Debug)]
pub(crate) struct Resize {
    #[command(flatten)]
    which: Which,
    /// Columns and rows, such as 120x40; each from 1 to 1000
    #[arg(value_name = "COLSxROWS", value_parser = size)]
    size: Size,
    #[command(flatten)]
    pub(crate) json: Json,
}

#[derive(Args, Debug)]
pub(crate) struct Signal {
    #[command(flatten)]
    which: Which,
    /// The signal: INT, TERM, KILL, HUP, QUIT, USR1, USR2, …
    signal: String,
    #[command(flatten)]
    pub(crate) json: Json,
}

#[derive(Args, Debug)]
#[group(id = "labels", required = true, multiple = true, args = ["tag", "group", "read_only"])]
pub(crate) struct Label {
    #[command(flatten)]
    which: Which,
    /// A tag to find the session by; an empty one removes it
    #[arg(long)]
    tag: Option<String>,
    /// The group of sessions whose leases move together; an empty one removes it
    #[arg(long)]
    group: Option<String>,
    /// Let nobody type; `--read-only false` undoes it
    #[arg(long, action = ArgAction::Set, value_name = "YES", num_args = 0..=1, default_missing_value = "true")]
    read_only: Option<bool>,
    #[command(flatten)]
    pub(crate) json: Json,
}

/// Show or change a session's limits
///
/// Limits that are not given stay as they are. Without any, prints the current ones. A limit can be
/// changed, but not removed: 0 is refused.
#[derive(Args, Debug)]
pub(crate) struct SetLimits {
    #[command(flatten)]
    which: Which,
    /// End the session after this long without input or output, such as 30m or 2h; at most 366d
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    idle: Option<Duration>,
    /// How long to keep the session after its end, at most 366d [default: 24h]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    keep: Option<Duration>,
    /// Output limit in bytes per second, such as 64k or 1M; at least 10
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    output_rate: Option<u64>,
    /// Input limit in bytes per second, such as 64k or 1M; at least 10
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    input_rate: Option<u64>,
    /// How much of its output to keep, 64k to 256M
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    kept: Option<u64>,
    #[command(flatten)]
    pub(crate) json: Json,
}

/// End a session's program
///
/// Sends HUP, then TERM, then KILL, 5 s apart.
#[derive(Args, Debug)]
pub(crate) struct Close {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    pub(crate) json: Json,
}

fn size(text: &str) -> Result<Size, String> {
    let sides = text.split_once(['x', 'X']);
    let side = |text: &str| text.parse().ok().filter(|side| (1..=1000).contains(side));
    let size = sides.and_then(|(cols, rows)| Some(Size { cols: side(cols)?, rows: side(rows)? }));
    size.ok_or_else(|| "a size is COLSxROWS, with each from 1 to 1000".to_owned())
}

/// A number of bytes: `512`, `64k`, `10M`, `1G`, in steps of 1024.
fn bytes(text: &str) -> Result<u64, String> {
    let wrong = || "a number of bytes looks like 512, 64k, 10M or 1G".to_owned();
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let shift = match text.get(digits.len()..) {
        Some("") => 0,
        Some("k" | "K") => 10,
        Some("m" | "M") => 20,
        Some("g" | "G") => 30,
        _ => return Err(wrong()),
    };
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    number.checked_mul(1 << shift).ok_or_else(wrong)
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

async fn act(
    client: &Client,
    which: &Which,
    action: Action,
    json: Json,
    say: impl Fn(&Status) -> String,
) -> Result<(), Failure> {
    let session = which.find(client).await?;
    let Handle { id, server, job } = &session;
    let ended = control::act(client, server, *job, &Caller::default(), action).await?;
    if json.json {
        return print_json(&row(client, &session, &ended.status).await?);
    }
    print(&format!("{id}: {}\n", say(&ended.status)))
}

impl Resize {
    pub(crate) async fn carry_out(&self, client: &Client) -> Result<(), Failure> {
        let say = |status: &Status| format!("{}x{}", status.size.cols, status.size.rows);
        act(client, &self.which, Action::Resize(self.size), self.json, say).await
    }
}

impl Signal {
    pub(crate) async fn carry_out(&self, client: &Client) -> Result<(), Failure> {
        let number = signal::parse(&self.signal)?;
        let say = |_: &Status| format!("{} was sent", signal::name(number));
        act(client, &self.which, Action::Signal(number), self.json, say).await
    }
}

impl Label {
    pub(crate) async fn carry_out(&self, client: &Client) -> Result<(), Failure> {
        for label in [&self.tag, &self.group].into_iter().flatten() {
            if label.len() > LABEL_LIMIT {
                let text = format!("a label has at most {LABEL_LIMIT} bytes");
                return Err(Failure::new(Kind::TooLarge, text));
            }
        }
        let labels = Labels {
            owner: None,
            tag: self.tag.clone(),
            group: self.group.clone(),
            read_only: self.read_only,
        };
        let say = |status: &Status| {
            let labels = status.labels.clone().unwrap_or_default();
            let mut text = "labels:".to_owned();
            for (word, value) in [("tag", labels.tag), ("group", labels.group)] {
                if let Some(value) = value {
                    text.extend([" ", word, "=", &neutral(&value)]);
                }
            }
            if labels.read_only == Some(true) {
                text.push_str(" read-only");
            }
            text
        };
        act(client, &self.which, Action::Label(labels), self.json, say).await
    }
}

impl SetLimits {
    pub(crate) async fn carry_out(&self, client: &Client) -> Result<(), Failure> {
        let wanted = Limits {
            idle_ms: self.idle.map(millis),
            keep_ms: self.keep.map(millis),
            output_rate: self.output_rate,
            input_rate: self.input_rate,
            kept: self.kept,
        };
        let say = |status: &Status| match status.limits.map(limits) {
            Some(text) if !text.is_empty() => text,
            _ => "no limits of its own".to_owned(),
        };
        if wanted != Limits::default() {
            return act(client, &self.which, Action::Limits(wanted), self.json, say).await;
        }
        let session = self.which.find(client).await?;
        let status = control::look(client, &session.server, session.job).await?.ended.status;
        if self.json.json {
            return print_json(&row(client, &session, &status).await?);
        }
        print(&format!("{}: {}\n", session.id, say(&status)))
    }
}

impl Close {
    pub(crate) async fn carry_out(&self, client: &Client) -> Result<(), Failure> {
        let Handle { id, server, job } = self.which.find(client).await?;
        control::close(client, &server, job, &Caller::default()).await?;
        if self.json.json {
            return print_json(&serde_json::json!({"id": id.to_string(), "close": "closing"}));
        }
        print(&format!("{id}: closing\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_bytes_are_read_and_odd_ones_refused() {
        assert_eq!(size("120x40"), Ok(Size { cols: 120, rows: 40 }));
        for wrong in ["", "x", "0x40", "120", "120x", "1001x2", "-1x2", "1x2x3"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
        assert_eq!(bytes("512"), Ok(512));
        assert_eq!(bytes("64k"), Ok(65_536));
        assert_eq!(bytes("1G"), Ok(1 << 30));
        for wrong in ["", "k", "1.5k", "-1", "1T", "99999999999999999G"] {
            assert!(bytes(wrong).is_err(), "{wrong}");
        }
    }
}
