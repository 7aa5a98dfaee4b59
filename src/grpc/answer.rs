//! The body of an answer, told piece by piece until its caller has taken it.
//!
//! A call is over for the handlers when its answer is there; for the connection when it is taken. A small answer, as
//! almost all are, is given whole and counted while it lies; a large one and a stream go in pieces, and end alone when
//! one of these lies for too long: hyper drops their call, which resets their stream. Large ones need room as well
//! (`unread`). It costs a small answer no allocation and no lock. It changes no byte of an answer.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::{HeaderMap, HeaderValue, Response};
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use prost::bytes::Buf;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::Bytes;

use super::guests::{Guest, Running};
use super::observe::REQUEST_ID;
use super::status::{Failure, Refusal};
use super::turn;
use super::unread::{Progress, Weight};

/// The largest answer that is given whole, and the largest piece of others: what one frame of HTTP/2 holds.
const PIECE: usize = 16 * 1024;

/// The body of an answer.
pub(super) struct Answer {
    body: Body,
    kind: Kind,
}

enum Kind {
    /// Not yet known; with the call, what is expected, and the call's id if that is no small answer.
    New(Running, Expected, Option<HeaderValue>),
    /// Small, and given.
    Given,
    /// Large, or one of those that are not known to end.
    Followed(Box<Followed>),
}

/// What kind of answer a call may have. None but the small ones are refused where there is no room: behind these
/// something was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expected {
    Small,
    Large,
    Stream,
}

impl Expected {
    /// That of the method at this path.
    pub(super) fn at(path: &str) -> Self {
        let method = path.rsplit('/').next().unwrap_or_default();
        if method.starts_with("Watch") || method == "ServerReflectionInfo" {
            Self::Stream
        } else if method.starts_with("List") || method.starts_with("Get") {
            Self::Large
        } else {
            Self::Small
        }
    }
}

/// What is known of an answer in pieces.
struct Followed {
    running: Running,
    expected: Expected,
    id: Option<HeaderValue>,
    progress: Arc<Progress>,
    /// What is not yet given of a message.
    left: Bytes,
    weight: Option<Weight>,
    /// What comes when all pieces are taken: nothing, or trailers.
    end: Option<Option<HeaderMap>>,
}

/// A part of an answer; dropped when it is on its way, or will never be.
pub(super) struct Piece {
    bytes: Bytes,
    lies: Lies,
}

enum Lies {
    Nowhere,
    /// With its call, since that age.
    Counted(Running, usize),
    Followed(Arc<Progress>),
}

impl Answer {
    /// The answer of this call.
    pub(super) fn of(answer: Response<Body>, running: Running, expected: Expected) -> Response<Self> {
        let id = Some(answer.headers()).filter(|_| expected != Expected::Small);
        let id = id.and_then(|headers| headers.get(REQUEST_ID)).cloned();
        let kind = if expected == Expected::Stream && !answer.body().is_end_stream() {
            Kind::Followed(Followed::new(running, expected, id))
        } else {
            Kind::New(running, expected, id)
        };
        answer.map(|body| Self { body, kind })
    }
}

/// Ends an answer of this call for which there is no room.
fn no_room(guest: &Guest, id: Option<&HeaderValue>) -> HeaderMap {
    let failure = Failure::from(Refusal::Overloaded);
    guest.gives_up("no_room");
    guest.failed(failure.reason());
    let mut trailers = HeaderMap::new();
    // It fails with metadata that are no headers, and has none.
    let _ = failure.status(id.and_then(|id| id.to_str().ok())).add_header(&mut trailers);
    trailers
}

impl Followed {
    /// Follows the call that is being polled.
    fn new(running: Running, expected: Expected, id: Option<HeaderValue>) -> Box<Self> {
        let progress = Arc::new(Progress::default());
        let (followed, guest) = (Arc::clone(&progress), Arc::clone(running.guest()));
        turn::end_this_call_when(Box::pin(async move {
            followed.stands_still().await;
            guest.gives_up("unread");
        }));
        Box::new(Self { running, expected, id, progress, left: Bytes::new(), weight: None, end: None })
    }

    /// Has this message to give, if there is room for it.
    fn takes(&mut self, message: Bytes) {
        if message.len() > PIECE {
            // That of the message before it, which has been given.
            self.weight = None;
            self.weight = self.running.guest().weigh(message.len());
            // What was done is told in any case.
            let fits = self.weight.as_ref().is_none_or(Weight::fits);
            if !fits && self.expected != Expected::Small {
                self.weight = None;
                self.end = Some(Some(no_room(self.running.guest(), self.id.as_ref())));
                return;
            }
        }
        self.left = message;
    }

    fn poll_frame(
        &mut self,
        body: &mut Body,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Piece>, Status>>> {
        loop {
            if !self.left.is_empty() {
                let bytes = self.left.split_to(self.left.len().min(PIECE));
                self.progress.gives();
                let lies = Lies::Followed(Arc::clone(&self.progress));
                return Poll::Ready(Some(Ok(Frame::data(Piece { bytes, lies }))));
            }
            if self.end.is_some() {
                // So long as its call is there, what lies can be taken back.
                ready!(self.progress.poll_all_taken(cx));
                return Poll::Ready(self.end.take().flatten().map(|trailers| Ok(Frame::trailers(trailers))));
            }
            let frame = ready!(Pin::new(&mut *body).poll_frame(cx)).transpose()?;
            match frame.map(Frame::into_data) {
                Some(Ok(message)) => self.takes(message),
                Some(Err(frame)) => self.end = Some(frame.into_trailers().ok()),
                None => self.end = Some(None),
            }
        }
    }
}

impl HttpBody for Answer {
    type Data = Piece;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Piece>, Status>>> {
        let answer = &mut *self;
        if let Kind::Followed(followed) = &mut answer.kind {
            return followed.poll_frame(&mut answer.body, cx);
        }
        let Some(frame) = ready!(Pin::new(&mut answer.body).poll_frame(cx)).transpose()? else {
            return Poll::Ready(None);
        };
        let bytes = match frame.into_data() {
            Ok(bytes) => bytes,
            Err(frame) => {
                let nothing = |bytes| Piece { bytes, lies: Lies::Nowhere };
                return Poll::Ready(Some(Ok(frame.map_data(nothing))));
            }
        };
        match std::mem::replace(&mut answer.kind, Kind::Given) {
            Kind::New(running, expected, id) if bytes.len() > PIECE => {
                let mut followed = Followed::new(running, expected, id);
                followed.takes(bytes);
                answer.kind = Kind::Followed(followed);
                self.poll_frame(cx)
            }
            Kind::New(running, _, id) if running.guest().may_leave_no_more_lying() => {
                Poll::Ready(Some(Ok(Frame::trailers(no_room(running.guest(), id.as_ref())))))
            }
            Kind::New(running, ..) => {
                let age = running.guest().ages().lies();
                let lies = Lies::Counted(running, age);
                Poll::Ready(Some(Ok(Frame::data(Piece { bytes, lies }))))
            }
            _ => Poll::Ready(Some(Ok(Frame::data(Piece { bytes, lies: Lies::Nowhere })))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Followed(followed) => {
                followed.left.is_empty() && followed.end.is_none() && self.body.is_end_stream()
            }
            Kind::New(..) | Kind::Given => self.body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self.kind {
            Kind::Followed(_) => SizeHint::default(),
            Kind::New(..) | Kind::Given => self.body.size_hint(),
        }
    }
}

impl Buf for Piece {
    fn remaining(&self) -> usize {
        self.bytes.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.bytes.chunk()
    }

    fn advance(&mut self, count: usize) {
        self.bytes.advance(count);
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        match &self.lies {
            Lies::Nowhere => {}
            Lies::Counted(running, age) => running.guest().ages().taken(*age),
            Lies::Followed(progress) => progress.takes(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grpc::proto::FILE_DESCRIPTOR_SET;
    use prost::Message;
    use prost_types::FileDescriptorSet;

    #[test]
    fn streams_are_followed_and_what_does_something_is_never_refused_its_answer() {
        let ours = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap();
        let others = [
            FileDescriptorSet::decode(tonic_health::pb::FILE_DESCRIPTOR_SET).unwrap(),
            FileDescriptorSet::decode(tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET).unwrap(),
        ];
        let files = ours.file.into_iter().chain(others.into_iter().flat_map(|set| set.file));
        let mut seen = 0;
        for method in files.flat_map(|file| file.service).flat_map(|service| service.method) {
            let expected = Expected::at(&format!("/any.Service/{}", method.name()));
            assert_eq!(expected == Expected::Stream, method.server_streaming(), "{}", method.name());
            let reads = ["Get", "List"].iter().any(|verb| method.name().starts_with(verb));
            assert_eq!(expected == Expected::Large, reads, "{}", method.name());
            seen += 1;
        }
        assert!(seen > 30, "{seen}");
    }
}
