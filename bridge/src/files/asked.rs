//! One question and its answer, over as many streams as it takes.
//!
//! What changes nothing is asked again when the way to the server breaks. What changes something is not: it
//! may have been done. It was not if the agent cannot have had all of it, and it was if the file now holds
//! exactly what was to be written; otherwise it is `outcome_unknown`, and whoever asked has to look.

use std::time::Duration;

use farwire_link::inner::sealed::BATCH;
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::streams::files::{Ask, Done, How, Part, Read, Write};
use sha2::{Digest as _, Sha256};
use tokio::time::{Instant, sleep, timeout_at};

use super::{Answer, Files, Gathering, Trouble};
use crate::client::{Client, backoff};

/// How long a way that broke is looked for again.
const PATIENCE: Duration = Duration::from_secs(20);

/// Why there is no answer.
#[derive(Debug)]
enum Unanswered {
    /// The agent has answered that it was not done.
    Refused(Failure),
    /// The stream ended before the agent can have had all of the question.
    Unsaid(Trouble),
    /// It ended when the agent may have had all of it.
    Unknown(Trouble),
}

impl From<Failure> for Unanswered {
    fn from(failure: Failure) -> Self {
        Self::Unsaid(failure.into())
    }
}

impl Files {
    /// Asks one question that has no content, or this content, and waits for all of the answer. Over this
    /// stream and no other: whoever transfers something knows better how to go on.
    pub async fn ask(&mut self, ask: Ask, content: Option<&[u8]>) -> Result<Answer, Failure> {
        self.once(ask, content).await.map_err(|unanswered| match unanswered {
            Unanswered::Refused(failure) => failure,
            Unanswered::Unsaid(trouble) | Unanswered::Unknown(trouble) => {
                trouble.failure(&self.down.server)
            }
        })
    }

    /// Asks likewise, and again over another stream where that does no harm.
    ///
    /// # Errors
    ///
    /// Those of the server; `outcome_unknown` where nobody knows whether it was done.
    pub async fn answer(
        &mut self,
        client: &Client,
        ask: Ask,
        content: Option<&[u8]>,
    ) -> Result<Answer, Failure> {
        let (trouble, unknown) = match self.once(ask.clone(), content).await {
            Ok(answer) => return Ok(answer),
            Err(Unanswered::Refused(failure)) => return Err(failure),
            Err(Unanswered::Unsaid(trouble)) => (trouble, false),
            Err(Unanswered::Unknown(trouble)) => (trouble, true),
        };
        self.forget(client, &trouble);
        let failure = trouble.failure(&self.down.server);
        match (&ask, content) {
            // A second wait would be longer than what was asked for.
            (Ask::Watch(_), _) => Err(failure),
            _ if !may_come_back(failure.kind) && !unknown => Err(failure),
            _ if may_be_repeated(&ask) || !unknown => {
                self.repeat(client, (&ask, content), failure).await
            }
            (Ask::Write(write), Some(content)) => {
                self.tell(client, (write, content), failure).await
            }
            _ => Err(unknown_outcome(&failure)),
        }
    }

    /// Enters again and asks again, until the time is up.
    async fn repeat(
        &mut self,
        client: &Client,
        (ask, content): (&Ask, Option<&[u8]>),
        mut why: Failure,
    ) -> Result<Answer, Failure> {
        let deadline = Instant::now() + PATIENCE;
        for attempt in 0.. {
            if !may_come_back(why.kind) {
                break;
            }
            sleep(backoff(attempt)).await;
            match timeout_at(deadline, self.enter_again(client)).await {
                Ok(Ok(())) => {}
                Ok(Err(failure)) => {
                    why = failure;
                    continue;
                }
                Err(_) => break,
            }
            why = match self.once(ask.clone(), content).await {
                Ok(answer) => return Ok(answer),
                Err(Unanswered::Refused(failure)) => return Err(failure),
                Err(Unanswered::Unknown(trouble)) if !may_be_repeated(ask) => {
                    return Err(unknown_outcome(&trouble.failure(&self.down.server)));
                }
                Err(Unanswered::Unsaid(trouble) | Unanswered::Unknown(trouble)) => {
                    self.forget(client, &trouble);
                    trouble.failure(&self.down.server)
                }
            };
        }
        Err(why)
    }

    /// Finds out whether a write whose answer was lost has been done.
    async fn tell(
        &mut self,
        client: &Client,
        (write, content): (&Write, &[u8]),
        why: Failure,
    ) -> Result<Answer, Failure> {
        let unknown = unknown_outcome(&why);
        if write.how == How::Append {
            return Err(unknown);
        }
        let part = Part::Bytes { offset: 0, length: Some(0) };
        let read =
            Read { path: write.path.clone(), part, revision: None, hash: Some(true), before: None };
        let Ok(looked) = self.repeat(client, (&Ask::Read(read), None), why).await else {
            return Err(unknown);
        };
        let entry = looked.entries.into_iter().next();
        let holds = looked.done.hash.is_some_and(|hash| hash.0 == Sha256::digest(content)[..]);
        match entry.filter(|entry| write.mode.is_none_or(|mode| mode == entry.mode)) {
            Some(entry) if holds => {
                let bytes = Some(entry.size);
                let done = Done { entry: Some(entry), bytes, ..Done::default() };
                Ok(Answer { done, ..Answer::default() })
            }
            // It may not have been done yet, or somebody has written since.
            _ => Err(unknown),
        }
    }

    async fn enter_again(&mut self, client: &Client) -> Result<(), Failure> {
        let (enter, class) = self.entered.clone();
        *self = Self::enter(client, &self.down.server.clone(), &enter, class).await?;
        Ok(())
    }

    /// The agent may not know the link any more.
    fn forget(&self, client: &Client, trouble: &Trouble) {
        if let Trouble::Carrier(error) = trouble {
            client.broke(&self.down.server, &self.down.link, error);
        }
    }

    async fn once(&mut self, ask: Ask, content: Option<&[u8]>) -> Result<Answer, Unanswered> {
        let mut gathering = Gathering::of(&ask);
        self.up.ask(ask).map_err(Unanswered::Refused)?;
        if let Some(content) = content {
            for piece in content.chunks(BATCH) {
                self.up.content(piece);
                self.up.flush_full().await?;
            }
            self.up.whole(content.len() as u64);
        }
        // From here on the agent may have all of it.
        let flushed = self.up.flush().await;
        flushed.map_err(|failure| Unanswered::Unknown(failure.into()))?;
        loop {
            let said = self.down.receive().await.map_err(Unanswered::Unknown)?;
            let taken = gathering.take(said);
            if let Some(answer) = taken.map_err(|failure| Unanswered::Unknown(failure.into()))? {
                return answer.map_err(Unanswered::Refused);
            }
        }
    }
}

/// Whether the way to the server failed, and not what was asked.
pub(super) fn may_come_back(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::LinkLost
            | Kind::StreamTruncated
            | Kind::StreamStale
            | Kind::ServerOffline
            | Kind::RelayUnreachable
            | Kind::Overloaded
            | Kind::FileWorkerEnded
            | Kind::IntegrityFailure
    )
}

/// Whether asking twice is asking once. A question of which we do not know that is not.
fn may_be_repeated(ask: &Ask) -> bool {
    match ask {
        Ask::List(_) | Ask::Stat(_) | Ask::Read(_) | Ask::Search(_) => true,
        Ask::Arrived(_) | Ask::Changes(_) => true,
        Ask::MakeDirectory(make) => make.parents == Some(true),
        Ask::Edit(edit) => edit.dry == Some(true),
        Ask::Patch(patch) => patch.dry == Some(true),
        _ => false,
    }
}

fn unknown_outcome(why: &Failure) -> Failure {
    let text = format!("{}; it is not known whether it was done", why.message);
    Failure::new(Kind::OutcomeUnknown, text).with_hint("look at the file before you do it again")
}

#[cfg(test)]
mod tests {
    use farwire_protocol::cbor::Blob;
    use farwire_protocol::streams::files::{Edit, List, MakeDirectory, Remove, Revert};

    use super::*;

    #[test]
    fn what_changes_something_is_not_asked_twice() {
        let path = || Blob(b"a".to_vec());
        let make = |parents| Ask::MakeDirectory(MakeDirectory { path: path(), parents });
        let edit = |dry| Ask::Edit(Edit { path: path(), revision: Some(1), dry, undo: None });
        for harmless in
            [Ask::Stat(path()), Ask::List(List::default()), make(Some(true)), edit(Some(true))]
        {
            assert!(may_be_repeated(&harmless), "{harmless:?}");
        }
        let remove = Remove { path: path(), recursive: None, revision: None, undo: None };
        for other in [
            make(None),
            edit(None),
            edit(Some(false)),
            Ask::Remove(remove),
            Ask::Revert(Revert::default()),
        ] {
            assert!(!may_be_repeated(&other), "{other:?}");
        }
        let unknown = unknown_outcome(&Failure::new(Kind::LinkLost, "the stream broke off"));
        assert_eq!(unknown.kind, Kind::OutcomeUnknown);
        assert!(!may_come_back(unknown.kind), "it would be asked again");
    }
}
