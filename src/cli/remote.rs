//! The flags that every client command shares: which server, what to prove to it, how long to wait, which output.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;

use super::output::{Exit, Stop, duration};
use crate::grpc::client::{Client, Proof, Target};
use crate::secret::Secret;

/// Where a broker is found when nothing else is said.
pub(super) const DEFAULT_SERVER: &str = "http://127.0.0.1:50051";

/// The largest file that is read.
const MAX_FILE_BYTES: u64 = 1_048_576;

/// Which broker to ask, and how.
#[derive(Debug, Args)]
pub(super) struct Remote {
    /// The broker's gRPC address; https:// for TLS.
    #[arg(long, env = "ACS_BROKER_SERVER", default_value = DEFAULT_SERVER, value_name = "URL")]
    server: String,
    #[command(flatten)]
    proof: ProofFiles,
    /// The longest a call may take.
    #[arg(long, default_value = "15s", value_parser = duration, value_name = "DURATION")]
    timeout: Duration,
    /// Print one JSON object instead of text.
    #[arg(long)]
    pub(super) json: bool,
}

/// Whom to trust, and what to show to a broker that wants to know who calls.
#[derive(Debug, Args)]
pub(super) struct ProofFiles {
    /// A PEM file of authorities to trust for https:// instead of the system's.
    #[arg(long, env = "ACS_BROKER_CA", value_name = "FILE")]
    ca: Option<PathBuf>,
    /// A PEM file with a certificate to show, its chain after it.
    #[arg(long, env = "ACS_BROKER_CERT", value_name = "FILE", requires = "key")]
    cert: Option<PathBuf>,
    /// A PEM file with the key of that certificate.
    #[arg(long, env = "ACS_BROKER_KEY", value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
    /// The name the broker's certificate must have, if it is not that of the address: behind a port-forward.
    #[arg(long, env = "ACS_BROKER_SERVER_NAME", value_name = "NAME")]
    server_name: Option<String>,
    /// A file with a token (JWT) to bring along.
    #[arg(long, env = "ACS_BROKER_TOKEN_FILE", value_name = "FILE")]
    token_file: Option<PathBuf>,
}

impl ProofFiles {
    /// What the files hold.
    pub(super) fn read(&self) -> Result<Proof, Stop> {
        let bytes = |flag: &str, path: &Option<PathBuf>| {
            path.as_deref().map(|path| read(path).map_err(|what| usage(flag, &what))).transpose()
        };
        let secret = |flag: &str, path: &Option<PathBuf>| {
            let text = bytes(flag, path)?.map(String::from_utf8).transpose();
            text.map(|text| text.map(Secret::new)).map_err(|_| usage(flag, "holds something else than text"))
        };
        Ok(Proof {
            ca: bytes("--ca", &self.ca)?,
            identity: bytes("--cert", &self.cert)?.zip(secret("--key", &self.key)?),
            server_name: self.server_name.clone().filter(|name| !name.is_empty()),
            token: secret("--token-file", &self.token_file)?,
        })
    }

    /// Whether any of it says that the broker speaks TLS.
    pub(super) fn speak_of_tls(&self) -> bool {
        self.ca.is_some() || self.cert.is_some() || self.server_name.is_some()
    }
}

fn usage(flag: &str, what: &str) -> Stop {
    Stop::Because(Exit::Usage, format!("{flag} {what}"))
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let cannot = |error: std::io::Error| format!("names a file that cannot be read ({})", error.kind());
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(cannot)?;
    let size = file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(cannot)?;
    if size as u64 > MAX_FILE_BYTES {
        return Err(format!("names a file of more than {MAX_FILE_BYTES} bytes"));
    }
    Ok(bytes)
}

impl Remote {
    /// A client of that broker.
    pub(super) fn client(&self) -> Result<Client, Stop> {
        let (server, proof) = (self.server.clone(), self.proof.read()?);
        let target = Target { server, timeout: self.timeout, proof };
        Client::new(&target).map_err(|(flag, what)| usage(flag, &what))
    }
}
