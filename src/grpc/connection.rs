//! Connections: accepted, served over HTTP/2 and, at the end, drained.
//!
//! hyper directly and not tonic's own accept loop: that one sets no TCP_NODELAY on a listener it is handed, waits for
//! ever for connections to close, and cuts calls at `grpc-timeout` with an answer that has no details. Having the loop
//! also leaves room for another way of writing or scheduling. Every connection is bounded in streams, header size,
//! silence and time to begin; their number is bounded too.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::health::Health;
use super::server::Server;
use super::turn::{Inline, Turns};
use crate::auth::Peer;

/// Connections open at the same time; more wait in the listener's queue.
const MAX_CONNECTIONS: usize = 16_384;

/// What every HTTP/2 connection begins with.
const PREFACE: [u8; 24] = *b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The time a new connection has to send the preface; hyper itself would wait for ever.
const PREFACE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long to wait for the rest of a preface that came in pieces.
const PREFACE_PAUSE: Duration = Duration::from_millis(20);

/// A silent connection is asked for a sign of life this often, and closed if none comes.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(60);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);

/// Bytes of all headers of a request.
const MAX_HEADER_BYTES: u32 = 16 * 1024;

/// Streams reset by the peer before they were looked at, and streams reset by us, before the connection is closed:
/// bounds against rapid-reset floods.
const MAX_PENDING_RESETS: usize = 64;
const MAX_LOCAL_RESETS: usize = 1024;

/// How long to wait after an accept failed, as it does without end when file descriptors run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What the settings say about connections.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Concurrent streams of one connection.
    pub(crate) max_streams: u32,
    /// How long running calls may go on after the shutdown began.
    pub(crate) drain_timeout: Duration,
}

/// Serves connections until `shutdown`, then lets running calls end within the drain time.
pub(crate) async fn serve(
    listener: TcpListener,
    server: Arc<Server>,
    limits: Limits,
    health: Health,
    shutdown: CancellationToken,
) {
    let connections = TaskTracker::new();
    let cut = CancellationToken::new();
    // Whatever ends this function, also its being dropped, ends the connections.
    let _cut_on_drop = cut.clone().drop_guard();
    let _ = shutdown
        .run_until_cancelled(accept(listener, &connections, |stream, peer| {
            serve_connection(stream, peer, server.clone(), limits, shutdown.clone(), cut.clone())
        }))
        .await;
    // The listener is closed by now. Probes on open connections and watches learn of the end first.
    health.drain();
    connections.close();
    let open = connections.len();
    tracing::info!(open, "draining connections");
    if timeout(limits.drain_timeout, connections.wait()).await.is_err() {
        tracing::warn!(
            open = connections.len(),
            "the drain time is over; closing connections with calls on them"
        );
        cut.cancel();
        connections.wait().await;
    }
}

/// Accepts for ever.
async fn accept<F>(
    listener: TcpListener,
    connections: &TaskTracker,
    connection: impl Fn(TcpStream, SocketAddr) -> F,
) -> Infallible
where
    F: Future<Output = ()> + Send + 'static,
{
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let place = places.clone().acquire_owned().await;
        match listener.accept().await {
            Ok((stream, peer)) => {
                let served = connection(stream, peer);
                connections.spawn(async move {
                    served.await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn http2_of(limits: Limits, executor: Inline) -> http2::Builder<Inline> {
    let mut http = http2::Builder::new(executor);
    http.timer(TokioTimer::new())
        .max_concurrent_streams(limits.max_streams)
        .max_header_list_size(MAX_HEADER_BYTES)
        .max_pending_accept_reset_streams(MAX_PENDING_RESETS)
        .max_local_error_reset_streams(MAX_LOCAL_RESETS)
        .keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        // gRPC has no use for a date.
        .auto_date_header(false);
    http
}

async fn serve_connection(
    stream: TcpStream,
    peer: SocketAddr,
    server: Arc<Server>,
    limits: Limits,
    shutdown: CancellationToken,
    cut: CancellationToken,
) {
    // Without it the kernel holds small answers back: a tenth of the throughput.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "cannot set TCP_NODELAY");
    }
    let preface = shutdown.run_until_cancelled(timeout(PREFACE_TIMEOUT, speaks_http2(&stream)));
    if preface.await != Some(Ok(true)) {
        return;
    }
    let peer = Arc::new(Peer { address: Some(peer), certificate: None });
    let calls = service_fn(move |request| {
        let (server, peer) = (server.clone(), peer.clone());
        async move { Ok::<_, Infallible>(server.call(&peer, request).await) }
    });
    let mut turns = Turns::new(stream, |socket, executor| {
        http2_of(limits, executor).serve_connection(TokioIo::new(socket), calls)
    });
    let ended = tokio::select! {
        ended = &mut turns => Some(ended),
        () = shutdown.cancelled() => {
            turns.connection().graceful_shutdown();
            cut.run_until_cancelled(turns).await
        }
        () = cut.cancelled() => None,
    };
    if let Some(Err(error)) = ended {
        tracing::debug!(%error, "a connection ended badly");
    }
}

/// Waits for the preface and leaves it to be read. False as soon as it is clear that none will come.
async fn speaks_http2(stream: &TcpStream) -> bool {
    let mut begin = [0; PREFACE.len()];
    loop {
        let Ok(count @ 1..) = stream.peek(&mut begin).await else { return false };
        if begin.get(..count) != PREFACE.get(..count) {
            return false;
        }
        if count == PREFACE.len() {
            return true;
        }
        // Peeking again at once would spin: there is something to read, only not enough.
        tokio::time::sleep(PREFACE_PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt;

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (client, listener.accept().await.unwrap().0)
    }

    #[tokio::test]
    async fn a_preface_in_pieces_is_waited_for() {
        let (mut client, server) = pair().await;
        let (head, tail) = PREFACE.split_at(10);
        client.write_all(head).await.unwrap();
        let waiting = tokio::spawn(async move { speaks_http2(&server).await });
        client.write_all(tail).await.unwrap();
        assert!(timeout(PREFACE_TIMEOUT, waiting).await.unwrap().unwrap());
    }

    #[tokio::test]
    async fn other_protocols_and_the_end_are_told_at_once() {
        for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"\x16\x03\x01", b"PRI * HTTP/2.0\r\n\r\nXX"] {
            let (mut client, server) = pair().await;
            client.write_all(bytes).await.unwrap();
            assert_eq!(timeout(PREFACE_TIMEOUT, speaks_http2(&server)).await, Ok(false));
        }
        let (client, server) = pair().await;
        drop(client);
        assert_eq!(timeout(PREFACE_TIMEOUT, speaks_http2(&server)).await, Ok(false));
    }

    #[tokio::test(start_paused = true)]
    async fn half_a_preface_is_not_waited_for_for_ever() {
        let (mut client, server) = pair().await;
        client.write_all(PREFACE.split_at(10).0).await.unwrap();
        assert!(timeout(PREFACE_TIMEOUT, speaks_http2(&server)).await.is_err());
    }
}
