//! The relay's settings: command line options, then the file, then defaults.

use std::fmt::Display;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use farwire_protocol::address::valid_address;
use farwire_protocol::failure::{Failure, Kind};
use serde::Deserialize;

/// The options of `farwire-relay serve`.
#[derive(Args, Debug, Default)]
pub(crate) struct ServeOptions {
    /// A TOML file of the options below, without the leading dashes
    #[arg(long, value_name = "FILE", env = "FARWIRE_RELAY_CONFIG")]
    config: Option<PathBuf>,
    /// Where to listen for QUIC [default: 0.0.0.0:4433]
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
    /// The address that URLs and tokens name, HOST:PORT [default: the primary address]
    #[arg(long, value_name = "HOST:PORT")]
    advertise: Option<String>,
    /// Where to serve /livez, /readyz and /metrics [default: 127.0.0.1:4480]
    #[arg(long, value_name = "ADDR")]
    http: Option<SocketAddr>,
    /// Where to keep keys and records [default: /var/lib/farwire-relay, or below ~/.local/state]
    #[arg(long, value_name = "DIR", env = "FARWIRE_RELAY_DATA")]
    data: Option<PathBuf>,
    /// Append TLS session secrets to this file, for Wireshark and the like (debugging)
    #[arg(long, value_name = "FILE")]
    keylog: Option<PathBuf>,
    /// What to log on standard error: error, warn, info, debug, trace, or a filter [default: info]
    #[arg(long, value_name = "FILTER", env = "FARWIRE_LOG")]
    log: Option<String>,
    /// Format of log lines [default: text]
    #[arg(long, value_enum)]
    log_format: Option<LogFormat>,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    /// Lines for people.
    Text,
    /// One JSON object a line.
    Json,
}

/// The settings, with nothing left open.
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
struct ConfigFile {
    listen: Option<SocketAddr>,
    advertise: Option<String>,
    http: Option<SocketAddr>,
    data: Option<PathBuf>,
    keylog: Option<PathBuf>,
    log: Option<String>,
    log_format: Option<LogFormat>,
}

impl Config {
    pub(crate) fn load(options: ServeOptions) -> Result<Self, Failure> {
        let file = options.config.as_deref().map(read_file).transpose()?.unwrap_or_default();
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
            data: data_path(options.data.or(file.data))?,
            keylog: options.keylog.or(file.keylog),
            log: options.log.or(file.log).unwrap_or_else(|| "info".to_owned()),
            log_format: options.log_format.or(file.log_format).unwrap_or(LogFormat::Text),
        })
    }
}

fn read_file(path: &Path) -> Result<ConfigFile, Failure> {
    let unusable = |error: &dyn Display| {
        let text = format!("{} cannot be used: {error}", path.display());
        Failure::new(Kind::Configuration, text.trim_end().replace('\n', " "))
    };
    let text = fs::read_to_string(path).map_err(|error| unusable(&error))?;
    toml::from_str(&text).map_err(|error| unusable(&error))
}

/// Returns the data directory: the given one, or the default for this user.
pub(crate) fn data_path(given: Option<PathBuf>) -> Result<PathBuf, Failure> {
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Loads a file's settings with an option for the data directory, as the default depends on the
    /// user.
    fn load(text: &str, options: ServeOptions) -> Result<Config, Failure> {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("relay.toml");
        fs::write(&path, text).unwrap();
        let data = Some(options.data.unwrap_or_else(|| "/data".into()));
        Config::load(ServeOptions { config: Some(path), data, ..options })
    }

    #[test]
    fn an_option_is_before_the_file_and_that_before_the_default() {
        let file = "listen = \"192.0.2.1:1\"\nhttp = \"192.0.2.1:2\"\nlog-format = \"json\"\n";
        let listen = Some("192.0.2.9:9".parse().unwrap());
        let config = load(file, ServeOptions { listen, ..ServeOptions::default() }).unwrap();
        assert_eq!(config.listen, "192.0.2.9:9".parse().unwrap());
        assert_eq!(config.http, "192.0.2.1:2".parse().unwrap());
        assert_eq!((config.log.as_str(), config.log_format), ("info", LogFormat::Json));
        assert_eq!(config.data, PathBuf::from("/data"));
    }

    #[test]
    fn a_file_with_an_unknown_name_and_an_address_without_a_port_are_refused() {
        let refused = |text| load(text, ServeOptions::default()).unwrap_err();
        let failure = refused("lisen = \"192.0.2.1:1\"\n");
        assert_eq!(failure.kind, Kind::Configuration);
        assert!(!failure.message.contains('\n'), "{}", failure.message);
        assert_eq!(refused("advertise = \"example.org\"\n").kind, Kind::InvalidArgument);
        let missing = ServeOptions { config: Some("/nowhere".into()), ..ServeOptions::default() };
        assert_eq!(Config::load(missing).unwrap_err().kind, Kind::Configuration);
    }
}
