//! The settings file of `farwire-agent run`. Options override it.

use std::path::Path;

use farwire_protocol::address::valid_address;
use farwire_protocol::failure::{Failure, Kind};
use serde::Deserialize;

/// What a file may hold. An unknown key is an error.
#[derive(Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Config {
    /// What to log, as in `--log`.
    pub(crate) log: Option<String>,
    /// The addresses of the relay, `HOST:PORT`, in place of those at the enrollment. Its key stays
    /// the same.
    pub(crate) relay: Option<Vec<String>>,
    /// At most this many sessions may be open at once; 10,000 by default.
    pub(crate) sessions: Option<usize>,
}

/// A relay has at most this many addresses.
const ADDRESSES: usize = 8;

impl Config {
    /// Reads a file.
    pub(crate) fn read(path: &Path) -> Result<Self, Failure> {
        let text = std::fs::read_to_string(path).map_err(|error| bad(path, &error))?;
        Self::parse(&text).map_err(|why| bad(path, &why))
    }

    fn parse(text: &str) -> Result<Self, String> {
        let config: Self = toml::from_str(text).map_err(|error| error.to_string())?;
        if let Some(relay) = &config.relay {
            if relay.is_empty() || relay.len() > ADDRESSES {
                return Err(format!("relay needs 1 to {ADDRESSES} addresses"));
            }
            if let Some(wrong) = relay.iter().find(|address| !valid_address(address)) {
                return Err(format!("relay must be HOST:PORT, not `{wrong}`"));
            }
        }
        Ok(config)
    }
}

fn bad(path: &Path, why: &dyn std::fmt::Display) -> Failure {
    let why = why.to_string();
    let text = format!("{} cannot be used: {}", path.display(), why.trim_end().replace('\n', " "));
    Failure::new(Kind::Configuration, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_is_read_and_everything_else_is_named() {
        let config = Config::parse("log = 'debug'\nrelay = ['a.example:4433', '[::1]:1']").unwrap();
        assert_eq!((config.log.as_deref(), config.relay.unwrap().len()), (Some("debug"), 2));
        assert_eq!(Config::parse("").unwrap(), Config::default());
        for (text, word) in [
            ("relay = []", "1 to 8"),
            ("relay = ['a:1', 'b']", "`b`"),
            ("relays = ['a:1']", "relays"),
            ("log = 1", "log"),
            ("log =", "log"),
            ("sessions = -1", "sessions"),
        ] {
            assert!(Config::parse(text).unwrap_err().contains(word), "{text}");
        }
    }

    #[test]
    fn any_text_is_read_without_a_panic() {
        bolero::check!().with_type::<String>().for_each(|text| drop(Config::parse(text)));
    }
}
