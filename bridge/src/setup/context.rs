//! Where `farwire setup` runs: facts from the operating system, and the tools that we offer.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

use farwire_protocol::failure::{Failure, Kind};

/// One of our tools, as far as clients need to know about it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Tool {
    /// Its name.
    pub name: &'static str,
    /// Whether it changes nothing anywhere.
    pub read_only: bool,
}

/// Our surroundings: everything that the command line of `setup` itself does not say.
#[derive(Clone)]
pub struct Context {
    /// Our own program, as an absolute path.
    pub exe: PathBuf,
    /// The user's home directory.
    pub user_home: PathBuf,
    /// The current directory.
    pub cwd: PathBuf,
    /// The bridge's directory, where `--home` or `FARWIRE_HOME` named one.
    pub farwire_home: Option<PathBuf>,
    /// The environment.
    pub env: BTreeMap<OsString, OsString>,
    /// The tools that every client must see.
    pub tools: Vec<Tool>,
}

impl Context {
    /// Asks the operating system. `farwire_home` is what `--home` or `FARWIRE_HOME` named.
    pub fn of_process(farwire_home: Option<PathBuf>, tools: &[Tool]) -> Result<Self, Failure> {
        let failed = |what: &'static str| move |error| Failure::caused(Kind::Io, what, &error);
        let exe = std::env::current_exe().and_then(|exe| exe.canonicalize());
        let home = std::env::home_dir().filter(|home| home.is_absolute());
        let no_home = || {
            Failure::new(Kind::Configuration, "the home directory is not known")
                .with_hint("set `HOME` to an absolute path")
        };
        Ok(Self {
            exe: exe.map_err(failed("the path of this program is not known"))?,
            user_home: home.ok_or_else(no_home)?,
            cwd: std::env::current_dir().map_err(failed("the current directory is not known"))?,
            farwire_home,
            env: std::env::vars_os().collect(),
            tools: tools.to_vec(),
        })
    }
}

impl fmt::Debug for Context {
    /// Without the environment, which may hold secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("exe", &self.exe)
            .field("user_home", &self.user_home)
            .field("cwd", &self.cwd)
            .field("farwire_home", &self.farwire_home)
            .field("tools", &self.tools)
            .finish_non_exhaustive()
    }
}
