//! Starts the binary, reads what it says until a condition holds or a deadline passes, and never leaves it behind.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

/// Far longer than anything here takes; a hang fails instead of blocking.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// The binary with an empty environment.
pub(crate) fn binary() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_acs-broker"));
    command.env_clear().stdin(Stdio::null());
    command
}

/// What a finished command left.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// Runs the binary to its end.
pub(crate) fn run(arguments: &[&str]) -> Finished {
    finish(binary().args(arguments), "")
}

/// Runs a command to its end with this on its standard input.
pub(crate) fn finish(command: &mut Command, input: &str) -> Finished {
    let mut running = Running::start(command.stdin(Stdio::piped()));
    let mut stdin = running.child.stdin.take().unwrap();
    let input = input.to_owned();
    let writer = thread::spawn(move || {
        // A command that fails early reads nothing.
        let _ = stdin.write_all(input.as_bytes());
    });
    let status = running.wait();
    writer.join().unwrap();
    Finished { code: status.code(), out: running.out.rest(), err: running.err.rest() }
}

/// Lines of a stream as they come.
pub(crate) struct Lines {
    lines: Receiver<String>,
    seen: String,
}

impl Lines {
    fn of(stream: impl Read + Send + 'static) -> Self {
        let (sender, lines) = channel();
        thread::spawn(move || {
            let mut stream = BufReader::new(stream);
            let mut line = String::new();
            while stream.read_line(&mut line).is_ok_and(|size| size > 0) {
                if sender.send(std::mem::take(&mut line)).is_err() {
                    return;
                }
            }
        });
        Self { lines, seen: String::new() }
    }

    /// Reads until a line holds `text`, and returns that line.
    pub(crate) fn until(&mut self, text: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    self.seen.push_str(&line);
                    if line.contains(text) {
                        return line;
                    }
                }
                Err(_) => panic!("{text:?} never came; this did:\n{}", self.seen),
            }
        }
    }

    /// What was read so far.
    pub(crate) fn seen_so_far(&self) -> &str {
        &self.seen
    }

    /// Everything until the stream ends.
    pub(crate) fn rest(&mut self) -> String {
        let deadline = Instant::now() + PATIENCE;
        while let Ok(line) = self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            self.seen.push_str(&line);
        }
        self.seen.clone()
    }
}

/// A running process; killed when dropped.
pub(crate) struct Running {
    child: Child,
    pub(crate) out: Lines,
    pub(crate) err: Lines,
    pub(crate) started: Instant,
}

impl Running {
    pub(crate) fn start(command: &mut Command) -> Self {
        let started = Instant::now();
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let out = Lines::of(child.stdout.take().unwrap());
        let err = Lines::of(child.stderr.take().unwrap());
        Self { child, out, err, started }
    }

    /// Sends a signal by the name that `kill` knows.
    pub(crate) fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        let status = Command::new("kill").args([&format!("-{name}"), &id]).status().unwrap();
        assert!(status.success());
    }

    /// Waits for the end; kills and fails after a while.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "the process does not end");
            // There is no wait with a deadline in the standard library.
            thread::park_timeout(Duration::from_millis(5));
        }
    }

    /// Asks it to stop and waits.
    pub(crate) fn stop(&mut self) -> ExitStatus {
        self.signal("TERM");
        self.wait()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A `dev` on free ports.
#[cfg(feature = "emulator")]
pub(crate) struct Dev {
    pub(crate) process: Running,
    pub(crate) places: serde_json::Value,
    pub(crate) dir: tempfile::TempDir,
}

#[cfg(feature = "emulator")]
impl Dev {
    pub(crate) fn start(arguments: &[&str]) -> Self {
        Self::start_with(arguments, &[])
    }

    pub(crate) fn start_with(arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ready = dir.path().join("ready.json");
        let mut command = binary();
        command.arg("dev").args(FREE_PORTS).arg("--ready-file").arg(&ready).args(arguments);
        command.env("TMPDIR", dir.path()).envs(environment.iter().copied());
        let mut process = Running::start(&mut command);
        process.out.until("Stop it with Ctrl-C");
        let places = serde_json::from_slice(&std::fs::read(&ready).unwrap()).unwrap();
        Self { process, places, dir }
    }

    pub(crate) fn server(&self) -> String {
        format!("http://{}", self.places["grpc"].as_str().unwrap())
    }

    /// Runs a client command against it.
    pub(crate) fn ask(&self, arguments: &[&str]) -> Finished {
        self.ask_with(arguments, "")
    }

    pub(crate) fn ask_with(&self, arguments: &[&str], input: &str) -> Finished {
        finish(binary().args(arguments).env("ACS_BROKER_SERVER", self.server()), input)
    }

    /// Runs a client command that must succeed and answers JSON.
    pub(crate) fn json(&self, arguments: &[&str]) -> serde_json::Value {
        let finished = self.ask(&[arguments, &["--json"]].concat());
        assert_eq!(finished.code, Some(0), "{finished:?}");
        serde_json::from_str(&finished.out).unwrap()
    }
}

#[cfg(feature = "emulator")]
pub(crate) const FREE_PORTS: [&str; 8] = [
    "--grpc-addr",
    "127.0.0.1:0",
    "--admin-addr",
    "127.0.0.1:0",
    "--emulator-addr",
    "127.0.0.1:0",
    "--emulator-tls-addr",
    "127.0.0.1:0",
];

/// An HTTP answer, head and body.
pub(crate) fn get(address: &str, path: &str) -> String {
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nhost: {address}\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// A path as an argument.
pub(crate) fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}
