//! What a device may do at all.

use farwire_protocol::failure::Failure;

/// What a device may do on this server now. Whoever is let in may do everything; grants will say
/// less.
#[derive(Clone, Debug, Default)]
pub(crate) enum Rights {
    #[default]
    All,
    /// It was locked out, for this reason.
    Nothing(Failure),
}
