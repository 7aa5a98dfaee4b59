//! The settings of the process: the embedded defaults, a file, the environment and flags, in this order.
//!
//! Composes the `Settings` of every component; no component imports this. It finds every problem in one run, never
//! repeats a value, and never reads the environment itself: `cli` hands it over as a map. Relative paths are relative to
//! the working directory.

#[cfg(any(fuzzing, test))]
pub mod fuzzing;
mod layers;
mod problem;
mod rules;
mod secrets;
mod show;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io::Read;
use std::net::SocketAddr;
use std::path::Path;

use serde::de::DeserializeOwned;

pub use self::layers::DEFAULTS;
use self::layers::Layers;
pub use self::problem::{Problem, Problems, Source};
use self::rules::RULES;
use self::secrets::Secrets;
pub use self::secrets::read as read_secret;
#[cfg(feature = "emulator")]
use crate::emulator;
use crate::{acs, admin, audit, auth, broker, grpc, messaging, store, telemetry, webhook};

/// The variable that Azure samples use for the connection string.
pub const AZURE_VARIABLE: &str = "COMMUNICATION_SERVICES_CONNECTION_STRING";

/// What Azure's workload identity sets in a pod, and whom it sets. Only of use with `acs.credential = "entra"`.
const ENTRA_VARIABLES: &[(&str, &str)] = &[
    ("AZURE_TENANT_ID", "acs.entra.tenant_id"),
    ("AZURE_CLIENT_ID", "acs.entra.client_id"),
    ("AZURE_CLIENT_SECRET", "acs.entra.client_secret"),
    ("AZURE_FEDERATED_TOKEN_FILE", "acs.entra.federated_token"),
    ("AZURE_AUTHORITY_HOST", "acs.entra.authority"),
];

/// The largest settings file that is read.
const MAX_FILE_BYTES: u64 = 1_048_576;

/// What the settings are for; decides what must be set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// A broker in front of the real ACS, or whatever the connection string names.
    Serve,
    /// A broker in front of the emulator in the same process, which brings its own connection string.
    Dev,
    /// The emulator alone.
    Emulator,
}

/// A value from the command line, or one that a command presumes.
#[derive(Debug, Clone)]
pub struct Given {
    /// The path of the setting.
    pub key: &'static str,
    /// The value as text.
    pub value: String,
    /// Where it came from.
    pub source: Source,
}

/// Everything the settings are made of.
#[derive(Debug, Clone, Copy)]
pub struct Inputs<'a> {
    /// What they are for.
    pub purpose: Purpose,
    /// What the command presumes; wins over the defaults only.
    pub presumed: &'a [Given],
    /// The settings file.
    pub file: Option<&'a Path>,
    /// The environment; only names that are ours are looked at.
    pub environment: &'a BTreeMap<String, String>,
    /// Values from flags; win over everything.
    pub flags: &'a [Given],
}

/// The settings of the process, checked. Secrets are in place, whether they came from a setting or from a file.
#[derive(Debug, Clone)]
pub struct Config {
    /// `[server]`.
    pub server: grpc::Settings,
    /// `[admin]`.
    pub admin: admin::Settings,
    /// `[auth]`.
    pub auth: auth::Settings,
    /// `[acs]`.
    pub acs: acs::Settings,
    /// `[tokens]`.
    pub tokens: broker::Settings,
    /// `[store]`.
    pub store: store::Settings,
    /// `[messages]`.
    pub messages: messaging::Settings,
    /// `[webhook]`.
    pub webhook: webhook::Settings,
    /// `[audit]`.
    pub audit: audit::Settings,
    /// `[telemetry]`.
    pub telemetry: telemetry::Settings,
    /// `[emulator]`.
    #[cfg(feature = "emulator")]
    pub emulator: emulator::Settings,
    /// What is allowed but unwise.
    pub warnings: Vec<String>,
    rendered: String,
}

impl Config {
    /// The settings in force as TOML, secrets masked, with the source of everything that is not a default.
    pub fn render(&self) -> &str {
        &self.rendered
    }
}

/// Reads the settings, or says everything that is wrong with them.
pub fn load(inputs: &Inputs<'_>) -> Result<Config, Problems> {
    let mut layers = Layers::new();
    lay(&mut layers, inputs);
    settle(layers, inputs.purpose)
}

/// Makes the settings of what was laid.
fn settle(mut layers: Layers, purpose: Purpose) -> Result<Config, Problems> {
    if purpose != Purpose::Serve {
        // A connection string that was meant for the real service must not reach the emulator, nor the other way round.
        for key in [
            "acs.connection_string",
            "acs.connection_string_file",
            "acs.secondary_connection_string",
            "acs.secondary_connection_string_file",
            "acs.credential",
            "acs.endpoint",
            "acs.ca_file",
        ] {
            layers.reset(key);
        }
        // `dev` prints commands and addresses in plain text; it is reached from this machine alone.
        for key in ["cert_file", "key_file", "client_ca_file"] {
            layers.reset(&format!("server.tls.{key}"));
        }
    }
    let secrets = secrets::take(&mut layers);
    check_each(&mut layers);
    let warnings = check_together(&mut layers, &secrets, purpose);
    let rendered = show::render(&layers, &secrets);
    let config = compose(&mut layers, &secrets, purpose, warnings, rendered);
    match config {
        Some(config) if layers.problems.is_empty() => Ok(config),
        _ => Err(Problems(layers.problems)),
    }
}

/// Reads every section into its component's settings and lets the components check what only they know.
fn compose(
    layers: &mut Layers,
    secrets: &Secrets,
    purpose: Purpose,
    warnings: Vec<String>,
    rendered: String,
) -> Option<Config> {
    // Each is tried before any is missed, so that all their problems are found.
    let (server, admin, auth) =
        (section(layers, "server"), section(layers, "admin"), section(layers, "auth"));
    let (acs, tokens, store) = (section(layers, "acs"), section(layers, "tokens"), section(layers, "store"));
    let (messages, webhook) = (section(layers, "messages"), section(layers, "webhook"));
    let (audit, telemetry) = (section(layers, "audit"), section(layers, "telemetry"));
    #[cfg(feature = "emulator")]
    let emulator = section(layers, "emulator");
    let mut config = Config {
        server: server?,
        admin: admin?,
        auth: auth?,
        acs: acs?,
        tokens: tokens?,
        store: store?,
        messages: messages?,
        webhook: webhook?,
        audit: audit?,
        telemetry: telemetry?,
        #[cfg(feature = "emulator")]
        emulator: emulator?,
        warnings,
        rendered,
    };
    config.acs.connection_string = secrets.get("acs.connection_string");
    config.acs.secondary_connection_string = secrets.get("acs.secondary_connection_string");
    // Files that another source overrules are not followed.
    for (key, file) in [
        ("acs.connection_string", &mut config.acs.connection_string_file),
        ("acs.secondary_connection_string", &mut config.acs.secondary_connection_string_file),
    ] {
        if !secrets.is_from_file(key) {
            *file = None;
        }
    }
    config.acs.entra.client_secret = secrets.get("acs.entra.client_secret");
    config.store.redis.url = secrets.get("store.redis.url");
    config.store.redis.password = secrets.get("store.redis.password");
    config.store.seal.hash_key = secrets.get("store.seal.hash_key");
    config.store.redis.keeps_messages = [&config.messages.sms.senders, &config.messages.email.senders]
        .iter()
        .any(|senders| !senders.trim().is_empty());
    config.webhook.secret = secrets.get("webhook.secret");
    config.audit.key = secrets.get("audit.key");
    report(layers, secrets, "server", config.server.problems());
    report(layers, secrets, "server", grpc::Tls::open(&config.server.tls).err().into_iter().collect());
    report(layers, secrets, "auth.mesh", config.auth.mesh.problems());
    report(layers, secrets, "acs", config.acs.problems());
    report(layers, secrets, "tokens", config.tokens.problems());
    if purpose != Purpose::Emulator {
        report(layers, secrets, "messages", config.messages.problems());
        report(layers, secrets, "webhook", config.webhook.problems());
        report(layers, secrets, "audit", config.audit.problems());
        if config.messages.hold <= config.acs.timeout && !layers.has_problem("messages.hold") {
            let what = "must be longer than acs.timeout, or another replica sends what one is still sending";
            layers.problem("messages.hold", what);
        }
        report(layers, secrets, "store", config.store.problems());
    }
    Some(config)
}

/// Takes over what a component found, unless the key was reported already.
fn report<K: AsRef<str>>(layers: &mut Layers, secrets: &Secrets, section: &str, problems: Vec<(K, String)>) {
    for (key, what) in problems {
        let key = secrets.named(&format!("{section}.{}", key.as_ref()));
        if !layers.has_problem(&key) {
            layers.problem(&key, what);
        }
    }
}

fn lay(layers: &mut Layers, inputs: &Inputs<'_>) {
    for given in inputs.presumed {
        layers.lay_text(given.key, &given.value, &given.source);
    }
    if let Some(path) = inputs.file {
        let name = path.display().to_string();
        match read(path) {
            Ok(text) => layers.lay_file(&text, &name),
            Err(what) => {
                layers.problems.push(Problem { key: String::new(), source: Source::File(name), what });
            }
        }
    }
    if let Some(text) = inputs.environment.get(AZURE_VARIABLE).filter(|text| !text.is_empty()) {
        layers.lay_text("acs.connection_string", text, &Source::AzureVariable(AZURE_VARIABLE));
    }
    for (name, key) in ENTRA_VARIABLES {
        if let Some(text) = inputs.environment.get(*name).filter(|text| !text.is_empty()) {
            layers.lay_text(key, text, &Source::AzureVariable(name));
        }
    }
    for (name, text) in inputs.environment {
        // An empty variable is one that is not set: templates leave those behind.
        if let Some(key) = layers::key_of_variable(name).filter(|_| !text.is_empty()) {
            layers.lay_text(&key, text, &Source::Variable(name.clone()));
        }
    }
    for given in inputs.flags {
        layers.lay_text(given.key, &given.value, &given.source);
    }
}

fn read(path: &Path) -> Result<String, String> {
    let cannot = |error: std::io::Error| format!("cannot be read ({})", error.kind());
    if !std::fs::metadata(path).map_err(cannot)?.is_file() {
        return Err("is not a regular file".into());
    }
    let mut text = String::new();
    let size = std::fs::File::open(path)
        .and_then(|file| file.take(MAX_FILE_BYTES + 1).read_to_string(&mut text))
        .map_err(cannot)?;
    if size as u64 > MAX_FILE_BYTES {
        return Err(format!("has more than {MAX_FILE_BYTES} bytes"));
    }
    Ok(text)
}

/// Checks every setting by itself; a bad one is reported and its default goes on.
fn check_each(layers: &mut Layers) {
    for (key, rule) in RULES {
        let Some(value) = layers.value(key) else { continue };
        if let Err(what) = rule.check(value) {
            layers.problem(key, what);
            layers.reset(key);
        }
    }
}

/// Checks what concerns more than one setting; returns warnings.
fn check_together(layers: &mut Layers, secrets: &Secrets, purpose: Purpose) -> Vec<String> {
    let mut warnings = Vec::new();
    let address = |layers: &Layers, key: &str| layers.text(key).parse::<SocketAddr>().ok();
    let on = |layers: &Layers, key: &str| layers.value(key).and_then(toml::Value::as_bool) == Some(true);
    let any_problem = |layers: &Layers, keys: &[&str]| keys.iter().any(|key| layers.has_problem(key));

    let keys_file = layers.text("store.seal.keys_file");
    if purpose != Purpose::Emulator
        && !keys_file.is_empty()
        && let Err(error) = store::seal::KeyRing::read(Path::new(keys_file))
    {
        layers.problem("store.seal.keys_file", error.to_string());
    }
    check_credential(layers, secrets, purpose);
    for key in ["acs.ca_file", "store.redis.ca_file", "auth.policy_file"] {
        let path = layers.text(key);
        if !path.is_empty() && !Path::new(path).is_file() {
            layers.problem(key, "names a file that does not exist or is no regular file");
        }
    }

    let enforced = layers.text("auth.mode") == "policy" && !on(layers, "auth.shadow");
    if purpose != Purpose::Emulator && layers.text("auth.mode") == "policy" {
        if layers.text("auth.policy_file").is_empty() && !layers.has_problem("auth.policy_file") {
            let what = "is not set, and auth.mode is \"policy\"; set it to the path of a policy";
            layers.problem("auth.policy_file", what);
        }
        if on(layers, "auth.shadow") {
            warnings
                .push("auth.shadow: nothing is refused; what the policy would refuse is only logged".into());
        }
    }
    if purpose != Purpose::Emulator
        && !enforced
        && address(layers, "server.address").is_some_and(|address| !address.ip().is_loopback())
    {
        if on(layers, "auth.allow_off_loopback") {
            warnings
                .push("auth.allow_off_loopback: anybody who reaches server.address may do everything".into());
        } else {
            layers.problem(
                "server.address",
                "is not a loopback address, and callers need not authenticate; listen on 127.0.0.1, or set \
                 auth.allow_off_loopback = true behind a mesh or a network policy",
            );
        }
    }
    if purpose == Purpose::Serve
        && layers.text("auth.mode") != "unauthenticated"
        && layers.text("server.tls.cert_file").is_empty()
        && address(layers, "server.address").is_some_and(|address| !address.ip().is_loopback())
    {
        warnings.push(
            "server.tls.cert_file is not set: what callers send, their tokens too, is plain text unless a mesh \
             encrypts it"
                .into(),
        );
    }
    if purpose != Purpose::Emulator {
        warn_of_what_has_no_effect(layers, &mut warnings);
    }
    let (server, admin) = (address(layers, "server.address"), address(layers, "admin.address"));
    let webhook = address(layers, "webhook.address");
    let is_taken = |one: Option<SocketAddr>, other| one == other && one.is_some_and(|one| one.port() != 0);
    if is_taken(server, admin) {
        layers.problem("admin.address", "is the same as server.address; choose another port");
    }
    let probe = address(layers, "server.probe_address");
    for (other, key) in [(server, "server.address"), (admin, "admin.address"), (webhook, "webhook.address")] {
        if is_taken(probe, other) && !layers.has_problem("server.probe_address") {
            layers.problem("server.probe_address", format!("is the same as {key}; choose another port"));
        }
    }
    for (other, key) in [(server, "server.address"), (admin, "admin.address")] {
        if is_taken(webhook, other) && !layers.has_problem("webhook.address") {
            layers.problem("webhook.address", format!("is the same as {key}; choose another port"));
        }
    }

    if purpose != Purpose::Emulator && layers.text("store.backend") == "redis" {
        if secrets.get("store.redis.url").is_empty()
            && !any_problem(layers, &["store.redis.url", "store.redis.url_file"])
        {
            let what = "is not set, and store.backend is \"redis\"; set it or its _file twin";
            layers.problem("store.redis.url", what);
        }
        if on(layers, "store.redis.allow_eviction") {
            warnings.push("store.redis.allow_eviction: this Redis may lose identities".into());
        }
        if layers.text("store.seal.keys_file").is_empty() {
            let what = "store.seal.keys_file: is not set, so tokens lie in Redis as they are";
            warnings.push(what.into());
        }
    }
    warnings
}

/// Says which settings look as if they let fewer callers in, and do not.
fn warn_of_what_has_no_effect(layers: &Layers, warnings: &mut Vec<String>) {
    let is_policy = layers.text("auth.mode") == "policy";
    let idle = [
        ("auth.policy_file", !layers.text("auth.policy_file").is_empty()),
        ("auth.shadow", layers.value("auth.shadow").and_then(toml::Value::as_bool) == Some(true)),
        ("auth.mesh.header", !layers.text("auth.mesh.header").is_empty()),
    ];
    for (key, _) in idle.iter().filter(|(_, is_set)| *is_set && !is_policy) {
        warnings.push(format!("{key} is set, and auth.mode is not \"policy\": it has no effect"));
    }
    let pinned = layers.text("auth.mesh.pinned");
    if is_policy
        && !pinned.is_empty()
        && !pinned.split(',').any(|pin| pin.trim() == "loopback")
        && layers.text("server.tls.client_ca_file").is_empty()
    {
        warnings.push(
            "auth.mesh.pinned names proxies by their certificates, and no client is asked for one \
             (server.tls.client_ca_file): nobody's header is believed"
                .into(),
        );
    }
}

/// Checks that there is a credential, and that two keys are of one resource.
fn check_credential(layers: &mut Layers, secrets: &Secrets, purpose: Purpose) {
    const FIRST: &str = "acs.connection_string";
    const SECOND: &str = "acs.secondary_connection_string";
    let (first, second) = (secrets.get(FIRST), secrets.get(SECOND));
    if layers.text("acs.credential") == "entra" {
        if !first.is_empty() || !second.is_empty() {
            let what = "is set, and acs.credential is \"entra\"; keep one of them";
            layers.problem(&secrets.named(if first.is_empty() { SECOND } else { FIRST }), what);
        }
        return;
    }
    if purpose == Purpose::Serve
        && first.is_empty()
        && !layers.has_problem(FIRST)
        && !layers.has_problem("acs.connection_string_file")
    {
        layers.problem(
            FIRST,
            format!(
                "is not set; set acs.connection_string_file to a file that holds it, or {AZURE_VARIABLE}"
            ),
        );
    }
    let mut endpoints = Vec::new();
    for (key, text) in [(FIRST, first), (SECOND, second)] {
        if text.is_empty() {
            continue;
        }
        match acs::ConnectionString::parse(text.expose()) {
            Ok(resource) => endpoints.push(resource.endpoint().clone()),
            Err(error) => layers.problem(&secrets.named(key), error.to_string()),
        }
    }
    if let [one, other] = endpoints.as_slice()
        && one != other
    {
        let what = "is of another ACS resource than acs.connection_string; both keys must be of one resource";
        layers.problem(&secrets.named(SECOND), what);
    }
}

/// Reads a section into its component's type. A value the component refuses is reported and its default goes on.
fn section<T: DeserializeOwned>(layers: &mut Layers, name: &str) -> Option<T> {
    // Each turn mends one setting, so there are never more turns than settings.
    for _ in 0..=RULES.len() {
        match serde_path_to_error::deserialize(toml::Value::Table(layers.section(name))) {
            Ok(settings) => return Some(settings),
            Err(error) => {
                let key = format!("{name}.{}", error.path());
                let what = mend(error.inner().message());
                layers.problem(&key, what);
                if !layers.reset(&key) {
                    return None;
                }
            }
        }
    }
    None
}

/// What serde says, less the value it quotes.
fn mend(message: &str) -> String {
    match message.split_once(", expected ") {
        Some((_, expected)) => format!("must be {expected}"),
        None => message.lines().next().unwrap_or("is not valid").to_owned(),
    }
}
