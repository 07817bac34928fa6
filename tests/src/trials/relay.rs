//! A hostile relay against every kind of request: each stream of it, each code of a reset, each
//! moment, a flip in each frame and each message of a handshake.
//!
//! What holds in each case: nothing is done twice, and every answer is true. An answer is what was
//! asked for, or `outcome_unknown` with the id of what may have been done, or a failure, and then
//! nothing has been done and nothing ever will be.

mod changes;

use std::fs;
use std::path::PathBuf;

use farwire_protocol::header::Reset;
use serde_json::{Value, json};

use crate::hostile::{CODES, Hostile, Mischief, Way};
use crate::person::Person;
use crate::{Era, Model, World, until};

/// A kind of request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(missing_docs, reason = "each is what it is called")]
pub enum Kind {
    CliRun,
    CliDetach,
    CliOutput,
    CliStop,
    CliStatus,
    Attach,
    McpRun,
    McpOutput,
    McpStop,
    McpStatus,
    SessionOpen,
    SessionSend,
    FileRead,
    FileWrite,
    FileEdit,
    FileList,
    FileSearch,
    FileCopy,
    Put,
    Get,
    PutTree,
    GetTree,
    Sync,
    Append,
    Mkdir,
    Move,
    Remove,
    Patch,
    Undo,
}

impl Kind {
    /// Programs and terminals by the command line; the first stream of each is the handshake of its
    /// process.
    pub const COMMANDS: &[Self] = &[
        Self::CliRun,
        Self::CliDetach,
        Self::CliOutput,
        Self::CliStop,
        Self::CliStatus,
        Self::Attach,
    ];
    /// Programs and terminals by a model's tools.
    pub const TOOLS: &[Self] = &[
        Self::McpRun,
        Self::McpOutput,
        Self::McpStop,
        Self::McpStatus,
        Self::SessionOpen,
        Self::SessionSend,
    ];
    /// Files.
    pub const FILES: &[Self] = &[
        Self::FileRead,
        Self::FileWrite,
        Self::FileEdit,
        Self::FileList,
        Self::FileSearch,
        Self::FileCopy,
        Self::Put,
        Self::Get,
    ];
    /// Files and trees by the command line.
    pub const CHANGES: &[Self] = &[
        Self::PutTree,
        Self::GetTree,
        Self::Sync,
        Self::Append,
        Self::Mkdir,
        Self::Move,
        Self::Remove,
        Self::Patch,
        Self::Undo,
    ];

    /// Whether it changes something, of which we can see how often it was done.
    fn acts(self) -> bool {
        matches!(
            self,
            Self::CliRun
                | Self::CliDetach
                | Self::Attach
                | Self::McpRun
                | Self::SessionOpen
                | Self::SessionSend
                | Self::FileWrite
                | Self::FileEdit
                | Self::FileCopy
                | Self::Put
        ) || self.is_change()
    }

    /// Whether it is one of `changes`.
    fn is_change(self) -> bool {
        Self::CHANGES.contains(&self) && self != Self::GetTree
    }

    /// Whether each copy of the request would act: then the outcome may be unknown after one stream
    /// has broken.
    fn is_sent_once(self) -> bool {
        matches!(self, Self::FileWrite | Self::FileEdit | Self::FileCopy | Self::Put)
            || self.is_change()
    }

    /// Whether it is about something that has a short id.
    fn has_id(self) -> bool {
        self.acts() && !self.is_sent_once()
    }

    fn is_command(self) -> bool {
        Self::COMMANDS.contains(&self)
            || Self::CHANGES.contains(&self)
            || matches!(self, Self::Put | Self::Get)
    }
}

/// All that can be done to one stream.
pub fn mischiefs() -> Vec<Mischief> {
    let mut all = Vec::new();
    for code in CODES.map(Reset::from_code) {
        all.push(Mischief::TurnAway(code));
        all.push(Mischief::Refuse(code));
        all.push(Mischief::Break(Way::Back, 40, code));
    }
    for way in [Way::Forth, Way::Back] {
        all.extend((0..3).map(|frame| Mischief::FlipFrame(way, frame)));
        all.extend([0, 40].map(|bytes| Mischief::Finish(way, bytes)));
    }
    all.push(Mischief::Close);
    all
}

/// What was answered.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Answered {
    Right,
    Unknown,
    Failed,
}

/// A world whose relay is the enemy.
#[derive(Debug)]
pub struct Bench {
    world: World,
    hostile: Hostile,
    model: Model,
    /// A run that has ended.
    run: String,
    /// A session that stays.
    session: String,
    number: usize,
    /// What was answered with a failure, and must never be done.
    failed: Vec<(Kind, usize)>,
    counts: Counts,
}

/// How many requests were answered how.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// With what was asked for, which was done once.
    pub right: usize,
    /// With `outcome_unknown`: it was done at most once.
    pub unknown: usize,
    /// With a failure: it was not done.
    pub failed: usize,
}

impl Bench {
    /// A server with a session, a run that has ended, and some files.
    pub async fn new() -> Self {
        let mut world = World::with_root("web-1", &[]).await;
        fs::write(world.in_root("fixed.txt"), "needle\n").expect("a file");
        changes::plant(&world.in_root("tree"));
        let hostile = Hostile::replace(&mut world, "web-1").await;
        let mut model = world.model(Era::Discover).await;
        let call = json!({"server": "web-1", "command": "echo before"});
        let (text, error) = model.call("run", call).await;
        assert!(!error && text.contains("before"), "{text}");
        let call = json!({"server": "web-1", "name": "typed", "command": "sh"});
        let (text, error) = model.call("session_open", call).await;
        assert!(!error && text.starts_with("[session s"), "{text}");
        let session = text.split_whitespace().nth(1).expect("an id").to_owned();
        let run = "r1".to_owned();
        let (failed, counts) = (Vec::new(), Counts::default());
        Self { world, hostile, model, run, session, number: 0, failed, counts }
    }

    /// Tries every `stride`th case of these kinds, from the `first` on, and says how many they
    /// were.
    ///
    /// # Panics
    ///
    /// When something was done twice, or an answer was not true.
    pub async fn try_all(&mut self, kinds: &[Kind], (first, stride): (usize, usize)) -> usize {
        let mischiefs = mischiefs();
        let (mut case, mut tried) = (0, 0);
        for &kind in kinds {
            let streams = self.try_one(kind, &[]).await;
            for stream in 0..streams {
                for mischief in &mischiefs {
                    if case % stride == first % stride {
                        self.try_one(kind, &[(stream, mischief.clone())]).await;
                        tried += 1;
                    }
                    case += 1;
                }
            }
        }
        self.settle();
        tried
    }

    /// Tries these kinds while a request is under way whose link has to be made anew, with all that
    /// can be done to the handshake.
    ///
    /// # Panics
    ///
    /// As for [`Self::try_all`].
    pub async fn try_handshakes(
        &mut self,
        kinds: &[Kind],
        (first, stride): (usize, usize),
    ) -> usize {
        let (mut case, mut tried) = (0, 0);
        for &kind in kinds {
            // The handshake of a process of its own comes first.
            let request = usize::from(kind.is_command());
            for mischief in mischiefs() {
                if case % stride == first % stride {
                    let lost = Mischief::Refuse(Reset::UnknownLink);
                    let plan = [(request, lost), (request + 1, mischief)];
                    self.try_one(kind, &plan).await;
                    tried += 1;
                }
                case += 1;
            }
        }
        self.settle();
        tried
    }

    /// How the requests so far were answered, those that nothing was done to included.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// What was answered with a failure has not been done since.
    fn settle(&self) {
        for &(kind, number) in &self.failed {
            assert_eq!(self.times(kind, number), 0, "{kind:?} {number} was done after all");
        }
    }

    /// Tries one case, and says how many streams the request has opened.
    async fn try_one(&mut self, kind: Kind, plan: &[(usize, Mischief)]) -> usize {
        self.number += 1;
        let number = self.number;
        let about = self.prepare(kind, number).await;
        self.hostile.forget_plans();
        for (stream, mischief) in plan {
            self.hostile.plan(*stream, mischief.clone());
        }
        let before = self.hostile.opened();
        let (answered, text) = self.ask(kind, number, &about).await;
        self.hostile.forget_plans();
        let streams = self.hostile.opened() - before;
        let case = format!("{kind:?} {plan:?}: {text}");
        let counts = &mut self.counts;
        match answered {
            Answered::Right => counts.right += 1,
            Answered::Unknown => counts.unknown += 1,
            Answered::Failed => counts.failed += 1,
        }
        match answered {
            Answered::Right if kind.acts() => {
                // What was left to run may not have got so far yet.
                until("what was asked for", async || (self.times(kind, number) > 0).then_some(()))
                    .await;
                assert_eq!(self.times(kind, number), 1, "{case}");
            }
            Answered::Right => {}
            Answered::Unknown => {
                assert!(kind.acts() && self.times(kind, number) <= 1, "{case}");
                assert!(!kind.has_id() || names_id(&text), "{case}");
                assert!(kind.is_sent_once(), "one broken stream is made up for: {case}");
            }
            Answered::Failed => {
                assert!(may_fail(kind, plan), "{case}");
                assert!(!kind.acts() || self.times(kind, number) == 0, "{case}");
                self.failed.extend(kind.acts().then_some((kind, number)));
            }
        }
        streams
    }

    /// What must be there before the request: gives what it is about.
    async fn prepare(&self, kind: Kind, number: usize) -> String {
        match kind {
            Kind::CliStop | Kind::McpStop => {
                let done =
                    self.world.farwire(&["run", "web-1", "--detach", "--", "sleep", "1000"]).await;
                assert_eq!(done.code, 0, "{done:?}");
                done.text().trim().to_owned()
            }
            Kind::FileEdit => {
                let path = format!("edit-{number}");
                fs::write(self.world.in_root(&path), "one\n").expect("a file");
                path
            }
            Kind::Put => {
                let path = self.world.path(&format!("put-{number}"));
                fs::write(&path, "here\n").expect("a file");
                path.display().to_string()
            }
            _ if kind.is_change() => self.lay_out(kind, number).await,
            // A list begins with the newest.
            Kind::CliStatus | Kind::McpStatus => {
                let done = self.world.farwire(&["run", "web-1", "--detach", "--", "true"]).await;
                assert_eq!(done.code, 0, "{done:?}");
                done.text().trim().to_owned()
            }
            _ => self.run.clone(),
        }
    }

    fn mark(&self, number: usize) -> PathBuf {
        self.world.path(&format!("mark-{number}"))
    }

    /// How often it was done.
    fn times(&self, kind: Kind, number: usize) -> usize {
        let holds = |path: String, content: &str| {
            let found = fs::read_to_string(self.world.in_root(&path)).unwrap_or_default();
            usize::from(found == content)
        };
        match kind {
            Kind::FileWrite => holds(format!("write-{number}"), "written\n"),
            Kind::FileEdit => holds(format!("edit-{number}"), "two\n"),
            Kind::FileCopy => holds(format!("copy-{number}"), "needle\n"),
            Kind::Put => holds(format!("put-{number}"), "here\n"),
            _ if kind.is_change() => self.changed(kind, number),
            _ => fs::read_to_string(self.mark(number)).unwrap_or_default().lines().count(),
        }
    }

    async fn ask(&mut self, kind: Kind, number: usize, about: &str) -> (Answered, String) {
        let line = format!("echo x >> {}; echo out-{number}", self.mark(number).display());
        let out = format!("out-{number}");
        let path = |name: &str| format!("{name}-{number}");
        match kind {
            Kind::CliRun => self.command(&["run", "web-1", "-n", "-c", &line], &out).await,
            Kind::CliDetach => self.command(&["run", "web-1", "--detach", "-c", &line], "r").await,
            Kind::CliOutput => self.command(&["output", about, "--view", "tail"], "before").await,
            Kind::CliStop => self.command(&["stop", about, "--signal", "KILL"], about).await,
            Kind::CliStatus => self.command(&["status", "web-1", "--all"], about).await,
            Kind::Attach => self.attach(number).await,
            Kind::McpRun => {
                self.tool("run", json!({"server": "web-1", "command": line}), &out).await
            }
            Kind::McpOutput => {
                self.tool("output", json!({"id": about, "view": "tail"}), "before").await
            }
            Kind::McpStop => {
                self.tool("stop", json!({"id": about, "signal": "KILL"}), "signal=KILL").await
            }
            Kind::McpStatus => {
                self.tool("status", json!({"server": "web-1", "all": true}), about).await
            }
            Kind::SessionOpen => {
                let command = format!("{line}; exec sh");
                let call = json!({"server": "web-1", "name": path("open"), "command": command});
                self.tool("session_open", call, "[session s").await
            }
            Kind::SessionSend => {
                let until = format!("^{out}");
                let call = json!({"id": self.session, "text": line, "until": until, "wait": 20});
                self.tool("session_send", call, &out).await
            }
            Kind::FileRead => self.file("file_read", json!({"path": "fixed.txt"}), "needle").await,
            Kind::FileWrite => {
                let call = json!({"path": path("write"), "content": "written\n"});
                self.file("file_write", call, "written").await
            }
            Kind::FileEdit => {
                let call = json!({"path": about, "edits": [{"old": "one", "new": "two"}]});
                self.file("file_edit", call, "changed 1").await
            }
            Kind::FileList => self.file("file_list", json!({"glob": "fixed*"}), "fixed.txt").await,
            Kind::FileSearch => {
                let search = json!({"pattern": "need.e", "glob": "fixed*"});
                self.file("file_search", search, "fixed.txt").await
            }
            Kind::FileCopy => {
                let to = format!("web-1:{}", path("copy"));
                self.tool("file_copy", json!({"from": "web-1:fixed.txt", "to": to}), "[copy").await
            }
            Kind::Put => {
                let to = format!("web-1:{}", path("put"));
                self.command(&["files", "put", about, &to], "").await
            }
            Kind::Get => {
                let to = self.world.path(&path("get"));
                let got = self
                    .command(&["files", "get", "web-1:fixed.txt", &to.display().to_string()], "")
                    .await;
                let whole = fs::read_to_string(&to).is_ok_and(|content| content == "needle\n");
                assert_eq!(got.0 == Answered::Right, whole, "{}", got.1);
                got
            }
            Kind::GetTree => self.get_tree(number).await,
            _ => self.change(kind, number, about).await,
        }
    }

    async fn command(&self, arguments: &[&str], right: &str) -> (Answered, String) {
        self.command_with(arguments, b"", right).await
    }

    async fn command_with(
        &self,
        arguments: &[&str],
        input: &[u8],
        right: &str,
    ) -> (Answered, String) {
        let done = self.world.farwire_with(arguments, input).await;
        let text = format!("{}{}", done.text(), done.stderr);
        let answered = match done.code {
            0 if done.text().contains(right) => Answered::Right,
            _ if text.contains("outcome_unknown") => Answered::Unknown,
            _ => Answered::Failed,
        };
        (answered, text)
    }

    async fn file(&mut self, tool: &str, mut call: Value, right: &str) -> (Answered, String) {
        call["server"] = json!("web-1");
        self.tool(tool, call, right).await
    }

    async fn tool(&mut self, tool: &str, call: Value, right: &str) -> (Answered, String) {
        let (text, error) = self.model.call(tool, call).await;
        let unknown = text.contains("outcome_unknown") || text.contains("state=unreachable");
        let answered = match error {
            _ if unknown => Answered::Unknown,
            false if text.contains(right) => Answered::Right,
            _ => Answered::Failed,
        };
        (answered, text)
    }

    /// Somebody opens a session and types into it once.
    async fn attach(&self, number: usize) -> (Answered, String) {
        let target = format!("web-1/attach-{number}");
        let mut person = Person::start(&self.world.farwire_command(&["attach", &target]));
        let line =
            format!("echo x >> {}; echo out-$(({number} + 0))\r", self.mark(number).display());
        person.types(&line).await;
        let out = format!("out-{number}");
        let ended = until("an answer", async || {
            let screen = person.screen();
            let seen = screen.contains(&out) || screen.contains("error[");
            seen.then_some(screen)
        })
        .await;
        let answered = match &ended {
            screen if screen.contains(&out) => Answered::Right,
            screen if screen.contains("outcome_unknown") => Answered::Unknown,
            _ => Answered::Failed,
        };
        person.kill().await;
        (answered, ended)
    }

    /// The model's answer to a run while every stream is refused for this reason, and whether it
    /// ran.
    pub async fn refused_throughout(&mut self, reason: Reset) -> (String, usize) {
        self.number += 1;
        let line = format!("echo x >> {}", self.mark(self.number).display());
        self.hostile.always(Some(Mischief::Refuse(reason)));
        let call = json!({"server": "web-1", "command": line, "wait": 1});
        let (text, _) = self.model.call("run", call).await;
        self.hostile.always(None);
        (text, self.times(Kind::McpRun, self.number))
    }

    /// What a tool says now that nothing is in its way.
    pub async fn call(&mut self, tool: &str, call: Value) -> String {
        self.model.call(tool, call).await.0
    }
}

/// Whether a short id stands in it.
fn names_id(text: &str) -> bool {
    let words = text.split(|char: char| !char.is_ascii_alphanumeric());
    words.into_iter().any(|word| {
        word.strip_prefix(['r', 's']).is_some_and(|number| number.parse::<u64>().is_ok())
    })
}

/// Whether a failure may be the answer: before anything was sent, and where the relay says of a
/// server that it is asked about, and not told to do anything, that it is not there.
fn may_fail(kind: Kind, plan: &[(usize, Mischief)]) -> bool {
    plan.iter().any(|(stream, mischief)| {
        let refusal = match mischief {
            Mischief::TurnAway(reason)
            | Mischief::Refuse(reason)
            | Mischief::Break(_, _, reason) => {
                matches!(reason, Reset::UnknownServer | Reset::Offline | Reset::Suspended)
            }
            _ => false,
        };
        let first_handshake = *stream == 0 && kind.is_command();
        // The questions before something is done to files, and all that reads.
        first_handshake || refusal && (!kind.acts() || kind.is_sent_once())
    })
}
