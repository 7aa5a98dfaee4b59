//! The yardstick of `bench/load`: a stock tonic server that answers every IssueToken with the same stored message.
//!
//! It asks a broker once (first argument, its URL; second, a user) and from then on repeats that answer on its own port,
//! so both send the same bytes. It has no cache, no store and no metrics. With three further arguments, PEM files of a
//! certificate, its key and an authority, it speaks TLS and asks for clients' certificates.
#![allow(clippy::print_stdout, reason = "the driver reads the address from standard output")]

use acs_broker::grpc::proto::v1;
use tonic::transport::{Certificate, Identity, ServerTlsConfig};
use v1::token_service_client::TokenServiceClient;
use v1::token_service_server::{TokenService, TokenServiceServer};

struct Bare(v1::IssueTokenResponse);

#[tonic::async_trait]
impl TokenService for Bare {
    async fn issue_token(
        &self,
        _request: tonic::Request<v1::IssueTokenRequest>,
    ) -> Result<tonic::Response<v1::IssueTokenResponse>, tonic::Status> {
        Ok(tonic::Response::new(self.0.clone()))
    }

    async fn refresh_token(
        &self,
        _request: tonic::Request<v1::RefreshTokenRequest>,
    ) -> Result<tonic::Response<v1::RefreshTokenResponse>, tonic::Status> {
        Err(tonic::Status::unimplemented("the yardstick only issues"))
    }

    async fn revoke_tokens(
        &self,
        _request: tonic::Request<v1::RevokeTokensRequest>,
    ) -> Result<tonic::Response<v1::RevokeTokensResponse>, tonic::Status> {
        Err(tonic::Status::unimplemented("the yardstick only issues"))
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let broker = arguments.next().ok_or("usage: bare_server BROKER_URL USER")?;
    let user_id = arguments.next().ok_or("usage: bare_server BROKER_URL USER")?;
    let mut client = TokenServiceClient::connect(broker).await?;
    let request =
        v1::IssueTokenRequest { user_id, scopes: vec![v1::Scope::Chat as i32], ..Default::default() };
    // The second answer is the one that comes from the cache, as those under load will.
    client.issue_token(request.clone()).await?;
    let answer = client.issue_token(request).await?.into_inner();

    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    let mut server = tonic::transport::Server::builder();
    if let (Some(cert), Some(key), Some(ca)) = (arguments.next(), arguments.next(), arguments.next()) {
        let identity = Identity::from_pem(std::fs::read(cert)?, std::fs::read(key)?);
        let authority = Certificate::from_pem(std::fs::read(ca)?);
        server = server.tls_config(ServerTlsConfig::new().identity(identity).client_ca_root(authority))?;
    }
    let incoming = tonic::transport::server::TcpIncoming::from(listener).with_nodelay(Some(true));
    server.add_service(TokenServiceServer::new(Bare(answer))).serve_with_incoming(incoming).await?;
    Ok(())
}
