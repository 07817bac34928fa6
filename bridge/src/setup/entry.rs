//! The contents of our entry, whatever the format of the file.
//!
//! An entry is a list of [`Field`]s. Each has a [`Rule`] that says what is written into a new
//! entry, and what an existing entry must hold to be left alone. What a person has added or
//! tightened stays: a repair never takes away a `--read-only`, and never loosens an approval.
//!
//! Not here: how a field gets into a file (`codex.rs` for TOML, `json_entry.rs` for JSON).

use std::path::{Path, PathBuf};

use farwire_protocol::failure::{Failure, Kind};
use serde_json::{Map, Value, json};

use super::arguments::SetupArgs;
use super::context::Context;

/// One run of the command, with everything that an entry is made of.
#[derive(Debug)]
pub(crate) struct Job<'a> {
    /// The arguments.
    pub(crate) args: &'a SetupArgs,
    /// Where we are.
    pub(crate) context: &'a Context,
    /// Our program's absolute path.
    pub(crate) command: String,
    /// The bridge's directory, where one was named.
    home: Option<String>,
}

impl<'a> Job<'a> {
    /// Checks what would not survive being written into a configuration file.
    pub(crate) fn new(args: &'a SetupArgs, context: &'a Context) -> Result<Self, Failure> {
        valid_name(&args.name)?;
        let command = utf8(&context.exe)?;
        let home = context.farwire_home.as_deref().map(|home| context.cwd.join(home));
        let home = home.as_deref().map(utf8).transpose()?;
        Ok(Self { args, context, command, home })
    }

    /// The arguments with which `client` starts us.
    pub(crate) fn arguments(&self, client: &str) -> Vec<String> {
        let mut arguments = ["mcp", "serve", "--client", client].map(str::to_owned).to_vec();
        if let Some(home) = &self.home {
            arguments.extend(["--home".to_owned(), home.clone()]);
        }
        arguments
    }

    /// Whether this entry starts our program, wherever it was when the entry was written.
    pub(crate) fn owns(&self, entry: &Value) -> bool {
        let Some(command) = entry.get("command").and_then(Value::as_str) else { return false };
        let file = command.rsplit(['/', '\\']).next().unwrap_or(command);
        command == self.command || file == "farwire" || file == "farwire.exe"
    }

    /// The directory that `variable` names, made absolute.
    pub(crate) fn directory(&self, variable: &str) -> Option<PathBuf> {
        let value = self.context.env.get(std::ffi::OsStr::new(variable))?;
        (!value.is_empty()).then(|| self.context.cwd.join(value))
    }
}

/// A key of an entry, and the rule for its value.
#[derive(Debug)]
pub(crate) struct Field {
    /// The key.
    pub(crate) key: &'static str,
    /// What its value must be.
    pub(crate) rule: Rule,
}

impl Field {
    /// A field of this key and rule.
    pub(crate) const fn new(key: &'static str, rule: Rule) -> Self {
        Self { key, rule }
    }
}

/// What the value of a key must be.
#[derive(Debug)]
pub(crate) enum Rule {
    /// This text.
    Exactly(String),
    /// These arguments; others that a user added are kept.
    Arguments(Vec<String>),
    /// At least this number.
    AtLeast(u64),
    /// A list with at least these names in it.
    Includes(&'static [&'static str]),
    /// One of these words, the first where there is none.
    OneOf(&'static [&'static str]),
    /// Anything; this value if there is none.
    Default(Value),
}

impl Rule {
    /// The value in a new entry.
    pub(crate) fn fresh(&self) -> Value {
        match self {
            Self::Exactly(text) => json!(text),
            Self::Arguments(arguments) => json!(arguments),
            Self::AtLeast(number) => json!(number),
            Self::Includes(names) => json!(names),
            Self::OneOf(words) => json!(words.first()),
            Self::Default(value) => value.clone(),
        }
    }

    /// The value to replace `old`, if `old` cannot stay.
    pub(crate) fn repair(&self, old: Option<&Value>) -> Option<Value> {
        let Some(old) = old else { return Some(self.fresh()) };
        let new = match self {
            Self::Exactly(_) => self.fresh(),
            Self::Arguments(wanted) => merged(old, wanted),
            #[expect(clippy::cast_precision_loss, reason = "our numbers are small")]
            Self::AtLeast(number) => match old.as_f64() {
                Some(present) if present >= *number as f64 => return None,
                _ => self.fresh(),
            },
            Self::Includes(names) => extended(old, names),
            Self::OneOf(words) => match old.as_str() {
                Some(word) if words.contains(&word) => return None,
                _ => self.fresh(),
            },
            Self::Default(value) => {
                let same_type = std::mem::discriminant(old) == std::mem::discriminant(value);
                if same_type {
                    return None;
                }
                self.fresh()
            }
        };
        (new != *old).then_some(new)
    }
}

/// `old` with the options of `wanted` set in it, or `wanted` if `old` does something else.
fn merged(old: &Value, wanted: &[String]) -> Value {
    let Some(mut arguments) = strings(old) else { return json!(wanted) };
    if !arguments.windows(2).any(|two| two == ["mcp", "serve"]) {
        return json!(wanted);
    }
    let options = wanted.get(2..).unwrap_or_default();
    for pair in options.chunks_exact(2) {
        let [option, value] = pair else { continue };
        set_option(&mut arguments, option, value);
    }
    json!(arguments)
}

/// Gives `option` this value, in the one of its two spellings that exists already.
fn set_option(arguments: &mut Vec<String>, option: &str, value: &str) {
    let mut words = arguments.iter_mut();
    while let Some(word) = words.next() {
        if word.strip_prefix(option).is_some_and(|rest| rest.starts_with('=')) {
            *word = format!("{option}={value}");
            return;
        }
        if word == option {
            match words.next() {
                Some(present) => value.clone_into(present),
                None => arguments.push(value.to_owned()),
            }
            return;
        }
    }
    arguments.extend([option.to_owned(), value.to_owned()]);
}

/// `old` with those of `names` at its end that it lacks; an element may also be `{name = "…"}`.
fn extended(old: &Value, names: &[&str]) -> Value {
    let Some(present) = old.as_array() else { return json!(names) };
    let name = |value: &Value| value.get("name").unwrap_or(value).clone();
    let known: Vec<Value> = present.iter().map(name).collect();
    let missing = names.iter().map(|name| json!(name)).filter(|name| !known.contains(name));
    present.iter().cloned().chain(missing).collect()
}

/// The strings of an array of strings.
pub(crate) fn strings(value: &Value) -> Option<Vec<String>> {
    value.as_array()?.iter().map(|value| value.as_str().map(str::to_owned)).collect()
}

/// The entry without values that may be secret, for display.
pub(crate) fn redact(entry: &Value) -> Value {
    let Value::Object(members) = entry else { return entry.clone() };
    let hide = |(key, value): (&String, &Value)| {
        let secret = matches!(key.as_str(), "env" | "environment" | "headers" | "http_headers");
        let value = match value {
            Value::Object(inner) if secret => {
                inner.keys().map(|key| (key.clone(), json!("…"))).collect::<Map<_, _>>().into()
            }
            value => value.clone(),
        };
        (key.clone(), value)
    };
    members.iter().map(hide).collect::<Map<_, _>>().into()
}

/// What a foreign entry does, in a few words and without its arguments, which may be secret.
pub(crate) fn described(entry: &Value) -> String {
    match entry.get("command").and_then(Value::as_str) {
        Some(command) => format!("it runs `{}`", printable(command)),
        None if entry.get("url").is_some() => "it is a server at a URL".to_owned(),
        None => "it does not run a command".to_owned(),
    }
}

/// Foreign text, without anything that would move a terminal's cursor or hide something.
pub(crate) fn printable(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '"' | '\'' | '\\' => safe.push(c),
            c => safe.extend(c.escape_debug()),
        }
    }
    safe
}

fn valid_name(name: &str) -> Result<(), Failure> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if !name.is_empty() && name.len() <= NAME_LIMIT && name.chars().all(allowed) {
        return Ok(());
    }
    let message = format!("`{}` cannot be the name of an entry", printable(name));
    let hint = format!("use up to {NAME_LIMIT} of the characters a-z, A-Z, 0-9, `-` and `_`");
    Err(Failure::new(Kind::InvalidArgument, message).with_hint(hint))
}

fn utf8(path: &Path) -> Result<String, Failure> {
    let text = path.to_str().map(str::to_owned);
    text.ok_or_else(|| {
        let message = format!("the path `{}` is not UTF-8", path.display());
        Failure::new(Kind::InvalidArgument, message).with_hint(
            "configuration files hold only text; move the program to a path that is valid UTF-8",
        )
    })
}

/// Some clients cut `mcp_NAME_TOOL` at 64 characters; ours stay whole with this.
const NAME_LIMIT: usize = 40;

#[cfg(test)]
mod tests {
    use super::*;

    fn check(rule: &Rule, old: Value, new: Option<Value>) {
        assert_eq!(rule.repair(Some(&old)), new, "{rule:?} on {old}");
    }

    fn arguments() -> Rule {
        Rule::Arguments(
            ["mcp", "serve", "--client", "codex", "--home", "/f"].map(String::from).into(),
        )
    }

    #[test]
    fn arguments_that_somebody_added_survive_a_repair() {
        check(
            &arguments(),
            json!(["mcp", "serve", "--read-only", "--client", "claude"]),
            Some(json!(["mcp", "serve", "--read-only", "--client", "codex", "--home", "/f"])),
        );
        check(
            &arguments(),
            json!(["--home=/old", "mcp", "serve", "--client"]),
            Some(json!(["--home=/f", "mcp", "serve", "--client", "codex"])),
        );
        check(&arguments(), json!(["--home", "/f", "mcp", "serve", "--client=codex", "-v"]), None);
    }

    #[test]
    fn arguments_of_another_command_are_replaced() {
        let fresh = Some(arguments().fresh());
        check(&arguments(), json!(["mcp"]), fresh.clone());
        check(&arguments(), json!("mcp serve"), fresh.clone());
        check(&arguments(), json!(["mcp", "serve", 7]), fresh);
    }

    #[test]
    fn a_longer_time_and_a_stricter_approval_stay() {
        check(&Rule::AtLeast(300), json!(600), None);
        check(&Rule::AtLeast(300), json!(300.5), None);
        check(&Rule::AtLeast(300), json!(60), Some(json!(300)));
        check(&Rule::AtLeast(300), json!("600"), Some(json!(300)));
        check(&Rule::OneOf(&["writes", "prompt"]), json!("prompt"), None);
        check(&Rule::OneOf(&["writes", "prompt"]), json!("never"), Some(json!("writes")));
        check(&Rule::Default(json!(true)), json!(false), None);
        check(&Rule::Default(json!(true)), json!("no"), Some(json!(true)));
    }

    #[test]
    fn only_missing_names_are_added_to_a_list() {
        let rule = Rule::Includes(&["A", "B"]);
        check(
            &rule,
            json!(["C", {"name": "A", "source": "local"}]),
            Some(json!(["C", {"name": "A", "source": "local"}, "B"])),
        );
        check(&rule, json!(["B", "A"]), None);
    }

    #[test]
    fn values_of_the_environment_are_not_shown() {
        let entry = json!({"command": "x", "env": {"TOKEN": "s3cret"}});
        assert_eq!(redact(&entry), json!({"command": "x", "env": {"TOKEN": "…"}}));
    }

    #[test]
    fn names_that_a_file_or_a_tool_name_could_not_carry_are_refused() {
        for name in ["", "a b", "a.b", "a\"", "ä", &"x".repeat(NAME_LIMIT + 1)] {
            assert_eq!(valid_name(name).unwrap_err().kind, Kind::InvalidArgument, "{name}");
        }
        valid_name("farwire-2_x").unwrap();
    }
}
