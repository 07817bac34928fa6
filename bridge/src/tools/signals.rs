//! The signals that a model may send.

use farwire_protocol::failure::{Failure, Kind};

use super::offer::Offer;
use super::tool::Group;
use crate::text::signal;

/// Signals that ask a program to end, or end it: `stop` is for these.
const ENDING: [&str; 5] = ["INT", "TERM", "KILL", "HUP", "QUIT"];

/// Parses the name of a signal. Signals that do not end a program act on it directly, and need the
/// group `control`.
///
/// # Errors
///
/// `invalid_argument` for an unknown signal, and `not_granted` if the group is not enabled.
pub(super) fn parse_allowed(offer: &Offer, text: &str) -> Result<i32, Failure> {
    let number = signal::parse(text)?;
    if ENDING.contains(&signal::name(number).as_str()) || offer.enables(Group::Control) {
        return Ok(number);
    }
    let text = format!(
        "{} does not end a program, and other signals are not enabled",
        signal::name(number)
    );
    Err(Failure::new(Kind::NotGranted, text)
        .with_hint("INT, TERM, KILL, HUP and QUIT do; a user can enable all signals with `mcp serve --enable control`"))
}
