//! Looks at a part of a run's log, for a client that has no stream to it.

use std::sync::Arc;

use farwire_link::inner::sealed::Writer;
use farwire_protocol::conversation::Counts;
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::streams::run::{Ended, Read, View};
use tokio::io::AsyncWrite;

use super::answer::{BUDGET, send_piece};
use crate::gate::Allowed;
use crate::jobs::job::Job;
use crate::spool::SpoolPiece;
use crate::streams::context::finish;
use crate::streams::pattern::expression;

/// At most this many lines around a match are shown.
const CONTEXT: u32 = 50;

/// Answers one look at a part of a log.
pub(super) async fn look<W: AsyncWrite + Unpin>(
    job: Allowed<Arc<Job>>,
    wanted: Read,
    writer: &mut Writer<W>,
) -> Result<(), Failure> {
    let look = move || {
        let over = job.has_ended();
        let found = parts(&job, &wanted);
        let state = job.state();
        // Its end is reported together with all of its output.
        let found = if job.has_ended() && !over { parts(&job, &wanted) } else { found };
        found.map(|found| (found, state))
    };
    let found = tokio::task::spawn_blocking(look).await;
    let found = found.map_err(|_| Failure::new(Kind::Internal, "the look died"))??;
    let ((pieces, next), state) = found;
    let mut counts = Counts::default();
    for piece in pieces {
        send_piece(writer, &mut counts, piece).await?;
    }
    finish(writer, counts, &Ended { state, next, matched: None }).await
}

fn parts(job: &Job, wanted: &Read) -> Result<(Vec<SpoolPiece>, Option<u64>), Failure> {
    let budget = usize::try_from(wanted.budget.min(BUDGET)).unwrap_or(0);
    let spool = &job.spool;
    let piece = match &wanted.view {
        View::Head(lines) => spool.head(u64::from(*lines), budget),
        View::Tail(lines) => spool.tail(u64::from(*lines), budget),
        View::Range { first, count } => spool.range((*first).max(1), u64::from(*count), budget),
        View::Grep { pattern, first, limit, context } => {
            let limit = usize::try_from(*limit).unwrap_or(0).min(10_000);
            let (matches, next) = spool.grep(&expression(pattern)?, (*first).max(1), limit, budget);
            if let Some(context) = context.filter(|context| *context > 0) {
                return Ok(spool.around(&matches, u64::from(context.min(CONTEXT)), budget, next));
            }
            let pieces = matches.into_iter().map(|found| SpoolPiece {
                offset: found.offset,
                first_line: found.line,
                starts_within: false,
                ends_within: found.cut,
                bytes: found.bytes,
            });
            return Ok((pieces.collect(), next));
        }
    };
    Ok((vec![piece], None))
}
