//! What each setting may be, as data: ranges, formats, choices.
//!
//! One line per setting of the default file (a test compares the two), so that every bad value is found in one pass and
//! the message says what would be right. Rules that need two settings are in `config` itself.

use std::net::SocketAddr;
use std::time::Duration;

use toml::Value;

/// What a value may be.
#[derive(Debug, Clone, Copy)]
pub(super) enum Rule {
    /// Any text.
    Text,
    /// A text that is never shown; it has a twin ending in `_file`.
    Secret,
    /// A path, or empty.
    Path,
    /// Text that must not be empty.
    Filled,
    /// An IP address and a port.
    Address,
    /// An IP address and a port, or empty.
    MaybeAddress,
    /// True or false.
    Switch,
    /// A whole number in this range.
    Whole(i64, i64),
    /// A number in this range.
    Share(f64, f64),
    /// A duration in this range, as text.
    Time(&'static str, &'static str),
    /// A duration in this range in whole minutes.
    Minutes(&'static str, &'static str),
    /// One of these.
    Choice(&'static [&'static str]),
    /// Up to 32 letters, digits, `-` and `_`.
    Prefix,
    /// A log filter.
    Filter,
}

/// The rule of every setting.
pub(super) const RULES: &[(&str, Rule)] = &[
    ("server.address", Rule::Address),
    ("server.probe_address", Rule::MaybeAddress),
    ("server.tls.cert_file", Rule::Path),
    ("server.tls.key_file", Rule::Path),
    ("server.tls.client_ca_file", Rule::Path),
    ("server.tls.client_certificate", Rule::Choice(&["required", "optional"])),
    ("server.max_connections", Rule::Whole(1, 1_000_000)),
    ("server.max_connections_per_peer", Rule::Whole(1, 1_000_000)),
    ("server.handshake_timeout", Rule::Time("1s", "1m")),
    ("server.max_connection_age", Rule::Time("0s", "24h")),
    ("server.max_connection_idle", Rule::Time("0s", "24h")),
    ("server.max_header_bytes", Rule::Whole(4096, 262_144)),
    ("server.max_in_flight", Rule::Whole(1, 100_000)),
    ("server.max_streams_per_connection", Rule::Whole(1, 10_000)),
    ("server.max_message_bytes", Rule::Whole(1024, 16_777_216)),
    ("server.default_deadline", Rule::Time("100ms", "5m")),
    ("server.drain_timeout", Rule::Time("0s", "10m")),
    ("server.reflection", Rule::Switch),
    ("admin.address", Rule::Address),
    ("auth.mode", Rule::Choice(&["unauthenticated", "policy"])),
    ("auth.allow_off_loopback", Rule::Switch),
    ("auth.policy_file", Rule::Path),
    ("auth.shadow", Rule::Switch),
    ("auth.mesh.header", Rule::Choice(&["", "xfcc", "l5d-client-id"])),
    ("auth.mesh.pinned", Rule::Text),
    ("acs.connection_string", Rule::Secret),
    ("acs.secondary_connection_string", Rule::Secret),
    ("acs.secondary_connection_string_file", Rule::Path),
    ("acs.credential", Rule::Choice(&["key", "entra"])),
    ("acs.endpoint", Rule::Text),
    ("acs.check_every", Rule::Time("5s", "1h")),
    ("acs.reissue_per_second", Rule::Whole(1, 1000)),
    ("acs.entra.kind", Rule::Choice(&["workload", "managed", "secret"])),
    ("acs.entra.tenant_id", Rule::Text),
    ("acs.entra.client_id", Rule::Text),
    ("acs.entra.client_secret", Rule::Secret),
    ("acs.entra.client_secret_file", Rule::Path),
    ("acs.entra.federated_token", Rule::Path),
    ("acs.entra.authority", Rule::Filled),
    ("acs.entra.metadata", Rule::Filled),
    ("acs.connection_string_file", Rule::Path),
    ("acs.ca_file", Rule::Path),
    ("acs.timeout", Rule::Time("100ms", "60s")),
    ("acs.attempt_timeout", Rule::Time("50ms", "60s")),
    ("acs.attempts", Rule::Whole(1, 10)),
    ("acs.max_concurrency", Rule::Whole(1, 10_000)),
    ("acs.custom_id", Rule::Choice(&["off", "sha256", "plain"])),
    ("tokens.default_validity", Rule::Minutes("1h", "24h")),
    ("tokens.floor", Rule::Time("15m", "45m")),
    ("tokens.refresh_ahead", Rule::Share(0.1, 0.9)),
    ("tokens.jitter", Rule::Share(0.0, 0.1)),
    ("tokens.availability_target", Rule::Time("0s", "24h")),
    ("tokens.fallback_minimum", Rule::Time("10s", "15m")),
    ("store.backend", Rule::Choice(&["embedded", "redis"])),
    ("store.embedded.path", Rule::Filled),
    ("store.redis.url", Rule::Secret),
    ("store.redis.url_file", Rule::Path),
    ("store.redis.topology", Rule::Choice(&["single", "cluster", "sentinel"])),
    ("store.redis.sentinel_master", Rule::Text),
    ("store.redis.username", Rule::Text),
    ("store.redis.password", Rule::Secret),
    ("store.redis.password_file", Rule::Path),
    ("store.redis.ca_file", Rule::Path),
    ("store.redis.prefix", Rule::Prefix),
    ("store.redis.timeout", Rule::Time("10ms", "5s")),
    ("store.redis.max_concurrency", Rule::Whole(1, 100_000)),
    ("store.redis.allow_eviction", Rule::Switch),
    ("store.seal.keys_file", Rule::Path),
    ("store.seal.mode", Rule::Choice(&["seal", "open", "require"])),
    ("store.seal.hash_key", Rule::Secret),
    ("store.seal.hash_key_file", Rule::Path),
    ("messages.retention", Rule::Time("1h", "90d")),
    ("messages.hold", Rule::Time("10s", "10m")),
    ("messages.find_out_within", Rule::Time("10s", "1h")),
    ("messages.duplicates_within", Rule::Time("0s", "24h")),
    ("messages.limits", Rule::Share(0.0, 10_000.0)),
    ("messages.sms.senders", Rule::Text),
    ("messages.sms.allow", Rule::Text),
    ("messages.sms.redirect", Rule::Text),
    ("messages.email.senders", Rule::Text),
    ("messages.email.allow", Rule::Text),
    ("messages.email.redirect", Rule::Text),
    ("webhook.address", Rule::MaybeAddress),
    ("webhook.secret", Rule::Secret),
    ("webhook.secret_file", Rule::Path),
    ("webhook.entra_tenant", Rule::Text),
    ("webhook.entra_audience", Rule::Text),
    ("webhook.entra_authority", Rule::Filled),
    ("webhook.entra_app", Rule::Filled),
    ("audit.file", Rule::Text),
    ("audit.key", Rule::Secret),
    ("audit.key_file", Rule::Path),
    ("audit.fail_closed", Rule::Switch),
    ("audit.max_bytes", Rule::Whole(65_536, 17_179_869_184)),
    ("audit.keep", Rule::Whole(1, 100_000)),
    ("telemetry.format", Rule::Choice(&["json", "pretty"])),
    ("telemetry.filter", Rule::Filter),
    ("emulator.address", Rule::Address),
    ("emulator.tls_address", Rule::Address),
    ("emulator.senders", Rule::Text),
    ("emulator.unlinked_domains", Rule::Text),
    ("emulator.deliver_after", Rule::Time("0s", "24h")),
    ("emulator.email_retry_after", Rule::Whole(1, 3600)),
    ("emulator.revoke_after", Rule::Time("0s", "15m")),
    ("emulator.throttle", Rule::Share(0.0, 1_000_000.0)),
    ("emulator.webhook_url", Rule::Text),
    ("emulator.webhook_schema", Rule::Choice(&["event_grid", "cloud_events"])),
    ("emulator.max_messages", Rule::Whole(1, 10_000_000)),
    ("emulator.max_megabytes", Rule::Whole(16, 65_536)),
    ("emulator.max_age", Rule::Time("1m", "365d")),
    ("emulator.seed", Rule::Whole(0, i64::MAX)),
];

/// The settings whose values are secrets. Each has a twin ending in `_file`.
pub(super) fn secrets() -> impl Iterator<Item = &'static str> {
    RULES.iter().filter(|(_, rule)| matches!(rule, Rule::Secret)).map(|(key, _)| *key)
}

impl Rule {
    /// What is wrong with a value of the right type, if anything; never the value itself.
    pub(super) fn check(self, value: &Value) -> Result<(), String> {
        match self {
            Self::Text | Self::Secret | Self::Path | Self::Switch => Ok(()),
            Self::Filled => text(value, |text| !text.trim().is_empty(), "must not be empty"),
            Self::Address => text(
                value,
                |text| text.parse::<SocketAddr>().is_ok(),
                "must be an IP address and a port, such as \"127.0.0.1:50051\" or \"[::]:50051\"",
            ),
            Self::MaybeAddress => text(
                value,
                |text| text.is_empty() || text.parse::<SocketAddr>().is_ok(),
                "must be an IP address and a port, such as \"127.0.0.1:8084\" or \"[::]:8084\", or empty",
            ),
            Self::Whole(least, most) => match value.as_integer() {
                Some(number) if (least..=most).contains(&number) => Ok(()),
                _ => Err(format!("must be from {least} to {most}")),
            },
            Self::Share(least, most) => match value.as_float() {
                Some(number) if (least..=most).contains(&number) => Ok(()),
                _ => Err(format!("must be from {least} to {most}")),
            },
            Self::Time(least, most) => {
                if in_range(value, least, most).is_some() {
                    Ok(())
                } else {
                    Err(format!("must be a duration from {least} to {most}, such as \"{most}\""))
                }
            }
            Self::Minutes(least, most) => match in_range(value, least, most) {
                Some(time) if time.subsec_nanos() == 0 && time.as_secs().is_multiple_of(60) => Ok(()),
                _ => Err(format!(
                    "must be a duration from {least} to {most} in whole minutes, such as \"{most}\""
                )),
            },
            Self::Choice(choices) => {
                let listed = choices.iter().map(|choice| format!("\"{choice}\"")).collect::<Vec<_>>();
                text(value, |text| choices.contains(&text), &format!("must be {}", listed.join(" or ")))
            }
            Self::Prefix => text(
                value,
                |text| {
                    (1..=32).contains(&text.len())
                        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
                },
                "must be 1 to 32 letters, digits, `-` and `_`",
            ),
            Self::Filter => text(
                value,
                crate::telemetry::is_filter,
                "must be a log filter such as \"info\" or \"acs_broker::store=trace,info\"",
            ),
        }
    }
}

fn text(value: &Value, fits: impl Fn(&str) -> bool, otherwise: &str) -> Result<(), String> {
    if value.as_str().is_some_and(fits) { Ok(()) } else { Err(otherwise.into()) }
}

fn in_range(value: &Value, least: &str, most: &str) -> Option<Duration> {
    let time = humantime::parse_duration(value.as_str()?).ok()?;
    let range = humantime::parse_duration(least).ok()?..=humantime::parse_duration(most).ok()?;
    range.contains(&time).then_some(time)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::layers::{DEFAULTS, Layers};

    #[test]
    fn every_setting_has_one_rule_and_its_default_keeps_it() {
        let layers = Layers::new();
        let mut ruled: Vec<String> = RULES.iter().map(|(key, _)| (*key).into()).collect();
        ruled.sort();
        let mut known = layers.keys();
        known.sort();
        assert_eq!(ruled, known);
        for (key, rule) in RULES {
            assert_eq!(rule.check(layers.value(key).unwrap()), Ok(()), "{key}");
        }
    }

    #[test]
    fn every_secret_has_a_file_twin_and_every_twin_a_secret() {
        let layers = Layers::new();
        for key in secrets() {
            assert!(layers.value(&format!("{key}_file")).is_some(), "{key}");
        }
        for key in layers.keys().iter().filter_map(|key| key.strip_suffix("_file")) {
            // Certificates and policies are no secrets; a private key and a key ring are only ever files.
            let is_file = key.ends_with("ca") || key.starts_with("server.tls.");
            let is_file = is_file || ["auth.policy", "store.seal.keys"].contains(&key);
            assert!(is_file || secrets().any(|secret| secret == key), "{key}");
        }
    }

    /// The comments of the default file are what people read: they must tell the range that is enforced.
    #[test]
    fn the_default_file_tells_the_ranges_that_are_enforced() {
        let mut section = String::new();
        let mut comment = String::new();
        for line in DEFAULTS.lines() {
            if let Some(name) = line.strip_prefix('[') {
                section = name.trim_end_matches(']').into();
                comment.clear();
            } else if let Some(text) = line.strip_prefix('#') {
                comment.push_str(text);
            } else if let Some((name, _)) = line.split_once(" = ") {
                let key = format!("{section}.{name}");
                let told = match RULES.iter().find(|(ruled, _)| *ruled == key).unwrap().1 {
                    Rule::Whole(least, most) => format!("{least} to {most}."),
                    Rule::Share(least, most) => format!("{least} to {most}."),
                    Rule::Time(least, most) => format!("{least} to {most}."),
                    Rule::Minutes(least, most) => format!("{least} to {most} in whole minutes."),
                    _ => String::new(),
                };
                assert!(comment.contains(&told), "{key}: {told:?} is not in {comment:?}");
                comment.clear();
            }
        }
    }
}
