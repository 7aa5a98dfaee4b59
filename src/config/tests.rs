//! The settings from end to end: every source, every problem, no secret shown, no input that makes it panic.

use super::*;

use proptest::prelude::*;

const KEY: &str = "endpoint=https://contoso.communication.azure.com/;accesskey=c2VjcmV0LWNhbmFyeQ==";

/// The problems of a file and an environment, as lines.
fn problems(file: &str, environment: &[(&str, &str)]) -> Vec<String> {
    match load_with(Purpose::Serve, file, environment) {
        Ok(_) => Vec::new(),
        Err(problems) => problems.0.iter().map(ToString::to_string).collect(),
    }
}

fn load_with(purpose: Purpose, file: &str, environment: &[(&str, &str)]) -> Result<Config, Problems> {
    let environment: BTreeMap<String, String> =
        environment.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("settings.toml");
    std::fs::write(&path, file).unwrap();
    let inputs = Inputs { purpose, presumed: &[], file: Some(&path), environment: &environment, flags: &[] };
    let mut loaded = load(&inputs);
    // The folder's name differs from run to run.
    if let Err(problems) = &mut loaded {
        for problem in &mut problems.0 {
            if let Source::File(_) = problem.source {
                problem.source = Source::File("F".into());
            }
        }
    }
    loaded
}

const GOOD: (&str, &str) = (AZURE_VARIABLE, KEY);

#[test]
fn the_defaults_and_a_connection_string_are_enough() {
    let config = load_with(Purpose::Serve, "", &[GOOD]).unwrap();
    assert_eq!(config.acs.connection_string.expose(), KEY);
    assert_eq!(config.warnings, Vec::<String>::new());
}

#[test]
fn every_problem_of_every_source_is_reported_at_once() {
    let file = r#"
        colour = "red"
        [server]
        max_in_flight = 0
        adress = "127.0.0.1:1"
        [acs]
        attempts = "three"
        connection_string_file = "/no/such/file"
        [tokens]
        floor = "5m"
        default_validity = "90s"
        [store]
        redis = 7
        [telemetry]
        format = "xml"
    "#;
    let environment = [
        ("ACS_BROKER__STORE__BACKEND", "redis"),
        ("ACS_BROKER__STORE__REDIS__TIMEOUT", "1h"),
        ("ACS_BROKER__SERVER__REFLECTION", "yes"),
        ("ACS_BROKER__TELEMETRY__FORMATT", "json"),
    ];
    let mut found = problems(file, &environment);
    found.sort();
    let mut expected = vec![
        "colour is not a setting; `acs-broker check-config` prints all of them (file F)",
        "server.adress is not a setting; did you mean server.address? (file F)",
        "server.max_in_flight must be from 1 to 100000 (file F)",
        "acs.attempts must be a whole number (file F)",
        "acs.connection_string_file names a file that does not exist; it must hold a path (file F)",
        "tokens.floor must be a duration from 15m to 45m, such as \"45m\" (file F)",
        "tokens.default_validity must be a duration from 1h to 24h in whole minutes, such as \"24h\" (file F)",
        "store.redis must be a section, written [store.redis] (file F)",
        "telemetry.format must be \"json\" or \"pretty\" (file F)",
        "store.redis.url is not set, and store.backend is \"redis\"; set it or its _file twin (built-in default)",
        "store.redis.timeout must be a duration from 10ms to 5s, such as \"5s\" \
         (environment variable ACS_BROKER__STORE__REDIS__TIMEOUT)",
        "server.reflection must be true or false (environment variable ACS_BROKER__SERVER__REFLECTION)",
        "telemetry.formatt is not a setting; did you mean telemetry.format? \
         (environment variable ACS_BROKER__TELEMETRY__FORMATT)",
    ];
    expected.sort_unstable();
    assert_eq!(found, expected);
}

#[test]
fn each_mistake_names_the_key_the_source_and_the_mend() {
    let table: &[(&str, &str)] = &[
        (
            "[server]\naddress = \"0.0.0.0:50051\"",
            "server.address is not a loopback address, and callers need not authenticate; listen on 127.0.0.1, or \
             set auth.allow_off_loopback = true behind a mesh or a network policy (file F)",
        ),
        (
            "[server]\naddress = \"localhost:50051\"",
            "server.address must be an IP address and a port, such as \"127.0.0.1:50051\" or \"[::]:50051\" (file F)",
        ),
        (
            "[admin]\naddress = \"127.0.0.1:50051\"",
            "admin.address is the same as server.address; choose another port (file F)",
        ),
        (
            "[webhook]\naddress = \"0.0.0.0:8084\"",
            "webhook.address is not a loopback address, and without webhook.secret anybody could forge events; set the \
             secret or its _file twin, or webhook.entra_tenant (file F)",
        ),
        (
            "[webhook]\nentra_tenant = \"contoso\"\nentra_audience = \"a\"",
            "webhook.entra_tenant must be the tenant's id, 36 letters, digits and `-` (file F)",
        ),
        (
            "[webhook]\nentra_audience = \"a\"",
            "webhook.entra_tenant is not set, and webhook.entra_audience is; set both or none (built-in default)",
        ),
        (
            "[webhook]\naddress = \"localhost:8084\"",
            "webhook.address must be an IP address and a port, such as \"127.0.0.1:8084\" or \"[::]:8084\", or empty \
             (file F)",
        ),
        (
            "[webhook]\naddress = \"127.0.0.1:8081\"",
            "webhook.address is the same as admin.address; choose another port (file F)",
        ),
        ("[webhook]\nsecret = \"short\"", "webhook.secret must have at least 16 bytes (file F)"),
        (
            "[messages]\nhold = \"10s\"\n[acs]\ntimeout = \"10s\"",
            "messages.hold must be longer than acs.timeout, or another replica sends what one is still sending (file F)",
        ),
        (
            "[messages.sms]\nredirect = \"1425\"",
            "messages.sms.redirect must be one number such as +14255550123 (file F)",
        ),
        (
            "[messages.email]\nallow = \"*\"",
            "messages.email.allow must be mail addresses or domains such as *@example.com, separated by commas (file F)",
        ),
        (
            "[messages]\nretention = \"91d\"",
            "messages.retention must be a duration from 1h to 90d, such as \"90d\" (file F)",
        ),
        ("[tokens]\nfloor = 900", "tokens.floor must be text in quotes (file F)"),
        (
            "[tokens]\nfloor = \"46m\"",
            "tokens.floor must be a duration from 15m to 45m, such as \"45m\" (file F)",
        ),
        ("[tokens]\nrefresh_ahead = 1", "tokens.refresh_ahead must be from 0.1 to 0.9 (file F)"),
        ("[tokens]\njitter = nan", "tokens.jitter must be from 0 to 0.1 (file F)"),
        (
            "[tokens]\ndefault_validity = \"61m 1s\"",
            "tokens.default_validity must be a duration from 1h to 24h in whole minutes, such as \"24h\" (file F)",
        ),
        (
            "[tokens]\ndefault_validity = \"60m 500ms\"",
            "tokens.default_validity must be a duration from 1h to 24h in whole minutes, such as \"24h\" (file F)",
        ),
        ("[auth]\nmode = \"none\"", "auth.mode must be \"unauthenticated\" or \"policy\" (file F)"),
        (
            "[server]\nprobe_address = \"127.0.0.1:8081\"",
            "server.probe_address is the same as admin.address; choose another port (file F)",
        ),
        (
            "[server]\nprobe_address = \"here\"",
            "server.probe_address must be an IP address and a port, such as \"127.0.0.1:8084\" or \"[::]:8084\", or \
             empty (file F)",
        ),
        ("[server]\nmax_header_bytes = 100", "server.max_header_bytes must be from 4096 to 262144 (file F)"),
        (
            "[server.tls]\ncert_file = \"/no\"",
            "server.tls.key_file is not set, and tls.cert_file is (built-in default)",
        ),
        (
            "[server.tls]\nclient_ca_file = \"/no\"",
            "server.tls.client_ca_file is set without tls.cert_file: only TLS can ask for certificates (file F)",
        ),
        (
            "[server.tls]\ncert_file = \"/no\"\nkey_file = \"/no\"",
            "server.tls.cert_file names a file that cannot be read, or is none of at most 1 MiB (file F)",
        ),
        (
            "[server.tls]\nclient_certificate = \"perhaps\"",
            "server.tls.client_certificate must be \"required\" or \"optional\" (file F)",
        ),
        (
            "[auth.mesh]\nheader = \"xfcc\"",
            "auth.mesh.pinned must not be empty while auth.mesh.header is set (built-in default)",
        ),
        (
            "[auth.mesh]\nheader = \"xfcc\"\npinned = \"loopback, *\"",
            "auth.mesh.pinned must be names like spiffe://…, dns:… or loopback, separated by commas; number 2 is none \
             (file F)",
        ),
        ("[store.embedded]\npath = \"\"", "store.embedded.path must not be empty (file F)"),
        (
            "[store.redis]\nprefix = \"a:b\"",
            "store.redis.prefix must be 1 to 32 letters, digits, `-` and `_` (file F)",
        ),
        (
            "[store]\nbackend = \"redis\"\n[store.redis]\nurl = \"redis://a\"\ntopology = \"sentinel\"",
            "store.redis.sentinel_master must be set with topology \"sentinel\": the name in `sentinel monitor <name> …` \
             (built-in default)",
        ),
        (
            "[store]\nbackend = \"redis\"\n[store.redis]\nurl = \"a:6379\"",
            "store.redis.url must start with redis:// or rediss:// (each of them, if there are several) (file F)",
        ),
        (
            "[acs]\nca_file = \"/no\"",
            "acs.ca_file names a file that does not exist or is no regular file (file F)",
        ),
        (
            "[acs]\ntimeout = \"1s\"",
            "acs.attempt_timeout must not be longer than acs.timeout (1s) (built-in default)",
        ),
        (
            "[acs]\nconnection_string = \"endpoint=https://a.b\"",
            "acs.connection_string has no accesskey=<base64> part, it may be cut off; copy the whole text again (file F)",
        ),
        (
            "[telemetry]\nfilter = \"a=b=c\"",
            "telemetry.filter must be a log filter such as \"info\" or \"acs_broker::store=trace,info\" (file F)",
        ),
        (
            "[store.redis]\nurl = \"redis://a\"\nurl_file = \"/no\"",
            "store.redis.url and store.redis.url_file are both set; keep one of them (file F)",
        ),
        (
            "[store]\nurl = \"redis://a\"",
            "store.url is not a setting; did you mean store.redis.url? (file F)",
        ),
        ("floor = \"15m\"", "floor is not a setting; did you mean tokens.floor? (file F)"),
        (
            "[\"store.redis\"]\nurl = \"x\"",
            "store.redis is one quoted name with dots; write a section and a key (file F)",
        ),
        ("a = 1\na = 2", "file F: a key is set twice, at line 2"),
        ("[server]\n\nmax = = 1", "file F: not valid TOML, at line 3"),
    ];
    for (file, expected) in table {
        let environment: &[_] = if file.contains("connection_string") { &[] } else { &[GOOD] };
        assert_eq!(problems(file, environment), [*expected], "{file}");
    }
}

#[test]
fn serve_needs_a_connection_string_and_dev_brings_its_own() {
    assert_eq!(
        problems("", &[]),
        ["acs.connection_string is not set; set acs.connection_string_file to a file that holds it, or \
          COMMUNICATION_SERVICES_CONNECTION_STRING (built-in default)"]
    );
    for purpose in [Purpose::Dev, Purpose::Emulator] {
        let config = load_with(purpose, "", &[GOOD]).unwrap();
        assert!(config.acs.connection_string.is_empty(), "the real key stays away from the emulator");
    }
}

#[test]
fn later_sources_win() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("settings.toml");
    std::fs::write(&file, "[admin]\naddress = \"127.0.0.1:1\"\n[telemetry]\nfilter = \"warn\"").unwrap();
    let environment = BTreeMap::from([
        (AZURE_VARIABLE.to_owned(), KEY.to_owned()),
        ("ACS_BROKER__ADMIN__ADDRESS".to_owned(), "127.0.0.1:2".to_owned()),
        ("ACS_BROKER__TOKENS__FLOOR".to_owned(), String::new()),
        ("ACS_BROKER_PORT".to_owned(), "tcp://10.0.0.1:50051".to_owned()),
    ]);
    let flag = |value: &str| {
        [Given { key: "admin.address", value: value.into(), source: Source::Flag("--admin-addr") }]
    };
    let flags = flag("127.0.0.1:3");
    let mut inputs = Inputs {
        purpose: Purpose::Serve,
        presumed: &[
            Given { key: "telemetry.filter", value: "debug".into(), source: Source::Command("dev") },
            Given { key: "telemetry.format", value: "pretty".into(), source: Source::Command("dev") },
        ],
        file: Some(&file),
        environment: &environment,
        flags: &flags,
    };
    let config = load(&inputs).unwrap();
    assert_eq!(config.admin.address.port(), 3);
    assert_eq!(config.telemetry.filter, "warn");
    assert_eq!(config.telemetry.format, telemetry::Format::Pretty);
    inputs.flags = &[];
    assert_eq!(load(&inputs).unwrap().admin.address.port(), 2);
    let flags = flag("nowhere");
    inputs.flags = &flags;
    let problems = load(&inputs).unwrap_err();
    assert_eq!(problems.0.len(), 1);
    assert_eq!(problems.0[0].source, Source::Flag("--admin-addr"));
}

#[test]
fn a_secret_comes_from_its_file_and_the_later_source_wins_over_the_twin() {
    let dir = tempfile::tempdir().unwrap();
    let secret = dir.path().join("connection");
    std::fs::write(&secret, format!("{KEY}\n")).unwrap();
    let path = secret.to_str().unwrap();
    let other = KEY.replace("contoso", "fabrikam");

    let config =
        load_with(Purpose::Serve, &format!("[acs]\nconnection_string_file = {path:?}"), &[]).unwrap();
    assert_eq!(config.acs.connection_string.expose(), KEY);

    let file = format!("[acs]\nconnection_string = {other:?}");
    let config =
        load_with(Purpose::Serve, &file, &[("ACS_BROKER__ACS__CONNECTION_STRING_FILE", path)]).unwrap();
    assert_eq!(config.acs.connection_string.expose(), KEY);

    let file = format!("[acs]\nconnection_string_file = {path:?}");
    let config = load_with(Purpose::Serve, &file, &[(AZURE_VARIABLE, &other)]).unwrap();
    assert_eq!(config.acs.connection_string.expose(), other);

    let both =
        [("ACS_BROKER__ACS__CONNECTION_STRING_FILE", path), ("ACS_BROKER__ACS__CONNECTION_STRING", &other)];
    assert_eq!(
        problems("", &both),
        ["acs.connection_string and acs.connection_string_file are both set; keep one of them \
          (environment variable ACS_BROKER__ACS__CONNECTION_STRING)"]
    );
}

#[test]
fn no_value_is_repeated_in_a_problem_or_in_the_printed_settings() {
    let canary = "c2VjcmV0LWNhbmFyeQ";
    let broken = format!("[acs]\nconnection_string = \"{KEY}\nattempts = 1");
    for file in [
        broken,
        format!("[acs]\nconnection_string_file = \"{KEY}\""),
        format!("[acs]\nconnection_string = \"{KEY}\"\nattempts = \"{KEY}\"\ncustom_id = \"{KEY}\""),
        format!(
            "[tokens]\nfloor = \"{KEY}\"\n[store]\nbackend = \"{KEY}\"\n[telemetry]\nfilter = \"[{KEY}\""
        ),
        format!("[server]\naddress = \"{KEY}\"\nreflection = \"{KEY}\""),
        format!("acs = \"{KEY}\""),
    ] {
        let found = problems(&file, &[]);
        assert!(!found.is_empty());
        assert!(!found.join("\n").contains(canary), "{found:?}");
    }
    let file = "[store.redis]\npassword = \"c2VjcmV0LWNhbmFyeQ\"";
    let config = load_with(Purpose::Serve, file, &[GOOD]).unwrap();
    for text in [config.render().to_owned(), format!("{config:?}")] {
        assert!(!text.contains(canary), "{text}");
    }
}

#[test]
fn the_printed_settings_name_the_source_and_can_be_read_again() {
    let config =
        load_with(Purpose::Serve, "", &[GOOD, ("ACS_BROKER__STORE__REDIS__TIMEOUT", "50ms")]).unwrap();
    let text = config.render();
    for line in [
        "connection_string = \"<set>\"  # environment variable COMMUNICATION_SERVICES_CONNECTION_STRING",
        "timeout = \"50ms\"  # environment variable ACS_BROKER__STORE__REDIS__TIMEOUT",
        "password = \"<unset>\"",
        "max_in_flight = 4096",
        "[store.redis]",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
    let again: toml::Table = toml::from_str(text).unwrap();
    let defaults: toml::Table = toml::from_str(DEFAULTS).unwrap();
    assert_eq!(again.keys().collect::<Vec<_>>(), defaults.keys().collect::<Vec<_>>());
}

#[test]
fn a_settings_file_that_cannot_be_read_is_a_problem_of_that_file() {
    let environment = BTreeMap::from([(AZURE_VARIABLE.to_owned(), KEY.to_owned())]);
    for (path, expected) in
        [("/no/such.toml", "file /no/such.toml: cannot be read"), ("/", "file /: is not a regular file")]
    {
        let inputs = Inputs {
            purpose: Purpose::Serve,
            presumed: &[],
            file: Some(Path::new(path)),
            environment: &environment,
            flags: &[],
        };
        let problems = load(&inputs).unwrap_err();
        assert_eq!(problems.0.len(), 1);
        assert!(problems.0[0].to_string().starts_with(expected), "{problems}");
    }
}

#[test]
fn unwise_settings_are_warned_about() {
    let file = "[server]\naddress = \"[::]:50051\"\n[auth]\nallow_off_loopback = true";
    let config = load_with(Purpose::Serve, file, &[GOOD]).unwrap();
    assert_eq!(config.warnings.len(), 1);
    assert!(config.warnings[0].contains("allow_off_loopback"));
}

#[test]
fn settings_that_look_as_if_they_kept_callers_out_and_do_not_are_warned_about() {
    let folder = tempfile::tempdir().unwrap();
    let policy = folder.path().join("policy.toml");
    std::fs::write(&policy, "callers = []").unwrap();
    let policy = format!("policy_file = {}", toml::Value::from(policy.display().to_string()));
    for (auth, told) in [
        (policy.as_str(), "auth.policy_file is set, and auth.mode"),
        ("shadow = true", "auth.shadow is set, and auth.mode"),
        ("[auth.mesh]\nheader = \"xfcc\"\npinned = \"loopback\"", "auth.mesh.header is set, and auth.mode"),
    ] {
        let config = load_with(Purpose::Serve, &format!("[auth]\n{auth}"), &[GOOD]).unwrap();
        assert_eq!(config.warnings.len(), 1, "{:?}", config.warnings);
        assert!(config.warnings[0].starts_with(told), "{:?}", config.warnings);
    }
    let mesh = |pinned: &str| {
        format!("[auth]\nmode = \"policy\"\n{policy}\n[auth.mesh]\nheader = \"xfcc\"\npinned = \"{pinned}\"")
    };
    let by_name = load_with(Purpose::Serve, &mesh("dns:gateway.svc"), &[GOOD]).unwrap();
    assert!(by_name.warnings[0].contains("nobody's header is believed"), "{:?}", by_name.warnings);
    let by_place = load_with(Purpose::Serve, &mesh("dns:gateway.svc, loopback"), &[GOOD]).unwrap();
    assert_eq!(by_place.warnings, Vec::<String>::new());
}

/// A value of any type, often under a key that exists.
fn overlay() -> impl Strategy<Value = String> {
    let keys: Vec<String> = Layers::new().keys();
    let key = prop_oneof![
        6 => proptest::sample::select(keys),
        1 => proptest::sample::select(vec!["server", "store.redis", "store", "acs"]).prop_map(String::from),
        1 => "[a-z_.]{1,20}",
    ];
    let value = prop_oneof![
        any::<i64>().prop_map(|number| number.to_string()),
        any::<f64>().prop_map(|number| toml::Value::Float(number).to_string()),
        any::<bool>().prop_map(|yes| yes.to_string()),
        ".{0,40}".prop_map(|text| toml::Value::String(text).to_string()),
        "[0-9]{1,25}(ms|s|m|h|d|y| )".prop_map(|text| toml::Value::String(text).to_string()),
        Just("[1, 2]".to_owned()),
        Just("{ a = 1 }".to_owned()),
        Just("1979-05-27T07:32:00Z".to_owned()),
    ];
    (key, value).prop_map(|(key, value)| format!("{key} = {value}\n"))
}

proptest! {
    #[test]
    fn no_file_makes_it_panic(lines in proptest::collection::vec(overlay(), 0..6), noise in ".{0,60}") {
        for loaded in [load_with(Purpose::Serve, &lines.concat(), &[GOOD]), load_with(Purpose::Dev, &noise, &[])] {
            match loaded {
                Ok(config) => prop_assert!(toml::from_str::<toml::Table>(config.render()).is_ok()),
                Err(problems) => prop_assert!(!problems.0.is_empty()),
            }
        }
    }

    #[test]
    fn no_environment_makes_it_panic(
        key in proptest::sample::select(Layers::new().keys()),
        noise in "[A-Z_.]{0,30}",
        value in ".{0,60}",
    ) {
        let name = format!("ACS_BROKER__{}", key.to_uppercase().replace('.', "__"));
        let noisy = format!("ACS_BROKER__{noise}");
        let _ = load_with(Purpose::Serve, "", &[(&name, &value), (&noisy, &value)]);
    }
}
