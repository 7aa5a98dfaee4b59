//! The integration tests: real servers, real gRPC clients, real processes, the built-in emulator as ACS.
//!
//! One binary, a file per promise. Everything listens on loopback on free ports and is ended by whoever started it.
#![cfg(feature = "emulator")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]
#![allow(clippy::print_stdout, reason = "figures that somebody wants to read")]

mod audit;
mod canary;
mod crash;
#[path = "../support/emulator_control.rs"]
mod emulator_control;
mod error_table;
mod fleet;
mod harness;
mod messaging_canary;
mod messaging_chaos;
mod messaging_events;
mod messaging_first;
mod messaging_kills;
mod messaging_limits;
mod outage;
#[path = "../support/redis_server.rs"]
mod redis_server;
mod rotation;
