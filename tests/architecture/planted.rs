//! Faults planted on purpose: the judge of `rules.rs` must object to each, and must not object to their honest twins.
//!
//! Without these a rule could stop working and the real test would stay green.

use super::rules::{ANYWHERE, HOMES, LAYERS, breaches, cycle};

/// What the judge says about one file with this text. The `//!` line is added, so that only the fault is seen.
fn faults(name: &str, text: &str) -> Vec<String> {
    faults_in(&[(name, text)])
}

fn faults_in(files: &[(&str, &str)]) -> Vec<String> {
    let sources: Vec<_> =
        files.iter().map(|(name, text)| ((*name).to_owned(), format!("//! A file.\n{text}"))).collect();
    let dependencies: Vec<String> =
        HOMES.iter().map(|(name, _)| *name).chain(ANYWHERE.iter().copied()).map(str::to_owned).collect();
    breaches(&sources, &dependencies)
        .into_iter()
        .map(|breach| format!("{}: {}", breach.place, breach.fault))
        .collect()
}

#[track_caller]
fn refused(name: &str, text: &str) {
    assert!(!faults(name, text).is_empty(), "a fault went unseen in {name}: {text}");
}

#[track_caller]
fn accepted(name: &str, text: &str) {
    let faults = faults(name, text);
    assert!(faults.is_empty(), "an honest line in {name} was refused: {text}: {faults:?}");
}

#[test]
fn a_wrong_arrow_is_seen_however_it_is_written() {
    for text in [
        "use crate::store::Settings;",
        "use crate::{clock::Clock, store};",
        "use crate::{\n    clock::Clock,\n    store::{self, Settings as S},\n};",
        "use super::store;",
        "pub use crate::store::*;",
        "fn f() { crate::store::open(); }",
        "fn f() -> Vec<super::store::Stores> { Vec::new() }",
        "use acs_broker::store;",
        "mod inner { use super::super::store::Stores; }",
        "macro_rules! m { () => { $crate::store::open() }; }",
        "fn f<'a>(x: &'a str) -> char { crate::store::open(); 'x' }",
    ] {
        refused("src/broker/mod.rs", text);
    }
}

#[test]
fn what_stands_in_comments_texts_and_tests_is_not_an_import() {
    for text in [
        "// use crate::store::Settings;",
        "/* crate::store /* crate::store */ crate::store */",
        "/// See [`crate::store`].\nfn f() {}",
        "const A: &str = \"crate::store::open\";",
        "const A: &str = r#\"a \" crate::store::open\"#;",
        "const A: &[u8] = b\"crate::store \\\" crate::store\";",
        "#[cfg(test)]\nmod tests { use crate::store; fn f() { if true {} } }",
        "#[cfg(test)]\n#[allow(dead_code)]\nuse crate::store;",
        "#[cfg(any(fuzzing, test))]\nmod fuzzing { use crate::store; }",
        "#[test]\nfn f() { crate::store::open(); }",
    ] {
        accepted("src/broker/mod.rs", text);
    }
}

#[test]
fn code_after_a_test_module_is_judged_again() {
    refused("src/broker/mod.rs", "#[cfg(test)]\nmod tests { fn f() { g(); } }\nuse crate::store;");
    refused("src/broker/mod.rs", "#[cfg(test)]\nmod tests;\nuse crate::store;");
    refused("src/broker/mod.rs", "#[cfg(not(test))]\nuse crate::store;");
    refused("src/broker/mod.rs", "#[cfg(any(test, feature = \"emulator\"))]\nuse crate::store;");
    refused("src/broker/mod.rs", "const QUOTE: char = '\"'; use crate::store;");
    refused("src/broker/mod.rs", "const A: &str = r#\"\"#; use crate::store;");
}

#[test]
fn a_module_that_is_test_code_may_name_more() {
    let declared = "#[cfg(test)]\nmod contract;";
    let contract = ("src/store/contract.rs", "use crate::broker::Broker;");
    assert_eq!(faults_in(&[("src/store/mod.rs", declared), contract]), Vec::<String>::new());
    assert!(!faults_in(&[("src/store/mod.rs", "mod contract;"), contract]).is_empty(), "and only then");
    let declared = ("src/store/keys.rs", "#[cfg(test)]\n#[path = \"keys_tests.rs\"]\nmod tests;");
    let tests = ("src/store/keys_tests.rs", "use crate::broker::Broker; use super::super::super::cli;");
    assert_eq!(faults_in(&[declared, tests]), Vec::<String>::new());
}

#[test]
fn the_core_does_no_io() {
    for core in ["src/broker/token.rs", "src/messaging/sms.rs"] {
        for text in [
            "use std::fs;",
            "use std::{collections::BTreeMap, fs::File};",
            "use tokio::net::TcpStream;",
            "use tokio::{fs, sync::Mutex};",
            "fn f() { tokio::process::Command::new(\"x\"); }",
            "use std::net::TcpStream;",
            "fn f() { std::process::exit(1); }",
            "use redis::Client;",
            "use reqwest::Client;",
            "use tonic::Status;",
            "fn f() -> ::tonic::Status { loop {} }",
            "use prometheus_client::registry::Registry;",
        ] {
            refused(core, text);
        }
        accepted(
            core,
            "use tokio::sync::Mutex; use std::{time::Duration, sync::Arc}; fn f() { tokio::spawn(g()); }",
        );
    }
}

#[test]
fn only_app_and_cli_name_the_emulator() {
    for (module, _) in
        LAYERS.iter().filter(|(module, _)| !["app", "cli", "emulator", "main", "lib"].contains(module))
    {
        refused(&format!("src/{module}.rs"), "use crate::emulator::start;");
    }
    accepted("src/cli.rs", "use acs_broker::emulator::start;");
    accepted("src/app/mod.rs", "use crate::emulator::start;");
    accepted("src/config.rs", "use crate::emulator;\nstruct S { emulator: emulator::Settings }");
    refused("src/config.rs", "use crate::emulator;\nfn f() { emulator::start(); }");
}

#[test]
fn only_cli_and_main_name_app() {
    for (module, _) in LAYERS.iter().filter(|(module, _)| !["app", "cli", "main", "lib"].contains(module)) {
        refused(&format!("src/{module}.rs"), "use crate::app::App;");
    }
    accepted("src/cli.rs", "use crate::app::App;");
    accepted("src/main.rs", "fn main() { acs_broker::cli::run(); }");
    refused("src/lib.rs", "pub use crate::app::App;");
}

#[test]
fn the_client_and_the_emulator_know_neither_each_other_nor_the_core() {
    for (one, other) in [("acs", "emulator"), ("emulator", "acs")] {
        refused(&format!("src/{one}/identity.rs"), &format!("use crate::{other}::Token;"));
        refused(&format!("src/{one}/mod.rs"), "use crate::broker::types::Scope;");
        refused(&format!("src/{one}/mod.rs"), "use crate::metrics::Metrics;");
        accepted(&format!("src/{one}/mod.rs"), "use crate::clock::Clock; use super::super::secret::Secret;");
    }
}

#[test]
fn a_store_sees_the_ports_and_types_of_the_core_alone() {
    accepted("src/store/mod.rs", "use crate::broker::{ports::Stores, types::UserId};");
    refused("src/store/mod.rs", "use crate::broker::Broker;");
    accepted("src/store/mod.rs", "use crate::broker;\nfn f(user: broker::types::UserId) {}");
    refused("src/store/mod.rs", "use crate::broker;\nfn f(broker: broker::Broker) {}");
    refused("src/store/mod.rs", "use crate::broker as b;\nuse b::Broker;");
    refused("src/store/mod.rs", "pub use crate::broker;");
    refused("src/store/mod.rs", "pub(crate) use crate::broker;");
    refused("src/store/mod.rs", "use crate::broker::*;");
    refused("src/auth/mod.rs", "use crate::broker::ports::Stores;");
}

#[test]
fn settings_are_composed_by_config_and_never_fetched_from_it() {
    for component in ["store", "acs", "auth", "grpc", "admin", "telemetry", "broker", "emulator"] {
        refused(&format!("src/{component}/mod.rs"), "use crate::config::Config;");
    }
    accepted("src/config.rs", "use crate::store::Settings;");
}

#[test]
fn the_environment_is_read_by_main_and_cli_alone() {
    for text in ["fn f() { std::env::var(\"X\"); }", "use std::{env, time};", "use std::env::vars as v;"] {
        refused("src/config.rs", text);
        refused("src/acs/mod.rs", text);
        accepted("src/cli.rs", text);
        accepted("src/main.rs", text);
    }
    accepted("src/emulator/certificate.rs", "fn f() { std::env::temp_dir(); }");
    refused("src/emulator/certificate.rs", "fn f() { std::env::var(A); }");
    accepted("src/config.rs", "const V: &str = env!(\"CARGO_PKG_VERSION\");");
}

#[test]
fn the_wall_clock_is_read_by_clock_alone() {
    refused("src/acs/mod.rs", "use std::time::SystemTime; fn f() { SystemTime::now(); }");
    refused("src/acs/mod.rs", "fn f() { std::time::SystemTime::now(); }");
    accepted("src/clock.rs", "fn f() { std::time::SystemTime::now(); }");
}

#[test]
fn a_crate_with_a_home_stays_there() {
    for (name, homes) in HOMES {
        let stranger = if *name == "ring" || *name == "hmac" { "src/telemetry.rs" } else { "src/secret.rs" };
        refused(stranger, &format!("use {name}::Thing;"));
        refused(stranger, &format!("fn f() {{ {name}::thing(); }}"));
        for home in *homes {
            accepted(&format!("src/{}.rs", home.replace("::", "/")), &format!("use {name}::Thing;"));
        }
    }
    refused("src/store/mod.rs", "use redis::Client;");
    refused("src/acs/mod.rs", "use axum::Router;");
    for module in ["app", "cli", "auth", "admin", "config", "store", "acs", "emulator"] {
        refused(&format!("src/{module}/mod.rs"), "fn f(status: tonic::Status) {}");
    }
    accepted("src/store/redis/scripts.rs", "use redis::Script;");
}

#[test]
fn a_module_of_ours_may_bear_the_name_of_a_crate() {
    accepted("src/store/mod.rs", "mod redis;\nfn f(s: &redis::Settings) {}");
    accepted("src/config.rs", "use crate::store::redis;\nfn f(s: &redis::Settings) {}");
    refused("src/store/mod.rs", "mod redis;\nfn f(s: &::redis::Client) {}");
    refused("src/store/mod.rs", "mod redis;\nfn f() -> ::redis::Client { loop {} }");
}

#[test]
fn an_imported_name_stands_for_what_was_imported() {
    accepted("src/grpc/mod.rs", "use tokio::time;\nasync fn f() { time::sleep(D).await }");
    accepted("src/grpc/mod.rs", "use std::time::{self, Duration};\nfn f() -> time::Instant { loop {} }");
    refused("src/broker/mod.rs", "use std::time as t;\nfn f() { t::SystemTime::now(); }");
    refused("src/broker/mod.rs", "fn f() { n::TcpStream::connect(A); }\nuse tokio as n;");
    refused("src/broker/mod.rs", "use tokio as t;\nasync fn f() { t::fs::read(A).await; }");
    refused("src/grpc/mod.rs", "fn f() -> time::OffsetDateTime { loop {} }");
}

#[test]
fn nothing_hides_what_it_names() {
    refused("src/broker/mod.rs", "use crate as us;");
    refused("src/broker/mod.rs", "use crate::*;");
    refused("src/broker.rs", "use super::*;");
    refused("src/broker/mod.rs", "use std as s;");
    refused("src/broker/mod.rs", "extern crate redis as r;");
    refused("src/broker/mod.rs", "#[path = \"../store/keys.rs\"]\nmod keys;");
    accepted("src/broker/token.rs", "use super::*;");
}

#[test]
fn a_new_module_or_crate_needs_a_place() {
    refused("src/helpers.rs", "use crate::clock::Clock;");
    refused("src/app/mod.rs", "use crate::helpers::help;");
    let sources = [("src/clock.rs".to_owned(), "//! A file.".to_owned())];
    assert_eq!(breaches(&sources, &["tonic".to_owned()]), []);
    assert_eq!(breaches(&sources, &["left_pad".to_owned()]).len(), 1);
}

#[test]
fn a_file_that_does_not_say_what_it_is_is_refused() {
    let silent = [("src/clock.rs".to_owned(), "use std::time::Duration;".to_owned())];
    assert_eq!(breaches(&silent, &[]).len(), 1);
}

#[test]
fn a_circle_is_found_however_long() {
    let graph = |edges: &[(&str, &str)]| {
        let mut graph = std::collections::BTreeMap::<String, std::collections::BTreeSet<String>>::new();
        for (from, to) in edges {
            graph.entry((*from).to_owned()).or_default().insert((*to).to_owned());
        }
        graph
    };
    assert_eq!(cycle(&graph(&[("a", "b"), ("a", "c"), ("b", "d"), ("c", "d")])), None);
    let circle = cycle(&graph(&[("a", "b"), ("b", "c"), ("c", "d"), ("d", "b")])).unwrap();
    assert_eq!(circle, ["b", "c", "d", "b"]);
    let circle =
        faults_in(&[("src/grpc/mod.rs", "use crate::auth::X;"), ("src/auth/mod.rs", "use crate::grpc::Y;")]);
    assert!(circle.iter().any(|fault| fault.contains("circle")), "{circle:?}");
}
