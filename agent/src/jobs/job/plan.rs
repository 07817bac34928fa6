//! A request becomes a plan: a command that makes sense, as far as can be said before it starts.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::time::Duration;

use farwire_protocol::cbor::Blob;
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::streams::run::{self, INPUT_LIMIT, Program, Start};

use crate::os::environment::{self, Run, Variable};
use crate::os::shell;
use crate::os::spawn::{Command, Stdin};
use crate::os::user::User;

/// What the command is shown as has at most so many characters.
const SHOWN: usize = 200;

/// What a job is going to do.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(super) command: Command,
    /// The login name of the user as whom it runs.
    pub(super) user: String,
    pub(super) timeout: Option<Duration>,
    /// The command, for people.
    pub(super) shown: String,
    /// All of standard input, when it came with the request.
    pub(super) input: Option<Vec<u8>>,
    /// What every process of the job has in its environment, and no other process.
    pub(super) mark: String,
}

impl Plan {
    /// Checks what can be checked without starting anything.
    pub(crate) fn new(start: &Start) -> Result<Self, Failure> {
        let input = start.input.as_ref().map(|input| input.0.clone());
        if input.as_ref().is_some_and(|input| input.len() > INPUT_LIMIT) {
            return Err(Failure::new(Kind::TooLarge, "input within a request is at most 48 KiB"));
        }
        let timeout = start.timeout_ms.map(Duration::from_millis);
        if timeout.is_some_and(|timeout| timeout.is_zero()) {
            return Err(Failure::new(Kind::InvalidArgument, "a timeout of nothing"));
        }
        let user = match &start.user {
            Some(name) => User::find(name)?,
            None => User::current()?,
        };
        let login = start.login.unwrap_or(false);
        let (argv, shown) = program(&start.program, &user, login)?;
        let requested: Vec<Variable> =
            start.env.as_deref().unwrap_or_default().iter().map(variable).collect();
        environment::check_size(&argv, &requested)?;
        let mark = start.request.to_string();
        let run = Run { user: &user, login, mark: &mark };
        let env = environment::environment(run, std::env::vars_os(), &requested)?;
        let piped = input.is_some() || start.stdin.unwrap_or(false);
        let name = user.name.to_string_lossy().into_owned();
        let command = Command {
            argv,
            cwd: start.cwd.as_ref().map(|cwd| text(cwd).into()),
            env,
            user: Some(user),
            stdin: if piped { Stdin::Pipe } else { Stdin::Null },
        };
        Ok(Self { command, user: name, timeout, shown: one_line(&shown), input, mark })
    }

    /// Whether something will be written to standard input.
    pub(super) fn piped(&self) -> bool {
        matches!(self.command.stdin, Stdin::Pipe)
    }
}

/// The arguments to execute, and the command as people know it.
fn program(
    program: &Program,
    user: &User,
    login: bool,
) -> Result<(Vec<OsString>, String), Failure> {
    match program {
        Program::Argv(argv) => {
            let shown: Vec<String> = argv.iter().map(|part| quoted(part)).collect();
            Ok((argv.iter().map(text).collect(), shown.join(" ")))
        }
        Program::Line(line) => {
            let argv = shell::command_line(&text(line), user, login)?;
            Ok((argv, String::from_utf8_lossy(line).into_owned()))
        }
    }
}

fn text(bytes: &Blob) -> OsString {
    OsString::from_vec(bytes.to_vec())
}

fn variable(variable: &run::Variable) -> Variable {
    (text(&variable.name), text(&variable.value))
}

/// An argument as a shell would have to be given it.
fn quoted(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let plain = |c: char| c.is_alphanumeric() || "-_./=:,+@%".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.into_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(SHOWN).collect()
}
