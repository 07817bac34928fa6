//! `file_checksum`: the SHA-256 of files.

use data_encoding::HEXLOWER;
use farwire_protocol::failure::Failure;
use farwire_protocol::quote::quote;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::files::place::ServerPath;
use crate::files::site::Face;
use crate::text::Word;
use crate::text::header::{Header, Key};
use crate::text::table::Table;
use crate::tools::arguments::budget;
use crate::tools::caller::Caller;
use crate::tools::seat::Seat;
use crate::tools::tool::{Effect, Tool};
use crate::verbs::files::checksum::Checksum;

/// The arguments of `file_checksum`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FileChecksum {
    /// Server name.
    pub server: String,
    /// File or directory on the server.
    pub path: String,
    /// Include all files in a directory.
    pub recursive: Option<bool>,
}

impl Tool for FileChecksum {
    const NAME: &'static str = "file_checksum";
    const TITLE: &'static str = "Checksum of files";
    const ABOUT: &'static str =
        "SHA-256 of a file on a server, or of all files in a directory, as the server reads them.";
    const EFFECT: Effect = Effect::READS;

    async fn call(self, seat: &Seat, _: &Caller) -> Result<String, Failure> {
        let client = seat.client().await?;
        let path = ServerPath::new(&self.server, &self.path);
        let recursive = self.recursive.unwrap_or(false);
        let answer = Checksum { path: &path, recursive }.carry_out(client, Face::Mcp).await?;
        let mut table = Table::new().limit(0, 64).limit(1, 4_096);
        for sum in &answer.sums {
            table.row([&HEXLOWER.encode(&sum.hash), &*quote(&sum.path)]);
        }
        for one in &answer.missed {
            table.row(["unreadable", &*one.to_text()]);
        }
        let (text, shown) = table.within(budget(None));
        let header =
            Header::new(Word::File).value(&answer.place.to_text()).field(Key::Entries, shown);
        Ok(format!("{}\n{text}", header.end()))
    }
}
