//! A connection's turn: read what came, run the calls, write all answers at once.
//!
//! hyper with a multi-threaded runtime gives each call a task of its own; each finished call then wakes the connection,
//! which writes that one answer. Here the calls of a connection run in the connection's own task, and what hyper writes
//! is gathered and goes to the socket once after each turn: fewer wake-ups and system calls, the same bytes. A turn is
//! bounded in time, what a slow reader leaves unread is bounded in bytes, a reader that takes nothing is given up, and a
//! call that panics takes no other with it. It knows HTTP only as bytes; `connection` uses it, and nothing else.

use std::cell::Cell;
use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use super::socket::{Reads, Socket, Writes};

/// Bytes that wait for the socket before hyper is told to wait too.
const MOST_WAITING: usize = 64 * 1024;

/// The buffer a connection keeps while nothing waits: enough for a few answers, little for thousands that are idle.
const KEPT: usize = 16 * 1024;

/// How long a turn goes on while there is more to do, before other connections get theirs. In time and not in calls,
/// for the dearest call costs a hundred times the cheapest.
const TURN: Duration = Duration::from_millis(1);

/// A peer that takes not one byte for so long, though some wait, is given up. HTTP/2's keep-alive cannot do it: its
/// farewell would have to be written too.
pub(super) const STALLED: Duration = Duration::from_secs(30);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is to be written, and where to.
struct Outgoing {
    socket: Writes,
    waiting: VecDeque<u8>,
    /// Whether TLS may hold back something it was given.
    held_back: bool,
    /// Whether the socket took something since the last turn.
    moved: bool,
}

impl Outgoing {
    /// Writes what waits, as far as the socket takes it.
    fn poll_write_out(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.waiting.is_empty() {
            let (front, back) = self.waiting.as_slices();
            let slices = [io::IoSlice::new(front), io::IoSlice::new(back)];
            let written = ready!(Pin::new(&mut self.socket).poll_write_vectored(cx, &slices))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.moved = true;
            self.held_back = true;
            self.waiting.drain(..written);
        }
        if self.waiting.capacity() > KEPT {
            self.waiting = VecDeque::new();
        }
        if self.held_back {
            ready!(Pin::new(&mut self.socket).poll_flush(cx))?;
            self.held_back = false;
        }
        Poll::Ready(Ok(()))
    }

    /// Whether there is room for more, after a try to make some.
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.waiting.len() < MOST_WAITING {
            return Poll::Ready(Ok(()));
        }
        match self.poll_write_out(cx)? {
            Poll::Pending if self.waiting.len() >= MOST_WAITING => Poll::Pending,
            _ => Poll::Ready(Ok(())),
        }
    }
}

/// The socket as hyper sees it: reads are real, writes wait for the end of the turn.
pub(super) struct Gathered {
    incoming: Reads,
    outgoing: Arc<Mutex<Outgoing>>,
}

impl AsyncRead for Gathered {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.incoming).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Gathered {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[io::IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut outgoing = lock(&self.outgoing);
        ready!(outgoing.poll_room(cx))?;
        let mut taken = 0;
        for slice in slices {
            let room = MOST_WAITING.saturating_sub(outgoing.waiting.len());
            let part = slice.get(..room.min(slice.len())).unwrap_or_default();
            outgoing.waiting.extend(part);
            taken += part.len();
        }
        Poll::Ready(Ok(taken))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The turn flushes when it ends.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut outgoing = lock(&self.outgoing);
        ready!(outgoing.poll_write_out(cx))?;
        Pin::new(&mut outgoing.socket).poll_shutdown(cx)
    }
}

type Started = Arc<Mutex<Vec<BoxFuture<'static, ()>>>>;

thread_local! {
    /// When the call that is being polled has to end, if it said so.
    static ENDS: Cell<Option<BoxFuture<'static, ()>>> = const { Cell::new(None) };
}

/// Ends the call that is being polled as soon as this is ready. Said by what a call answers with, for hyper asks that for
/// nothing while the peer gives no room; a call that ends resets its stream.
pub(super) fn end_this_call_when(ready: BoxFuture<'static, ()>) {
    ENDS.set(Some(ready));
}

/// A call, and when it has to end at the latest.
struct Call {
    call: BoxFuture<'static, ()>,
    ends: Option<BoxFuture<'static, ()>>,
}

impl From<BoxFuture<'static, ()>> for Call {
    fn from(call: BoxFuture<'static, ()>) -> Self {
        Self { call, ends: None }
    }
}

impl Future for Call {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let polled = self.call.as_mut().poll(cx);
        if let Some(ends) = ENDS.take() {
            self.ends = Some(ends);
        }
        match &mut self.ends {
            Some(ends) if polled.is_pending() => ends.as_mut().poll(cx),
            _ => polled,
        }
    }
}

/// hyper's executor: hands the calls of a connection to its turn.
#[derive(Clone, Default)]
pub(super) struct Inline(Started);

#[cfg(test)]
impl Inline {
    /// What was handed over since this was last asked.
    pub(super) fn take(&self) -> Vec<BoxFuture<'static, ()>> {
        std::mem::take(&mut *lock(&self.0))
    }
}

impl<F> hyper::rt::Executor<F> for Inline
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, call: F) {
        // A task of its own would end alone as well. The message is in the log already, from the panic hook, and
        // HTTP/2 resets the stream of a call that is dropped.
        lock(&self.0).push(Box::pin(AssertUnwindSafe(call).catch_unwind().map(drop)));
    }
}

/// A connection with its calls and its writes, driven together.
pub(super) struct Turns<C> {
    connection: Pin<Box<C>>,
    started: Started,
    calls: FuturesUnordered<Call>,
    outgoing: Arc<Mutex<Outgoing>>,
    /// Runs while the socket takes nothing.
    stalled: Option<Pin<Box<Sleep>>>,
}

impl<C> Turns<C> {
    /// Drives the connection that `serve` makes of the socket and the executor.
    pub(super) fn new(socket: impl Into<Socket>, serve: impl FnOnce(Gathered, Inline) -> C) -> Self {
        let (incoming, socket) = socket.into().split();
        let outgoing = Outgoing { socket, waiting: VecDeque::new(), held_back: false, moved: false };
        let outgoing = Arc::new(Mutex::new(outgoing));
        let executor = Inline::default();
        let connection = serve(Gathered { incoming, outgoing: Arc::clone(&outgoing) }, executor.clone());
        Self {
            connection: Box::pin(connection),
            started: executor.0,
            calls: FuturesUnordered::new(),
            outgoing,
            stalled: None,
        }
    }

    /// The connection, to tell it something.
    pub(super) fn connection(&mut self) -> Pin<&mut C> {
        self.connection.as_mut()
    }

    /// Lets the calls that can go on do so. Whether any ended.
    fn run_calls(&mut self, cx: &mut Context<'_>, began: Instant) -> bool {
        let mut ended = false;
        while let Poll::Ready(Some(())) = self.calls.poll_next_unpin(cx) {
            ended = true;
            if began.elapsed() >= TURN {
                break;
            }
        }
        ended
    }

    /// Writes what the turn gathered; an error ends the connection.
    fn write_out(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let mut outgoing = lock(&self.outgoing);
        let all = outgoing.poll_write_out(cx)?;
        if std::mem::take(&mut outgoing.moved) || all.is_ready() {
            self.stalled = None;
        }
        if all.is_ready() {
            return Ok(());
        }
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(STALLED)));
        match stalled.as_mut().poll(cx) {
            Poll::Ready(()) => Err(io::ErrorKind::TimedOut.into()),
            Poll::Pending => Ok(()),
        }
    }
}

impl<C> Drop for Turns<C> {
    fn drop(&mut self) {
        // A call that was handed over and never began holds the executor, and so the list that it is in.
        let never_began = std::mem::take(&mut *lock(&self.started));
        drop(never_began);
    }
}

/// Why a connection ended badly.
#[derive(Debug, thiserror::Error)]
pub(super) enum Broken<E> {
    /// HTTP/2 went wrong.
    #[error(transparent)]
    Http(E),
    /// The socket takes no more.
    #[error("the socket cannot be written")]
    Socket(#[source] io::Error),
}

impl<C, E> Future for Turns<C>
where
    C: Future<Output = Result<(), E>>,
{
    type Output = Result<(), Broken<E>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let turns = &mut *self;
        let began = Instant::now();
        loop {
            if let Poll::Ready(ended) = turns.connection.as_mut().poll(cx) {
                return Poll::Ready(ended.map_err(Broken::Http));
            }
            let started = std::mem::take(&mut *lock(&turns.started));
            let any_started = !started.is_empty();
            turns.calls.extend(started.into_iter().map(Call::from));
            let any_ended = turns.run_calls(cx, began);
            if !any_started && !any_ended {
                break;
            }
            if began.elapsed() >= TURN {
                // There is more to do, but others wait: go to the back of the queue.
                cx.waker().wake_by_ref();
                break;
            }
        }
        match turns.write_out(cx) {
            Ok(()) => Poll::Pending,
            Err(error) => Poll::Ready(Err(Broken::Socket(error))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (near, listener.accept().await.unwrap().0)
    }

    /// A "connection" that writes this many bytes, counting up, and shuts down.
    async fn writes(mut socket: Gathered, bytes: usize) -> io::Result<()> {
        let all: Vec<u8> = (0..bytes).map(|at| u8::try_from(at % 251).unwrap()).collect();
        for part in all.chunks(10_007) {
            socket.write_all(part).await?;
            socket.flush().await?;
        }
        socket.shutdown().await
    }

    #[tokio::test]
    async fn what_is_larger_than_the_buffer_arrives_whole_and_in_order() {
        for bytes in [0, 1, MOST_WAITING - 1, MOST_WAITING, MOST_WAITING + 1, 5_000_000] {
            let (near, mut far) = pair().await;
            let turns = tokio::spawn(Turns::new(near, |socket, _| writes(socket, bytes)));
            let mut read = Vec::new();
            far.read_to_end(&mut read).await.unwrap();
            assert_eq!(read.len(), bytes);
            assert!(read.iter().enumerate().all(|(at, byte)| usize::from(*byte) == at % 251));
            turns.await.unwrap().unwrap();
        }
    }

    #[tokio::test]
    async fn a_reader_that_does_not_read_makes_the_writer_wait() {
        let (near, mut far) = pair().await;
        let mut turns = Turns::new(near, |socket, _| writes(socket, 50_000_000));
        let waited = tokio::time::timeout(Duration::from_millis(200), &mut turns).await;
        assert!(waited.is_err(), "fifty megabytes fit into no buffer");
        assert!(lock(&turns.outgoing).waiting.len() <= MOST_WAITING);
        let turns = tokio::spawn(turns);
        let read = tokio::io::copy(&mut far, &mut tokio::io::sink()).await.unwrap();
        assert_eq!(read, 50_000_000);
        turns.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn the_writes_of_a_turn_wait_for_its_end_and_go_together() {
        let (near, mut far) = pair().await;
        let turns = Turns::new(near, |mut socket, executor| async move {
            socket.write_all(b"first ").await?;
            socket.flush().await?;
            let outgoing = Arc::clone(&socket.outgoing);
            assert_eq!(lock(&outgoing).waiting.len(), 6, "a flush alone sends nothing");
            let (done, finished) = tokio::sync::oneshot::channel();
            hyper::rt::Executor::execute(&executor, async move {
                let _ = done.send(());
            });
            let _ = finished.await;
            assert_eq!(lock(&outgoing).waiting.len(), 6, "the call ran in the same turn");
            socket.write_all(b"second").await?;
            std::future::pending::<io::Result<()>>().await
        });
        let turns = tokio::spawn(turns);
        let mut read = [0; 12];
        far.read_exact(&mut read).await.unwrap();
        assert_eq!(&read, b"first second");
        turns.abort();
    }

    #[tokio::test]
    async fn a_call_that_waits_holds_up_no_other() {
        let (near, mut far) = pair().await;
        let turns = Turns::new(near, |mut socket, executor| async move {
            hyper::rt::Executor::execute(&executor, std::future::pending::<()>());
            let (done, finished) = tokio::sync::oneshot::channel();
            hyper::rt::Executor::execute(&executor, async move {
                tokio::time::sleep(Duration::from_millis(5)).await;
                let _ = done.send(());
            });
            let _ = finished.await;
            socket.write_all(b"done").await?;
            socket.shutdown().await
        });
        turns.await.unwrap();
        let mut read = String::new();
        far.read_to_string(&mut read).await.unwrap();
        assert_eq!(read, "done");
    }

    #[tokio::test]
    async fn a_peer_that_is_gone_ends_the_connection() {
        let (near, far) = pair().await;
        drop(far);
        let turns = Turns::new(near, |mut socket, _| async move {
            while socket.write_all(&[0; 10_000]).await.is_ok() {
                tokio::task::yield_now().await;
            }
            Err::<(), _>(io::Error::other("the socket said so"))
        });
        let ended = tokio::time::timeout(Duration::from_secs(10), turns).await.expect("it ends");
        assert!(ended.is_err());
    }

    /// Runs a "connection" that hands these calls over and ends when the last of them has sent.
    async fn run_calls<F>(calls: usize, call: impl Fn(usize) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (near, _far) = pair().await;
        let (sender, mut receiver) = tokio::sync::mpsc::unbounded_channel();
        let calls: Vec<_> = (0..calls)
            .map(|at| {
                let (call, sender) = (call(at), sender.clone());
                call.map(move |()| sender.send(()).unwrap())
            })
            .collect();
        drop(sender);
        let turns = Turns::new(near, |mut socket, executor| async move {
            for call in calls {
                hyper::rt::Executor::execute(&executor, call);
            }
            while receiver.recv().await.is_some() {}
            socket.shutdown().await
        });
        turns.await.unwrap();
    }

    #[tokio::test]
    async fn many_dear_calls_let_others_in_between_them() {
        let others = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let counting = tokio::spawn({
            let others = others.clone();
            async move {
                loop {
                    others.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    tokio::task::yield_now().await;
                }
            }
        });
        run_calls(100, |_| async {
            let began = Instant::now();
            while began.elapsed() < Duration::from_millis(2) {
                std::hint::spin_loop();
            }
        })
        .await;
        counting.abort();
        let others = others.load(std::sync::atomic::Ordering::Relaxed);
        assert!(others >= 50, "others ran {others} times during the work of two hundred turns");
    }

    #[tokio::test]
    async fn a_call_that_panics_ends_alone() {
        let ended = run_calls(20, |at| async move {
            tokio::task::yield_now().await;
            assert!(at != 7, "as the test wants it");
        });
        tokio::time::timeout(Duration::from_secs(10), ended).await.expect("the others end");
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_takes_nothing_is_given_up() {
        let (near, far) = pair().await;
        let began = tokio::time::Instant::now();
        let ended = Turns::new(near, |socket, _| writes(socket, 50_000_000)).await;
        assert!(matches!(ended, Err(Broken::Socket(error)) if error.kind() == io::ErrorKind::TimedOut));
        assert!((STALLED..STALLED * 2).contains(&began.elapsed()));
        drop(far);
    }

    #[tokio::test]
    async fn a_reader_that_takes_little_is_not_given_up() {
        let (near, mut far) = pair().await;
        let mut turns = Turns::new(near, |socket, _| writes(socket, 150_000_000));
        // More than the system's buffers hold: whoever reads so much has let the writer go on.
        let mut buffer = vec![0; 16_000_000];
        for _ in 0..8 {
            // Pauses that are together far longer than the one it takes to be given up.
            tokio::time::pause();
            assert!(tokio::time::timeout(STALLED * 2 / 3, &mut turns).await.is_err());
            tokio::time::resume();
            tokio::select! {
                read = far.read_exact(&mut buffer) => drop(read.unwrap()),
                ended = &mut turns => ended.unwrap(),
            }
        }
    }

    #[tokio::test]
    async fn a_connection_that_ends_leaves_none_of_its_calls_behind() {
        let alive = Arc::new(());
        let (near, _far) = pair().await;
        let turns = Turns::new(near, |_, executor| {
            let alive = Arc::clone(&alive);
            async move {
                let again = executor.clone();
                // As those of hyper do, it holds the executor to the end.
                hyper::rt::Executor::execute(&executor, async move {
                    std::future::pending::<()>().await;
                    drop((alive, again));
                });
                Err::<(), _>(io::Error::other("a broken frame came right behind it"))
            }
        });
        assert!(turns.await.is_err());
        assert_eq!(Arc::strong_count(&alive), 1);
    }

    /// Counts how often a future is polled.
    struct Counted<F>(F, Arc<std::sync::atomic::AtomicUsize>);

    impl<F: Future + Unpin> Future for Counted<F> {
        type Output = F::Output;

        fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
            let polls = self.1.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            assert!(polls < 100_000, "it spins");
            self.0.poll_unpin(cx)
        }
    }

    #[tokio::test]
    async fn an_idle_connection_costs_nothing() {
        let (near, far) = pair().await;
        let service = hyper::service::service_fn(async |_request| {
            let body = http_body_util::Full::<tonic::codegen::Bytes>::from(vec![7; 9_000]);
            Ok::<_, std::convert::Infallible>(http::Response::new(body))
        });
        let turns = Turns::new(near, |socket, executor| {
            let http = hyper::server::conn::http2::Builder::new(executor);
            http.serve_connection(hyper_util::rt::TokioIo::new(socket), service)
        });
        let outgoing = turns.outgoing.clone();
        let polls = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let turns = tokio::spawn(Counted(turns, polls.clone()));
        // Answers are read one after the other, so the window must be wide enough for all of them.
        let (mut client, connection) = h2::client::Builder::new()
            .initial_connection_window_size(1 << 20)
            .handshake::<_, tonic::codegen::Bytes>(far)
            .await
            .unwrap();
        let connection = tokio::spawn(connection);
        let answers: Vec<_> =
            (0..100).map(|_| client.send_request(http::Request::new(()), true).unwrap().0).collect();
        for answer in answers {
            let answer = tokio::time::timeout(Duration::from_secs(10), answer);
            let mut body = answer.await.unwrap().unwrap().into_body();
            let mut bytes = 0;
            while let Some(data) = tokio::time::timeout(Duration::from_secs(10), body.data()).await.unwrap() {
                let data = data.unwrap();
                bytes += data.len();
                body.flow_control().release_capacity(data.len()).unwrap();
            }
            assert_eq!(bytes, 9_000);
        }
        // With the clock stopped an hour passes when nothing is left to be done; what spins leaves something always.
        tokio::time::pause();
        tokio::time::sleep(Duration::from_secs(1)).await;
        let before = polls.load(std::sync::atomic::Ordering::Relaxed);
        tokio::time::sleep(Duration::from_secs(3600)).await;
        assert_eq!(polls.load(std::sync::atomic::Ordering::Relaxed), before);
        assert_eq!(lock(&outgoing).waiting.len(), 0);
        assert!(lock(&outgoing).waiting.capacity() <= KEPT);
        turns.abort();
        connection.abort();
    }
}
