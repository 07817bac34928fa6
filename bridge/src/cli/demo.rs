//! `farwire demo`: everything on one machine, as separate processes in a scratch directory.
//!
//! It starts a relay, an agent and a bridge from the programs next to this one, enrolls the agent,
//! and runs a command through the MCP surface; then it shows the relay's own log of that. Nothing
//! of it remains afterwards.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use clap::Args;
use farwire_protocol::failure::{Failure, Kind};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::{sleep, timeout};

use crate::cli::output::print;
use crate::cli::runtime::runtime;
use crate::text::chars;

/// How long each step may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// The command that the demonstration runs by default.
const COMMAND: &str = "echo \"hello from $(hostname), as $(id -un)\"; seq 3; exit 7";

#[derive(Args, Debug)]
pub(crate) struct Demo {
    /// The command line to run on the server
    #[arg(default_value = COMMAND)]
    command: String,
    /// Leave everything running until Ctrl-C, and print how to use it
    #[arg(long)]
    keep: bool,
}

impl Demo {
    pub(crate) fn carry_out(&self) -> Result<u8, Failure> {
        let runtime = runtime()?;
        let scratch = Scratch::new()?;
        let done = runtime.block_on(self.show(&scratch));
        runtime.shutdown_timeout(Duration::from_millis(200));
        done.map(|()| 0)
    }

    async fn show(&self, scratch: &Scratch) -> Result<(), Failure> {
        let stage = Stage::find(scratch)?;
        say("1. a relay in the middle")?;
        let (_relay, url) = stage.relay().await?;
        let public = url.split('#').next().unwrap_or_default();
        say(&format!("   {public}"))?;

        say("2. a bridge on your side: its keys and its workspace")?;
        say(&indent(&stage.farwire(&["init", "--relay", "-", "--name", "demo"], &url).await?))?;

        say("3. a server: a one-time token, and an agent that enrolls with it")?;
        stage.enroll().await?;
        let _agent = stage.agent()?;
        let servers = stage.online().await?;
        say(&indent(&servers))?;

        say("4. an MCP client runs a command on the server")?;
        let (mut mcp, tool_names) = stage.mcp().await?;
        say(&format!("   tools: {tool_names}"))?;
        let arguments = json!({"server": "web-1", "command": self.command});
        say(&format!("   run {arguments}"))?;
        let answer = mcp.call("tools/call", json!({"name": "run", "arguments": arguments})).await?;
        let text = answer.pointer("/content/0/text").and_then(Value::as_str).unwrap_or_default();
        say(&indent(text))?;
        mcp.end().await;

        say(
            "5. everything that the relay saw: which device opened streams to which agent, sizes, times",
        )?;
        say(&indent(&stage.relay_notes()))?;
        say("")?;
        if self.keep {
            say(&format!(
                "everything keeps running; try in another terminal:\n   farwire --home {} run web-1 -- uname -a\nCtrl-C ends it",
                stage.bridge.display()
            ))?;
            // Without signals, the only way out is to be killed.
            let _ = tokio::signal::ctrl_c().await;
        } else {
            say(NEXT)?;
        }
        Ok(())
    }
}

const NEXT: &str = "next, with your own machines:
   on a host that everybody reaches over UDP:  farwire-relay serve --advertise HOST:4433
   here:                                       farwire init --relay -      (paste the URL)
                                               farwire server create web-1
   on the server:                              the command that this prints
                                               sudo farwire-agent service install
   then here:                                  farwire run web-1 -- uname -a
                                               farwire setup codex";

fn say(text: &str) -> Result<(), Failure> {
    print(&format!("{text}\n"))
}

fn indent(text: &str) -> String {
    // This is output of our own programs: their header lines need no marks here.
    let shown =
        |line: &str| line.chars().take(300).filter_map(chars::visible_form).collect::<String>();
    let lines: Vec<_> = text.lines().map(|line| format!("   {}", shown(line))).collect();
    lines.join("\n")
}

fn failure(what: &str, why: impl std::fmt::Display) -> Failure {
    Failure::new(Kind::Io, format!("demo: {what}: {why}"))
}

/// A directory that is removed on drop.
#[derive(Debug)]
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Result<Self, Failure> {
        let path = std::env::temp_dir().join(format!("farwire-demo-{}", std::process::id()));
        let mut builder = std::fs::DirBuilder::new();
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(&path).map_err(|error| failure("scratch directory", error))?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed is in the system's temporary directory.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The programs, and the directories of their data.
struct Stage {
    programs: PathBuf,
    relay_data: PathBuf,
    relay_log: PathBuf,
    agent_state: PathBuf,
    bridge: PathBuf,
}

impl Stage {
    fn find(scratch: &Scratch) -> Result<Self, Failure> {
        let me = std::env::current_exe().map_err(|error| failure("this program", error))?;
        let programs = me.parent().unwrap_or_else(|| Path::new(".")).to_path_buf();
        for name in ["farwire-relay", "farwire-agent"] {
            if !programs.join(name).is_file() {
                let message = format!("{name} is not in the same directory as {}", me.display());
                return Err(Failure::new(Kind::Configuration, message)
                    .with_hint("build all three programs: `cargo build`"));
            }
        }
        Ok(Self {
            programs,
            relay_data: scratch.0.join("relay"),
            relay_log: scratch.0.join("relay.log"),
            agent_state: scratch.0.join("agent"),
            bridge: scratch.0.join("bridge"),
        })
    }

    fn command(&self, name: &str) -> Command {
        let mut command = Command::new(self.programs.join(name));
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    async fn relay(&self) -> Result<(Child, String), Failure> {
        let log =
            std::fs::File::create(&self.relay_log).map_err(|error| failure("relay log", error))?;
        let mut child = self
            .command("farwire-relay")
            .args([
                "serve",
                "--listen",
                "127.0.0.1:0",
                "--http",
                "127.0.0.1:0",
                "--log",
                "farwire_relay=debug",
            ])
            .arg("--data")
            .arg(&self.relay_data)
            .stderr(log)
            .spawn()
            .map_err(|error| failure("farwire-relay", error))?;
        let out = child.stdout.take().ok_or_else(|| failure("farwire-relay", "no output"))?;
        let mut lines = BufReader::new(out).lines();
        let line = timeout(PATIENCE, lines.next_line()).await.ok().and_then(Result::ok).flatten();
        let url = line.as_deref().and_then(|line| line.strip_prefix("ready ")).map(str::to_owned);
        let url = url.ok_or_else(|| failure("farwire-relay", self.relay_trouble()))?;
        Ok((child, url))
    }

    fn relay_trouble(&self) -> String {
        std::fs::read_to_string(&self.relay_log)
            .unwrap_or_default()
            .lines()
            .last()
            .unwrap_or("it ended")
            .to_owned()
    }

    /// Runs `farwire` to its end and returns what it printed.
    async fn farwire(&self, arguments: &[&str], input: &str) -> Result<String, Failure> {
        let mut command = self.command("farwire");
        command.arg("--home").arg(&self.bridge).args(arguments).stdin(Stdio::piped());
        finish(command, arguments.first().unwrap_or(&""), input).await
    }

    async fn enroll(&self) -> Result<(), Failure> {
        let created = self
            .farwire(&["server", "create", "web-1", "--label", "env=demo", "--json"], "")
            .await?;
        let created: Value =
            serde_json::from_str(&created).map_err(|error| failure("server create", error))?;
        let token = created.get("token").and_then(Value::as_str).unwrap_or_default();
        let mut command = self.command("farwire-agent");
        command
            .arg("enroll")
            .arg("--state")
            .arg(&self.agent_state)
            .args(["--token", "-"])
            .stdin(Stdio::piped());
        let mut enrolling = std::pin::pin!(finish(command, "enroll", token));
        loop {
            // Any use of the bridge accepts the agent; here, `farwire servers` does.
            tokio::select! {
                enrolled = &mut enrolling => return say(&indent(enrolled?.lines().next().unwrap_or_default())),
                () = sleep(Duration::from_millis(100)) => {}
            }
            tokio::select! {
                enrolled = &mut enrolling => return say(&indent(enrolled?.lines().next().unwrap_or_default())),
                listed = self.farwire(&["servers"], "") => drop(listed?),
            }
        }
    }

    fn agent(&self) -> Result<Child, Failure> {
        self.command("farwire-agent")
            .arg("run")
            .arg("--state")
            .arg(&self.agent_state)
            .stderr(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .map_err(|error| failure("farwire-agent", error))
    }

    async fn online(&self) -> Result<String, Failure> {
        let online = async {
            loop {
                let servers = self.farwire(&["servers"], "").await?;
                if servers.contains("online") {
                    return Ok(servers);
                }
                sleep(Duration::from_millis(100)).await;
            }
        };
        timeout(PATIENCE, online)
            .await
            .unwrap_or_else(|_| Err(failure("farwire-agent", "it did not connect")))
    }

    async fn mcp(&self) -> Result<(Mcp, String), Failure> {
        let mut child = self
            .command("farwire")
            .arg("--home")
            .arg(&self.bridge)
            .args(["mcp", "serve"])
            .stdin(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| failure("farwire mcp serve", error))?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(failure("farwire mcp serve", "no pipes"));
        };
        let mut mcp = Mcp { child, input, output: BufReader::new(output).lines(), next: 1 };
        let client = json!({"name": "farwire-demo", "version": env!("CARGO_PKG_VERSION")});
        let hello =
            json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": client});
        mcp.call("initialize", hello).await?;
        mcp.send(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"})).await?;
        let list = mcp.call("tools/list", json!({})).await?;
        let names = list.get("tools").and_then(Value::as_array).into_iter().flatten();
        let names: Vec<_> = names.filter_map(|tool| tool.get("name")?.as_str()).collect();
        Ok((mcp, names.join(" ")))
    }

    /// The relay's log lines about streams.
    fn relay_notes(&self) -> String {
        let log = std::fs::read_to_string(&self.relay_log).unwrap_or_default();
        let lines =
            log.lines().filter_map(|line| line.split_once("stream ended ").map(|(_, rest)| rest));
        let lines: Vec<_> = lines.collect();
        lines.get(lines.len().saturating_sub(4)..).unwrap_or_default().join("\n")
    }
}

async fn finish(mut command: Command, name: &str, input: &str) -> Result<String, Failure> {
    let mut child = command.spawn().map_err(|error| failure(name, error))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that fails at once does not read; its error is reported below.
        let _ = stdin.write_all(input.as_bytes()).await;
    }
    let output = timeout(PATIENCE, child.wait_with_output()).await;
    let output = output
        .map_err(|_| failure(name, "it did not end within 30 s"))?
        .map_err(|error| failure(name, error))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(failure(name, String::from_utf8_lossy(&output.stderr).trim()))
}

/// A minimal MCP client.
struct Mcp {
    child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
    next: u64,
}

impl Mcp {
    async fn send(&mut self, message: &Value) -> Result<(), Failure> {
        let line = format!("{message}\n");
        self.input
            .write_all(line.as_bytes())
            .await
            .map_err(|error| failure("farwire mcp serve", error))
    }

    async fn call(&mut self, method: &str, params: Value) -> Result<Value, Failure> {
        let id = self.next;
        self.next += 1;
        self.send(&json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params})).await?;
        let answered = async {
            while let Ok(Some(line)) = self.output.next_line().await {
                let message: Value =
                    serde_json::from_str(&line).map_err(|error| failure(method, error))?;
                if message.get("id") == Some(&json!(id)) {
                    let result = message.get("result").cloned();
                    return result.ok_or_else(|| {
                        failure(method, message.get("error").cloned().unwrap_or_default())
                    });
                }
            }
            Err(failure(method, "no answer"))
        };
        timeout(PATIENCE, answered)
            .await
            .unwrap_or_else(|_| Err(failure(method, "it did not answer within 30 s")))
    }

    async fn end(mut self) {
        drop(self.input);
        // It ends by itself when its input does; if not, it is killed when dropped.
        let _ = timeout(Duration::from_secs(2), self.child.wait()).await;
    }
}
