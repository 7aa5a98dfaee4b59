//! What the emulator keeps is bounded, however much it is sent: by number, by bytes, and of every kind.

use acs_broker::emulator::Settings;

use super::harness::{program, run, settings, start};

const MESSAGES: usize = 300;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_more_is_kept_than_the_settings_allow() {
    let emulator = start(Settings { max_messages: MESSAGES, max_megabytes: 1, ..settings() }).await;
    let mut command = program("bounds.py");
    command.arg(MESSAGES.to_string()).env("ACS_CONNECTION_STRING", emulator.connection_string());
    run(command).await;
    emulator.shutdown().await;
}
