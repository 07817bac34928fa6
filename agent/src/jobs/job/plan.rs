//! What a job will do, checked before anything is started.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;
use farwire_protocol::cbor::Blob;
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::id::Nonce;
use farwire_protocol::streams::run::{self, INPUT_LIMIT, Program};
use farwire_protocol::streams::session::{self, TypingRule};

use crate::holder::message::{self as holder, Start};
use crate::os::environment::{self, RunContext, Variable};
use crate::os::pty::Size;
use crate::os::shell as line;
use crate::os::user::User;
use crate::terminal::filing;
use crate::terminal::shell::{self, Login};
use crate::terminal::{Beginning, Filed};

/// A command is shown with at most this many characters.
const SHOWN: usize = 200;

/// What a job is going to do.
#[derive(Debug)]
pub(crate) struct JobPlan {
    /// The order for its holder, except for the path of its output.
    pub(crate) start: Start,
    /// The login name of the user that it runs as.
    pub(super) user: String,
    /// The command, for people.
    pub(super) shown: String,
    /// Its terminal, if it is to have one.
    pub(crate) terminal: Option<Beginning>,
}

/// The options that a run and a session have in common.
struct StartOptions<'a> {
    request: Nonce,
    cwd: Option<&'a Blob>,
    env: Option<&'a Vec<run::Variable>>,
    timeout_ms: Option<u64>,
}

impl JobPlan {
    /// Checks what can be checked of a run without starting anything.
    pub(crate) fn run(asked: &run::Start, user: User) -> Result<Self, Failure> {
        let input = asked.input.clone();
        if input.as_ref().is_some_and(|input| input.len() > INPUT_LIMIT) {
            return Err(Failure::new(Kind::TooLarge, "the input in a request has at most 48 KiB"));
        }
        let login = asked.login.unwrap_or(false);
        let (argv, shown) = program(&asked.program, &user, login)?;
        let common = StartOptions {
            request: asked.request,
            cwd: asked.cwd.as_ref(),
            env: asked.env.as_ref(),
            timeout_ms: asked.timeout_ms,
        };
        let kind =
            RunContext { user: &user, login, terminal: false, mark: &asked.request.to_string() };
        let mut plan = Self::common(&common, kind, argv, &shown, Vec::new())?;
        plan.start.piped = input.is_some() || asked.stdin.unwrap_or(false);
        plan.start.input = input;
        Ok(plan)
    }

    /// The word by which a session's program may [name a shell](shell::find): that is started as a
    /// login shell, not as a program within another.
    pub(crate) fn shell_word(asked: &session::Start) -> Option<OsString> {
        line_of(asked.program.as_ref()?).filter(|word| shell::is_name(word))
    }

    /// The same for a session of this user. Its program is `shell`, if one was
    /// [named](Self::shell_word). `files` is the directory with the start-up files that write
    /// marks.
    pub(crate) fn session(
        asked: &session::Start,
        user: User,
        named: Option<PathBuf>,
        name: String,
        files: &Path,
    ) -> Result<Self, Failure> {
        let mut nonce = [0; 16];
        getrandom::fill(&mut nonce).map_err(|error| {
            Failure::new(Kind::ResourceExhausted, format!("no random numbers: {error}"))
        })?;
        let nonce = HEXLOWER.encode(&nonce);
        let is_program = named.is_none();
        let user = User { shell: named.unwrap_or(user.shell), ..user };
        let (shell, shown) = match &asked.program {
            Some(given) if is_program => {
                let (argv, shown) = program(given, &user, false)?;
                let (env, directory, marks) = (Vec::new(), None, false);
                (Login { argv, env, directory, marks }, shown)
            }
            _ => {
                let shell = shell::login(&user.shell, files, &nonce);
                let shown = shell.argv.first().map(|shell| shell.to_string_lossy().into_owned());
                (shell, shown.unwrap_or_default())
            }
        };
        let common = StartOptions {
            request: asked.request,
            cwd: asked.cwd.as_ref(),
            env: asked.env.as_ref(),
            timeout_ms: asked.timeout_ms,
        };
        let mark = asked.request.to_string();
        let kind = RunContext { user: &user, login: true, terminal: true, mark: &mark };
        let mut plan = Self::common(&common, kind, shell.argv, &shown, shell.env)?;
        let size = Size::new(asked.size.cols, asked.size.rows);
        plan.start.terminal = Some(holder::Size { cols: size.cols, rows: size.rows });
        plan.start.extra = shell.directory.as_ref().map(blob);
        plan.start.piped = true;
        let filed = initial_filing(asked)?;
        (plan.start.kept, plan.start.rate) = (filed.limits.kept, filed.limits.output_rate);
        plan.terminal = Some(Beginning {
            name,
            nonce: shell.marks.then_some(nonce),
            size,
            filed,
            policy: TypingRule::UserPriority,
            transfer: None,
        });
        Ok(plan)
    }

    fn common(
        asked: &StartOptions<'_>,
        run: RunContext<'_>,
        argv: Vec<OsString>,
        shown: &str,
        more: Vec<Variable>,
    ) -> Result<Self, Failure> {
        if asked.timeout_ms == Some(0) {
            return Err(Failure::new(Kind::InvalidArgument, "the timeout must not be 0"));
        }
        let requested: Vec<Variable> = asked.env.into_iter().flatten().map(variable).collect();
        environment::check_size(&argv, &requested)?;
        let user = run.user;
        let mut env = environment::environment(run, std::env::vars_os(), &requested)?;
        env.extend(more);
        let variable =
            |(name, value): &Variable| run::Variable { name: blob(name), value: blob(value) };
        let start = Start {
            job: asked.request,
            argv: argv.iter().map(blob).collect(),
            env: env.iter().map(variable).collect(),
            cwd: asked.cwd.cloned(),
            user: holder::User {
                name: blob(&user.name),
                uid: user.uid,
                gid: user.gid,
                home: blob(&user.home),
                shell: blob(&user.shell),
                groups: user.groups.clone(),
            },
            piped: false,
            timeout_ms: asked.timeout_ms,
            mark: run.mark.to_owned(),
            path: Blob::default(),
            note: Blob::default(),
            terminal: None,
            extra: None,
            kept: None,
            rate: None,
            input: None,
        };
        let user = user.name.to_string_lossy().into_owned();
        Ok(Self { start, user, shown: one_line(shown), terminal: None })
    }
}

/// The initial labels and limits of a session. Its owner is that of whoever opens it.
fn initial_filing(asked: &session::Start) -> Result<Filed, Failure> {
    let mut labels = asked.labels.clone().unwrap_or_default();
    labels.owner = asked.caller.as_ref().and_then(|caller| caller.owner.clone());
    let limits = asked.limits.unwrap_or_default();
    filing::check(&labels, &limits)?;
    Ok(Filed { labels: filing::plain(labels), limits, ..Filed::default() })
}

/// The program as a single word, if it is one.
fn line_of(program: &Program) -> Option<OsString> {
    match program {
        Program::Line(line) => Some(text(line)),
        Program::Argv(argv) => argv.first().filter(|_| argv.len() == 1).map(text),
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
            let shown: Vec<String> = argv.iter().map(|part| shell_quote(part)).collect();
            Ok((argv.iter().map(text).collect(), shown.join(" ")))
        }
        Program::Line(given) => {
            let argv = line::command_line(&text(given), &user.shell, login)?;
            Ok((argv, String::from_utf8_lossy(given).into_owned()))
        }
    }
}

fn text(bytes: &Blob) -> OsString {
    OsString::from_vec(bytes.to_vec())
}

fn variable(variable: &run::Variable) -> Variable {
    (text(&variable.name), text(&variable.value))
}

/// An argument, quoted as for a shell.
fn shell_quote(bytes: &[u8]) -> String {
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
