//! Starting and stopping: the first minute of a newcomer, and the last seconds of a process.

use std::process::Command;
use std::time::{Duration, Instant};

use acs_broker::grpc::proto::v1;

use crate::process::{Dev, binary, finish, get, text};

#[test]
fn dev_prints_a_command_that_returns_a_token_and_then_the_cached_one() {
    let dev = Dev::start(&[]);
    let ready_after = dev.process.started.elapsed();
    let printed = dev.process.out.seen_so_far();
    let command =
        printed.lines().map(str::trim).find(|line| line.contains(" token issue ")).unwrap().to_owned();
    let shell = || finish(Command::new("sh").args(["-c", &command]).env_clear(), "");
    let first = shell();
    let token_after = dev.process.started.elapsed();
    eprintln!("dev serves after {ready_after:?}; the first token is there after {token_after:?}");
    assert_eq!(first.code, Some(0), "{first:?}");
    assert!(first.out.contains("token     ey") && first.out.contains("source    ISSUED"), "{}", first.out);
    let second = shell();
    assert!(second.out.contains("source    CACHE"), "{}", second.out);
    // The target is 2 s on a machine that does nothing else.
    assert!(token_after < Duration::from_secs(10), "{token_after:?}");

    let places: Vec<_> = dev.places.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(
        places,
        [
            "admin",
            "ca_file",
            "connection_string",
            "connection_string_tls",
            "emulator",
            "emulator_tls",
            "grpc",
            "inbox",
            "webhook"
        ]
    );
    for place in places {
        assert!(printed.contains(dev.places[place].as_str().unwrap()), "{place} is not printed:\n{printed}");
    }
    let admin = dev.places["admin"].as_str().unwrap();
    assert!(get(admin, "/readyz").starts_with("HTTP/1.1 200"));
    assert!(get(admin, "/livez").starts_with("HTTP/1.1 200"));
}

#[test]
fn dev_leaves_nothing_behind_and_exits_with_0() {
    let mut dev = Dev::start(&[]);
    assert_eq!(dev.ask(&["token", "issue", "alice", "--scope", "chat"]).code, Some(0));
    let asked = Instant::now();
    assert_eq!(dev.process.stop().code(), Some(0), "{}", dev.process.err.rest());
    eprintln!("an idle dev ends {:?} after SIGTERM", asked.elapsed());
    let left: Vec<_> =
        std::fs::read_dir(dev.dir.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_kept_data_folder_keeps_users_and_their_identities_usable() {
    let kept = tempfile::tempdir().unwrap();
    let folder = text(kept.path());
    let mut first = Dev::start(&["--data-dir", folder]);
    let before = first.json(&["token", "issue", "alice", "--scope", "chat"]);
    assert_eq!(first.process.stop().code(), Some(0));

    let second = Dev::start(&["--data-dir", folder]);
    let after = second.json(&["token", "issue", "alice", "--scope", "chat"]);
    assert_eq!(after["acs_user_id"], before["acs_user_id"]);
    assert_eq!(after["source"], "ISSUED", "the emulator's new key did not issue the old token");
    second.json(&["token", "refresh", "alice", "--scope", "chat"]);
    second.json(&["token", "revoke", "alice"]);
}

#[test]
fn nobody_else_on_the_machine_may_look_into_the_folder_of_a_run() {
    use std::os::unix::fs::PermissionsExt;
    let (kept, open) = (tempfile::tempdir().unwrap(), Dev::start(&[]));
    let folder = kept.path().join("made");
    let kept = Dev::start(&["--data-dir", text(&folder)]);
    for dev in [&open, &kept] {
        let ca = std::path::PathBuf::from(dev.places["ca_file"].as_str().unwrap());
        let mode = std::fs::metadata(ca.parent().unwrap()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700, "tokens and ids of users lie there");
    }
}

#[test]
fn dev_keeps_users_in_redis_if_told_to() {
    let redis = crate::redis_server::RedisServer::start();
    let url = redis.url();
    let mut first = Dev::start(&["--redis-url", &url]);
    let before = first.json(&["identity", "resolve", "alice"]);
    assert_eq!(first.process.stop().code(), Some(0));
    let second = Dev::start(&["--redis-url", &url]);
    let after = second.json(&["token", "issue", "alice", "--scope", "voip"]);
    assert_eq!(after["acs_user_id"], before["acs_user_id"]);
    let wrong = finish(
        binary().arg("dev").args(crate::process::FREE_PORTS).args(["--redis-url", "localhost:6379"]),
        "",
    );
    assert_eq!(wrong.code, Some(2), "{wrong:?}");
    assert!(
        wrong.err.contains("store.redis.url must start with redis://")
            && wrong.err.contains("(flag --redis-url)")
    );
}

#[test]
fn two_devs_cannot_share_a_data_folder() {
    let kept = tempfile::tempdir().unwrap();
    let _first = Dev::start(&["--data-dir", text(kept.path())]);
    let mut second = binary();
    second.arg("dev").args(crate::process::FREE_PORTS).args(["--data-dir", text(kept.path())]);
    let finished = finish(&mut second, "");
    assert_eq!(finished.code, Some(1), "{finished:?}");
    assert!(finished.err.contains("in use by another process"), "{}", finished.err);
}

#[tokio::test]
async fn dev_describes_its_api_to_tools() {
    use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
    use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
    use tonic_reflection::pb::v1::{ServerReflectionRequest, server_reflection_response::MessageResponse};
    let dev = Dev::start(&[]);
    let message_request = Some(MessageRequest::ListServices(String::new()));
    let request = ServerReflectionRequest { host: String::new(), message_request };
    let channel = tonic::transport::Endpoint::from_shared(dev.server()).unwrap().connect().await.unwrap();
    let mut client = ServerReflectionClient::new(channel);
    let answers = client.server_reflection_info(tokio_stream::iter([request])).await;
    let answer = answers.unwrap().into_inner().message().await.unwrap().unwrap();
    let Some(MessageResponse::ListServicesResponse(list)) = answer.message_response else {
        panic!("{answer:?}")
    };
    assert!(list.service.iter().any(|service| service.name == "acsbroker.v1.TokenService"), "{list:?}");
}

/// Opens an import and leaves it open: a call that is running until the server ends it.
async fn open_call(server: String) -> tokio::task::JoinHandle<()> {
    let mut client = v1::identity_service_client::IdentityServiceClient::connect(server).await.unwrap();
    let (sender, receiver) = tokio::sync::mpsc::channel::<v1::ImportIdentitiesRequest>(1);
    let identity = v1::Identity { user_id: "a".into(), acs_user_id: "8:acs:a".into(), create_time: None };
    sender
        .send(v1::ImportIdentitiesRequest { identity: Some(identity), validate_only: false })
        .await
        .unwrap();
    let (started, has_started) = tokio::sync::oneshot::channel();
    let call = tokio::spawn(async move {
        let _keep_open = sender.clone();
        let _ = started.send(());
        let messages = tokio_stream::wrappers::ReceiverStream::new(receiver);
        let _ = client.import_identities(messages).await;
    });
    has_started.await.unwrap();
    call
}

/// Waits until the server works on the open call.
fn until_running(dev: &Dev) {
    let deadline = Instant::now() + crate::process::PATIENCE;
    while !get(dev.places["admin"].as_str().unwrap(), "/metrics").contains("acs_broker_rpcs_in_flight 1") {
        assert!(Instant::now() < deadline, "the call never started");
    }
}

#[tokio::test]
async fn a_running_call_delays_the_end_by_the_drain_timeout_at_most() {
    let mut dev = Dev::start_with(&[], &[("ACS_BROKER__SERVER__DRAIN_TIMEOUT", "1s")]);
    let call = open_call(dev.server()).await;
    until_running(&dev);
    let asked = Instant::now();
    assert_eq!(dev.process.stop().code(), Some(0), "{}", dev.process.err.rest());
    let took = asked.elapsed();
    assert!((Duration::from_millis(900)..Duration::from_secs(8)).contains(&took), "{took:?}");
    call.await.unwrap();
}

#[tokio::test]
async fn a_second_signal_ends_the_process_at_once() {
    let mut dev = Dev::start_with(&[], &[("ACS_BROKER__SERVER__DRAIN_TIMEOUT", "10m")]);
    let call = open_call(dev.server()).await;
    until_running(&dev);
    dev.process.signal("TERM");
    dev.process.err.until("stopping");
    let admin = get(dev.places["admin"].as_str().unwrap(), "/readyz");
    assert!(admin.starts_with("HTTP/1.1 503") && admin.contains("draining"), "{admin}");
    dev.process.signal("INT");
    assert_eq!(dev.process.wait().code(), Some(1));
    call.await.unwrap();
}
