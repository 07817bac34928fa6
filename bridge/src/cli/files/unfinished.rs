//! Reports about work on many files that failed for some of them.

use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::quote::quote;

use crate::files::place::Place;
use crate::files::transfer::Missed;
use crate::text::neutral::neutral_within;
use crate::verbs::files::Unread;

/// The exit code when some of the work could not be done.
pub(super) const INCOMPLETE: u8 = 2;

/// Reports what could not be done; returns the exit code.
pub(super) fn incomplete(missed: &[Missed], failure: &Failure) -> u8 {
    for one in missed {
        note!("farwire: {}", neutral_within(&one.to_text(), 4_096));
    }
    let hint = match failure.kind {
        Kind::FileExists if failure.hint.is_none() => "--force replaces it; or choose another name",
        _ => failure.hint(),
    };
    let message = neutral_within(&failure.message, 2_000);
    note!("error[{}]: {message}\nhint: {}", failure.kind, neutral_within(hint, 2_000));
    INCOMPLETE
}

/// The same as JSON.
pub(super) fn missed_json(missed: &[Missed]) -> Vec<serde_json::Value> {
    let one = |one: &Missed| {
        serde_json::json!({
            "path": quote(&one.path), "kind": one.why.kind.name(), "message": one.why.message,
        })
    };
    missed.iter().map(one).collect()
}

/// Checks that nothing was left out because it could not be read.
///
/// # Errors
///
/// `permission_denied` with the names, once the rest has been done.
pub(super) fn all_was_read(place: &Place, unread: &Unread) -> Result<(), Failure> {
    if unread.count == 0 {
        return Ok(());
    }
    let listed = unread.path_list(place);
    let names = if listed.is_empty() { listed } else { format!(": {listed}") };
    let text = format!("{} files or directories could not be read{names}", unread.count);
    Err(Failure::new(Kind::PermissionDenied, text))
}

/// Says what could not be read, when the rest has been printed; returns the exit code.
pub(super) fn code_of_unread(read: Result<(), Failure>) -> u8 {
    read.map_or_else(|failure| incomplete(&[], &failure), |()| 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_not_be_read_is_no_failure_of_the_rest() {
        assert_eq!(code_of_unread(Ok(())), 0);
        assert_eq!(code_of_unread(Err(Failure::new(Kind::PermissionDenied, "1 file"))), 2);
    }
}
