//! Arguments of commands about files.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;

use clap::builder::{OsStringValueParser, TypedValueParser, ValueParser};

use crate::files::place::ServerPath;
use crate::verbs::files::revision;

/// Parses a path on a server from the bytes of an argument.
#[derive(Clone, Debug)]
struct ServerPathParser;

impl TypedValueParser for ServerPathParser {
    type Value = ServerPath;

    fn parse_ref(
        &self,
        command: &clap::Command,
        argument: Option<&clap::Arg>,
        value: &OsStr,
    ) -> Result<ServerPath, clap::Error> {
        let read = OsStringValueParser::new().try_map(|value| {
            ServerPath::parse(value.as_bytes()).ok_or_else(|| "not SERVER:PATH".to_owned())
        });
        read.parse_ref(command, argument, value)
    }
}

impl clap::builder::ValueParserFactory for ServerPath {
    type Parser = ValueParser;

    fn value_parser() -> ValueParser {
        ValueParser::new(ServerPathParser)
    }
}

/// A revision, as it is shown and given.
pub(super) fn parse_revision(text: &str) -> Result<u64, String> {
    revision(text).ok_or_else(|| "a revision is 12 hexadecimal digits".to_owned())
}
