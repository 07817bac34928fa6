//! The commands of a session, page by page.

use std::time::Duration;

use farwire_protocol::id::Nonce;
use farwire_protocol::streams::session::{Command, Commands, Ended, Request};

use super::ask;
use crate::client::{Client, Server};
use crate::runs::answer::NoAnswer;

/// How long an agent may take over one page.
const PATIENCE: Duration = Duration::from_secs(20);

/// Returns the latest commands, oldest first, at most `limit`, and the state of the session.
pub async fn latest(
    client: &Client,
    server: &Server,
    session: Nonce,
    limit: u32,
) -> Result<(Vec<Command>, Ended), NoAnswer> {
    let wanted = usize::try_from(limit).unwrap_or(usize::MAX);
    let mut pages: Vec<Vec<Command>> = Vec::new();
    let (mut count, mut before) = (0, None);
    loop {
        let left = u32::try_from(wanted.saturating_sub(count)).unwrap_or(u32::MAX);
        let request = Request::Commands(Commands { session, limit: left, before });
        let mut ended = ask(client, server, &request, PATIENCE).await?.ended;
        let page = ended.commands.take().unwrap_or_default();
        let first = page.first().map(|command| command.number);
        count += page.len();
        pages.push(page);
        // Numbers must decrease from page to page.
        let goes_on = ended.more == Some(true) && count < wanted;
        match first.filter(|&first| goes_on && before.is_none_or(|before| first < before)) {
            Some(first) => before = Some(first),
            None => return Ok((pages.into_iter().rev().flatten().collect(), ended)),
        }
    }
}
