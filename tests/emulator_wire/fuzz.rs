//! Requests that nobody should send: the emulator answers or closes, and never panics or hangs.

use std::panic::PanicHookInfo;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::harness::{program, run, settings, start};

const REQUESTS: &str = "10000";

static PANICS: AtomicUsize = AtomicUsize::new(0);

/// Counts panics outside of the tests themselves, whatever thread or task they end.
fn count_panics() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info: &PanicHookInfo<'_>| {
        if info.location().is_none_or(|place| !place.file().starts_with("tests/")) {
            PANICS.fetch_add(1, Ordering::SeqCst);
        }
        before(info);
    }));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_malformed_requests_are_refused_or_carried_out_and_none_panics_or_hangs() {
    count_panics();
    // `FUZZ_SEED` repeats another run; the program prints the seed.
    let seed = std::env::var_os("FUZZ_SEED").unwrap_or_else(|| "20261122".into());
    let emulator = start(settings()).await;
    let mut command = program("fuzz.py");
    command.arg(REQUESTS).arg(seed).env("ACS_CONNECTION_STRING", emulator.connection_string());
    run(command).await;
    assert_eq!(PANICS.load(Ordering::SeqCst), 0, "panics");
    emulator.shutdown().await;
}
