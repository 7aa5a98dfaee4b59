//! The message of a call as it arrives: noted when it is whole, given up when it takes too long, read out when nobody
//! wants it.
//!
//! A call may be refused before its message is there: too many calls, no such caller, no such method, too large. If the
//! rest were dropped, HTTP/2 would reset the stream under it, and would close a connection on which that happens often:
//! one that the refused caller shares with others. So what is dropped here before its end goes to the connection, which
//! reads it and throws it away after the answer has left, if it is little and comes soon. It must never hold up an
//! answer or keep a seat, and all of it together is bounded. It knows nothing of what is in a message.

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
use super::status;
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

/// Bounds what is read for nobody, for one server.
pub(super) struct Refuse {
    places: Arc<Semaphore>,
    /// Since when is counted, and how much was read since then.
    read: Mutex<(Instant, usize)>,
}

impl Refuse {
    pub(super) fn new() -> Arc<Self> {
        let read = Mutex::new((Instant::now(), 0));
        Arc::new(Self { places: Arc::new(Semaphore::new(MOST_OF_ALL)), read })
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
    refuse: Arc<Refuse>,
    places: Arc<Semaphore>,
}

impl Unwanted {
    /// That of the connection with this executor.
    pub(super) fn new(executor: Inline, refuse: Arc<Refuse>) -> Self {
        Self { executor, refuse, places: Arc::new(Semaphore::new(MOST_OF_CONNECTION)) }
    }

    /// Reads a body out after the call at hand, if there is a place for it.
    fn take<B: Body<Data = Bytes> + Send + Unpin + 'static>(&self, body: B) {
        let here = Arc::clone(&self.places).try_acquire_owned();
        let (Ok(here), Ok(place)) = (here, Arc::clone(&self.refuse.places).try_acquire_owned()) else {
            return;
        };
        let refuse = Arc::clone(&self.refuse);
        self.executor.execute(async move {
            let _ = tokio::time::timeout(READ_OUT_WITHIN, read_out(body, &refuse)).await;
            drop((here, place));
        });
    }
}

async fn read_out<B: Body<Data = Bytes> + Unpin>(mut body: B, refuse: &Refuse) {
    let mut left = MOST_OF_ONE;
    while let Some(Ok(frame)) = body.frame().await {
        let bytes = frame.data_ref().map_or(0, Bytes::len);
        let Some(less) = left.checked_sub(bytes).filter(|_| refuse.takes(bytes)) else { return };
        left = less;
    }
}

/// The body of a request.
pub(super) struct Arriving<B: Body<Data = Bytes> + Send + Unpin + 'static> {
    /// None when nothing is left of it.
    body: Option<B>,
    unwanted: Option<Unwanted>,
    /// Who is to be known when an admitted call's message is whole.
    guest: Option<Arc<Guest>>,
    admitted: bool,
    /// Runs while something is waited for.
    slow: Option<Pin<Box<Sleep>>>,
}

impl<B: Body<Data = Bytes> + Send + Unpin + 'static> Arriving<B> {
    /// What comes for this connection.
    pub(super) fn new(body: B, guest: &Arc<Guest>, unwanted: &Unwanted) -> Self {
        let guest = Some(guest).filter(|guest| !guest.is_known()).cloned();
        Self { body: Some(body), unwanted: Some(unwanted.clone()), guest, admitted: false, slow: None }
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
            && let Some(unwanted) = &self.unwanted
        {
            unwanted.take(body);
        }
    }
}
