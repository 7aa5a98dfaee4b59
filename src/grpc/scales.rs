//! Weighs mails as they come in, so that all that are being worked on together fit into memory.
//!
//! A mail is hundreds of times larger than any other request. Refusing one too many at once is better than a process
//! that is killed with everybody's calls on it. Knows bytes alone. Used by `server`.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use hyper::body::{Body, Frame, SizeHint};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::codegen::{Bytes, StdError};

use super::status::{self, Refusal};

/// What all mails together may weigh. On its way each is there up to four times: as bytes, as a message, as JSON in
/// base64, and in the client's buffer.
const MOST_KIB: usize = 32 * 1024;

/// Bytes of a unit of weight.
const KIB: usize = 1024;

/// The mails of one server.
pub(crate) struct Scales(Arc<Semaphore>);

impl Default for Scales {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(MOST_KIB)))
    }
}

impl Scales {
    /// Of one call; its drop gives everything back.
    pub(crate) fn weight(&self) -> Weight {
        Weight { scales: Arc::clone(&self.0), held: Arc::default() }
    }
}

/// What a call weighs so far.
pub(crate) struct Weight {
    scales: Arc<Semaphore>,
    held: Arc<Mutex<Option<OwnedSemaphorePermit>>>,
}

impl Weight {
    /// Counts what comes out of the body.
    pub(crate) fn weigh<B>(&self, body: B) -> Weighed<B> {
        let (scales, held) = (Arc::clone(&self.scales), Arc::clone(&self.held));
        Weighed { body: Box::pin(body), scales, held, spare: 0 }
    }
}

/// A body that fails when there is no room for what it brings.
pub(crate) struct Weighed<B> {
    body: Pin<Box<B>>,
    scales: Arc<Semaphore>,
    held: Arc<Mutex<Option<OwnedSemaphorePermit>>>,
    /// Bytes that are paid for and not there yet.
    spare: usize,
}

impl<B> Weighed<B> {
    /// Makes room for this many bytes more; says whether there is any.
    fn take(&mut self, bytes: usize) -> bool {
        let missing = bytes.saturating_sub(self.spare).div_ceil(KIB);
        if missing > 0 {
            let units = u32::try_from(missing).unwrap_or(u32::MAX);
            let Ok(more) = Arc::clone(&self.scales).try_acquire_many_owned(units) else { return false };
            let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
            match held.as_mut() {
                Some(held) => held.merge(more),
                None => *held = Some(more),
            }
        }
        self.spare = self.spare + missing * KIB - bytes;
        true
    }
}

impl<B> Body for Weighed<B>
where
    B: Body<Data = Bytes>,
    B::Error: Into<StdError>,
{
    type Data = Bytes;
    type Error = StdError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, StdError>>> {
        let Some(frame) = ready!(self.body.as_mut().poll_frame(cx)) else { return Poll::Ready(None) };
        let frame = frame.map_err(Into::into);
        if let Ok(frame) = &frame
            && let Some(data) = frame.data_ref()
            && !self.take(data.len())
        {
            return Poll::Ready(Some(Err(status::of(Refusal::Overloaded).into())));
        }
        Poll::Ready(Some(frame))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::{BodyExt, Full};

    #[tokio::test]
    async fn what_is_there_together_is_bounded_and_given_back() {
        let scales = Scales(Arc::new(Semaphore::new(10)));
        let body = |bytes: usize| Full::new(Bytes::from(vec![0; bytes]));
        let first = scales.weight();
        let weighed = first.weigh(body(6 * KIB + 1));
        assert_eq!(weighed.collect().await.unwrap().to_bytes().len(), 6 * KIB + 1);
        // Read, and still worked on.
        assert_eq!(scales.0.available_permits(), 3);
        let second = scales.weight();
        let refused = second.weigh(body(3 * KIB + 1)).collect().await.unwrap_err();
        let status = tonic::Status::from_error(refused);
        assert_eq!(status::failure_of(&status, true).reason(), "BROKER_OVERLOADED");
        drop(first);
        assert!(second.weigh(body(3 * KIB + 1)).collect().await.is_ok());
        drop(second);
        assert_eq!(scales.0.available_permits(), 10);
    }

    #[tokio::test]
    async fn many_small_pieces_weigh_no_more_than_their_sum() {
        let scales = Scales(Arc::new(Semaphore::new(2)));
        let weight = scales.weight();
        let mut weighed = weight.weigh(Full::new(Bytes::new()));
        assert!((0..2 * KIB).all(|_| weighed.take(1)));
        assert!(!weighed.take(1));
    }
}
