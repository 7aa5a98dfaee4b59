//! `healthcheck`: asks a running broker over gRPC whether it serves. For `HEALTHCHECK` in a container and for scripts.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use clap::Args;

use super::output::{Exit, Io, Stop, duration};
use super::remote::DEFAULT_SERVER;
use crate::grpc::client::{Client, Target};

/// `healthcheck`.
#[derive(Debug, Args)]
pub(super) struct Healthcheck {
    /// The broker's gRPC address. Default: where `serve` listens in the same environment.
    #[arg(long, value_name = "HOST:PORT")]
    addr: Option<String>,
    /// The service to ask for, such as acsbroker.v1.TokenService. Default: the server as a whole.
    #[arg(long, default_value = "", hide_default_value = true, value_name = "NAME")]
    service: String,
    /// The longest the answer may take.
    #[arg(long, default_value = "2s", value_parser = duration, value_name = "DURATION")]
    timeout: Duration,
}

impl Healthcheck {
    pub(super) fn run(&self, environment: &BTreeMap<String, String>, io: &mut Io<'_>) -> Result<Exit, Stop> {
        let server = server(self.addr.as_deref(), environment);
        let target = Target { server, timeout: self.timeout };
        super::one_call(async {
            let client = Client::new(&target)
                .map_err(|_| Stop::Because(Exit::Usage, "--addr must be like 127.0.0.1:50051".into()))?;
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
                    let _ = writeln!(io.err, "error: {failure}");
                    Ok(Exit::Failure)
                }
            }
        })
    }
}

/// The address to ask: as said, else where `serve` would listen, reached over loopback.
fn server(addr: Option<&str>, environment: &BTreeMap<String, String>) -> String {
    if let Some(addr) = addr {
        return if addr.contains("://") { addr.to_owned() } else { format!("http://{addr}") };
    }
    let listening =
        environment.get("ACS_BROKER__SERVER__ADDRESS").and_then(|text| text.parse::<SocketAddr>().ok());
    match listening {
        None => DEFAULT_SERVER.to_owned(),
        Some(address) => {
            let ip = match address.ip() {
                IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
                IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
                ip => ip,
            };
            format!("http://{}", SocketAddr::new(ip, address.port()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_asks_where_serve_listens_unless_told_otherwise() {
        let environment =
            |address: &str| BTreeMap::from([("ACS_BROKER__SERVER__ADDRESS".to_owned(), address.to_owned())]);
        assert_eq!(server(None, &BTreeMap::new()), "http://127.0.0.1:50051");
        assert_eq!(server(None, &environment("0.0.0.0:9000")), "http://127.0.0.1:9000");
        assert_eq!(server(None, &environment("[::]:9000")), "http://[::1]:9000");
        assert_eq!(server(None, &environment("10.0.0.7:1")), "http://10.0.0.7:1");
        assert_eq!(server(Some("h:1"), &environment("10.0.0.7:1")), "http://h:1");
        assert_eq!(server(Some("http://h:1"), &BTreeMap::new()), "http://h:1");
    }
}
