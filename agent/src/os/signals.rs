//! Names of signals.
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

/// Whether there is a signal of this number that may be sent.
pub(crate) fn exists(number: i32) -> bool {
    NAMES.iter().any(|(_, known)| *known == number)
        || realtime().is_some_and(|(first, last)| (first..=last).contains(&number))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_signal_has_a_name_of_its_own() {
        let all: Vec<i32> = (-1..200).filter(|number| exists(*number)).collect();
        assert!(all.starts_with(&(1..=31).collect::<Vec<_>>()), "{all:?}");
        assert_eq!(all.last(), Some(&64));
        let names: std::collections::HashSet<_> = all.iter().map(|number| name(*number)).collect();
        assert_eq!(names.len(), all.len());
    }

    #[test]
    fn well_known_names() {
        for (signal, expected) in [(1, "HUP"), (2, "INT"), (9, "KILL"), (13, "PIPE"), (15, "TERM")]
        {
            assert_eq!(name(signal), expected);
        }
        assert_eq!(name(libc::SIGRTMIN() + 3), "RTMIN+3");
        assert_eq!(name(0), "0");
        assert_eq!(name(-7), "-7");
    }
}
