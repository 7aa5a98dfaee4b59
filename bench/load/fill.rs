//! Fills a broker's cache for `bench/load`: issues one chat token to each of N users, a bounded number at a time.
//!
//! Arguments: the broker's URL, N, and for https:// a PEM file of the authority to trust. Fails on the first error; says
//! nothing else.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use acs_broker::grpc::proto::v1;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint};
use v1::token_service_client::TokenServiceClient;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let broker = arguments.next().ok_or("usage: fill BROKER_URL N")?;
    let users: u64 = arguments.next().ok_or("usage: fill BROKER_URL N")?.parse()?;
    let mut endpoint = Endpoint::from_shared(broker)?;
    if let Some(authority) = arguments.next() {
        let authority = Certificate::from_pem(std::fs::read(authority)?);
        endpoint = endpoint.tls_config(ClientTlsConfig::new().ca_certificate(authority))?;
    }
    let client = TokenServiceClient::new(endpoint.connect().await?);
    let next = Arc::new(AtomicU64::new(0));
    let workers: Vec<_> = (0..64)
        .map(|_| {
            let (mut client, next) = (client.clone(), Arc::clone(&next));
            tokio::spawn(async move {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= users {
                        return Ok::<(), tonic::Status>(());
                    }
                    let request = v1::IssueTokenRequest {
                        user_id: format!("filled-{number}"),
                        scopes: vec![v1::Scope::Chat as i32],
                        ..Default::default()
                    };
                    client.issue_token(request).await?;
                }
            })
        })
        .collect();
    for worker in workers {
        worker.await??;
    }
    Ok(())
}
