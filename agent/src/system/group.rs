//! The process group of a run: signalling it, and what has left it.
//!
//! The group is named by its leader. While the leader has not been reaped its number cannot be used
//! again, so that a signal reaches our processes or nobody; after that, callers send none.

use std::fs;

use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process_group};

/// How many processes are looked at before we give up counting.
const LOOKED_AT: usize = 65_536;

/// Signals the whole group. `false` when there is nobody left.
pub(crate) fn signal(leader: Pid, number: i32) -> Result<bool, Errno> {
    let signal = Signal::from_named_raw(number).ok_or(Errno::INVAL)?;
    match kill_process_group(leader, signal) {
        Ok(()) => Ok(true),
        Err(Errno::SRCH) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Descendants of the leader that are in another session, as far as they can be seen now: they were
/// not meant to be killed with the group, and are not.
pub(crate) fn escaped(leader: Pid) -> Vec<Pid> {
    let mut ours = vec![leader.as_raw_nonzero().get()];
    let mut all: Vec<Stat> = processes();
    let mut escaped = Vec::new();
    // Parents have been started before their children, mostly; a few rounds find the rest.
    for _ in 0..4 {
        let before = ours.len();
        all.retain(|process| {
            let found = ours.contains(&process.parent);
            if found {
                ours.push(process.pid);
                if process.session != leader.as_raw_nonzero().get() {
                    escaped.extend(Pid::from_raw(process.pid));
                }
            }
            !found
        });
        if ours.len() == before {
            break;
        }
    }
    escaped
}

struct Stat {
    pid: i32,
    parent: i32,
    session: i32,
}

fn processes() -> Vec<Stat> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let mut all: Vec<Stat> = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
        .take(LOOKED_AT)
        .filter_map(stat)
        .collect();
    all.sort_by_key(|process| process.pid);
    all
}

fn stat(pid: i32) -> Option<Stat> {
    let text = fs::read(format!("/proc/{pid}/stat")).ok()?;
    // The name stands in parentheses and may hold anything, also parentheses and line ends.
    let end = text.iter().rposition(|&byte| byte == b')')?;
    let rest = std::str::from_utf8(text.get(end + 2..)?).ok()?;
    let mut fields = rest.split(' ').skip(1);
    let parent = fields.next()?.parse().ok()?;
    let session = fields.nth(1)?.parse().ok()?;
    Some(Stat { pid, parent, session })
}
