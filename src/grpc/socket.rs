//! The two kinds of socket a connection stands on, plain and TLS, as one type.
//!
//! One type and not a parameter, so that HTTP/2 is compiled once. It also gives back what was read to see which protocol
//! a peer speaks. It decides nothing; `connection` makes it, `turn` reads and writes it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio_rustls::server::TlsStream;

/// A socket on which a connection has begun.
pub(super) struct Socket {
    kind: Kind,
    /// What was read already and is to be read again.
    again: &'static [u8],
}

enum Kind {
    Plain(TcpStream),
    // Most connections of a broker are of one kind; a box keeps the other from being paid for.
    Tls(Box<TlsStream<TcpStream>>),
}

impl From<TcpStream> for Socket {
    fn from(stream: TcpStream) -> Self {
        Self { kind: Kind::Plain(stream), again: &[] }
    }
}

impl From<TlsStream<TcpStream>> for Socket {
    fn from(stream: TlsStream<TcpStream>) -> Self {
        Self { kind: Kind::Tls(Box::new(stream)), again: &[] }
    }
}

impl Socket {
    /// Reads this once more before what comes next.
    pub(super) fn reading_again(self, bytes: &'static [u8]) -> Self {
        Self { again: bytes, ..self }
    }

    /// What it stands on.
    #[cfg(test)]
    pub(super) fn tcp(&self) -> &TcpStream {
        match &self.kind {
            Kind::Plain(stream) => stream,
            Kind::Tls(stream) => stream.get_ref().0,
        }
    }

    /// The half that reads and the half that writes.
    pub(super) fn split(self) -> (Reads, Writes) {
        let (half, writes) = match self.kind {
            Kind::Plain(stream) => {
                let (reads, writes) = stream.into_split();
                (ReadKind::Plain(reads), Writes::Plain(writes))
            }
            Kind::Tls(stream) => {
                let (reads, writes) = tokio::io::split(*stream);
                (ReadKind::Tls(reads), Writes::Tls(writes))
            }
        };
        (Reads { half, again: self.again }, writes)
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.kind {
            Kind::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Kind::Tls(stream) => Pin::new(stream.as_mut()).poll_read(cx, buffer),
        }
    }
}

/// The half that reads.
pub(super) struct Reads {
    half: ReadKind,
    again: &'static [u8],
}

enum ReadKind {
    Plain(OwnedReadHalf),
    Tls(ReadHalf<TlsStream<TcpStream>>),
}

impl AsyncRead for Reads {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.again.is_empty() {
            let (now, later) = self.again.split_at(self.again.len().min(buffer.remaining()));
            buffer.put_slice(now);
            self.again = later;
            return Poll::Ready(Ok(()));
        }
        match &mut self.half {
            ReadKind::Plain(half) => Pin::new(half).poll_read(cx, buffer),
            ReadKind::Tls(half) => Pin::new(half).poll_read(cx, buffer),
        }
    }
}

/// The half that writes. What TLS holds back needs a flush.
pub(super) enum Writes {
    Plain(OwnedWriteHalf),
    Tls(WriteHalf<TlsStream<TcpStream>>),
}

impl AsyncWrite for Writes {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut *self {
            Self::Plain(half) => Pin::new(half).poll_write(cx, bytes),
            Self::Tls(half) => Pin::new(half).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut *self {
            Self::Plain(half) => Pin::new(half).poll_write_vectored(cx, slices),
            Self::Tls(half) => Pin::new(half).poll_write_vectored(cx, slices),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(half) => Pin::new(half).poll_flush(cx),
            Self::Tls(half) => Pin::new(half).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(half) => Pin::new(half).poll_shutdown(cx),
            Self::Tls(half) => Pin::new(half).poll_shutdown(cx),
        }
    }
}
