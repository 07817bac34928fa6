//! A path on a server, and questions about it.
//!
//! ```text
//!     site     resolves the path among the roots that the agent process told of: asked once,
//!              remembered after that
//!     ask      sends the request to enter and the first question together: one round trip
//! ```
//!
//! # Invariants
//!
//! - A question leaves before the agent has let us in only on a link to the very process whose
//!   roots the path was resolved among. The roots of a process do not change, so that the path
//!   means there what it meant here.
//! - A process that does not let us in has done nothing of what was asked behind that. Where it
//!   does not know the root, the path is resolved again and the question is asked anew.
//! - A question that changes something leaves early only while its process is known to live, and
//!   only once. If its stream breaks, the outcome is unknown, as with any such question: see
//!   `asked`.

use std::sync::Arc;
use std::time::Duration;

use farwire_protocol::cbor::Blob;
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::header::Class;
use farwire_protocol::streams::files::{Ask, Enter, Root};
use tokio::time::timeout;

use super::asked::{Question, effects};
use super::place::{Place, ServerPath, find, resolve, resolve_root};
use super::roots;
use super::{Answer, Entrance, Files, FilesConversation, PATIENCE, RootPath, RootRequest};
use crate::client::{Client, Server};
use crate::conversation::{Attempts, Effects, Fault, NoAnswer, Remote, Trouble, Word, carry};
use crate::known_roots::Known;
use crate::runs::control;

/// Content that is longer costs more than a round trip, and could not be taken back from the way.
const SHORT: usize = 64 << 10;

/// How long the agent may take to let us in, where nothing is lost by asking again.
const WINDOW: Duration = Duration::from_secs(8);

/// The face of this program through which somebody asks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Face {
    /// Commands.
    Cli,
    /// Tools of a model.
    Mcp,
}

impl Face {
    /// What servers' histories call whoever asks.
    pub const fn client(self) -> &'static str {
        match self {
            Self::Cli => "cli",
            Self::Mcp => "mcp",
        }
    }

    /// The text of a refusal by a verb, which names the tool to a model.
    pub fn refusal(self, verb: &str, text: &str) -> String {
        match self {
            Self::Cli => text.to_owned(),
            Self::Mcp => format!("file_{verb}: {text}"),
        }
    }
}

impl ServerPath {
    /// The path, for questions about it.
    ///
    /// # Errors
    ///
    /// `unknown_server`; `no_root` where no root contains it.
    pub async fn site(&self, client: &Client, face: Face) -> Result<Site, Failure> {
        let given = Given { path: self.path.clone(), whole: false };
        Site::find(client, client.find(&self.server).await?, given, face).await
    }

    /// The root itself: by its name, by where it is, or because there is no other.
    ///
    /// # Errors
    ///
    /// `no_root` for a path in one: what is done to a whole root is not done because of a name that
    /// was misspelt.
    pub async fn root_site(&self, client: &Client, face: Face) -> Result<Site, Failure> {
        let given = Given { path: self.path.clone(), whole: true };
        Site::find(client, client.find(&self.server).await?, given, face).await
    }

    /// The server, and where on it the path is now.
    ///
    /// # Errors
    ///
    /// As [`Self::site`].
    pub async fn place(&self, client: &Client) -> Result<(Server, Place), Failure> {
        let server = client.find(&self.server).await?;
        let place = find(client, &server, &self.path).await?;
        Ok((server, place))
    }

    /// How the path is entered as if it were a root: nothing beside it can be named then.
    ///
    /// # Errors
    ///
    /// As [`Self::site`].
    pub(crate) async fn below(&self, client: &Client) -> Result<RootRequest, Failure> {
        if self.path.is_empty() {
            return Ok(RootRequest::unbound(Enter::default()));
        }
        let (_, place) = self.place(client).await?;
        let below = Some(Blob(place.path)).filter(|below| !below.is_empty());
        let enter = Enter { root: Some(place.root), below, ..Enter::default() };
        Ok(RootRequest { enter, path: RootPath::Known(place.root_path) })
    }
}

/// A path on a server, and the stream to its root once there is one.
#[derive(Debug)]
pub struct Site {
    client: Client,
    /// The server.
    pub server: Server,
    /// The path. Another one after a question, if the roots of the server had changed.
    pub place: Place,
    /// The path as it was given.
    given: Given,
    /// Which client of its surface asks.
    face: Face,
    known: Known,
    /// The streams over which the questions go: what an earlier one has asked is over before a
    /// later one is let in.
    line: Arc<FilesConversation>,
    files: Option<Files>,
    /// The first question has left, or should wait for the agent.
    begun: bool,
    /// Others have used the stream, and it may be at anything.
    lent: bool,
}

impl Drop for Site {
    fn drop(&mut self) {
        if let Some(files) = self.files.take().filter(|_| !self.lent) {
            roots::watch(&self.client, &self.server, files);
        }
    }
}

/// A path as it was given.
#[derive(Debug)]
struct Given {
    path: Vec<u8>,
    /// It must name a root itself.
    whole: bool,
}

/// What came of the first question.
enum First {
    Answered(Box<Answer>),
    /// It has to be asked on a stream that the agent has let in.
    Wait,
}

/// A question that leaves with the request to enter.
struct Early<'a> {
    files: Files,
    ask: Ask,
    content: Option<&'a [u8]>,
    attempts: Attempts,
}

impl Site {
    async fn find(
        client: &Client,
        server: Server,
        given: Given,
        face: Face,
    ) -> Result<Self, Failure> {
        let remembered = client.roots.of(server.pin.bundle.id.target());
        // A path that is in none of the roots that we know may be in one that is new.
        let resolved = remembered.and_then(|known| {
            let place = given.resolve(&server, &known.roots).ok()?;
            Some((place, known))
        });
        let (place, known) = match resolved {
            Some(resolved) => resolved,
            None => {
                let known = roots::ask(client, &server).await?;
                (given.resolve(&server, &known.roots)?, known)
            }
        };
        let (client, files, line) = (client.clone(), None, Arc::default());
        let (begun, lent) = (false, false);
        Ok(Self { client, server, place, given, face, known, line, files, begun, lent })
    }

    /// Asks a question without content. `question` makes it of the place, which may be resolved
    /// anew.
    ///
    /// # Errors
    ///
    /// Those of the server; `outcome_unknown` where nobody knows whether it was done.
    pub async fn ask(&mut self, question: impl Fn(&Place) -> Ask) -> Result<Answer, Failure> {
        self.ask_with(None, question).await
    }

    /// Asks a question with this content.
    ///
    /// # Errors
    ///
    /// As [`Self::ask`].
    pub async fn ask_with(
        &mut self,
        content: Option<&[u8]>,
        question: impl Fn(&Place) -> Ask,
    ) -> Result<Answer, Failure> {
        if !self.begun
            && let First::Answered(answer) =
                Box::pin(self.first(question(&self.place), content)).await?
        {
            return Ok(*answer);
        }
        self.enter().await?;
        let ask = question(&self.place);
        // A question that nobody waits for any more takes its stream with it.
        let mut files = self.files.take().expect("it was entered");
        let answer = files.answer(&self.client, ask, content).await;
        self.files = Some(files);
        answer
    }

    /// The stream, once the agent has let us in.
    ///
    /// # Errors
    ///
    /// Why the root cannot be entered.
    pub async fn files(&mut self) -> Result<&mut Files, Failure> {
        self.enter().await?;
        self.lent = true;
        Ok(self.files.as_mut().expect("it was entered"))
    }

    /// How the root is entered.
    fn request(&self) -> RootRequest {
        self.place.request(self.face.client())
    }

    /// Sends the request to enter and the first question together, or the request alone where that
    /// is safer.
    async fn first(&mut self, ask: Ask, content: Option<&[u8]>) -> Result<First, Failure> {
        self.begun = true;
        let acts = effects(&ask) != Effects::None;
        let mut attempts = Attempts::new(effects(&ask), Some(PATIENCE));
        let opened = self.client.stream(&self.server, Class::Interactive);
        let mut stream = match timeout(PATIENCE, opened).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(trouble)) => return self.follow(attempts, trouble).await,
            Err(_) => return Err(attempts.late(&self.server).failure()),
        };
        let known = self.known.roots.iter().find(|root| root.name == self.place.root);
        let (true, Some(root)) = (stream.link.accept().instance == self.known.instance, known)
        else {
            return Ok(First::Wait);
        };
        let silent = stream.link.silent_for();
        let target = self.server.pin.bundle.id.target();
        let lives = self.client.roots.lives(target, self.known.instance, silent);
        let line = self.line.clone();
        let entrance = Entrance { request: self.request(), class: Class::Interactive, line };
        attempts.goes_over(&stream.link);
        stream.writer.open(entrance.request()?);
        let mut files = Files::on(stream, &self.server, root.clone(), entrance);
        if content.is_some_and(|content| content.len() > SHORT) || acts && !lives {
            // Nothing but the request to enter goes out.
            let mut attempts = Attempts::new(Effects::None, Some(PATIENCE));
            attempts.goes_over(&files.down.link);
            attempts.mark_sent();
            return match files.enter_now(WINDOW).await {
                Ok(()) => {
                    self.files = Some(files);
                    Ok(First::Wait)
                }
                Err(trouble) => self.follow(attempts, trouble).await,
            };
        }
        if !acts {
            files.outside = Some(WINDOW);
        }
        self.send(Early { files, ask, content, attempts }).await
    }

    /// Sends a question behind the request to enter, and waits for its answer.
    async fn send(&mut self, early: Early<'_>) -> Result<First, Failure> {
        let Early { mut files, ask, content, mut attempts } = early;
        let link = files.down.link.clone();
        let asked = Box::pin(files.once(ask.clone(), content, || attempts.mark_sent()));
        let trouble = match control::attended(self.remote(), &link, asked).await {
            Ok(answer) => {
                self.files = Some(files);
                return Ok(First::Answered(Box::new(answer)));
            }
            Err(trouble) => trouble,
        };
        let outside = files.outside.is_some();
        if outside && (files.refused || is_refusal(&trouble)) {
            return self.after_refusal(trouble);
        }
        if !outside && matches!(trouble.fault, Fault::Said(Word::Refused)) {
            // The stream goes on after it.
            self.files = Some(files);
            return Err(trouble.failure);
        }
        if !outside && matches!(ask, Ask::Watch(_)) {
            // A second wait would be longer than what was asked for.
            attempts.forget_link(self.remote());
            return Err(trouble.failure);
        }
        if !outside {
            attempts.mark_heard();
        }
        // The time counts from when the way breaks.
        attempts.end_in(PATIENCE);
        let answered = match attempts.follow(self.remote(), trouble).await {
            // It was not sent.
            Ok(_) if effects(&ask) != Effects::None => return Ok(First::Wait),
            Ok(_) => {
                let mut question = Question::again(&mut files, &ask, content);
                Box::pin(carry(self.remote(), attempts, &mut question)).await
            }
            Err(why) => Err(why),
        };
        let answer = match answered {
            Ok(answer) => answer,
            // The roots are others by now.
            Err(NoAnswer::Failed(failure)) if failure.kind == Kind::NoRoot => {
                return Ok(First::Wait);
            }
            Err(why) => files.settle(&self.client, &ask, content, why).await?,
        };
        self.files = Some(files);
        Ok(First::Answered(Box::new(answer)))
    }

    /// The agent has not let us in, and nothing was asked that it could have done.
    fn after_refusal(&self, trouble: Trouble) -> Result<First, Failure> {
        match (trouble.failure.kind, Word::of(trouble.failure.kind)) {
            // Its roots may be others by now, or its worker may come back.
            (Kind::NoRoot, _) | (_, Word::Died | Word::Broken | Word::Unsure) => Ok(First::Wait),
            _ => Err(trouble.failure),
        }
    }

    fn remote(&self) -> Remote<'_> {
        Remote::new(&self.client, &self.server)
    }

    /// Waits until there may be another attempt.
    async fn follow(&self, mut attempts: Attempts, trouble: Trouble) -> Result<First, Failure> {
        let next = attempts.follow(self.remote(), trouble).await;
        next.map(|_| First::Wait).map_err(NoAnswer::failure)
    }

    /// Makes sure that the agent has let us in. From then on the place stays what it is.
    ///
    /// # Errors
    ///
    /// Why the root cannot be entered.
    pub async fn enter(&mut self) -> Result<(), Failure> {
        self.begun = true;
        match self.files {
            Some(_) => Ok(()),
            None => Box::pin(self.enter_anew()).await,
        }
    }

    /// Enters the same root again, once its stream has broken: the place stays what it is.
    ///
    /// # Errors
    ///
    /// Why the root cannot be entered.
    pub(crate) async fn enter_again(&mut self) -> Result<(), Failure> {
        let client = self.client.clone();
        match &mut self.files {
            Some(files) => Box::pin(files.enter_again(&client)).await,
            None => self.enter().await,
        }
    }

    /// The way to the server.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Resolves the path among the roots that the server has now, enters the root and waits to be
    /// let in.
    async fn enter_anew(&mut self) -> Result<(), Failure> {
        for _ in 0..roots::ATTEMPTS {
            self.known = roots::ask(&self.client, &self.server).await?;
            self.place = self.given.resolve(&self.server, &self.known.roots)?;
            // Compared is the process: if it is another one, the path is resolved again.
            let request = RootRequest::unbound(self.request().enter);
            let line = self.line.clone();
            let entered = Files::enter_on(self.remote(), &request, Class::Interactive, line);
            let files = entered.await?;
            if files.instance() == self.known.instance {
                self.files = Some(files);
                return Ok(());
            }
        }
        Err(roots::restarting(&self.server))
    }
}

impl Given {
    fn resolve(&self, server: &Server, roots: &[Root]) -> Result<Place, Failure> {
        let resolve = if self.whole { resolve_root } else { resolve };
        resolve(roots, &self.path).map_err(|failure| Failure {
            message: format!("`{}`: {}", server.name, failure.message),
            ..failure
        })
    }
}

impl Files {
    /// Sends the request to enter, and waits to be let in.
    async fn enter_now(&mut self, window: Duration) -> Result<(), Trouble> {
        self.outside = Some(window);
        self.flush(0).await?;
        self.let_in().await
    }
}

/// Whether the agent has refused to let us in, so that its worker has seen nothing of what was
/// asked. Of other failures it may be that the worker has acted, and what it said of that was lost.
fn is_refusal(trouble: &Trouble) -> bool {
    let refusals = [Kind::NoRoot, Kind::Overloaded, Kind::Busy, Kind::ResourceExhausted];
    let sealed = matches!(trouble.fault, Fault::Said(_) | Fault::Nonsense);
    sealed && refusals.contains(&trouble.failure.kind)
}
