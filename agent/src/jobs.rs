//! Jobs: programs that outlive the stream that asked for them.

pub(crate) mod spool;
