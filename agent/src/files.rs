//! The directories that the owner has opened, and the worker processes that do the work in them.
//!
//! ```text
//!     spec        what the owner says: name, directory, what is allowed
//!     sensitive   what is not opened without being asked twice
//!     worker      one process for each root: started, watched, started again
//!     pipe        one stream's socket to it
//!     audit       what was done, a line for each question
//!     waits       what a file system may never finish
//! ```
//!
//! The agent opens nothing beneath a root itself. It opens the root, hands it to a worker that can
//! open nothing else, and gives each stream that is admitted a socket to it. What a worker does is
//! in the crate `farwire-files`.

mod audit;
pub(crate) mod pipe;
mod sensitive;
pub(crate) mod spec;
pub(crate) mod waits;
mod worker;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::streams::files::{Enter, Root};

use self::audit::Audit;
use self::pipe::Pipe;
use self::spec::Spec;
use self::worker::Worker;
use crate::gate::Allowed;
use crate::gate::principal::Principal;

/// How many bytes of patterns are reported for all roots together: an answer is one message.
const TOLD: usize = 8 << 10;

/// All roots of an agent.
#[derive(Debug)]
pub(crate) struct Roots {
    all: Vec<Arc<Worker>>,
    audit: Audit,
}

impl Roots {
    /// Checks all roots and starts their workers.
    ///
    /// # Errors
    ///
    /// When one of them may not be opened at all. One that is missing now, or does not respond, may
    /// be there later.
    pub(crate) async fn open(specs: &[Spec], state: &Path) -> Result<Self, Failure> {
        let audit = Audit::new(state);
        let worker =
            |spec: &Spec| Arc::new(Worker::new(spec.clone(), state.to_path_buf(), audit.clone()));
        let roots: Vec<_> = specs.iter().map(worker).collect();
        // All at once: each may be on a file system that makes us wait.
        let looks = roots.iter().cloned().map(|root| async move { root.look().await });
        let looks: Vec<_> = looks.map(tokio::spawn).collect();
        for (root, look) in roots.iter().zip(looks) {
            match look.await.unwrap_or(Ok(())) {
                Err(failure) if failure.kind == Kind::Configuration => return Err(failure),
                Err(failure) => tracing::warn!(
                    root = root.name(),
                    "{failure}; it is tried again on the next request"
                ),
                Ok(()) => drop(tokio::spawn(begin(root.clone()))),
            }
        }
        Ok(Self { all: roots, audit })
    }

    /// Their description for others.
    pub(crate) fn list(&self) -> Vec<Root> {
        let mut room = TOLD;
        let told = self.all.iter().map(|worker| {
            let mut root = worker.root();
            let bytes = root.excludes.iter().flatten().map(String::len).sum();
            match room.checked_sub(bytes) {
                Some(left) => room = left,
                None => root.excludes = None,
            }
            root
        });
        told.collect()
    }

    /// The root of this name, or the only one.
    fn find(&self, name: Option<&str>) -> Result<&Arc<Worker>, Failure> {
        let names = || {
            let names: Vec<_> = self.all.iter().map(|worker| worker.name()).collect();
            names.join(", ")
        };
        match (name, self.all.as_slice()) {
            (_, []) => Err(Failure::new(Kind::NoRoot, "this server has no open directory")),
            (None, [only]) => Ok(only),
            (None, _) => {
                let text = format!("this server has several roots: {}", names());
                Err(Failure::new(Kind::NoRoot, text).with_hint("name one of them"))
            }
            (Some(name), all) => all.iter().find(|worker| worker.name() == name).ok_or_else(|| {
                let shown: String = name.chars().filter(|c| !c.is_control()).take(40).collect();
                let text = format!("this server has no root `{shown}`");
                Failure::new(Kind::NoRoot, text).with_hint(format!("it has {}", names()))
            }),
        }
    }

    /// A pipe to a root's worker, for one stream on behalf of `who`.
    pub(crate) async fn enter(
        &self,
        enter: Allowed<Enter>,
        who: &Principal,
    ) -> Result<Pipe, Failure> {
        let entered = match self.find(enter.root.as_deref()) {
            Ok(root) => root.enter(&enter, who).await,
            Err(failure) => Err(failure),
        };
        if let Err(failure) = &entered {
            self.audit.record_refusal(&enter, &who.line(), failure).await;
        }
        entered
    }
}

/// Starts the worker of a root before it is needed.
async fn begin(root: Arc<Worker>) {
    if let Err(failure) = root.ready().await {
        tracing::warn!(root = root.name(), %failure, "a root cannot be served now");
    }
}

/// Refuses what may not be opened, before it is recorded.
pub(crate) fn check(specs: &[Spec], state: &Path) -> Result<(), Failure> {
    let own = own_things(state);
    let open = |spec: &Spec| sensitive::open(&spec.dir, &own, spec.allow_sensitive).map(drop);
    specs.iter().try_for_each(open)
}

/// Makes a directory that only the agent's user may look into.
fn private_directory(path: &Path) -> std::io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.recursive(true).create(path)
}

/// The files of this agent on this machine, which nobody else may touch.
fn own_things(state: &Path) -> Vec<PathBuf> {
    // The suffix of a program that was replaced while it runs.
    let plain = |exe: PathBuf| match exe.to_str().and_then(|exe| exe.strip_suffix(" (deleted)")) {
        Some(plain) => PathBuf::from(plain),
        None => exe,
    };
    let exe = std::env::current_exe().ok().map(plain);
    let user = std::env::var_os("XDG_CONFIG_HOME").map(PathBuf::from);
    let user = user.filter(|user| user.is_absolute()).map(|user| user.join("systemd"));
    let units = ["/etc/systemd", "/run/systemd"].map(PathBuf::from);
    exe.into_iter().chain(user).chain([state.to_path_buf()]).chain(units).collect()
}
