//! What becomes of a request, by its id, its owner, its body and the process that it was for.

use std::os::fd::OwnedFd;
use std::time::Duration;

use farwire_protocol::cbor::Blob;
use farwire_protocol::id::Id;
use farwire_protocol::streams::run::{Delivery, Digest, Exit, Program, Reason};
use farwire_protocol::surface::Surface;
use tokio::sync::watch;

use super::table::TOMBSTONES;
use super::*;
use crate::gate::principal::Principal;
use crate::jobs::past::Recorded;
use crate::os::wait::Leader;
use crate::program::Phase;
use crate::sessions::Sessions;

const HERE: Nonce = Nonce([1; 16]);

fn owner(device: u8) -> Arc<Principal> {
    Arc::new(Principal::new(Id([device; 32]), Surface::Human, "laptop"))
}

/// An asker on behalf of `who`.
fn asker(who: &Arc<Principal>) -> Asker {
    Asker::new(who.clone(), watch::Sender::default().subscribe())
}

fn start(request: u8, line: &str) -> Start {
    Start {
        request: Nonce([request; 16]),
        instance: HERE,
        program: Program::Line(Blob(line.as_bytes().to_vec())),
        cwd: None,
        env: None,
        user: None,
        login: None,
        timeout_ms: None,
        stdin: None,
        delivery: Delivery::Nothing,
        input: None,
    }
}

fn jobs(state: &Path) -> Arc<Jobs> {
    prepare(state).unwrap();
    Arc::new(Jobs::open(state, HERE, thread).unwrap())
}

/// As the next agent finds it.
fn next(state: &Path, number: u8) -> Arc<Jobs> {
    Arc::new(Jobs::open(state, Nonce([number; 16]), thread).unwrap())
}

fn of_a_model(device: u8) -> Arc<Principal> {
    Arc::new(Principal { surface: Surface::AiLocal, ..(*owner(device)).clone() })
}

fn stop(n: u8) -> Stop {
    Stop { job: None, request: Some(Nonce([n; 16])), signal: None, instance: None }
}

/// A holder on a thread of its own: this program is not an agent.
fn thread(_: &Path, socket: OwnedFd) -> Result<Option<Leader>, Failure> {
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(crate::holder::hold(socket)).unwrap();
    });
    Ok(None)
}

impl Jobs {
    /// Takes over what is left of the previous agent, including sessions.
    async fn adopt(self: &Arc<Self>) -> Vec<Recalled> {
        let state = self.directory.parent().unwrap();
        let sessions = Sessions::open(self.clone(), state, None).unwrap();
        Arc::new(sessions).adopt().await
    }

    /// The same on this thread.
    fn start_here(
        self: &Arc<Self>,
        owner: &Arc<Principal>,
        start: &Start,
        hash: [u8; 32],
    ) -> Result<(Arc<Job>, bool), Failure> {
        let asked = Asking { request: start.request, instance: start.instance, hash };
        if let Some(job) = self.look_up(&self.lock(), owner, &asked)? {
            return Ok((job, true));
        }
        let plan = JobPlan::run(start, crate::os::user::User::current()?)?;
        self.begin(owner, asked, |_| Ok(plan)).map(|Begun { job, known }| (job, known))
    }
}

fn kind<T>(result: Result<T, Failure>) -> Option<Kind> {
    result.err().map(|failure| failure.kind)
}

async fn ended(job: &Job) {
    let mut phase = job.phase();
    phase.wait_for(|phase| !matches!(phase, Phase::Queued | Phase::Running(_))).await.unwrap();
}

#[tokio::test]
async fn a_request_is_carried_out_once_and_only_as_it_was() {
    let state = tempfile::tempdir().unwrap();
    let jobs = jobs(state.path());
    let mark = state.path().join("mark");
    let request = start(7, &format!("echo x >> {}; exit 3", mark.display()));
    let (first, known) = jobs.start_here(&owner(1), &request, [5; 32]).unwrap();
    assert!(!known);
    let (second, known) = jobs.start_here(&owner(1), &request, [5; 32]).unwrap();
    assert!(known && Arc::ptr_eq(&first, &second));
    let other = jobs.start_here(&owner(1), &request, [6; 32]);
    assert_eq!(kind(other), Some(Kind::RequestIdConflict), "the same id for something else");
    let other = jobs.start_here(&owner(2), &request, [5; 32]);
    assert_eq!(kind(other), Some(Kind::RequestIdConflict), "somebody else's id");
    ended(&first).await;
    assert_eq!(first.state().exit, Some(Exit::Code(3)));
    assert!(jobs.start_here(&owner(1), &request, [5; 32]).unwrap().1, "also after its end");
    // Nor when the job has been thrown away.
    jobs.lock().jobs.clear();
    assert_eq!(kind(jobs.start_here(&owner(1), &request, [5; 32])), Some(Kind::Expired));
    assert_eq!(std::fs::read_to_string(mark).unwrap(), "x\n");
}

#[tokio::test]
async fn a_request_for_another_process_is_never_carried_out() {
    let state = tempfile::tempdir().unwrap();
    let before = jobs(state.path());
    let (job, _) = before.start_here(&owner(1), &start(7, "exit 3"), [5; 32]).unwrap();
    ended(&job).await;
    before.start_here(&owner(1), &start(8, "sleep 5"), [5; 32]).unwrap();
    before.tasks.close();
    until_journalled(state.path(), "exit code 3").await;

    let now = Arc::new(Jobs::open(state.path(), Nonce([2; 16]), thread).unwrap());
    let asked =
        |request: u8, hash: u8| now.start_here(&owner(1), &start(request, "exit 3"), [hash; 32]);
    let ended = asked(7, 5).unwrap_err();
    assert_eq!(ended.kind, Kind::OutcomeUnknown);
    assert!(ended.message.contains("exit code 3"), "{ended}");
    assert_eq!(kind(asked(8, 5)), Some(Kind::OutcomeUnknown));
    assert_eq!(kind(asked(8, 6)), Some(Kind::RequestIdConflict));
    assert_eq!(kind(asked(9, 5)), Some(Kind::StreamStale), "all of that process is known");
    assert_eq!(now.load().0, 0);
    // A journal that is not whole proves nothing.
    let journal = state.path().join("journal");
    let mut bytes = std::fs::read(&journal).unwrap();
    let last = bytes.len() - 3;
    bytes[last] ^= 1;
    std::fs::write(&journal, bytes).unwrap();
    let third = Arc::new(Jobs::open(state.path(), Nonce([3; 16]), thread).unwrap());
    let asked = |request: u8| third.start_here(&owner(1), &start(request, "exit 3"), [5; 32]);
    for request in [7, 8, 9] {
        assert_eq!(kind(asked(request)), Some(Kind::OutcomeUnknown), "{request}");
    }
    let stop = |request: u8, instance: Option<Nonce>| {
        let request = Some(Nonce([request; 16]));
        third.stop(&asker(&owner(1)), &Stop { job: None, request, signal: None, instance })
    };
    assert_eq!(stop(7, None).unwrap(), Stopped::Ended);
    for request in [8, 9] {
        assert_eq!(kind(stop(request, None)), Some(Kind::OutcomeUnknown), "{request}");
    }
    assert_eq!(stop(10, Some(Nonce([3; 16]))).unwrap(), Stopped::NeverStarted);
    let late = Start { instance: Nonce([3; 16]), ..start(9, "exit 3") };
    let late = third.start_here(&owner(1), &late, [5; 32]);
    assert_eq!(kind(late), Some(Kind::Cancelled), "a stop holds also where the outcome is unknown");
}

/// A run that goes on under the next agent is found by its request, whatever the journal knows.
#[tokio::test]
async fn a_run_that_is_taken_over_is_known_without_the_journal() {
    let state = tempfile::tempdir().unwrap();
    let before = jobs(state.path());
    let (job, _) = before.start_here(&owner(1), &start(7, "sleep 60"), [5; 32]).unwrap();
    job.wait_for_start().await.unwrap();
    std::fs::remove_file(state.path().join("journal")).unwrap();
    let now = Arc::new(Jobs::open(state.path(), Nonce([2; 16]), thread).unwrap());
    now.adopt().await;
    let (again, known) = now.start_here(&owner(1), &start(7, "sleep 60"), [5; 32]).unwrap();
    assert!(known && again.id == job.id);
    let other = now.start_here(&owner(1), &start(7, "sleep 60"), [6; 32]);
    assert_eq!(kind(other), Some(Kind::RequestIdConflict));
    let stop = Stop { job: None, request: Some(job.id), signal: None, instance: None };
    let renamed = Arc::new(Principal { name: "desk".into(), ..(*owner(1)).clone() });
    assert_eq!(now.stop(&asker(&renamed), &stop).unwrap(), Stopped::Signalled);
    ended(&again).await;
}

/// The note about a run is never longer than the next agent reads.
#[tokio::test]
async fn a_run_with_long_patterns_is_taken_over_like_any_other() {
    let state = tempfile::tempdir().unwrap();
    let before = jobs(state.path());
    let (job, _) = before.start_here(&owner(1), &start(7, "sleep 60"), [5; 32]).unwrap();
    job.wait_for_start().await.unwrap();
    for number in 0..40 {
        let until = Some("x".repeat(4_096 - number));
        let digest = Digest {
            wait_ms: 1,
            head: 0,
            tail: 0,
            from: None,
            until,
            until_new: None,
            progress: None,
        };
        job.talked_about(Nonce([number as u8; 16]), &Delivery::Digest(digest));
    }
    // Its holder may still be reading what the previous agent has sent.
    let mut now;
    loop {
        now = Arc::new(Jobs::open(state.path(), Nonce([2; 16]), thread).unwrap());
        let conversations = now.adopt().await;
        let latest = conversations.last().map(|recalled| recalled.conversation);
        if latest == Some(Nonce([39; 16])) {
            break;
        }
    }
    let stop = Stop { job: None, request: Some(job.id), signal: None, instance: None };
    assert_eq!(now.stop(&asker(&owner(1)), &stop).unwrap(), Stopped::Signalled);
}

#[tokio::test]
async fn one_devices_waiting_runs_keep_no_other_device_waiting() {
    let state = tempfile::tempdir().unwrap();
    let jobs = jobs(state.path());
    let request = |n: u16| Start {
        request: Nonce((1_u128 << 100 | u128::from(n)).to_be_bytes()),
        ..start(0, "exec sleep 600")
    };
    let waiting: Vec<_> =
        (0..100).map(|n| jobs.start_here(&owner(1), &request(n), [5; 32]).unwrap().0).collect();
    for job in &waiting[..CONCURRENT] {
        job.wait_for_start().await.unwrap();
    }
    assert!(waiting[CONCURRENT..].iter().all(|job| job.state().queued == Some(true)));
    let (other, _) = jobs.start_here(&owner(2), &start(7, "exit 3"), [5; 32]).unwrap();
    ended(&other).await;
    assert_eq!(other.state().exit, Some(Exit::Code(3)));
    for job in &waiting {
        jobs.find(&asker(&owner(1)), job.id).unwrap().stop(Some(9)).unwrap();
    }
    for job in &waiting {
        ended(job).await;
    }
}

#[tokio::test]
async fn what_is_written_of_a_run_that_ended_is_read_by_the_next_agent_or_not_at_all() {
    let state = tempfile::tempdir().unwrap();
    let first = jobs(state.path());
    first.adopt().await;
    for (n, line) in [(7, "echo out; echo err >&2; exit 3"), (8, "seq 1 100000")] {
        let (job, _) = first.start_here(&owner(1), &start(n, line), [5; 32]).unwrap();
        ended(&job).await;
    }
    let record = |state: &Path, n: u8| state.join("runs").join(Nonce([n; 16]).to_string());
    until_there(&[record(state.path(), 7), record(state.path(), 8)]).await;
    until_journalled(state.path(), "exit code 3").await;
    // As for an agent whose holders are gone.
    let copy = tempfile::tempdir().unwrap();
    for name in ["runs", "spool"] {
        std::fs::create_dir(copy.path().join(name)).unwrap();
        for entry in std::fs::read_dir(state.path().join(name)).unwrap() {
            let entry = entry.unwrap();
            std::fs::copy(entry.path(), copy.path().join(name).join(entry.file_name())).unwrap();
        }
    }
    std::fs::copy(state.path().join("journal"), copy.path().join("journal")).unwrap();
    let next = |n: u8| Arc::new(Jobs::open(copy.path(), Nonce([n; 16]), thread).unwrap());
    let now = next(2);
    now.adopt().await;
    let found = now.find(&asker(&owner(1)), Nonce([7; 16])).unwrap();
    assert_eq!(found.state().exit, Some(Exit::Code(3)));
    assert_eq!((found.state().lines, found.state().bytes), (2, 8));
    assert_eq!(found.spool.offset_of(4, 4), Some(8), "what was standard error");
    let (again, known) = now.start_here(&owner(1), &start(7, "any"), [5; 32]).unwrap();
    assert!(known && again.id == found.id);
    let other = now.start_here(&owner(1), &start(7, "any"), [6; 32]);
    assert_eq!(kind(other), Some(Kind::RequestIdConflict));
    let found = now.find(&asker(&owner(1)), Nonce([8; 16])).unwrap();
    let tail = found.spool.tail(1, 100);
    assert_eq!((tail.first_line, &tail.bytes[..]), (100_000, &b"100000\n"[..]));
    assert!(now.load().1 > 500_000, "it counts as kept");
    // A damaged one is no record; how it ended is in the journal.
    let (runs, path) = (copy.path().join("runs"), record(copy.path(), 7));
    let whole = std::fs::read(&path).unwrap();
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        for bytes in [&bytes[..], &whole[..at]] {
            std::fs::write(&path, bytes).unwrap();
            let read = ended::read(&runs, Nonce([7; 16]), copy.path());
            assert!(matches!(read, Recorded::Damaged), "at {at}");
        }
    }
    let third = next(3);
    third.adopt().await;
    let gone = third.find(&asker(&owner(1)), Nonce([7; 16])).unwrap_err();
    assert_eq!(gone.kind, Kind::Expired);
    assert!(gone.message.contains("exit code 3"), "{gone}");
    assert_eq!(kind(third.find(&asker(&owner(1)), Nonce([77; 16]))), Some(Kind::UnknownId));
}

async fn until_there(paths: &[PathBuf]) {
    tokio::time::timeout(Duration::from_secs(60), async {
        while !paths.iter().all(|path| path.exists()) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .expect("they are written");
}

/// A run that cannot be recorded is refused, and can be requested again.
#[tokio::test]
async fn nothing_is_started_that_cannot_be_written_down() {
    let state = tempfile::tempdir().unwrap();
    let jobs = jobs(state.path());
    let blocked = state.path().join("journal.new");
    std::fs::create_dir(&blocked).unwrap();
    jobs.lock().journal.close();
    let refused = jobs.start_here(&owner(1), &start(7, "exit 3"), [5; 32]);
    assert_eq!(kind(refused), Some(Kind::Io));
    assert_eq!(jobs.load().0, 0);
    std::fs::remove_dir(&blocked).unwrap();
    let (job, known) = jobs.start_here(&owner(1), &start(7, "exit 3"), [5; 32]).unwrap();
    assert!(!known);
    ended(&job).await;
    assert_eq!(job.state().exit, Some(Exit::Code(3)));
}

async fn until_journalled(state: &Path, end: &str) {
    let written = || std::fs::read_to_string(state.join("journal")).unwrap_or_default();
    tokio::time::timeout(Duration::from_secs(60), async {
        while !written().contains(end) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .expect("it is written");
}

/// An agent can be killed between a write to a program and its count: then nobody may repeat the
/// write.
#[tokio::test]
async fn input_that_may_have_been_written_is_not_taken_again() {
    let state = tempfile::tempdir().unwrap();
    let before = jobs(state.path());
    let piped = |n: u8| Start { stdin: Some(true), ..start(n, "cat") };
    for n in [7, 8] {
        let (job, _) = before.start_here(&owner(1), &piped(n), [5; 32]).unwrap();
        job.wait_for_start().await.unwrap();
        let (seat, at) = job.program.claim_input().unwrap();
        assert_eq!(at, 0);
        assert!(job.program.write_input(seat, b"one").await);
        if n == 8 {
            job.spool.memory().unwrap().begin_input(3);
        }
    }
    let now = Arc::new(Jobs::open(state.path(), Nonce([2; 16]), thread).unwrap());
    now.adopt().await;
    let found = |n: u8| now.find(&asker(&owner(1)), Nonce([n; 16])).unwrap();
    let (_, at) = found(7).program.claim_input().unwrap();
    assert_eq!(at, 3, "what was written and counted");
    assert_eq!(kind(found(8).program.claim_input()), Some(Kind::InputUnknown));
}

#[tokio::test]
async fn a_stream_that_has_lost_the_input_writes_and_ends_nothing() {
    let state = tempfile::tempdir().unwrap();
    let jobs = jobs(state.path());
    let piped = Start { stdin: Some(true), ..start(7, "cat") };
    let (job, _) = jobs.start_here(&owner(1), &piped, [5; 32]).unwrap();
    let (old, _) = job.program.claim_input().unwrap();
    assert!(job.program.write_input(old, b"one ").await);
    let (new, at) = job.program.claim_input().unwrap();
    assert_eq!(at, 4);
    assert!(!job.program.write_input(old, b"twice ").await);
    job.program.end_input(old, 4).await;
    assert!(job.program.write_input(new, b"two").await);
    job.program.end_input(new, 7).await;
    ended(&job).await;
    assert_eq!(job.spool.bytes_from(0, 100).bytes, b"one two");
}

#[tokio::test]
async fn a_stop_that_overtakes_its_request_is_obeyed() {
    let state = tempfile::tempdir().unwrap();
    let jobs = jobs(state.path());
    assert_eq!(jobs.stop(&asker(&owner(1)), &stop(7)).unwrap(), Stopped::NeverStarted);
    let late = jobs.start_here(&owner(1), &start(7, "sleep 60"), [5; 32]);
    assert_eq!(kind(late), Some(Kind::Cancelled));
    // The stop of another owner, for whom this job does not exist, is for another request.
    let (job, _) = jobs.start_here(&owner(1), &start(8, "sleep 60"), [5; 32]).unwrap();
    assert_eq!(jobs.stop(&asker(&of_a_model(2)), &stop(8)).unwrap(), Stopped::NeverStarted);
    job.wait_for_start().await.unwrap();
    assert_eq!(jobs.stop(&asker(&owner(1)), &stop(8)).unwrap(), Stopped::Signalled);
    ended(&job).await;
    assert_eq!(job.state().reason, Some(Reason::Stopped));
    // One that waits for its turn never gets it.
    let (queued, _) = jobs.start_here(&owner(1), &start(9, "sleep 60"), [5; 32]).unwrap();
    assert_eq!(jobs.stop(&asker(&owner(1)), &stop(9)).unwrap(), Stopped::Signalled);
    assert_eq!(kind(queued.wait_for_start().await), Some(Kind::Cancelled));
    assert_eq!(jobs.stop(&asker(&owner(1)), &stop(8)).unwrap(), Stopped::Ended);
    jobs.lock().jobs.clear();
    assert_eq!(jobs.stop(&asker(&owner(1)), &stop(8)).unwrap(), Stopped::Ended, "it is remembered");
    for n in 0..=255 {
        let none =
            Stop { job: Some(Nonce([n; 16])), request: None, signal: Some(64), instance: None };
        assert_eq!(kind(jobs.stop(&asker(&owner(1)), &none)), Some(Kind::InvalidArgument));
    }
    let mut refused = None;
    for n in 0..=TOMBSTONES {
        let request = Some(Nonce((1_u128 << 64 | n as u128).to_be_bytes()));
        refused =
            kind(jobs.stop(
                &asker(&owner(3)),
                &Stop { job: None, request, signal: None, instance: None },
            ));
    }
    assert_eq!(refused, Some(Kind::Busy), "graves are counted");
}

/// Nobody who may see a job gets the answer that it did not start just because another surface or
/// device requested it.
#[tokio::test]
async fn a_stop_by_somebody_else_who_sees_the_job_stops_it() {
    let state = tempfile::tempdir().unwrap();
    let jobs = jobs(state.path());
    for (n, by) in [(7, of_a_model(1)), (8, owner(2))] {
        let (job, _) = jobs.start_here(&owner(1), &start(n, "sleep 60"), [5; 32]).unwrap();
        job.wait_for_start().await.unwrap();
        assert_eq!(jobs.stop(&asker(&by), &stop(n)).unwrap(), Stopped::Signalled);
        ended(&job).await;
        assert_eq!(job.state().reason, Some(Reason::Stopped));
    }
}

#[tokio::test]
async fn what_one_surface_of_a_device_is_told_holds_for_the_others() {
    let state = tempfile::tempdir().unwrap();
    let first = jobs(state.path());
    assert_eq!(first.stop(&asker(&of_a_model(1)), &stop(7)).unwrap(), Stopped::NeverStarted);
    let late = first.start_here(&owner(1), &start(7, "sleep 60"), [5; 32]);
    assert_eq!(kind(late), Some(Kind::Cancelled), "it was said that it never will");
    assert!(first.start_here(&owner(2), &start(7, "exit 3"), [5; 32]).is_ok(), "another device's");
    let (job, _) = first.start_here(&owner(1), &start(8, "exit 3"), [5; 32]).unwrap();
    ended(&job).await;
    first.lock().jobs.clear();
    assert_eq!(first.stop(&asker(&of_a_model(1)), &stop(8)).unwrap(), Stopped::Ended);
    until_journalled(state.path(), "exit code 3").await;
    assert_eq!(
        next(state.path(), 2).stop(&asker(&of_a_model(1)), &stop(8)).unwrap(),
        Stopped::Ended
    );
}

/// One device has four turns here: a fifth run waits.
async fn with_one_that_waits(state: &Path) -> (Arc<Jobs>, Arc<Job>) {
    prepare(state).unwrap();
    let mut jobs = Jobs::open(state, HERE, thread).unwrap();
    jobs.turns = Turns::new(4);
    let jobs = Arc::new(jobs);
    for n in 1..=4 {
        let (job, _) = jobs.start_here(&owner(1), &start(n, "exec sleep 60"), [5; 32]).unwrap();
        job.wait_for_start().await.unwrap();
    }
    let waits = format!("touch {}", state.join("mark").display());
    let (waits, _) = jobs.start_here(&owner(1), &start(9, &waits), [5; 32]).unwrap();
    assert!(waits.is_queued());
    (jobs, waits)
}

#[tokio::test]
async fn a_run_that_waits_when_its_agent_ends_is_known_not_to_have_started() {
    let state = tempfile::tempdir().unwrap();
    let (before, waits) = with_one_that_waits(state.path()).await;
    assert!(before.retire());
    let told = waits.wait_for_start().await.unwrap_err();
    assert!(told.kind == Kind::Cancelled && told.message.contains("not started"), "{told}");
    let late = before.start_here(&owner(1), &start(10, "exit 3"), [5; 32]);
    assert_eq!(kind(late), Some(Kind::ServerOffline));

    let now = next(state.path(), 2);
    let again = now.start_here(&owner(1), &start(9, "any"), [5; 32]).unwrap_err();
    assert!(again.kind == Kind::Cancelled && again.message.contains("never started"), "{again}");
    assert_eq!(
        kind(now.start_here(&owner(1), &start(9, "any"), [6; 32])),
        Some(Kind::RequestIdConflict)
    );
    let found = now.find(&asker(&owner(1)), Nonce([9; 16])).unwrap_err();
    assert_eq!(found.kind, Kind::Cancelled, "{found}");
    assert_eq!(now.stop(&asker(&owner(1)), &stop(9)).unwrap(), Stopped::NeverStarted);
    // Those that had their turn go on, and not only the journal knows them.
    assert_eq!(
        kind(now.start_here(&owner(1), &start(1, "any"), [5; 32])),
        Some(Kind::OutcomeUnknown)
    );
    now.adopt().await;
    for n in 1..=4 {
        assert_eq!(now.stop(&asker(&owner(1)), &stop(n)).unwrap(), Stopped::Signalled);
    }
    assert!(!state.path().join("mark").exists());
}

#[tokio::test]
async fn a_run_that_waits_when_its_agent_is_killed_may_have_started() {
    let state = tempfile::tempdir().unwrap();
    let (before, _) = with_one_that_waits(state.path()).await;
    let now = next(state.path(), 2);
    for asked in [9, 1] {
        let again = now.start_here(&owner(1), &start(asked, "any"), [5; 32]);
        assert_eq!(kind(again), Some(Kind::OutcomeUnknown), "{asked}");
        assert_eq!(
            kind(now.stop(&asker(&owner(1)), &stop(asked))),
            Some(Kind::OutcomeUnknown),
            "{asked}"
        );
    }
    for n in [9, 1, 2, 3, 4] {
        let _ = before.stop(&asker(&owner(1)), &stop(n));
    }
}

#[tokio::test]
async fn what_was_removed_from_the_state_makes_nothing_certain() {
    for removed in
        [&["spool"][..], &["spool", "journal"], &["journal"], &["spool", "runs", "journal"]]
    {
        let state = tempfile::tempdir().unwrap();
        let first = jobs(state.path());
        let (job, _) = first.start_here(&owner(1), &start(7, "exit 3"), [5; 32]).unwrap();
        ended(&job).await;
        until_journalled(state.path(), "exit code 3").await;
        // Damaged besides, so that the journal proves nothing by itself.
        let path = state.path().join("journal");
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[20] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        for name in removed {
            let path = state.path().join(name);
            let _ = std::fs::remove_dir_all(&path).or_else(|_| std::fs::remove_file(&path));
        }
        let now = next(state.path(), 2);
        for n in [8, 9] {
            assert_eq!(
                kind(now.stop(&asker(&owner(1)), &stop(n))),
                Some(Kind::OutcomeUnknown),
                "{removed:?}"
            );
        }
        if removed.contains(&"journal") {
            assert_eq!(
                kind(now.stop(&asker(&owner(1)), &stop(7))),
                Some(Kind::OutcomeUnknown),
                "{removed:?}"
            );
        }
    }
}

/// A holder keeps a run that has ended until its agent has recorded it.
#[tokio::test]
async fn a_run_that_cannot_be_written_down_is_not_forgotten_by_its_holder() {
    let state = tempfile::tempdir().unwrap();
    let first = jobs(state.path());
    first.adopt().await;
    let record = |n: u8| state.path().join("runs").join(Nonce([n; 16]).to_string());
    for n in [7, 8] {
        std::fs::create_dir(record(n)).unwrap();
        let (job, _) = first.start_here(&owner(1), &start(n, "echo out; exit 3"), [5; 32]).unwrap();
        ended(&job).await;
    }
    let (job, _) = first.start_here(&owner(1), &start(9, "exit 3"), [5; 32]).unwrap();
    ended(&job).await;
    until_there(&[record(9)]).await;
    // It is tried again.
    std::fs::remove_dir(record(8)).unwrap();
    tokio::time::timeout(Duration::from_secs(60), async {
        while !record(8).is_file() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .expect("it is written");
    let now = next(state.path(), 2);
    now.adopt().await;
    let found = now.find(&asker(&owner(1)), Nonce([7; 16])).unwrap();
    assert_eq!((found.state().exit, found.state().bytes), (Some(Exit::Code(3)), 4));
}

/// For lack of descriptors, say: a directory in place of a file stands for a file that cannot be
/// read.
#[tokio::test]
async fn what_cannot_be_read_is_left_for_the_next_agent_with_its_output() {
    let state = tempfile::tempdir().unwrap();
    let first = jobs(state.path());
    first.adopt().await;
    let (job, _) = first.start_here(&owner(1), &start(7, "seq 1 100000"), [5; 32]).unwrap();
    ended(&job).await;
    let id = Nonce([7; 16]).to_string();
    let (record, output) =
        (state.path().join("runs").join(&id), state.path().join("spool").join(&id));
    until_there(&[record.clone(), output.clone()]).await;
    // As for an agent whose holders are gone.
    let copy = tempfile::tempdir().unwrap();
    prepare(copy.path()).unwrap();
    for name in ["runs", "spool", "sessions", "sessions/00"] {
        std::fs::create_dir(copy.path().join(name)).unwrap();
    }
    let (copied, spooled) =
        (copy.path().join("runs").join(&id), copy.path().join("spool").join(&id));
    std::fs::copy(&output, &spooled).unwrap();
    std::fs::create_dir(&copied).unwrap();
    let session = |n: u8| copy.path().join("sessions").join(Nonce([n; 16]).to_string());
    std::fs::create_dir_all(session(1).join("session.json")).unwrap();
    std::fs::create_dir(session(2)).unwrap();
    std::fs::write(session(2).join("session.json"), "{").unwrap();
    next(copy.path(), 2).adopt().await;
    assert!(copied.exists() && spooled.exists() && session(1).exists());
    let aside = session(2).with_extension("damaged");
    assert!(aside.exists() && !session(2).exists());
    // It can be read again.
    std::fs::remove_dir(&copied).unwrap();
    std::fs::copy(&record, &copied).unwrap();
    let now = next(copy.path(), 3);
    now.adopt().await;
    let found = now.find(&asker(&owner(1)), Nonce([7; 16])).unwrap();
    assert_eq!(found.spool.tail(1, 100).bytes, b"100000\n");
    assert!(!aside.exists(), "damage is put aside for one start");
}
