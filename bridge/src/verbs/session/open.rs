//! Opens a session, or takes up the one of that name.

use std::time::Duration;

use farwire_protocol::cbor::Blob;
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::id::Nonce;
use farwire_protocol::streams::run::{Program, Variable};
use farwire_protocol::streams::session::{Caller, Labels, Limits, Request, Size, Start};

use crate::client::{Client, Server};
use crate::handles::Handle;
use crate::machine::random_nonce;
use crate::runs::answer::NoAnswer;
use crate::sessions::{SessionReply, ask};

/// How long a session may take to open.
const PATIENCE: Duration = Duration::from_secs(25);

/// The most columns, and the most rows, of a terminal.
const LARGEST: u16 = 1_000;

/// The size of a terminal for which none is asked.
pub const USUAL: Size = Size { cols: 120, rows: 40 };

/// Opens a session.
#[derive(Clone, Debug)]
pub struct OpenSession {
    /// Its name. A session of this name that runs is taken up, unless `new` is set; without a name
    /// the server chooses one.
    pub name: Option<String>,
    /// Its program; by default the user's login shell.
    pub program: Option<Program>,
    /// Where it runs; by default the user's home.
    pub cwd: Option<Blob>,
    /// Environment variables that it gets besides.
    pub env: Option<Vec<Variable>>,
    /// The user that it runs as; by default the agent's own.
    pub user: Option<String>,
    /// The size of its terminal.
    pub size: Size,
    /// Whether another session is opened where one of this name runs.
    pub new: Option<bool>,
    /// Whether the stream that opens it stays attached.
    pub attach: Option<bool>,
    /// Its program is killed after this time.
    pub timeout_ms: Option<u64>,
    /// The client and the owner that it is opened for.
    pub caller: Option<Caller>,
    /// Its labels.
    pub labels: Option<Labels>,
    /// Its limits.
    pub limits: Option<Limits>,
}

impl Default for OpenSession {
    fn default() -> Self {
        Self {
            name: None,
            program: None,
            cwd: None,
            env: None,
            user: None,
            size: USUAL,
            new: None,
            attach: None,
            timeout_ms: None,
            caller: None,
            labels: None,
            limits: None,
        }
    }
}

/// A session that was opened or taken up.
#[derive(Clone, Debug)]
pub struct Opened {
    /// The session.
    pub handle: Handle,
    /// How it is, and what its screen shows.
    pub answer: SessionReply,
}

impl OpenSession {
    /// Opens it, and waits until its screen shows something.
    ///
    /// # Errors
    ///
    /// What the server says, and `outcome_unknown` where it does not say whether it was opened.
    pub async fn carry_out(self, client: &Client, server: &Server) -> Result<Opened, Failure> {
        let start = self.start(random_nonce()?, client.instance(server).await?);
        let answer = ask(client, server, &Request::Open(start), PATIENCE).await;
        let answer = answer.map_err(NoAnswer::failure)?;
        let handle = Handle::of_session(client, server, answer.ended.status.session)?;
        Ok(Opened { handle, answer })
    }

    /// The request, under an id of its own, for those that stay attached.
    pub fn start(self, request: Nonce, instance: Nonce) -> Start {
        Start {
            request,
            instance,
            name: self.name,
            program: self.program,
            cwd: self.cwd,
            env: self.env,
            user: self.user,
            size: self.size,
            attach: self.attach,
            new: self.new,
            timeout_ms: self.timeout_ms,
            caller: self.caller,
            labels: self.labels,
            limits: self.limits,
        }
    }
}

/// Checks the size of a terminal. One that cannot be is a mistake, and is not brought within bounds
/// in silence.
///
/// # Errors
///
/// `invalid_argument`, with the bounds.
pub fn size(cols: u16, rows: u16) -> Result<Size, Failure> {
    match (1..=LARGEST).contains(&cols) && (1..=LARGEST).contains(&rows) {
        true => Ok(Size { cols, rows }),
        false => {
            let text = format!("{cols}x{rows}: columns and rows are between 1 and {LARGEST}");
            Err(Failure::new(Kind::InvalidArgument, text))
        }
    }
}
