//! Answers one MCP client: lists its tools, and carries out its calls.
//!
//! Every call is answered, even if its tool panics. What a tool does is in `tools`.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use data_encoding::BASE64;
use farwire_protocol::failure::{Failure, Kind};
use rmcp::model::{
    CacheScope, CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock,
    CustomRequest, CustomResult, DiscoverResult, ErrorCode, ErrorData, Implementation,
    ListPromptsResult, ListToolsResult, PaginatedRequestParams, ProgressNotificationParam,
    ServerCapabilities, ServerConfig, Tool, ToolAnnotations,
};
use rmcp::service::RequestContext;
use rmcp::{RoleServer, ServerHandler};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::instructions::instructions;
use crate::text::error;
use crate::text::neutral::neutral_within;
use crate::tools::caller::{Caller, Picture};
use crate::tools::hint::next;
use crate::tools::seat::Seat;
use crate::tools::tool::Entry;

/// How long a client may keep the list of tools: it is fixed in a version.
const FRESH_MS: u64 = 3_600_000;

/// Progress is reported at most this often: the agent sends it about once a second.
const PROGRESS: usize = 4;

/// Answers one client.
pub(super) struct Handler {
    seat: Arc<Seat>,
    /// Cancelled when we are about to end: from then on, a cancelled call was not cancelled by the
    /// client.
    leaving: CancellationToken,
}

impl Handler {
    /// A handler for the client of this seat, until we leave.
    pub(super) fn new(seat: Arc<Seat>, leaving: CancellationToken) -> Self {
        Self { seat, leaving }
    }
}

impl ServerHandler for Handler {
    fn get_info(&self) -> ServerConfig {
        let mut info = ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
            .with_instructions(instructions(&self.seat.settings.offer));
        info.server_info = Implementation::new("farwire", env!("CARGO_PKG_VERSION"));
        info
    }

    async fn discover(&self, _: RequestContext<RoleServer>) -> Result<DiscoverResult, ErrorData> {
        let versions = ServerHandler::supported_protocol_versions(self).into_owned();
        let found = DiscoverResult::from_server_info(versions, self.get_info());
        Ok(found.with_ttl_ms(FRESH_MS).with_cache_scope(CacheScope::Private))
    }

    async fn list_prompts(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListPromptsResult, ErrorData> {
        // None are declared, and a client that asks anyway gets an error.
        Err(ErrorData::method_not_found::<rmcp::model::ListPromptsRequestMethod>())
    }

    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let tools = self.seat.settings.offer.list().iter().map(describe).collect();
        let list = ListToolsResult::with_all_items(tools);
        Ok(list.with_ttl_ms(FRESH_MS).with_cache_scope(CacheScope::Private))
    }

    /// The error for an unknown request: either its method or its parameters.
    async fn on_custom_request(
        &self,
        request: CustomRequest,
        _: RequestContext<RoleServer>,
    ) -> Result<CustomResult, ErrorData> {
        let shown = neutral_within(&request.method, 60);
        if matches!(request.method.as_str(), "initialize" | "tools/call" | "tools/list") {
            let message = format!("{shown}: the parameters are not valid");
            return Err(ErrorData::invalid_params(message, None));
        }
        Err(ErrorData::new(ErrorCode::METHOD_NOT_FOUND, shown, None))
    }

    fn get_tool(&self, name: &str) -> Option<Tool> {
        self.seat.settings.offer.tool(name).as_ref().map(describe)
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let Some(entry) = self.seat.settings.offer.tool(&request.name) else {
            let shown = neutral_within(&request.name, 60);
            return Err(ErrorData::invalid_params(format!("unknown tool: {shown}"), None));
        };
        let arguments = Value::Object(request.arguments.unwrap_or_default());
        let picture = Arc::default();
        let result = self.answer(entry, arguments, &picture, context).await;
        let counts = &self.seat.process.counts;
        counts.calls.fetch_add(1, Ordering::Relaxed);
        counts.failures.fetch_add(u64::from(result.is_err()), Ordering::Relaxed);
        let masks = &self.seat.process.masks;
        Ok(CallToolResponse::from(match result {
            Ok(text) => {
                let mut content = vec![ContentBlock::text(masks.mask(text))];
                let picture = picture.lock().unwrap_or_else(PoisonError::into_inner).take();
                content.extend(picture.map(|picture| {
                    ContentBlock::image(BASE64.encode(&picture.bytes), picture.kind)
                }));
                CallToolResult::success(content)
            }
            Err(failure) => {
                let line = error::line(failure.kind.name(), &failure.message, next(&failure));
                CallToolResult::error(vec![ContentBlock::text(masks.mask(line))])
            }
        }))
    }
}

impl Handler {
    /// Calls a tool on its own task: a panic in it becomes an error, and does not end the server.
    async fn answer(
        &self,
        entry: Entry,
        arguments: Value,
        picture: &Arc<Mutex<Option<Picture>>>,
        context: RequestContext<RoleServer>,
    ) -> Result<String, Failure> {
        let (sender, mut told) = mpsc::channel::<(u64, String)>(PROGRESS);
        let token = context.meta.get_progress_token();
        let cancelled = CancellationToken::new();
        let caller = Caller {
            cancelled: cancelled.clone(),
            progress: token.is_some().then_some(sender),
            picture: Arc::clone(picture),
        };
        let seat = self.seat.clone();
        let task = tokio::spawn(async move { entry.call(arguments, &seat, &caller)?.await });
        let mut task = AbortOnDropHandle::new(task);
        // It must increase each time, and a silent program writes no lines.
        let mut step = 0.0;
        loop {
            tokio::select! {
                () = context.ct.cancelled(), if !cancelled.is_cancelled() && !self.leaving.is_cancelled() => {
                    if !self.leaving.is_cancelled() {
                        cancelled.cancel();
                    }
                }
                done = &mut task => return done.unwrap_or_else(|error| {
                    tracing::error!(%error, tool = entry.name, "a tool died");
                    Err(Failure::new(Kind::Internal, format!("{} failed inside Farwire", entry.name)))
                }),
                Some((lines, text)) = told.recv() => {
                    step += 1.0;
                    let text = if text.is_empty() { format!("{lines} lines") } else { text };
                    let text = self.seat.process.masks.mask(text);
                    if let Some(token) = &token {
                        let told = ProgressNotificationParam::new(token.clone(), step).with_message(text);
                        // A client that has gone needs no progress.
                        let _ = context.peer.notify_progress(told).await;
                    }
                }
            }
        }
    }
}

/// A tool as clients see it.
fn describe(entry: &Entry) -> Tool {
    let effect = entry.effect;
    let annotations = ToolAnnotations::with_title(entry.title)
        .read_only(effect.read_only)
        .destructive(effect.destructive)
        .idempotent(effect.idempotent)
        .open_world(effect.open_world);
    let mut tool = Tool::new(entry.name, entry.about, Arc::new(entry.schema()));
    tool.annotations = Some(annotations);
    tool
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tools::catalogue::CATALOGUE;
    use crate::tools::scope::{Selection, offer};

    /// What a model pays for before it has asked anything.
    #[test]
    fn the_default_list_is_small() {
        let offer = offer(Selection::default()).unwrap();
        let tools: Vec<Tool> = offer.list().iter().map(describe).collect();
        let json = serde_json::to_string(&tools).unwrap();
        assert!(json.len() <= 14_000, "{} bytes", json.len());
        let instructions = instructions(&offer);
        assert!(instructions.chars().count() <= 1_000, "{}", instructions.chars().count());
    }

    #[test]
    fn every_tool_is_small_and_every_hint_is_written() {
        let mut total = 0;
        for entry in CATALOGUE.iter().flat_map(|category| category.tools) {
            let tool = describe(entry);
            let json = serde_json::to_string(&tool).unwrap();
            total += json.len();
            // What opens a session takes all that there is to say of one.
            let most = if entry.name == "pty_spawn" { 2_600 } else { 1_400 };
            assert!(json.len() <= most, "{}: {} bytes", tool.name, json.len());
            let hints = tool.annotations.as_ref().unwrap();
            assert!(hints.read_only_hint.is_some() && hints.destructive_hint.is_some());
            assert!(hints.idempotent_hint.is_some() && hints.open_world_hint.is_some());
            let schema = Value::Object((*tool.input_schema).clone());
            assert_eq!(schema["additionalProperties"], false, "{}", tool.name);
            assert!(
                !schema.to_string().contains("null")
                    && !schema.to_string().contains("\"format\":\"")
            );
            for (name, property) in schema["properties"].as_object().into_iter().flatten() {
                assert!(property["description"].is_string(), "{}.{name}", tool.name);
            }
        }
        let count = CATALOGUE.iter().map(|category| category.tools.len()).sum::<usize>();
        assert!(total <= 850 * count, "{total} bytes for {count} tools");
    }
}
