//! What a terminal is doing, according to the kernel: never inferred from what it shows.
//!
//! | | foreground group | shows what is typed | gives whole lines |
//! |---|---|---|---|
//! | a shell with line editing waits | the shell's | no | no |
//! | a program reads or runs | another | yes | yes |
//! | a password is asked for | any | **no** | **yes** |
//! | a pager, an editor | another | no | no |
//!
//! Marks of the shell take precedence, if there are any. The names of programs tell pagers, editors
//! and interpreters apart, and nothing more.

use std::os::fd::{AsFd, BorrowedFd};

use farwire_protocol::streams::session::Doing;

use super::marks::Phase;
use crate::os::pty::{self, Modes};

const SHELLS: [&str; 9] = ["sh", "dash", "ash", "bash", "zsh", "fish", "ksh", "mksh", "tcsh"];

/// Shells with `quoted-insert` on ctrl-v.
const QUOTING: [&str; 2] = ["bash", "zsh"];

const PAGERS: [&str; 7] = ["less", "more", "most", "man", "pager", "pg", "journalctl"];

const EDITORS: [&str; 13] = [
    "vi",
    "vim",
    "nvim",
    "vim.basic",
    "vim.tiny",
    "view",
    "nano",
    "emacs",
    "micro",
    "hx",
    "joe",
    "mcedit",
    "ed",
];

const REPLS: [&str; 22] = [
    "python",
    "python2",
    "python3",
    "ipython",
    "ipython3",
    "node",
    "deno",
    "bun",
    "irb",
    "ruby",
    "perl",
    "php",
    "lua",
    "R",
    "ghci",
    "psql",
    "mysql",
    "mariadb",
    "sqlite3",
    "redis-cli",
    "gdb",
    "bc",
];

/// What it is doing. `shell` is the process that was started on it, and `marked` the command line
/// of the program that writes marks. If `shell` has another one now, another program has replaced
/// it, as by `exec`.
pub(crate) fn doing(
    master: BorrowedFd<'_>,
    shell: u32,
    marked: Option<&[u8]>,
    phase: Phase,
    alternate: bool,
) -> Doing {
    let Ok(Modes { echo, canonical }) = pty::modes(master) else { return Doing::Running };
    if canonical && !echo {
        return Doing::Password;
    }
    let group = foreground(master);
    let own = group == Some(shell);
    match phase {
        Phase::Waiting if own => return Doing::Prompt,
        // It edits a line, whatever has become of its marks.
        Phase::Prompting if own && !canonical => return Doing::Prompt,
        Phase::Running | Phase::Prompting if own && is_still(shell, marked) => {
            return Doing::Running;
        }
        _ => {}
    }
    let Some(group) = group else { return Doing::Running };
    let (group, name) = reader(group, canonical, shell).unwrap_or_default();
    let is = |names: &[&str]| names.contains(&base(&name));
    // A program that edits lines itself reads only while the terminal does not edit them.
    let waits = || match canonical {
        true => process::reads_terminal(group),
        false => process::may_read(group),
    };
    if is(&PAGERS) && !canonical {
        Doing::Pager
    } else if is(&EDITORS) || (alternate && !canonical) {
        Doing::Editor
    } else if is(&SHELLS) && waits() && is_interactive(group) {
        // Another shell within the shell, or one without marks.
        Doing::Prompt
    } else if is(&REPLS) && waits() {
        Doing::Repl
    } else {
        Doing::Running
    }
}

/// The group in the foreground.
fn foreground(master: impl AsFd) -> Option<u32> {
    pty::foreground(master).map(|group| group.as_raw_nonzero().get().unsigned_abs())
}

/// Whether `shell` is still the program that writes marks; `true` if that is unknown.
fn is_still(shell: u32, marked: Option<&[u8]>) -> bool {
    let now = command_line(shell);
    now.is_none() || marked.is_none() || now.as_deref() == marked
}

/// The command line of a process.
pub(crate) fn command_line(pid: u32) -> Option<Vec<u8>> {
    std::fs::read(format!("/proc/{pid}/cmdline")).ok().filter(|line| !line.is_empty())
}

/// The process of a group that receives what is typed, and its name: the main process of the group,
/// or a pager or an editor that it has started and that reads keys.
fn reader(group: u32, canonical: bool, shell: u32) -> Option<(u32, String)> {
    let known = process::of_group(group, shell);
    let is = |names: &[&str], name: &str| names.contains(&base(name));
    let takes_keys = |name: &str| is(&PAGERS, name) || is(&EDITORS, name);
    let takes_lines = |name: &str| is(&SHELLS, name) || is(&REPLS, name);
    // A process that waits for its child reads nothing.
    let reads = |(pid, name): &(u32, String)| {
        takes_keys(name) || takes_lines(name) && process::may_read(*pid)
    };
    if canonical || known.as_ref().is_some_and(reads) {
        return known;
    }
    let member = |of| process::children(of, group).into_iter().find(|(_, name)| takes_keys(name));
    member(group).or_else(|| member(shell)).or(known)
}

/// The foreground process that receives what is typed, and its name.
fn in_front(master: impl AsFd, shell: u32) -> Option<(u32, String)> {
    let canonical = pty::modes(&master).is_ok_and(|modes| modes.canonical);
    reader(foreground(master)?, canonical, shell)
}

/// Whether the program in the foreground waits for somebody to type: it is blocked in a read of the
/// terminal.
pub(crate) fn reads(master: impl AsFd, shell: u32) -> bool {
    in_front(master, shell)
        .is_some_and(|(pid, _)| process::reads_terminal(pid) && process::reads_from_terminal(pid))
}

/// Whether the program in the foreground reads single keys and is waiting, perhaps for one.
pub(crate) fn polls(master: impl AsFd, shell: u32) -> bool {
    let raw = pty::modes(&master).is_ok_and(|modes| !modes.canonical);
    raw && in_front(master, shell).is_some_and(|(pid, _)| pid != shell && process::polls(pid))
}

/// Whether the program in the foreground may be reading lines from the terminal at this moment: not
/// if it is running, or waits for something other than input.
pub(crate) fn may_read(master: impl AsFd, shell: u32) -> bool {
    in_front(master, shell).is_none_or(|(pid, _)| process::may_read(pid))
}

/// Whether the foreground program is a shell whose line editor takes what follows ctrl-v literally.
pub(crate) fn quotes(master: impl AsFd, shell: u32) -> bool {
    foreground_name(master, shell).is_some_and(|name| QUOTING.contains(&base(&name)))
}

/// Whether the foreground program is a shell that drops tabs from pastes: fish does, unless it is
/// the shell that was started here and `taught`.
pub(crate) fn drops_tabs(master: impl AsFd, shell: u32, taught: bool) -> bool {
    let fish = foreground_name(&master, shell).is_some_and(|name| base(&name) == "fish");
    fish && !(taught && foreground(&master) == Some(shell))
}

/// Whether a process is idle at this moment; `true` if that is unknown.
pub(crate) fn rests(pid: u32) -> bool {
    process::state(pid).is_none_or(|state| state == "S")
}

/// The program in the foreground.
pub(crate) fn foreground_name(master: impl AsFd, shell: u32) -> Option<String> {
    in_front(master, shell).map(|(_, name)| name)
}

/// Whether a shell reads typed commands, and is neither a script nor a part of one: what a script
/// prompts for is not a command.
fn is_interactive(shell: u32) -> bool {
    command_line(shell).is_none_or(|line| takes_commands(&line))
        && process::is_typed_to(shell)
        && !process::is_forked(shell)
}

/// Whether a shell that was started with this command line reads commands from its standard input.
fn takes_commands(line: &[u8]) -> bool {
    let mut words = line.split(|byte| *byte == 0);
    let name = words.next().unwrap_or_default();
    let fish = base(&String::from_utf8_lossy(name)).ends_with("fish");
    let mut skip = false;
    for word in words {
        // It belongs to the option before it.
        if std::mem::take(&mut skip) {
            continue;
        }
        match word {
            b"" | b"-" | b"--" => {}
            b"--rcfile" | b"--init-file" | b"--init-command" | b"--emulate" | b"-rcfile"
            | b"-init-file" => skip = true,
            b"-C" if fish => skip = true,
            b"--command" => return false,
            [b'-', b'-', long @ ..] if long.starts_with(b"command=") => return false,
            // Bash takes these with one dash, too.
            b"-norc" | b"-noprofile" | b"-login" | b"-posix" | [b'-', b'-', ..] => {}
            [b'-' | b'+', options @ ..] => {
                if options.contains(&b'c') {
                    return false;
                }
                if options.contains(&b's') {
                    return true;
                }
                skip = options.ends_with(b"o") || options.ends_with(b"O");
            }
            _ => return false,
        }
    }
    true
}

/// Whether the program that was started on it is a shell and in the foreground itself.
pub(crate) fn is_shell(master: impl AsFd, shell: u32) -> bool {
    foreground(master) == Some(shell)
        && process::of_group(shell, shell).is_some_and(|(_, name)| SHELLS.contains(&base(&name)))
        && is_interactive(shell)
}

/// `python3.11` is `python3`, and `-bash` is `bash`.
fn base(name: &str) -> &str {
    let name = name.strip_prefix('-').unwrap_or(name);
    match name.split_once('.') {
        Some((base, version)) if version.bytes().all(|byte| byte.is_ascii_digit()) => base,
        _ => name,
    }
}

#[cfg(target_os = "linux")]
mod process {
    /// The main process of a group, and its name: the leader or, if that has ended, as the first
    /// process of a pipeline does, the last child of the shell that is in the group.
    pub(super) fn of_group(group: u32, shell: u32) -> Option<(u32, String)> {
        let leader = alive(group).filter(|(of, _)| *of == group);
        if let Some((_, name)) = leader {
            return Some((group, name));
        }
        children(shell, group).into_iter().next()
    }

    /// The last children of a process that are in a group, the youngest first, and their names.
    pub(super) fn children(of: u32, group: u32) -> Vec<(u32, String)> {
        let children = std::fs::read_to_string(format!("/proc/{of}/task/{of}/children"));
        let children = children.unwrap_or_default();
        let pids = children.split_whitespace().rev().take(64).filter_map(|pid| pid.parse().ok());
        let named = |pid| Some((pid, alive(pid).filter(|(of, _)| *of == group)?.1));
        pids.filter_map(named).collect()
    }

    /// The group and the name of a process that is not a zombie.
    fn alive(pid: u32) -> Option<(u32, String)> {
        let stat = Stat::of(pid)?;
        (stat.state != "Z" && stat.state != "X").then_some((stat.group, stat.name))
    }

    /// Whether it runs, sleeps, waits for a disk: one letter, as proc(5) has it.
    pub(super) fn state(pid: u32) -> Option<String> {
        Stat::of(pid).map(|stat| stat.state)
    }

    /// Whether it was forked and has executed nothing since, like a subshell.
    pub(super) fn is_forked(pid: u32) -> bool {
        // `PF_FORKNOEXEC`, of `include/linux/sched.h`.
        Stat::of(pid).is_some_and(|stat| stat.flags & 0x40 != 0)
    }

    struct Stat {
        name: String,
        state: String,
        group: u32,
        flags: u64,
    }

    impl Stat {
        fn of(pid: u32) -> Option<Self> {
            let stat = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
            let text = String::from_utf8_lossy(&stat);
            // The name is in parentheses, and may contain parentheses.
            let (name, rest) = text.split_once('(')?.1.rsplit_once(')')?;
            let mut fields = rest.split_whitespace();
            let (state, group) = (fields.next()?.to_owned(), fields.nth(1)?.parse().ok()?);
            let flags = fields.nth(3)?.parse().ok()?;
            let name = name.chars().filter(|c| !c.is_control()).collect();
            Some(Self { name, state, group, flags })
        }
    }

    /// Whether it is reading a terminal at this moment, and not a socket. Known only where we may
    /// look.
    pub(super) fn reads_from_terminal(pid: u32) -> bool {
        let call = std::fs::read_to_string(format!("/proc/{pid}/syscall")).unwrap_or_default();
        let mut words = call.split_whitespace();
        let number = words.next().and_then(|number| number.parse().ok());
        let file = words.next().and_then(|file| file.strip_prefix("0x"));
        let file = file.and_then(|file| u32::from_str_radix(file, 16).ok());
        let Some(file) = file.filter(|_| number == Some(libc::SYS_read)) else { return false };
        let file = std::fs::read_link(format!("/proc/{pid}/fd/{file}")).unwrap_or_default();
        is_terminal(&file)
    }

    /// Whether it may be in a read, or wait for something to read; `true` if that is unknown.
    pub(super) fn may_read(pid: u32) -> bool {
        if state(pid).is_some_and(|state| state != "S") {
            return false;
        }
        let wchan = std::fs::read_to_string(format!("/proc/{pid}/wchan")).unwrap_or_default();
        let known = !wchan.is_empty() && wchan != "0";
        !known || ["wait_woken", "poll", "select"].iter().any(|name| wchan.contains(name))
    }

    /// Whether its standard input is a terminal; `true` if that is unknown.
    pub(super) fn is_typed_to(pid: u32) -> bool {
        std::fs::read_link(format!("/proc/{pid}/fd/0")).map_or(true, |file| is_terminal(&file))
    }

    fn is_terminal(file: &std::path::Path) -> bool {
        ["/dev/pts", "/dev/tty", "/dev/console"]
            .iter()
            .any(|name| file.to_str().is_some_and(|file| file.starts_with(name)))
    }

    /// Whether it is known to wait in `poll` or `select`.
    pub(super) fn polls(pid: u32) -> bool {
        let wchan = std::fs::read_to_string(format!("/proc/{pid}/wchan")).unwrap_or_default();
        ["poll", "select"].iter().any(|name| wchan.contains(name))
    }

    /// Whether it is blocked in a read of a terminal.
    pub(super) fn reads_terminal(pid: u32) -> bool {
        // `n_tty_read` waits here; so do reads of sockets, which these programs do not do at a
        // prompt.
        std::fs::read(format!("/proc/{pid}/wchan")).is_ok_and(|wchan| wchan == b"wait_woken")
    }
}

#[cfg(not(target_os = "linux"))]
mod process {
    pub(super) fn reads_from_terminal(_: u32) -> bool {
        false
    }

    pub(super) fn of_group(_: u32, _: u32) -> Option<(u32, String)> {
        None
    }

    pub(super) fn children(_: u32, _: u32) -> Vec<(u32, String)> {
        Vec::new()
    }

    pub(super) fn is_typed_to(_: u32) -> bool {
        true
    }

    pub(super) fn is_forked(_: u32) -> bool {
        false
    }

    pub(super) fn polls(_: u32) -> bool {
        false
    }

    pub(super) fn state(_: u32) -> Option<String> {
        None
    }

    pub(super) fn reads_terminal(_: u32) -> bool {
        false
    }

    pub(super) fn may_read(_: u32) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_with_a_script_takes_no_commands_from_whoever_types() {
        for line in [
            "bash",
            "-bash",
            "bash\0--norc",
            "bash\0--rcfile\0/x\0-i",
            "zsh\0-o\0vi",
            "sh\0-il",
            "bash\0-norc",
            "bash\0-eo\0pipefail",
            "bash\0-s\0x",
            "fish\0-l\0-i\0-C\0source /x",
        ] {
            assert!(takes_commands(format!("{line}\0").as_bytes()), "{line:?}");
        }
        for line in [
            "bash\0install.sh",
            "sh\0-c\0read x",
            "bash\0-lc\0x",
            "bash\0--norc\0x",
            "bash\0-x\0/x",
            "bash\0-C\0/x",
            "fish\0--command=read x",
        ] {
            assert!(!takes_commands(format!("{line}\0").as_bytes()), "{line:?}");
        }
    }

    #[test]
    fn versions_and_login_shells_are_known_by_their_names() {
        for (name, expected) in
            [("python3.11", "python3"), ("-bash", "bash"), ("vim.basic", "vim.basic"), ("x", "x")]
        {
            assert_eq!(base(name), expected);
        }
    }
}
