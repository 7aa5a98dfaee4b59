//! The core: which user has which identity, and which token is worth serving.
//!
//! It decides and does no I/O: ACS and the store are ports (`ports`), time comes from `clock`. It never sees gRPC.

pub mod error;
pub mod ports;
pub mod types;
