//! Which build of the agent this is.

/// Program and version, as others see it.
pub(crate) const BUILD: &str = concat!("farwire-agent ", env!("CARGO_PKG_VERSION"));
