//! A root as a WebDAV server on this machine: HTTP in, questions to the server out.
//!
//! Who speaks to it must know the token; pages of a browser do not, and cannot, by `Host` and `Origin`. Each
//! connection of a client has one stream. What a request means is decided on the server; here it is only
//! carried, and an answer that breaks off there breaks off here.

mod guard;

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use farwire_protocol::cbor::Blob;
use farwire_protocol::failure::Failure;
use farwire_protocol::header::Class;
use farwire_protocol::streams::files::{Ask, Enter, Head, Header, Http, ToBridge};
use http_body_util::{BodyExt as _, Empty, Full, StreamBody, combinators::BoxBody};
use hyper::body::{Body as _, Frame, Incoming};
use hyper::header::{CONNECTION, HeaderName, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, OwnedMutexGuard, Semaphore, mpsc};

pub use self::guard::Guard;
use super::{Files, Said};
use crate::client::{Client, Server};

/// So many connections at once.
const CONNECTIONS: usize = 256;

/// A client has so long for the head of a request.
const HEAD: Duration = Duration::from_secs(30);

/// No head is longer.
const HEAD_BYTES: usize = 64 << 10;

/// So many pieces of an answer wait for a client that reads slowly.
const WAITING: usize = 8;

type Body = BoxBody<Bytes, io::Error>;

/// What is served, and to whom.
#[derive(Debug)]
pub struct Served {
    /// The way to the server.
    pub client: Client,
    /// The server.
    pub server: Server,
    /// What is entered for each connection.
    pub enter: Enter,
    /// Who may speak.
    pub guard: Guard,
}

/// Serves until it is dropped.
pub async fn serve(served: Arc<Served>, listener: TcpListener) -> io::Result<()> {
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) if is_passing(&error) => {
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
            Err(error) => return Err(error),
        };
        // Who comes when there is no room waits for some.
        let Ok(place) = room.clone().acquire_owned().await else { return Ok(()) };
        let served = served.clone();
        tokio::spawn(async move {
            connection(served, stream, peer).await;
            drop(place);
        });
    }
}

/// Whether accepting may work again in a moment.
fn is_passing(error: &io::Error) -> bool {
    let number = error.raw_os_error();
    number == Some(libc::EMFILE)
        || number == Some(libc::ENFILE)
        || matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset)
}

async fn connection(served: Arc<Served>, stream: TcpStream, peer: SocketAddr) {
    // A small answer should not wait for more.
    let _ = stream.set_nodelay(true);
    let line = Arc::new(Mutex::new(None));
    let service = service_fn(|request| {
        let (served, line) = (served.clone(), line.clone());
        async move { Ok::<_, Infallible>(answer(&served, line, request).await) }
    });
    let http = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = http {
        tracing::debug!(%peer, %error, "a connection ended early");
    }
}

fn plain(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Empty::new().map_err(|never| match never {}).boxed());
    *response.status_mut() = status;
    response
}

/// The stream of a connection, once it has one.
type Line = Arc<Mutex<Option<Files>>>;

async fn answer(served: &Served, line: Line, request: Request<Incoming>) -> Response<Body> {
    if let Some(refused) = served.guard.refuses(request.headers()) {
        return refused.map(|()| Empty::new().map_err(|never| match never {}).boxed());
    }
    // The answer before may still be on its way.
    let mut line = line.lock_owned().await;
    let has_body = !request.body().is_end_stream();
    match carry(served, &mut line, request).await {
        // Its head does not fit a message.
        Ok(None) => plain(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE),
        Ok(Some((head, early))) => {
            let mut response = match whole(&mut line) {
                Ok(Some(body)) => {
                    respond(head, Full::new(body).map_err(|never| match never {}).boxed())
                }
                Ok(None) => respond(head, stream(line, early && has_body)),
                Err(failure) => {
                    tracing::warn!(kind = %failure.kind, why = failure.message, "a request was not answered");
                    *line = None;
                    return plain(StatusCode::BAD_GATEWAY);
                }
            };
            if early && has_body {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            response
        }
        Err(failure) => {
            tracing::warn!(kind = %failure.kind, why = failure.message, "a request was not answered");
            *line = None;
            plain(StatusCode::BAD_GATEWAY)
        }
    }
}

/// Carries a request to the server, until the head of the answer is there. Says whether that came before
/// the whole body was taken. `None` for a request that is too long to be carried.
async fn carry(
    served: &Served,
    line: &mut OwnedMutexGuard<Option<Files>>,
    request: Request<Incoming>,
) -> Result<Option<(Head, bool)>, Failure> {
    if line.is_none() {
        let Served { client, server, enter, .. } = served;
        **line = Some(Files::enter(client, server, enter, Class::Interactive).await?);
    }
    let files = line.as_mut().ok_or_else(super::lost)?;
    let (parts, mut body) = request.into_parts();
    let headers = parts.headers.iter().filter(|(name, _)| guard::is_carried(name));
    let headers = headers.map(|(name, value)| Header {
        name: name.as_str().to_owned(),
        value: Blob(value.as_bytes().to_vec()),
    });
    let http = Http {
        method: parts.method.as_str().to_owned(),
        target: parts.uri.to_string(),
        headers: headers.collect(),
    };
    let ask = Ask::Http(http);
    if farwire_protocol::cbor::encode(&ask).len() > 15 << 10 {
        return Ok(None);
    }
    files.up.ask(ask)?;
    let mut sent: u64 = 0;
    loop {
        let frame = tokio::select! {
            biased;
            frame = body.frame() => frame,
            said = files.down.next() => return early(files, said?).await.map(Some),
        };
        match frame {
            None => break,
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    files.up.content(&data);
                    sent += data.len() as u64;
                    files.up.flush_full().await?;
                }
            }
            Some(Err(_)) => {
                // The client has gone in the middle of it.
                files.up.give_up();
                files.up.flush().await?;
                return Err(super::lost());
            }
        }
    }
    files.up.whole(sent);
    files.up.flush().await?;
    match files.down.next().await? {
        Said::Message(ToBridge::Head(head)) => Ok(Some((head, false))),
        Said::Message(ToBridge::Done(done)) if done.failure.is_some() => {
            Err(done.failure.unwrap_or_else(super::lost))
        }
        _ => Err(super::violation("an answer without its head")),
    }
}

/// An answer came before the body was whole: the rest of it is not wanted.
async fn early(files: &mut Files, said: Said) -> Result<(Head, bool), Failure> {
    files.up.give_up();
    files.up.flush().await?;
    match said {
        Said::Message(ToBridge::Head(head)) => Ok((head, true)),
        Said::Message(ToBridge::Done(mut done)) => {
            Err(done.failure.take().unwrap_or_else(super::lost))
        }
        _ => Err(super::violation("an answer without its head")),
    }
}

/// The body of an answer, if all of it is there: small ones come with their heads.
fn whole(line: &mut OwnedMutexGuard<Option<Files>>) -> Result<Option<Bytes>, Failure> {
    let Some(files) = line.as_mut() else { return Ok(None) };
    let first = match files.down.next_now()? {
        Some(Said::Content(bytes)) => bytes,
        Some(Said::Message(ToBridge::Done(done))) => {
            return done.failure.map_or(Ok(Some(Bytes::new())), Err);
        }
        said => {
            files.down.put_back([said, None]);
            return Ok(None);
        }
    };
    match files.down.next_now()? {
        Some(Said::Message(ToBridge::Done(done))) => done.failure.map_or(Ok(Some(first)), Err),
        next => {
            files.down.put_back([Some(Said::Content(first)), next]);
            Ok(None)
        }
    }
}

/// A body that comes as the server sends it.
fn stream(line: OwnedMutexGuard<Option<Files>>, given_up: bool) -> Body {
    let (pieces, waiting) = mpsc::channel(WAITING);
    tokio::spawn(bring(line, pieces, given_up));
    let stream = futures_util::stream::unfold(waiting, async |mut waiting| {
        waiting.recv().await.map(|piece: io::Result<Bytes>| (piece.map(Frame::data), waiting))
    });
    StreamBody::new(stream).boxed()
}

/// The answer with this body.
fn respond(head: Head, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(head.status).unwrap_or(StatusCode::BAD_GATEWAY);
    for header in head.headers {
        let name = HeaderName::from_bytes(header.name.as_bytes());
        let value = HeaderValue::from_bytes(&header.value);
        if let (Ok(name), Ok(value)) = (name, value) {
            response.headers_mut().append(name, value);
        }
    }
    response
}

/// Brings the body of an answer. The stream is free for the next request once the server is done.
async fn bring(
    mut line: OwnedMutexGuard<Option<Files>>,
    pieces: mpsc::Sender<io::Result<Bytes>>,
    given_up: bool,
) {
    let Some(files) = line.as_mut() else { return };
    loop {
        match files.down.next().await {
            Ok(Said::Content(bytes)) => {
                // A client that has gone ends the stream: nobody wants the rest.
                if pieces.send(Ok(bytes)).await.is_err() {
                    *line = None;
                    return;
                }
            }
            Ok(Said::Message(ToBridge::Done(done))) => {
                if done.failure.is_some() && !given_up {
                    let _ = pieces.send(Err(io::ErrorKind::UnexpectedEof.into())).await;
                }
                return;
            }
            _ => {
                let _ = pieces.send(Err(io::ErrorKind::UnexpectedEof.into())).await;
                *line = None;
                return;
            }
        }
    }
}
