//! What this machine gives: the time and random numbers.

use std::time::{SystemTime, UNIX_EPOCH};

use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::id::Nonce;

/// Seconds since 1970.
pub fn unix_time() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// 16 random bytes.
pub fn random_nonce() -> Result<Nonce, Failure> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| {
        Failure::new(Kind::ResourceExhausted, format!("no random numbers: {error}"))
    })?;
    Ok(Nonce(bytes))
}
