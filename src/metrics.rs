//! Every metric of the process: name, help, labels and the handle that counts it.
//!
//! Metrics are passed, never static, so that two servers in one test do not see each other. Label values are static
//! strings, so that nothing a user typed can become a label.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct MessageLabels {
    channel: &'static str,
    state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EventLabels {
    kind: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReloadLabels {
    what: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WhatLabels {
    what: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ShadowLabels {
    rpc: &'static str,
    permission: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BucketLabels {
    bucket: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RpcLabels {
    rpc_system_name: &'static str,
    rpc_method: &'static str,
    rpc_response_status_code: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OperationLabels {
    operation: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct UnopenedLabels {
    kind: &'static str,
    why: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabels {
    reason: &'static str,
}

type Timings<L> = Family<L, Histogram, fn() -> Histogram>;

fn seconds() -> Histogram {
    Histogram::new([
        0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
    ])
}

/// The metrics of one process, cheap to clone.
#[derive(Clone)]
pub struct Metrics {
    registry: Arc<Registry>,
    rpcs: Timings<RpcLabels>,
    rpcs_in_flight: Gauge,
    connections_open: Gauge,
    connections_ended: Family<ReasonLabels, Counter>,
    answers_given_up: Family<ReasonLabels, Counter>,
    errors: Family<ReasonLabels, Counter>,
    token_decisions: Family<OutcomeLabels, Counter>,
    surplus_identities: Family<OutcomeLabels, Counter>,
    upstream: Timings<OperationLabels>,
    store: Timings<OperationLabels>,
    store_available: Gauge<f64, AtomicU64>,
    store_unopened: Family<UnopenedLabels, Counter>,
    credential_refused: Gauge,
    tokens_of_other_keys: Gauge,
    tokens_reissued: Counter,
    messages: Family<MessageLabels, Counter>,
    budget_remaining: Family<BucketLabels, Gauge>,
    webhook_requests: Family<OutcomeLabels, Counter>,
    webhook_events: Family<EventLabels, Counter>,
    reloads: Family<ReloadLabels, Counter>,
    reload_failed: Family<WhatLabels, Gauge>,
    shadow_refusals: Family<ShadowLabels, Counter>,
    bearer_tokens: Family<OutcomeLabels, Counter>,
    jwks_fetches: Family<OutcomeLabels, Counter>,
    jwks_failing: Gauge,
    jwks_lacking: Gauge,
    audit_records: Counter,
    audit_lost: Counter,
    audit_available: Gauge,
    audit_sequence: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// A new set, all at zero.
    pub fn new() -> Self {
        let mut registry = Registry::default();
        let rpcs: Timings<RpcLabels> = Family::new_with_constructor(seconds);
        registry.register_with_unit(
            "rpc_server_call_duration",
            "Time from the arrival of an RPC to its end, by method and gRPC status (OpenTelemetry RPC conventions)",
            Unit::Seconds,
            rpcs.clone(),
        );
        let own = registry.sub_registry_with_prefix("acs_broker");
        let rpcs_in_flight = Gauge::default();
        own.register("rpcs_in_flight", "RPCs that are being worked on", rpcs_in_flight.clone());
        let connections_open = Gauge::default();
        own.register(
            "connections_open",
            "Connections of the gRPC port, those that still begin among them",
            connections_open.clone(),
        );
        let connections_ended = Family::default();
        own.register(
            "connections_ended",
            "Connections the broker refused or ended: peer_limit, crowded_out, tls, not_http2, slow, age, idle, certificate, unread",
            connections_ended.clone(),
        );
        let answers_given_up = Family::default();
        own.register(
            "answers_given_up",
            "Large answers and streams that ended before their caller took them: unread, no_room",
            answers_given_up.clone(),
        );
        let errors = Family::default();
        own.register("errors", "Errors answered to callers, by reason (docs/errors.md)", errors.clone());
        let token_decisions = Family::default();
        own.register(
            "token_decisions",
            "What IssueToken did with the cached token: reuse, reuse_and_refresh, replace, create, degraded",
            token_decisions.clone(),
        );
        let surplus_identities = Family::default();
        own.register(
            "surplus_identities",
            "Identities created in vain: deleted, adopted, left (see docs/operations.md)",
            surplus_identities.clone(),
        );
        let upstream: Timings<OperationLabels> = Family::new_with_constructor(seconds);
        own.register_with_unit(
            "upstream_call_duration",
            "Time of a call to ACS with all its attempts, by operation and outcome",
            Unit::Seconds,
            upstream.clone(),
        );
        let store: Timings<OperationLabels> = Family::new_with_constructor(seconds);
        own.register_with_unit(
            "store_command_duration",
            "Time of a round trip to the store, by operation and outcome",
            Unit::Seconds,
            store.clone(),
        );
        let store_available = Gauge::default();
        own.register(
            "store_available",
            "1 while the store answers, 0 while its breaker is open",
            store_available.clone(),
        );
        store_available.set(1.0);
        let store_unopened = Family::default();
        own.register(
            "store_unopened",
            "What the store holds and nobody can open, by kind (token, message, event, outcome) and why: no_key, \
             damaged, plain (see docs/operations.md)",
            store_unopened.clone(),
        );
        let credential_refused = Gauge::default();
        own.register(
            "acs_credential_refused",
            "1 while ACS refuses the broker's credential, else 0; page somebody",
            credential_refused.clone(),
        );
        let tokens_of_other_keys = Gauge::default();
        own.register(
            "tokens_of_other_keys",
            "Cached tokens of other keys than the one in use, after the last walk over them (docs/operations.md)",
            tokens_of_other_keys.clone(),
        );
        let tokens_reissued = Counter::default();
        own.register(
            "tokens_reissued",
            "Cached tokens of other keys that were replaced by such a walk",
            tokens_reissued.clone(),
        );
        let messages = Family::default();
        own.register(
            "messages",
            "Outcomes of messages as ACS first told them, by channel and state",
            messages.clone(),
        );
        let budget_remaining = Family::default();
        own.register(
            "budget_remaining",
            "What was left of a published limit of ACS when it was last used, by kind of limit",
            budget_remaining.clone(),
        );
        let webhook_requests = Family::default();
        own.register(
            "webhook_requests",
            "Requests to the webhook: taken, handshake, forged, malformed, oversized, slow, refused, failed",
            webhook_requests.clone(),
        );
        let webhook_events = Family::default();
        own.register(
            "webhook_events",
            "Events that Event Grid brought, by kind and outcome: taken (repetitions too), ignored, malformed, failed",
            webhook_events.clone(),
        );
        let reloads = Family::default();
        own.register(
            "reloads",
            "Times that files were read again while running, by what is in them and outcome: ok, failed",
            reloads.clone(),
        );
        let reload_failed = Family::default();
        own.register(
            "reload_failed",
            "1 while a file cannot be used and what was read before stays in force, else 0",
            reload_failed.clone(),
        );
        let shadow_refusals = Family::default();
        own.register(
            "shadow_refusals",
            "What the policy would refuse if auth.shadow were off, by RPC and kind of permission; `caller` is the caller itself",
            shadow_refusals.clone(),
        );
        let bearer_tokens = Family::default();
        own.register(
            "bearer_tokens",
            "Bearer tokens judged, by outcome: verified, known (verified before), or why they were refused",
            bearer_tokens.clone(),
        );
        let jwks_fetches = Family::default();
        own.register(
            "jwks_fetches",
            "Fetches of an issuer's keys, by outcome: ok, failed",
            jwks_fetches.clone(),
        );
        let jwks_failing = Gauge::default();
        own.register(
            "jwks_failing",
            "Sources of issuers' keys that could not be fetched the last time; page somebody within a day",
            jwks_failing.clone(),
        );
        let jwks_lacking = Gauge::default();
        own.register(
            "jwks_lacking",
            "Sources of issuers' keys of which there are none, so that calls with their tokens fail; page somebody",
            jwks_lacking.clone(),
        );
        let audit_records = Counter::default();
        own.register("audit_records", "Audit records written", audit_records.clone());
        let audit_lost = Counter::default();
        own.register(
            "audit_lost",
            "Audit records that were lost because they could not be written; page somebody",
            audit_lost.clone(),
        );
        let audit_available = Gauge::default();
        own.register(
            "audit_available",
            "1 while audit records can be written or none are wanted, else 0; page somebody",
            audit_available.clone(),
        );
        audit_available.set(1);
        let audit_sequence = Gauge::default();
        own.register("audit_sequence", "The number of the last audit record written", audit_sequence.clone());
        Self {
            registry: Arc::new(registry),
            rpcs,
            rpcs_in_flight,
            connections_open,
            connections_ended,
            answers_given_up,
            errors,
            token_decisions,
            surplus_identities,
            upstream,
            store,
            store_available,
            store_unopened,
            credential_refused,
            tokens_of_other_keys,
            tokens_reissued,
            messages,
            budget_remaining,
            webhook_requests,
            webhook_events,
            reloads,
            reload_failed,
            shadow_refusals,
            bearer_tokens,
            jwks_fetches,
            jwks_failing,
            jwks_lacking,
            audit_records,
            audit_lost,
            audit_available,
            audit_sequence,
        }
    }

    /// An RPC began.
    pub fn rpc_started(&self) {
        self.rpcs_in_flight.inc();
    }

    /// An RPC ended, also when its caller hung up (`code` is then `CANCELLED`).
    pub fn rpc_finished(&self, method: &'static str, code: &'static str, took: Duration) {
        self.rpcs_in_flight.dec();
        let labels =
            RpcLabels { rpc_system_name: "grpc", rpc_method: method, rpc_response_status_code: code };
        self.rpcs.get_or_create(&labels).observe(took.as_secs_f64());
    }

    /// A connection was accepted.
    pub fn connection_opened(&self) {
        self.connections_open.inc();
    }

    /// A connection is gone.
    pub fn connection_closed(&self) {
        self.connections_open.dec();
    }

    /// A connection was refused, or is asked to end before its peer wanted it.
    pub fn connection_ended(&self, reason: &'static str) {
        self.connections_ended.get_or_create(&ReasonLabels { reason }).inc();
    }

    /// A large answer or a stream ended before its caller took it.
    pub fn answer_given_up(&self, reason: &'static str) {
        self.answers_given_up.get_or_create(&ReasonLabels { reason }).inc();
    }

    /// An error went to a caller.
    pub fn error(&self, reason: &'static str) {
        self.errors.get_or_create(&ReasonLabels { reason }).inc();
    }

    /// What IssueToken did with the cached token.
    pub fn token_decision(&self, outcome: &'static str) {
        self.token_decisions.get_or_create(&OutcomeLabels { outcome }).inc();
    }

    /// What became of an identity that lost the race.
    pub fn surplus_identity(&self, outcome: &'static str) {
        self.surplus_identities.get_or_create(&OutcomeLabels { outcome }).inc();
    }

    /// A call to ACS ended.
    pub fn upstream_call(&self, operation: &'static str, outcome: &'static str, took: Duration) {
        self.upstream.get_or_create(&OperationLabels { operation, outcome }).observe(took.as_secs_f64());
    }

    /// A round trip to the store ended.
    pub fn store_command(&self, operation: &'static str, outcome: &'static str, took: Duration) {
        self.store.get_or_create(&OperationLabels { operation, outcome }).observe(took.as_secs_f64());
    }

    /// Whether the store answers.
    pub fn store_available(&self, yes: bool) {
        self.store_available.set(if yes { 1.0 } else { 0.0 });
    }

    /// Something in the store did not open.
    pub fn store_unopened(&self, kind: &'static str, why: &'static str) {
        self.store_unopened.get_or_create(&UnopenedLabels { kind, why }).inc();
    }

    /// Whether ACS refuses the credential.
    pub fn credential_refused(&self, yes: bool) {
        self.credential_refused.set(i64::from(yes));
    }

    /// Whether ACS refuses the credential, as last said.
    pub fn is_credential_refused(&self) -> bool {
        self.credential_refused.get() != 0
    }

    /// How many cached tokens of other keys than the one in use are left.
    pub fn tokens_of_other_keys(&self, count: u64) {
        self.tokens_of_other_keys.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// A cached token of another key was replaced.
    pub fn token_reissued(&self) {
        self.tokens_reissued.inc();
    }

    /// ACS told the outcome of a message.
    pub fn message(&self, channel: &'static str, state: &'static str) {
        self.messages.get_or_create(&MessageLabels { channel, state }).inc();
    }

    /// A budget was used and so much is left of it.
    pub fn budget(&self, bucket: &'static str, remaining: u32) {
        self.budget_remaining.get_or_create(&BucketLabels { bucket }).set(i64::from(remaining));
    }

    /// A request to the webhook was answered.
    pub fn webhook_request(&self, outcome: &'static str) {
        self.webhook_requests.get_or_create(&OutcomeLabels { outcome }).inc();
    }

    /// Event Grid brought an event.
    pub fn webhook_event(&self, kind: &'static str, outcome: &'static str) {
        self.webhook_events.get_or_create(&EventLabels { kind, outcome }).inc();
    }

    /// Audit records were written; the last has this number.
    pub fn audit_written(&self, records: u64, last: u64) {
        self.audit_records.inc_by(records);
        self.audit_sequence.set(i64::try_from(last).unwrap_or(i64::MAX));
    }

    /// Audit records were lost.
    pub fn audit_lost(&self, records: u64) {
        self.audit_lost.inc_by(records);
    }

    /// Whether audit records can be written.
    pub fn audit_available(&self, yes: bool) {
        self.audit_available.set(i64::from(yes));
    }

    /// Files were read again, or could not be used.
    pub fn reloaded(&self, what: &'static str, well: bool) {
        let outcome = if well { "ok" } else { "failed" };
        self.reloads.get_or_create(&ReloadLabels { what, outcome }).inc();
        self.reload_failed.get_or_create(&WhatLabels { what }).set(i64::from(!well));
    }

    /// Shadow mode let something in that would be refused.
    pub fn shadow_refusal(&self, rpc: &'static str, permission: &'static str) {
        self.shadow_refusals.get_or_create(&ShadowLabels { rpc, permission }).inc();
    }

    /// A bearer token was judged.
    pub fn bearer_token(&self, outcome: &'static str) {
        self.bearer_tokens.get_or_create(&OutcomeLabels { outcome }).inc();
    }

    /// A fetch of an issuer's keys ended.
    pub fn jwks_fetch(&self, outcome: &'static str) {
        self.jwks_fetches.get_or_create(&OutcomeLabels { outcome }).inc();
    }

    /// So many more sources of keys fail.
    pub fn jwks_failing(&self, more: i64) {
        self.jwks_failing.inc_by(more);
    }

    /// So many more sources have no keys.
    pub fn jwks_lacking(&self, more: i64) {
        self.jwks_lacking.inc_by(more);
    }

    /// All metrics in the OpenMetrics text format.
    pub fn render(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counted_things_appear_in_the_text() {
        let metrics = Metrics::new();
        metrics.rpc_started();
        metrics.rpc_finished("acsbroker.v1.TokenService/IssueToken", "OK", Duration::from_millis(3));
        metrics.token_decision("reuse");
        metrics.upstream_call("issue_token", "ok", Duration::from_millis(3));
        let text = metrics.render();
        for line in [
            "rpc_server_call_duration_seconds_count{rpc_system_name=\"grpc\",rpc_method=\"acsbroker.v1.TokenService/IssueToken\",rpc_response_status_code=\"OK\"} 1",
            "acs_broker_token_decisions_total{outcome=\"reuse\"} 1",
            "acs_broker_upstream_call_duration_seconds_count{operation=\"issue_token\",outcome=\"ok\"} 1",
            "acs_broker_rpcs_in_flight 0",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
    }

    #[test]
    fn two_sets_do_not_see_each_other() {
        let (one, two) = (Metrics::new(), Metrics::new());
        one.error("INTERNAL");
        assert!(!two.render().contains("INTERNAL"));
    }

    /// The page is made from what a scrape shows after every metric was touched once.
    fn page() -> String {
        let metrics = Metrics::new();
        metrics.rpc_started();
        metrics.rpc_finished("m", "OK", Duration::ZERO);
        metrics.connection_ended("r");
        metrics.error("r");
        metrics.token_decision("o");
        metrics.surplus_identity("o");
        metrics.upstream_call("o", "o", Duration::ZERO);
        metrics.store_command("o", "o", Duration::ZERO);
        metrics.store_unopened("k", "w");
        metrics.message("c", "s");
        metrics.budget("b", 1);
        metrics.webhook_request("o");
        metrics.webhook_event("k", "o");
        metrics.reloaded("w", true);
        metrics.shadow_refusal("r", "p");
        metrics.bearer_token("o");
        metrics.jwks_fetch("o");
        let text = metrics.render();
        let mut page = String::from(
            "# Metrics\n\n<!-- Generated from src/metrics.rs by a test. Rewrite it with: \
             UPDATE_DOCS=1 cargo test metrics_md -->\n\nServed at `/metrics` of the admin address in the OpenMetrics \
             text format. Counters end in `_total`, histograms in `_bucket`, `_sum` and `_count`.\n\n\
             | metric | kind | labels | meaning |\n|---|---|---|---|\n",
        );
        for help in text.lines().filter_map(|line| line.strip_prefix("# HELP ")) {
            let (name, meaning) = help.split_once(' ').unwrap();
            let kind = text.lines().find_map(|line| line.strip_prefix(&format!("# TYPE {name} "))).unwrap();
            let sample = text.lines().find(|line| line.starts_with(name)).unwrap();
            let labels = sample.split_once('{').map_or("", |(_, rest)| rest.split('}').next().unwrap());
            let labels: Vec<_> = labels
                .split(',')
                .filter_map(|label| label.split_once('='))
                .filter(|(label, _)| *label != "le")
                .map(|(label, _)| format!("`{label}`"))
                .collect();
            page += &format!("| `{name}` | {kind} | {} | {meaning} |\n", labels.join(", "));
        }
        page
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a developer asks a test to rewrite a page")]
    fn metrics_md_is_what_is_measured() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/metrics.md");
        if std::env::var("UPDATE_DOCS").is_ok() {
            std::fs::write(path, page()).unwrap();
        }
        let stored = std::fs::read_to_string(path).unwrap_or_default();
        assert!(stored == page(), "docs/metrics.md is stale: UPDATE_DOCS=1 cargo test metrics_md");
    }
}
