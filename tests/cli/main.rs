//! The real binary, run as its users run it: processes, signals, exit codes, standard output.
//!
//! Every process a test starts is killed when the test ends, however it ends. The environment is empty but for what a
//! test sets, so that nothing on the developer's machine changes a result.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]
#![allow(clippy::print_stderr, reason = "figures that somebody wants to read")]
#![cfg(unix)]

#[cfg(feature = "emulator")]
mod clients;
#[cfg(feature = "emulator")]
mod doctor;
#[cfg(feature = "emulator")]
mod lifecycle;
#[cfg(feature = "emulator")]
mod messages;
#[cfg_attr(
    not(feature = "emulator"),
    allow(dead_code, reason = "servers are started with the emulator only")
)]
mod process;
#[cfg(feature = "emulator")]
#[path = "../support/redis_server.rs"]
mod redis_server;
mod rotation;
mod settings;
