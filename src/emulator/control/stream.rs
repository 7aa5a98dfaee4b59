//! A stream of server-sent events that says that something changed, and nothing else: the reader then asks.
//!
//! At most ten events a second, however much happens, and a comment now and then so that nobody takes it for dead.
//! Bounded in number; it ends when the reader goes, and with the emulator.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::unfold;
use http::{HeaderValue, Response, header};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Bytes, Frame};
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::{sleep, timeout};

use super::super::shared::Shared;
use super::Reply;
use super::request::{self, Refusal};

const BETWEEN: Duration = Duration::from_millis(100);
const SILENCE: Duration = Duration::from_secs(15);

struct Reader {
    changes: watch::Receiver<u64>,
    is_new: bool,
    _place: OwnedSemaphorePermit,
}

/// `GET stream`.
pub(super) fn open(shared: &Shared) -> Result<Reply, Refusal> {
    let place = Arc::clone(&shared.watchers.streams)
        .try_acquire_owned()
        .map_err(|_| request::busy("streams", super::MAX_STREAMS))?;
    let reader = Reader { changes: shared.feed.subscribe(), is_new: true, _place: place };
    let events = unfold(reader, |mut reader| async {
        let text = reader.next().await?;
        Some((Ok::<_, Infallible>(Frame::data(Bytes::from(text))), reader))
    });
    let mut response = Response::new(StreamBody::new(events).boxed_unsync());
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(Reply::Stream(response))
}

impl Reader {
    async fn next(&mut self) -> Option<String> {
        if !std::mem::take(&mut self.is_new) {
            sleep(BETWEEN).await;
            match timeout(SILENCE, self.changes.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return None,
                Err(_) => return Some(":\n\n".to_owned()),
            }
        }
        let revision = *self.changes.borrow_and_update();
        Some(format!("event: changed\ndata: {{\"revision\":{revision}}}\n\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::Semaphore;

    #[tokio::test(start_paused = true)]
    async fn changes_are_joined_to_ten_a_second_and_silence_is_broken_by_comments() {
        let (bell, changes) = watch::channel(3);
        let place = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
        let mut reader = Reader { changes, is_new: true, _place: place };
        assert_eq!(reader.next().await.unwrap(), "event: changed\ndata: {\"revision\":3}\n\n", "at once");
        let began = tokio::time::Instant::now();
        for revision in 4..104 {
            bell.send_replace(revision);
        }
        assert_eq!(reader.next().await.unwrap(), "event: changed\ndata: {\"revision\":103}\n\n");
        assert!(began.elapsed() >= BETWEEN);
        assert_eq!(reader.next().await.unwrap(), ":\n\n");
        assert!(began.elapsed() >= SILENCE);
        drop(bell);
        assert_eq!(reader.next().await, None, "it ends with the emulator");
    }
}
