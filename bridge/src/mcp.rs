//! The tools over MCP. [`stdio`] runs the process that a client starts, `lines` reads the client's
//! messages, `handler` answers them, and `instructions` holds what its model is told first.

mod handler;
mod instructions;
mod lines;
mod parent;
pub mod stdio;

use crate::build::BUILD;
use crate::text::neutral::neutral_within;
use crate::tools::offer::Offer;

/// The line that is printed on standard error at the start.
pub fn banner(client: Option<&str>, offer: &Offer) -> String {
    let client = client.map(|client| format!(", client {}", neutral_within(client, 40)));
    let client = client.unwrap_or_default();
    let scope = neutral_within(offer.scope(), 200);
    let (listed, findable) = (offer.list().len(), offer.findable().len());
    format!("{BUILD}: MCP on stdio, scope {scope}, listed {listed}, findable {findable}{client}")
}
