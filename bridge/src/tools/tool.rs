//! What a tool is: its arguments are a struct, and their comments its manual.

use std::pin::Pin;

use farwire_protocol::failure::{Failure, Kind};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::{Map, Number, Value};

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
                let arguments = with_whole_numbers(arguments);
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

/// The same, with each whole number as an integer: to JSON Schema 100.0 is one, and some clients
/// write it so.
fn with_whole_numbers(value: Value) -> Value {
    match value {
        Value::Number(number) => Value::Number(whole(&number).unwrap_or(number)),
        Value::Array(all) => all.into_iter().map(with_whole_numbers).collect(),
        Value::Object(all) => {
            all.into_iter().map(|(key, value)| (key, with_whole_numbers(value))).collect()
        }
        other => other,
    }
}

/// The integer that a fraction is, as far as fractions are exact.
fn whole(number: &Number) -> Option<Number> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    let fraction = number.as_f64().filter(|_| number.is_f64())?;
    let is_whole = fraction.fract() == 0.0 && fraction.abs() <= EXACT;
    is_whole.then(|| format!("{fraction:.0}").parse::<i64>().ok()).flatten().map(Number::from)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_whole_number_is_an_integer_however_it_is_written() {
        let written = json!({"a": [100.0, -3.0, -0.0, 1e3], "b": {"c": 0.5}, "d": 1e300, "e": 7});
        let expected = json!({"a": [100, -3, 0, 1000], "b": {"c": 0.5}, "d": 1e300, "e": 7});
        assert_eq!(with_whole_numbers(written), expected);
    }
}
