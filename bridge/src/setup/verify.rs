//! Starts the command of an entry, as its client would, and asks it for its tools.
//!
//! ```text
//! Initialize: initialize -> notifications/initialized -> tools/list
//! Discover:   server/discover -> tools/list, or what stands above where it is not known
//! ```
//!
//! # Invariants
//!
//! - Everything ends at most a second after the limit, and no process of the group is left.
//! - Output of the process is counted before it is kept, and made printable before it is shown.
//!
//! Not here: the process and its pipes (`verify/process.rs`).

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use farwire_protocol::failure::Kind;
use serde::Serialize;
use serde_json::{Value, json};

use super::context::Context;
use super::entry::{printable, strings};

mod process;

use process::{Process, Said};

/// The result of `--verify`.
#[derive(Clone, Debug, Default, Serialize)]
#[non_exhaustive]
pub struct Verified {
    /// Whether the client will see our tools.
    pub ok: bool,
    /// The revision of MCP that was agreed on.
    pub protocol: Option<String>,
    /// The name and version that the server reports.
    pub server: Option<String>,
    /// The tools that it offers.
    pub tools: Vec<String>,
    /// How long it took from the start to the first answer, in milliseconds.
    pub start_ms: Option<u64>,
    /// What is wrong.
    pub problem: Option<Problem>,
}

/// What is wrong with an entry or with what it starts.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Problem {
    /// What kind of failure it is.
    #[serde(serialize_with = "by_name")]
    pub kind: Kind,
    /// What happened, as a lower-case fragment.
    pub message: String,
    /// The last lines that the process wrote to standard error.
    pub stderr: Option<String>,
}

impl Problem {
    fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), stderr: None }
    }

    /// The problem of an entry that is disabled.
    pub(crate) fn switched_off(how: &str) -> Self {
        Self::new(Kind::Configuration, format!("the entry is disabled: `{how}`"))
    }
}

impl From<Problem> for Verified {
    fn from(problem: Problem) -> Self {
        Self { problem: Some(problem), ..Self::default() }
    }
}

impl fmt::Display for Verified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(problem) = &self.problem else {
            let (tools, start) = (self.tools.len(), self.start_ms.unwrap_or_default());
            let protocol = self.protocol.as_deref().unwrap_or_default();
            return write!(f, "works: {tools} tools, started in {start} ms, MCP {protocol}");
        };
        write!(f, "does not work: {}", problem.message)?;
        for line in problem.stderr.iter().flat_map(|stderr| stderr.lines()) {
            write!(f, "\n  | {line}")?;
        }
        Ok(())
    }
}

/// The command that a client starts, and its first request.
#[derive(Debug)]
pub(crate) struct Launch {
    command: String,
    args: Vec<String>,
    env: BTreeMap<OsString, OsString>,
    cwd: PathBuf,
    opening: Opening,
}

/// The first request of a client.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Opening {
    /// `initialize`, with this revision of MCP.
    Initialize(&'static str),
    /// `server/discover`, and `initialize` if the server does not know it.
    Discover,
}

impl Launch {
    /// Reads the keys `command`, `args`, `env` and `cwd` of an entry.
    pub(crate) fn of_entry(
        entry: &Value,
        context: &Context,
        opening: Opening,
    ) -> Result<Self, Problem> {
        let malformed =
            |what| Problem::new(Kind::Configuration, format!("the entry has no valid `{what}`"));
        let command =
            entry.get("command").and_then(Value::as_str).ok_or_else(|| malformed("command"))?;
        let args =
            entry.get("args").map_or(Some(Vec::new()), strings).ok_or_else(|| malformed("args"))?;
        let env = entry.get("env").and_then(Value::as_object).into_iter().flatten();
        let env = env.filter_map(|(key, value)| Some((key.into(), value.as_str()?.into())));
        let cwd = entry.get("cwd").and_then(Value::as_str).unwrap_or_default();
        let cwd = context.cwd.join(cwd);
        Ok(Self { command: command.to_owned(), args, env: env.collect(), cwd, opening })
    }

    /// Adds those variables of our environment that the client `passes` on.
    pub(crate) fn inherit(&mut self, context: &Context, passes: impl Fn(&OsStr) -> bool) {
        for (key, value) in &context.env {
            if passes(key) {
                self.env.entry(key.clone()).or_insert_with(|| value.clone());
            }
        }
    }
}

/// Checks whether the client will see `tools` when it starts `launch`; ends within `limit`.
pub(crate) fn check(launch: &Launch, tools: &[&str], limit: Duration) -> Verified {
    let start = Instant::now();
    let process = match Process::start(launch) {
        Ok(process) => process,
        Err(problem) => return problem.into(),
    };
    let mut talk = Talk { process, deadline: start + limit, limit, last_id: 0 };
    let mut verified = Verified::default();
    let result = talk.ask_for_tools(launch.opening, start, &mut verified);
    verified.problem = result.and_then(|()| missing(&verified.tools, tools)).err();
    verified.ok = verified.problem.is_none();
    let stderr = talk.process.end();
    if let Some(problem) = &mut verified.problem {
        problem.stderr = stderr;
    }
    verified
}

/// A conversation with a server that has been started.
struct Talk {
    process: Process,
    deadline: Instant,
    limit: Duration,
    last_id: u64,
}

impl Talk {
    fn ask_for_tools(
        &mut self,
        opening: Opening,
        start: Instant,
        found: &mut Verified,
    ) -> Result<(), Problem> {
        let revision = match opening {
            Opening::Initialize(revision) => revision,
            Opening::Discover => match self.ask("server/discover", json!({ "_meta": modern() }))? {
                Ok(answer) if supports(&answer, MODERN) => {
                    found.start_ms = Some(milliseconds(start));
                    found.protocol = Some(MODERN.to_owned());
                    let info = answer.pointer("/_meta/io.modelcontextprotocol~1serverInfo");
                    found.server = name_and_version(info.or_else(|| answer.get("serverInfo")));
                    return self.list(&json!({ "_meta": modern() }), found);
                }
                _ => LEGACY,
            },
        };
        let hello =
            json!({ "protocolVersion": revision, "capabilities": {}, "clientInfo": client_info() });
        let answer =
            self.ask("initialize", hello)?.map_err(|error| refusal("initialize", &error))?;
        found.start_ms = Some(milliseconds(start));
        let agreed = answer.get("protocolVersion").and_then(Value::as_str).unwrap_or_default();
        if agreed.is_empty() || agreed > revision {
            let agreed = printable(agreed);
            let message = format!(
                "it answers `initialize` with revision `{agreed}`, but the client supports `{revision}`"
            );
            return Err(Problem::new(Kind::IncompatibleVersion, message));
        }
        found.protocol = Some(printable(agreed));
        found.server = name_and_version(answer.get("serverInfo"));
        self.say(&json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }));
        self.list(&json!({}), found)
    }

    /// All pages of the list of tools.
    fn list(&mut self, params: &Value, found: &mut Verified) -> Result<(), Problem> {
        let mut params = params.clone();
        for _ in 0..PAGE_LIMIT {
            let answer = self
                .ask("tools/list", params.clone())?
                .map_err(|error| refusal("tools/list", &error))?;
            let tools = answer.get("tools").and_then(Value::as_array).into_iter().flatten();
            found
                .tools
                .extend(tools.filter_map(|tool| Some(printable(tool.get("name")?.as_str()?))));
            let Some(cursor) = answer.get("nextCursor").filter(|cursor| cursor.is_string()) else {
                return Ok(());
            };
            params["cursor"] = cursor.clone();
        }
        Err(Problem::new(Kind::ProtocolViolation, "its list of tools has no end"))
    }

    /// The result of a request, or the error with which the server answers.
    fn ask(&mut self, method: &str, params: Value) -> Result<Result<Value, Value>, Problem> {
        self.last_id += 1;
        let id = json!(self.last_id);
        self.say(&json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }));
        loop {
            let mut message = self.hear(method)?;
            if message.get("method").is_some() {
                self.answer(&message);
                continue;
            }
            if message.get("id") != Some(&id) {
                continue;
            }
            return match (
                message.get_mut("result").map(Value::take),
                message.get_mut("error").map(Value::take),
            ) {
                (Some(result), None) => Ok(Ok(result)),
                (_, Some(error)) => Ok(Err(error)),
                (None, None) => Err(garbage(&message.to_string())),
            };
        }
    }

    /// The next message; `method` is what we are waiting for an answer to.
    fn hear(&mut self, method: &str) -> Result<Value, Problem> {
        let line = match self.process.hear(self.deadline) {
            Said::Line(line) => line,
            Said::TooLong => {
                return Err(Problem::new(Kind::TooLarge, "it wrote a line without end"));
            }
            Said::Nothing => {
                let message = format!("it did not answer `{method}` within {:?}", self.limit);
                return Err(Problem::new(Kind::TimedOut, message));
            }
            Said::End(how) => {
                let how = how.unwrap_or_else(|| "it closed its standard output".to_owned());
                let message = format!("{how} before it answered `{method}`");
                return Err(Problem::new(Kind::ExecFailed, message));
            }
        };
        let message = serde_json::from_slice::<Value>(&line).ok();
        let message = message.filter(|message| message.get("jsonrpc") == Some(&json!("2.0")));
        message.ok_or_else(|| garbage(&String::from_utf8_lossy(&line)))
    }

    /// We can answer no request from the server except `ping`.
    fn answer(&mut self, request: &Value) {
        let Some(id) = request.get("id") else { return };
        let mut answer = json!({ "jsonrpc": "2.0", "id": id });
        if request.get("method") == Some(&json!("ping")) {
            answer["result"] = json!({});
        } else {
            answer["error"] = json!({ "code": -32601, "message": "method not found" });
        }
        self.say(&answer);
    }

    fn say(&mut self, message: &Value) {
        self.process.say(&format!("{message}\n"));
    }
}

fn missing(offered: &[String], wanted: &[&str]) -> Result<(), Problem> {
    let missing = wanted.iter().filter(|wanted| !offered.iter().any(|offered| offered == *wanted));
    let missing: Vec<_> = missing.map(|name| format!("`{name}`")).collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(Problem::new(
        Kind::IncompatibleVersion,
        format!("it does not offer the tools {}", missing.join(", ")),
    ))
}

fn supports(answer: &Value, revision: &str) -> bool {
    let versions = answer.get("supportedVersions").and_then(Value::as_array);
    versions.is_some_and(|versions| versions.contains(&json!(revision)))
}

fn name_and_version(info: Option<&Value>) -> Option<String> {
    let (name, version) =
        (info?.get("name")?.as_str()?, info?.get("version").and_then(Value::as_str));
    Some(printable(&format!("{name} {}", version.unwrap_or_default())).trim_end().to_owned())
}

fn refusal(method: &str, error: &Value) -> Problem {
    let message = error.get("message").and_then(Value::as_str).unwrap_or("no reason given");
    Problem::new(Kind::ProtocolViolation, format!("it refused `{method}`: {}", clipped(message)))
}

fn garbage(line: &str) -> Problem {
    let message = format!(
        "it wrote something that is not MCP to standard output: `{}`",
        clipped(line.trim())
    );
    Problem::new(Kind::ProtocolViolation, message)
}

/// The beginning of a foreign text, on one line.
fn clipped(text: &str) -> String {
    let short: String = text.chars().take(SHOWN_LIMIT).collect();
    let more = if short.len() < text.len() { "…" } else { "" };
    format!("{}{more}", printable(&short).replace('\n', " "))
}

fn milliseconds(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}

fn client_info() -> Value {
    json!({ "name": "farwire-setup", "version": env!("CARGO_PKG_VERSION") })
}

/// The metadata of every request in the protocol without `initialize`.
fn modern() -> Value {
    json!({
        "io.modelcontextprotocol/protocolVersion": MODERN,
        "io.modelcontextprotocol/clientInfo": client_info(),
        "io.modelcontextprotocol/clientCapabilities": {},
    })
}

fn by_name<S: serde::Serializer>(kind: &Kind, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(kind.name())
}

/// The revision that has no `initialize`.
const MODERN: &str = "2026-07-28";

/// The last revision that has it.
const LEGACY: &str = "2025-11-25";

/// The most pages of a list of tools.
const PAGE_LIMIT: usize = 32;

/// How much of a foreign message is shown: enough to recognise it.
const SHOWN_LIMIT: usize = 160;
