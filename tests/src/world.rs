//! A relay, a bridge and servers as processes.

use std::collections::HashMap;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::{Era, Model, PATIENCE, until};

/// Everything that one test needs. Dropping it ends all of it.
#[derive(Debug)]
pub struct World {
    scratch: TempDir,
    relay: Option<Child>,
    agents: Vec<(String, Child)>,
    variables: HashMap<&'static str, Vec<(&'static str, String)>>,
    /// What each agent is started with besides.
    options: HashMap<String, Vec<String>>,
    /// Where the relay listens.
    pub port: u16,
}

/// How a program ended.
#[derive(Debug)]
pub struct Done {
    /// Its exit code.
    pub code: i32,
    /// What it wrote to standard output.
    pub stdout: Vec<u8>,
    /// What it wrote to standard error.
    pub stderr: String,
}

impl Done {
    /// Standard output as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Standard output as JSON.
    ///
    /// # Panics
    ///
    /// When it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.stdout).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }
}

impl From<Output> for Done {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: output.stdout,
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// Where the built programs are.
fn programs() -> PathBuf {
    if let Some(given) = std::env::var_os("FARWIRE_PROGRAMS") {
        return given.into();
    }
    let test = std::env::current_exe().expect("a test is a program");
    let debug = test.parent().and_then(Path::parent).expect("it is in target/debug/deps");
    assert!(debug.join("farwire").is_file(), "build the programs first: `cargo xtask test` does");
    debug.to_path_buf()
}

/// A command of ours with nothing inherited that would change what it does.
pub fn program(name: &str) -> Command {
    program_at(&program_file(name))
}

/// The file of a built program.
pub fn program_file(name: &str) -> PathBuf {
    programs().join(name)
}

fn program_at(file: &Path) -> Command {
    let mut command = Command::new(file);
    for variable in ["FARWIRE_HOME", "FARWIRE_AGENT_STATE", "FARWIRE_RELAY_DATA", "FARWIRE_LOG"] {
        command.env_remove(variable);
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

/// The holders below a directory of states.
fn holders(state: &Path) -> Vec<u32> {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let holds = |pid: &u32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let mut words = line.split(|byte| *byte == 0).skip(1);
        words.next() == Some(b"holder")
            && words
                .nth(1)
                .is_some_and(|word| Path::new(std::ffi::OsStr::from_bytes(word)).starts_with(state))
    };
    pids.filter(holds).collect()
}

/// The processes that this one has started and that it has not collected.
pub fn children(pid: u32) -> Vec<u32> {
    // Each is a child of the thread that has started it.
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let children =
        |thread: std::fs::DirEntry| std::fs::read_to_string(thread.path().join("children"));
    let texts: String = threads.filter_map(|thread| children(thread).ok()).collect();
    texts.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

/// The processes that were started with exactly these words.
pub fn running(words: &[&str]) -> Vec<u32> {
    let wanted: Vec<u8> = words.iter().flat_map(|word| [word.as_bytes(), b"\0"].concat()).collect();
    let entries = std::fs::read_dir("/proc").expect("it lists processes").filter_map(Result::ok);
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let is = |pid: &u32| std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|is| is == wanted);
    pids.filter(is).collect()
}

/// Ends a process at once.
pub fn kill(pid: u32) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).expect("a process id");
    // It may have ended by itself.
    let _ = kill_process(pid, Signal::KILL);
}

/// The resident memory of a process, in KiB.
pub fn resident_kib(pid: u32) -> u64 {
    kib(pid, "status", "VmRSS:")
}

/// The memory of a process in KiB, where what several have is shared among them.
pub fn proportional_kib(pid: u32) -> u64 {
    kib(pid, "smaps_rollup", "Pss:")
}

fn kib(pid: u32, file: &str, name: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/{file}")).expect("it runs");
    let line = text.lines().find_map(|line| line.strip_prefix(name)).expect("a line");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

/// Whether a process runs, and since when: two that have a number one after the other are not the
/// same.
pub fn began(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit(')').next()?.split_whitespace();
    let state = fields.next()?;
    (state != "Z").then(|| fields.nth(18))?.and_then(|field| field.parse().ok())
}

/// Gives a program its standard input and waits for its end.
async fn finish(mut command: Command, input: &[u8]) -> Done {
    command.stdin(Stdio::piped());
    let mut child = command.spawn().expect("the program starts");
    let mut stdin = child.stdin.take().expect("it is piped");
    let input = input.to_vec();
    let feeding = tokio::spawn(async move {
        // A program may end without reading all of it.
        let _ = stdin.write_all(&input).await;
    });
    let output = tokio::time::timeout(PATIENCE, child.wait_with_output()).await;
    feeding.abort();
    output.expect("it ends").expect("it can be waited for").into()
}

impl Drop for World {
    fn drop(&mut self) {
        // What outlives the agents: on purpose, but not this.
        for holder in holders(self.scratch.path()) {
            children(holder).into_iter().for_each(kill);
            kill(holder);
        }
    }
}

impl World {
    /// A relay and an initialised bridge.
    pub async fn new() -> Self {
        let scratch =
            tempfile::Builder::new().prefix("farwire-test-").tempdir().expect("a directory");
        let (agents, variables, options) = (Vec::new(), HashMap::new(), HashMap::new());
        let mut world = Self { scratch, relay: None, agents, variables, options, port: 0 };
        let url = world.start_relay(&[]).await;
        let done =
            world.farwire_with(&["init", "--relay", "-", "--name", "test"], url.as_bytes()).await;
        assert_eq!(done.code, 0, "{done:?}");
        world
    }

    /// The same with an enrolled server that runs.
    pub async fn with_server(name: &str) -> Self {
        let mut world = Self::new().await;
        world.enroll(name).await;
        world.start_agent(name).await;
        world
    }

    /// Runs this program with these variables besides, from now on.
    pub fn set(&mut self, program: &'static str, variables: &[(&'static str, String)]) {
        self.variables.insert(program, variables.to_vec());
    }

    /// Starts a server's agent with these options besides, from now on.
    pub fn set_options(&mut self, server: &str, options: &[&str]) {
        let options = options.iter().map(|&option| option.to_owned()).collect();
        self.options.insert(server.to_owned(), options);
    }

    /// A world with one server, of which the directory `root` is open for files, as `work`, with
    /// these options besides. What lies beside it is outside.
    pub async fn with_root(server: &str, more: &[&str]) -> Self {
        let mut world = Self::new().await;
        let root = world.path("outside/root");
        std::fs::create_dir_all(&root).expect("a directory");
        std::fs::write(world.path("outside/secret"), "secret").expect("a file");
        let root = format!("work={}:rw", root.display());
        world.set_options(server, &[&["--fs-root", &root], more].concat());
        world.enroll(server).await;
        world.start_agent(server).await;
        world
    }

    /// A path in the root of [`Self::with_root`].
    pub fn in_root(&self, path: &str) -> PathBuf {
        self.path("outside/root").join(path)
    }

    fn program(&self, name: &str) -> Command {
        let mut command = program(name);
        let variables = self.variables.get(name).into_iter().flatten();
        command.envs(variables.map(|(name, value)| (name, value)));
        command
    }

    /// A place of this world.
    pub fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    /// Starts the relay, at the same place as before, and gives its URL.
    pub async fn start_relay(&mut self, more: &[&str]) -> String {
        let log =
            std::fs::OpenOptions::new().create(true).append(true).open(self.path("relay.log"));
        let mut child = self
            .program("farwire-relay")
            .args(["serve", "--http", "127.0.0.1:0", "--log", "farwire_relay=debug"])
            .args(["--listen", &format!("127.0.0.1:{}", self.port)])
            .arg("--data")
            .arg(self.path("relay"))
            .args(more)
            .stderr(log.expect("a log"))
            .spawn()
            .expect("the relay starts");
        let out = child.stdout.take().expect("it is piped");
        let line = BufReader::new(out).lines().next_line().await.expect("it speaks");
        let url =
            line.expect("it gets ready").strip_prefix("ready ").expect("it says so").to_owned();
        let address = url.split(['/', ',']).nth(2).expect("an address");
        self.port = address.rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port");
        self.relay = Some(child);
        url
    }

    /// Ends the relay without a goodbye.
    pub async fn kill_relay(&mut self) {
        let mut relay = self.relay.take().expect("it runs");
        relay.kill().await.expect("it is killed");
    }

    /// Ends the relay as a service manager does.
    pub async fn end_relay(&mut self) {
        let mut relay = self.relay.take().expect("it runs");
        let pid = relay.id().and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
        kill_process(pid.expect("it runs"), Signal::TERM).expect("it is ours");
        let ended = tokio::time::timeout(PATIENCE, relay.wait()).await;
        let status = ended.expect("it ends").expect("it can be waited for");
        assert!(status.success(), "{status}");
    }

    /// The relay's process id.
    pub fn relay_pid(&self) -> u32 {
        self.relay.as_ref().and_then(Child::id).expect("it runs")
    }

    /// `farwire ARGUMENTS`.
    pub async fn farwire(&self, arguments: &[&str]) -> Done {
        self.farwire_with(arguments, b"").await
    }

    /// The same with standard input.
    pub async fn farwire_with(&self, arguments: &[&str], input: &[u8]) -> Done {
        finish(self.farwire_command(arguments), input).await
    }

    /// `farwire ARGUMENTS`, not started yet.
    pub fn farwire_command(&self, arguments: &[&str]) -> Command {
        self.device_command("bridge", arguments)
    }

    /// `farwire ARGUMENTS` of another device, not started yet.
    pub fn device_command(&self, home: &str, arguments: &[&str]) -> Command {
        let mut command = self.program("farwire");
        command.arg("--home").arg(self.path(home)).args(arguments);
        command
    }

    /// `farwire-agent ARGUMENTS` for one server, with standard input.
    pub async fn agent_with(&self, name: &str, arguments: &[&str], input: &[u8]) -> Done {
        let mut command = self.program("farwire-agent");
        command.args(arguments).arg("--state").arg(self.path(name));
        finish(command, input).await
    }

    /// A URL of the relay with an invite that has not been used.
    pub async fn invite(&self) -> String {
        let mut command = self.program("farwire-relay");
        command.arg("invite").arg("--data").arg(self.path("relay"));
        finish(command, b"").await.text()
    }

    /// `farwire ARGUMENTS` of another device, with standard input.
    pub async fn device(&self, home: &str, arguments: &[&str], input: &[u8]) -> Done {
        finish(self.device_command(home, arguments), input).await
    }

    /// Creates a server and gives its token.
    pub async fn create(&self, name: &str, more: &[&str]) -> String {
        let done = self.farwire(&[&["server", "create", name, "--json"], more].concat()).await;
        assert_eq!(done.code, 0, "{done:?}");
        done.json()["token"].as_str().expect("a token").to_owned()
    }

    /// Creates and enrolls a server.
    pub async fn enroll(&mut self, name: &str) {
        let token = self.create(name, &[]).await;
        let enrolling =
            self.agent_with(name, &["enroll", "--token", "-", "--wait", "50"], token.as_bytes());
        let accepting = async {
            loop {
                self.farwire(&["servers"]).await;
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        };
        let done = tokio::select! {
            done = enrolling => done,
            () = accepting => unreachable!(),
        };
        assert_eq!(done.code, 0, "{done:?}");
    }

    /// Starts a server's agent and waits until the relay knows it.
    pub async fn start_agent(&mut self, name: &str) {
        self.start_agent_from(name, &program_file("farwire-agent")).await;
    }

    /// The same of this file.
    pub async fn start_agent_from(&mut self, name: &str, file: &Path) {
        self.launch_agent(name, file);
        self.wait_for(name, "online").await;
    }

    /// The same without waiting for it, where the relay is none that could say that it is there.
    pub fn launch_agent(&mut self, name: &str, file: &Path) {
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.path(&format!("{name}.log")));
        let mut command = program_at(file);
        let variables = self.variables.get("farwire-agent").into_iter().flatten();
        let child = command
            .envs(variables.map(|(name, value)| (name, value)))
            // Start-up files of whoever runs the tests are none of theirs.
            .env("HOME", self.home())
            .arg("run")
            .arg("--state")
            .arg(self.path(name))
            .args(["--log", "debug"])
            .args(self.options.get(name).into_iter().flatten())
            .stderr(log.expect("a log"))
            .spawn()
            .expect("the agent starts");
        self.agents.push((name.to_owned(), child));
    }

    /// Where the agents' user is at home.
    fn home(&self) -> PathBuf {
        let home = self.path("home");
        std::fs::create_dir_all(&home).expect("a directory");
        home
    }

    /// Ends a server's agent without a goodbye.
    pub async fn kill_agent(&mut self, name: &str) {
        let at = self.agents.iter().position(|(other, _)| other == name).expect("it runs");
        let (_, mut agent) = self.agents.remove(at);
        agent.kill().await.expect("it is killed");
    }

    /// Ends a server's agent as a service manager does, and waits for its end.
    pub async fn end_agent(&mut self, name: &str) {
        let at = self.agents.iter().position(|(other, _)| other == name).expect("it runs");
        let (_, mut agent) = self.agents.remove(at);
        let pid = agent.id().and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
        kill_process(pid.expect("it runs"), Signal::TERM).expect("it is ours");
        let ended = tokio::time::timeout(PATIENCE, agent.wait()).await;
        let status = ended.expect("it ends").expect("it can be waited for");
        assert!(status.success(), "{status}");
    }

    /// An agent's process id.
    pub fn agent_pid(&self, name: &str) -> u32 {
        let found = self.agents.iter().find(|(other, _)| other == name);
        found.and_then(|(_, child)| child.id()).expect("it runs")
    }

    /// The processes that hold an agent's programs now, and one that is ready to.
    pub fn holders(&self, name: &str) -> Vec<u32> {
        holders(&self.path(name))
    }

    /// Waits until the relay says that a server is in this state.
    pub async fn wait_for(&self, name: &str, state: &str) {
        until(&format!("{name} {state}"), async || {
            let servers = self.farwire(&["servers", "--json"]).await.json();
            let all = servers.as_array().cloned().unwrap_or_default();
            all.iter().any(|one| one["name"] == name && one["state"] == state).then_some(())
        })
        .await;
    }

    /// An MCP client that speaks as a model's client does.
    pub async fn model(&self, era: Era) -> Model {
        Model::start(self.farwire_command(&["mcp", "serve"]), era).await
    }

    /// The same with options of `mcp serve`.
    pub async fn model_with(&self, more: &[&str], era: Era) -> Model {
        Model::start(self.farwire_command(&[&["mcp", "serve"], more].concat()), era).await
    }

    /// The relay's key, as its directory has it.
    pub fn relay_key(&self) -> [u8; 32] {
        let bytes = std::fs::read(self.path("relay/relay.key")).expect("the key");
        bytes.try_into().expect("32 bytes")
    }
}
