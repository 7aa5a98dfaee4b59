//! Plays kubelet for one rendered pod: lays out its volumes, starts its command with its environment, probes it.
//!
//! Volumes become folders under a temporary one, and the mount paths in arguments, environment and settings are
//! rewritten to them; nothing else of what the chart renders is changed. Used by the Helm tests alone.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;
use tonic::transport::Endpoint;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::certificates::Authority;
use crate::chart::{Rendered, template};
use crate::redis_server::free_port;
use crate::volume;

/// The access key of the connection string that pods get: what must never be shown.
pub(crate) const ACCESS_KEY: &str = "bm90LWEtcmVhbC1rZXktYnV0LWJhc2U2NA==";

/// How long a probe may go on failing before the test does.
const PATIENCE: Duration = Duration::from_secs(30);

/// One pod: its folder, what it runs, and the process once it runs.
pub(crate) struct Pod {
    folder: TempDir,
    container: Value,
    test_container: Value,
    /// Mount paths and the folders they stand for.
    mounts: Vec<(String, PathBuf)>,
    process: Option<Child>,
    /// Whether AKS makes an identity of Entra of it.
    is_workload: bool,
}

/// What the tests know a pod by, and kubelet would tell it.
const POD_NAME: &str = "release-acs-broker-5d4f8-x2x9z";

/// Who may call by the policy of the value sets.
const CALLER: &str = "spiffe://corp.example/ns/shop/sa/orders";

impl Pod {
    /// Lays out the volumes of the rendered Deployment. Secrets hold an ACS connection string, a Redis URL and its
    /// password, by what their keys are called. One authority issues the pod's certificate and that of a caller; all
    /// three lie in the pod's folder as `ca.pem`, `caller.crt` and `caller.key`.
    pub(crate) fn prepare(rendered: &Rendered, redis_url: &str, redis_password: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let template = &rendered.one("Deployment")["spec"]["template"];
        let is_workload = template["metadata"]["labels"]["azure.workload.identity/use"] == "true";
        let spec = template["spec"].clone();
        let container = spec["containers"][0].clone();
        let test_container = rendered.one("Pod")["spec"]["containers"][0].clone();
        let mut mounts: Vec<(String, PathBuf)> = Vec::new();
        for mount in container["volumeMounts"].as_array().unwrap() {
            let path = mount["mountPath"].as_str().unwrap();
            let place = folder.path().join(path.trim_start_matches('/'));
            std::fs::create_dir_all(&place).unwrap();
            mounts.push((path.to_owned(), place));
        }
        let pod = Self { folder, container, test_container, mounts, process: None, is_workload };

        let authority = Authority::new("corp");
        let (server, caller) = (authority.server(), authority.client(CALLER));
        for (name, text) in
            [("ca.pem", &authority.pem), ("caller.crt", &caller.cert), ("caller.key", &caller.key)]
        {
            std::fs::write(pod.folder.path().join(name), text).unwrap();
        }
        let connection = format!("endpoint=https://shop.communication.azure.com/;accesskey={ACCESS_KEY}");
        for volume in spec["volumes"].as_array().unwrap() {
            let mounts = pod.container["volumeMounts"].as_array().unwrap();
            let mount = mounts.iter().find(|mount| mount["name"] == volume["name"]).unwrap();
            let place = pod.file(mount["mountPath"].as_str().unwrap());
            let mut files = BTreeMap::new();
            if volume["configMap"].is_object() {
                let name = if volume["name"] == "policy" { "policy.toml" } else { "config.toml" };
                files.insert(name.to_owned(), pod.local(&rendered.file(name).unwrap()));
            } else if volume["secret"].is_object() {
                for item in volume["secret"]["items"].as_array().into_iter().flatten() {
                    let key = item["key"].as_str().unwrap();
                    let content = match volume["name"].as_str().unwrap() {
                        "acs" => connection.clone(),
                        "redis" if key.contains("password") => redis_password.to_owned(),
                        "redis" => redis_url.to_owned(),
                        "tls" if key.ends_with(".key") => server.key.clone(),
                        "tls" => server.cert.clone(),
                        "client-ca" => authority.pem.clone(),
                        "seal" if key.contains("hash") => "b9qvJYTPeRB1tV5ZrQ2mXc8LwHs3NdKf".to_owned(),
                        "seal" => "2026-11:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=".to_owned(),
                        "webhook" => "known to Event Grid alone".to_owned(),
                        other => panic!("nobody knows what the Secret of {other} holds"),
                    };
                    // Editors and `kubectl create secret --from-file` leave a line end behind.
                    files.insert(item["path"].as_str().unwrap().to_owned(), format!("{content}\n"));
                }
                if volume["name"] == "audit-key" {
                    files.insert("audit-key".to_owned(), "a key of at least thirty-two bytes".to_owned());
                } else if volume["secret"]["items"].is_null() {
                    files.insert("ca.crt".to_owned(), authority.pem.clone());
                }
            } else if volume["projected"].is_object() {
                files.insert("ca.crt".to_owned(), authority.pem.clone());
                files.insert("token".to_owned(), "a token for the API server".to_owned());
            }
            if !files.is_empty() {
                volume::bring(&place, &files);
            }
        }
        pod
    }

    /// Brings another content of a file, as kubelet does when its Secret or ConfigMap has changed, and waits until the
    /// process goes by it.
    pub(crate) async fn follows(&self, what: &str, path: &str, content: &str) {
        let read = format!("acs_broker_reloads_total{{what=\"{what}\",outcome=\"ok\"}}");
        self.brings(&read, path, content).await;
        let failed = self.metric(&format!("acs_broker_reload_failed{{what=\"{what}\"}}")).await;
        assert_eq!(failed.as_deref(), Some("0"), "{what}");
    }

    /// Brings a content that cannot be used, and waits until the process has said so.
    pub(crate) async fn refuses(&self, what: &str, path: &str, content: &str) {
        let refused = format!("acs_broker_reloads_total{{what=\"{what}\",outcome=\"failed\"}}");
        self.brings(&refused, path, content).await;
        let failed = self.metric(&format!("acs_broker_reload_failed{{what=\"{what}\"}}")).await;
        assert_eq!(failed.as_deref(), Some("1"), "{what}");
    }

    async fn brings(&self, counted: &str, path: &str, content: &str) {
        let before = self.metric(counted).await;
        let path = self.file(path);
        let (place, name) = (path.parent().unwrap(), path.file_name().unwrap().to_str().unwrap());
        let mut files = volume::files(place);
        files.insert(name.to_owned(), content.to_owned()).expect("the volume has such a file");
        volume::bring(place, &files);
        let start = Instant::now();
        while self.metric(counted).await == before {
            assert!(start.elapsed() < PATIENCE, "{counted} stays {before:?}: {}", self.log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// The text of a file of the pod.
    pub(crate) fn holds(&self, path: &str) -> String {
        std::fs::read_to_string(self.file(path)).unwrap()
    }

    /// Every file that the pod did not have from the beginning, but for its own log.
    pub(crate) fn wrote(&self) -> Vec<String> {
        let (mut folders, mut found) = (vec![self.folder.path().to_owned()], Vec::new());
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
                let path = format!("/{}", entry.path().strip_prefix(self.folder.path()).unwrap().display());
                let kind = entry.file_type().unwrap();
                let is_given = path.contains("/..")
                    || ["/ca.pem", "/caller.crt", "/caller.key", "/log"].contains(&&*path);
                if kind.is_dir() && !is_given {
                    folders.push(entry.path());
                } else if kind.is_file() && !is_given {
                    found.push(path);
                }
            }
        }
        found
    }

    /// The value of a metric, by its name and labels.
    pub(crate) async fn metric(&self, name: &str) -> Option<String> {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let ports = self.container["ports"].as_array().unwrap();
        let port = &ports.iter().find(|port| port["name"] == "admin").unwrap()["containerPort"];
        let text = reqwest::get(format!("http://127.0.0.1:{port}/metrics")).await.ok()?.text().await.ok()?;
        text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ').map(str::to_owned))
    }

    /// Renders the chart on free ports and starts the pod's process. A port that somebody else took meanwhile is
    /// tried again with others.
    pub(crate) async fn start(values: &[&str], redis_url: &str, redis_password: &str) -> Self {
        for _ in 0..5 {
            let (grpc, admin, webhook, probe) = (free_port(), free_port(), free_port(), free_port());
            let ports =
                format!("ports.grpc={grpc},ports.admin={admin},ports.webhook={webhook},ports.probe={probe}");
            let rendered = template(&[values, &["--set", &ports]].concat()).unwrap();
            let mut pod = Self::prepare(&rendered, redis_url, redis_password);
            let log = std::fs::File::create(pod.folder.path().join("log")).unwrap();
            let mut command = pod.command(&pod.container);
            command.stdout(log.try_clone().unwrap()).stderr(log);
            pod.process = Some(command.spawn().unwrap());
            if pod.begins().await {
                return pod;
            }
        }
        panic!("the rendered process ends as soon as it starts");
    }

    /// Waits until the gRPC port is open; false if the process ended because its port was taken.
    async fn begins(&mut self) -> bool {
        let start = Instant::now();
        loop {
            if let Some(status) = self.process.as_mut().unwrap().try_wait().unwrap() {
                let log = self.log();
                assert!(log.contains("in use"), "the rendered process ended with {status}: {log}");
                return false;
            }
            let port = self.container["startupProbe"]["grpc"]["port"].as_u64().unwrap();
            if tokio::net::TcpStream::connect(("127.0.0.1", u16::try_from(port).unwrap())).await.is_ok() {
                return true;
            }
            assert!(start.elapsed() < PATIENCE, "the rendered process does not listen: {}", self.log());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Posts no events at all to the pod's webhook, with a secret; the answer.
    pub(crate) async fn posts(&self, secret: &str) -> String {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let ports = self.container["ports"].as_array().unwrap();
        let port = ports.iter().find(|port| port["name"] == "webhook").unwrap();
        let port = u16::try_from(port["containerPort"].as_u64().unwrap()).unwrap();
        let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let request = format!(
            "POST /events HTTP/1.1\r\nhost: broker\r\nx-acs-broker-webhook-secret: {secret}\r\n\
             content-type: application/json\r\ncontent-length: 2\r\n\r\n[]"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    /// The place of a file of the pod on this machine.
    pub(crate) fn file(&self, path: &str) -> PathBuf {
        self.folder.path().join(path.trim_start_matches('/'))
    }

    /// A text of the pod with its mount paths rewritten to where they are here.
    fn local(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (path, place) in &self.mounts {
            text = text.replace(&format!("{path}/"), &format!("{}/", place.display()));
        }
        text
    }

    /// The container's command with the environment it would have, and no other.
    fn command(&self, container: &Value) -> Command {
        assert_eq!(container["command"], serde_json::json!(["acs-broker"]), "the binary of the image");
        let mut command = Command::new(env!("CARGO_BIN_EXE_acs-broker"));
        command.env_clear().stdin(Stdio::null()).current_dir(self.folder.path());
        for argument in container["args"].as_array().unwrap() {
            command.arg(self.local(argument.as_str().unwrap()));
        }
        let mut known: Vec<(String, String)> = Vec::new();
        for variable in container["env"].as_array().into_iter().flatten() {
            let name = variable["name"].as_str().unwrap();
            let value = match variable["valueFrom"]["fieldRef"]["fieldPath"].as_str() {
                Some("metadata.name") => POD_NAME.to_owned(),
                _ => {
                    let value = variable["value"].as_str().expect("the chart renders plain values alone");
                    known.iter().fold(value.to_owned(), |value, (name, known)| value.replace(name, known))
                }
            };
            command.env(name, self.local(&value));
            known.push((format!("$({name})"), value));
        }
        if self.is_workload {
            // What the admission webhook of AKS puts into pods with that label.
            let token = self.folder.path().join("azure-identity-token");
            std::fs::write(&token, "a token").unwrap();
            command.env("AZURE_CLIENT_ID", "00000000-0000-4000-8000-000000000001");
            command.env("AZURE_TENANT_ID", "00000000-0000-4000-8000-000000000002");
            command.env("AZURE_AUTHORITY_HOST", "https://login.microsoftonline.com/");
            command.env("AZURE_FEDERATED_TOKEN_FILE", token);
        }
        command
    }

    /// Runs another command in the pod, with nothing but its environment.
    pub(crate) fn exec(&self, arguments: &[&str]) -> (bool, String) {
        let mut container = self.container.clone();
        container["args"] = arguments.into();
        finished(self.command(&container))
    }

    /// Runs `check-config` on the pod's settings and environment: whether it is content, and what it says.
    pub(crate) fn check_config(&self) -> (bool, String) {
        self.exec(&["check-config"])
    }

    /// Runs what `helm test` would, with the Service's name standing for this machine.
    pub(crate) fn helm_test(&self) -> (bool, String) {
        let mut container = self.test_container.clone();
        let port = &self.container["startupProbe"]["grpc"]["port"];
        for argument in container["args"].as_array_mut().unwrap() {
            if argument.as_str().unwrap().contains(':') {
                *argument = format!("127.0.0.1:{port}").into();
            }
        }
        finished(self.command(&container))
    }

    /// Asks the port of the API whether it serves, with these flags; `ca.pem`, `caller.crt` and `caller.key` are files of
    /// the pod's folder.
    pub(crate) fn healthcheck(&self, scheme: &str, flags: &[&str]) -> (bool, String) {
        let ports = self.container["ports"].as_array().unwrap();
        let port = &ports.iter().find(|port| port["name"] == "grpc").unwrap()["containerPort"];
        let mut command = Command::new(env!("CARGO_BIN_EXE_acs-broker"));
        command.env_clear().args(["healthcheck", "--addr", &format!("{scheme}://127.0.0.1:{port}")]);
        command.current_dir(self.folder.path()).args(flags);
        finished(command)
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// One rendered probe, as kubelet sends it.
    async fn probe(&self, name: &str) -> Result<(), String> {
        let probe = &self.container[name];
        let service = probe["grpc"]["service"].as_str().unwrap().to_owned();
        let within = Duration::from_secs(probe["timeoutSeconds"].as_u64().unwrap());
        let endpoint = Endpoint::from_shared(format!("http://127.0.0.1:{}", probe["grpc"]["port"])).unwrap();
        let call = async {
            let channel = endpoint.connect().await.map_err(|error| format!("{error:?}"))?;
            let request = HealthCheckRequest { service };
            let answer =
                HealthClient::new(channel).check(request).await.map_err(|status| format!("{status:?}"))?;
            match answer.into_inner().status() {
                ServingStatus::Serving => Ok(()),
                other => Err(other.as_str_name().to_owned()),
            }
        };
        tokio::time::timeout(within, call).await.unwrap_or_else(|_| Err("no answer in time".to_owned()))
    }

    /// Waits until a probe passes.
    pub(crate) async fn passes(&self, name: &str) {
        let start = Instant::now();
        while let Err(why) = self.probe(name).await {
            assert!(start.elapsed() < PATIENCE, "{name} fails: {why}\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until a probe fails.
    pub(crate) async fn fails(&self, name: &str, within: Duration) {
        let start = Instant::now();
        while self.probe(name).await.is_ok() {
            assert!(start.elapsed() < within, "{name} still passes\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Sends SIGTERM and waits for a clean end within the time Kubernetes would give it.
    pub(crate) async fn stops_when_told(&mut self) {
        let process = self.process.as_mut().unwrap();
        assert!(Command::new("kill").args(["-TERM", &process.id().to_string()]).status().unwrap().success());
        let start = Instant::now();
        let status = loop {
            if let Some(status) = process.try_wait().unwrap() {
                break status;
            }
            assert!(start.elapsed() < PATIENCE, "the process does not stop");
            tokio::time::sleep(Duration::from_millis(10)).await;
        };
        let log = self.log();
        assert!(status.success(), "the process ended with {status}: {log}");
        assert!(!log.contains(ACCESS_KEY), "the access key is in the log");
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

fn finished(mut command: Command) -> (bool, String) {
    let run = command.output().unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    (run.status.success(), text)
}
