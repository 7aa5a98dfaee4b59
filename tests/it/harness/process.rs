//! The real binary as a process: brokers and an emulator, killed when dropped.
//!
//! The environment of a process is empty but for what the test gives it. Logs go to a file that the test can read.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use acs_broker::grpc::proto::v1;
use serde_json::Value;
use tempfile::TempDir;
use tonic::transport::{Channel, Endpoint};
use v1::chat_service_client::ChatServiceClient;
use v1::email_service_client::EmailServiceClient;
use v1::event_service_client::EventServiceClient;
use v1::identity_service_client::IdentityServiceClient;
use v1::sms_service_client::SmsServiceClient;
use v1::token_service_client::TokenServiceClient;

use super::until;
use crate::emulator_control::Control;
use crate::redis_server::free_port;

fn binary() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_acs-broker"));
    command.env_clear().stdin(Stdio::null()).stdout(Stdio::null());
    command
}

/// A process that is killed, by its id, when this is dropped.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// An emulator process.
pub(crate) struct Emulator {
    _process: Killed,
    folder: TempDir,
    address: String,
    /// How brokers reach it.
    pub(crate) connection_string: String,
    /// How SDKs reach it, who send tokens over HTTPS only, and the CA that they must trust.
    pub(crate) connection_string_tls: String,
    pub(crate) ca_file: PathBuf,
}

/// Starts the emulator and waits until it serves. It logs everything.
pub(crate) async fn emulator_process() -> Emulator {
    emulator_with(&[("TELEMETRY__FILTER", "trace")]).await
}

/// Starts the emulator with these settings and waits until it serves.
pub(crate) async fn emulator_with(settings: &[(&str, &str)]) -> Emulator {
    let folder = TempDir::new().unwrap();
    let ready = folder.path().join("ready.json");
    let mut command = binary();
    command.args(["emulator", "--emulator-addr", "127.0.0.1:0", "--emulator-tls-addr", "127.0.0.1:0"]);
    command.envs(settings.iter().map(|(key, value)| (format!("ACS_BROKER__{key}"), value)));
    command.arg("--ready-file").arg(&ready);
    let log = std::fs::File::create(folder.path().join("emulator.log")).unwrap();
    let process = Killed(command.stderr(log).spawn().unwrap());
    until("the emulator is ready", async || ready.exists()).await;
    let where_it_is: Value = serde_json::from_str(&std::fs::read_to_string(&ready).unwrap()).unwrap();
    let text = |key: &str| where_it_is[key].as_str().unwrap().to_owned();
    let (address, connection_string) = (text("emulator"), text("connection_string"));
    let (connection_string_tls, ca_file) = (text("connection_string_tls"), text("ca_file").into());
    Emulator { _process: process, folder, address, connection_string, connection_string_tls, ca_file }
}

impl Emulator {
    /// Asks its control endpoint.
    pub(crate) async fn control(&self, path: &str) -> Value {
        let address = self.address.trim_start_matches("http://");
        serde_json::from_str(&get(address, &format!("/_emulator/{path}")).await).unwrap()
    }

    /// What its ready file says under this name.
    pub(crate) fn ready(&self, name: &str) -> String {
        let file = std::fs::read_to_string(self.folder.path().join("ready.json")).unwrap();
        serde_json::from_str::<Value>(&file).unwrap()[name].as_str().unwrap().to_owned()
    }

    /// Its whole control API.
    pub(crate) fn api(&self) -> Control {
        Control::at(format!("http://{}", self.address.trim_start_matches("http://")))
    }

    /// Has it post its events to these webhooks, as the control API describes them, and waits until each has agreed.
    pub(crate) async fn post_events_to(&self, webhooks: Value) {
        let api = self.api();
        api.set_webhooks(webhooks).await;
        until("the webhooks have agreed", async || {
            api.webhooks().await.iter().all(|webhook| webhook["validation"]["state"] == "validated")
        })
        .await;
    }

    /// Everything it logged, at TRACE.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("emulator.log")).unwrap()
    }
}

/// The body of a successful HTTP GET.
async fn get(address: &str, path: &str) -> String {
    let answer = answer(address, path).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    answer.split_once("\r\n\r\n").unwrap().1.to_owned()
}

/// The answer to an HTTP GET, whatever it is.
async fn answer(address: &str, path: &str) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

/// What whoever posts to a broker's webhook must bring.
pub(crate) const WEBHOOK_SECRET: &str = "a-secret-between-event-grid-and-us";

/// A broker process.
pub(crate) struct Broker {
    process: Killed,
    environment: Vec<(String, String)>,
    port: u16,
    admin_port: u16,
    webhook_port: u16,
    log: PathBuf,
    /// The longest file it may write, in bytes.
    file_limit: Option<u64>,
    _folder: TempDir,
}

impl Broker {
    /// Starts `serve` with these settings beside the addresses, and waits until it serves.
    pub(crate) async fn start(connection_string: &str, settings: &[(&str, &str)]) -> Self {
        Self::start_limited(connection_string, settings, None).await
    }

    /// The same, and no file it writes gets longer than `limit`, as on a disk that is full.
    pub(crate) async fn start_with_file_limit(
        connection_string: &str,
        settings: &[(&str, &str)],
        limit: u64,
    ) -> Self {
        Self::start_limited(connection_string, settings, Some(limit)).await
    }

    async fn start_limited(
        connection_string: &str,
        settings: &[(&str, &str)],
        file_limit: Option<u64>,
    ) -> Self {
        let (port, admin_port, webhook_port) = (free_port(), free_port(), free_port());
        let folder = TempDir::new().unwrap();
        let mut environment: Vec<_> =
            settings.iter().map(|(key, value)| (format!("ACS_BROKER__{key}"), (*value).to_owned())).collect();
        environment.push(("ACS_BROKER__SERVER__ADDRESS".into(), format!("127.0.0.1:{port}")));
        environment.push(("ACS_BROKER__ADMIN__ADDRESS".into(), format!("127.0.0.1:{admin_port}")));
        environment.push(("ACS_BROKER__WEBHOOK__ADDRESS".into(), format!("127.0.0.1:{webhook_port}")));
        environment.push(("ACS_BROKER__WEBHOOK__SECRET".into(), WEBHOOK_SECRET.into()));
        environment.push(("ACS_BROKER__ACS__CONNECTION_STRING".into(), connection_string.into()));
        let log = folder.path().join("broker.log");
        let process = launch(&environment, &log, file_limit);
        let mut broker =
            Self { process, environment, port, admin_port, webhook_port, log, file_limit, _folder: folder };
        broker.wait_until_it_serves().await;
        broker
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self) {
        self.process.0.kill().unwrap();
        self.process.0.wait().unwrap();
    }

    /// Asks it to stop, as Kubernetes does, and waits until it has.
    #[cfg(unix)]
    pub(crate) async fn terminate(&mut self) {
        let id = self.process.0.id().to_string();
        assert!(std::process::Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
        until("the broker stops", async || self.process.0.try_wait().unwrap().is_some()).await;
    }

    /// Starts it again with the same settings.
    pub(crate) async fn restart(&mut self) {
        self.process = launch(&self.environment, &self.log, self.file_limit);
        self.wait_until_it_serves().await;
    }

    async fn wait_until_it_serves(&mut self) {
        let address = format!("http://127.0.0.1:{}", self.port);
        let Self { process, log, .. } = self;
        until("the broker serves", async || {
            if let Some(status) = process.0.try_wait().unwrap() {
                panic!("the broker ended ({status}): {}", std::fs::read_to_string(&log).unwrap());
            }
            let Ok(channel) = Endpoint::from_shared(address.clone()).unwrap().connect().await else {
                return false;
            };
            let request = tonic_health::pb::HealthCheckRequest { service: String::new() };
            let mut health = tonic_health::pb::health_client::HealthClient::new(channel);
            health.check(request).await.is_ok_and(|answer| answer.into_inner().status == 1)
        })
        .await;
    }

    /// Everything its admin endpoint says of it.
    pub(crate) async fn admin(&self) -> String {
        let address = format!("127.0.0.1:{}", self.admin_port);
        get(&address, "/metrics").await + &get(&address, "/readyz").await
    }

    /// Its metrics.
    pub(crate) async fn metrics(&self) -> String {
        get(&format!("127.0.0.1:{}", self.admin_port), "/metrics").await
    }

    /// What it says of whether it is ready.
    pub(crate) async fn readiness(&self) -> String {
        answer(&format!("127.0.0.1:{}", self.admin_port), "/readyz").await
    }

    /// What its admin endpoint shows there.
    pub(crate) async fn shown(&self, path: &str) -> String {
        get(&format!("127.0.0.1:{}", self.admin_port), path).await
    }

    /// What `acs-broker doctor` says with this broker's settings, and its exit code.
    pub(crate) fn doctor(&self) -> (Option<i32>, String) {
        let mut command = binary();
        command.arg("doctor").envs(self.environment.iter().map(|(key, value)| (key, value)));
        let output = command.stdout(Stdio::piped()).stderr(Stdio::piped()).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout) + &text(&output.stderr))
    }

    /// What a client command says that asks this broker, and its exit code.
    pub(crate) fn command(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let mut command = binary();
        command.args(arguments).args(["--server", &format!("http://127.0.0.1:{}", self.port)]);
        let output = command.stdout(Stdio::piped()).stderr(Stdio::piped()).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout) + &text(&output.stderr))
    }

    /// A page of its admin endpoint that is JSON.
    pub(crate) async fn admin_page(&self, path: &str) -> Value {
        serde_json::from_str(&get(&format!("127.0.0.1:{}", self.admin_port), path).await).unwrap()
    }

    /// Everything it logged.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    pub(crate) async fn channel(&self) -> Channel {
        let endpoint = Endpoint::from_shared(format!("http://127.0.0.1:{}", self.port)).unwrap();
        endpoint.connect_timeout(Duration::from_secs(5)).connect().await.unwrap()
    }

    /// A channel that connects when it is used, and again after the broker was started anew.
    pub(crate) fn lazy_channel(&self) -> Channel {
        let endpoint = Endpoint::from_shared(format!("http://127.0.0.1:{}", self.port)).unwrap();
        endpoint.connect_timeout(Duration::from_secs(5)).connect_lazy()
    }

    pub(crate) fn sms(&self) -> SmsServiceClient<Channel> {
        SmsServiceClient::new(self.lazy_channel())
    }

    pub(crate) fn email(&self) -> EmailServiceClient<Channel> {
        EmailServiceClient::new(self.lazy_channel())
    }

    pub(crate) fn chats(&self) -> ChatServiceClient<Channel> {
        ChatServiceClient::new(self.lazy_channel())
    }

    pub(crate) fn events(&self) -> EventServiceClient<Channel> {
        EventServiceClient::new(self.lazy_channel())
    }

    /// Where its webhook takes events, without the secret.
    pub(crate) fn webhook(&self) -> String {
        format!("http://127.0.0.1:{}/events", self.webhook_port)
    }

    /// Where its webhook takes events from those who know the secret.
    pub(crate) fn webhook_with_secret(&self) -> String {
        format!("{}?code={WEBHOOK_SECRET}", self.webhook())
    }

    pub(crate) async fn tokens(&self) -> TokenServiceClient<Channel> {
        TokenServiceClient::new(self.channel().await)
    }

    pub(crate) async fn identities(&self) -> IdentityServiceClient<Channel> {
        IdentityServiceClient::new(self.channel().await)
    }
}

/// Starts it in the folder of its log: a store whose place nobody says must not lie in this repository, for the next test
/// to find.
fn launch(environment: &[(String, String)], log: &Path, file_limit: Option<u64>) -> Killed {
    let folder = log.parent().unwrap();
    let log = std::fs::File::options().create(true).append(true).open(log).unwrap();
    let mut command = binary();
    if let Some(limit) = file_limit {
        // The shell counts in blocks of 512 bytes; without the trap the system would end the process.
        let script = format!("trap '' XFSZ; ulimit -f {}; exec \"$0\" serve", limit / 512);
        let serve = command;
        command = Command::new("/bin/sh");
        command.env_clear().stdin(Stdio::null()).stdout(Stdio::null());
        command.arg("-c").arg(script).arg(serve.get_program());
    } else {
        command.arg("serve");
    }
    command.current_dir(folder).envs(environment.iter().map(|(key, value)| (key, value)));
    Killed(command.stderr(log).spawn().unwrap())
}
