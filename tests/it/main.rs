//! The integration tests: real servers, real gRPC clients, real processes, the built-in emulator as ACS.
//!
//! One binary, a file per promise. Everything listens on loopback on free ports and is ended by whoever started it.
#![cfg(feature = "emulator")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]
#![allow(clippy::print_stdout, reason = "figures that somebody wants to read")]

mod at_rest;
mod audit;
mod audit_messages;
mod audit_policy;
#[cfg(unix)]
mod audit_webhook;
mod auth_jwt;
mod auth_mesh;
mod auth_mtls;
mod auth_no_keys;
mod auth_rotation;
mod canary;
mod canary_settings;
#[path = "../support/certificates.rs"]
mod certificates;
mod crash;
#[path = "../support/emulator_control.rs"]
mod emulator_control;
mod entra;
mod error_table;
mod fleet;
mod forger;
mod harness;
#[path = "../support/key_server.rs"]
mod key_server;
mod messaging_canary;
mod messaging_chaos;
mod messaging_duplicates;
mod messaging_events;
mod messaging_first;
mod messaging_intake;
mod messaging_kills;
mod messaging_limits;
mod messaging_sdk;
mod messaging_unknown;
mod outage;
mod policy_change;
mod policy_process;
mod policy_sight;
mod policy_table;
#[path = "../support/redis_server.rs"]
mod redis_server;
mod rotation;
mod rotation_fleet;
#[path = "../support/token_signer.rs"]
mod token_signer;
