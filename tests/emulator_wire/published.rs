//! Published examples, our own fixtures and the distilled schemas.

use std::path::Path;

use super::harness::{openapi, program, run, settings, start};
use acs_broker::emulator::Settings;

fn schemas() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/acs/schemas.json");
    std::fs::read_to_string(path).unwrap()
}

#[tokio::test]
async fn the_schemas_are_a_fresh_distillation() {
    let Some(folder) = openapi() else { return };
    let mut command = program("distil.py");
    command.arg(folder);
    let fresh = command.output().await.unwrap();
    assert!(fresh.status.success(), "{}", String::from_utf8_lossy(&fresh.stderr));
    let fresh = String::from_utf8(fresh.stdout).unwrap();
    assert!(fresh == schemas(), "run tests/emulator_wire/distil.py with --write and look at the difference");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn our_own_fixtures_are_answered_in_their_shape_and_every_operation_as_published() {
    let emulator = start(settings()).await;
    let mut command = program("fixtures.py");
    command.env("ACS_CONNECTION_STRING", emulator.connection_string());
    run(command).await;
    emulator.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_published_examples_are_answered_in_their_shape() {
    let Some(folder) = openapi() else { return };
    let emulator = start(settings()).await;
    let throttled = start(Settings { throttle: 0.5, ..settings() }).await;
    let mut command = program("published.py");
    command
        .arg(folder)
        .env("ACS_CONNECTION_STRING", emulator.connection_string())
        .env("ACS_THROTTLED_CONNECTION_STRING", throttled.connection_string());
    run(command).await;
    throttled.shutdown().await;
    emulator.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_have_their_shape_in_both_schemas() {
    let emulator = start(settings()).await;
    let mut command = program("events.py");
    command.env("ACS_CONNECTION_STRING", emulator.connection_string());
    if let Some(folder) = openapi() {
        command.arg(folder);
    }
    run(command).await;
    emulator.shutdown().await;
}
