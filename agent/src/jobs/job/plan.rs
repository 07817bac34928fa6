//! What a job will do, checked before anything is started.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};

use farwire_protocol::cbor::Blob;
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::streams::run::{self, INPUT_LIMIT, Program};

use crate::holder::message::{self as holder, Start};
use crate::os::environment::{self, Run, Variable};
use crate::os::shell;
use crate::os::user::User;

/// What the command is shown as has at most so many characters.
const SHOWN: usize = 200;

/// What a job is going to do.
#[derive(Debug)]
pub(crate) struct Plan {
    /// What its holder is told, but for the place of its output.
    pub(crate) start: Start,
    /// The login name of the user as whom it runs.
    pub(super) user: String,
    /// The command, for people.
    pub(super) shown: String,
    /// All of standard input, when it came with the request.
    pub(super) input: Option<Vec<u8>>,
}

impl Plan {
    /// Checks what can be checked without starting anything.
    pub(crate) fn new(asked: &run::Start) -> Result<Self, Failure> {
        let input = asked.input.as_ref().map(|input| input.0.clone());
        if input.as_ref().is_some_and(|input| input.len() > INPUT_LIMIT) {
            return Err(Failure::new(Kind::TooLarge, "input within a request is at most 48 KiB"));
        }
        if asked.timeout_ms == Some(0) {
            return Err(Failure::new(Kind::InvalidArgument, "a timeout of nothing"));
        }
        let user = match &asked.user {
            Some(name) => User::find(name)?,
            None => User::current()?,
        };
        let login = asked.login.unwrap_or(false);
        let (argv, shown) = program(&asked.program, &user, login)?;
        let requested: Vec<Variable> =
            asked.env.as_deref().unwrap_or_default().iter().map(variable).collect();
        environment::check_size(&argv, &requested)?;
        let mark = asked.request.to_string();
        let run = Run { user: &user, login, mark: &mark };
        let env = environment::environment(run, std::env::vars_os(), &requested)?;
        let variable =
            |(name, value): &Variable| run::Variable { name: blob(name), value: blob(value) };
        let start = Start {
            job: asked.request,
            argv: argv.iter().map(blob).collect(),
            env: env.iter().map(variable).collect(),
            cwd: asked.cwd.clone(),
            user: holder::User {
                name: blob(&user.name),
                uid: user.uid,
                gid: user.gid,
                home: blob(&user.home),
                shell: blob(&user.shell),
                groups: user.groups,
            },
            piped: input.is_some() || asked.stdin.unwrap_or(false),
            timeout_ms: asked.timeout_ms,
            mark,
            path: Blob::default(),
            note: Blob::default(),
        };
        let user = user.name.to_string_lossy().into_owned();
        Ok(Self { start, user, shown: one_line(&shown), input })
    }
}

fn blob(text: impl AsRef<OsStr>) -> Blob {
    Blob(text.as_ref().as_bytes().to_vec())
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
