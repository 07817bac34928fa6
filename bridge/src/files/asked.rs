//! One question and its answer, over as many streams as it takes.
//!
//! What changes nothing is asked again when the way to the server breaks. What changes something is
//! not: it may have been done. It was not if the agent cannot have had all of it, and it was if the
//! file now holds exactly what was to be written; otherwise it is `outcome_unknown`, and whoever
//! asked has to look.

use farwire_link::inner::sealed::BATCH;
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::streams::files::{Ask, Done, How, Part, Read, Write};
use sha2::{Digest as _, Sha256};
use tokio::time::timeout;

use super::{Answer, Files, Gathering, PATIENCE, STUCK};
use crate::client::Client;
use crate::conversation::{
    Attempts, Carried, Effects, NoAnswer, Remote, Trouble, carry, is_unknown,
};
use crate::runs::control;

impl Files {
    /// Asks one question that has no content, or this content, and waits for all of the answer.
    /// Over this stream and no other: whoever transfers something knows better how to go on.
    pub async fn ask(&mut self, ask: Ask, content: Option<&[u8]>) -> Result<Answer, Failure> {
        self.once(ask, content, || ()).await.map_err(|trouble| trouble.failure)
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
        match self.repeat(client, &ask, content).await {
            Ok(answer) => Ok(answer),
            Err(why) => self.settle(client, &ask, content, why).await,
        }
    }

    /// Finds out whether a question has been done to which there is no answer, if that is possible.
    pub(super) async fn settle(
        &mut self,
        client: &Client,
        ask: &Ask,
        content: Option<&[u8]>,
        why: NoAnswer,
    ) -> Result<Answer, Failure> {
        let NoAnswer::Unknown(why) = why else { return Err(why.failure()) };
        match (ask, content) {
            _ if effects(ask) == Effects::None => Err(why),
            (Ask::Write(write), Some(content)) => self.look(client, write, content, why).await,
            _ => Err(unknown_outcome(&why)),
        }
    }

    /// Asks, over this stream and others, until there is an answer or nothing more may be tried.
    async fn repeat(
        &mut self,
        client: &Client,
        ask: &Ask,
        content: Option<&[u8]>,
    ) -> Result<Answer, NoAnswer> {
        // The time counts from when the way breaks.
        let attempts = Attempts::new(effects(ask), None);
        let server = self.down.server.clone();
        let mut question = Question { files: self, ask, content, broke: false };
        carry(Remote::new(client, &server), attempts, &mut question).await
    }

    /// Finds out whether a write whose answer was lost has been done.
    async fn look(
        &mut self,
        client: &Client,
        write: &Write,
        content: &[u8],
        why: Failure,
    ) -> Result<Answer, Failure> {
        let unknown = unknown_outcome(&why);
        if write.how == How::Append {
            return Err(unknown);
        }
        let part = Part::Bytes { offset: 0, length: Some(0) };
        let read =
            Read { path: write.path.clone(), part, revision: None, hash: Some(true), before: None };
        if self.enter_again(client).await.is_err() {
            return Err(unknown);
        }
        let Ok(looked) = self.repeat(client, &Ask::Read(read), None).await else {
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

    /// Asks over this stream. `sent` is called when the agent may have all of the question.
    pub(super) async fn once(
        &mut self,
        ask: Ask,
        content: Option<&[u8]>,
        sent: impl FnOnce(),
    ) -> Result<Answer, Trouble> {
        let mut gathering = Gathering::of(&ask);
        self.up.ask(ask).map_err(Trouble::here)?;
        if let Some(content) = content {
            for piece in content.chunks(BATCH) {
                self.up.content(piece);
                self.flush(BATCH).await?;
            }
            self.up.whole(content.len() as u64);
        }
        sent();
        self.flush(0).await?;
        self.let_in().await?;
        loop {
            let said = self.down.receive().await?;
            let taken = gathering.take(said);
            // What does not belong to the answer breaks a rule.
            let taken = taken.map_err(|failure| Trouble::nonsense(&failure.message))?;
            if let Some(answer) = taken {
                return answer.map_err(Trouble::agent_failure);
            }
        }
    }

    /// Sends what has been sealed, if there is at least as much.
    pub(super) async fn flush(&mut self, least: usize) -> Result<(), Trouble> {
        if self.up.writer.waiting() < least {
            return Ok(());
        }
        let Ok(flushed) = timeout(STUCK, self.up.writer.flush()).await else {
            return Err(Trouble::silent(&self.down.server));
        };
        flushed.map_err(|error| Trouble::unwritten(error, &self.down.server))
    }
}

/// A question that goes out over a stream that is there, and over new ones once that breaks.
pub(super) struct Question<'a> {
    files: &'a mut Files,
    ask: &'a Ask,
    content: Option<&'a [u8]>,
    /// The stream that was there is no more.
    broke: bool,
}

impl<'a> Question<'a> {
    /// A question whose first stream broke.
    pub(super) fn again(files: &'a mut Files, ask: &'a Ask, content: Option<&'a [u8]>) -> Self {
        Self { files, ask, content, broke: true }
    }
}

impl Carried for Question<'_> {
    type Answer = Answer;
    /// A question may take long: only coming back to the root is bounded.
    const BOUNDED: bool = false;

    async fn attempt(
        &mut self,
        remote: Remote<'_>,
        attempts: &mut Attempts,
    ) -> Result<Answer, Trouble> {
        if self.broke {
            let entered = attempts.deadline().within(self.files.enter_again(remote.client)).await;
            entered
                .unwrap_or_else(|| Err(Trouble::silent(remote.server).failure))
                .map_err(Trouble::here)?;
        } else {
            // It was, when the root was entered.
            attempts.mark_heard();
        }
        attempts.goes_over(&self.files.down.link);
        let link = self.files.down.link.clone();
        let asked =
            Box::pin(self.files.once(self.ask.clone(), self.content, || attempts.mark_sent()));
        control::attended(remote, &link, asked).await
    }

    async fn on_fault(
        &mut self,
        remote: Remote<'_>,
        trouble: &Trouble,
        attempts: &mut Attempts,
    ) -> Result<(), NoAnswer> {
        if matches!(self.ask, Ask::Watch(_)) {
            // A second wait would be longer than what was asked for.
            attempts.forget_link(remote);
            return Err(NoAnswer::Failed(trouble.failure.clone()));
        }
        if !std::mem::replace(&mut self.broke, true) {
            attempts.end_in(PATIENCE);
        }
        Ok(())
    }
}

/// What asking twice would do. A question of which we do not know that acts each time.
pub(super) fn effects(ask: &Ask) -> Effects {
    let harmless = match ask {
        Ask::List(_) | Ask::Stat(_) | Ask::Read(_) | Ask::Search(_) => true,
        Ask::Arrived(_) | Ask::Changes(_) | Ask::Watch(_) | Ask::Usage(_) => true,
        // The same rights and the same time once more.
        Ask::Attributes(_) => true,
        Ask::MakeDirectory(make) => make.parents == Some(true),
        Ask::Edit(edit) => edit.dry == Some(true),
        Ask::Patch(patch) => patch.dry == Some(true),
        _ => false,
    };
    if harmless { Effects::None } else { Effects::Each }
}

/// What a failure means to whoever has sent all of something that acts, once.
pub(crate) fn outcome(failure: Failure) -> Failure {
    if is_unknown(failure.kind) { unknown_outcome(&failure) } else { failure }
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
            assert_eq!(effects(&harmless), Effects::None, "{harmless:?}");
        }
        let remove = Remove { path: path(), recursive: None, revision: None, undo: None };
        for other in [
            make(None),
            edit(None),
            edit(Some(false)),
            Ask::Remove(remove),
            Ask::Revert(Revert::default()),
        ] {
            assert_eq!(effects(&other), Effects::Each, "{other:?}");
        }
        let unknown = unknown_outcome(&Failure::new(Kind::LinkLost, "the stream broke off"));
        assert_eq!(unknown.kind, Kind::OutcomeUnknown);
    }
}
