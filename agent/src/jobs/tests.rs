//! What is done with a request, by its id, its owner, its text and the process that it was for.

use std::os::fd::OwnedFd;

use farwire_protocol::cbor::Blob;
use farwire_protocol::id::Id;
use farwire_protocol::streams::run::{Delivery, Exit, Program, Reason};
use farwire_protocol::surface::Surface;

use super::table::TOMBSTONES;
use super::*;
use crate::jobs::job::Phase;
use crate::os::wait::Leader;

const HERE: Nonce = Nonce([1; 16]);

fn owner(device: u8) -> Arc<Owner> {
    let name = "laptop".to_owned();
    Arc::new(Owner { device: Id([device; 32]), surface: Surface::Human, name })
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
    Arc::new(Jobs::open(state, HERE, thread).unwrap())
}

/// A holder on a thread of its own: this program is no agent.
fn thread(_: &Path, socket: OwnedFd) -> Result<Option<Leader>, Failure> {
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(crate::holder::hold(socket)).unwrap();
    });
    Ok(None)
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
    let (first, known) = jobs.start(&owner(1), &request, [5; 32]).unwrap();
    assert!(!known);
    let (second, known) = jobs.start(&owner(1), &request, [5; 32]).unwrap();
    assert!(known && Arc::ptr_eq(&first, &second));
    let other = jobs.start(&owner(1), &request, [6; 32]);
    assert_eq!(kind(other), Some(Kind::RequestIdConflict), "the same id for something else");
    let other = jobs.start(&owner(2), &request, [5; 32]);
    assert_eq!(kind(other), Some(Kind::RequestIdConflict), "somebody else's id");
    ended(&first).await;
    assert_eq!(first.state().exit, Some(Exit::Code(3)));
    assert!(jobs.start(&owner(1), &request, [5; 32]).unwrap().1, "also after its end");
    // Nor when the job has been thrown away.
    jobs.lock().jobs.clear();
    assert_eq!(kind(jobs.start(&owner(1), &request, [5; 32])), Some(Kind::Expired));
    assert_eq!(std::fs::read_to_string(mark).unwrap(), "x\n");
}

#[tokio::test]
async fn a_request_for_another_process_is_never_carried_out() {
    let state = tempfile::tempdir().unwrap();
    let before = jobs(state.path());
    let (job, _) = before.start(&owner(1), &start(7, "exit 3"), [5; 32]).unwrap();
    ended(&job).await;
    before.start(&owner(1), &start(8, "sleep 5"), [5; 32]).unwrap();
    before.tasks.close();
    until_journalled(state.path(), "exit code 3").await;

    let now = Arc::new(Jobs::open(state.path(), Nonce([2; 16]), thread).unwrap());
    let asked = |request: u8, hash: u8| now.start(&owner(1), &start(request, "exit 3"), [hash; 32]);
    let ended = asked(7, 5).unwrap_err();
    assert_eq!(ended.kind, Kind::OutcomeUnknown);
    assert!(ended.message.contains("exit code 3"), "{ended}");
    assert_eq!(kind(asked(8, 5)), Some(Kind::OutcomeUnknown));
    assert_eq!(kind(asked(8, 6)), Some(Kind::RequestIdConflict));
    assert_eq!(kind(asked(9, 5)), Some(Kind::StreamStale), "it never came, and may be sent anew");
    assert_eq!(now.load().0, 0);
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

/// An agent can be killed between a write to a program and its count: then nobody may write it again.
#[tokio::test]
async fn input_that_may_have_been_written_is_not_taken_again() {
    let state = tempfile::tempdir().unwrap();
    let before = jobs(state.path());
    let piped = |n: u8| Start { stdin: Some(true), ..start(n, "cat") };
    for n in [7, 8] {
        let (job, _) = before.start(&owner(1), &piped(n), [5; 32]).unwrap();
        job.started().await.unwrap();
        let (seat, at) = job.claim_input().unwrap();
        assert_eq!(at, 0);
        assert!(job.write_input(seat, b"one").await);
        if n == 8 {
            job.spool.memory().unwrap().begin_input(3);
        }
    }
    let now = Arc::new(Jobs::open(state.path(), Nonce([2; 16]), thread).unwrap());
    now.adopt().await;
    let found = |n: u8| now.find(&owner(1), Nonce([n; 16])).unwrap();
    let (_, at) = found(7).claim_input().unwrap();
    assert_eq!(at, 3, "what was written and counted");
    assert_eq!(kind(found(8).claim_input()), Some(Kind::InputUnknown));
}

#[tokio::test]
async fn a_stream_that_has_lost_the_input_writes_and_ends_nothing() {
    let state = tempfile::tempdir().unwrap();
    let jobs = jobs(state.path());
    let piped = Start { stdin: Some(true), ..start(7, "cat") };
    let (job, _) = jobs.start(&owner(1), &piped, [5; 32]).unwrap();
    let (old, _) = job.claim_input().unwrap();
    assert!(job.write_input(old, b"one ").await);
    let (new, at) = job.claim_input().unwrap();
    assert_eq!(at, 4);
    assert!(!job.write_input(old, b"twice ").await);
    job.end_input(old, 4).await;
    assert!(job.write_input(new, b"two").await);
    job.end_input(new, 7).await;
    ended(&job).await;
    assert_eq!(job.spool.bytes_from(0, 100).bytes, b"one two");
}

#[tokio::test]
async fn a_stop_that_overtakes_its_request_is_obeyed() {
    let state = tempfile::tempdir().unwrap();
    let jobs = jobs(state.path());
    let stop = |n: u8| Stop { job: None, request: Some(Nonce([n; 16])), signal: None };
    assert_eq!(jobs.stop(&owner(1), &stop(7)).unwrap(), Stopped::NeverStarted);
    let late = jobs.start(&owner(1), &start(7, "sleep 60"), [5; 32]);
    assert_eq!(kind(late), Some(Kind::Cancelled));
    // Another owner's stop is for another request.
    let (job, _) = jobs.start(&owner(1), &start(8, "sleep 60"), [5; 32]).unwrap();
    assert_eq!(jobs.stop(&owner(2), &stop(8)).unwrap(), Stopped::NeverStarted);
    job.started().await.unwrap();
    assert_eq!(jobs.stop(&owner(1), &stop(8)).unwrap(), Stopped::Signalled);
    ended(&job).await;
    assert_eq!(job.state().reason, Some(Reason::Stopped));
    // One that waits for its turn never gets it.
    let (queued, _) = jobs.start(&owner(1), &start(9, "sleep 60"), [5; 32]).unwrap();
    assert_eq!(jobs.stop(&owner(1), &stop(9)).unwrap(), Stopped::Signalled);
    assert_eq!(kind(queued.started().await), Some(Kind::Cancelled));
    assert_eq!(jobs.stop(&owner(1), &stop(8)).unwrap(), Stopped::Ended);
    jobs.lock().jobs.clear();
    assert_eq!(jobs.stop(&owner(1), &stop(8)).unwrap(), Stopped::Ended, "it is remembered");
    for n in 0..=255 {
        let none = Stop { job: Some(Nonce([n; 16])), request: None, signal: Some(64) };
        assert_eq!(kind(jobs.stop(&owner(1), &none)), Some(Kind::InvalidArgument));
    }
    let mut refused = None;
    for n in 0..=TOMBSTONES {
        let request = Some(Nonce((1_u128 << 64 | n as u128).to_be_bytes()));
        refused = kind(jobs.stop(&owner(3), &Stop { job: None, request, signal: None }));
    }
    assert_eq!(refused, Some(Kind::Busy), "graves are counted");
}
