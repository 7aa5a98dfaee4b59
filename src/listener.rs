//! Accepts HTTP/1.1 connections and serves one request on each, within limits, until told to stop.
//!
//! It knows nothing of what is served. Bounded: connections, the head of a request, the life of a connection, and the
//! time that answers under way get at the end. Used by `admin` and `webhook`.

use std::sync::Arc;
use std::time::Duration;

use axum::response::Response;
use hyper::body::Incoming;
use hyper::service::Service;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How much a listener lets its clients have.
pub(crate) struct Limits {
    /// Connections at the same time; more wait in the kernel's queue.
    pub(crate) connections: usize,
    /// The time a client has to send the head of its request.
    pub(crate) head: Duration,
    /// The time a connection lives at the most. One connection is one request.
    pub(crate) connection: Duration,
    /// The time that answers under way get once no more is accepted.
    pub(crate) drain: Duration,
}

/// Serves until `shutdown`, then lets answers under way finish; says whether they did. `name` is for the log.
pub(crate) async fn serve<S>(
    listener: TcpListener,
    service: S,
    name: &'static str,
    limits: Limits,
    shutdown: CancellationToken,
) -> bool
where
    S: Service<hyper::Request<Incoming>, Response = Response> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(limits.head).keep_alive(false).max_buf_size(16_384);
    let places = Arc::new(Semaphore::new(limits.connections));
    let connections = TaskTracker::new();
    loop {
        let next = async {
            let place = Arc::clone(&places).acquire_owned().await;
            (place, listener.accept().await)
        };
        let (place, accepted) = tokio::select! {
            () = shutdown.cancelled() => break,
            next = next => next,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Usually no file descriptor is left; another attempt at once would fail too.
                tracing::warn!(kind = %error.kind(), "{name} could not accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let connection = http.serve_connection(TokioIo::new(stream), service.clone());
        connections.spawn(async move {
            // What goes wrong on one connection is that client's concern.
            let _ = tokio::time::timeout(limits.connection, connection).await;
            drop(place);
        });
    }
    drop(listener);
    connections.close();
    tokio::time::timeout(limits.drain, connections.wait()).await.is_ok()
}
