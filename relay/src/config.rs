//! The relay's settings: options, then the file, then defaults.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use farwire_protocol::address::valid_address;
use farwire_protocol::failure::{Failure, Kind};
use serde::Deserialize;

use crate::cli::{LogFormat, Serve};

/// Settings with nothing left open.
#[derive(Debug)]
pub(crate) struct Config {
    pub(crate) listen: SocketAddr,
    pub(crate) advertise: Option<String>,
    pub(crate) http: SocketAddr,
    pub(crate) data: PathBuf,
    pub(crate) keylog: Option<PathBuf>,
    pub(crate) log: String,
    pub(crate) log_format: LogFormat,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct File {
    listen: Option<SocketAddr>,
    advertise: Option<String>,
    http: Option<SocketAddr>,
    data: Option<PathBuf>,
    keylog: Option<PathBuf>,
    log: Option<String>,
    log_format: Option<LogFormat>,
}

impl Config {
    pub(crate) fn load(options: Serve) -> Result<Self, Failure> {
        let file = match &options.config {
            Some(path) => {
                let bad = |error: &dyn std::fmt::Display| {
                    let text = format!("{} cannot be used: {error}", path.display());
                    Failure::new(Kind::Configuration, text.trim_end().replace('\n', " "))
                };
                let text = fs::read_to_string(path).map_err(|error| bad(&error))?;
                toml::from_str(&text).map_err(|error| bad(&error))?
            }
            None => File::default(),
        };
        let advertise = options.advertise.or(file.advertise);
        if let Some(address) = advertise.as_ref().filter(|address| !valid_address(address)) {
            let message = format!("--advertise must be HOST:PORT, not `{address}`");
            return Err(Failure::new(Kind::InvalidArgument, message));
        }
        let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 4433));
        let local = SocketAddr::from((Ipv4Addr::LOCALHOST, 4480));
        Ok(Self {
            listen: options.listen.or(file.listen).unwrap_or(any),
            advertise,
            http: options.http.or(file.http).unwrap_or(local),
            data: data(options.data.or(file.data))?,
            keylog: options.keylog.or(file.keylog),
            log: options.log.or(file.log).unwrap_or_else(|| "info".to_owned()),
            log_format: options.log_format.or(file.log_format).unwrap_or(LogFormat::Text),
        })
    }
}

/// The data directory: as given, or the usual place.
pub(crate) fn data(given: Option<PathBuf>) -> Result<PathBuf, Failure> {
    if let Some(given) = given {
        return Ok(given);
    }
    if rustix::process::geteuid().is_root() {
        return Ok(PathBuf::from("/var/lib/farwire-relay"));
    }
    let home = std::env::var_os("HOME").filter(|home| !home.is_empty()).ok_or_else(|| {
        Failure::new(Kind::Configuration, "HOME is not set")
            .with_hint("name a directory with --data")
    })?;
    Ok(PathBuf::from(home).join(".local/state/farwire-relay"))
}
