//! The command line. Answers go to standard output, everything else to standard error.

mod attach;
mod demo;
mod doctor;
mod files;
mod init;
mod jobs;
mod output;
mod reference;
mod run;
mod runtime;
mod secret;
mod server;
mod session;
mod sessions;

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, CommandFactory as _, Parser, Subcommand};
use farwire_keystore::Home;
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::id::Kind as IdKind;
use farwire_protocol::surface::Surface;
use tracing_subscriber::EnvFilter;

use self::output::{Json, code, error_json, print, print_failure, print_json, say_failure};
use self::runtime::{ENDING, runtime, until_signal};
use crate::client::Client;
use crate::harden;
use crate::mcp;
use crate::process::Process;
use crate::sessions::danger::Patterns;
use crate::setup::{self, SetupArgs};
use crate::tools::catalogue::CORE;
use crate::tools::scope;
use crate::tools::seat::{Seat, Settings};
use crate::tools::tool::Group;

/// Work on machines behind NAT, end-to-end encrypted
///
/// Runs programs on your servers, keeps their output, and offers all of this to AI clients over
/// MCP.
#[derive(Debug, Parser)]
#[command(name = "farwire", version, arg_required_else_help = true, after_help = FIRST_STEPS)]
pub(crate) struct Arguments {
    /// Where keys and state are kept [default: $XDG_CONFIG_HOME/farwire or ~/.config/farwire]
    #[arg(long, global = true, value_name = "DIR", env = "FARWIRE_HOME")]
    home: Option<PathBuf>,
    /// What to log on standard error: error, warn, info, debug, trace, or a filter
    #[arg(long, global = true, value_name = "FILTER", env = "FARWIRE_LOG", default_value = "warn")]
    log: String,
    #[command(subcommand)]
    command: MainCommand,
}

const FIRST_STEPS: &str = "First steps:
  farwire demo                      try everything on this machine
  farwire init --relay -            read a relay's URL and create a workspace
  farwire server create web-1       print the command that enrolls a server
  farwire run web-1 -- uname -a     run a program there
  farwire setup codex               let Codex use it";

#[derive(Debug, Subcommand)]
enum MainCommand {
    /// Create this device's identity and its workspace
    Init(init::Init),
    /// Enroll, list and change servers
    #[command(subcommand)]
    Server(server::ServerCommand),
    /// List servers (the same as `server ls`)
    Servers(server::Ls),
    /// Run a program on a server, and exit with its exit code (255 if Farwire itself fails)
    #[command(visible_alias = "exec")]
    Run(run::Run),
    Attach(attach::Attach),
    Sessions(sessions::Sessions),
    /// Inspect a session, type into it or decide who may type, without attaching to it
    #[command(subcommand)]
    Session(session::Session),
    /// Work with files on a server, in the directories that its owner has opened
    #[command(subcommand)]
    Files(files::Files),
    /// Store secrets under names, to be typed at password prompts
    #[command(subcommand)]
    Secret(secret::Secret),
    Output(jobs::Output),
    /// Stop a run
    Stop(jobs::Stop),
    /// List open runs and sessions
    Status(jobs::Status),
    /// Print this device's fingerprint
    Fingerprint(Fingerprint),
    /// Diagnose problems, and name the next step for each
    Doctor(doctor::Doctor),
    /// Serve MCP to an AI client
    #[command(subcommand)]
    Mcp(McpCommand),
    Setup(SetupArgs),
    /// Start a relay and an agent on this machine, and show how Farwire works
    Demo(demo::Demo),
    /// Print the completion script for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Write the reference of commands, tools and failures
    #[command(hide = true)]
    Reference(reference::Reference),
}

#[derive(Args, Debug)]
struct Fingerprint {
    /// Print the whole bundle, for `farwire-agent device add`
    #[arg(long)]
    bundle: bool,
    #[command(flatten)]
    json: Json,
}

#[derive(Debug, Subcommand)]
enum McpCommand {
    /// Serve MCP on standard input and output
    Serve(Serve),
}

#[derive(Args, Debug)]
struct Serve {
    /// The client that starts this, which decides how long a call may wait: codex 240 s, claude
    /// 540 s, any other 50 s
    #[arg(long, value_name = "NAME")]
    client: Option<String>,
    /// Tools to list: categories, CATEGORY.*, CATEGORY.TOOL, profiles, or * for all
    #[arg(long, value_name = "SCOPE", default_value = scope::SCOPE)]
    scope: String,
    /// Further tools that tool_find and tool_call can reach
    #[arg(long, value_name = "SCOPE", default_value = scope::CATALOG)]
    catalog: String,
    /// Also offer these optional groups of tools
    #[arg(long, value_name = "GROUP", value_delimiter = ',')]
    enable: Vec<GroupName>,
    /// Offer only tools that change nothing
    #[arg(long)]
    read_only: bool,
    /// Allow calls to the pty tools without an owner
    #[arg(long)]
    no_owner: bool,
    /// Commands that pty_spawn runs only after confirmation, instead of the built-in ones: regular
    /// expressions, separated by semicolons
    #[arg(long, value_name = "REGEX")]
    dangerous_patterns: Option<String>,
    /// Further commands that need confirmation. The environment can add such commands, but cannot
    /// remove any
    #[arg(long, value_name = "REGEX", env = "FARWIRE_DANGEROUS_PATTERNS")]
    more_dangerous_patterns: Option<String>,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum GroupName {
    Control,
    Admin,
}

/// Runs the program and returns its exit code.
pub fn main() -> ExitCode {
    if let Err(failure) = harden::harden() {
        return ExitCode::from(say_failure(&failure));
    }
    let cli = match Arguments::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    let filter = EnvFilter::try_new(&cli.log).unwrap_or_else(|_| EnvFilter::new("warn"));
    let logs = tracing_subscriber::fmt().with_writer(io::stderr).with_env_filter(filter);
    logs.with_ansi(false).with_target(false).without_time().init();
    let is_run = matches!(cli.command, MainCommand::Run(_));
    let json = cli.wants_json();
    match carry_out(cli) {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            print_failure(&failure, json);
            ExitCode::from(if is_run { run::OURS } else { code(&failure) })
        }
    }
}

/// Bad usage is 64; for `run` it is 255, like everything that is not the program's own code.
fn usage(error: &clap::Error) -> ExitCode {
    // If it cannot be printed, the exit code is the same.
    let _ = error.print();
    if !error.use_stderr() {
        return ExitCode::SUCCESS;
    }
    let mut ours = std::env::args_os().skip(1).take_while(|argument| argument != "--");
    let is_run = ours.any(|word| word == "run" || word == "exec");
    ExitCode::from(if is_run { run::OURS } else { 64 })
}

impl Arguments {
    fn wants_json(&self) -> bool {
        match &self.command {
            MainCommand::Server(command) => command.wants_json(),
            MainCommand::Servers(ls) => ls.json.json,
            MainCommand::Output(output) => output.json.json,
            MainCommand::Stop(stop) => stop.json.json,
            MainCommand::Sessions(sessions) => sessions.json.json,
            MainCommand::Session(session) => session.wants_json(),
            MainCommand::Files(files) => files.wants_json(),
            MainCommand::Secret(secret) => secret.wants_json(),
            MainCommand::Status(status) => status.json.json,
            MainCommand::Doctor(doctor) => doctor.json.json,
            MainCommand::Init(init) => init.json.json,
            MainCommand::Fingerprint(fingerprint) => fingerprint.json.json,
            MainCommand::Run(run) => run.detach_json(),
            MainCommand::Setup(setup) => setup.json,
            _ => false,
        }
    }

    fn place(&self) -> Result<PathBuf, Failure> {
        Home::place(self.home.as_deref(), &|name| std::env::var_os(name))
    }

    fn client(&self) -> Result<Client, Failure> {
        Client::open(Home::open(&self.place()?)?, &Surface::Human)
    }
}

fn carry_out(cli: Arguments) -> Result<u8, Failure> {
    let place = cli.place();
    let client = || cli.client();
    match &cli.command {
        MainCommand::Init(init) => init.carry_out(&place?).map(|()| 0),
        MainCommand::Server(command) => command.carry_out(&client()?),
        MainCommand::Servers(ls) => ls.carry_out(&client()?),
        MainCommand::Run(run) => run.carry_out(client()?),
        MainCommand::Attach(attach) => attach.carry_out(client()?),
        MainCommand::Sessions(sessions) => sessions.carry_out(&client()?),
        MainCommand::Session(session) => session.carry_out(&client()?),
        MainCommand::Files(files) => files.carry_out(client()?),
        MainCommand::Secret(secret) => secret.carry_out(&Home::create(&place?)?),
        MainCommand::Output(output) => output.carry_out(&client()?).map(|()| 0),
        MainCommand::Stop(stop) => stop.carry_out(&client()?).map(|()| 0),
        MainCommand::Status(status) => status.carry_out(&client()?),
        MainCommand::Fingerprint(options) => {
            fingerprint(&Home::open(&place?)?, options).map(|()| 0)
        }
        MainCommand::Doctor(doctor) => doctor.carry_out(&place?),
        MainCommand::Mcp(McpCommand::Serve(serve)) => serve_mcp(&place?, serve).map(|()| 0),
        MainCommand::Setup(args) => set_up(&cli, args),
        MainCommand::Demo(demo) => demo.carry_out(),
        MainCommand::Completions { shell } => {
            let mut text = Vec::new();
            clap_complete::generate(*shell, &mut Arguments::command(), "farwire", &mut text);
            print(&String::from_utf8_lossy(&text)).map(|()| 0)
        }
        MainCommand::Reference(reference) => reference.carry_out().map(|()| 0),
    }
}

fn fingerprint(home: &Home, options: &Fingerprint) -> Result<(), Failure> {
    let none = || Failure::new(Kind::NotInitialized, "this installation has no identity yet");
    let bundle = home.identity()?.ok_or_else(none)?.open_public()?;
    let fingerprint = bundle.id.fingerprint(IdKind::Device);
    if options.json.json {
        return print_json(
            &serde_json::json!({"fingerprint": fingerprint, "bundle": bundle.to_text()}),
        );
    }
    print(&format!("{}\n", if options.bundle { bundle.to_text() } else { fingerprint }))
}

fn serve_mcp(place: &std::path::Path, serve: &Serve) -> Result<(), Failure> {
    // What each client was measured to allow.
    let seconds = match serve.client.as_deref() {
        Some("codex") => 240,
        Some("claude") => 540,
        _ => 50,
    };
    let group = |name: &GroupName| match name {
        GroupName::Control => Group::Control,
        GroupName::Admin => Group::Admin,
    };
    let groups: Vec<_> = serve.enable.iter().map(group).collect();
    let asked = scope::Selection {
        scope: &serve.scope,
        catalog: &serve.catalog,
        groups: &groups,
        read_only: serve.read_only,
    };
    let offer = scope::offer(asked)?;
    let banner = mcp::banner(serve.client.as_deref(), &offer);
    let settings = Settings {
        max_wait: std::time::Duration::from_secs(seconds),
        offer,
        owner_required: !serve.no_owner,
        dangerous: Patterns {
            instead: serve.dangerous_patterns.clone(),
            besides: serve.more_dangerous_patterns.clone(),
        },
    };
    let process = Arc::new(Process::new(Home::create(place)?));
    let seat = Seat::new(process.clone(), Surface::AiLocal, settings)?;
    let runtime = runtime()?;
    let serving = mcp::stdio::serve(seat, &banner);
    let served = runtime.block_on(until_signal(&ENDING, process.leave(), serving)).flatten();
    // A read of standard input may still block a thread; do not wait for it.
    runtime.shutdown_background();
    served
}

fn set_up(cli: &Arguments, args: &SetupArgs) -> Result<u8, Failure> {
    let tools: Vec<setup::Tool> = CORE
        .iter()
        .map(|entry| setup::Tool { name: entry.name, read_only: entry.effect.read_only })
        .collect();
    let home = cli.home.as_ref().map(|_| cli.place()).transpose()?;
    let report = setup::run(args, &setup::Context::of_process(home, &tools)?)?;
    let failure = report.failure();
    if args.json {
        let mut answer = serde_json::to_value(&report)
            .map_err(|error| Failure::caused(Kind::Internal, "the report is no JSON", &error))?;
        if let (Some(failure), Some(answer)) = (&failure, answer.as_object_mut()) {
            answer.insert("error".to_owned(), error_json(failure));
        }
        print_json(&answer)?;
    } else {
        print(&format!("{}\n", report.to_string().trim_end()))?;
    }
    Ok(failure.map_or(0, |failure| say_failure(&failure)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An argument of a command must not have the name of one that all commands have.
    #[test]
    fn commands_are_read() {
        for line in [
            "attach web-1 --take",
            "sessions web-1 --all --json",
            "session show s1",
            "session screen s1 --colors",
            "session send s1 text --key up --wait 1 --until x --log debug",
            "session send s1 --secret sudo",
            "session commands s1 --output 3",
            "session history s1 --from 2 -f",
            "session resize s1 80x24",
            "session signal s1 HUP",
            "session take s1 --for 1m --reason x",
            "session release s1",
            "session handoff s1 --to codex --surface ai-local",
            "session policy s1 user-only",
            "session label s1 --tag x --group y --read-only",
            "session limits s1 --idle 2h --keep 1h --output-rate 1M --input-rate 64k --kept 10M",
            "session close s1 --json",
            "files roots web-1 --json",
            "files ls web-1:work -lR -g *.rs --sort time",
            "files stat web-1:/srv/x",
            "files cat web-1:a web-1:b",
            "files search x web-1 -iF -C 2 -g *.rs",
            "files watch web-1:a -f --wait 5 --json",
            "files sync a web-1:b --delete -n -c",
            "files mount web-1:w dir --with rclone --read-only",
            "files get web-1:a b -r --force",
            "files put a web-1:b -r",
            "files cp web-1:a web-1:b -rf",
            "files mv web-1:a web-1:b",
            "files rm web-1:a -r --rev 0123456789ab",
            "files mkdir web-1:a -p",
            "files write web-1:a --append",
            "files edit web-1:a --old x --new y -n",
            "files edit web-1:a --rev 0123456789ab",
            "files cp web-1:a web-2:b -r --json",
            "files mount web-1:/srv/work/sub dir",
            "files patch web-1 x.diff -p 1",
            "files undo web-1 3 --preview",
            "files undo web-1 --list",
            "files serve web-1 --root w --listen 127.0.0.1:0 --read-only",
            "secret set sudo",
            "secret ls --json",
        ] {
            let words = ["farwire"].into_iter().chain(line.split(' '));
            assert!(Arguments::try_parse_from(words).is_ok(), "{line}");
        }
    }
}
