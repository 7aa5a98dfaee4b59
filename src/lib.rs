//! acs-broker: a gRPC service between an organisation's own services and Azure Communication Services (ACS).
//!
//! Modules in reading order; ARCHITECTURE.md says who may import whom, and `tests/architecture.rs` holds them to it.

pub mod clock;
pub mod duration;
pub mod secret;

pub mod metrics;

pub mod broker;

pub mod auth;

pub mod grpc;
