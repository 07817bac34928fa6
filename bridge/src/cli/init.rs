//! `farwire init`: this device's identity, and its workspace at a relay.

use std::ffi::OsString;
use std::fs::File;
use std::io::{BufRead as _, Read as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use clap::Args;
use farwire_keystore::Home;
use farwire_link::outer::congestion::Attended;
use farwire_link::outer::dial::{self, Identity};
use farwire_protocol::address::RelayUrl;
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::header::Reset;
use farwire_protocol::id::Kind as IdKind;
use farwire_protocol::outer::Role;

use crate::build::BUILD;
use crate::cli::output::{Json, print, print_json};
use crate::cli::runtime::runtime;
use crate::machine::{random_nonce, unix_time};

/// The longest URL.
const LIMIT: u64 = 8192;

#[derive(Args, Debug)]
pub(crate) struct Init {
    /// The relay's URL, as `farwire-relay serve` prints it; `-` reads it from standard input, where
    /// other users of this machine cannot see the invite in it
    #[arg(long, value_name = "URL")]
    relay: String,
    /// The name of the workspace, and of this device on its servers
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    #[command(flatten)]
    pub(crate) json: Json,
}

impl Init {
    pub(crate) fn carry_out(&self, place: &Path) -> Result<(), Failure> {
        let url = self.url()?;
        let home = Home::create(place)?;
        if home.workspace()?.is_some() {
            let message = format!("{} has an identity and a workspace already", place.display());
            return Err(Failure::new(Kind::AlreadyInitialized, message));
        }
        let name = self.name.clone().unwrap_or_else(default_name);
        if !farwire_protocol::outer::valid_name(&name) {
            let message = format!("--name: `{}` is not a valid name", name.escape_default());
            return Err(Failure::new(Kind::InvalidArgument, message)
                .with_hint("use 1 to 64 letters, digits, `-`, `_` or `.`"));
        }
        // A retry after the relay could not be reached reuses the identity that was created.
        let identity = match home.identity()? {
            Some(identity) => identity,
            None => home.create_identity(&home.lock()?, &name, unix_time())?,
        };
        let genesis = home.genesis()?.ok_or_else(|| {
            Failure::new(Kind::KeystoreCorrupt, "the workspace's first event is missing")
        })?;
        let transport = identity.open_transport()?;
        let fingerprint = transport.bundle.id.fingerprint(IdKind::Device);
        let hello = Identity {
            role: Role::Device,
            bundle: transport.bundle,
            kt: transport.kt,
            instance: random_nonce()?,
            build: BUILD.to_owned(),
            found: url.invite.clone().map(|invite| (invite, genesis)),
            enrollment: None,
            attended: Attended::default(),
        };
        runtime()?.block_on(async {
            let connection = dial::dial(&url.relay, &hello).await?;
            let welcome = connection.welcome().await;
            connection.shut(Reset::Closing).await;
            welcome
        })?;
        home.set_relay(&home.lock()?, &url.relay)?;
        if self.json.json {
            return print_json(&serde_json::json!({
                "workspace": name, "fingerprint": fingerprint, "home": place.display().to_string(),
            }));
        }
        print(&format!(
            "workspace `{name}` is ready; this device is {fingerprint}\n\
             next: `farwire server create NAME` prints the command that enrolls a server\n"
        ))
    }

    fn url(&self) -> Result<RelayUrl, Failure> {
        let mut text = self.relay.clone();
        let given = text != "-";
        if !given {
            text.clear();
            // One line only: after pasting it, the user presses Enter.
            let mut input = std::io::stdin().lock().take(LIMIT);
            while text.trim().is_empty()
                && input
                    .read_line(&mut text)
                    .map_err(|error| Failure::new(Kind::Io, format!("standard input: {error}")))?
                    > 0
            {}
        }
        // The whole line that the relay prints is accepted, too.
        let line = text.trim().strip_prefix("ready ").unwrap_or_else(|| text.trim()).trim();
        let url: RelayUrl = line.parse().map_err(|error: farwire_protocol::address::BadUrl| {
            Failure::new(Kind::InvalidArgument, format!("--relay: {error}")).with_hint(
                "copy the whole line that `farwire-relay serve` or `farwire-relay invite` printed",
            )
        })?;
        if given && url.invite.is_some() {
            return Err(self.begin_again(line));
        }
        Ok(url)
    }

    /// Replaces this process by one that reads the URL from standard input, so that the invite does
    /// not stay on a command line while the relay is asked. Returns only if that fails.
    fn begin_again(&self, url: &str) -> Failure {
        let begun = || -> std::io::Result<std::convert::Infallible> {
            let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
            // An empty pipe holds more than the longest URL.
            File::from(write).write_all(format!("{url}\n").as_bytes())?;
            let whole = OsString::from(format!("--relay={}", self.relay));
            let arguments = std::env::args_os().skip(1).map(|argument| {
                if argument == whole {
                    OsString::from("--relay=-")
                } else if argument == self.relay.as_str() {
                    OsString::from("-")
                } else {
                    argument
                }
            });
            Err(Command::new(std::env::current_exe()?).args(arguments).stdin(read).exec())
        };
        let Err(error) = begun();
        Failure::new(Kind::Io, format!("the invite cannot be taken off the command line: {error}"))
            .with_hint("run `farwire init --relay -` and paste the URL")
    }
}

/// The host's name, reduced to the characters that names may have.
fn default_name() -> String {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let host: String =
        host.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').take(40).collect();
    let host = host.trim_start_matches('-').to_owned();
    if host.is_empty() { "home".to_owned() } else { host }
}
