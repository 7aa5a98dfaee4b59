//! What the ACS client sends, judged by what is published: schemas of requests, and the examples' requests.
//!
//! Every operation of the client is driven through its public interface against a server on loopback that records and
//! believes everything; `tests/acs_requests/judge.py` then judges the records. `make tools` installs the Python it needs.
#![allow(missing_docs, reason = "a test binary has no readers of its documentation")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a panic here is a failed test, and what was skipped is said aloud"
)]

mod acs_requests {
    pub(crate) mod cases;
    pub(crate) mod drive;
    pub(crate) mod judged;
    pub(crate) mod server;
}
