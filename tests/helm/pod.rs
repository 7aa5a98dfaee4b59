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

use crate::chart::{Rendered, template};
use crate::redis_server::free_port;

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
}

impl Pod {
    /// Lays out the volumes of the rendered Deployment. Secrets hold an ACS connection string, a Redis URL and its
    /// password, by what their keys are called.
    pub(crate) fn prepare(rendered: &Rendered, redis_url: &str, redis_password: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let spec = rendered.one("Deployment")["spec"]["template"]["spec"].clone();
        let container = spec["containers"][0].clone();
        let test_container = rendered.one("Pod")["spec"]["containers"][0].clone();
        let mut mounts: Vec<(String, PathBuf)> = Vec::new();
        for mount in container["volumeMounts"].as_array().unwrap() {
            let path = mount["mountPath"].as_str().unwrap();
            let place = folder.path().join(path.trim_start_matches('/'));
            std::fs::create_dir_all(&place).unwrap();
            mounts.push((path.to_owned(), place));
        }
        let pod = Self { folder, container, test_container, mounts, process: None };

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
                let server =
                    rcgen::generate_simple_self_signed(["127.0.0.1".to_owned(), "localhost".to_owned()])
                        .unwrap();
                for item in volume["secret"]["items"].as_array().into_iter().flatten() {
                    let key = item["key"].as_str().unwrap();
                    let content = match volume["name"].as_str().unwrap() {
                        "acs" => connection.clone(),
                        "redis" if key.contains("password") => redis_password.to_owned(),
                        "redis" => redis_url.to_owned(),
                        "tls" if key.ends_with(".key") => server.signing_key.serialize_pem(),
                        "tls" | "client-ca" => server.cert.pem(),
                        "seal" if key.contains("hash") => "b9qvJYTPeRB1tV5ZrQ2mXc8LwHs3NdKf".to_owned(),
                        "seal" => "2026-11:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=".to_owned(),
                        "webhook" => "known to Event Grid alone".to_owned(),
                        other => panic!("nobody knows what the Secret of {other} holds"),
                    };
                    // Editors and `kubectl create secret --from-file` leave a line end behind.
                    files.insert(item["path"].as_str().unwrap().to_owned(), format!("{content}\n"));
                }
                if volume["secret"]["items"].is_null() {
                    let authority = rcgen::generate_simple_self_signed(["redis".to_owned()]).unwrap();
                    files.insert("ca.crt".to_owned(), authority.cert.pem());
                }
            }
            for (name, content) in files {
                std::fs::write(place.join(name), content).unwrap();
            }
        }
        pod
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
        for variable in container["env"].as_array().into_iter().flatten() {
            let value = variable["value"].as_str().expect("the chart renders plain values alone");
            command.env(variable["name"].as_str().unwrap(), self.local(value));
        }
        command
    }

    /// Runs `check-config` on the pod's settings and environment: whether it is content, and what it says.
    pub(crate) fn check_config(&self) -> (bool, String) {
        let mut container = self.container.clone();
        assert_eq!(container["args"][0], "serve");
        container["args"][0] = "check-config".into();
        finished(self.command(&container))
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

    /// Asks the port of the API whether it serves, with these flags; `tls.crt` stands for the pod's own certificate.
    pub(crate) fn healthcheck(&self, scheme: &str, flags: &[&str]) -> (bool, String) {
        let ports = self.container["ports"].as_array().unwrap();
        let port = &ports.iter().find(|port| port["name"] == "grpc").unwrap()["containerPort"];
        let certificate = self.file("/var/run/secrets/acs-broker/tls/tls.crt").display().to_string();
        let mut command = Command::new(env!("CARGO_BIN_EXE_acs-broker"));
        command.env_clear().args(["healthcheck", "--addr", &format!("{scheme}://127.0.0.1:{port}")]);
        command.args(flags.iter().map(|flag| flag.replace("tls.crt", &certificate)));
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
