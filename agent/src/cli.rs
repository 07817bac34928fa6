//! The command line of `farwire-agent`.

use std::io::{self, BufRead, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser as _;
use farwire_keystore::{Enrollment, StateDir};
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::id::Kind as IdKind;
use farwire_protocol::token::LIMIT;
use tracing_subscriber::EnvFilter;
use zeroize::Zeroizing;

mod arguments;

use self::arguments::{
    AgentCommand, Cli, DeviceCommand, Enroll, Fingerprint, Helper, Json, RootCommand, Run,
    ServiceCommand, TokenFrom,
};
use crate::config::Config;
use crate::enroll::{self, Outcome};
use crate::files::{self, spec};
use crate::os::{arguments as command_line, harden, limits};
use crate::service;
use crate::status::AgentStatus;
use crate::{device, holder, run};

/// Runs the program and returns its exit code.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // If it cannot be printed, fail all the same.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(64) } else { ExitCode::SUCCESS };
        }
    };
    match carry_out(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            warn(&format!(
                "error[{}]: {}\nhint: {}",
                failure.kind,
                failure.message,
                failure.hint()
            ));
            ExitCode::from(code(&failure))
        }
    }
}

/// sysexits: usage, data, unavailable, I/O, permission, configuration.
fn code(failure: &Failure) -> u8 {
    match failure.kind {
        Kind::InvalidArgument => 64,
        Kind::KeystoreCorrupt | Kind::StateVersion | Kind::TokenMalformed => 65,
        Kind::Io => 74,
        Kind::KeystorePermissions | Kind::UserNotAllowed => 77,
        Kind::Configuration | Kind::NotEnrolled | Kind::NotInitialized => 78,
        _ => 69,
    }
}

fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    // One thread: what the agent does is waiting, and a thread that wakes another costs more.
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Kind::ResourceExhausted, format!("no runtime: {error}")))
}

/// Runs this to its end, and does not wait for other tasks: one may wait for a mount that never
/// responds. The kernel closes what is left when the process ends.
fn until<T>(runtime: tokio::runtime::Runtime, work: impl Future<Output = T>) -> T {
    Box::leak(Box::new(runtime)).block_on(work)
}

/// Logs on standard error, as the option says, or the settings.
fn log(filter: Option<&str>) -> Result<(), Failure> {
    let filter = filter.unwrap_or("info");
    let filter = EnvFilter::try_new(filter)
        .map_err(|error| Failure::new(Kind::InvalidArgument, format!("--log: {error}")))?;
    let logs = tracing_subscriber::fmt().with_writer(io::stderr).with_env_filter(filter);
    logs.with_ansi(false).with_target(false).init();
    Ok(())
}

impl Helper {
    fn carry_out(self) -> Result<(), Failure> {
        limits::raise_files();
        harden::harden()?;
        match self {
            Self::Holder => holder::main(),
            Self::FileWorker => {
                let socket = io::stdin().as_fd().try_clone_to_owned();
                let socket = socket.map_err(|error| Failure::new(Kind::Io, error.to_string()))?;
                farwire_files::worker::run(&socket)
            }
        }
    }
}

fn carry_out(cli: Cli) -> Result<(), Failure> {
    if let AgentCommand::Helper(helper) = cli.command {
        log(None)?;
        return helper.carry_out();
    }
    let config = match &cli.command {
        AgentCommand::Run(Run { config: Some(path), .. }) => Config::read(path)?,
        _ => Config::default(),
    };
    log(cli.log.as_deref().or(config.log.as_deref()))?;
    let root = rustix::process::geteuid().is_root();
    let place = StateDir::place(cli.state.as_deref(), root, &|name| std::env::var_os(name))?;
    match cli.command {
        AgentCommand::Enroll(options) => enroll(&place, options),
        AgentCommand::Run(Run { roots, .. }) => {
            // Before the runtime, while there is one thread.
            limits::raise_files();
            harden::harden()?;
            let state = StateDir::open(&place)?;
            let roots = spec::together(spec::read(state.path())?, roots.specs()?)?;
            until(runtime()?, run::run(state, config, roots))
        }
        AgentCommand::Helper(helper) => helper.carry_out(),
        AgentCommand::Root(command) => roots(&place, command),
        AgentCommand::Status(Json { json }) => status(&place, json),
        AgentCommand::Fingerprint(Fingerprint { bundle }) => {
            fingerprint(&StateDir::open(&place)?, bundle)
        }
        AgentCommand::Leave => {
            let state = enrolled(&place)?;
            state.enrollments().leave(&state.lock()?)?;
            print(
                "left; a running agent ends, and `farwire server remove` on a device removes the record\n",
            )
        }
        AgentCommand::Device(command) => devices(&place, command),
        AgentCommand::Service(command) => services(&place, command),
    }
}

/// Reads the first line that is not blank: terminals and mail put blank ones before it.
fn first_line(mut input: impl BufRead, text: &mut String) -> io::Result<usize> {
    loop {
        text.clear();
        let length = input.read_line(text)?;
        if length == 0 || !text.trim().is_empty() {
            return Ok(length);
        }
    }
}

fn token(from: TokenFrom) -> Result<Zeroizing<String>, Failure> {
    let limit = u64::try_from(LIMIT * 2).unwrap_or(u64::MAX);
    let mut text = Zeroizing::new(String::new());
    let read = match (from.token_file, from.token) {
        (Some(path), _) => {
            let opened = std::fs::File::open(&path)
                .and_then(|file| file.take(limit).read_to_string(&mut text));
            opened.map_err(|error| Failure::new(Kind::Io, format!("{}: {error}", path.display())))
        }
        // A line and no more: a person who pastes it presses Enter.
        (None, Some(token)) if token == "-" => {
            first_line(io::stdin().lock().take(limit), &mut text)
                .map_err(|error| Failure::new(Kind::Io, format!("standard input: {error}")))
        }
        (None, token) => {
            let token = Zeroizing::new(token.unwrap_or_default());
            command_line::hide(&token);
            warn(
                "warning: other users of this machine may have seen the token on the command line; --token - reads it from standard input",
            );
            text.push_str(&token);
            Ok(0)
        }
    };
    read.map(|_| text)
}

fn enroll(place: &std::path::Path, options: Enroll) -> Result<(), Failure> {
    // It will hold the token, and the keys that it makes.
    harden::harden()?;
    let roots = options.roots.specs()?;
    files::check(&roots, place)?;
    let token = enroll::parse(&token(options.from)?)?;
    let existed = place.exists();
    let state = StateDir::create(place)?;
    let patience = Duration::from_secs(options.wait);
    let outcome = runtime()?.block_on(enroll::enroll(&state, token, options.relay, patience));
    if outcome.is_err() && !existed {
        // A refused token leaves nothing behind; a directory with something in it stays.
        let _ = std::fs::remove_file(place.join("lock"));
        let _ = std::fs::remove_dir(place);
    }
    let outcome = outcome?;
    if !roots.is_empty() {
        spec::write(state.path(), &spec::together(spec::read(state.path())?, roots)?)?;
    }
    match outcome {
        Outcome::Enrolled(enrolled) => {
            let fingerprint = enroll::fingerprint(&state)?;
            if options.json.json {
                let name = &enrolled.name;
                return print_json(&serde_json::json!({
                    "state": "enrolled", "name": name, "fingerprint": fingerprint,
                }));
            }
            print(&format!(
                "enrolled as `{}`, {fingerprint}\n\
                 next: `farwire-agent service install` starts it now and after each reboot,\n      \
                 or `farwire-agent run` in this terminal\n",
                enrolled.name
            ))
        }
        Outcome::Pending if options.json.json => {
            print_json(&serde_json::json!({"state": "pending"}))
        }
        Outcome::Pending => print(
            "pending: the device that created the token is offline; it accepts this server when farwire next runs there\n\
             next: `farwire-agent service install` or `farwire-agent run` waits for it\n",
        ),
    }
}

/// Prints an answer. A closed pipe is no error; a full disk is.
fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::new(Kind::Io, format!("standard output: {error}")))
        }
        _ => Ok(()),
    }
}

fn print_json(value: &serde_json::Value) -> Result<(), Failure> {
    print(&format!("{value}\n"))
}

fn warn(text: &str) {
    // Standard error may be closed.
    let _ = writeln!(io::stderr(), "{text}");
}

fn status(place: &std::path::Path, json: bool) -> Result<(), Failure> {
    let status = AgentStatus::read(&StateDir::open(place)?)?;
    if json { print_json(&serde_json::json!(status)) } else { print(&status.text()) }
}

fn fingerprint(state: &StateDir, bundle: bool) -> Result<(), Failure> {
    if !bundle {
        return print(&format!("{}\n", enroll::fingerprint(state)?));
    }
    let identity = state.identity()?;
    let identity = identity
        .ok_or_else(|| Failure::new(Kind::NotEnrolled, "this agent has no identity yet"))?;
    print(&format!("{}\n", identity.open_public()?.to_text()))
}

fn devices(place: &std::path::Path, command: DeviceCommand) -> Result<(), Failure> {
    let state = StateDir::open(place)?;
    match command {
        DeviceCommand::Add { name, bundle } => {
            let bundle = device::read_bundle(&bundle, IdKind::Device)?;
            let device = device::add(&state, &name, bundle)?;
            print(&format!("`{}` is authorized, {}\n", device.name, device.fingerprint()))
        }
        DeviceCommand::Ls(Json { json }) => {
            let devices = state.devices().list()?;
            for warning in &devices.warnings {
                warn(&format!("warning: {warning}"));
            }
            let all = devices.entries.iter().map(|(_, device)| device);
            if json {
                let all: Vec<_> = all
                    .map(|device| serde_json::json!({"name": device.name, "fingerprint": device.fingerprint(), "added": device.added}))
                    .collect();
                return print_json(&serde_json::json!(all));
            }
            let lines = all.map(|device| format!("{}  {}\n", device.name, device.fingerprint()));
            print(&lines.collect::<String>())
        }
        DeviceCommand::Rm { device } => {
            let removed = state.devices().remove(&state.lock()?, &device)?;
            print(&format!("`{removed}` is locked out\n"))
        }
    }
}

fn roots(place: &std::path::Path, command: RootCommand) -> Result<(), Failure> {
    let state = StateDir::open(place)?;
    let _lock = state.lock()?;
    let written = spec::read(state.path())?;
    match command {
        RootCommand::Add { roots } => {
            let added = roots.specs()?;
            if added.is_empty() {
                return Err(Failure::new(Kind::InvalidArgument, "no directory was given")
                    .with_hint("use --fs-root [NAME=]DIR[:rw]"));
            }
            files::check(&added, place)?;
            let names: Vec<_> = added.iter().map(|root| format!("`{}`", root.name)).collect();
            spec::write(state.path(), &spec::together(written, added)?)?;
            print(&format!("{} will be open when the agent next starts\n", names.join(", ")))
        }
        RootCommand::Ls(Json { json: true }) => print_json(&serde_json::json!(written)),
        RootCommand::Ls(Json { json: false }) => {
            let line = |root: &spec::Spec| {
                let mode = if root.writable { "rw" } else { "ro" };
                format!("{}  {mode}  {}\n", root.name, root.dir.display())
            };
            print(&written.iter().map(line).collect::<String>())
        }
        RootCommand::Rm { name } => {
            let left: Vec<_> = written.iter().filter(|root| root.name != name).cloned().collect();
            if left.len() == written.len() {
                return Err(Failure::new(Kind::NoRoot, format!("no root is called `{name}`")));
            }
            spec::write(state.path(), &left)?;
            print(&format!("`{name}` will be closed when the agent next starts\n"))
        }
    }
}

/// The state of an agent that is enrolled, or has asked to be.
fn enrolled(place: &std::path::Path) -> Result<StateDir, Failure> {
    let state = StateDir::open(place)?;
    match state.enrollments().load()? {
        Enrollment::Absent => Err(Failure::new(Kind::NotEnrolled, "this agent is not enrolled")),
        _ => Ok(state),
    }
}

fn services(place: &std::path::Path, command: ServiceCommand) -> Result<(), Failure> {
    match command {
        ServiceCommand::Install(scope) => {
            enrolled(place)?;
            print(&format!("installed {}\n", service::install(scope.whose(), place)?.display()))
        }
        ServiceCommand::Uninstall(scope) => {
            print(&format!("removed {}\n", service::uninstall(scope.whose())?.display()))
        }
        ServiceCommand::Status(scope) => print(&format!("{}\n", service::status(scope.whose())?)),
        ServiceCommand::Print(scope) => {
            let program = std::env::current_exe().unwrap_or_else(|_| "farwire-agent".into());
            print(&service::unit(scope.whose(), &program, place))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_agent_ends_whatever_a_file_system_does_not_answer() {
        let (answer, never) = std::sync::mpsc::channel::<()>();
        until(runtime().unwrap(), async move {
            let (begun, is_begun) = tokio::sync::oneshot::channel();
            tokio::task::spawn_blocking(move || {
                begun.send(()).unwrap();
                never.recv()
            });
            is_begun.await.unwrap();
        });
        drop(answer);
    }
}
