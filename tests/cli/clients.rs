//! The client commands against a running broker.

use crate::process::{Dev, FREE_PORTS, Running, binary, finish, text};

#[test]
fn errors_tell_reason_field_and_exit_code() {
    let dev = Dev::start(&[]);
    let finished = dev.ask(&["identity", "get", "nobody"]);
    assert_eq!(finished.code, Some(3), "{finished:?}");
    assert!(finished.err.contains("reason   IDENTITY_NOT_FOUND (NOT_FOUND)"), "{}", finished.err);
    let finished = dev.ask(&["token", "issue", " alice", "--scope", "chat", "--validity", "25h", "--json"]);
    assert_eq!(finished.code, Some(1), "{finished:?}");
    let error: serde_json::Value = serde_json::from_str(&finished.err).unwrap();
    assert_eq!(error["error"]["reason"], "INVALID_FIELD");
    let fields: Vec<_> = error["error"]["fields"].as_array().unwrap().iter().map(|f| &f["field"]).collect();
    assert_eq!(fields, ["user_id", "validity"]);
    assert!(finished.out.is_empty());
    let finished = dev.ask(&["token", "refresh", "nobody", "--scope", "chat"]);
    assert_eq!(finished.code, Some(3), "{finished:?}");
}

#[test]
fn identities_and_tokens_live_and_end() {
    let dev = Dev::start(&[]);
    let created = dev.json(&["identity", "resolve", "alice"]);
    assert_eq!(created["created"], true);
    let again = dev.json(&["identity", "resolve", "alice"]);
    assert_eq!((&again["created"], &again["acs_user_id"]), (&false.into(), &created["acs_user_id"]));
    let by_id = dev.json(&["identity", "get", "--acs-id", created["acs_user_id"].as_str().unwrap()]);
    assert_eq!(by_id["user_id"], "alice");

    let first = dev.json(&["token", "issue", "alice", "--scope", "voip,chat", "--validity", "2h"]);
    let same =
        dev.json(&["token", "issue", "alice", "--scope", "chat", "--scope", "voip", "--validity", "2h"]);
    assert_eq!((&first["source"], &same["source"]), (&"ISSUED".into(), &"CACHE".into()));
    assert_eq!(first["token"], same["token"]);
    let refreshed = dev.json(&["token", "refresh", "alice", "--scope", "chat,voip", "--validity", "2h"]);
    assert_ne!(refreshed["token"], first["token"]);

    assert_eq!(dev.json(&["token", "revoke", "alice"])["revoked"], true);
    let after = dev.json(&["token", "issue", "alice", "--scope", "chat,voip", "--validity", "2h"]);
    assert_eq!(after["source"], "ISSUED");
    assert_eq!(dev.json(&["identity", "delete", "alice"])["deleted"], true);
    assert_eq!(dev.ask(&["identity", "get", "alice"]).code, Some(3));
}

#[test]
fn an_export_imported_elsewhere_is_the_same_mapping() {
    let (from, to) = (Dev::start(&[]), Dev::start(&[]));
    let lines: String = (0..250)
        .map(|n| {
            format!(
                "{{\"user_id\":\"user {n}\",\"acs_user_id\":\"8:acs:{n}\",\"create_time\":\"2026-01-31T12:00:00.{:03}Z\"}}\n",
                n + 1
            )
        })
        .collect();
    let imported = from.ask_with(&["identity", "import", "-"], &lines);
    assert_eq!((imported.code, imported.out.as_str()), (Some(0), "imported 250, unchanged 0, rejected 0\n"));

    let exported = from.ask(&["identity", "export"]);
    assert_eq!(exported.code, Some(0), "{}", exported.err);
    let sorted = |text: &str| {
        let mut entries: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        entries.sort_by_key(|entry| entry["user_id"].to_string());
        entries
    };
    let times = |text: &str| -> Vec<String> {
        sorted(text)
            .iter()
            .map(|entry| {
                let time = entry["create_time"].as_str().unwrap();
                format!(
                    "{} {} {}",
                    entry["user_id"],
                    entry["acs_user_id"],
                    time.replace("0Z", "Z").replace("0Z", "Z")
                )
            })
            .collect()
    };
    assert_eq!(times(&exported.out), times(&lines));

    let file = to.dir.path().join("export.jsonl");
    std::fs::write(&file, &exported.out).unwrap();
    let dry = to.ask(&["identity", "import", text(&file), "--validate-only"]);
    assert_eq!(dry.out, "would be imported 250, would be unchanged 0, rejected 0\n");
    assert_eq!(to.ask(&["identity", "export"]).out, "", "validate-only changed nothing");
    assert_eq!(to.ask(&["identity", "import", text(&file)]).code, Some(0));
    assert_eq!(sorted(&to.ask(&["identity", "export"]).out), sorted(&exported.out));
    let again = to.ask(&["identity", "import", text(&file)]);
    assert_eq!(again.out, "imported 0, unchanged 250, rejected 0\n");

    let page = to.json(&["identity", "list", "--page-size", "3"]);
    assert_eq!(page["identities"].as_array().unwrap().len(), 3);
    let token = page["next_page_token"].as_str().unwrap();
    let next = to.json(&["identity", "list", "--page-size", "3", "--page-token", token]);
    assert_ne!(page["identities"][0], next["identities"][0]);
}

#[test]
fn an_import_with_bad_lines_names_them_all_and_changes_nothing() {
    let dev = Dev::start(&[]);
    dev.json(&["identity", "resolve", "taken"]);
    let before = dev.ask(&["identity", "export"]).out;
    let lines = concat!(
        "{\"user_id\":\"a\",\"acs_user_id\":\"8:acs:1\"}\n",
        "nonsense\n",
        "{\"user_id\":\"a\",\"acs_user_id\":\"8:acs:2\"}\n",
        "{\"user_id\":\"a\",\"acs_user_id\":\"8:acs:1\"}\n",
        "\n",
        "{\"user_id\":\"taken\",\"acs_user_id\":\"8:acs:3\"}\n",
        "{\"user_id\":\"b\",\"acs_user_id\":\"8:acs:4\"}\n",
    );
    let imported = dev.ask_with(&["identity", "import", "-"], lines);
    assert_eq!(imported.code, Some(1), "{imported:?}");
    assert_eq!(imported.out, "imported 0, unchanged 1, rejected 3\n", "{}", imported.err);
    assert!(imported.err.contains("line 2: is not JSON"), "{}", imported.err);
    assert!(imported.err.contains("line 3: contradicts line 1: the same user_id"), "{}", imported.err);
    assert!(imported.err.contains("line 6: "), "{}", imported.err);
    assert!(imported.err.contains("nothing is imported: mend the lines"), "{}", imported.err);
    let as_json = dev.ask_with(&["identity", "import", "-", "--json"], lines);
    let answer: serde_json::Value = serde_json::from_str(&as_json.out).unwrap();
    assert_eq!((&answer["imported"], &answer["rejected"]), (&0.into(), &3.into()));
    let numbers: Vec<_> = answer["problems"].as_array().unwrap().iter().map(|p| &p["line"]).collect();
    assert_eq!(numbers, [2, 3, 6]);
    assert_eq!(dev.ask(&["identity", "export"]).out, before);
}

#[test]
fn a_line_that_contradicts_what_is_stored_is_refused_alone() {
    let dev = Dev::start(&[]);
    let kept = dev.json(&["identity", "resolve", "taken"])["acs_user_id"].clone();
    let lines = concat!(
        "{\"user_id\":\"taken\",\"acs_user_id\":\"8:acs:3\"}\n",
        "{\"user_id\":\"b\",\"acs_user_id\":\"8:acs:4\"}\n",
    );
    let imported = dev.ask_with(&["identity", "import", "-"], lines);
    assert_eq!((imported.code, imported.out.as_str()), (Some(1), "imported 1, unchanged 0, rejected 1\n"));
    assert!(imported.err.starts_with("line 1: the ACS identity or the user is linked"), "{}", imported.err);
    assert_eq!(dev.json(&["identity", "get", "taken"])["acs_user_id"], kept);
    assert_eq!(dev.json(&["identity", "get", "b"])["acs_user_id"], "8:acs:4");
}

#[test]
fn a_message_that_is_too_large_names_the_setting_and_is_no_case_for_a_retry() {
    let dev = Dev::start(&[]);
    let refused = dev.ask(&["identity", "resolve", &"a".repeat(70_000)]);
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.err.contains("MESSAGE_TOO_LARGE"), "{}", refused.err);
    assert!(refused.err.contains("server.max_message_bytes"), "{}", refused.err);
    assert!(!refused.err.contains("retry"), "{}", refused.err);
}

#[test]
fn healthcheck_follows_the_broker() {
    let mut dev = Dev::start(&[]);
    let address = dev.places["grpc"].as_str().unwrap().to_owned();
    let ask =
        |arguments: &[&str]| finish(binary().args(["healthcheck", "--addr", &address]).args(arguments), "");
    assert_eq!(ask(&[]).code, Some(0));
    assert_eq!(ask(&["--service", "acsbroker.v1.TokenService"]).code, Some(0));
    assert_eq!(ask(&["--service", "acsbroker.v1.NoService"]).code, Some(1));
    let plain = format!("http://{address}");
    let elsewhere = [("ACS_BROKER_CA", "/no/such/ca"), ("ACS_BROKER_TOKEN_FILE", "/no/such/token")];
    let plain = finish(binary().args(["healthcheck", "--addr", &plain]).envs(elsewhere), "");
    assert_eq!(plain.code, Some(0), "in plain text nothing is shown, so no file for it is read: {plain:?}");
    let listening = finish(binary().arg("healthcheck").env("ACS_BROKER__SERVER__ADDRESS", &address), "");
    assert_eq!(listening.code, Some(0), "{listening:?}");
    dev.process.stop();
    assert_eq!(ask(&[]).code, Some(1));
}

#[test]
fn a_taken_port_is_told_with_the_flag_that_changes_it() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for flag in ["--grpc-addr", "--admin-addr", "--emulator-addr", "--emulator-tls-addr"] {
        let mut arguments = FREE_PORTS.to_vec();
        let at = arguments.iter().position(|argument| *argument == flag).unwrap();
        arguments[at + 1] = &address;
        let dir = tempfile::tempdir().unwrap();
        let finished = finish(binary().arg("dev").args(&arguments).env("TMPDIR", dir.path()), "");
        assert_eq!(finished.code, Some(1), "{flag}: {finished:?}");
        assert!(finished.err.contains(&address) && finished.err.contains(flag), "{flag}: {}", finished.err);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "{flag}: data is left behind");
    }
}

#[test]
fn the_emulator_alone_serves_a_broker_elsewhere_and_no_log_holds_a_secret() {
    let dir = tempfile::tempdir().unwrap();
    let ready = dir.path().join("ready.json");
    let mut emulator = Running::start(
        binary()
            .args(["emulator", "--emulator-addr", "127.0.0.1:0", "--emulator-tls-addr", "127.0.0.1:0"])
            .args(["--ready-file", text(&ready), "--data-dir", text(dir.path())])
            .env("ACS_BROKER__TELEMETRY__FILTER", "trace"),
    );
    emulator.out.until("Stop it with Ctrl-C");
    let places: serde_json::Value = serde_json::from_slice(&std::fs::read(&ready).unwrap()).unwrap();
    let keys: Vec<_> = places.as_object().unwrap().keys().collect();
    assert_eq!(
        keys,
        ["ca_file", "connection_string", "connection_string_tls", "emulator", "emulator_tls", "inbox"]
    );
    let connection_string = places["connection_string_tls"].as_str().unwrap();
    let secret = dir.path().join("connection");
    std::fs::write(&secret, format!("{connection_string}\n")).unwrap();

    let mut broker = Running::start(
        binary()
            .args(["serve", "--grpc-addr", "127.0.0.1:0", "--admin-addr", "127.0.0.1:0"])
            .env("ACS_BROKER__ACS__CONNECTION_STRING_FILE", &secret)
            .env("ACS_BROKER__ACS__CA_FILE", places["ca_file"].as_str().unwrap())
            .env("ACS_BROKER__STORE__EMBEDDED__PATH", dir.path().join("store.redb"))
            .env("ACS_BROKER__TELEMETRY__FILTER", "trace"),
    );
    let record: serde_json::Value =
        serde_json::from_str(&broker.err.until("acs-broker is listening")).unwrap();
    broker.err.until("ready: the store answers");
    let server = format!("http://{}", record["grpc"].as_str().unwrap());
    let ask = |arguments: &[&str]| finish(binary().args(arguments).args(["--server", &server, "--json"]), "");
    let issued = ask(&["token", "issue", "canary-user-id", "--scope", "chat"]);
    assert_eq!(issued.code, Some(0), "{issued:?}");
    let issued: serde_json::Value = serde_json::from_str(&issued.out).unwrap();
    ask(&["token", "revoke", "canary-user-id"]);
    ask(&["identity", "get", "canary-user-id"]);
    ask(&["identity", "delete", "canary-user-id"]);
    ask(&["token", "refresh", "canary-user-id", "--scope", "chat"]);
    let metrics = crate::process::get(record["admin"].as_str().unwrap(), "/metrics");
    assert!(metrics.contains("rpc_server_call_duration_seconds_count"), "{metrics}");

    assert_eq!(broker.stop().code(), Some(0));
    assert_eq!(emulator.stop().code(), Some(0));
    assert!(!ready.exists(), "a ready file of an ended process would mislead");
    let key = connection_string.split_once("accesskey=").unwrap().1;
    let token = issued["token"].as_str().unwrap();
    let logs = broker.err.rest() + &broker.out.rest() + &emulator.err.rest() + &metrics;
    assert!(logs.contains("\"level\":\"DEBUG\"") || logs.contains("\"level\":\"TRACE\""), "{logs}");
    for canary in [key, token, token.rsplit('.').next().unwrap(), "canary-user-id"] {
        assert!(!logs.contains(canary), "{canary} is in the logs:\n{logs}");
    }
}
