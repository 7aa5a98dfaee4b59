//! The load of `bench/load/guarded.py`: IssueToken for one user from the cache, over plain text or mutual TLS.
//!
//! Arguments: the server's URL, how many calls, how many at a time, and for https:// the PEM files of the authority, of
//! the client's certificate and of its key. Prints the time in seconds, and p50 and p99 in milliseconds. Fails on the
//! first error.
#![allow(clippy::print_stdout, reason = "the driver reads the figures from standard output")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use acs_broker::grpc::proto::v1;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};
use v1::token_service_client::TokenServiceClient;

/// Connections that the calls are dealt out to.
const CONNECTIONS: usize = 8;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [server, count, at_once, tls @ ..] = arguments.as_slice() else {
        return Err("usage: guarded SERVER_URL COUNT AT_ONCE [CA CERT KEY]".into());
    };
    let (count, at_once): (u64, usize) = (count.parse()?, at_once.parse()?);
    let mut endpoint = Endpoint::from_shared(server.clone())?.tcp_nodelay(true);
    if let [ca, cert, key] = tls {
        let identity = Identity::from_pem(std::fs::read(cert)?, std::fs::read(key)?);
        let authority = Certificate::from_pem(std::fs::read(ca)?);
        endpoint =
            endpoint.tls_config(ClientTlsConfig::new().ca_certificate(authority).identity(identity))?;
    }
    let mut channels = Vec::new();
    for _ in 0..CONNECTIONS {
        channels.push(endpoint.connect().await?);
    }
    let wish = v1::IssueTokenRequest {
        user_id: "bench".into(),
        scopes: vec![v1::Scope::Chat as i32],
        ..Default::default()
    };
    let (next, started) = (Arc::new(AtomicU64::new(0)), Instant::now());
    let workers: Vec<_> = channels
        .iter()
        .cycle()
        .take(at_once)
        .map(|channel| {
            let (mut client, wish, next) =
                (TokenServiceClient::new(channel.clone()), wish.clone(), Arc::clone(&next));
            tokio::spawn(async move {
                let mut times = Vec::new();
                while next.fetch_add(1, Ordering::Relaxed) < count {
                    let began = Instant::now();
                    client.issue_token(wish.clone()).await?;
                    times.push(began.elapsed().as_secs_f64() * 1e3);
                }
                Ok::<_, tonic::Status>(times)
            })
        })
        .collect();
    let mut times = Vec::new();
    for worker in workers {
        times.extend(worker.await??);
    }
    let took = started.elapsed().as_secs_f64();
    times.sort_by(f64::total_cmp);
    let at = |percent: usize| times.get(times.len() * percent / 100).copied().unwrap_or_default();
    println!("{took:.3} {:.3} {:.3}", at(50), at(99));
    Ok(())
}
