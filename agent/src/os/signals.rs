//! Names of signals, both ways.
//!
//! A signal is a number of this machine; people and the wire say its name without `SIG`.
//! Sending them is in `group.rs`.

use std::borrow::Cow;

/// The name of a signal without `SIG`: `TERM`, `RTMIN+3`. A number that has no name stays one.
pub(crate) fn name(number: i32) -> Cow<'static, str> {
    if let Some((name, _)) = NAMES.iter().find(|(_, known)| *known == number) {
        return Cow::Borrowed(name);
    }
    if let Some((first, last)) = realtime()
        && (first..=last).contains(&number)
    {
        return match number - first {
            0 => Cow::Borrowed("RTMIN"),
            above => Cow::Owned(format!("RTMIN+{above}")),
        };
    }
    Cow::Owned(number.to_string())
}

/// The number of a signal that is called so: `TERM`, `sigterm`, `15`, `RTMIN+3`, `RTMAX-1`.
pub(crate) fn number(name: &str) -> Option<i32> {
    if name.len() > LONGEST {
        return None;
    }
    let upper = name.to_ascii_uppercase();
    if upper.bytes().all(|b| b.is_ascii_digit()) {
        return upper.parse().ok().filter(|number| exists(*number));
    }
    let short = upper.strip_prefix("SIG").unwrap_or(&upper);
    let mut known = NAMES.iter().chain(ALIASES);
    if let Some((_, number)) = known.find(|(known, _)| *known == short) {
        return Some(*number);
    }
    let (first, last) = realtime()?;
    if let Some(rest) = short.strip_prefix("RTMIN") {
        return first.checked_add(distance(rest, '+')?).filter(|number| *number <= last);
    }
    let rest = short.strip_prefix("RTMAX")?;
    last.checked_sub(distance(rest, '-')?).filter(|number| *number >= first)
}

/// Whether there is a signal of this number that may be sent.
pub(crate) fn exists(number: i32) -> bool {
    NAMES.iter().any(|(_, known)| *known == number)
        || realtime().is_some_and(|(first, last)| (first..=last).contains(&number))
}

/// What follows `RTMIN` or `RTMAX`: nothing, or a sign and digits.
fn distance(rest: &str, sign: char) -> Option<i32> {
    if rest.is_empty() {
        return Some(0);
    }
    let digits = rest.strip_prefix(sign)?;
    if !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok()
}

/// The first and the last realtime signal that the C library leaves to programs.
#[cfg(target_os = "linux")]
fn realtime() -> Option<(i32, i32)> {
    Some((libc::SIGRTMIN(), libc::SIGRTMAX()))
}

#[cfg(not(target_os = "linux"))]
fn realtime() -> Option<(i32, i32)> {
    None
}

/// No name is longer than `SIGRTMIN+30`.
const LONGEST: usize = 16;

/// Pairs of a name and a number.
macro_rules! named {
    ($( $name:literal $signal:ident )*) => { &[$( ($name, libc::$signal), )*] };
}

#[cfg(target_os = "linux")]
const NAMES: &[(&str, i32)] = named! {
    "HUP" SIGHUP "INT" SIGINT "QUIT" SIGQUIT "ILL" SIGILL "TRAP" SIGTRAP "ABRT" SIGABRT
    "BUS" SIGBUS "FPE" SIGFPE "KILL" SIGKILL "USR1" SIGUSR1 "SEGV" SIGSEGV "USR2" SIGUSR2
    "PIPE" SIGPIPE "ALRM" SIGALRM "TERM" SIGTERM "STKFLT" SIGSTKFLT "CHLD" SIGCHLD "CONT" SIGCONT
    "STOP" SIGSTOP "TSTP" SIGTSTP "TTIN" SIGTTIN "TTOU" SIGTTOU "URG" SIGURG "XCPU" SIGXCPU
    "XFSZ" SIGXFSZ "VTALRM" SIGVTALRM "PROF" SIGPROF "WINCH" SIGWINCH "IO" SIGIO "PWR" SIGPWR
    "SYS" SIGSYS
};

#[cfg(not(target_os = "linux"))]
const NAMES: &[(&str, i32)] = named! {
    "HUP" SIGHUP "INT" SIGINT "QUIT" SIGQUIT "ILL" SIGILL "TRAP" SIGTRAP "ABRT" SIGABRT
    "BUS" SIGBUS "FPE" SIGFPE "KILL" SIGKILL "USR1" SIGUSR1 "SEGV" SIGSEGV "USR2" SIGUSR2
    "PIPE" SIGPIPE "ALRM" SIGALRM "TERM" SIGTERM "CHLD" SIGCHLD "CONT" SIGCONT "STOP" SIGSTOP
    "TSTP" SIGTSTP "TTIN" SIGTTIN "TTOU" SIGTTOU "URG" SIGURG "XCPU" SIGXCPU "XFSZ" SIGXFSZ
    "VTALRM" SIGVTALRM "PROF" SIGPROF "WINCH" SIGWINCH "IO" SIGIO "SYS" SIGSYS
};

/// Other names of the same signals. They are understood, and never said.
const ALIASES: &[(&str, i32)] = named! { "IOT" SIGABRT "CLD" SIGCHLD "POLL" SIGIO };

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_signal_has_a_name_that_leads_back_to_it() {
        let all: Vec<i32> = (-1..200).filter(|number| exists(*number)).collect();
        assert!(all.starts_with(&(1..=31).collect::<Vec<_>>()), "{all:?}");
        assert_eq!(all.last(), Some(&64));
        for signal in all {
            assert_eq!(number(&name(signal)), Some(signal));
            assert_eq!(number(&format!("sig{}", name(signal).to_lowercase())), Some(signal));
            assert_eq!(number(&signal.to_string()), Some(signal));
        }
    }

    #[test]
    fn well_known_names_and_numbers() {
        for (signal, expected) in [(1, "HUP"), (2, "INT"), (9, "KILL"), (13, "PIPE"), (15, "TERM")]
        {
            assert_eq!(name(signal), expected);
        }
        assert_eq!(name(libc::SIGRTMIN() + 3), "RTMIN+3");
        assert_eq!(number("RTMAX-1"), Some(63));
        assert_eq!(number("SIGIOT"), Some(6));
    }

    #[test]
    fn what_is_no_signal_has_no_number() {
        let wrong = ["", "SIG", "0", "-1", "+9", "65", "9999999999", "TERMINATE", "RTMIN-1"];
        for text in
            wrong.iter().chain(&["RTMIN+31", "RTMAX+1", "RTMIN+-1", "RTMAX-99", "SIGSIGTERM"])
        {
            assert_eq!(number(text), None, "{text}");
        }
        assert_eq!(name(0), "0");
        assert_eq!(name(-7), "-7");
    }

    proptest! {
        #[test]
        fn a_number_found_by_any_text_is_a_signal(text in "(?i)(sig)?(rtmin|rtmax|term)?[+-]?[0-9]{0,12}") {
            if let Some(signal) = number(&text) {
                prop_assert!(exists(signal));
            }
        }
    }

    #[test]
    fn no_bytes_are_too_odd() {
        bolero::check!().for_each(|bytes: &[u8]| {
            if let Some(signal) = number(&String::from_utf8_lossy(bytes)) {
                assert!(exists(signal));
            }
        });
    }
}
