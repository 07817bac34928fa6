//! What a device may do at all.

use farwire_protocol::failure::Failure;

/// What a device may do on this server now. An admitted device may do everything; grants will
/// restrict that.
#[derive(Clone, Debug, Default)]
pub(crate) enum Rights {
    #[default]
    All,
    /// It was locked out, for this reason.
    Nothing(Failure),
}
