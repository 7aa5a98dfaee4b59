//! The gRPC transport as a client meets it: a real server and real clients, scripted ports behind.

#![expect(
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a panic in a test is a failed test, and what the modules share need not be spelled out"
)]

mod connections;
mod email;
mod errors;
mod events;
mod harness;
mod import;
mod lifecycle;
mod limits;
mod logs;
mod messages;
mod ports;
mod readers;
mod requests;
mod sms;
mod strangers;

#[path = "../support/certificates.rs"]
mod certificates;
