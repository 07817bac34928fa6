//! `checksum`: what files hold, in 32 bytes. The server reads them; no content comes over.

use clap::Args;
use data_encoding::HEXLOWER;
use farwire_protocol::failure::Failure;
use serde_json::json;

use super::Remote;
use super::look::put_text;
use crate::cli::{Json, print_json};
use crate::client::Client;
use crate::files::sums::{Sum, sums};

/// Print the SHA-256 of files of a server, as sha256sum does; no content comes over
///
/// The server reads the files. A path is printed as it was given, without the server, so that
/// `sha256sum -c` takes it where the same files are here.
#[derive(Args, Debug)]
pub(crate) struct Checksum {
    /// Which files: SERVER:PATH
    #[arg(required = true)]
    files: Vec<Remote>,
    /// All files in a directory
    #[arg(short, long)]
    recursive: bool,
    #[command(flatten)]
    pub(crate) json: Json,
}

impl Checksum {
    pub(super) async fn carry_out(&self, client: &Client) -> Result<(), Failure> {
        let mut all = Vec::new();
        for file in &self.files {
            let mut at = file.enter(client).await?;
            let named = (&at.place, file.path.as_str());
            let sums = sums(client, &mut at.files, named, self.recursive).await?;
            if !self.json.json {
                put_text(sums.iter().map(line).collect::<String>().as_bytes())?;
            }
            all.extend(sums);
        }
        let shown = |sum: &Sum| {
            json!({
                "path": String::from_utf8_lossy(&sum.path), "sha256": HEXLOWER.encode(&sum.hash), "size": sum.size,
            })
        };
        match self.json.json {
            true => print_json(&all.iter().map(shown).collect::<Vec<_>>()),
            false => Ok(()),
        }
    }
}

/// A line as sha256sum writes it: one that begins with a backslash has some in the name.
fn line(sum: &Sum) -> String {
    let path = String::from_utf8_lossy(&sum.path);
    let escaped = path.replace('\\', "\\\\").replace('\n', "\\n").replace('\r', "\\r");
    let mark = if escaped == path { "" } else { "\\" };
    format!("{mark}{}  {escaped}\n", HEXLOWER.encode(&sum.hash))
}

#[cfg(test)]
mod tests {
    use farwire_protocol::cbor::Blob;

    use super::*;

    #[test]
    fn a_line_is_one_of_sha256sum() {
        let of = |path: &[u8]| line(&Sum { path: path.to_vec(), hash: Blob(vec![0xab]), size: 1 });
        assert_eq!(of(b"a b"), "ab  a b\n");
        assert_eq!(of(b"a\\b\nc"), "\\ab  a\\\\b\\nc\n");
    }
}
