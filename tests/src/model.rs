//! An MCP client: one process, lines of JSON, both eras of the protocol.

use std::collections::HashMap;
use std::process::Stdio;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::PATIENCE;

/// How a client opens the conversation.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Era {
    /// With `initialize`.
    Initialize(&'static str),
    /// With `server/discover`, every request complete in itself.
    Discover,
}

/// A client with its server.
#[derive(Debug)]
pub struct Model {
    child: Child,
    input: Option<ChildStdin>,
    output: Lines<BufReader<ChildStdout>>,
    era: Era,
    next: u64,
    /// Notifications that came between answers.
    pub notices: Vec<Value>,
}

impl Model {
    /// Starts the server and opens the conversation.
    pub async fn start(mut command: Command, era: Era) -> Self {
        let mut child = command.stdin(Stdio::piped()).spawn().expect("it starts");
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        let mut model = Self { child, input, output, era, next: 1, notices: Vec::new() };
        match era {
            Era::Initialize(version) => {
                let client = json!({"name": "test", "version": "1"});
                let params =
                    json!({"protocolVersion": version, "capabilities": {}, "clientInfo": client});
                let answer = model.request("initialize", params).await;
                assert_eq!(answer["result"]["protocolVersion"], version, "{answer}");
                model.say(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"})).await;
            }
            Era::Discover => {
                let answer = model.request("server/discover", json!({})).await;
                assert!(answer["result"]["supportedVersions"].is_array(), "{answer}");
            }
        }
        model
    }

    /// Writes one message.
    pub async fn say(&mut self, message: &Value) {
        self.say_line(message.to_string().as_bytes()).await;
    }

    /// Writes one line, whatever it holds.
    pub async fn say_line(&mut self, line: &[u8]) {
        let input = self.input.as_mut().expect("it is open");
        input.write_all(&[line, b"\n"].concat()).await.expect("it reads");
    }

    /// Sends a request without waiting, and gives its id.
    pub async fn send(&mut self, method: &str, mut params: Value) -> u64 {
        let id = self.next;
        self.next += 1;
        if self.era == Era::Discover {
            let meta = json!({
                "io.modelcontextprotocol/protocolVersion": "2026-07-28",
                "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
                "io.modelcontextprotocol/clientCapabilities": {},
            });
            let merged =
                params.as_object_mut().expect("an object").entry("_meta").or_insert(json!({}));
            for (key, value) in meta.as_object().expect("an object") {
                merged[key] = value.clone();
            }
        }
        self.say(&json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params})).await;
        id
    }

    /// Waits for the answer to a request.
    pub async fn answer(&mut self, id: u64) -> Value {
        loop {
            let message = self.next().await;
            if message["id"] == id {
                return message;
            }
            self.notices.push(message);
        }
    }

    /// Waits for the next message.
    async fn next(&mut self) -> Value {
        let line = tokio::time::timeout(PATIENCE, self.output.next_line()).await;
        let line = line.expect("it answers").expect("it writes lines").expect("it lives");
        serde_json::from_str(&line).expect("only JSON comes out")
    }

    /// A request and its answer.
    pub async fn request(&mut self, method: &str, params: Value) -> Value {
        let id = self.send(method, params).await;
        self.answer(id).await
    }

    /// Calls a tool so many times, so many of them at once, and gives the texts in the order of the
    /// calls.
    ///
    /// # Panics
    ///
    /// When one of them is an error.
    pub async fn calls(
        &mut self,
        tool: &str,
        arguments: Vec<Value>,
        at_once: usize,
    ) -> Vec<String> {
        let mut texts = vec![String::new(); arguments.len()];
        let mut waiting = HashMap::new();
        let mut rest = arguments.into_iter().enumerate();
        loop {
            while waiting.len() < at_once
                && let Some((at, arguments)) = rest.next()
            {
                let call = json!({"name": tool, "arguments": arguments});
                waiting.insert(self.send("tools/call", call).await, at);
            }
            if waiting.is_empty() {
                return texts;
            }
            let answer = self.next().await;
            let at = answer["id"].as_u64().and_then(|id| waiting.remove(&id));
            let Some(at) = at else {
                self.notices.push(answer);
                continue;
            };
            let (text, error) = text_of(&answer);
            assert!(!error, "{tool}: {text}");
            texts[at] = text;
        }
    }

    /// Calls a tool and gives its text, and whether it was an error.
    pub async fn call(&mut self, tool: &str, arguments: Value) -> (String, bool) {
        let answer =
            self.request("tools/call", json!({"name": tool, "arguments": arguments})).await;
        text_of(&answer)
    }

    /// The server's process id.
    pub fn pid(&self) -> u32 {
        self.child.id().expect("it runs")
    }

    /// Ends it as a client that is killed would.
    pub async fn kill(mut self) {
        self.child.kill().await.expect("it is killed");
    }

    /// Ends standard input and waits for the server's end. Gives its exit code.
    pub async fn end(mut self) -> Option<i32> {
        self.input = None;
        let ended = tokio::time::timeout(PATIENCE, self.child.wait()).await;
        ended.expect("it ends").expect("it can be waited for").code()
    }
}

/// The text of a tool's answer, and whether it was an error.
pub fn text_of(answer: &Value) -> (String, bool) {
    let text = answer["result"]["content"][0]["text"].as_str();
    let text = text.unwrap_or_else(|| panic!("no text: {answer}")).to_owned();
    (text, answer["result"]["isError"] == true)
}
