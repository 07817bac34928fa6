//! Which program this is.

/// Program and version, as others see it.
pub const BUILD: &str = concat!("farwire ", env!("CARGO_PKG_VERSION"));
