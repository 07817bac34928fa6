//! `farwire session show` and `screen`: the state of a session, and its screen.

use std::fmt::Write as _;
use std::time::Duration;

use clap::Args;
use farwire_protocol::failure::Failure;
use farwire_protocol::streams::session::{Limits, Status, TypingRights};

use super::listed::SessionRow;
use super::print as printing;
use super::which::Which;
use crate::cli::output::{Json, print, print_json};
use crate::client::Client;
use crate::handles::Handle;
use crate::render::typing::{actor_or_you, lease, participant, transfer};
use crate::runs::control;
use crate::sessions::control::{draw, look};
use crate::text::human;
use crate::text::neutral::neutral;

#[derive(Args, Debug)]
pub(crate) struct Show {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    pub(crate) json: Json,
}

/// Print the contents of a session's screen
///
/// As text or, with --colors, as the escape sequences that draw it on a terminal.
#[derive(Args, Debug)]
pub(crate) struct Screen {
    #[command(flatten)]
    which: Which,
    /// Include colors and attributes
    #[arg(long, conflicts_with = "json")]
    colors: bool,
    #[command(flatten)]
    pub(crate) json: Json,
}

/// The row of a session. Its server is asked for details.
pub(super) async fn row(
    client: &Client,
    session: &Handle,
    status: &Status,
) -> Result<SessionRow, Failure> {
    let job = control::inspect(client, &session.server, session.job).await?;
    Ok(SessionRow::of(session, &job, status))
}

impl Show {
    pub(crate) async fn carry_out(&self, client: &Client) -> Result<(), Failure> {
        let session = self.which.find(client).await?;
        let status = look(client, &session.server, session.job).await?.ended.status;
        let row = row(client, &session, &status).await?;
        if self.json.json {
            return print_json(&row);
        }
        print(&text(&row, &status))
    }
}

/// Lines of a key and its value.
fn text(one: &SessionRow, status: &Status) -> String {
    let mut text = format!("{} {}/{}\n", one.id, neutral(&one.server), neutral(&one.name));
    let mut line = |word: &str, value: &str| {
        if !value.is_empty() {
            // A string takes whatever is written to it.
            let _ = writeln!(text, "  {word:<11}{}", neutral(value));
        }
    };
    line("state", &one.fate());
    line("program", one.program.as_deref().unwrap_or_default());
    line("title", one.title.as_deref().unwrap_or_default());
    line("opened", &format!("{} by {} as {}: {}", one.age(), one.opened_by, one.user, one.command));
    line("size", &format!("{}x{}", one.cols, one.rows));
    line("idle", one.idle().strip_prefix("idle ").unwrap_or_default());
    line(
        "exit codes",
        if one.marked { "known" } else { "not known: its shell does not mark its commands" },
    );
    if one.read_only {
        line("typing", "nobody: it is read-only");
    } else if let Some(rights) = &status.typing {
        line("typing", &typing(rights));
        line("keyboard", &rights.lease.as_ref().map(lease).unwrap_or_default());
        line("drafting", &rights.drafting.as_ref().map(actor_or_you).unwrap_or_default());
        line("last", &rights.transfer.as_ref().map(transfer).unwrap_or_default());
    }
    for one in status.participants.iter().flatten() {
        line("attached", &participant(one));
    }
    if status.participants.is_none() {
        line("attached", &one.attached.to_string());
    }
    line("owner", one.owner.as_deref().unwrap_or_default());
    line("tag", one.tag.as_deref().unwrap_or_default());
    line("group", one.group.as_deref().unwrap_or_default());
    line("limits", &status.limits.map(limits).unwrap_or_default());
    text
}

fn typing(rights: &TypingRights) -> String {
    let may = if rights.may_type { "you may type" } else { "you may not type" };
    format!("{}; {may}", rights.rule.name())
}

/// The limits in one line; empty if there are none.
pub(super) fn limits(limits: Limits) -> String {
    let time = |millis| human::duration(Duration::from_millis(millis));
    let rate = |bytes| format!("{}B/s", human::size(bytes));
    let all = [
        ("idle", limits.idle_ms.map(time)),
        ("kept-for", limits.keep_ms.map(time)),
        ("output", limits.output_rate.map(rate)),
        ("input", limits.input_rate.map(rate)),
        ("log", limits.kept.map(human::size)),
    ];
    let given = all.iter().filter_map(|(name, value)| Some(format!("{name}={}", value.as_ref()?)));
    given.collect::<Vec<_>>().join(" ")
}

impl Screen {
    pub(crate) async fn carry_out(&self, client: &Client) -> Result<(), Failure> {
        let Handle { id, server, job } = self.which.find(client).await?;
        if self.colors {
            let drawn = draw(client, &server, job).await?;
            return printing::TerminalPrinter::default().finish(&drawn.text);
        }
        let answer = look(client, &server, job).await?;
        let status = &answer.ended.status;
        let text = String::from_utf8_lossy(&answer.text);
        if self.json.json {
            let (size, cursor) = (status.size, status.cursor);
            return print_json(&serde_json::json!({
                "id": id.to_string(), "server": server.name,
                "state": status.doing.name(), "cols": size.cols, "rows": size.rows,
                "cursor": cursor.map(|cursor| serde_json::json!({"row": cursor.rows, "column": cursor.cols})),
                "title": status.title, "screen": text,
            }));
        }
        // A grid holds text only, but it comes from another machine.
        let safe: String = text.chars().filter(|c| *c == '\n' || !c.is_control()).collect();
        print(&safe)
    }
}
