//! Whether what is here is like what is on a server.

use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::streams::files::{Entry, What};

use super::everything::{Listed, everything};
use super::transfer::ends::Transfer;
use super::transfer::local::{LocalEntry, file_hash};

/// What is on the server: nothing, where it will be made.
pub(super) async fn there(transfer: &Transfer<'_>, hashes: bool) -> Result<Listed, Failure> {
    let mut files = transfer.enter().await?;
    match everything(transfer.client, &mut files, &transfer.remote, hashes).await {
        Err(failure) if failure.kind == Kind::NoSuchFile && transfer.upward => {
            Ok(Listed::default())
        }
        listed => listed,
    }
}

/// How something here is like something there.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Like {
    /// In all that is compared.
    Same,
    /// It has the same content and other rights; or it is a directory, of another time perhaps.
    Rights,
    /// It is a file, too.
    Kind,
    /// It is not even of the same kind.
    Nothing,
}

/// Compares what is here with what is there.
pub(super) async fn like(
    here: &LocalEntry,
    there: &Entry,
    by_content: bool,
) -> Result<Like, Failure> {
    let dressed = here.mode == there.mode & 0o777 && here.modified == there.modified;
    let alike = if dressed { Like::Same } else { Like::Rights };
    match there.what {
        What::Directory if here.directory => return Ok(alike),
        What::File if !here.directory => {}
        _ => return Ok(Like::Nothing),
    }
    if here.size != there.size {
        return Ok(Like::Kind);
    }
    if by_content {
        // What cannot be read is compared by its time, and said when it is sent.
        let mine = file_hash(&here.path).await.ok();
        let same = mine.is_some() && there.hash.as_ref().map(|hash| &hash.0) == mine.as_ref();
        return Ok(if same { alike } else { Like::Kind });
    }
    Ok(if here.modified == there.modified { alike } else { Like::Kind })
}
