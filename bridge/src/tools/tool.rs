//! What a tool is: its arguments are a struct, and their comments its manual.

use std::pin::Pin;

use farwire_protocol::failure::{Failure, Kind};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::caller::Caller;
use super::schema::schema;
use super::seat::Seat;

/// Tools that are offered only if they were enabled.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Group {
    /// They act on a program directly.
    Control,
    /// They act on all sessions, or on the process itself.
    Admin,
}

impl Group {
    /// All of them.
    pub const ALL: &[Self] = &[Self::Control, Self::Admin];

    /// As it is written.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Control => "control",
            Self::Admin => "admin",
        }
    }
}

/// What a tool may change. Clients decide by this whether to ask a person first.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Effect {
    /// It changes nothing.
    pub read_only: bool,
    /// It may destroy something.
    pub destructive: bool,
    /// Repeating a call changes nothing more.
    pub idempotent: bool,
    /// It can affect things outside of Farwire.
    pub open_world: bool,
}

impl Effect {
    /// It only looks.
    pub const READS: Self =
        Self { read_only: true, destructive: false, idempotent: true, open_world: false };
    /// Does whatever its arguments say.
    pub const ACTS: Self =
        Self { read_only: false, destructive: true, idempotent: false, open_world: true };
    /// Ends something.
    pub const ENDS: Self =
        Self { read_only: false, destructive: true, idempotent: true, open_world: false };
}

/// What happens to a call when its caller cancels it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Cancel {
    /// It is dropped where it is. What it has already sent may take effect.
    Ends,
    /// It checks for cancellation itself, because it has to stop what it started.
    Notices,
}

/// One thing that can be asked for.
pub trait Tool: DeserializeOwned + JsonSchema + Send + 'static {
    /// Its name, for models, people and scopes alike.
    const NAME: &'static str;
    /// Its name for people.
    const TITLE: &'static str;
    /// What it is for, in a few sentences.
    const ABOUT: &'static str;
    /// What it may change.
    const EFFECT: Effect;
    /// What happens when it is cancelled.
    const CANCEL: Cancel = Cancel::Ends;

    /// Carries out the call, and returns a header line and the text that follows it.
    fn call(
        self,
        seat: &Seat,
        caller: &Caller,
    ) -> impl Future<Output = Result<String, Failure>> + Send;
}

/// A call under way.
pub(super) type Answering<'a> = Pin<Box<dyn Future<Output = Result<String, Failure>> + Send + 'a>>;

/// A type-erased tool.
#[derive(Clone, Copy)]
pub struct Entry {
    /// Its name.
    pub name: &'static str,
    /// Its name for people.
    pub title: &'static str,
    /// What it is for.
    pub about: &'static str,
    /// What it may change.
    pub effect: Effect,
    /// It is offered only if this group was enabled.
    pub group: Option<Group>,
    schema: fn() -> Map<String, Value>,
    call: for<'a> fn(Value, &'a Seat, &'a Caller) -> Result<Answering<'a>, Failure>,
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Entry").field(&self.name).finish()
    }
}

impl Entry {
    pub(super) const fn of<T: Tool>() -> Self {
        Self {
            name: T::NAME,
            title: T::TITLE,
            about: T::ABOUT,
            effect: T::EFFECT,
            group: None,
            schema: schema::<T>,
            call: |arguments, seat, caller| {
                let tool: T = serde_path_to_error::deserialize(arguments).map_err(|error| {
                    let message = match error.path().to_string().as_str() {
                        "." => format!("{}: {}", T::NAME, error.inner()),
                        path => format!("{}: {path}: {}", T::NAME, error.inner()),
                    };
                    Failure::new(Kind::InvalidArgument, message)
                        .with_hint(format!("call {} again with the argument corrected", T::NAME))
                })?;
                let call = tool.call(seat, caller);
                Ok(match T::CANCEL {
                    Cancel::Notices => Box::pin(call),
                    Cancel::Ends => {
                        Box::pin(caller.unless_cancelled("the call was cancelled", call))
                    }
                })
            },
        }
    }

    /// The same, offered only if this group is enabled.
    pub(super) const fn of_group(mut self, group: Group) -> Self {
        self.group = Some(group);
        self
    }

    /// The JSON Schema of its arguments, without what only costs a model's attention.
    pub fn schema(&self) -> Map<String, Value> {
        (self.schema)()
    }

    /// Calls it.
    pub fn call<'a>(
        &self,
        arguments: Value,
        seat: &'a Seat,
        caller: &'a Caller,
    ) -> Result<Answering<'a>, Failure> {
        (self.call)(arguments, seat, caller)
    }
}
