//! `rotation`: asks a running broker whether the ACS key that is not in use may be regenerated.
//!
//! It reads the admin endpoint and changes nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::Args;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::output::{Exit, Io, Stop, duration};

/// Where `serve` has its admin endpoint unless told otherwise.
const DEFAULT_ADMIN: &str = "127.0.0.1:8081";
/// The largest answer that is read.
const MAX_ANSWER: u64 = 64 * 1024;

/// `rotation`.
#[derive(Debug, Args)]
pub(super) struct Rotation {
    /// The broker's admin address. Default: where `serve` has it in the same environment.
    #[arg(long, value_name = "HOST:PORT")]
    admin: Option<String>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// The longest the answer may take.
    #[arg(long, default_value = "5s", value_parser = duration, value_name = "DURATION")]
    timeout: Duration,
}

impl Rotation {
    pub(super) fn run(&self, environment: &BTreeMap<String, String>, io: &mut Io<'_>) -> Result<Exit, Stop> {
        let set = environment.get("ACS_BROKER__ADMIN__ADDRESS");
        let admin =
            self.admin.as_ref().or(set).map_or(DEFAULT_ADMIN, String::as_str).replace("0.0.0.0", "127.0.0.1");
        // Else what the system says of an address that is none is all there is to read.
        if admin.rsplit_once(':').is_none_or(|(host, port)| host.is_empty() || port.parse::<u16>().is_err()) {
            let what = "--admin must be HOST:PORT, such as 127.0.0.1:8081";
            return Err(Stop::Because(Exit::Usage, what.into()));
        }
        let page = super::one_call_for(async {
            let asking = tokio::time::timeout(self.timeout, ask(&admin));
            asking.await.unwrap_or_else(|_| Err("it does not answer in time".to_owned()))
        })?
        .map_err(|problem| Stop::Because(Exit::TryAgain, format!("{admin} cannot be asked: {problem}")))?;
        let safe = page.get("safe_to_regenerate_other_key") == Some(&Value::Bool(true));
        if self.json {
            writeln!(io.out, "{page}")?;
        } else {
            write_out(&page, safe, io)?;
        }
        Ok(if safe { Exit::Success } else { Exit::TryAgain })
    }
}

fn write_out(page: &Value, safe: bool, io: &mut Io<'_>) -> std::io::Result<()> {
    let text = |name: &str| match page.get(name) {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    };
    writeln!(io.out, "key in use                 {} since {}", text("key_in_use"), text("in_use_since"))?;
    writeln!(io.out, "other key                  {}", text("other_key"))?;
    writeln!(io.out, "tokens still of other keys {}", text("tokens_of_other_keys"))?;
    writeln!(io.out, "safe to regenerate it      {}", if safe { "yes" } else { "not yet" })?;
    match page.get("not_yet_because").and_then(Value::as_str) {
        Some(why) => writeln!(io.out, "because                    {why}"),
        None => writeln!(
            io.out,
            "tokens that callers were given before the change end by {}",
            text("tokens_handed_out_before_end_by")
        ),
    }
}

async fn ask(admin: &str) -> Result<Value, String> {
    let failed = |error: std::io::Error| error.kind().to_string();
    let mut stream = TcpStream::connect(admin).await.map_err(failed)?;
    let request = format!("GET /rotation HTTP/1.1\r\nhost: {admin}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.map_err(failed)?;
    let mut answer = Vec::new();
    stream.take(MAX_ANSWER).read_to_end(&mut answer).await.map_err(failed)?;
    let answer = String::from_utf8_lossy(&answer);
    let body = answer.split_once("\r\n\r\n").filter(|(head, _)| head.starts_with("HTTP/1.1 200"));
    let (_, body) = body.ok_or("it is no admin endpoint of a broker")?;
    serde_json::from_str(body).map_err(|_| "it is no admin endpoint of a broker".to_owned())
}
