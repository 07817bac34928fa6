//! A root as a WebDAV server on this machine: HTTP in, questions to the server out.
//!
//! Who speaks to it must know the token; pages of a browser do not, and cannot, by `Host` and
//! `Origin`. Each connection of a client has one stream. What a request means is decided on the
//! server; here it is only carried, and an answer that breaks off there breaks off here.

mod body;
mod carry;
mod guard;
mod head;
mod strict;

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use farwire_protocol::failure::Kind;
use http_body_util::{BodyExt as _, Empty, Full, combinators::BoxBody};
use hyper::body::{Body as _, Incoming};
use hyper::header::{CONNECTION, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, Semaphore};

pub use self::guard::Guard;
use self::strict::Strict;
use super::{Files, RootRequest};
use crate::client::{Client, Server};

/// So many connections at once.
const CONNECTIONS: usize = 256;

/// A client has so long for the head of a request.
const HEAD: Duration = Duration::from_secs(30);

/// No head is longer.
const HEAD_BYTES: usize = 64 << 10;

type Body = BoxBody<Bytes, io::Error>;

/// What is served, and to whom.
#[derive(Debug)]
pub struct Served {
    /// The way to the server.
    pub client: Client,
    /// The server.
    pub server: Server,
    /// What is entered for each connection.
    pub request: RootRequest,
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
    // Who listens everywhere is called by the address that the client came to.
    let here = stream.local_addr().ok();
    let line = Arc::new(Mutex::new(None));
    let service = service_fn(|request| {
        let (served, line) = (served.clone(), line.clone());
        async move {
            let mut answer = answer(&served, here, line, request).await;
            head::forbid(answer.headers_mut());
            Ok::<_, Infallible>(answer)
        }
    });
    let http = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(HEAD_BYTES)
        .serve_connection(TokioIo::new(Strict::new(stream)), service)
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
type SharedFiles = Arc<Mutex<Option<Files>>>;

async fn answer(
    served: &Served,
    here: Option<SocketAddr>,
    line: SharedFiles,
    request: Request<Incoming>,
) -> Response<Body> {
    let here = here.map(|here| here.to_string());
    if let Some(refused) = served.guard.refuses(request.headers(), here.as_deref()) {
        return refused.map(|()| Empty::new().map_err(|never| match never {}).boxed());
    }
    // The answer before may still be on its way.
    let mut line = line.lock_owned().await;
    let has_body = !request.body().is_end_stream();
    let method = request.method().clone();
    let answered = match carry::carry(served, &mut line, request).await {
        // Its head does not fit a message.
        Ok(None) => return plain(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE),
        Ok(Some((head, early))) => {
            let cut = early && has_body;
            carry::whole(&mut line).map(|body| {
                let whole = body.is_some();
                let body = match body {
                    Some(body) => Full::new(body).map_err(|never| match never {}).boxed(),
                    None => body::stream(line, cut),
                };
                (head::respond(head, &method, body, whole), cut)
            })
        }
        Err(failure) => {
            *line = None;
            Err(failure)
        }
    };
    match answered {
        Ok((mut response, cut)) => {
            if cut {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            response
        }
        // It is the client's own request that is not whole.
        Err(failure) if failure.kind == Kind::InvalidArgument => plain(StatusCode::BAD_REQUEST),
        Err(failure) => {
            tracing::warn!(kind = %failure.kind, why = failure.message, "a request was not answered");
            plain(StatusCode::BAD_GATEWAY)
        }
    }
}

#[cfg(test)]
mod tests;
