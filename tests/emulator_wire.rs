//! The emulator judged from outside by what is published: examples, schemas, and requests that nobody should send.
//!
//! The programs under `tests/emulator_wire` do the judging in Python, with signatures of their own and no SDK; this
//! starts emulators and runs them. `make tools` installs the Python they need.
#![cfg(feature = "emulator")]
#![allow(missing_docs, reason = "a test binary has no readers of its documentation")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a panic here is a failed test, and what was skipped is said aloud"
)]

mod emulator_wire {
    pub(crate) mod bounds;
    pub(crate) mod determinism;
    pub(crate) mod fuzz;
    pub(crate) mod harness;
    pub(crate) mod published;
}
