//! `checksum`: the SHA-256 of files. The server reads them; no content is transferred.

use clap::Args;
use data_encoding::HEXLOWER;
use farwire_protocol::failure::Failure;
use farwire_protocol::quote::quote;
use serde_json::json;

use super::look::put_text;
use super::unfinished::incomplete;
use crate::cli::output::{Json, print_json};
use crate::client::Client;
use crate::files::place::ServerPath;
use crate::files::site::Face;
use crate::files::sums::Sum;
use crate::verbs::files::checksum::Checksum as Sums;

/// Print the SHA-256 of files on a server, as sha256sum does, without transferring them
///
/// The server reads the files. A path is printed as it was given, without the server, so that
/// `sha256sum -c` can check copies of the files here. What cannot be read is named, and the exit
/// code is 2.
#[derive(Args, Debug)]
pub(crate) struct Checksum {
    /// The files: SERVER:PATH
    #[arg(required = true)]
    files: Vec<ServerPath>,
    /// Include all files in a directory
    #[arg(short, long)]
    recursive: bool,
    #[command(flatten)]
    pub(crate) json: Json,
}

impl Checksum {
    pub(super) async fn carry_out(&self, client: &Client) -> Result<u8, Failure> {
        let (mut all, mut missed) = (Vec::new(), Vec::new());
        for file in &self.files {
            let sums = Sums { path: file, recursive: self.recursive };
            let answer = sums.carry_out(client, Face::Cli).await?;
            if !self.json.json {
                put_text(&answer.sums.iter().flat_map(line).collect::<Vec<_>>())?;
            }
            all.extend(answer.sums);
            missed.extend(answer.missed);
        }
        let shown = |sum: &Sum| {
            json!({
                "path": quote(&sum.path), "sha256": HEXLOWER.encode(&sum.hash), "size": sum.size,
            })
        };
        if self.json.json {
            print_json(&all.iter().map(shown).collect::<Vec<_>>())?;
        }
        Ok(match missed.first() {
            Some(first) => {
                let text = format!("{} of the files cannot be read", missed.len());
                incomplete(&missed, &Failure::new(first.why.kind, text))
            }
            None => 0,
        })
    }
}

/// A line as sha256sum writes it: it begins with a backslash if the name has escapes.
fn line(sum: &Sum) -> Vec<u8> {
    let mut escaped = Vec::new();
    for byte in &sum.path {
        match byte {
            b'\\' => escaped.extend(b"\\\\"),
            b'\n' => escaped.extend(b"\\n"),
            b'\r' => escaped.extend(b"\\r"),
            other => escaped.push(*other),
        }
    }
    let mark: &[u8] = if escaped == sum.path { b"" } else { b"\\" };
    [mark, HEXLOWER.encode(&sum.hash).as_bytes(), b"  ", &escaped, b"\n"].concat()
}

#[cfg(test)]
mod tests {
    use farwire_protocol::cbor::Blob;

    use super::*;

    #[test]
    fn a_line_is_one_of_sha256sum() {
        let of = |path: &[u8]| line(&Sum { path: path.to_vec(), hash: Blob(vec![0xab]), size: 1 });
        assert_eq!(of(b"a b"), b"ab  a b\n");
        assert_eq!(of(b"a\\b\nc"), b"\\ab  a\\\\b\\nc\n");
        assert_eq!(of(b"caf\xe9"), b"ab  caf\xe9\n");
    }
}
