//! Reports the events of a session, by number; waits for the next one.

use std::time::Duration;

use farwire_link::inner::sealed::Writer;
use farwire_protocol::cbor;
use farwire_protocol::conversation::{Counts, message};
use farwire_protocol::failure::Failure;
use farwire_protocol::streams::run::BEAT;
use farwire_protocol::streams::session::{Ended, ToBridge};
use farwire_protocol::streams::session::{Event, Events as Asked};
use tokio::io::AsyncWrite;
use tokio::time::{Instant, sleep, sleep_until};

use super::answer::{LARGEST, state_of};
use super::exchange::LONGEST_WAIT;
use crate::gate::principal::Principal;
use crate::os::clock::unix_millis;
use crate::sessions::Session;
use crate::spool::Mode;
use crate::streams::context::finish;
use crate::streams::context::{Context, link_lost};
use crate::terminal::Terminal;

/// At most this many are reported at once.
const MOST: u32 = 200;

/// Serves one request.
pub(super) async fn serve<W: AsyncWrite + Unpin>(
    context: &Context,
    asked: &Asked,
    writer: &mut Writer<W>,
) -> Result<(), Failure> {
    let asker = context.asker.calling_itself(asked.caller.as_ref())?;
    let session = context.services.sessions.find(&asker, asked.session)?;
    let Session { job, terminal } = &*session;
    let who = &asker.who;
    let wait = Duration::from_millis(asked.wait_ms).min(LONGEST_WAIT);
    let deadline = Instant::now() + wait;
    let mut count = terminal.events.count();
    let mut phase = job.phase();
    let mut log = job.spool.reader(u64::MAX, Mode::Lagging);
    loop {
        count.mark_unchanged();
        let events = collect(terminal, asked, who);
        let grown = asked.offset.is_some_and(|offset| job.spool.end() > offset);
        if !events.is_empty() || grown || job.has_ended() || Instant::now() >= deadline {
            let now = state_of(&session, who).await?;
            // Events that happened meanwhile are included.
            let events = Some(collect(terminal, asked, who));
            return finish(writer, Counts::default(), &Ended { events, ..now }).await;
        }
        tokio::select! {
            biased;
            () = sleep_until(deadline) => {}
            _ = count.changed() => {}
            _ = phase.changed() => {}
            () = log.wait(), if asked.offset.is_some() => log.catch_up(),
            () = sleep(BEAT) => {
                writer.message(&message(&ToBridge::Beat));
                writer.flush().await.map_err(|_| link_lost())?;
            }
        }
    }
}

fn collect(terminal: &Terminal, asked: &Asked, who: &Principal) -> Vec<Event> {
    let most = usize::try_from(asked.limit.min(MOST)).unwrap_or_default();
    let (mut events, mut size) = (Vec::new(), 0);
    let now = unix_millis();
    terminal.events.for_each_from(asked.from, |event| {
        let event = event.show(who, now);
        size += cbor::encode(&event).len();
        let fits = events.len() < most && (events.is_empty() || size <= LARGEST);
        if fits {
            events.push(event);
        }
        fits
    });
    terminal.count_events();
    events
}
