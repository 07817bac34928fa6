//! Leases in answers: who holds one, by name.

use std::time::Duration;

use farwire_protocol::streams::session::{Actor, Status};

use crate::text::human;

/// A client by the name that it gave, or the device and surface of one that gave none.
pub(in crate::tools) fn person(actor: &Actor) -> String {
    match &actor.client {
        Some(client) => client.clone(),
        None => format!("{}/{}", actor.device, actor.surface),
    }
}

/// The name of the lease's holder.
pub(in crate::tools) fn holder(status: &Status) -> Option<String> {
    Some(person(&status.typing.as_ref()?.lease.as_ref()?.holder))
}

/// The name of the lease's holder, and how long the lease still lasts.
pub(in crate::tools) fn lease(status: &Status) -> Option<String> {
    let lease = status.typing.as_ref()?.lease.as_ref()?;
    let who = person(&lease.holder);
    Some(match lease.left_ms {
        Some(left) => format!("{who} left={}", human::duration(Duration::from_millis(left))),
        None => format!("{who} while attached"),
    })
}
