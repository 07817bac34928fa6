//! One request, on its way to the server.

use bytes::Bytes;
use farwire_protocol::cbor::Blob;
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::header::Class;
use farwire_protocol::streams::files::{Ask, Head, Header, Http, ToBridge};
use futures_util::FutureExt as _;
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Incoming};
use hyper::http::request::Parts;
use hyper::{Method, Request};
use tokio::sync::OwnedMutexGuard;

use super::{Served, guard};
use crate::files::{Files, Said, link_lost, violation};

/// No question is longer: it fits a message with its frame.
const LONGEST: usize = 15 << 10;

/// Carries a request to the server, until the head of the answer is there. Says whether that came
/// before the whole body was taken. `None` for a request that is too long to be carried.
pub(super) async fn carry(
    served: &Served,
    line: &mut OwnedMutexGuard<Option<Files>>,
    request: Request<Incoming>,
) -> Result<Option<(Head, bool)>, Failure> {
    let (parts, mut body) = request.into_parts();
    let ask = question(&parts);
    if farwire_protocol::cbor::encode(&ask).len() > LONGEST {
        return Ok(None);
    }
    // What has broken, or ended, since the request before is no line any more.
    let is_dead = line.as_mut().is_some_and(|files| files.down.next().now_or_never().is_some());
    if is_dead {
        **line = None;
    }
    // A body that has been taken cannot be taken again.
    let may_be_repeated = line.is_some() && body.is_end_stream() && only_looks(&parts.method);
    match once(served, line, ask.clone(), &mut body).await {
        // It may have been dead all the same, and nobody knew yet.
        Err(failure) if may_be_repeated => {
            tracing::debug!(why = failure.message, "a request is carried over another stream");
            **line = None;
            once(served, line, ask, &mut body).await.map(Some)
        }
        answered => answered.map(Some),
    }
}

fn question(parts: &Parts) -> Ask {
    let headers = parts.headers.iter().filter(|(name, _)| guard::is_carried(name));
    let headers = headers.map(|(name, value)| Header {
        name: name.as_str().to_owned(),
        value: Blob(value.as_bytes().to_vec()),
    });
    Ask::Http(Http {
        method: parts.method.as_str().to_owned(),
        target: parts.uri.to_string(),
        headers: headers.collect(),
    })
}

/// Whether a request changes nothing, and may be carried twice.
fn only_looks(method: &Method) -> bool {
    [Method::GET, Method::HEAD, Method::OPTIONS].contains(method) || method.as_str() == "PROPFIND"
}

async fn once(
    served: &Served,
    line: &mut OwnedMutexGuard<Option<Files>>,
    ask: Ask,
    body: &mut Incoming,
) -> Result<(Head, bool), Failure> {
    if line.is_none() {
        let Served { client, server, request, .. } = served;
        **line = Some(Files::enter(client, server, request, Class::Interactive).await?);
    }
    let files = line.as_mut().ok_or_else(link_lost)?;
    files.up.ask(ask)?;
    let mut sent: u64 = 0;
    loop {
        let frame = tokio::select! {
            biased;
            frame = body.frame() => frame,
            said = files.down.next() => return early(files, said?).await,
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
                // The client has gone in the middle of it, or sent less than it said.
                files.up.give_up();
                files.up.flush().await?;
                let text = "the body of the request broke off";
                return Err(Failure::new(Kind::InvalidArgument, text));
            }
        }
    }
    files.up.whole(sent);
    files.up.flush().await?;
    match files.down.next().await? {
        Said::Message(ToBridge::Head(head)) => Ok((head, false)),
        Said::Message(ToBridge::Done(done)) if done.failure.is_some() => {
            Err(done.failure.unwrap_or_else(link_lost))
        }
        _ => Err(violation("an answer without its head")),
    }
}

/// An answer came before the body was whole: the rest of it is not wanted.
async fn early(files: &mut Files, said: Said) -> Result<(Head, bool), Failure> {
    files.up.give_up();
    files.up.flush().await?;
    match said {
        Said::Message(ToBridge::Head(head)) => Ok((head, true)),
        Said::Message(ToBridge::Done(mut done)) => {
            Err(done.failure.take().unwrap_or_else(link_lost))
        }
        _ => Err(violation("an answer without its head")),
    }
}

/// The body of an answer, if all of it is there: small ones come with their heads.
pub(super) fn whole(line: &mut OwnedMutexGuard<Option<Files>>) -> Result<Option<Bytes>, Failure> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_looks_is_carried_twice() {
        let method = |name: &str| Method::from_bytes(name.as_bytes()).unwrap();
        for looks in ["GET", "HEAD", "OPTIONS", "PROPFIND"] {
            assert!(only_looks(&method(looks)), "{looks}");
        }
        for other in ["PUT", "DELETE", "MOVE", "COPY", "MKCOL", "LOCK", "PROPPATCH", "POST", "get"]
        {
            assert!(!only_looks(&method(other)), "{other}");
        }
    }
}
