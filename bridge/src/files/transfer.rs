//! Files on their way between this machine and a server.
//!
//! Nothing stands under its final name before it is whole, on either side. What broke off goes on
//! where it broke off: a part is known by what it is a part of, so that also another process goes
//! on with it. Many small files go over one stream, each asked for before the answer to the one
//! before has come.

mod down;
pub(super) mod ends;
pub(super) mod local;
pub(super) mod meter;
mod patience;
mod reading;
mod rights;
mod up;

pub(super) use self::down::is_beneath;
pub use self::down::{download, fetch_all};
pub use self::ends::Transfer;
pub(crate) use self::ends::WITH_ALL;
pub use self::local::LocalEntry;
pub(super) use self::local::{Walked, walk};
pub(crate) use self::local::{beneath, io_failure, may_be_replaced, there_already, through_link};
pub(super) use self::meter::is_of_one;
pub use self::meter::{Meter, Missed};
pub(super) use self::patience::{Patience, SoFar};
pub(super) use self::reading::{LARGE, READINGS, change_failure};
pub(super) use self::rights::{Rights, set_here, set_there};
pub use self::up::{send_all, upload};
