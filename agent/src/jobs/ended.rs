//! A run that has ended, as recorded for the next agents.
//!
//! ```text
//!     STATE/runs/ID      CBOR of a `RunRecord`, then its SHA-256
//!     STATE/spool/ID     output that does not fit the record, as its holder wrote it
//! ```
//!
//! It is written once, after the last byte of output, and until then the run's holder keeps the
//! run: the next agent knows every run that has ended, however this agent ends. It is not synced. A
//! record that is damaged or cut short is put aside until the next start; the journal still knows
//! how the run ended. One that cannot be read stays for the next agent.

use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use farwire_protocol::cbor::{self, Blob};
use farwire_protocol::failure::Failure;
use farwire_protocol::id::Nonce;
use farwire_protocol::streams::run::{Exit, Reason};
use minicbor::{Decode, Encode};
use sha2::{Digest as _, Sha256};

use crate::gate::principal::PrincipalNote;
use crate::holder::micros;
use crate::jobs::job::{Job, Origin, Past};
use crate::jobs::past::Recorded;
use crate::os::clock::{boot_id, unix_millis};
use crate::program::Phase;
use crate::spool::{FinishedLog, Spool};

/// The longest record, in bytes, both when written and when read. A log's index has at most some
/// 1.2 MiB, and its bytes in memory 1 MiB.
const LONGEST: usize = 4 << 20;

/// The length of the checksum after it, in bytes.
const CHECK: usize = 32;

/// What a run was, and how it ended.
#[derive(Debug, Decode, Encode)]
#[cbor(map)]
struct RunRecord {
    #[n(0)]
    owner: PrincipalNote,
    #[n(1)]
    command: String,
    #[n(2)]
    user: String,
    /// The hash of the request.
    #[n(3)]
    body: Option<Blob>,
    #[n(4)]
    exit: Option<Exit>,
    #[n(5)]
    reason: Option<Reason>,
    /// Why there is no exit.
    #[n(6)]
    failure: Option<Failure>,
    #[n(7)]
    output_end: u64,
    #[n(8)]
    escaped: u32,
    /// The boot that the next two times belong to.
    #[n(9)]
    boot: String,
    /// When it was requested, in microseconds since boot.
    #[n(10)]
    asked: u64,
    /// When it ended, in microseconds since boot.
    #[n(11)]
    ended: u64,
    /// When it was requested, in milliseconds since 1970: for people.
    #[n(12)]
    asked_ms: u64,
    #[n(13)]
    duration_ms: u64,
    #[n(14)]
    log: FinishedLog,
}

impl RunRecord {
    fn of(job: &Job) -> Option<Self> {
        let state = job.state();
        let (output_end, escaped) = match &*job.phase().borrow() {
            Phase::Ended { output_end, escaped, .. } => (*output_end, *escaped),
            Phase::Failed(_) => (0, 0),
            Phase::Queued | Phase::Running(_) => return None,
        };
        Some(Self {
            owner: PrincipalNote::from(&*job.owner),
            command: job.command().to_owned(),
            user: job.user().to_owned(),
            body: job.body.map(|body| Blob(body.to_vec())),
            exit: state.exit,
            reason: state.reason,
            failure: state.failure,
            output_end,
            escaped,
            boot: boot_id(),
            asked: micros(job.requested_at()),
            ended: micros(job.ended_at()?),
            asked_ms: unix_millis().saturating_sub(micros(job.age()) / 1000),
            duration_ms: state.duration_ms,
            log: job.spool.write_down()?,
        })
    }

    /// The run as this agent has it. `spool` is where its output is.
    fn job(self, id: Nonce, spool: &Path) -> Option<Arc<Job>> {
        let phase = match (self.exit, self.failure) {
            (Some(exit), _) => Phase::Ended {
                exit,
                reason: self.reason,
                output_end: self.output_end,
                escaped: self.escaped,
            },
            (None, failure) => Phase::Failed(failure?),
        };
        // A run of an earlier boot ended no later than at the beginning of this one.
        let same = !self.boot.is_empty() && self.boot == boot_id();
        let since = |at: u64| if same { Duration::from_micros(at) } else { Duration::ZERO };
        let past = Past {
            phase,
            ended: Some(since(self.ended)),
            started_ms: self.asked_ms,
            ended_ms: self.asked_ms.saturating_add(self.duration_ms),
            duration_ms: self.duration_ms,
        };
        let spool = Spool::from_written(self.log, spool.join(id.to_string()))?;
        let origin = Origin {
            id,
            owner: Arc::new(self.owner.into()),
            body: self.body.and_then(|body| body.0.try_into().ok()),
            command: self.command,
            user: self.user,
            asked: since(self.asked),
        };
        Some(Job::from_record(origin, past, None, spool))
    }
}

/// Records a run that has ended. `directory` is where records are.
pub(crate) fn write(directory: &Path, job: &Job) -> io::Result<()> {
    let Some(record) = RunRecord::of(job) else { return Ok(()) };
    let mut bytes = cbor::encode(&record);
    if bytes.len() + CHECK > LONGEST {
        let text = format!("a record of {} bytes, over {LONGEST}", bytes.len());
        return Err(io::Error::new(io::ErrorKind::InvalidData, text));
    }
    bytes.extend_from_slice(&Sha256::digest(&bytes));
    let mut options = std::fs::File::options();
    let options = options.write(true).create(true).truncate(true).mode(0o600);
    options.open(directory.join(job.id.to_string()))?.write_all(&bytes)
}

/// Reads the record of the run with this id.
pub(crate) fn read(directory: &Path, id: Nonce, spool: &Path) -> Recorded<Arc<Job>> {
    let bytes = || {
        let mut bytes = Vec::new();
        let file = std::fs::File::open(directory.join(id.to_string()))?;
        file.take(LONGEST as u64).read_to_end(&mut bytes)?;
        Ok::<_, io::Error>(bytes)
    };
    let bytes = match bytes() {
        Ok(bytes) => bytes,
        Err(error) => return Recorded::Unreadable(error.to_string()),
    };
    let Some(record) = verify_checksum(&bytes) else { return Recorded::Damaged };
    // It is intact, and perhaps written by a newer agent.
    match cbor::decode::<RunRecord>(record, LONGEST).ok().and_then(|record| record.job(id, spool)) {
        Some(job) => Recorded::Whole(job),
        None => Recorded::Unreadable("this build cannot read it".to_owned()),
    }
}

/// The bytes before the checksum, if that matches.
fn verify_checksum(bytes: &[u8]) -> Option<&[u8]> {
    let (record, check) = bytes.split_at_checked(bytes.len().checked_sub(CHECK)?)?;
    (*Sha256::digest(record) == *check).then_some(record)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_bytes_are_a_record_or_none() {
        bolero::check!().for_each(|bytes: &[u8]| {
            let directory = Path::new("/nonexistent");
            let _ = verify_checksum(bytes);
            // As if the checksum were right.
            if let Ok(record) = cbor::decode::<RunRecord>(bytes, LONGEST) {
                let _ = record.job(Nonce([1; 16]), directory);
            }
        });
    }
}
