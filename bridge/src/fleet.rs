//! One question to many servers at once.
//!
//! Nobody waits for whom it need not: what the quick ones say is there after [`MOMENT`], what all
//! say after [`DEADLINE`], however many of them are stuck. Whoever gives up a question loses
//! nothing: the link that was being made for it is there the next time.

use std::pin::Pin;
use std::time::Duration;

use farwire_protocol::failure::{Failure, Kind};
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio::time::{Instant, sleep_until};

use crate::client::Server;
use crate::text::neutral::neutral;

/// What is known after this time may be shown while others are waited for.
pub const MOMENT: Duration = Duration::from_secs(1);

/// Nobody is waited for longer.
pub const DEADLINE: Duration = Duration::from_secs(4);

/// The others get so many times as long as the first to answer took: on a slow line all are slow.
const SLOWER: u32 = 3;

/// At most this many are asked at once: fewer than the streams that a relay lets us have.
const AT_ONCE: usize = 128;

type Question<'a, T> = Pin<Box<dyn Future<Output = (usize, Result<T, Failure>)> + Send + 'a>>;

/// Servers that are being asked. They are only asked while one of its methods is waited for.
pub struct Fleet<'a, T> {
    /// The names of all, in the order in which they were given.
    names: Vec<String>,
    answers: Vec<ReplyState<T>>,
    asked: FuturesUnordered<Question<'a, T>>,
    /// Those that are asked next, the last one first.
    rest: Vec<Question<'a, T>>,
    begun: Instant,
    deadline: Duration,
    /// How long the first answer took.
    first: Option<Duration>,
}

enum ReplyState<T> {
    Awaited,
    Came(Result<T, Failure>),
    Taken,
}

impl<T> std::fmt::Debug for Fleet<'_, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fleet").field("servers", &self.names.len()).finish_non_exhaustive()
    }
}

/// What came of it: answers in the order of the servers, and why there is none of the others.
#[derive(Debug)]
pub struct Gathered<T> {
    /// The answers.
    pub known: Vec<T>,
    /// Which servers gave none, and why.
    pub trouble: Vec<(String, Failure)>,
}

impl<T> Gathered<T> {
    /// Why a server that was asked for by name gave no answer; nothing when all were asked.
    ///
    /// # Errors
    ///
    /// That failure.
    pub fn of_named(self, server: Option<&str>) -> Result<Self, Failure> {
        match self.trouble.first() {
            Some((_, failure)) if server.is_some() => Err(failure.clone()),
            _ => Ok(self),
        }
    }
}

/// Why there is no answer of a server, with its name once.
pub fn why(name: &str, failure: &Failure) -> String {
    let named = format!("`{name}`");
    let text = neutral(&failure.message);
    if text.starts_with(&named) { text } else { format!("{}: {text}", neutral(&named)) }
}

impl<'a, T> Fleet<'a, T> {
    /// Asks these servers.
    pub fn ask<F>(servers: Vec<Server>, question: impl Fn(Server) -> F) -> Self
    where
        F: Future<Output = Result<T, Failure>> + Send + 'a,
    {
        Self::ask_for(DEADLINE, servers, question)
    }

    /// The same with another deadline.
    pub fn ask_for<F>(
        deadline: Duration,
        servers: Vec<Server>,
        question: impl Fn(Server) -> F,
    ) -> Self
    where
        F: Future<Output = Result<T, Failure>> + Send + 'a,
    {
        let names: Vec<String> = servers.iter().map(|server| server.name.clone()).collect();
        let mut rest: Vec<Question<'a, T>> = Vec::with_capacity(servers.len());
        for (at, server) in servers.into_iter().enumerate() {
            let answer = question(server);
            rest.push(Box::pin(async move { (at, answer.await) }));
        }
        rest.reverse();
        let mut asked = FuturesUnordered::new();
        asked.extend(rest.split_off(rest.len().saturating_sub(AT_ONCE)).into_iter().rev());
        let answers = names.iter().map(|_| ReplyState::Awaited).collect();
        Self { names, answers, asked, rest, begun: Instant::now(), deadline, first: None }
    }

    /// Waits until all have answered, or what is known has been known for long enough to show it.
    /// Returns whether all have answered.
    pub async fn for_a_moment(&mut self) -> bool {
        loop {
            let until = match self.first {
                Some(first) => MOMENT.max(first * SLOWER).min(self.deadline),
                None => self.deadline,
            };
            if !self.step(self.begun + until).await {
                return self.asked.is_empty();
            }
        }
    }

    /// Waits until all have answered, or the deadline is over.
    pub async fn to_the_end(&mut self) {
        while self.step(self.begun + self.deadline).await {}
    }

    /// Takes one answer. `false` if there is none before `until`.
    async fn step(&mut self, until: Instant) -> bool {
        let answered = tokio::select! {
            biased;
            answered = self.asked.next() => answered,
            () = sleep_until(until) => None,
        };
        let Some((at, answer)) = answered else { return false };
        self.asked.extend(self.rest.pop());
        if answer.is_ok() && self.first.is_none() {
            self.first = Some(self.begun.elapsed());
        }
        if let Some(place) = self.answers.get_mut(at) {
            *place = ReplyState::Came(answer);
        }
        true
    }

    /// Those that have not answered yet.
    pub fn unanswered(&self) -> Vec<&str> {
        let all = self.names.iter().zip(&self.answers);
        let silent = all.filter(|(_, answer)| matches!(answer, ReplyState::Awaited));
        silent.map(|(name, _)| name.as_str()).collect()
    }

    /// The answers that have come by now. They are not among those that come later.
    pub fn take_known(&mut self) -> Vec<T> {
        let mut known = Vec::new();
        for answer in &mut self.answers {
            match std::mem::replace(answer, ReplyState::Taken) {
                ReplyState::Came(Ok(one)) => known.push(one),
                other => *answer = other,
            }
        }
        known
    }

    /// What is known by now. Those that have not answered are among the trouble.
    pub fn finish(self) -> Gathered<T> {
        let waited = self.begun.elapsed().as_secs_f64();
        let mut gathered = Gathered { known: Vec::new(), trouble: Vec::new() };
        for (name, answer) in self.names.into_iter().zip(self.answers) {
            match answer {
                ReplyState::Taken => {}
                ReplyState::Came(Ok(known)) => gathered.known.push(known),
                ReplyState::Came(Err(failure)) => gathered.trouble.push((name, failure)),
                ReplyState::Awaited => {
                    let message = format!("no answer within {waited:.1} s");
                    gathered.trouble.push((name, Failure::new(Kind::TimedOut, message)));
                }
            }
        }
        gathered
    }

    /// What is known after a moment.
    pub async fn shortly(mut self) -> Gathered<T> {
        self.for_a_moment().await;
        self.finish()
    }

    /// What is known at the deadline.
    pub async fn all(mut self) -> Gathered<T> {
        self.to_the_end().await;
        self.finish()
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use farwire_keystore::Pin;
    use farwire_protocol::address::Relay;
    use farwire_protocol::bundle::{self, Bundle};
    use farwire_protocol::id::{Id, Kind as IdKind, Kn, Kt, TrustDomain};
    use tokio::time::sleep;

    use super::*;

    fn servers(count: usize) -> Vec<Server> {
        let key = ed25519_dalek::SigningKey::from_bytes(&[1; 32]);
        let bundle = Bundle {
            version: bundle::VERSION,
            kind: IdKind::Agent,
            id: Id(key.verifying_key().to_bytes()),
            kn: Kn([2; 32]),
            kt: Kt(key.verifying_key().to_bytes()),
            kd: None,
            seq: 1,
            not_before: 0,
            handshake: 1,
            trust_domain: TrustDomain::NONE,
        };
        let relay = Relay { key: Kt([3; 32]), addresses: vec!["127.0.0.1:1".to_owned()] };
        let pin = Pin::new(bundle.sign(&key), relay, None, 0);
        (0..count).map(|n| Server { name: format!("s{n}"), pin: pin.clone() }).collect()
    }

    /// Those whose number is in `stuck` never answer, the others after 10 ms.
    async fn question(server: Server, stuck: std::ops::Range<u32>) -> Result<String, Failure> {
        let number: u32 = server.name[1..].parse().unwrap();
        if stuck.contains(&number) {
            pending::<()>().await;
        }
        sleep(Duration::from_millis(10)).await;
        Ok(server.name)
    }

    #[tokio::test(start_paused = true)]
    async fn three_stuck_of_twenty_cost_the_others_a_moment_and_all_one_deadline() {
        let begun = Instant::now();
        let mut fleet = Fleet::ask(servers(20), |server| question(server, 3..6));
        assert!(!fleet.for_a_moment().await);
        assert_eq!(begun.elapsed().as_millis(), MOMENT.as_millis());
        assert_eq!(fleet.unanswered(), ["s3", "s4", "s5"]);
        let known = fleet.take_known();
        assert_eq!((known.len(), known.first().unwrap().as_str()), (17, "s0"));
        let gathered = fleet.all().await;
        assert_eq!(begun.elapsed().as_millis(), DEADLINE.as_millis());
        assert!(gathered.known.is_empty(), "they were taken");
        let names: Vec<_> = gathered.trouble.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["s3", "s4", "s5"]);
        assert!(gathered.trouble.iter().all(|(_, failure)| failure.kind == Kind::TimedOut));
    }

    #[tokio::test(start_paused = true)]
    async fn when_all_answer_nobody_waits_and_when_nobody_does_the_deadline_is_all() {
        let begun = Instant::now();
        let gathered = Fleet::ask(servers(300), |server| question(server, 0..0)).all().await;
        assert_eq!((gathered.known.len(), gathered.trouble.len()), (300, 0));
        assert!(begun.elapsed() < Duration::from_millis(50), "{:?}", begun.elapsed());
        let begun = Instant::now();
        let gathered = Fleet::ask(servers(2), |server| question(server, 0..9)).shortly().await;
        assert_eq!((gathered.known.len(), gathered.trouble.len()), (0, 2));
        assert_eq!(begun.elapsed().as_millis(), DEADLINE.as_millis());
        let none = Fleet::ask(Vec::new(), |server| question(server, 0..9)).shortly().await;
        assert!(none.known.is_empty() && none.trouble.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn where_the_first_answer_is_slow_the_others_get_longer() {
        let slow = |server: Server| async move {
            let number: u64 = server.name[1..].parse().unwrap();
            sleep(Duration::from_millis(600 + 300 * number)).await;
            Ok(number)
        };
        let gathered = Fleet::ask(servers(4), slow).shortly().await;
        assert_eq!(gathered.known, [0, 1, 2, 3], "the last one took 1.5 s, the first one 0.6 s");
    }
}
