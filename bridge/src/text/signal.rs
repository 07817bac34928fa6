//! Signals by name, as Linux numbers them.

use farwire_protocol::failure::{Failure, Kind};

use super::neutral::neutral_within;

/// The name of a signal without SIG, or its number where it has none.
pub fn name(number: i32) -> String {
    let at = usize::try_from(number).ok().and_then(|number| number.checked_sub(1));
    let name = at.and_then(|at| NAMES.get(at));
    name.map_or_else(|| number.to_string(), |name| (*name).to_owned())
}

/// The number of a signal, given by its name in any case, with or without SIG, or by its number.
pub fn number(text: &str) -> Option<i32> {
    let upper = text.trim().to_ascii_uppercase();
    let wanted = upper.strip_prefix("SIG").unwrap_or(&upper);
    let numbers = 1..=i32::try_from(NAMES.len()).unwrap_or(0);
    numbers.into_iter().find(|&number| name(number) == wanted || number.to_string() == wanted)
}

/// Parses the name or number of a signal.
///
/// # Errors
///
/// `invalid_argument`, with the most common signals.
pub fn parse(text: &str) -> Result<i32, Failure> {
    number(text).ok_or_else(|| {
        let shown = neutral_within(text, 40);
        Failure::new(Kind::InvalidArgument, format!("signal: `{shown}` is not a signal"))
            .with_hint("use INT, TERM, KILL, HUP, QUIT, USR1 or USR2")
    })
}

const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2",
    "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG",
    "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_known_by_name_and_number() {
        for (text, wanted) in [("INT", 2), ("sigkill", 9), ("15", 15), (" SIGSYS", 31)] {
            assert_eq!(number(text), Some(wanted));
        }
        for text in ["", "0", "FOO", "SIG", "32", "-9"] {
            assert_eq!(number(text), None, "{text}");
        }
    }

    #[test]
    fn a_signal_without_a_name_is_its_number() {
        assert_eq!([9, 0, -1, 34, i32::MIN].map(name), ["KILL", "0", "-1", "34", "-2147483648"]);
    }
}
