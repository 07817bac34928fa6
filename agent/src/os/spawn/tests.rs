//! Real programs, and every way in which one can fail to start.

#![expect(unsafe_code, reason = "signal masks are not in rustix")]

mod hazards;

use std::collections::BTreeSet;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::AsyncWriteExt as _;
use tokio::net::unix::pipe;

use super::*;
use crate::os::process::Process;
use crate::os::testing::*;
use crate::os::wait::Exit;
use crate::os::{harden, limits};

#[tokio::test]
async fn both_outputs_and_the_exit_code_come_back() {
    let ended = run(&script("echo out; echo err >&2; exit 7")).await;
    let expected =
        Ended { exit: Exit::Code(7), stdout: "out\n".to_owned(), stderr: "err\n".to_owned() };
    assert_eq!(ended, expected);
}

#[tokio::test]
async fn input_reaches_the_program_and_ends_when_our_end_is_closed() {
    let mut command = command(&["cat"]);
    command.stdin = Stdin::Pipe;
    let mut child = start(&command);
    let mut stdin = pipe::Sender::from_owned_fd(child.stdin.take().unwrap()).unwrap();
    let text = "x".repeat(1_000_000);
    let (written, ended) = tokio::join!(
        async {
            stdin.write_all(text.as_bytes()).await.unwrap();
            drop(stdin);
        },
        finish(child),
    );
    let () = written;
    assert_eq!((ended.exit, ended.stdout == text), (Exit::Code(0), true));
}

#[tokio::test]
async fn no_input_is_at_its_end() {
    let child = start(&command(&["cat"]));
    assert!(child.stdin.is_none());
    assert_eq!(finish(child).await.exit, Exit::Code(0));
}

#[tokio::test]
async fn our_ends_of_the_pipes_do_not_block_and_those_of_the_program_do() {
    let mut command = command(&["cat"]);
    command.stdin = Stdin::Pipe;
    let child = start(&command);
    for end in [child.stdin.as_ref().unwrap(), &child.stdout, &child.stderr] {
        assert!(rustix::fs::fcntl_getfl(end).unwrap().contains(OFlags::NONBLOCK));
        assert!(rustix::io::fcntl_getfd(end).unwrap().contains(rustix::io::FdFlags::CLOEXEC));
    }
    for number in 0..3 {
        let path = format!("/proc/{}/fdinfo/{number}", child.leader.pid());
        let info = std::fs::read_to_string(path).unwrap();
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).unwrap();
        let flags = u32::from_str_radix(flags.trim(), 8).unwrap();
        assert_eq!(flags & OFlags::NONBLOCK.bits(), 0);
    }
    assert_eq!(finish(child).await.exit, Exit::Code(0));
}

#[tokio::test]
async fn sigpipe_ends_a_program_as_it_should() {
    let ended = run(&command(&["bash", "-c", "yes | head -1; echo ${PIPESTATUS[0]}"])).await;
    assert_eq!(ended.stdout, "y\n141\n", "{ended:?}");
}

#[tokio::test]
async fn no_signal_is_blocked_or_ignored() {
    // SAFETY: both sets are initialised before they are read. Only this thread is changed.
    unsafe {
        let mut set: libc::sigset_t = core::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        for signal in [libc::SIGUSR1, libc::SIGTERM, libc::SIGRTMIN() + 3] {
            libc::sigaddset(&raw mut set, signal);
        }
        libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, core::ptr::null_mut());
    }
    let set = |status: &str, name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        u64::from_str_radix(line.trim_start_matches(":\t"), 16).unwrap()
    };
    let ended = run(&command(&["cat", "/proc/self/status"])).await;
    for name in ["SigBlk", "SigIgn", "SigCgt"] {
        assert_eq!(set(&ended.stdout, name), 0, "{name}");
    }
    // Ours are as they were.
    let own = std::fs::read_to_string("/proc/thread-self/status").unwrap();
    assert_eq!(set(&own, "SigBlk").count_ones(), 3);
    assert_ne!(set(&own, "SigIgn"), 0);
}

#[tokio::test]
async fn no_descriptor_is_inherited() {
    // Without close-on-exec, as the agent may inherit them.
    let leaked = rustix::io::dup(std::fs::File::open("/dev/null").unwrap()).unwrap();
    for user in [None, nobody("no_descriptor_is_inherited (as another user)")] {
        let mut command = command(&["cat"]);
        command.stdin = Stdin::Pipe;
        command.user = user;
        let mut child = start(&command);
        let mut stdin = pipe::Sender::from_owned_fd(child.stdin.take().unwrap()).unwrap();
        let mut stdout = pipe::Receiver::from_owned_fd(child.stdout).unwrap();
        // It is past its start, in which it opens libraries.
        stdin.write_all(b"x\n").await.unwrap();
        assert_eq!(line(&mut stdout).await, "x");
        let open = std::fs::read_dir(format!("/proc/{}/fd", child.leader.pid())).unwrap();
        let open: BTreeSet<_> = open.map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(open, ["0", "1", "2"].map(OsString::from).into());
        drop(stdin);
        assert_eq!(soon(child.leader.exited()).await.unwrap(), Exit::Code(0));
    }
    drop(leaked);
}

#[tokio::test]
async fn arguments_and_environment_are_exact_to_the_byte() {
    let odd = OsString::from_vec(b"\xff \n'\"$x=".to_vec());
    let mut command = command(&["/usr/bin/env", "-0"]);
    command.env =
        vec![("B".into(), "".into()), ("A".into(), odd.clone()), ("B2".into(), "ü".into())];
    let child = start(&command);
    let mut bytes = Vec::new();
    let mut output = pipe::Receiver::from_owned_fd(child.stdout).unwrap();
    soon(tokio::io::AsyncReadExt::read_to_end(&mut output, &mut bytes)).await.unwrap();
    assert_eq!(bytes, b"B=\0A=\xff \n'\"$x=\0B2=\xc3\xbc\0");

    command.argv = vec!["printf".into(), "%s|".into(), "".into(), "a b".into(), "*".into()];
    assert_eq!(run(&command).await.stdout, "|a b|*|");
}

#[tokio::test]
async fn the_program_leads_a_session_and_a_group_without_a_terminal() {
    let mut command = script("read line; : 2>/dev/null </dev/tty && echo terminal");
    command.stdin = Stdin::Pipe;
    let child = start(&command);
    let pid = child.leader.pid();
    let process = Process::read(pid).unwrap();
    assert_eq!((process.group, process.session), (pid, pid));
    assert_eq!(process.parent, std::process::id());
    assert_eq!(finish(child).await.stdout, "");
}

#[tokio::test]
async fn the_program_outlives_the_thread_that_started_it() {
    let mut command = command(&["cat"]);
    command.stdin = Stdin::Pipe;
    let child = std::thread::spawn(move || start(&command)).join().unwrap();
    assert_eq!(finish(child).await.exit, Exit::Code(0));
}

#[test]
fn the_umask_is_022_whatever_the_agent_has() {
    if !alone(module_path!(), "the_umask_is_022_whatever_the_agent_has") {
        return;
    }
    for inherited in [0, 0o002, 0o007, 0o077] {
        rustix::process::umask(Mode::from_raw_mode(inherited));
        assert_eq!(block_on(run(&script("umask"))).stdout, "0022\n");
        // The agent's own is untouched.
        assert_eq!(rustix::process::umask(Mode::from_raw_mode(inherited)).as_raw_mode(), inherited);
    }
}

#[test]
fn the_program_is_no_nicer_than_others_and_no_more_apt_to_be_killed() {
    if !alone(module_path!(), "the_program_is_no_nicer_than_others_and_no_more_apt_to_be_killed") {
        return;
    }
    let own = |name: &str| std::fs::read_to_string(format!("/proc/self/{name}")).unwrap();
    // Worse than usual needs no rights; back to the usual priority does.
    rustix::process::setpriority_process(None, 5).unwrap();
    std::fs::write("/proc/self/oom_score_adj", "300").unwrap();
    let said = block_on(run(&script("nice; cat /proc/self/oom_score_adj"))).stdout;
    let (nice, killed) = said.split_once('\n').unwrap();
    let may = rustix::process::geteuid().is_root();
    assert_eq!(nice, if may { "0" } else { "5" });
    assert_eq!(killed, "0\n");
    assert_eq!(own("oom_score_adj"), "300\n", "the agent's own is untouched");
    assert_eq!(rustix::process::getpriority_process(None).unwrap(), 5);
}

#[test]
fn the_program_has_the_limits_that_the_agent_was_started_with() {
    if !alone(module_path!(), "the_program_has_the_limits_that_the_agent_was_started_with") {
        return;
    }
    let files = getrlimit(Resource::Nofile).maximum;
    let core = getrlimit(Resource::Core).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: Some(300), maximum: files }).unwrap();
    setrlimit(Resource::Core, Rlimit { current: core, maximum: core }).unwrap();
    assert_eq!(limits::raise_files(), files);
    harden::harden().unwrap();
    assert_eq!(getrlimit(Resource::Nofile).current, files);
    assert_eq!(getrlimit(Resource::Core).current, Some(0));
    let shown = |limit: Option<u64>| limit.map_or_else(|| "unlimited".into(), |n| n.to_string());
    let script = script("ulimit -Sn; ulimit -Hn; prlimit -c -o SOFT --noheadings --raw --pid $$");
    let expected = format!("300\n{}\n{}\n", shown(files), shown(core));
    assert_eq!(block_on(run(&script)).stdout, expected);
}

#[tokio::test]
async fn a_program_without_a_slash_is_looked_for_in_the_path_of_its_own_environment() {
    let directory = tempfile::tempdir().unwrap();
    let (first, second) = (directory.path().join("first"), directory.path().join("second"));
    for at in [&first, &second] {
        std::fs::create_dir(at).unwrap();
    }
    write(&second.join("tool"), "#!/bin/sh\necho second\n", 0o755);
    let path = format!("/nonexistent:{}:{}", first.display(), second.display());
    let mut command = command(&["tool"]);
    command.env = vec![("PATH".into(), path.into())];
    assert_eq!(run(&command).await.stdout, "second\n");

    // One that may not be executed does not end the search.
    write(&first.join("tool"), "#!/bin/sh\necho first\n", 0o644);
    assert_eq!(run(&command).await.stdout, "second\n");
    std::fs::set_permissions(first.join("tool"), PermissionsExt::from_mode(0o755)).unwrap();
    assert_eq!(run(&command).await.stdout, "first\n");

    // An empty directory is the one in which the program starts.
    command.env = vec![("PATH".into(), ":/nonexistent".into())];
    command.cwd = Some(second);
    assert_eq!(run(&command).await.stdout, "second\n");

    // Without any, the usual places.
    let usual = SpawnCommand { argv: vec!["true".into()], cwd: None, env: Vec::new(), ..command };
    assert_eq!(run(&usual).await.exit, Exit::Code(0));
}

#[tokio::test]
async fn the_directory_is_where_the_program_starts() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().canonicalize().unwrap();
    let mut command = command(&["pwd"]);
    command.cwd = Some(path.clone());
    assert_eq!(run(&command).await.stdout, format!("{}\n", path.display()));
}

#[test]
fn what_cannot_be_executed_is_told_exactly() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    write(at("plain").as_ref(), "#!/bin/sh\n", 0o644);
    write(at("orphan").as_ref(), "#!/no/such/interpreter\n", 0o755);
    write(at("text").as_ref(), "echo no program\n", 0o755);
    let check = |program: &str, message: &str| {
        let failure = spawn(&command(&[program, "x"])).unwrap_err();
        assert_eq!(failure.kind, Kind::ExecFailed);
        assert_eq!(failure.message, message.replace("DIR/", &at("")));
    };
    check("no-such", "cannot start `no-such`: no directory of `PATH` has such a program (ENOENT)");
    check(&at("no"), "cannot start `DIR/no`: no such file or directory (ENOENT)");
    check(&at("plain/x"), "cannot start `DIR/plain/x`: not a directory (ENOTDIR)");
    check(&at("plain"), "cannot start `DIR/plain`: may not be executed (EACCES)");
    check(&at(""), "cannot start `DIR/`: is a directory (EACCES)");
    check(&at("text"), "cannot start `DIR/text`: not a program for this system (ENOEXEC)");
    check(
        &at("orphan"),
        "cannot start `DIR/orphan`: the interpreter or loader that it names does not exist (ENOENT)",
    );
    let long = "n".repeat(300);
    let failure = spawn(&command(&[&long])).unwrap_err();
    assert!(failure.message.ends_with("…`: file name too long (ENAMETOOLONG)"), "{failure}");

    // In a search, what is there and cannot be executed says more than what is not there.
    let mut command = command(&["plain"]);
    command.env = vec![("PATH".into(), format!("{}:/bin", directory.path().display()).into())];
    let failure = spawn(&command).unwrap_err();
    assert_eq!(
        failure.message,
        format!("cannot start `{}`: may not be executed (EACCES)", at("plain"))
    );
    command.argv = vec!["orphan".into()];
    let failure = spawn(&command).unwrap_err();
    assert!(failure.message.contains("the interpreter or loader"), "{failure}");

    // Of several, the first one.
    let other = tempfile::tempdir().unwrap();
    for (name, mode) in [("orphan", 0o644), ("plain", 0o644)] {
        write(&other.path().join(name), "#!/bin/sh\n", mode);
        command.argv = vec![name.into()];
        let path = format!("{}:{}", directory.path().display(), other.path().display());
        command.env = vec![("PATH".into(), path.into())];
        let failure = spawn(&command).unwrap_err();
        assert!(failure.message.contains(&at(name)), "{failure}");
    }
}

#[test]
fn a_command_that_makes_no_sense_is_refused() {
    let refused = |change: &dyn Fn(&mut SpawnCommand), kind: Kind, message: &str| {
        let mut command = command(&["true"]);
        change(&mut command);
        let failure = spawn(&command).unwrap_err();
        assert_eq!((failure.kind, failure.message.as_str()), (kind, message));
    };
    let empty = "the name of the program is empty";
    refused(&|c| c.argv.clear(), Kind::EmptyCommand, empty);
    refused(&|c| c.argv = vec!["".into(), "x".into()], Kind::EmptyCommand, empty);
    let invalid = Kind::InvalidArgument;
    refused(&|c| c.argv.push("a\0b".into()), invalid, "an argument contains a NUL byte: `a\\0b`");
    refused(&|c| c.cwd = Some("/\0".into()), invalid, "the directory contains a NUL byte: `/\\0`");
    let variable = |name: &str| vec![(name.into(), "v".into())];
    refused(&|c| c.env = variable("A\0"), invalid, "a variable contains a NUL byte: `A\\0=v`");
    refused(&|c| c.env = variable(""), invalid, "`` is not the name of a variable");
    refused(&|c| c.env = variable("A=B"), invalid, "`A=B` is not the name of a variable");
    let path = |colons: usize| vec![("PATH".into(), ":".repeat(colons).into())];
    let many = "`PATH` has 1025 directories, at most 1024 are searched";
    refused(&|c| c.env = path(1024), Kind::TooLarge, many);
    let none = "cannot start `true`: no directory of `PATH` has such a program (ENOENT)";
    refused(&|c| c.env = path(1023), Kind::ExecFailed, none);
    let failure = spawn(&command(&["true", &"x".repeat(200_000)])).unwrap_err();
    assert_eq!(failure.kind, Kind::TooLarge);
    assert_eq!(failure.message, "arguments and environment of `true` are too large (E2BIG)");
}

#[test]
fn a_directory_that_cannot_be_entered_is_told() {
    let check = |cwd: &str, message: &str| {
        let mut command = command(&["true"]);
        command.cwd = Some(cwd.into());
        let failure = spawn(&command).unwrap_err();
        assert_eq!((failure.kind, failure.message.as_str()), (Kind::CwdNotFound, message));
    };
    check("/no/such", "cannot enter the directory `/no/such`: no such file or directory (ENOENT)");
    check("/etc/passwd", "cannot enter the directory `/etc/passwd`: not a directory (ENOTDIR)");
    check("", "cannot enter the directory ``: no such file or directory (ENOENT)");
    // It comes before the program, which may be relative to it.
    let mut command = command(&["no-such-program"]);
    command.cwd = Some("/no/such".into());
    assert_eq!(spawn(&command).unwrap_err().kind, Kind::CwdNotFound);
}

#[test]
fn a_user_has_its_own_rights_and_nothing_of_ours() {
    let Some(user) = nobody("a_user_has_its_own_rights_and_nothing_of_ours") else { return };
    let user = User { groups: vec![user.gid, 4321], ..user };
    let mut command = script(
        "id -u; id -ru; id -g; id -G; grep -E '^Cap(Prm|Eff|Amb)' /proc/self/status; \
         cat /proc/self/environ >/dev/null",
    );
    command.user = Some(user.clone());
    let none = "0000000000000000";
    let expected = format!(
        "{0}\n{0}\n{1}\n{1} 4321\nCapPrm:\t{none}\nCapEff:\t{none}\nCapAmb:\t{none}\n",
        user.uid, user.gid,
    );
    // On Linux groups belong to the thread, and this one ends with the test.
    let thread = std::thread::spawn(move || {
        rustix::thread::set_thread_groups(&[rustix::process::Gid::from_raw(1234)]).unwrap();
        block_on(run(&command))
    });
    let ended = thread.join().unwrap();
    assert_eq!((ended.stdout, ended.exit), (expected, Exit::Code(0)));
    assert!(rustix::process::geteuid().is_root());
}

#[tokio::test]
async fn the_agents_own_user_may_be_named() {
    let mut command = script("id -u; id -g");
    let user = User::current().unwrap();
    let expected = format!("{}\n{}\n", user.uid, user.gid);
    command.user = Some(user);
    assert_eq!(run(&command).await.stdout, expected);
}

#[test]
fn directory_and_program_are_judged_by_the_rights_of_the_user() {
    let test = "directory_and_program_are_judged_by_the_rights_of_the_user";
    let Some(user) = nobody(test) else { return };
    let directory = tempfile::tempdir().unwrap();
    std::fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let secret = directory.path().join("secret");
    std::fs::create_dir(&secret).unwrap();
    std::fs::set_permissions(&secret, PermissionsExt::from_mode(0o700)).unwrap();
    write(&directory.path().join("tool"), "#!/bin/sh\n", 0o700);

    let mut command = command(&["true"]);
    command.cwd = Some(secret);
    assert!(spawn(&command).is_ok());
    command.user = Some(user);
    let failure = spawn(&command).unwrap_err();
    assert_eq!(failure.kind, Kind::CwdNotFound);
    assert!(failure.message.ends_with("/secret`: permission denied (EACCES)"), "{failure}");

    command.cwd = None;
    command.argv = vec![directory.path().join("tool").into()];
    let failure = spawn(&command).unwrap_err();
    assert_eq!(failure.kind, Kind::ExecFailed);
    assert!(failure.message.ends_with("/tool`: may not be executed (EACCES)"), "{failure}");
}

#[test]
fn an_agent_that_is_not_root_runs_programs_as_itself_only() {
    let test = "an_agent_that_is_not_root_runs_programs_as_itself_only";
    let Some(user) = nobody(test) else { return };
    // On Linux the rights belong to the thread, and this one ends with the test.
    let thread = std::thread::spawn(move || {
        let uid = rustix::process::Uid::from_raw(user.uid);
        rustix::thread::set_thread_res_uid(uid, uid, uid).unwrap();
        let mut command = command(&["true"]);
        command.user = Some(user);
        spawn(&command).unwrap();
        command.user = Some(User::by_name("root").unwrap());
        spawn(&command).unwrap_err()
    });
    let failure = thread.join().unwrap();
    assert_eq!(failure.kind, Kind::UserNotAllowed);
    assert_eq!(
        failure.message,
        "the agent runs as user 65534 and not as root, so it cannot start a program as `root`"
    );
}

#[test]
fn what_has_run_out_is_named() {
    if !alone(module_path!(), "what_has_run_out_is_named") {
        return;
    }
    let mut command = command(&["true"]);
    // As the agent does, before it changes any.
    limits::raise_files();
    let before = getrlimit(Resource::Nofile);
    // From no free descriptor at all to as many as are needed, which are eight at most.
    let mut refusals = 0;
    let highest = std::fs::File::open("/dev/null").unwrap().as_raw_fd();
    for free in 0..=8 {
        let current = Some(u64::try_from(highest).unwrap() + free);
        setrlimit(Resource::Nofile, Rlimit { current, ..before }).unwrap();
        let open = descriptors_without_listing();
        match spawn(&command) {
            Ok(child) => drop(child),
            Err(failure) => {
                assert_eq!(failure.kind, Kind::ResourceExhausted, "{failure}");
                let end = "the agent's limit of open files is reached (EMFILE)";
                assert!(failure.message.ends_with(end), "{failure}");
                refusals += 1;
            }
        }
        assert_eq!(descriptors_without_listing(), open, "with {free} free");
    }
    assert!((5..=8).contains(&refusals), "{refusals}");
    setrlimit(Resource::Nofile, before).unwrap();

    let Some(user) = nobody("what_has_run_out_is_named (processes)") else { return };
    // The limit counts what the user has already, which therefore must not be nothing.
    let first =
        start(&SpawnCommand { user: Some(user.clone()), stdin: Stdin::Pipe, ..script("cat") });
    setrlimit(Resource::Nproc, Rlimit { current: Some(0), maximum: Some(0) }).unwrap();
    command.user = Some(user);
    let failure = spawn(&command).unwrap_err();
    assert_eq!(failure.kind, Kind::ResourceExhausted);
    let text = "cannot start the program: the limit of processes is reached (EAGAIN)";
    assert_eq!(failure.message, text);
    assert_eq!(block_on(finish(first)).exit, Exit::Code(0));
}

#[test]
fn two_thousand_programs_leave_no_descriptor_and_no_zombie() {
    if !alone(module_path!(), "two_thousand_programs_leave_no_descriptor_and_no_zombie") {
        return;
    }
    let user = nobody("two_thousand_programs_leave_no_descriptor_and_no_zombie (as another user)");
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(4).enable_all().build().unwrap();
    let batch = |count: usize| {
        let tasks: Vec<_> = (0..4)
            .map(|task| {
                let user = user.clone();
                runtime.spawn(async move {
                    for round in 0..count / 4 {
                        one_of_many(task + round, user.as_ref()).await;
                    }
                })
            })
            .collect();
        for task in tasks {
            runtime.block_on(task).unwrap();
        }
    };
    batch(40);
    let before = descriptors();
    batch(2000);
    assert_eq!(descriptors(), before);
    let own = std::process::id();
    let children: Vec<_> =
        Process::all().unwrap().filter(|process| process.parent == own).collect();
    assert_eq!(children, []);
}

/// One program, of another kind in each round.
async fn one_of_many(round: usize, user: Option<&User>) {
    let mut command = command(&["true"]);
    match round % 5 {
        0 => command.argv = vec!["/no/such/program".into()],
        1 => command.cwd = Some("/no/such/directory".into()),
        2 => command.user = user.cloned(),
        3 => command.stdin = Stdin::Pipe,
        _ => command.argv = vec!["sh".into(), "-c".into(), "exit 127".into()],
    }
    match (round % 5, spawn(&command)) {
        (0, result) => assert_eq!(result.unwrap_err().kind, Kind::ExecFailed),
        (1, result) => assert_eq!(result.unwrap_err().kind, Kind::CwdNotFound),
        (4, result) => assert_eq!(finish(result.unwrap()).await.exit, Exit::Code(127)),
        (_, result) => assert_eq!(finish(result.unwrap()).await.exit, Exit::Code(0)),
    }
}

#[tokio::test]
async fn a_copied_child_does_and_reports_the_same_as_a_shared_one() {
    for (argv, cwd) in [
        (vec!["sh", "-c", "exit 3"], "/"),
        (vec!["/no/such"], "/"),
        (vec!["no-such"], "/"),
        (vec!["/etc"], "/"),
        (vec!["true"], "/no/such"),
    ] {
        let mut command = command(&argv);
        command.cwd = Some(cwd.into());
        let plan = plan::ExecPlan::new(&command).unwrap();
        let pipes = Pipes::open(Stdin::Null).unwrap();
        let copied = launch::copied(&plan, pipes.theirs()).unwrap();
        let told = copied.report.map(|report| report.failure(&command, &plan));
        let leader = Leader::new(copied.pid, clock::boottime(), copied.pidfd);
        let exit = soon(leader.exited()).await.unwrap();
        match spawn(&command) {
            Ok(child) => assert_eq!((exit, None), (finish(child).await.exit, told)),
            Err(failure) => assert_eq!(Some(failure), told),
        }
    }
}

#[test]
fn standard_descriptors_that_were_closed_are_no_trouble() {
    if !alone(module_path!(), "standard_descriptors_that_were_closed_are_no_trouble") {
        return;
    }
    // The runtime comes first, so that it is the pipes that get the low numbers.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let script = script("echo out; echo err >&2; cat");
    // SAFETY: nothing holds the standard input of a test for its own.
    unsafe { libc::close(0) };
    let ended = runtime.block_on(run(&script));
    assert_eq!((ended.stdout.as_str(), ended.stderr.as_str()), ("out\n", "err\n"));
    assert_eq!(ended.exit, Exit::Code(0));
}

fn write(path: &Path, text: &str, mode: u32) {
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
}

fn block_on<T>(what: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(what)
}

/// Open descriptors below the limit, found without opening one.
fn descriptors_without_listing() -> usize {
    // SAFETY: the numbers are not -1, and the descriptors are only asked about.
    let open = |number| rustix::io::fcntl_getfd(unsafe { BorrowedFd::borrow_raw(number) }).is_ok();
    (0..256).filter(|number| open(*number)).count()
}
