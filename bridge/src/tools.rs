//! What can be asked. To add a tool: a file here, and a line in its category's list.
//!
//! A tool is a struct: its fields are its arguments and their comments its manual. The MCP server, the
//! words of scopes and the reference are readings of [`CATALOGUE`]; none of them knows a tool by name.

pub mod file;
pub mod find;
pub mod output;
mod picture;
pub mod pty;
pub mod run;
pub mod scope;
pub mod servers;
pub mod session;
pub mod status;
pub mod stop;

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use farwire_keystore::Home;
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::id::Nonce;
use farwire_protocol::streams::run::{Exit, State};
use farwire_protocol::surface::Surface;
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use tokio::sync::{OnceCell, mpsc};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use self::scope::{Group, Offer};
use crate::client::Client;
use crate::sessions::danger::{Danger, Patterns};
use crate::sessions::leases::Leases;
use crate::sessions::pipes::Pipes;
use crate::text::header::Fate;
use crate::text::mask::Masks;
use crate::text::shown::Budget;

/// Every tool, by category.
pub const CATALOGUE: &[Category] = &[
    Category {
        name: "core",
        about: "The daily tools. Listed where nothing else is asked for.",
        tools: CORE,
    },
    Category {
        name: "files",
        about: "Files beneath opened directories: undo, patches, moving, removing.",
        tools: file::more::ALL,
    },
    Category {
        name: "pty",
        about: "Terminals by the names and with the rules of a PTY server: owners, leases, cursors of each client.",
        tools: pty::ALL,
    },
    Category {
        name: "session",
        about: "Terminals that people and models share: history, events, a default target, retry.",
        tools: session::ALL,
    },
];

/// Tools that belong together.
#[derive(Clone, Copy, Debug)]
pub struct Category {
    /// A word of scopes.
    pub name: &'static str,
    /// What they are for.
    pub about: &'static str,
    /// The tools, in the order in which clients list them.
    pub tools: &'static [Entry],
}

/// The daily tools.
pub const CORE: &[Entry] = &[
    Entry::of::<servers::Servers>(),
    Entry::of::<status::Status>(),
    Entry::of::<run::Run>(),
    Entry::of::<output::Output>(),
    Entry::of::<stop::Stop>(),
    Entry::of::<session::SessionOpen>(),
    Entry::of::<session::SessionSend>(),
    Entry::of::<file::read::FileRead>(),
    Entry::of::<file::write::FileWrite>(),
    Entry::of::<file::edit::FileEdit>(),
    Entry::of::<file::list::FileList>(),
    Entry::of::<file::search::FileSearch>(),
    Entry::of::<file::copy::FileCopy>(),
    Entry::of::<find::ToolFind>(),
    Entry::of::<find::ToolCall>(),
];

/// What a model does about a failure: it has tools where people have commands.
pub fn next(failure: &Failure) -> &str {
    match (&failure.hint, failure.kind) {
        (None, Kind::UnknownServer | Kind::AmbiguousServer) => "servers lists the names",
        (None, Kind::ServerPending) => "a person must enroll it; servers lists the others",
        (None, Kind::EmptyCommand) => "say in command what to run",
        (None, Kind::UnknownId) => "status with all lists the ids",
        (None, Kind::AlreadyEnded) => "output with the id shows what it said",
        (None, Kind::InputLocked) => {
            "wait with output, or ask the person to let go of the keyboard; status shows who types"
        }
        (None, Kind::TerminalBusy) => {
            "output with view=screen shows what is there; answer or leave it with session_send"
        }
        (None, Kind::NoRoot) => {
            "servers with its name lists what is open; only its owner opens more"
        }
        _ => failure.hint(),
    }
}

/// What a tool may change. Clients decide by this whether to ask a person first.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Effect {
    /// It changes nothing.
    pub read_only: bool,
    /// It may destroy something.
    pub destructive: bool,
    /// Asking twice is asking once.
    pub idempotent: bool,
    /// What it does reaches beyond our own things.
    pub open_world: bool,
}

impl Effect {
    /// Looks only.
    pub const READS: Self =
        Self { read_only: true, destructive: false, idempotent: true, open_world: false };
    /// Does whatever it is told.
    pub const ACTS: Self =
        Self { read_only: false, destructive: true, idempotent: false, open_world: true };
    /// Ends something.
    pub const ENDS: Self =
        Self { read_only: false, destructive: true, idempotent: true, open_world: false };
}

/// What becomes of a call that its caller cancels.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Cancel {
    /// It ends where it is. What it had sent may have been done.
    Ends,
    /// It notices by itself, at each point, and has something to do: it stops what it started.
    Notices,
}

/// One thing that can be asked for.
pub trait Tool: DeserializeOwned + JsonSchema + Send + 'static {
    /// Its name, for models, people and scopes alike.
    const NAME: &'static str;
    /// Its name for people.
    const TITLE: &'static str;
    /// What it is for, in a few sentences.
    const ABOUT: &'static str;
    /// What it may change.
    const EFFECT: Effect;
    /// What becomes of it when it is cancelled.
    const CANCEL: Cancel = Cancel::Ends;

    /// Does it, and answers with a header line and what follows.
    fn call(
        self,
        desk: &Desk,
        caller: &Caller,
    ) -> impl Future<Output = Result<String, Failure>> + Send;
}

/// A call under way.
pub type Answering<'a> = Pin<Box<dyn Future<Output = Result<String, Failure>> + Send + 'a>>;

/// A tool with its type forgotten.
#[derive(Clone, Copy)]
pub struct Entry {
    /// Its name.
    pub name: &'static str,
    /// Its name for people.
    pub title: &'static str,
    /// What it is for.
    pub about: &'static str,
    /// What it may change.
    pub effect: Effect,
    /// It is only there where this was enabled.
    pub group: Option<Group>,
    schema: fn() -> Map<String, Value>,
    call: for<'a> fn(Value, &'a Desk, &'a Caller) -> Result<Answering<'a>, Failure>,
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Entry").field(&self.name).finish()
    }
}

impl Entry {
    const fn of<T: Tool>() -> Self {
        Self {
            name: T::NAME,
            title: T::TITLE,
            about: T::ABOUT,
            effect: T::EFFECT,
            group: None,
            schema: schema::<T>,
            call: |arguments, desk, caller| {
                let tool: T = serde_path_to_error::deserialize(arguments).map_err(|error| {
                    let message = match error.path().to_string().as_str() {
                        "." => format!("{}: {}", T::NAME, error.inner()),
                        path => format!("{}: {path}: {}", T::NAME, error.inner()),
                    };
                    Failure::new(Kind::InvalidArgument, message)
                        .with_hint(format!("call {} again with the argument corrected", T::NAME))
                })?;
                let call = tool.call(desk, caller);
                Ok(match T::CANCEL {
                    Cancel::Notices => Box::pin(call),
                    Cancel::Ends => {
                        Box::pin(caller.unless_cancelled("the call was cancelled", call))
                    }
                })
            },
        }
    }

    /// The same, only where this is enabled.
    const fn of_group(mut self, group: Group) -> Self {
        self.group = Some(group);
        self
    }

    /// The JSON Schema of its arguments, without what only costs a model's attention.
    pub fn schema(&self) -> Map<String, Value> {
        (self.schema)()
    }

    /// Calls it.
    pub fn call<'a>(
        &self,
        arguments: Value,
        desk: &'a Desk,
        caller: &'a Caller,
    ) -> Result<Answering<'a>, Failure> {
        (self.call)(arguments, desk, caller)
    }
}

fn schema<T: JsonSchema>() -> Map<String, Value> {
    let settings = schemars::generate::SchemaSettings::draft2020_12().with(|settings| {
        settings.inline_subschemas = true;
        settings.meta_schema = None;
    });
    let schema = settings.into_generator().into_root_schema_for::<T>();
    let mut value = schema.to_value();
    trim(&mut value, true);
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

/// Takes out what clients stumble over or pay for: titles, number formats, "or null".
fn trim(value: &mut Value, root: bool) {
    let Value::Object(map) = value else { return };
    for key in ["title", "format", "default", "$schema", "minimum"] {
        map.remove(key);
    }
    if root {
        map.remove("description");
    }
    if let Some(Value::Array(types)) = map.get_mut("type") {
        types.retain(|one| one != "null");
        if let [one] = types.as_slice() {
            let one = one.clone();
            map.insert("type".to_owned(), one);
        }
    }
    if let Some(Value::Array(values)) = map.get_mut("enum") {
        values.retain(|one| !one.is_null());
    }
    if let Some(Value::Object(properties)) = map.get_mut("properties") {
        properties.values_mut().for_each(|property| trim(property, false));
    }
    for inner in ["additionalProperties", "items"] {
        if let Some(inner) = map.get_mut(inner) {
            trim(inner, false);
        }
    }
}

/// How long leases are let go of at the end.
const GOODBYE: Duration = Duration::from_millis(150);

/// How much was asked of one process.
#[derive(Debug, Default)]
pub struct Counts {
    /// Calls.
    pub calls: AtomicU64,
    /// Calls that failed.
    pub failures: AtomicU64,
}

/// What was decided at the start of a process.
#[derive(Debug)]
pub struct Settings {
    /// The longest a call waits.
    pub max_wait: Duration,
    /// Which tools there are.
    pub offer: Offer,
    /// Whether the tools of category `pty` must be told for whom they act.
    pub owner_required: bool,
    /// Which commands are dangerous.
    pub dangerous: Patterns,
}

/// What all calls of one process share.
#[derive(Debug)]
pub struct Desk {
    home: Home,
    surface: Surface,
    client: OnceCell<Arc<Client>>,
    /// What was decided at the start.
    pub settings: Settings,
    /// When it began.
    pub since: Instant,
    /// How much was asked.
    pub counts: Counts,
    /// Commands that are asked about twice.
    pub danger: Danger,
    /// The leases that its clients hold.
    pub leases: Leases,
    /// Programs whose streams are told apart here.
    pub pipes: Pipes,
    /// What the tools of category `pty` remember.
    pub notes: pty::Notes,
    /// Secrets that were typed from here.
    pub masks: Masks,
    /// How far each run has been shown.
    cursors: Mutex<HashMap<Nonce, u64>>,
}

impl Desk {
    /// A desk for this home. Nothing is opened yet.
    pub fn new(home: Home, surface: Surface, settings: Settings) -> Result<Self, Failure> {
        Ok(Self {
            home,
            surface,
            client: OnceCell::new(),
            danger: Danger::new(&settings.dangerous)?,
            settings,
            since: Instant::now(),
            counts: Counts::default(),
            leases: Leases::default(),
            pipes: Pipes::default(),
            notes: pty::Notes::default(),
            masks: Masks::default(),
            cursors: Mutex::default(),
        })
    }

    /// The client, opened when it is first needed.
    pub async fn client(&self) -> Result<&Client, Failure> {
        self.shared_client().await.map(AsRef::as_ref)
    }

    /// The same, for what goes on after the call.
    pub async fn shared_client(&self) -> Result<&Arc<Client>, Failure> {
        let open = async || Client::open(self.home.clone(), &self.surface).map(Arc::new);
        self.client.get_or_try_init(open).await
    }

    /// A secret by its name, for one use. From now on no answer shows it.
    pub async fn secret(&self, name: &str) -> Result<Zeroizing<Vec<u8>>, Failure> {
        let (phrases, name) = (self.home.phrases(), name.to_owned());
        let masks = self.masks.clone();
        let read = tokio::task::spawn_blocking(move || {
            let value = phrases.get(&name)?;
            masks.add(&name, &value);
            Ok(value)
        });
        read.await.map_err(|_| Failure::new(Kind::Internal, "the secret was not read"))?
    }

    /// How long to wait, of what was asked for, and whether that is less.
    pub fn wait(&self, asked: Option<f64>) -> Result<(Duration, bool), Failure> {
        let asked = asked.unwrap_or(25.0);
        let asked = Duration::try_from_secs_f64(asked).map_err(|_| {
            Failure::new(Kind::InvalidArgument, "wait is not a number of seconds from 0 up")
                .with_hint("use 0 for not at all, or leave wait out")
        })?;
        Ok((asked.min(self.settings.max_wait), asked > self.settings.max_wait))
    }

    fn cursors(&self) -> std::sync::MutexGuard<'_, HashMap<Nonce, u64>> {
        self.cursors.lock().expect("nothing panics while it is held")
    }

    /// How far a run has been shown.
    pub fn cursor(&self, job: Nonce) -> u64 {
        self.cursors().get(&job).copied().unwrap_or(0)
    }

    /// A run has been shown up to here.
    pub fn shown(&self, job: Nonce, until: u64) {
        self.cursors().insert(job, until);
    }

    /// Lets go of leases, and says goodbye to relays.
    pub async fn close(&self) {
        if let Some(client) = self.client.get() {
            // Half of the time that there is: who is not told finds out when the leases are over.
            let _ = timeout(GOODBYE, self.leases.release(client)).await;
            client.leave().await;
        }
    }
}

/// A picture that a model looks at.
#[derive(Clone, Debug)]
pub struct Picture {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Its media type, such as `image/png`.
    pub kind: &'static str,
}

/// Who asked, and how to reach them while the answer is being made.
#[derive(Debug)]
pub struct Caller {
    /// Cancelled when the caller is no longer interested.
    pub cancelled: CancellationToken,
    /// Where progress goes, if anybody wants it.
    pub progress: Option<mpsc::Sender<(u64, String)>>,
    /// The picture that goes with the answer, if one does.
    pub picture: Arc<Mutex<Option<Picture>>>,
}

impl Caller {
    /// Does something unless the caller cancels, at whatever point: then it fails with these words.
    pub async fn unless_cancelled<T>(
        &self,
        words: &str,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        tokio::select! {
            // What has noticed by itself says more.
            biased;
            done = work => done,
            () = self.cancelled.cancelled() => Err(Failure::new(Kind::Cancelled, words)),
        }
    }

    /// Adds a picture of this kind to the answer.
    pub fn show(&self, bytes: Vec<u8>, kind: &'static str) {
        let picture = Picture { bytes, kind };
        *self.picture.lock().unwrap_or_else(PoisonError::into_inner) = Some(picture);
    }
}

/// How many characters to show, of what was asked for.
pub fn budget(asked: Option<usize>) -> Budget {
    asked.map_or_else(Budget::default, Budget::new)
}

/// How a run is, or how it ended.
pub fn fate(state: &State) -> Fate {
    match (state.exit, &state.failure) {
        (Some(Exit::Code(code)), _) => Fate::Exit(code),
        (Some(Exit::Signal(number)), _) => Fate::Signal(number),
        (None, Some(failure)) => Fate::Failed(failure.kind),
        (None, None) if state.queued == Some(true) => Fate::Queued,
        (None, None) => Fate::Running,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_call_ends_when_it_is_cancelled_and_says_what_it_says_itself_if_it_does() {
        let cancelled = CancellationToken::new();
        let caller =
            Caller { cancelled: cancelled.clone(), progress: None, picture: Arc::default() };
        let itself = async {
            cancelled.cancelled().await;
            Err::<(), _>(Failure::new(Kind::Cancelled, "by itself"))
        };
        let stuck = caller.unless_cancelled("ended", std::future::pending::<Result<(), Failure>>());
        let itself = caller.unless_cancelled("ended", itself);
        let (stuck, itself, ()) = tokio::join!(stuck, itself, async { cancelled.cancel() });
        assert_eq!(stuck.unwrap_err().message, "ended");
        assert_eq!(itself.unwrap_err().message, "by itself");
    }

    #[test]
    fn a_model_is_told_of_tools_and_not_of_commands() {
        for kind in [Kind::UnknownServer, Kind::ServerPending, Kind::UnknownId, Kind::AlreadyEnded]
        {
            assert!(!next(&Failure::new(kind, "no")).contains('`'), "{kind}");
        }
        // Those of files have the numbers from 100 on.
        for &kind in Kind::ALL.iter().filter(|kind| kind.number() >= 100) {
            let told = Failure::new(kind, "no");
            assert!(!next(&told).contains("--") && !next(&told).contains("`farwire"), "{kind}");
        }
        let own = Failure::new(Kind::UnknownId, "no").with_hint("look there");
        assert_eq!(next(&own), "look there");
    }
}
