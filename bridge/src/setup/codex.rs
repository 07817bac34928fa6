//! Codex: `[mcp_servers.NAME]` in `config.toml`.
//!
//! Codex starts servers with a nearly empty environment, so the entry names the variables that we
//! need. Without a person at the keyboard it refuses every tool that may change something; only an
//! approval for each tool lets it use them, which `--approve` writes.

use std::ffi::OsStr;

use serde_json::{Value, json};

use super::arguments::Scope;
use super::client::{Client, Document};
use super::context::Context;
use super::entry::{Field, Job, Rule};
use super::toml_entry::TomlEntry;
use super::verify::{Launch, Opening, Problem};

#[derive(Debug)]
pub(crate) struct Codex;

impl Client for Codex {
    fn name(&self) -> &'static str {
        "codex"
    }

    fn documents<'a>(&self, job: &'a Job<'a>) -> Vec<Box<dyn Document + 'a>> {
        let directory = match job.args.scope {
            Scope::User => {
                job.directory("CODEX_HOME").unwrap_or_else(|| job.context.user_home.join(".codex"))
            }
            Scope::Project => job.context.cwd.join(".codex"),
        };
        let approve = job.context.tools.iter().filter(|_| job.args.approve).map(|tool| tool.name);
        vec![Box::new(TomlEntry {
            job,
            path: directory.join("config.toml"),
            fields: fields(job, self.name()),
            approve: approve.collect(),
        })]
    }

    fn next(&self, scope: Scope) -> &'static str {
        match scope {
            Scope::User => "restart Codex to load it",
            Scope::Project => "Codex loads it after a restart, if it trusts the project",
        }
    }

    fn launch(&self, entry: &Value, context: &Context) -> Result<Launch, Problem> {
        if entry.get("enabled") == Some(&json!(false)) {
            return Err(Problem::switched_off("enabled = false"));
        }
        let name = |value: &Value| value.get("name").unwrap_or(value).as_str().map(str::to_owned);
        let listed = entry.get("env_vars").and_then(Value::as_array).into_iter().flatten();
        let passed: Vec<String> = listed.filter_map(name).collect();
        let passes = |key: &OsStr| {
            ENVIRONMENT.iter().any(|name| key == *name)
                || passed.iter().any(|name| key == name.as_str())
        };
        let mut launch = Launch::of_entry(entry, context, Opening::Initialize("2025-06-18"))?;
        launch.inherit(context, passes);
        Ok(launch)
    }
}

fn fields(job: &Job<'_>, client: &str) -> Vec<Field> {
    vec![
        Field::new("command", Rule::Exactly(job.command.clone())),
        Field::new("args", Rule::Arguments(job.arguments(client))),
        // Codex waits 30 s by default today; it used to be 10 s.
        Field::new("startup_timeout_sec", Rule::AtLeast(30)),
        // Longer than any of our calls waits for its server.
        Field::new("tool_timeout_sec", Rule::AtLeast(300)),
        Field::new("supports_parallel_tool_calls", Rule::Default(json!(true))),
        Field::new("env_vars", Rule::Includes(VARIABLES)),
        Field::new(
            "default_tools_approval_mode",
            Rule::OneOf(&["writes", "auto", "prompt", "approve"]),
        ),
    ]
}

/// The variables that tell us where our files are.
const VARIABLES: &[&str] =
    &["FARWIRE_HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_RUNTIME_DIR"];

/// The variables that Codex passes on by default.
const ENVIRONMENT: &[&str] = &["HOME", "PATH", "LANG", "TERM", "SHELL"];
