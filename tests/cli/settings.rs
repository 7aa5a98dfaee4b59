//! What `serve` and `check-config` say about good and bad settings.

use std::process::Command;

use crate::process::{Finished, binary, finish, run, text};

const KEY: &str = "endpoint=https://contoso.communication.azure.com/;accesskey=c2VjcmV0LWNhbmFyeQ==";
const AZURE: &str = "COMMUNICATION_SERVICES_CONNECTION_STRING";

fn with_file(command: &str, file: &str, prepare: impl FnOnce(&mut Command)) -> Finished {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("settings.toml");
    std::fs::write(&path, file).unwrap();
    let mut binary = binary();
    // Free ports: a setting that is wrongly accepted must fail the test, not collide with another one.
    binary.args([command, "--config", text(&path)]).current_dir(dir.path());
    prepare(&mut binary);
    finish(&mut binary, "")
}

#[test]
fn check_config_prints_the_settings_with_secrets_masked() {
    let file =
        "[tokens]\nfloor = \"20m\"\n[server]\naddress = \"[::]:50051\"\n[auth]\nallow_off_loopback = true";
    let finished = with_file("check-config", file, |command| {
        command.env(AZURE, KEY);
    });
    assert_eq!(finished.code, Some(0), "{finished:?}");
    assert!(
        finished.out.contains("connection_string = \"<set>\"  # environment variable COMMUNICATION_SERVICES")
    );
    assert!(finished.out.contains("password = \"<unset>\""));
    assert!(finished.out.contains("floor = \"20m\"  # file "));
    assert!(finished.err.contains("warning: auth.allow_off_loopback"));
    assert!(!format!("{finished:?}").contains("c2VjcmV0LWNhbmFyeQ"));
}

#[test]
fn check_config_tells_every_problem_and_exits_with_2() {
    let file = "[server]\nmax_in_flight = 0\nadress = \"x\"\n[tokens]\nfloor = \"1m\"";
    let finished = with_file("check-config", file, |command| {
        command.env("ACS_BROKER__STORE__BACKEND", "redis");
    });
    assert_eq!(finished.code, Some(2), "{finished:?}");
    assert!(finished.out.is_empty());
    for part in [
        "5 problems in the settings:",
        "server.max_in_flight must be from 1 to 100000 (file ",
        "server.adress is not a setting; did you mean server.address? (file ",
        "tokens.floor must be a duration from 15m to 45m",
        "acs.connection_string is not set",
        "store.redis.url is not set, and store.backend is \"redis\"",
    ] {
        assert!(finished.err.contains(part), "{part}\n{}", finished.err);
    }
}

#[test]
fn serve_refuses_each_bad_setting_and_names_the_mend() {
    let table: &[(&str, &str)] = &[
        ("[server]\naddress = \"0.0.0.0:0\"", "auth.allow_off_loopback = true"),
        ("[server]\naddress = \"somewhere\"", "must be an IP address and a port"),
        ("[server]\nmax_message_bytes = 1", "must be from 1024 to 16777216"),
        ("[server]\ndefault_deadline = \"1h\"", "must be a duration from 100ms to 5m"),
        ("[acs]\nattempts = 11", "must be from 1 to 10"),
        ("[acs]\ntimeout = \"1s\"", "acs.attempt_timeout must not be longer than acs.timeout"),
        ("[acs]\nca_file = \"/no/such.pem\"", "acs.ca_file names a file that does not exist"),
        ("[acs]\ncustom_id = \"yes\"", "must be \"off\" or \"sha256\" or \"plain\""),
        (
            "[acs]\nconnection_string_file = \"/no/such\"",
            "acs.connection_string_file names a file that does not",
        ),
        ("[tokens]\nrefresh_ahead = 2.0", "must be from 0.1 to 0.9"),
        ("[tokens]\nrefresh_ahead = 0.1\njitter = 0.1", "jitter must be at most half of refresh_ahead"),
        ("[tokens]\ndefault_validity = \"30m\"", "must be a duration from 1h to 24h in whole minutes"),
        ("[store]\nbackend = \"postgres\"", "must be \"embedded\" or \"redis\""),
        ("[store]\nbackend = \"redis\"", "store.redis.url is not set"),
        ("[telemetry]\nfilter = \"acs_broker=loud\"", "telemetry.filter must be a log filter"),
        ("[nowhere]\nx = 1", "nowhere is not a setting"),
    ];
    for (file, mend) in table {
        let finished = with_file("serve", file, |command| {
            // In a file of its own, which any other source of the secret overrides.
            if !file.contains("connection_string") {
                command.env(AZURE, KEY);
            }
            command.args(["--admin-addr", "127.0.0.1:0"]);
        });
        assert_eq!(finished.code, Some(2), "{file}\n{finished:?}");
        assert!(finished.err.contains(mend), "{file}\n{}", finished.err);
        assert!(!finished.err.contains("c2VjcmV0LWNhbmFyeQ"), "{}", finished.err);
    }
}

#[test]
fn serve_refuses_bad_connection_strings_without_showing_them() {
    for (connection_string, mend) in [
        ("", "acs.connection_string is not set"),
        ("accesskey=c2VjcmV0LWNhbmFyeQ==", "has no endpoint=https://<host>/ part"),
        ("endpoint=https://contoso.communication.azure.com/", "has no accesskey=<base64> part"),
        ("endpoint=https://c2VjcmV0LWNhbmFyeQ/x/y;accesskey=c2VjcmV0", "path, query or fragment"),
        ("endpoint=https://contoso.communication.azure.com/;accesskey=c2VjcmV0LWNhbmFyeQ!", "accesskey"),
        ("c2VjcmV0LWNhbmFyeQ", "has a part that is not name=value"),
    ] {
        let finished = with_file("serve", "", |command| {
            command.env(AZURE, connection_string);
        });
        assert_eq!(finished.code, Some(2), "{finished:?}");
        assert!(finished.err.contains(mend), "{mend}\n{}", finished.err);
        assert!(!finished.err.contains("c2VjcmV0"), "{}", finished.err);
    }
}

#[test]
fn serve_tells_what_is_wrong_with_its_store_and_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("acs-broker.redb");
    std::fs::write(&store, "not a store").unwrap();
    let start = |path: &str| {
        let mut command = binary();
        command.args(["serve", "--grpc-addr", "127.0.0.1:0", "--admin-addr", "127.0.0.1:0"]);
        command.env(AZURE, KEY).env("ACS_BROKER__STORE__EMBEDDED__PATH", path);
        finish(&mut command, "")
    };
    let finished = start(text(&store));
    assert_eq!(finished.code, Some(1), "{finished:?}");
    assert!(finished.err.contains("error: store.embedded.path: "), "{}", finished.err);
    assert_eq!(std::fs::read(&store).unwrap(), b"not a store");
    let finished = start("/no/such/folder/store.redb");
    assert_eq!(finished.code, Some(1), "{finished:?}");
    assert!(finished.err.contains("create it, or name another file"), "{}", finished.err);
}

#[test]
fn a_wrong_command_line_exits_with_2_and_says_what_is_right() {
    let table: &[(&[&str], &str)] = &[
        (&[], "Usage"),
        (&["fly"], "unrecognized subcommand"),
        (&["token", "issue", "alice"], "--scope"),
        (&["token", "issue", "alice", "--scope", "sms"], "must be one of chat, chat.join"),
        (&["token", "issue", "alice", "--scope", "chat", "--validity", "soon"], "must be a duration such as"),
        (&["identity", "get"], "required"),
        (&["identity", "get", "alice", "--acs-id", "8:acs:x"], "cannot be used with"),
        (&["identity", "list", "--page-size", "0"], "1..=1000"),
        (&["identity", "import", "/no/such/file"], "cannot open /no/such/file"),
        (&["token", "issue", "alice", "--scope", "chat", "--server", "localhost"], "http://127.0.0.1:50051"),
        (&["identity", "list", "--server", "ftp://localhost:1"], "must be like http://127.0.0.1:50051"),
        (&["identity", "list", "--server", "http://localhost:1", "--ca", "/no/such/file"], "--ca"),
        (
            &["identity", "list", "--server", "http://me:secret@localhost:1"],
            "must be like http://127.0.0.1:50051",
        ),
        (&["healthcheck", "--timeout", "x"], "must be a duration such as"),
        (&["rotation", "--admin", "nothing"], "--admin must be HOST:PORT, such as"),
        (&["rotation", "--admin", "host:http"], "--admin must be HOST:PORT, such as"),
    ];
    for (arguments, mend) in table {
        let finished = run(arguments);
        assert_eq!(finished.code, Some(2), "{arguments:?}: {finished:?}");
        assert!(finished.err.contains(mend), "{arguments:?}: {}", finished.err);
    }
    let help = run(&["--help"]);
    assert_eq!(help.code, Some(0));
    assert!(help.out.contains("Exit codes"), "{}", help.out);
}

#[test]
fn a_broker_that_is_not_there_is_told_with_exit_code_4() {
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let server = format!("http://{address}");
    let finished = run(&["token", "issue", "alice", "--scope", "chat", "--server", &server]);
    assert_eq!(finished.code, Some(4), "{finished:?}");
    assert!(finished.err.contains("is the broker running?"), "{}", finished.err);
    let finished = run(&["healthcheck", "--addr", &address.to_string()]);
    assert_eq!(finished.code, Some(1), "{finished:?}");
    assert!(finished.err.contains("see --addr") && !finished.err.contains("--server"), "{finished:?}");
    let finished = run(&["rotation", "--admin", &address.to_string()]);
    assert_eq!(finished.code, Some(4), "{finished:?}");
}

const POLICY: &str = r#"
[[callers]]
name = "orders"
match = [{ mesh = "orders" }]
rpcs = ["TokenService/*"]
scopes = ["chat"]
user_prefixes = ["shop:"]
max_validity = "12h"

[[tests]]
caller = "orders"
rpc = "TokenService/IssueToken"
user = "shop:1"
expect = "allow"
"#;

/// `check-config` with a policy of this text and these arguments.
fn with_policy(policy: &str, arguments: &[&str]) -> Finished {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("policy.toml");
    std::fs::write(&path, policy).unwrap();
    finish(binary().args(["check-config", "--policy", text(&path)]).args(arguments), "")
}

#[test]
fn check_config_checks_a_policy_and_runs_its_tests() {
    let good = with_policy(POLICY, &[]);
    assert_eq!(good.code, Some(0), "{good:?}");
    assert!(good.out.contains("1 callers; 1 tests passed"), "{good:?}");
    let bad = POLICY.replace("\"chat\"", "\"chatt\"").replace("\"TokenService/*\"", "\"Tokens/*\"");
    let bad = with_policy(&bad, &[]);
    assert_eq!(bad.code, Some(2), "{bad:?}");
    for part in
        ["2 problems in the policy ", "line 5: callers[0].rpcs[0] must", "line 6: callers[0].scopes[0] must"]
    {
        assert!(bad.err.contains(part), "{part}\n{bad:?}");
    }
    let failing = with_policy(&POLICY.replace("\"shop:\"", "\"crm:\""), &[]);
    assert_eq!(failing.code, Some(2));
    assert!(
        failing.err.contains("line 10: tests[0] fails: expected \"allow\", and user is missing"),
        "{failing:?}"
    );
}

#[test]
fn check_config_explains_what_a_policy_makes_of_a_call() {
    let explain = |more: &[&str]| with_policy(POLICY, &[&["--explain", "orders"], more].concat());
    let allowed =
        explain(&["TokenService/IssueToken", "--user", "shop:1", "--scope", "chat", "--validity", "12h"]);
    assert_eq!(allowed.code, Some(0), "{allowed:?}");
    for line in [
        "allowed  call TokenService/IssueToken: rpcs[0] = \"TokenService/*\"",
        "allowed  name this user: user_prefixes[0] = \"shop:\"",
        "allowed  scopes chat: scopes",
        "allowed  a validity of 12h: max_validity = 12h",
    ] {
        assert!(allowed.out.contains(line), "{line}\n{}", allowed.out);
    }
    let refused =
        explain(&["TokenService/IssueToken", "--user", "shop:1", "--scope", "chat", "--scope", "voip"]);
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.out.contains("REFUSED  scopes chat,voip: the permission scope:voip is missing"));
    for written in ["acsbroker.v1.TokenService/IssueToken", "/acsbroker.v1.TokenService/IssueToken"] {
        assert_eq!(explain(&[written]).code, Some(0), "as logs and records write it: {written}");
    }
    for wrong in [&["TokenService/Issue"][..], &["TokenService/IssueToken", "--scope", "x"]] {
        assert_eq!(explain(wrong).code, Some(2), "{wrong:?}");
    }
    let unknown = with_policy(POLICY, &["--explain", "nobody", "TokenService/IssueToken"]);
    assert_eq!((unknown.code, unknown.err.contains("no caller of that name")), (Some(2), true));
}

#[test]
fn the_examples_of_the_manual_are_policies_and_are_answered_as_it_says() {
    let manual = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/policy.md")).unwrap();
    let blocks = |kind: &str| -> Vec<String> {
        let fence = format!("```{kind}\n");
        let parts = manual.split(&fence).skip(1);
        parts.map(|part| part.split("```").next().unwrap().to_owned()).collect()
    };
    let policies = blocks("toml");
    assert!(policies.len() >= 2);
    for policy in &policies {
        assert_eq!(with_policy(policy, &[]).code, Some(0), "{policy}");
    }
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("policy.toml"), &policies[0]).unwrap();
    let mut asked = 0;
    for command in
        blocks("console").concat().split("$ acs-broker ").filter(|text| text.starts_with("check-config"))
    {
        let (line, answer) = command.split_once('\n').unwrap();
        let finished = finish(binary().args(line.split(' ')).current_dir(dir.path()), "");
        assert_eq!(finished.out, answer, "{line}: {finished:?}");
        asked += 1;
    }
    assert_eq!(asked, 2);
}

#[test]
fn a_policy_that_cannot_be_used_stops_the_start_and_the_check() {
    let dir = tempfile::tempdir().unwrap();
    let policy = dir.path().join("policy.toml");
    let two = "[[callers]]\nmatch = [{ mesh = \"m\" }]\nname = \"a\"\nemail_senders = [\"*shop.example\"]\n[[callers]]";
    std::fs::write(&policy, two).unwrap();
    let file = format!("[auth]\nmode = \"policy\"\npolicy_file = {:?}", text(&policy));
    let prepare = |command: &mut Command| {
        command.env(AZURE, KEY).env("ACS_BROKER__SERVER__ADDRESS", "127.0.0.1:0");
        command.env("ACS_BROKER__ADMIN__ADDRESS", "127.0.0.1:0");
    };
    let alike = "line 4: callers[0].email_senders[0] fits every domain that ends alike";
    for (command, code) in [("check-config", 2), ("serve", 1)] {
        let found = with_file(command, &file, prepare);
        assert_eq!(found.code, Some(code), "{found:?}");
        assert!(found.err.contains("callers[1].name is missing") && found.err.contains(alike), "{found:?}");
    }
    let none = with_file("check-config", "[auth]\nmode = \"policy\"", prepare);
    assert!(none.err.contains("auth.policy_file is not set, and auth.mode is \"policy\""), "{none:?}");
    let open =
        "[auth]\nmode = \"policy\"\nshadow = true\npolicy_file = \"x\"\n[server]\naddress = \"0.0.0.0:1\"";
    let open = with_file("check-config", open, |command| {
        command.env(AZURE, KEY);
    });
    assert!(open.err.contains("server.address is not a loopback address"), "{open:?}");
}
