//! `healthcheck`: asks a running broker over gRPC whether it serves. For `HEALTHCHECK` in a container and for scripts.
//!
//! A broker with a probe port is asked there, in plain text; else its API is, over TLS if it speaks TLS.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use clap::Args;

use super::output::{Exit, Io, Stop, duration, hint};
use super::remote::{DEFAULT_SERVER, ProofFiles};
use crate::grpc::client::{Client, Proof, Target};

/// `healthcheck`.
#[derive(Debug, Args)]
pub(super) struct Healthcheck {
    /// The broker's gRPC address. Default: where `serve` listens in the same environment, its probe port first.
    #[arg(long, value_name = "HOST:PORT or URL")]
    addr: Option<String>,
    #[command(flatten)]
    proof: ProofFiles,
    /// The service to ask for, such as acsbroker.v1.TokenService. Default: the server as a whole.
    #[arg(long, default_value = "", hide_default_value = true, value_name = "NAME")]
    service: String,
    /// The longest the answer may take.
    #[arg(long, default_value = "2s", value_parser = duration, value_name = "DURATION")]
    timeout: Duration,
}

impl Healthcheck {
    pub(super) fn run(&self, environment: &BTreeMap<String, String>, io: &mut Io<'_>) -> Result<Exit, Stop> {
        let server = server(self.addr.as_deref(), self.proof.speak_of_tls(), environment);
        // In plain text there is nothing to show: the environment may name files that are for other servers.
        let proof = if server.starts_with("https://") { self.proof.read()? } else { Proof::default() };
        let target = Target { server, timeout: self.timeout, proof };
        super::one_call(async {
            let client = Client::new(&target).map_err(|(flag, what)| {
                let told = if flag == "--server" {
                    "--addr must be like 127.0.0.1:50051 or https://broker:50051".into()
                } else {
                    format!("{flag} {what}")
                };
                Stop::Because(Exit::Usage, told)
            })?;
            match client.is_serving(&self.service).await {
                Ok(true) => {
                    writeln!(io.out, "serving")?;
                    Ok(Exit::Success)
                }
                Ok(false) => {
                    writeln!(io.out, "not serving")?;
                    Ok(Exit::Failure)
                }
                Err(failure) => {
                    // Docker knows 0 and 1 only.
                    let told = failure.to_string().replace("see --server", "see --addr");
                    let _ = writeln!(io.err, "error: {told}");
                    if let Some(hint) = hint(&failure) {
                        let _ = writeln!(io.err, "{hint}");
                    }
                    Ok(Exit::Failure)
                }
            }
        })
    }
}

/// The address to ask: as said, else where `serve` would answer probes, reached over loopback.
fn server(addr: Option<&str>, tls: bool, environment: &BTreeMap<String, String>) -> String {
    let scheme = |tls| if tls { "https" } else { "http" };
    if let Some(addr) = addr {
        return if addr.contains("://") { addr.to_owned() } else { format!("{}://{addr}", scheme(tls)) };
    }
    let setting =
        |key: &str| environment.get(&format!("ACS_BROKER__SERVER__{key}")).filter(|text| !text.is_empty());
    let listening = |key: &str| setting(key).and_then(|text| text.parse::<SocketAddr>().ok());
    let (address, tls) = match (listening("PROBE_ADDRESS"), listening("ADDRESS")) {
        (Some(probe), _) => (probe, false),
        (None, Some(address)) => (address, tls || setting("TLS__CERT_FILE").is_some()),
        (None, None) if tls || setting("TLS__CERT_FILE").is_some() => {
            return DEFAULT_SERVER.replace("http:", "https:");
        }
        (None, None) => return DEFAULT_SERVER.to_owned(),
    };
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    format!("{}://{}", scheme(tls), SocketAddr::new(ip, address.port()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_asks_where_serve_listens_unless_told_otherwise() {
        let environment =
            |address: &str| BTreeMap::from([("ACS_BROKER__SERVER__ADDRESS".to_owned(), address.to_owned())]);
        assert_eq!(server(None, false, &BTreeMap::new()), "http://127.0.0.1:50051");
        assert_eq!(server(None, true, &BTreeMap::new()), "https://127.0.0.1:50051");
        assert_eq!(server(None, false, &environment("0.0.0.0:9000")), "http://127.0.0.1:9000");
        assert_eq!(server(None, false, &environment("[::]:9000")), "http://[::1]:9000");
        assert_eq!(server(None, false, &environment("10.0.0.7:1")), "http://10.0.0.7:1");
        assert_eq!(server(Some("h:1"), false, &environment("10.0.0.7:1")), "http://h:1");
        assert_eq!(server(Some("h:1"), true, &BTreeMap::new()), "https://h:1");
        assert_eq!(server(Some("http://h:1"), true, &BTreeMap::new()), "http://h:1");
    }

    #[test]
    fn a_probe_port_is_asked_first_and_in_plain_text() {
        let mut environment = BTreeMap::from([
            ("ACS_BROKER__SERVER__ADDRESS".to_owned(), "0.0.0.0:9000".to_owned()),
            ("ACS_BROKER__SERVER__TLS__CERT_FILE".to_owned(), "/tls.crt".to_owned()),
        ]);
        assert_eq!(server(None, false, &environment), "https://127.0.0.1:9000");
        environment.insert("ACS_BROKER__SERVER__PROBE_ADDRESS".into(), "0.0.0.0:9001".into());
        assert_eq!(server(None, true, &environment), "http://127.0.0.1:9001");
    }
}
