//! Connections: accepted, served over HTTP/2 and, at the end, drained.
//!
//! hyper directly and not tonic's own accept loop: that one sets no TCP_NODELAY on a listener it is handed, waits for
//! ever for connections to close, and cuts calls at `grpc-timeout` with an answer that has no details. Having the loop
//! also leaves room for another way of writing or scheduling. Every connection is bounded in streams, header size,
//! silence and time to begin; their number is bounded in all and for each address, and `guests` says who has to leave.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{Instant, MissedTickBehavior, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::body::Body;

use super::answer::{Answer, Expected};
use super::arriving::{Arriving, Unwanted, Waste};
use super::guests::{Guests, Place, Stay};
use super::probe::Probes;
use super::server::Server;
use super::socket::Socket;
use super::tls::{Chain, Tls};
use super::turn::{Inline, Turns};
use crate::auth::{Certificate, Peer};
use crate::metrics::Metrics;

/// What every HTTP/2 connection begins with.
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A silent connection is asked for a sign of life this often, and closed if none comes.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(60);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);

/// Streams reset by the peer before they were looked at, and streams reset by us, before the connection is closed:
/// bounds against rapid-reset floods.
const MAX_PENDING_RESETS: usize = 64;
const MAX_LOCAL_RESETS: usize = 1024;

/// What a peer may send on a stream before it is read. The largest mails take 64 times as much, and over a network of some
/// milliseconds they are still fast.
const STREAM_WINDOW: u32 = 256 * 1024;

/// What it may send on a connection, for each stream that it may open: so much it can leave lying here. h2 hangs up on a
/// peer whose small frames, counted as 256 bytes each, take half of it; so each stream may have three of them.
const WINDOW_PER_STREAM: u32 = 2 * 1024;

/// How long to wait after an accept failed, as it does without end when file descriptors run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How often guests are looked at, and how often their certificates are judged although no authority has changed.
const LOOK: Duration = Duration::from_secs(1);
const JUDGE_EVERY: Duration = Duration::from_secs(60);

/// What the settings say about connections.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Connections open at the same time; more wait in the listener's queue.
    pub(crate) max_connections: usize,
    /// Connections of one address; more are closed.
    pub(crate) max_per_peer: usize,
    /// The time TLS and the preface may take; hyper itself would wait for ever.
    pub(crate) handshake: Duration,
    /// How long a connection may stay, and how long without a call; none for ever.
    pub(crate) age: Option<Duration>,
    pub(crate) idle: Option<Duration>,
    /// Concurrent streams of one connection.
    pub(crate) max_streams: u32,
    /// Bytes of all headers of a request.
    pub(crate) max_header_bytes: u32,
    /// How long running calls may go on after the shutdown began.
    pub(crate) drain_timeout: Duration,
}

impl Limits {
    /// Less of all of it, for a port that answers with a few bytes.
    pub(crate) fn of_probes(self) -> Self {
        Self {
            max_connections: 256,
            max_per_peer: 64,
            max_streams: 16,
            max_header_bytes: 4096,
            drain_timeout: Duration::from_secs(1),
            ..self
        }
    }
}

/// What answers on a listener.
#[expect(clippy::large_enum_variant, reason = "there is one for each listener")]
pub(crate) enum Calls {
    /// The API.
    Api(Server),
    /// Health alone.
    Probes(Probes),
}

impl Calls {
    /// Answers a call; in a crowd none that may wait.
    async fn call(&self, peer: &Peer, crowd: bool, request: Request<Arriving<Incoming>>) -> Response<Body> {
        match self {
            Self::Api(server) => server.call(peer, crowd, request).await,
            Self::Probes(probes) => probes.call(request).await,
        }
    }
}

/// A listener and all that its connections share.
pub(crate) struct Door {
    pub(crate) listener: TcpListener,
    pub(crate) tls: Option<Arc<Tls>>,
    pub(crate) calls: Calls,
    pub(crate) limits: Limits,
    pub(crate) metrics: Metrics,
}

/// What a connection needs to know.
struct Inside {
    tls: Option<Arc<Tls>>,
    calls: Calls,
    limits: Limits,
    guests: Arc<Guests>,
    waste: Arc<Waste>,
    cut: CancellationToken,
}

/// Serves connections until `shutdown`, tells `draining`, and lets running calls end within the drain time.
pub(crate) async fn serve(door: Door, draining: impl FnOnce(), shutdown: CancellationToken) {
    let Door { listener, tls, calls, limits, metrics } = door;
    let stay = Stay { most_per_peer: limits.max_per_peer, age: limits.age, idle: limits.idle };
    let guests = Guests::new(stay, metrics, shutdown.clone());
    let cut = CancellationToken::new();
    // Whatever ends this function, also its being dropped, ends the connections.
    let _cut_on_drop = cut.clone().drop_guard();
    let inside = Arc::new(Inside { tls, calls, limits, guests, waste: Waste::new(), cut: cut.clone() });
    let connections = TaskTracker::new();
    let looking = look(&inside);
    let accepting = accept(listener, &connections, &inside);
    tokio::select! {
        () = shutdown.cancelled() => {}
        never = accepting => match never {},
        never = looking => match never {},
    }
    // The listener is closed by now. Probes on open connections and watches learn of the end first.
    draining();
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
async fn accept(listener: TcpListener, connections: &TaskTracker, inside: &Arc<Inside>) -> Infallible {
    let seats = Arc::new(Semaphore::new(inside.limits.max_connections));
    loop {
        let seat = seats.clone().acquire_owned().await;
        inside.guests.room().await;
        match listener.accept().await {
            Ok((stream, address)) => {
                let Some(place) = inside.guests.admit(address.ip()) else { continue };
                let served = serve_connection(stream, address, inside.clone(), place);
                connections.spawn(async move {
                    served.await;
                    drop(seat);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Looks at the guests for ever: at once when the authorities change, else once a second.
async fn look(inside: &Inside) -> Infallible {
    let mut changes = inside.tls.as_ref().map(|tls| tls.changes());
    let mut ticks = tokio::time::interval(LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut judged = Instant::now();
    loop {
        let changed = async {
            let seen = match &mut changes {
                Some(changes) => changes.changed().await.is_ok(),
                None => false,
            };
            if !seen {
                std::future::pending::<()>().await;
            }
        };
        let changed = tokio::select! {
            () = changed => true,
            _ = ticks.tick() => false,
        };
        let tls = inside.tls.as_ref().filter(|tls| tls.asks());
        match tls.filter(|_| changed || judged.elapsed() >= JUDGE_EVERY) {
            Some(tls) => {
                judged = Instant::now();
                inside.guests.look(Some(&tls.trusts())).await;
            }
            None => inside.guests.look(None).await,
        }
    }
}

fn http2_of(limits: Limits, executor: Inline) -> http2::Builder<Inline> {
    let mut http = http2::Builder::new(executor);
    http.timer(TokioTimer::new())
        .max_concurrent_streams(limits.max_streams)
        .max_header_list_size(limits.max_header_bytes)
        .initial_connection_window_size(
            limits.max_streams.saturating_mul(WINDOW_PER_STREAM).max(STREAM_WINDOW),
        )
        .initial_stream_window_size(STREAM_WINDOW)
        .max_pending_accept_reset_streams(MAX_PENDING_RESETS)
        .max_local_error_reset_streams(MAX_LOCAL_RESETS)
        .keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        // gRPC has no use for a date.
        .auto_date_header(false);
    http
}

async fn serve_connection(stream: TcpStream, address: SocketAddr, inside: Arc<Inside>, place: Place) {
    let guest = Arc::clone(place.guest());
    // Boxed, so that a connection does not carry the room for its handshake for all of its life.
    let beginning = Box::pin(timeout(inside.limits.handshake, begin(stream, inside.tls.as_deref())));
    let (socket, client) = match guest.leave().run_until_cancelled(beginning).await {
        Some(Ok(Ok(begun))) => begun,
        Some(Ok(Err(why))) => return place.note(why),
        Some(Err(_)) => return place.note("slow"),
        None => return,
    };
    let (certificate, chain) = client.unzip();
    place.begun(chain);
    let peer = Arc::new(Peer { address: Some(address), certificate });
    let bare = Arc::new(Peer { address: Some(address), certificate: None });
    let (guest, inside) = (&guest, &inside);
    let answering = |unwanted: Unwanted| {
        let (peer, bare) = (&peer, &bare);
        service_fn(move |request: Request<Incoming>| {
            let running = guest.call();
            let peer = Arc::clone(if guest.is_distrusted() { bare } else { peer });
            let inside = Arc::clone(inside);
            let (expected, crowd) = (Expected::at(request.uri().path()), guest.is_crowded());
            let request = request.map(|body| Arriving::new(body, guest, &unwanted));
            async move {
                // Boxed when its turn comes, and freed with its answer: a peer may begin hundreds of calls at once, and each
                // would hold the room for its work before it does any, and for as long as its answer lies.
                let answer = Box::pin(inside.calls.call(&peer, crowd, request)).await;
                Ok::<_, Infallible>(Answer::of(answer, running, expected))
            }
        })
    };
    let mut turns = Turns::new(socket, |socket, executor| {
        let unwanted = Unwanted::new(executor.clone(), Arc::clone(&inside.waste));
        http2_of(inside.limits, executor).serve_connection(TokioIo::new(socket), answering(unwanted))
    });
    let driven = async {
        tokio::select! {
            ended = &mut turns => Some(ended),
            () = guest.leave().cancelled() => {
                turns.connection().graceful_shutdown();
                tokio::select! {
                    // First what has come by now.
                    biased;
                    ended = inside.cut.run_until_cancelled(&mut turns) => ended,
                    () = guest.overstays(inside.limits.drain_timeout) => None,
                }
            }
            () = inside.cut.cancelled() => None,
        }
    };
    let ended = tokio::select! {
        ended = driven => ended,
        () = guest.is_cut() => None,
    };
    if let Some(Err(error)) = ended {
        tracing::debug!(%error, "a connection ended badly");
    }
}

/// TLS, if there is any, and the preface. The error is the word for metrics.
async fn begin(
    stream: TcpStream,
    tls: Option<&Tls>,
) -> Result<(Socket, Option<(Arc<Certificate>, Chain)>), &'static str> {
    // Without it the kernel holds small answers back: a tenth of the throughput.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "cannot set TCP_NODELAY");
    }
    let (mut socket, client) = match tls {
        None => (Socket::from(stream), None),
        Some(tls) => {
            let shaken = tls.shake(stream).await.map_err(|error| {
                tracing::debug!(error, "a TLS handshake failed");
                "tls"
            })?;
            (Socket::from(shaken.stream), shaken.client)
        }
    };
    if speaks_http2(&mut socket).await {
        Ok((socket.reading_again(PREFACE), client))
    } else {
        Err("not_http2")
    }
}

/// Reads the preface. False as soon as it is clear that none will come.
async fn speaks_http2(socket: &mut (impl AsyncRead + Unpin)) -> bool {
    let mut begin = [0; PREFACE.len()];
    let mut read = 0;
    while let Some(room) = begin.get_mut(read..).filter(|room| !room.is_empty()) {
        let Ok(count @ 1..) = socket.read(room).await else { return false };
        read += count;
        if begin.get(..read) != PREFACE.get(..read) {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt;

    const PATIENCE: Duration = Duration::from_secs(10);

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (client, listener.accept().await.unwrap().0)
    }

    #[tokio::test]
    async fn a_preface_in_pieces_is_waited_for() {
        let (mut client, mut server) = pair().await;
        let (head, tail) = PREFACE.split_at(10);
        client.write_all(head).await.unwrap();
        let waiting = tokio::spawn(async move { speaks_http2(&mut server).await });
        client.write_all(tail).await.unwrap();
        assert!(timeout(PATIENCE, waiting).await.unwrap().unwrap());
    }

    #[tokio::test]
    async fn the_kernel_is_told_to_hold_no_answer_back() {
        let (mut client, server) = pair().await;
        client.write_all(PREFACE).await.unwrap();
        let (socket, _) = timeout(PATIENCE, begin(server, None)).await.unwrap().unwrap();
        assert!(socket.tcp().nodelay().unwrap());
    }

    #[tokio::test]
    async fn other_protocols_and_the_end_are_told_at_once() {
        for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"\x16\x03\x01", b"PRI * HTTP/2.0\r\n\r\nXX"] {
            let (mut client, mut server) = pair().await;
            client.write_all(bytes).await.unwrap();
            assert_eq!(timeout(PATIENCE, speaks_http2(&mut server)).await, Ok(false));
        }
        let (client, mut server) = pair().await;
        drop(client);
        assert_eq!(timeout(PATIENCE, speaks_http2(&mut server)).await, Ok(false));
    }

    #[tokio::test(start_paused = true)]
    async fn half_a_preface_is_not_waited_for_for_ever() {
        let (mut client, mut server) = pair().await;
        client.write_all(PREFACE.split_at(10).0).await.unwrap();
        assert!(timeout(PATIENCE, speaks_http2(&mut server)).await.is_err());
    }
}
