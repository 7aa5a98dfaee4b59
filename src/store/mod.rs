//! Where the mapping and the tokens live: the core's five store ports, over one embedded file or over Redis.
//!
//! It decides nothing about freshness or revocation; it keeps what the ports' contracts promise, the same on every
//! backend (`contract.rs` holds them to it). Used by `app`, which opens it, and by tests, which take `memory`.

pub mod codec;
pub mod embedded;
mod keys;
pub mod redis;

pub use self::embedded::memory;

#[cfg(test)]
pub(crate) mod contract;
