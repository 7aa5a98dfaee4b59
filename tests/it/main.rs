//! The integration tests: real servers, real gRPC clients, real processes, the built-in emulator as ACS.
//!
//! One binary, a file per capability. Everything listens on loopback on free ports and is ended by whoever started it.
#![cfg(feature = "emulator")]

mod error_table;
mod harness;
