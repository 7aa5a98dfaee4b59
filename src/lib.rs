//! acs-broker: a gRPC service between an organisation's own services and Azure Communication Services (ACS).
//!
//! Modules in reading order; ARCHITECTURE.md says who may import whom, and `tests/architecture.rs` holds them to it.

pub mod clock;
pub mod duration;
pub mod retry;
pub mod secret;
pub mod telemetry;

#[cfg(any(fuzzing, test))]
pub mod fuzzing;

pub mod metrics;
pub mod reload;

pub mod broker;

pub mod messaging;

pub mod acs;
pub mod audit;
pub mod auth;
#[cfg(feature = "emulator")]
pub mod emulator;
pub mod store;

mod listener;

pub mod admin;
pub mod grpc;
pub mod webhook;

pub mod config;

pub mod app;
pub mod cli;
