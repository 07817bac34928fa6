//! Arguments that several tools parse in the same way.

use std::time::Duration;

use farwire_protocol::failure::{Failure, Kind};

use crate::text::shown::Budget;

/// The longest time that can be asked for: 366 days, as on the command line.
const LONGEST: Duration = Duration::from_secs(366 * 86_400);

/// Reads a number of seconds. Returns milliseconds.
///
/// # Errors
///
/// `invalid_argument` for what is not a time, or is too short or too long.
pub(super) fn milliseconds(seconds: f64) -> Result<u64, Failure> {
    let fits = Duration::try_from_secs_f64(seconds).ok().filter(|duration| *duration <= LONGEST);
    let fits = fits.and_then(|duration| u64::try_from(duration.as_millis()).ok());
    fits.filter(|&milliseconds| milliseconds > 0).ok_or_else(|| {
        let message = "a time must be between 0.001 and 31622400 seconds";
        Failure::new(Kind::InvalidArgument, message).with_hint("leave it out for no time limit")
    })
}

/// Reads how many characters to show: by default as many as fit into an answer.
pub(super) fn budget(asked: Option<usize>) -> Budget {
    asked.map_or_else(Budget::default, Budget::new)
}
