//! The listeners and their connections, HTTP and HTTPS alike, HTTP/1.1 only.
//!
//! Bounded: connections, headers, and the time a client may take over either. A client over a limit is turned away,
//! never queued. Everything ends when the token is cancelled. Called by `start`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::service::{self, Origin};
use super::shared::Shared;

/// Connections open at the same time, per listener.
const MAX_CONNECTIONS: usize = 1024;
const MAX_HEADERS: usize = 64;
const MAX_HEADER_BYTES: usize = 32 * 1024;
/// How long a connection may be idle or take over the head of a request; longer than clients keep idle ones.
const IDLE_TIMEOUT: Duration = Duration::from_mins(4);
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Accepts connections until cancelled; with an acceptor, over TLS.
pub(super) async fn accept(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    shared: Arc<Shared>,
    tasks: TaskTracker,
    cancel: CancellationToken,
) {
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let accepted = tokio::select! {
            () = cancel.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, peer)) = accepted else {
            // Out of file descriptors, most likely: let some be freed instead of spinning.
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        let Ok(permit) = Arc::clone(&permits).try_acquire_owned() else { continue };
        let (tls, shared, cancel) = (tls.clone(), Arc::clone(&shared), cancel.clone());
        tasks.spawn(async move {
            tokio::select! {
                () = cancel.cancelled() => {}
                () = connection(stream, peer, tls, shared) => {}
            }
            drop(permit);
        });
    }
}

async fn connection(stream: TcpStream, peer: SocketAddr, tls: Option<TlsAcceptor>, shared: Arc<Shared>) {
    // Without it small answers can wait for the other side's acknowledgement.
    let _ = stream.set_nodelay(true);
    match tls {
        None => serve(stream, Origin { peer, scheme: "http" }, shared).await,
        Some(acceptor) => {
            let handshake = tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await;
            match handshake {
                Ok(Ok(stream)) => serve(stream, Origin { peer, scheme: "https" }, shared).await,
                Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake with the emulator failed"),
                Err(_) => tracing::debug!("a TLS handshake with the emulator took too long"),
            }
        }
    }
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin>(stream: S, origin: Origin, shared: Arc<Shared>) {
    let service = service_fn(|request| {
        let shared = Arc::clone(&shared);
        async move { service::handle(&shared, origin, request).await }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE_TIMEOUT)
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_HEADER_BYTES)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        // Usual: malformed requests, clients that hang up, and faults that close the connection.
        tracing::debug!(%error, "a connection to the emulator ended early");
    }
}
