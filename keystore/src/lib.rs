//! Keys, pinned servers and authorised devices, at rest.
//!
//! Everything here is files: no network, no clock (`now` is an argument), no runtime. Calls block
//! for as long as the disk takes. Files are private, replaced atomically and synced. An error about
//! a damaged file names it; a lost file is never recreated automatically.
//!
//! Read in this order: [`Home`] and [`StateDir`] list the files; [`Identity`] is our own keys;
//! [`Pins`] holds the servers that a bridge trusts and [`Devices`] the devices that an agent
//! admits; [`Tickets`] and [`Enrollments`] are the two sides of an enrollment; [`Ids`] are the
//! short names of jobs, and [`Phrases`] the secrets for password prompts. Beneath them are `claim`
//! (which bundles are accepted), `file` (the file format), `lock` and `dir`.

mod devices;
mod enrollment;
mod home;
mod identity;
mod ids;
mod phrases;
mod pins;
mod tickets;
mod workspace;

mod claim;
mod relay;
mod secret;

mod dir;
mod fault;
mod file;
mod lock;
mod steps;

#[cfg(test)]
mod crowd;

pub use claim::BundleRefused;
pub use devices::{AddedBy, Device, DeviceError, Devices};
pub use enrollment::{Enrolled, Enrollment, Enrollments, Pending};
pub use fault::{Listing, Warning};
pub use home::{Env, Home, MailLock, RunLock, StateDir};
pub use identity::{Identity, SurfaceKey, Transport};
pub use ids::{Class, Ids, InvalidShortId, JobOrigin, KnownJob, ShortId};
pub use lock::Guard;
pub use phrases::Phrases;
pub use pins::{LinkMade, Pin, PinError, Pins};
pub use secret::Secret;
pub use tickets::{Answered, Late, Ticket, TicketError, TicketState, Tickets};
pub use workspace::Workspace;
