//! Claude Code: `mcpServers.NAME` in `.claude.json` or `.mcp.json`, and permissions in
//! `settings.json`.
//!
//! Claude Code asks a person before the first use of each tool, even of one that only reads. So a
//! new entry comes with permission for the tools that change nothing, and `--approve` gives it for
//! the others too. What a person has denied stays denied: a denial overrides a permission.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::arguments::Scope;
use super::client::{Client, Document, Fault};
use super::context::{Context, Tool};
use super::entry::{Field, Job, Rule};
use super::json::edit;
use super::json_entry::{JsonEntry, or_object, without_empty};
use super::verify::{Launch, Opening, Problem};

#[derive(Debug)]
pub(crate) struct Claude;

impl Client for Claude {
    fn name(&self) -> &'static str {
        "claude"
    }

    fn documents<'a>(&self, job: &'a Job<'a>) -> Vec<Box<dyn Document + 'a>> {
        let home = &job.context.user_home;
        let (path, settings) = match (job.args.scope, job.directory("CLAUDE_CONFIG_DIR")) {
            (Scope::Project, _) => {
                (job.context.cwd.join(".mcp.json"), job.context.cwd.join(".claude"))
            }
            (Scope::User, Some(directory)) => (directory.join(".claude.json"), directory),
            (Scope::User, None) => (home.join(".claude.json"), home.join(".claude")),
        };
        let entry =
            JsonEntry { job, path, servers: "mcpServers", fields: fields(job, self.name()) };
        vec![Box::new(entry), Box::new(Permissions { job, path: settings.join("settings.json") })]
    }

    fn next(&self, scope: Scope) -> &'static str {
        match scope {
            Scope::User => "restart Claude Code to load it",
            Scope::Project => "Claude Code asks for approval at its next start in this project",
        }
    }

    fn launch(&self, entry: &Value, context: &Context) -> Result<Launch, Problem> {
        let mut launch = Launch::of_entry(entry, context, Opening::Discover)?;
        launch.inherit(context, |_| true);
        Ok(launch)
    }
}

fn fields(job: &Job<'_>, client: &str) -> Vec<Field> {
    vec![
        Field::new("type", Rule::Exactly("stdio".to_owned())),
        Field::new("command", Rule::Exactly(job.command.clone())),
        Field::new("args", Rule::Arguments(job.arguments(client))),
        Field::new("env", Rule::Default(json!({}))),
        // Milliseconds for one call.
        Field::new("timeout", Rule::AtLeast(600_000)),
    ]
}

/// The tools that Claude Code may use without asking.
#[derive(Debug)]
struct Permissions<'a> {
    job: &'a Job<'a>,
    path: PathBuf,
}

impl Permissions<'_> {
    fn allows(&self, tool: &Tool) -> bool {
        tool.read_only || self.job.args.approve
    }

    /// The rule that allows this tool.
    fn rule(&self, tool: &Tool) -> String {
        format!("mcp__{}__{}", self.job.args.name, tool.name)
    }

    fn rules(&self) -> impl Iterator<Item = String> + '_ {
        let tools = self.job.context.tools.iter();
        tools.filter(|tool| self.allows(tool)).map(|tool| self.rule(tool))
    }
}

impl Document for Permissions<'_> {
    fn path(&self) -> &Path {
        &self.path
    }

    fn install(&self, text: &str) -> Result<String, Fault> {
        let mut new = text.to_owned();
        for rule in self.rules() {
            if let Some(with_rule) = edit::push(or_object(&new), ALLOW, &rule)? {
                new = with_rule;
            }
        }
        if text.trim().is_empty() && new != text {
            new.push('\n');
        }
        Ok(new)
    }

    fn remove(&self, text: &str) -> Result<String, Fault> {
        let mut new = text.to_owned();
        for tool in &self.job.context.tools {
            let rule = self.rule(tool);
            if let Some(without_rule) = edit::without(or_object(&new), ALLOW, &rule)? {
                new = without_rule;
            }
        }
        if new == text { Ok(new) } else { self.tidy(&new) }
    }

    fn tidy(&self, text: &str) -> Result<String, Fault> {
        let text = without_empty(or_object(text), ALLOW)?;
        Ok(without_empty(&text, &["permissions"])?)
    }

    fn same(&self, one: &str, other: &str) -> bool {
        edit::same(or_object(one), or_object(other))
    }

    fn blank(&self, text: &str) -> bool {
        edit::same(or_object(text), "{}")
    }

    fn what(&self) -> String {
        let tools = self.job.context.tools.iter().filter(|tool| self.allows(tool));
        let tools: Vec<_> = tools.map(|tool| tool.name).collect();
        format!("permission for {}", tools.join(", "))
    }
}

/// Where its settings list the tools that need no question.
const ALLOW: &[&str] = &["permissions", "allow"];
