//! Asks servers for their roots, and holds the streams that show whether their agents live. What is
//! remembered is in `known_roots.rs`.

use std::sync::Arc;

use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::id::Nonce;
use farwire_protocol::streams::files::Root;
use tokio::time::{sleep, timeout};

use super::{Files, PATIENCE};
use crate::client::{Client, Server};
use crate::conversation::Trouble;
use crate::known_roots::{FRESH, Known};
use crate::runs::control;

/// How often an agent is asked that is another process by the time it has answered.
pub(super) const ATTEMPTS: usize = 3;

/// Asks a server for its roots, and remembers them.
///
/// # Errors
///
/// Why it could not be asked.
pub(super) async fn ask(client: &Client, server: &Server) -> Result<Known, Failure> {
    let asked = timeout(PATIENCE, repeat(client, server)).await;
    asked.unwrap_or_else(|_| Err(Trouble::silent(server).failure))
}

async fn repeat(client: &Client, server: &Server) -> Result<Known, Failure> {
    for _ in 0..ATTEMPTS {
        let instance = process(client, server).await?;
        let facts = control::facts(client, server).await?;
        // Who was there before and is there afterwards has answered in between.
        if process(client, server).await? == instance {
            let known = Known { instance, roots: facts.roots.unwrap_or_default().into() };
            client.roots.remember(server.pin.bundle.id.target(), known.clone());
            return Ok(known);
        }
    }
    Err(restarting(server))
}

/// The roots of a server, as it tells of them now.
pub(crate) async fn list(client: &Client, server: &Server) -> Result<Arc<[Root]>, Failure> {
    Ok(ask(client, server).await?.roots)
}

/// The process that answers now.
async fn process(client: &Client, server: &Server) -> Result<Nonce, Failure> {
    match client.instance(server).await {
        // A handshake that broke off is worth another one, which the question makes.
        Err(failure) if failure.kind == Kind::LinkLost => {
            control::ping(client, server).await?;
            client.instance(server).await
        }
        instance => instance,
    }
}

/// The agent was another process each time.
pub(super) fn restarting(server: &Server) -> Failure {
    let text = format!("`{}`: the agent starts again and again", server.name);
    Failure::new(Kind::LinkLost, text).with_hint("nothing was changed; try again")
}

/// Holds a stream on which everything was answered for a while, as the lifeline of its process.
pub(super) fn watch(client: &Client, server: &Server, mut files: Files) {
    let instance = files.instance();
    client.roots.watch(server.pin.bundle.id.target(), instance, async move {
        tokio::select! {
            // Nothing was asked: whatever comes is the end.
            _ = files.down.next() => {}
            () = sleep(FRESH) => {
                // The other side notices by itself if it does not get this.
                let _ = files.leave().await;
            }
        }
    });
}
