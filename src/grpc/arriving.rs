//! The message of a call as it arrives: noted when it is whole, given up when it takes too long, read out when nobody
//! wants it.
//!
//! A call may be refused before its message is there: too many calls, no such caller, no such method, too large. If the
//! rest were dropped, HTTP/2 would reset the stream under it, and would close a connection on which that happens often:
//! one that the refused caller shares with others. So what is dropped here before its end goes to the connection, which
//! reads it and throws it away after the answer has left, if it is little and comes soon. It must never hold up an
//! answer or keep a seat, and all of it together is bounded, and so is the weight of what is wanted and not yet whole. It
//! knows nothing of what is in a message.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::body::{Body, Frame, SizeHint};
use hyper::rt::Executor;
use tokio::sync::Semaphore;
use tokio::time::{Instant, Sleep};
use tonic::codegen::{Bytes, StdError};

use super::guests::Guest;
use super::scales::{Load, Scales, Weight};
use super::status::{self, Refusal};
use super::turn::Inline;
use crate::broker::error::Error;

/// How long a message may take; whoever sends a byte now and then holds a seat for so long and no longer.
const WHOLE_WITHIN: Duration = Duration::from_secs(30);

/// How much of an unwanted message is read, in bytes and in time.
const MOST_OF_ONE: usize = 64 * 1024;
const READ_OUT_WITHIN: Duration = Duration::from_secs(1);

/// How many unwanted messages are waited for at a time: of one connection, and of all.
const MOST_OF_CONNECTION: usize = 128;
const MOST_OF_ALL: usize = 4096;

/// What is read of all unwanted messages together in a second. Beyond it they are dropped, and who goes on sending them
/// loses its connection.
const MOST_PER_SECOND: usize = 16 * 1024 * 1024;

/// Bounds what is read of messages, for one server: for nobody, and for calls.
pub(super) struct Waste {
    scales: Scales,
    places: Arc<Semaphore>,
    /// Since when is counted, and how much was read since then.
    read: Mutex<(Instant, usize)>,
}

impl Waste {
    pub(super) fn new() -> Arc<Self> {
        let read = Mutex::new((Instant::now(), 0));
        let scales = Scales::default();
        Arc::new(Self { scales, places: Arc::new(Semaphore::new(MOST_OF_ALL)), read })
    }

    /// Counts this; whether it is not too much.
    fn takes(&self, bytes: usize) -> bool {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if read.0.elapsed() >= Duration::from_secs(1) {
            *read = (Instant::now(), 0);
        }
        read.1 = read.1.saturating_add(bytes);
        read.1 <= MOST_PER_SECOND
    }
}

/// Where a connection puts what nobody wants.
#[derive(Clone)]
pub(super) struct Unwanted {
    executor: Inline,
    waste: Arc<Waste>,
    places: Arc<Semaphore>,
}

impl Unwanted {
    /// That of the connection with this executor.
    pub(super) fn new(executor: Inline, waste: Arc<Waste>) -> Self {
        Self { executor, waste, places: Arc::new(Semaphore::new(MOST_OF_CONNECTION)) }
    }

    /// Reads a body out after the call at hand, if there is a place for it.
    fn take<B: Body<Data = Bytes> + Send + Unpin + 'static>(&self, body: B) {
        let here = Arc::clone(&self.places).try_acquire_owned();
        let (Ok(here), Ok(place)) = (here, Arc::clone(&self.waste.places).try_acquire_owned()) else {
            return;
        };
        let waste = Arc::clone(&self.waste);
        self.executor.execute(async move {
            let _ = tokio::time::timeout(READ_OUT_WITHIN, read_out(body, &waste)).await;
            drop((here, place));
        });
    }
}

async fn read_out<B: Body<Data = Bytes> + Unpin>(mut body: B, waste: &Waste) {
    let mut left = MOST_OF_ONE;
    while let Some(Ok(frame)) = body.frame().await {
        let bytes = frame.data_ref().map_or(0, Bytes::len);
        let Some(less) = left.checked_sub(bytes).filter(|_| waste.takes(bytes)) else { return };
        left = less;
    }
}

/// The body of a request.
pub(super) struct Arriving<B: Body<Data = Bytes> + Send + Unpin + 'static> {
    /// None when nothing is left of it.
    body: Option<B>,
    unwanted: Unwanted,
    /// Who is to be known when an admitted call's message is whole.
    guest: Option<Arc<Guest>>,
    admitted: bool,
    load: Load,
    /// Runs while something is waited for.
    slow: Option<Pin<Box<Sleep>>>,
}

impl<B: Body<Data = Bytes> + Send + Unpin + 'static> Arriving<B> {
    /// What comes for this connection.
    pub(super) fn new(body: B, guest: &Arc<Guest>, unwanted: &Unwanted) -> Self {
        let guest = Some(guest).filter(|guest| !guest.is_known()).cloned();
        Self {
            body: Some(body),
            unwanted: unwanted.clone(),
            guest,
            admitted: false,
            load: Load::default(),
            slow: None,
        }
    }

    /// What it weighs is held as long as this, and not only until it is read.
    pub(super) fn held_by(&mut self, weight: &Weight) {
        self.load = Load::held_by(weight.clone());
    }

    /// Its call was admitted: its caller is known, and may not take for ever.
    pub(super) fn admitted(&mut self) {
        self.admitted = true;
        self.look_whether_whole();
    }

    fn look_whether_whole(&mut self) {
        if self.body.as_ref().is_some_and(Body::is_end_stream) {
            self.whole();
        }
    }

    fn whole(&mut self) {
        self.body = None;
        if self.admitted
            && let Some(guest) = self.guest.take()
        {
            guest.becomes_known();
        }
    }
}

impl<B> Body for Arriving<B>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<StdError>,
{
    type Data = Bytes;
    type Error = StdError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, StdError>>> {
        let arriving = &mut *self;
        let Some(body) = arriving.body.as_mut() else { return Poll::Ready(None) };
        match Pin::new(body).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                let bytes = frame.data_ref().map_or(0, Bytes::len);
                if !arriving.load.takes(&arriving.unwanted.waste.scales, bytes) {
                    return Poll::Ready(Some(Err(status::of(Refusal::Overloaded).into())));
                }
                arriving.look_whether_whole();
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => {
                arriving.body = None;
                Poll::Ready(Some(Err(error.into())))
            }
            Poll::Ready(None) => {
                arriving.whole();
                Poll::Ready(None)
            }
            // Reflection is a conversation, and may pause.
            Poll::Pending if !arriving.admitted => Poll::Pending,
            Poll::Pending => {
                let slow = arriving.slow.get_or_insert_with(|| Box::pin(tokio::time::sleep(WHOLE_WITHIN)));
                match slow.as_mut().poll(cx) {
                    Poll::Pending => Poll::Pending,
                    Poll::Ready(()) => Poll::Ready(Some(Err(status::of(Error::DeadlineExceeded).into()))),
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or(SizeHint::with_exact(0), Body::size_hint)
    }
}

impl<B: Body<Data = Bytes> + Send + Unpin + 'static> Drop for Arriving<B> {
    fn drop(&mut self) {
        if let Some(body) = self.body.take()
            && !body.is_end_stream()
        {
            self.unwanted.take(body);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::{Full, StreamBody};
    use tokio_stream::StreamExt;

    use crate::grpc::guests::{Guests, Stay};
    use crate::metrics::Metrics;

    type Pieces = Pin<Box<dyn Body<Data = Bytes, Error = StdError> + Send>>;

    fn unwanted(waste: &Arc<Waste>) -> Unwanted {
        Unwanted::new(Inline::default(), Arc::clone(waste))
    }

    /// So many pieces of a thousand bytes, and then nothing more or the end.
    fn pieces(pieces: usize, ends: bool) -> Pieces {
        let frames = tokio_stream::iter(vec![Bytes::from(vec![0; 1000]); pieces]);
        let frames = frames.map(|piece| Ok::<_, StdError>(Frame::data(piece)));
        if ends {
            Box::pin(StreamBody::new(frames))
        } else {
            Box::pin(StreamBody::new(frames.chain(tokio_stream::pending())))
        }
    }

    fn guest() -> (Arc<Guests>, crate::grpc::guests::Place) {
        let stay = Stay { most_per_peer: 10, age: None, idle: None };
        let guests = Guests::new(stay, Metrics::new(), tokio_util::sync::CancellationToken::new());
        let place = guests.admit([127, 0, 0, 1].into()).unwrap();
        (guests, place)
    }

    fn read(waste: &Waste) -> usize {
        waste.read.lock().unwrap().1
    }

    #[tokio::test(start_paused = true)]
    async fn what_nobody_wants_is_read_if_it_is_little_and_comes_soon() {
        let (_guests, place) = guest();
        for (body, much) in [(pieces(3, true), 2000), (pieces(1000, true), 65_000), (pieces(3, false), 2000)]
        {
            let waste = Waste::new();
            let unwanted = unwanted(&waste);
            let mut arriving = Arriving::new(body, place.guest(), &unwanted);
            arriving.frame().await.unwrap().unwrap();
            drop(arriving);
            let begin = Instant::now();
            let [reading] = <[_; 1]>::try_from(unwanted.executor.take()).ok().unwrap();
            reading.await;
            // The first piece was read by the handler.
            assert_eq!(read(&waste), much);
            assert!(begin.elapsed() <= READ_OUT_WITHIN);
            assert_eq!(unwanted.places.available_permits(), MOST_OF_CONNECTION);
            assert_eq!(waste.places.available_permits(), MOST_OF_ALL);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_read_for_nobody_is_bounded_for_a_connection_and_for_all() {
        let (_guests, place) = guest();
        let waste = Waste::new();
        let mut connections = Vec::new();
        for _ in 0..MOST_OF_ALL / MOST_OF_CONNECTION + 5 {
            let unwanted = unwanted(&waste);
            for _ in 0..MOST_OF_CONNECTION + 5 {
                drop(Arriving::new(pieces(100, false), place.guest(), &unwanted));
            }
            connections.push(unwanted);
        }
        let taken: Vec<_> = connections.iter().map(|unwanted| unwanted.executor.take()).collect();
        assert!(taken.iter().all(|of_one| of_one.len() <= MOST_OF_CONNECTION));
        let all: Vec<_> = taken.into_iter().flatten().collect();
        assert_eq!(all.len(), MOST_OF_ALL);
        // Four thousand times 64 KiB are sixteen times what is read in a second.
        futures_util::future::join_all(all).await;
        assert!(read(&waste) <= MOST_PER_SECOND + MOST_OF_ALL * 1000, "{}", read(&waste));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(waste.takes(MOST_PER_SECOND) && !waste.takes(1));
    }

    #[tokio::test]
    async fn what_is_whole_is_not_waited_for_and_makes_an_admitted_caller_known() {
        for (admitted, begun) in [(false, true), (true, false), (true, true)] {
            let (_guests, place) = guest();
            let unwanted = unwanted(&Waste::new());
            let mut arriving =
                Arriving::new(Full::new(Bytes::from_static(b"whole")), place.guest(), &unwanted);
            if admitted {
                arriving.admitted();
            }
            assert!(!place.guest().is_known(), "a message that has not come makes nobody known");
            if begun {
                arriving.frame().await.unwrap().unwrap();
                assert!(arriving.is_end_stream() && arriving.frame().await.is_none());
            }
            assert_eq!(place.guest().is_known(), admitted && begun);
            drop(arriving);
            assert_eq!(unwanted.executor.take().len(), usize::from(!begun));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_admitted_caller_may_not_take_for_ever_with_its_message() {
        let (_guests, place) = guest();
        let unwanted = unwanted(&Waste::new());
        let begin = Instant::now();
        let mut conversation = Arriving::new(pieces(0, false), place.guest(), &unwanted);
        assert!(tokio::time::timeout(WHOLE_WITHIN * 10, conversation.frame()).await.is_err(), "not admitted");
        drop(conversation);
        let trickle = tokio_stream::iter(0..).then(|_| async {
            tokio::time::sleep(Duration::from_secs(2)).await;
            Ok::<_, StdError>(Frame::data(Bytes::from_static(b"x")))
        });
        let mut arriving = Arriving::new(Box::pin(StreamBody::new(trickle)), place.guest(), &unwanted);
        arriving.admitted();
        let begin = begin + WHOLE_WITHIN * 10;
        let error = loop {
            if let Err(error) = arriving.frame().await.unwrap() {
                break tonic::Status::from_error(error);
            }
        };
        assert_eq!(status::failure_of(&error, true).reason(), "DEADLINE_EXCEEDED");
        assert!((WHOLE_WITHIN..WHOLE_WITHIN + Duration::from_secs(3)).contains(&begin.elapsed()));
    }
}
