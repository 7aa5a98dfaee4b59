//! The emulator over real HTTP, with requests signed here by hand from the published description of the scheme.
//!
//! It shares nothing with the client under `src/acs`: what both would get wrong together, these tests would miss.
#![cfg(feature = "emulator")]
#![allow(missing_docs, reason = "a test binary has no readers of its documentation")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a panic here is a failed test"
)]

#[path = "support/emulator_control.rs"]
mod emulator_control;

mod emulator {
    pub(crate) mod chat;
    pub(crate) mod chat_events;
    pub(crate) mod chat_lists;
    pub(crate) mod chat_rules;
    pub(crate) mod control;
    pub(crate) mod control_access;
    pub(crate) mod control_kinds;
    pub(crate) mod control_messages;
    pub(crate) mod control_paste;
    pub(crate) mod control_process;
    pub(crate) mod control_state;
    pub(crate) mod control_stream;
    pub(crate) mod control_wait;
    pub(crate) mod email;
    pub(crate) mod entra;
    pub(crate) mod events;
    pub(crate) mod faults;
    pub(crate) mod harness;
    pub(crate) mod identity_assignments;
    pub(crate) mod identity_exchanges;
    pub(crate) mod identity_revocation;
    pub(crate) mod lifecycle;
    pub(crate) mod operations;
    pub(crate) mod refusals;
    pub(crate) mod sms;
    pub(crate) mod transport;
}
