//! A client of `farwire files serve` that sends exactly the given bytes.

use std::net::SocketAddr;
use std::process::Stdio;

use data_encoding::BASE64;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::process::Child;
use tokio::time::timeout;

use crate::{PATIENCE, World};

/// A root that is served over HTTP.
#[derive(Debug)]
pub struct Dav {
    child: Child,
    /// Its address.
    pub address: SocketAddr,
    /// The prefix of paths: `/work`.
    pub prefix: String,
    /// The access token.
    pub token: String,
}

/// A response.
#[derive(Clone, Debug, Default)]
pub struct Reply {
    /// The status; 0 if the connection ended without one.
    pub status: u16,
    /// The head, in lower case.
    pub head: String,
    /// The body.
    pub body: Vec<u8>,
    /// Whether the body was as long as announced.
    pub whole: bool,
}

impl Reply {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        let line = self.head.lines().find(|line| line.starts_with(&format!("{name}:")))?;
        line.split_once(':').map(|(_, value)| value.trim())
    }
}

impl Dav {
    /// Starts `farwire files serve SERVER` with these options.
    pub async fn start(world: &World, server: &str, more: &[&str]) -> Self {
        let mut command = world.farwire_command(&[&["files", "serve", server], more].concat());
        let mut child = command.stderr(Stdio::inherit()).spawn().expect("it starts");
        let out = child.stdout.take().expect("it is piped");
        let line = timeout(PATIENCE, BufReader::new(out).lines().next_line()).await;
        let line = line.expect("it gets ready").expect("it speaks").expect("it lives");
        let rest = line.strip_prefix("ready http://farwire:").expect("it says so");
        let (token, rest) = rest.split_once('@').expect("a token");
        let (address, path) = rest.split_once('/').expect("a path");
        let prefix = format!("/{}", path.trim_end_matches('/'));
        Self {
            child,
            address: address.parse().expect("an address"),
            prefix,
            token: token.to_owned(),
        }
    }

    /// The id of the process.
    pub fn pid(&self) -> u32 {
        self.child.id().expect("it runs")
    }

    /// Sends a request for a path beneath the prefix, with these additional header lines.
    pub async fn ask(&self, method: &str, path: &str, lines: &[&str], body: &[u8]) -> Reply {
        let target = format!("{}{path}", self.prefix);
        self.ask_for(method, &target, lines, body).await
    }

    /// Sends a request for any target.
    pub async fn ask_for(&self, method: &str, target: &str, lines: &[&str], body: &[u8]) -> Reply {
        let length = if body.is_empty() && !matches!(method, "PUT") {
            String::new()
        } else {
            format!("content-length: {}\r\n", body.len())
        };
        self.send(&[self.head(method, target, lines, &length).as_bytes(), body].concat()).await
    }

    /// The head of a request.
    pub fn head(&self, method: &str, target: &str, lines: &[&str], more: &str) -> String {
        let basic = BASE64.encode(format!("farwire:{}", self.token).as_bytes());
        let lines: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
        format!(
            "{method} {target} HTTP/1.1\r\nhost: {}\r\nauthorization: Basic {basic}\r\nconnection: close\r\n{more}{lines}\r\n",
            self.address
        )
    }

    /// Sends these bytes on a new connection and reads the response.
    pub async fn send(&self, bytes: &[u8]) -> Reply {
        let mut stream = TcpStream::connect(self.address).await.expect("it listens");
        // The server may answer and close before it has read everything.
        let _ = stream.write_all(bytes).await;
        Self::reply(&mut stream).await
    }

    /// Reads a response to the end of the connection.
    pub async fn reply(stream: &mut TcpStream) -> Reply {
        let mut bytes = Vec::new();
        let read = timeout(PATIENCE, stream.read_to_end(&mut bytes)).await.expect("it answers");
        let clean = read.is_ok();
        let mut reply = parse(&bytes).unwrap_or_default();
        reply.whole &= clean;
        reply
    }
}

/// Parses a response, whichever way its length is given.
fn parse(bytes: &[u8]) -> Option<Reply> {
    let mut bytes = bytes;
    loop {
        let at = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
        let head = String::from_utf8_lossy(&bytes[..at]).to_ascii_lowercase();
        let status = head.split(' ').nth(1)?.parse().ok()?;
        let rest = &bytes[at + 4..];
        if status == 100 {
            bytes = rest;
            continue;
        }
        let mut reply = Reply { status, head, ..Reply::default() };
        if reply.header("transfer-encoding") == Some("chunked") {
            (reply.body, reply.whole) = chunks(rest);
        } else {
            let length = reply.header("content-length").and_then(|text| text.parse().ok());
            reply.whole = length.is_none_or(|length: usize| rest.len() == length);
            reply.body = rest.to_vec();
        }
        return Some(reply);
    }
}

fn chunks(mut bytes: &[u8]) -> (Vec<u8>, bool) {
    let mut body = Vec::new();
    loop {
        let Some(at) = bytes.windows(2).position(|window| window == b"\r\n") else {
            return (body, false);
        };
        let Some(length) = std::str::from_utf8(&bytes[..at])
            .ok()
            .and_then(|text| usize::from_str_radix(text, 16).ok())
        else {
            return (body, false);
        };
        if length == 0 {
            return (body, true);
        }
        let Some(chunk) = bytes.get(at + 2..at + 2 + length) else { return (body, false) };
        body.extend_from_slice(chunk);
        bytes = bytes.get(at + 4 + length..).unwrap_or_default();
    }
}
