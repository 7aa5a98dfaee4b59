//! Real Redis servers for tests: one node, a Cluster of three, a primary with replica and Sentinel.
//!
//! Each runs on free ports of 127.0.0.1 in a folder of its own and is killed, by its process id, when its handle is
//! dropped, also by a panic. Without `redis-server` the tests fail and say how to install it: a suite that passes
//! because it did not run proves nothing. Included by unit tests of `store::redis` and by integration tests.

#![allow(dead_code, reason = "each including test uses a part of it")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a panic here is a failed test"
)]

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use redis::{ConnectionAddr, ConnectionLike as _, FromRedisValue, IntoConnectionInfo as _};
use tempfile::TempDir;

/// How long a server may take for anything a test waits for.
const PATIENCE: Duration = Duration::from_secs(20);

/// A port nobody listens on now. Somebody may take it before it is used, so starting is tried again.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}

/// Waits until `condition` holds.
pub(crate) fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "did not happen in time: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// One server process.
pub(crate) struct RedisServer {
    child: Child,
    port: u16,
    password: Option<(String, String)>,
    arguments: Vec<String>,
    folder: TempDir,
}

impl RedisServer {
    /// A server that keeps nothing on disk.
    pub(crate) fn start() -> Self {
        Self::start_with(&[])
    }

    /// A server that has on disk whatever it acknowledged.
    pub(crate) fn start_durable() -> Self {
        Self::start_with(&["--appendonly", "yes", "--appendfsync", "always"])
    }

    /// A server with more command-line arguments.
    pub(crate) fn start_with(arguments: &[&str]) -> Self {
        Self::start_in(TempDir::new().unwrap(), arguments)
    }

    /// A server in this folder, where files named by the arguments may lie.
    pub(crate) fn start_in(folder: TempDir, arguments: &[&str]) -> Self {
        let arguments: Vec<String> = arguments.iter().map(|&argument| argument.to_owned()).collect();
        let (port, child) = launch_on_free_port(folder.path(), &arguments);
        Self { child, port, password: None, arguments, folder }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Logs in as this user for [`Self::command`].
    pub(crate) fn log_in(&mut self, user: &str, password: &str) {
        self.password = Some((user.to_owned(), password.to_owned()));
    }

    /// Runs a command by a connection of its own.
    pub(crate) fn command<T: FromRedisValue>(&self, parts: &[&str]) -> T {
        self.try_command(parts).unwrap_or_else(|error| panic!("{parts:?}: {error}"))
    }

    pub(crate) fn try_command<T: FromRedisValue>(&self, parts: &[&str]) -> redis::RedisResult<T> {
        command_on(self.port, self.password.as_ref(), parts)
    }

    /// How often the server ran each command, as `INFO commandstats` counts: `calls("mget")`.
    pub(crate) fn calls(&self, command: &str) -> u64 {
        let text: String = self.command(&["INFO", "commandstats"]);
        let start = format!("cmdstat_{command}:calls=");
        let line = text.lines().find_map(|line| line.strip_prefix(&start).map(str::to_owned));
        line.map_or(0, |rest| rest.split(',').next().unwrap().parse().unwrap())
    }

    /// How often the server ran any command, but for `INFO` and the greeting of connections.
    pub(crate) fn all_calls(&self) -> u64 {
        let text: String = self.command(&["INFO", "commandstats"]);
        let counts = text.lines().filter_map(|line| line.strip_prefix("cmdstat_")).filter_map(|line| {
            let (name, rest) = line.split_once(":calls=")?;
            let ours = !["info", "hello", "client|setinfo", "ping", "config|resetstat"].contains(&name);
            ours.then(|| rest.split(',').next().unwrap().parse::<u64>().unwrap())
        });
        counts.sum()
    }

    fn signal(&self, signal: &str) {
        let status = Command::new("kill").arg(signal).arg(self.child.id().to_string()).status().unwrap();
        assert!(status.success());
    }

    /// Stops it in the middle of whatever it does: connections stay open and nothing answers.
    pub(crate) fn freeze(&self) {
        self.signal("-STOP");
    }

    /// Lets it go on.
    pub(crate) fn thaw(&self) {
        self.signal("-CONT");
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Starts it again on the same port, with whatever is on its disk.
    pub(crate) fn restart(&mut self) {
        self.kill();
        self.child = launch(self.folder.path(), self.port, &self.arguments);
        let (port, child) = (self.port, &mut self.child);
        wait_until("the server answers again", || {
            assert!(child.try_wait().unwrap().is_none(), "redis-server ended at once");
            answers(port)
        });
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
    }
}

fn launch(folder: &Path, port: u16, arguments: &[String]) -> Child {
    let mut command = Command::new("redis-server");
    // A Sentinel's configuration file comes first.
    let (first, rest) = match arguments.split_first() {
        Some((file, rest)) if file.ends_with(".conf") => (Some(file), rest),
        _ => (None, arguments),
    };
    command.args(first).args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--dir"]).arg(folder);
    command.args(["--logfile", "redis.log"]);
    if first.is_none() {
        command.args(["--save", "", "--enable-debug-command", "yes"]);
    }
    let started = command.args(rest).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    started.unwrap_or_else(|error| {
        panic!("cannot run redis-server ({error}); install it: apt-get install -y redis-server")
    })
}

fn launch_on_free_port(folder: &Path, arguments: &[String]) -> (u16, Child) {
    for _ in 0..10 {
        let port = free_port();
        let mut child = launch(folder, port, arguments);
        let mut ended = false;
        wait_until("the server answers", || {
            ended = child.try_wait().unwrap().is_some();
            ended || answers(port)
        });
        if !ended {
            return (port, child);
        }
    }
    let log = std::fs::read_to_string(folder.join("redis.log")).unwrap_or_default();
    panic!("redis-server does not start: {log}");
}

/// Whether a Redis answers there, whatever it answers.
fn answers(port: u16) -> bool {
    use std::io::{Read as _, Write as _};
    let Ok(mut stream) = std::net::TcpStream::connect(("127.0.0.1", port)) else { return false };
    let _ = stream.set_read_timeout(Some(Duration::from_millis(500)));
    let mut answer = [0; 1];
    stream.write_all(b"PING\r\n").is_ok()
        && stream.read_exact(&mut answer).is_ok()
        && b"+-".contains(&answer[0])
        && !is_loading(port)
}

fn is_loading(port: u16) -> bool {
    command_on::<String>(port, None, &["INFO", "persistence"]).is_ok_and(|text| text.contains("loading:1"))
}

fn command_on<T: FromRedisValue>(
    port: u16,
    login: Option<&(String, String)>,
    parts: &[&str],
) -> redis::RedisResult<T> {
    let mut info = ConnectionAddr::Tcp("127.0.0.1".into(), port).into_connection_info()?;
    if let Some((user, password)) = login {
        let login = redis::RedisConnectionInfo::default().set_username(user).set_password(password);
        info = info.set_redis_settings(login);
    }
    let client = redis::Client::open(info)?;
    let mut connection = client.get_connection_with_timeout(Duration::from_secs(5))?;
    connection.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut command = redis::cmd(parts[0]);
    command.arg(&parts[1..]);
    let reply = connection.req_command(&command)?.extract_error()?;
    Ok(redis::from_redis_value(reply)?)
}

/// Three primaries that share the slots.
pub(crate) struct RedisCluster {
    pub(crate) nodes: Vec<RedisServer>,
}

impl RedisCluster {
    pub(crate) fn start() -> Self {
        let nodes: Vec<RedisServer> = (0..3).map(|_| Self::node()).collect();
        let slots = [("0", "5460"), ("5461", "10922"), ("10923", "16383")];
        for (node, (first, last)) in nodes.iter().zip(slots) {
            node.command::<()>(&["CLUSTER", "ADDSLOTSRANGE", first, last]);
        }
        let cluster = Self { nodes };
        cluster.meet();
        cluster.wait_until_whole();
        cluster
    }

    fn node() -> RedisServer {
        let bus = free_port().to_string();
        RedisServer::start_with(&[
            "--cluster-enabled",
            "yes",
            "--cluster-port",
            &bus,
            "--cluster-node-timeout",
            "1000",
            "--appendonly",
            "yes",
            "--appendfsync",
            "always",
        ])
    }

    fn meet(&self) {
        let [first, rest @ ..] = self.nodes.as_slice() else { unreachable!("three nodes") };
        for node in rest {
            let (port, bus) = (node.port().to_string(), node.arguments[3].clone());
            first.command::<()>(&["CLUSTER", "MEET", "127.0.0.1", &port, &bus]);
        }
    }

    /// Waits until every node knows that all slots are served.
    pub(crate) fn wait_until_whole(&self) {
        wait_until("the Cluster is whole", || {
            self.nodes.iter().all(|node| {
                let state = node.try_command::<String>(&["CLUSTER", "INFO"]).unwrap_or_default();
                state.contains("cluster_state:ok") && state.contains("cluster_known_nodes:3")
            })
        });
    }

    pub(crate) fn url(&self) -> String {
        self.nodes.iter().map(RedisServer::url).collect::<Vec<_>>().join(",")
    }

    /// The calls of a command on all nodes together.
    pub(crate) fn calls(&self, command: &str) -> u64 {
        self.nodes.iter().map(|node| node.calls(command)).sum()
    }
}

/// A primary, a replica, and a Sentinel that watches them under the name `main`.
pub(crate) struct Sentinel {
    pub(crate) primary: RedisServer,
    pub(crate) replica: RedisServer,
    pub(crate) sentinel: RedisServer,
}

impl Sentinel {
    pub(crate) fn start() -> Self {
        let primary = RedisServer::start_with(&["--repl-diskless-sync-delay", "0"]);
        let port = primary.port().to_string();
        let replica = RedisServer::start_with(&["--replicaof", "127.0.0.1", &port]);
        wait_until("the replica follows", || {
            replica.command::<String>(&["INFO", "replication"]).contains("master_link_status:up")
        });
        let folder = TempDir::new().unwrap();
        let file = folder.path().join("sentinel.conf");
        let settings = format!(
            "sentinel monitor main 127.0.0.1 {port} 1\nsentinel down-after-milliseconds main 500\n\
             sentinel failover-timeout main 3000\n"
        );
        std::fs::write(&file, settings).unwrap();
        let sentinel = RedisServer::start_in(folder, &[file.to_str().unwrap(), "--sentinel"]);
        wait_until("the Sentinel knows the replica", || {
            let master: Vec<String> =
                sentinel.try_command(&["SENTINEL", "MASTER", "main"]).unwrap_or_default();
            let slaves = master.iter().position(|name| name == "num-slaves");
            slaves.and_then(|at| master.get(at + 1)).is_some_and(|count| count == "1")
        });
        Self { primary, replica, sentinel }
    }

    pub(crate) fn url(&self) -> String {
        self.sentinel.url()
    }

    /// Waits until the replica has everything the primary has.
    pub(crate) fn wait_until_replicated(&self) {
        let offset = |server: &RedisServer, name: &str| {
            let text: String = server.command(&["INFO", "replication"]);
            text.lines().find_map(|line| line.strip_prefix(name).map(str::to_owned))
        };
        wait_until("the replica has everything", || {
            let sent = offset(&self.primary, "master_repl_offset:");
            sent.is_some() && sent == offset(&self.replica, "slave_repl_offset:")
        });
    }
}
