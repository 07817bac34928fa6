//! Counts the live processes of a run, in its process group and outside of it.
//!
//! A process leaves the group by `setsid` or `setpgid`, and is then neither signalled nor killed.
//! It is known as part of the run
//!
//! - by its parents, one of whom is the leader;
//! - by its session: one that a process of the run has founded contains nobody else;
//! - by the mark in its environment (`environment::MARK`), which is the only trace of a daemon that
//!   forked twice, because the parent of an orphan is the first process.
//!
//! Not seen: an orphan in a session of its own that has cleared its environment, and, if the agent
//! is not root, one that has changed its user.

#[cfg(target_os = "linux")]
use core::time::Duration;
#[cfg(target_os = "linux")]
use std::collections::{HashMap, HashSet};

#[cfg(target_os = "linux")]
use crate::os::environment::MARK;
#[cfg(target_os = "linux")]
use crate::os::process::Process;
use crate::os::wait::Leader;

/// The live processes of a run.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Census {
    /// The number of processes in its process group: these are signalled.
    pub(crate) group: u32,
    /// The number of those that left the group: these are not.
    pub(crate) escaped: u32,
    /// There may be more: there are too many processes to look at, or none can be seen.
    pub(crate) partial: bool,
}

/// Counts. `mark` is the value of `environment::MARK` that the run was given.
///
/// Reads all of `/proc` once, some 10 us for each process: not for a thread that others wait for.
/// Call it before the leader is reaped; afterwards only the mark shows what belongs to it.
#[cfg(target_os = "linux")]
pub(crate) fn census(leader: &Leader, mark: Option<&str>) -> Census {
    let Some(all) = Process::all() else { return Census { partial: true, ..Census::default() } };
    // A process that started before the leader is not one of its descendants.
    let since = leader.start_time().saturating_sub(GRAIN);
    let mut all = all.filter(|process| process.started >= since && !process.ended);
    let seen: Vec<Process> = all.by_ref().take(MOST_PROCESSES).collect();
    let mut partial = all.next().is_some();

    let mut reads = 0;
    let marked = |process: &Process| {
        let Some(mark) = mark else { return false };
        reads += 1;
        partial |= reads > MOST_READS;
        reads <= MOST_READS && process.has_variable(MARK, mark)
    };
    let root = leader.uncollected(|pid| pid);
    let family = Family::new(&seen, root, marked);
    let members = seen.iter().filter(|process| family.has(process.pid));
    let (inside, outside): (Vec<&Process>, Vec<&Process>) =
        members.partition(|process| process.group == leader.pid());
    let count = |processes: &[&Process]| u32::try_from(processes.len()).unwrap_or(u32::MAX);
    Census { group: count(&inside), escaped: count(&outside), partial }
}

/// Nothing can be seen on this system.
#[cfg(not(target_os = "linux"))]
pub(crate) fn census(_: &Leader, _: Option<&str>) -> Census {
    Census { partial: true, ..Census::default() }
}

/// The processes that belong together.
#[cfg(target_os = "linux")]
struct Family {
    members: HashSet<u32>,
    sessions: HashSet<u32>,
}

#[cfg(target_os = "linux")]
impl Family {
    /// Every process in the session of `root`, or descended from it or from one that is `marked`.
    fn new(seen: &[Process], root: Option<u32>, mut marked: impl FnMut(&Process) -> bool) -> Self {
        let mut children: HashMap<u32, Vec<&Process>> = HashMap::new();
        let mut sessions: HashMap<u32, Vec<&Process>> = HashMap::new();
        for process in seen {
            children.entry(process.parent).or_default().push(process);
            sessions.entry(process.session).or_default().push(process);
        }
        let mut family = Self { members: HashSet::new(), sessions: HashSet::new() };
        let mut open: Vec<&Process> = Vec::new();
        if let Some(root) = root {
            family.sessions.insert(root);
            open.extend(sessions.get(&root).into_iter().chain(children.get(&root)).flatten());
        }
        let mut strangers = seen.iter();
        loop {
            while let Some(process) = open.pop() {
                if !family.members.insert(process.pid) {
                    continue;
                }
                open.extend(children.get(&process.pid).into_iter().flatten());
                // A process cannot enter a session, only found one or be born in it.
                if process.session != 0 && family.sessions.insert(process.session) {
                    open.extend(sessions.get(&process.session).into_iter().flatten());
                }
            }
            // The mark is checked only for processes that are not known by other means.
            let next = strangers.find(|p| !family.has(p.pid) && marked(p));
            let Some(process) = next else { return family };
            open.push(process);
        }
    }

    fn has(&self, pid: u32) -> bool {
        self.members.contains(&pid)
    }
}

/// The kernel shows starts in steps of 10 ms.
#[cfg(target_os = "linux")]
const GRAIN: Duration = Duration::from_millis(20);

/// As many as a 64-bit Linux allows by default are four times of these; a server has hundreds.
#[cfg(target_os = "linux")]
const MOST_PROCESSES: usize = 1 << 20;

/// Strangers that started after the leader. Reading an environment can cost 128 KiB.
#[cfg(target_os = "linux")]
const MOST_READS: usize = 2048;

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_family_is_known_by_parents_by_sessions_and_by_the_mark() {
        let seen = [
            process(100, 50, 100, 100),  // the leader
            process(101, 100, 100, 100), // its child
            process(102, 101, 102, 100), // left the group, not the session
            process(103, 100, 103, 103), // founded a session
            process(104, 1, 104, 103),   // was born in that, its parent is gone
            process(105, 1, 105, 105),   // a daemon
            process(106, 105, 106, 106), // child of the daemon
            process(107, 1, 107, 107),   // a stranger
            process(108, 107, 107, 107), // its child
            process(50, 1, 50, 50),      // the agent
        ];
        let mut asked = Vec::new();
        let family = Family::new(&seen, Some(100), |process| {
            asked.push(process.pid);
            process.pid == 105
        });
        let mut members: Vec<u32> = family.members.into_iter().collect();
        members.sort_unstable();
        assert_eq!(members, (100..=106).collect::<Vec<_>>());
        assert_eq!(asked, [105, 107, 108, 50]);
    }

    #[test]
    fn without_a_leader_only_the_mark_counts() {
        let seen = [process(101, 1, 100, 100), process(102, 101, 100, 100), process(9, 1, 9, 9)];
        let family = Family::new(&seen, None, |process| process.pid == 102);
        assert!(family.has(101) && family.has(102) && !family.has(9));
        assert!(Family::new(&seen, None, |_| false).members.is_empty());
    }

    #[test]
    fn parents_in_a_circle_come_to_an_end() {
        let seen = [process(2, 3, 2, 0), process(3, 2, 3, 0), process(4, 4, 4, 0)];
        let family = Family::new(&seen, Some(2), |_| false);
        assert!(family.has(3) && !family.has(4));
    }

    fn process(pid: u32, parent: u32, group: u32, session: u32) -> Process {
        Process { pid, parent, group, session, started: Duration::ZERO, ended: false }
    }
}
