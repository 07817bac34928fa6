//! Our keys, whom we trust, and who may come in, at rest.
//!
//! Everything here is files: no network, no clock (`now` is an argument), no runtime. Calls block for
//! as long as a disk takes. Files are private, replaced as a whole, synced, and named when they are
//! damaged; nothing that is lost is made anew by itself.
//!
//! Read in this order: [`Home`] and [`State`] say what there is; [`Identity`] is who we are; [`Pins`]
//! is whom a bridge trusts and [`Devices`] whom an agent lets in; [`Tickets`] and [`Enrollments`] are
//! the two sides of an enrollment; [`Ids`] are the short names of jobs and [`Phrases`]
//! what is typed at password prompts. Below are `claim` (which
//! bundles are kept), `file` (the form of a file), `lock` and `dir`.

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

pub use claim::Refused;
pub use devices::{Device, DeviceError, Devices, How};
pub use enrollment::{Enrolled, Enrollment, Enrollments, Pending};
pub use fault::{Listing, Warning};
pub use home::{Env, Home, MailLock, RunLock, State};
pub use identity::{Identity, SurfaceKey, Transport};
pub use ids::{Asked, Class, Ids, Job, NotAnId, ShortId};
pub use lock::Guard;
pub use phrases::Phrases;
pub use pins::{LinkMade, Pin, PinError, Pins};
pub use secret::Secret;
pub use tickets::{Answered, Late, Ticket, TicketError, TicketState, Tickets};
pub use workspace::Workspace;
