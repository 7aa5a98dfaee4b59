//! The settings of the process: the embedded defaults, a file, the environment and flags, in this order.
//!
//! Composes the `Settings` of every component; no component imports this. It finds every problem in one run, never
//! repeats a value, and never reads the environment itself: `cli` hands it over as a map. Relative paths are relative to
//! the working directory.

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
    if inputs.purpose != Purpose::Serve {
        // A connection string that was meant for the real service must not reach the emulator, nor the other way round.
        for key in ["acs.connection_string", "acs.connection_string_file", "acs.ca_file"] {
            layers.reset(key);
        }
    }
    let secrets = secrets::take(&mut layers);
    check_each(&mut layers);
    let warnings = check_together(&mut layers, &secrets, inputs.purpose);
    let rendered = show::render(&layers, &secrets);
    let config = compose(&mut layers, &secrets, inputs.purpose, warnings, rendered);
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
    config.store.redis.url = secrets.get("store.redis.url");
    config.store.redis.password = secrets.get("store.redis.password");
    config.webhook.secret = secrets.get("webhook.secret");
    config.audit.key = secrets.get("audit.key");
    report(layers, secrets, "server", config.server.problems());
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

    let connection_string = secrets.get("acs.connection_string");
    if purpose == Purpose::Serve
        && connection_string.is_empty()
        && !any_problem(layers, &["acs.connection_string", "acs.connection_string_file"])
    {
        layers.problem(
            "acs.connection_string",
            format!(
                "is not set; set acs.connection_string_file to a file that holds it, or {AZURE_VARIABLE}"
            ),
        );
    }

    if !connection_string.is_empty()
        && let Err(error) = acs::ConnectionString::parse(connection_string.expose())
    {
        layers.problem(&secrets.named("acs.connection_string"), error.to_string());
    }
    for key in ["acs.ca_file", "store.redis.ca_file"] {
        let path = layers.text(key);
        if !path.is_empty() && !Path::new(path).is_file() {
            layers.problem(key, "names a file that does not exist or is no regular file");
        }
    }

    if purpose != Purpose::Emulator
        && layers.text("auth.mode") == "unauthenticated"
        && address(layers, "server.address").is_some_and(|address| !address.ip().is_loopback())
    {
        if on(layers, "auth.allow_off_loopback") {
            warnings
                .push("auth.allow_off_loopback: anybody who reaches server.address may do everything".into());
        } else {
            layers.problem(
                "server.address",
                "is not a loopback address, and callers are not authenticated; listen on 127.0.0.1, or set \
                 auth.allow_off_loopback = true behind a mesh or a network policy",
            );
        }
    }
    let (server, admin) = (address(layers, "server.address"), address(layers, "admin.address"));
    let webhook = address(layers, "webhook.address");
    let is_taken = |one: Option<SocketAddr>, other| one == other && one.is_some_and(|one| one.port() != 0);
    if is_taken(server, admin) {
        layers.problem("admin.address", "is the same as server.address; choose another port");
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
    }
    warnings
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
