//! The Helm chart, held to its word: it renders, Kubernetes accepts the result, mistakes are refused, and what it
//! renders runs.
//!
//! A real helm and Kubernetes' own schemas judge it (`make tools` installs both). The last tests start the rendered
//! command line as a process, with the rendered environment and files, and send it the rendered probes.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a panic here is a failed test"
)]

#[path = "support/certificates.rs"]
mod certificates;
#[path = "helm/chart.rs"]
mod chart;
#[path = "helm/pod.rs"]
mod pod;
#[path = "support/redis_server.rs"]
mod redis_server;
#[path = "helm/volume.rs"]
mod volume;

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use chart::{Rendered, project, read_yaml, refusal, render, template, value_sets};
use pod::Pod;
use redis_server::RedisServer;

/// The oldest and the newest Kubernetes the manifests are checked against.
const KUBERNETES: [&str; 2] = ["1.25", "1.37"];

#[test]
fn lint_finds_nothing_in_any_value_set() {
    let sets = value_sets();
    assert!(sets.len() >= 8, "{sets:?}");
    for set in sets {
        let lint = chart::helm(&["lint", "--strict", "helm/acs-broker", "--values", set.to_str().unwrap()]);
        assert!(lint.succeeded, "{}: {}", set.display(), lint.text);
    }
}

#[test]
fn kubernetes_accepts_the_manifests_of_every_value_set() {
    for set in value_sets() {
        for version in KUBERNETES {
            let rendered = render(&set, &["--kube-version", version]);
            let faults: Vec<Value> = rendered
                .objections(version)
                .into_iter()
                // A resource type of the Prometheus operator, not of Kubernetes.
                .filter(|fault| !fault["place"].as_str().unwrap().starts_with("ServiceMonitor/"))
                .collect();
            assert!(faults.is_empty(), "{} on Kubernetes {version}: {faults:#?}", set.display());
        }
    }
}

#[test]
fn the_manifest_check_objects_to_a_planted_fault() {
    let broken = "apiVersion: v1\nkind: Service\nmetadata: {name: x}\nspec: {prots: []}\n---\n\
                  apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: x}\nspec: {replicas: many}\n";
    let faults = Rendered::of(broken).objections("1.37");
    let places: BTreeSet<_> = faults.iter().map(|fault| fault["place"].as_str().unwrap()).collect();
    assert_eq!(places, BTreeSet::from(["Deployment/x", "Service/x"]), "{faults:?}");
}

#[test]
fn a_typo_in_values_is_refused_by_its_name() {
    for typo in [
        "replicaCuont=3",
        "image.tga=1",
        "acs.existingSecrte=x",
        "auth.allowOffLoopbak=true",
        "store.redis.ulr=redis://r",
        "webhook.enable=true",
        "tls.existingSecrte=x",
        "config.mesh.haeder=xfcc",
        "config.messages.retentoin=1d",
        "store.embedded.persistence.sise=1Gi",
        "config.tokens.flor=20m",
        "config.server.maxInFlight=1",
        "config.sever.reflection=true",
        "service.grpcPrt=1",
        "shutdown.drainSecond=1",
        "probes.readyness.service=x",
        "resources.limit.cpu=1",
        "podDisruptionBudget.maxUnavailble=1",
        "autoscaling.minReplica=1",
        "networkPolicy.grpcForm[0].podSelector=x",
        "serviceMonitor.intervall=30s",
        "serviceAccount.nmae=x",
    ] {
        let refusal = refusal(&["--set", typo]);
        let key = typo.split(['=', '[']).next().unwrap().rsplit('.').next().unwrap();
        let named = refusal.contains(&format!("Additional property {key} is not allowed"));
        let section = typo
            .split('.')
            .nth(1)
            .is_some_and(|part| refusal.contains(&format!("Additional property {part} is not allowed")));
        assert!(named || section, "{typo}: {refusal}");
    }
}

#[test]
fn a_value_out_of_range_is_refused_by_its_name() {
    for (wrong, named) in [
        ("auth.mode=none", "auth.mode"),
        ("tls.clientCertificate=maybe", "tls.clientCertificate"),
        ("config.mesh.header=any", "config.mesh.header"),
        ("config.server.max_header_bytes=1", "config.server.max_header_bytes"),
        ("store.backend=postgres", "store.backend"),
        ("store.redis.url=http://redis", "store.redis.url"),
        ("image.digest=sha256:12", "image.digest"),
        ("image.repository=", "image.repository"),
        ("acs.key=../key", "acs.key"),
        ("config.tokens.floor=soon", "config.tokens.floor"),
        ("config.tokens.jitter=1", "config.tokens.jitter"),
        ("config.server.max_in_flight=0", "config.server.max_in_flight"),
        ("config.server.max_in_flight=many", "config.server.max_in_flight"),
        ("config.messages.limits=-1", "config.messages.limits"),
        ("config.redis.prefix=a:b", "config.redis.prefix"),
        ("ports.grpc=80", "ports.grpc"),
        ("shutdown.drainSeconds=1000", "shutdown.drainSeconds"),
        ("podLabels.app\\.kubernetes\\.io/name=x", "podLabels"),
    ] {
        let refusal = refusal(&["--set", wrong]);
        assert!(refusal.contains(&format!("- {named}:")), "{wrong}: {refusal}");
    }
}

#[test]
fn combinations_that_cannot_work_are_refused_with_the_mend() {
    for (set, wrong, said) in [
        ("embedded", "replicaCount=2", "replicaCount: the embedded store belongs to one process"),
        ("embedded", "autoscaling.enabled=true", "autoscaling.enabled to false"),
        ("embedded", "store.embedded.persistence.enabled=false", "every new pod forgets"),
        (
            "redis-url",
            "auth.allowOffLoopback=false",
            "auth.allowOffLoopback: unauthenticated mode lets anybody",
        ),
        ("redis-url", "acs.existingSecret=", "acs.existingSecret: name the Secret"),
        ("redis-url", "store.redis.url=", "store.redis: say where Redis is"),
        ("redis-url", "store.redis.url=redis://u:p@redis", "store.redis.url: holds a password"),
        ("redis-url", "store.redis.passwordKey=p", "store.redis.passwordKey: name the Secret"),
        ("redis-url", "shutdown.terminationGracePeriodSeconds=25", "must be longer than drainSeconds"),
        ("autoscaled", "autoscaling.minReplicas=31", "autoscaling.minReplicas: is more than maxReplicas"),
        ("redis-url", "ports.admin=50051", "ports: grpc and admin must differ"),
        ("policy", "auth.policy=", "auth.policy: mode policy needs one"),
        (
            "policy",
            "auth.existingPolicyConfigMap=x",
            "auth.existingPolicyConfigMap: and auth.policy are both set",
        ),
        ("policy", "auth.allowOffLoopback=false", "auth.shadow: lets in whom the policy would refuse"),
        ("entra", "acs.existingSecret=acs", "acs.entra.endpoint: and acs.existingSecret are both set"),
        ("tls", "tls.existingSecret=", "tls.existingSecret: name the Secret"),
        ("tls", "ports.probe=50051", "ports: probe must differ from grpc and admin"),
        ("webhook", "webhook.existingSecret=", "webhook.existingSecret: name the Secret"),
        ("webhook-entra", "webhook.entra.tenant=", "webhook.existingSecret: name the Secret"),
        ("webhook-entra", "webhook.entra.audience=", "webhook.entra.audience: name the application"),
        ("webhook", "ports.webhook=8081", "ports: webhook must differ from grpc and admin"),
    ] {
        let values = format!("tests/helm/values/{set}.yaml");
        let refusal = refusal(&["--values", &values, "--set", wrong]);
        assert!(refusal.contains(said), "{set} with {wrong}: {refusal}");
        assert!(!refusal.contains("u:p@"), "a refusal must not repeat a password: {refusal}");
    }
}

#[test]
fn values_that_say_nothing_are_told_all_that_is_missing_at_once() {
    let refusal = refusal(&[]);
    for missing in ["acs.existingSecret", "auth.allowOffLoopback", "store.redis"] {
        assert!(refusal.contains(&format!("- {missing}:")), "{missing}: {refusal}");
    }
}

#[test]
fn no_pod_runs_with_more_rights_than_it_needs() {
    for set in value_sets() {
        let rendered = render(&set, &[]);
        let deployment = rendered.one("Deployment")["spec"]["template"]["spec"].clone();
        let test = rendered.one("Pod")["spec"].clone();
        for pod in [deployment, test] {
            assert_eq!(pod["automountServiceAccountToken"], json!(false));
            assert_eq!(pod["securityContext"]["runAsNonRoot"], json!(true));
            assert!(pod["securityContext"]["runAsUser"].as_u64().unwrap() > 0);
            assert_eq!(pod["securityContext"]["seccompProfile"]["type"], json!("RuntimeDefault"));
            let container = &pod["containers"][0]["securityContext"];
            assert_eq!(container["readOnlyRootFilesystem"], json!(true));
            assert_eq!(container["allowPrivilegeEscalation"], json!(false));
            assert_eq!(container["capabilities"]["drop"], json!(["ALL"]));
        }
    }
}

#[test]
fn secrets_reach_the_pod_as_files_alone() {
    for set in value_sets() {
        let rendered = render(&set, &[]);
        assert!(rendered.all("Secret").is_empty(), "the chart makes no Secret");
        let container = rendered.one("Deployment")["spec"]["template"]["spec"]["containers"][0].clone();
        assert!(!container["env"].to_string().contains("secretKeyRef"), "{}", set.display());
        for mount in container["volumeMounts"].as_array().unwrap() {
            assert!(mount.get("subPath").is_none(), "a file mounted by subPath never sees a rotated secret");
        }
    }
}

#[test]
fn a_pod_has_time_to_drain_before_it_is_killed() {
    for set in value_sets() {
        let rendered = render(&set, &["--kube-version", "1.37"]);
        let pod = rendered.one("Deployment")["spec"]["template"]["spec"].clone();
        let settings: toml::Table = rendered.settings().parse().unwrap();
        let drain = humantime::parse_duration(settings["server"]["drain_timeout"].as_str().unwrap()).unwrap();
        let stop = pod["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"].as_u64().unwrap();
        let grace = pod["terminationGracePeriodSeconds"].as_u64().unwrap();
        assert!(grace > drain.as_secs() + stop, "{}: {grace} s", set.display());
    }
}

#[test]
fn the_embedded_store_has_one_pod_and_keeps_its_volume() {
    let rendered = render(Path::new("tests/helm/values/embedded.yaml"), &[]);
    assert_eq!(rendered.one("Deployment")["spec"]["replicas"], json!(1));
    assert_eq!(rendered.one("Deployment")["spec"]["strategy"]["type"], json!("Recreate"));
    let claim = rendered.one("PersistentVolumeClaim").clone();
    assert_eq!(claim["metadata"]["annotations"]["helm.sh/resource-policy"], json!("keep"));
    let rendered = render(Path::new("tests/helm/values/embedded-claim.yaml"), &[]);
    assert!(rendered.all("PersistentVolumeClaim").is_empty(), "an existing claim is used, not made");
    let text = rendered.one("Deployment").to_string();
    assert!(text.contains("\"claimName\":\"broker-data\""), "{text}");
}

#[test]
fn a_network_policy_without_peers_lets_nobody_in() {
    let values = "tests/helm/values/redis-url.yaml";
    let rendered = template(&["--values", values, "--set", "networkPolicy.enabled=true"]).unwrap();
    let rules = rendered.one("NetworkPolicy")["spec"]["ingress"].clone();
    assert_eq!(rules.as_array().unwrap().len(), 1, "only the test pod: {rules}");
    for rule in rules.as_array().unwrap() {
        assert!(!rule["from"].as_array().unwrap().is_empty(), "an empty `from` lets everybody in: {rule}");
    }
    let rendered = render(Path::new("tests/helm/values/locked-down.yaml"), &[]);
    assert_eq!(rendered.one("NetworkPolicy")["spec"]["ingress"].as_array().unwrap().len(), 3);
}

#[test]
fn chart_and_crate_have_the_same_version() {
    let chart = &read_yaml("helm/acs-broker/Chart.yaml")[0];
    assert_eq!(chart["appVersion"], json!(env!("CARGO_PKG_VERSION")));
}

#[test]
fn the_schema_is_closed_and_every_value_explained() {
    let schema: Value = serde_json::from_str(&project("helm/acs-broker/values.schema.json")).unwrap();
    let values = &read_yaml("helm/acs-broker/values.yaml")[0];
    chart::closed_and_present(&schema, Some(values), "");
    let text = project("helm/acs-broker/values.yaml");
    let silent = chart::unexplained(&text);
    assert!(silent.is_empty(), "values without a comment: {silent:?}");
    assert_eq!(
        chart::unexplained("# Said.\na: 1\nb:\n  c: 2\n"),
        ["b.c"],
        "and the check sees one that is missing"
    );
}

#[test]
fn what_is_said_of_each_section_of_config_names_all_its_settings() {
    let schema: Value = serde_json::from_str(&project("helm/acs-broker/values.schema.json")).unwrap();
    let text = project("helm/acs-broker/values.yaml");
    for (section, keys) in schema["properties"]["config"]["properties"].as_object().unwrap() {
        let (before, _) = text.split_once(&format!("\n  {section}: {{}}\n")).unwrap();
        let comment: Vec<_> = before.lines().rev().take_while(|line| line.starts_with("  #")).collect();
        let named: BTreeSet<_> = comment.iter().flat_map(|line| line.split([' ', ',', ';', ':'])).collect();
        for key in keys["properties"].as_object().unwrap().keys() {
            assert!(named.contains(key.as_str()), "config.{section}: nothing is said of {key}");
        }
    }
}

/// What the chart decides itself, so that `config` does not offer it.
const DECIDED_BY_THE_CHART: &[&str] = &[
    "acs.connection_string",
    "acs.connection_string_file",
    "acs.credential",
    "acs.endpoint",
    "acs.entra.authority",
    "acs.entra.client_id",
    "acs.entra.client_secret",
    "acs.entra.client_secret_file",
    "acs.entra.federated_token",
    "acs.entra.kind",
    "acs.entra.metadata",
    "acs.entra.tenant_id",
    "acs.secondary_connection_string",
    "acs.secondary_connection_string_file",
    "admin.address",
    "audit.key",
    "auth.allow_off_loopback",
    "auth.mode",
    "auth.policy_file",
    "auth.shadow",
    "server.address",
    "server.drain_timeout",
    "server.probe_address",
    "server.tls.cert_file",
    "server.tls.client_ca_file",
    "server.tls.client_certificate",
    "server.tls.key_file",
    "store.backend",
    "store.embedded.path",
    "store.redis.password",
    "store.redis.password_file",
    "store.redis.url",
    "store.redis.url_file",
    "store.seal.hash_key",
    "store.seal.hash_key_file",
    "store.seal.keys_file",
    "webhook.address",
    "webhook.entra_app",
    "webhook.entra_audience",
    "webhook.entra_authority",
    "webhook.entra_tenant",
    "webhook.secret",
    "webhook.secret_file",
];

#[test]
fn the_chart_offers_every_setting_of_the_broker() {
    let defaults: toml::Table = project("config/default.toml").parse().unwrap();
    // The chart runs no emulator.
    let is_for_pods = |key: &String| !key.starts_with("emulator.");
    let settings: BTreeSet<String> = chart::leaves(&defaults).into_iter().filter(is_for_pods).collect();
    let schema: Value = serde_json::from_str(&project("helm/acs-broker/values.schema.json")).unwrap();
    let sections = schema["properties"]["config"]["properties"].as_object().unwrap();
    let mut offered: BTreeSet<String> = DECIDED_BY_THE_CHART.iter().map(|&name| name.to_owned()).collect();
    for (section, keys) in sections {
        let section = match section.as_str() {
            "redis" => "store.redis",
            "mesh" => "auth.mesh",
            "seal" => "store.seal",
            "sms" => "messages.sms",
            "email" => "messages.email",
            section => section,
        };
        offered.extend(keys["properties"].as_object().unwrap().keys().map(|key| format!("{section}.{key}")));
    }
    let missing: Vec<_> = settings.difference(&offered).collect();
    let unknown: Vec<_> = offered.difference(&settings).collect();
    assert!(missing.is_empty(), "settings the chart does not offer (values.schema.json): {missing:?}");
    assert!(unknown.is_empty(), "the chart offers what is no setting: {unknown:?}");
}

#[test]
fn check_config_accepts_the_settings_of_every_value_set() {
    for set in value_sets() {
        let rendered = render(&set, &[]);
        let pod = Pod::prepare(&rendered, "redis://127.0.0.1:1/0", "unused");
        let (accepted, text) = pod.check_config();
        assert!(accepted, "{}: {text}", set.display());
        assert!(text.contains("0.0.0.0:50051"), "it read the rendered file: {text}");
        assert!(!text.contains(pod::ACCESS_KEY), "check-config shows a secret: {text}");
    }
}

#[tokio::test]
async fn the_rendered_process_answers_its_own_probes_on_redis() {
    let redis = RedisServer::start();
    let url = format!("store.redis.url={}", redis.url());
    let values = ["--values", "tests/helm/values/redis-url.yaml", "--set", &url];
    let mut pod = Pod::start(&values, "unused", "unused").await;
    pod.passes("startupProbe").await;
    pod.passes("readinessProbe").await;
    pod.passes("livenessProbe").await;
    let test = pod.helm_test();
    assert!(test.0, "helm test fails: {}", test.1);
    pod.stops_when_told().await;
}

#[tokio::test]
async fn the_rendered_process_answers_its_own_probes_with_secrets_from_files() {
    let redis = RedisServer::start_with(&["--requirepass", "a password from a file"]);
    let values =
        ["--values", "tests/helm/values/redis-secret.yaml", "--set", "config.redis.username=default"];
    let mut pod = Pod::start(&values, &redis.url(), "a password from a file").await;
    for probe in ["startupProbe", "readinessProbe", "livenessProbe"] {
        pod.passes(probe).await;
    }
    pod.stops_when_told().await;
}

#[tokio::test]
async fn the_rendered_process_answers_its_own_probes_on_the_embedded_store() {
    let values = ["--values", "tests/helm/values/embedded.yaml"];
    let mut pod = Pod::start(&values, "unused", "unused").await;
    for probe in ["startupProbe", "readinessProbe", "livenessProbe"] {
        pod.passes(probe).await;
    }
    assert!(pod.file("/var/lib/acs-broker/acs-broker.redb").exists(), "the mapping is on the volume");
    pod.stops_when_told().await;
}

#[tokio::test]
async fn the_rendered_process_speaks_tls_to_callers_and_plain_text_to_probes_alone() {
    let redis = RedisServer::start();
    let url = format!("store.redis.url={}", redis.url());
    let values = ["--values", "tests/helm/values/tls.yaml", "--set", &url];
    let mut pod = Pod::start(&values, "unused", "unused").await;
    for probe in ["startupProbe", "readinessProbe", "livenessProbe"] {
        pod.passes(probe).await;
    }
    let test = pod.helm_test();
    assert!(test.0, "helm test fails: {}", test.1);
    let (plain, over_tls) = (pod.healthcheck("http", &[]), pod.healthcheck("https", &["--ca", "ca.pem"]));
    assert!(!plain.0, "the API answers in plain text: {}", plain.1);
    assert!(over_tls.0, "{}", over_tls.1);
    pod.stops_when_told().await;
}

#[tokio::test]
async fn the_rendered_process_takes_events_of_those_who_know_the_secret() {
    let redis = RedisServer::start();
    let url = format!("store.redis.url={}", redis.url());
    let values = ["--values", "tests/helm/values/webhook.yaml", "--set", &url];
    let mut pod = Pod::start(&values, "unused", "unused").await;
    pod.passes("readinessProbe").await;
    let without = pod.posts("").await;
    assert!(without.starts_with("HTTP/1.1 401"), "{without}");
    let with = pod.posts("known to Event Grid alone").await;
    assert!(with.starts_with("HTTP/1.1 200"), "{with}");
    pod.stops_when_told().await;
}

#[tokio::test]
async fn the_rendered_process_with_every_lock_on_serves_and_writes_its_audit_alone() {
    let redis = RedisServer::start();
    let url = format!("store.redis.url={}", redis.url());
    let values = ["--values", "tests/helm/values/hardened.yaml", "--set", &url];
    let mut pod = Pod::start(&values, "unused", "unused").await;
    for probe in ["startupProbe", "readinessProbe", "livenessProbe"] {
        pod.passes(probe).await;
    }
    let test = pod.helm_test();
    assert!(test.0, "helm test fails: {}", test.1);
    let stranger = pod.healthcheck("https", &["--ca", "ca.pem"]);
    assert!(!stranger.0, "nobody connects without a certificate: {}", stranger.1);
    assert!(stranger.1.contains("(--cert, --key)"), "and is told what to look at: {}", stranger.1);
    let caller = pod.healthcheck("https", &["--ca", "ca.pem", "--cert", "caller.crt", "--key", "caller.key"]);
    assert!(caller.0, "{}", caller.1);
    pod.stops_when_told().await;
    assert_eq!(pod.wrote(), ["/var/log/acs-broker/release-acs-broker-5d4f8-x2x9z.log"]);
}

#[tokio::test]
async fn what_kubelet_brings_is_followed_by_the_running_process() {
    let redis = RedisServer::start();
    let url = format!("store.redis.url={}", redis.url());
    let values = ["--values", "tests/helm/values/hardened.yaml", "--set", &url];
    let mut pod = Pod::start(&values, "unused", "unused").await;
    pod.passes("readinessProbe").await;
    let secrets = "/var/run/secrets/acs-broker";
    let policy = "/etc/acs-broker-policy/policy.toml";
    let good = pod.holds(policy);
    pod.follows("policy", policy, &good.replace("shop:", "crm:")).await;
    pod.refuses("policy", policy, "[[callers]]").await;
    pod.follows("policy", policy, &good).await;

    let keys = format!("{secrets}/seal/seal-keys");
    let before = pod.holds(&keys);
    pod.follows("seal_keys", &keys, &format!("2026-12:{}=\n{before}", "B".repeat(42) + "A")).await;
    pod.refuses("seal_keys", &keys, "").await;

    let first = pod.holds(&format!("{secrets}/acs/connection-string"));
    let second = format!("{secrets}/acs/secondary-connection-string");
    pod.follows("acs_keys", &second, &first.replace("accesskey=", "accesskey=AAAA")).await;
    pod.refuses("acs_keys", &second, &first.replace("shop.", "another.")).await;

    let caller = ["--ca", "ca.pem", "--cert", "caller.crt", "--key", "caller.key"];
    assert!(pod.healthcheck("https", &caller).0);
    let another = certificates::Authority::new("another").pem;
    pod.follows("tls", &format!("{secrets}/client-ca/ca.crt"), &another).await;
    let late = pod.healthcheck("https", &caller);
    assert!(!late.0, "its authority is no longer trusted: {}", late.1);
    pod.stops_when_told().await;
}

#[test]
fn commands_inside_a_pod_look_at_the_settings_of_the_pod() {
    let rendered = render(Path::new("tests/helm/values/hardened.yaml"), &[]);
    let pod = Pod::prepare(&rendered, "unused", "unused");
    let (accepted, text) = pod.exec(&["check-config"]);
    assert!(accepted, "{text}");
    for line in
        ["backend = \"redis\"  # file ", "mode = \"policy\"  # file ", "address = \"0.0.0.0:8081\"  # file "]
    {
        assert!(text.contains(line), "{line}: {text}");
    }
}

#[test]
fn a_workload_of_entra_is_one_to_aks() {
    let rendered = render(Path::new("tests/helm/values/entra-workload.yaml"), &[]);
    let pod = rendered.one("Deployment")["spec"]["template"].clone();
    assert_eq!(pod["metadata"]["labels"]["azure.workload.identity/use"], json!("true"));
    let account = rendered.one("ServiceAccount");
    assert_eq!(account["metadata"]["name"], pod["spec"]["serviceAccountName"]);
    assert!(account["metadata"]["annotations"]["azure.workload.identity/client-id"].is_string(), "{account}");
    let managed = render(Path::new("tests/helm/values/entra.yaml"), &[]);
    let labels = managed.one("Deployment")["spec"]["template"]["metadata"]["labels"].clone();
    assert!(labels.get("azure.workload.identity/use").is_none(), "{labels}");
}

#[test]
fn a_change_of_the_policy_reaches_running_pods_and_restarts_none() {
    let values = ["--values", "tests/helm/values/policy.yaml"];
    let before = template(&values).unwrap();
    let after = template(&[&values[..], &["--set", "auth.policy=# nobody"]].concat()).unwrap();
    assert_ne!(before.file("policy.toml"), after.file("policy.toml"));
    assert_eq!(before.one("Deployment"), after.one("Deployment"));
    let own = ["--set", "auth.policy=,auth.existingPolicyConfigMap=ours"];
    let own = template(&[&values[..], &own].concat()).unwrap();
    assert!(own.file("policy.toml").is_none(), "an existing one is used, not made");
    assert!(own.one("Deployment").to_string().contains("\"name\":\"ours\""));
}

#[tokio::test]
async fn the_rendered_process_serves_with_its_policy() {
    let redis = RedisServer::start();
    let url = format!("store.redis.url={}", redis.url());
    let values = ["--values", "tests/helm/values/policy.yaml", "--set", &url];
    let mut pod = Pod::start(&values, "unused", "unused").await;
    for probe in ["startupProbe", "readinessProbe", "livenessProbe"] {
        pod.passes(probe).await;
    }
    pod.stops_when_told().await;
}

#[tokio::test]
async fn a_lost_redis_takes_a_pod_out_of_service_and_restarts_nothing() {
    let redis = RedisServer::start();
    let url = format!("store.redis.url={}", redis.url());
    let values = ["--values", "tests/helm/values/redis-url.yaml", "--set", &url];
    let mut pod = Pod::start(&values, "unused", "unused").await;
    pod.passes("readinessProbe").await;
    drop(redis);
    pod.fails("readinessProbe", Duration::from_secs(20)).await;
    pod.passes("livenessProbe").await;
    pod.stops_when_told().await;
}
