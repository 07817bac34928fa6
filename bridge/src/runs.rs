//! Runs from the bridge's side: a conversation that outlives its streams.
//!
//! [`stream`] carries every byte for the command line, [`answer`] returns a digest for a model.
//! Both send the same request under one id until it is answered: the agent starts at most one
//! program for it. Only the connection counts as lost, until the agent says otherwise under its own
//! keys.

pub mod answer;
pub mod control;
pub mod slow;
pub mod stream;

use farwire_keystore::{Class, JobOrigin, KnownJob, ShortId};
use farwire_protocol::cbor::{self, Blob};
use farwire_protocol::conversation::{Counts, End, Offset, Open, read};
use farwire_protocol::failure::Failure;
use farwire_protocol::id::Nonce;
use farwire_protocol::peer;
use farwire_protocol::streams::Kind as StreamKind;
use farwire_protocol::streams::run::{Ended, Request, STDERR, STDOUT};

use crate::client::{Client, Server};
use crate::conversation::{self, Effects, NoAnswer, Trouble};
use crate::machine::{random_nonce, unix_time};

/// A request and its progress.
#[derive(Debug)]
pub struct Conversation {
    id: Nonce,
    generation: u32,
    request: Request,
    /// The request as it was first sent, and is sent again.
    create: Option<Blob>,
    /// Bytes of output that have been received.
    have: Counts,
    /// Bytes to skip because a new conversation repeats them.
    skip: Counts,
    /// The agent's last word was that the run is waiting for its turn.
    queued: bool,
}

impl Conversation {
    /// A conversation about this request.
    pub fn new(request: &Request) -> Result<Self, Failure> {
        conversation::fits(request)?;
        Ok(Self {
            id: random_nonce()?,
            generation: 0,
            request: request.clone(),
            create: None,
            have: Counts::default(),
            skip: Counts::default(),
            queued: false,
        })
    }

    /// The first message of the next stream: creates the conversation, or resumes it. A request
    /// that starts something names the agent process to which it is first sent, so that no other
    /// process ever carries it out.
    fn open(&mut self, instance: Nonce) -> Open {
        let resumed = self.generation > 0;
        let request = &mut self.request;
        let create = self.create.get_or_insert_with(|| {
            if let Request::Start(start) = request {
                start.instance = instance;
            }
            Blob(cbor::encode(request))
        });
        let create = (!resumed).then(|| create.clone());
        let mut open = conversation::open(StreamKind::Run, self.id, self.generation, create);
        open.have = resumed.then(|| {
            let offset = |channel| Offset { channel, offset: self.have.get(channel) };
            vec![offset(STDOUT), offset(STDERR)]
        });
        self.generation += 1;
        open
    }

    /// The agent does not know the conversation: the same request in a new one. Output that has
    /// come already will come again and is skipped.
    fn anew(&mut self) -> Result<(), Failure> {
        self.id = random_nonce()?;
        self.generation = 0;
        self.queued = false;
        // The previous conversation may not have repeated everything that had arrived before it.
        for channel in [STDOUT, STDERR] {
            let come = self.have.get(channel).max(self.skip.get(channel));
            self.skip.set(channel, come);
        }
        self.have = Counts::default();
        Ok(())
    }

    /// Counts bytes of a channel and returns how many of them are new.
    fn take<'a>(&mut self, channel: u8, bytes: &'a [u8]) -> Result<&'a [u8], Trouble> {
        let before = self.have.get(channel);
        self.have
            .add(channel, bytes.len())
            .ok_or_else(|| Trouble::nonsense("there is more output than can be counted"))?;
        let known = self.skip.get(channel).saturating_sub(before);
        let known = usize::try_from(known).unwrap_or(usize::MAX).min(bytes.len());
        Ok(bytes.get(known..).unwrap_or_default())
    }
}

/// What a second copy of a request would do.
fn effects(request: &Request) -> Effects {
    match request {
        // The agent starts at most one program for its id.
        Request::Start(_) => Effects::Once,
        Request::Take(_) | Request::Read(_) => Effects::None,
    }
}

/// Reads the End of a direction. It is valid only if everything that was sent has arrived.
fn read_end(payload: &[u8], counts: &Counts) -> Result<Ended, Trouble> {
    let nonsense = || Trouble::nonsense("the end of the stream is malformed");
    let end: End = read(payload).map_err(|_| nonsense())?;
    if let Some(failure) = end.failure {
        return Err(Trouble::agent_failure(failure));
    }
    counts.check(&end.ends).map_err(|_| Trouble::nonsense("the output does not add up"))?;
    let body = end.body.ok_or_else(nonsense)?;
    peer::decode(&body, 64 << 10).map_err(|_| nonsense())
}

/// Assigns a short id to a job that is about to start, before anything is sent.
pub fn assign(client: &Client, server: &Server, job: Nonce) -> Result<ShortId, Failure> {
    client.ids.assign(record(Class::Run, JobOrigin::Here, server, job))
}

/// The failure when the outcome of a requested run is not known.
pub fn outcome(id: ShortId, no: NoAnswer) -> Failure {
    no.outcome(
        &format!("`{id}` has started or ended"),
        &format!(
            "it is not run a second time: `output {id}` shows its state once the server is back"
        ),
    )
}

/// What a short id means.
pub(crate) fn record(class: Class, asked: JobOrigin, server: &Server, job: Nonce) -> KnownJob {
    KnownJob {
        class,
        agent: server.pin.bundle.id,
        server: server.name.clone(),
        job,
        asked,
        started: unix_time(),
    }
}

#[cfg(test)]
mod tests {
    use farwire_protocol::streams::run::{Delivery, Program, Start, Take};

    use super::*;

    #[test]
    fn output_that_has_come_is_skipped_however_often_a_conversation_begins_anew() {
        let (job, delivery) = (Nonce([1; 16]), Delivery::Stream { lossless: false });
        let mut run = Conversation::new(&Request::Take(Take { job, delivery })).unwrap();
        assert_eq!(run.take(STDOUT, b"one two").unwrap(), b"one two");
        run.anew().unwrap();
        assert_eq!(run.take(STDOUT, b"one").unwrap(), b"");
        run.anew().unwrap();
        run.anew().unwrap();
        assert_eq!(run.take(STDOUT, b"one two three").unwrap(), b" three");
    }

    #[test]
    fn a_request_names_the_process_to_which_it_is_first_sent_and_stays_the_same() {
        let start = Start {
            request: Nonce([1; 16]),
            instance: Nonce::ZERO,
            program: Program::Line(Blob(b"true".to_vec())),
            cwd: None,
            env: None,
            user: None,
            login: None,
            timeout_ms: None,
            stdin: None,
            delivery: Delivery::Nothing,
            input: None,
        };
        let mut run = Conversation::new(&Request::Start(start.clone())).unwrap();
        let first = run.open(Nonce([7; 16])).create.unwrap();
        let named = Start { instance: Nonce([7; 16]), ..start };
        assert_eq!(first.0, cbor::encode(&Request::Start(named)));
        assert_eq!(run.open(Nonce([8; 16])).create, None, "it is taken up");
        run.anew().unwrap();
        assert_eq!(
            run.open(Nonce([8; 16])).create.unwrap(),
            first,
            "another process never runs it"
        );
    }
}
