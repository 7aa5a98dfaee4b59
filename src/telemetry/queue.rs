//! Hands log records to a thread of its own, so that a log that nobody reads stops no call.
//!
//! A full pipe blocks whoever writes to it. Here only the thread blocks; records that find the queue full are dropped
//! and counted, and the count is written once there is room. Memory is bounded by the queue. Used by `telemetry::init`.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use tracing_subscriber::fmt::MakeWriter;

/// Records that may wait; a record has a few hundred bytes.
pub(super) const CAPACITY: usize = 4096;
/// How much is written at a time when records come faster than they can be written one by one.
const CHUNK_BYTES: usize = 65_536;
/// How long the end of the process may be delayed by a log that nobody reads.
const FLUSH_WITHIN: Duration = Duration::from_secs(1);

enum Message {
    Record(Vec<u8>),
    /// Answer when everything before this is written.
    Flush(SyncSender<()>),
}

/// Where records are put.
#[derive(Clone)]
pub(super) struct Queue {
    to: SyncSender<Message>,
    lost: Arc<AtomicU64>,
}

/// Writes what is left when dropped; waits for it a moment at the most.
#[must_use = "records are lost if this is dropped at once"]
pub struct FlushOnDrop(SyncSender<Message>);

impl Queue {
    /// A queue of this capacity in front of `sink`.
    pub(super) fn start(
        sink: impl Write + Send + 'static,
        capacity: usize,
    ) -> io::Result<(Self, FlushOnDrop)> {
        let (to, from) = sync_channel(capacity);
        let lost = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&lost);
        thread::Builder::new().name("log-writer".into()).spawn(move || write_all(sink, &from, &counted))?;
        Ok((Self { to: to.clone(), lost }, FlushOnDrop(to)))
    }
}

impl Drop for FlushOnDrop {
    fn drop(&mut self) {
        let deadline = Instant::now() + FLUSH_WITHIN;
        let (done, is_done) = sync_channel(1);
        let mut message = Message::Flush(done);
        while let Err(TrySendError::Full(back)) = self.0.try_send(message) {
            if Instant::now() >= deadline {
                return;
            }
            message = back;
            thread::yield_now();
        }
        // Late or never: the process ends all the same.
        let _ = is_done.recv_timeout(deadline.saturating_duration_since(Instant::now()));
    }
}

fn write_all(mut sink: impl Write, from: &Receiver<Message>, lost: &AtomicU64) {
    let mut chunk = Vec::with_capacity(CHUNK_BYTES);
    while let Ok(first) = from.recv() {
        let mut flushed = Vec::new();
        let mut next = Some(first);
        while let Some(message) = next {
            match message {
                Message::Record(record) => chunk.extend_from_slice(&record),
                Message::Flush(done) => flushed.push(done),
            }
            next = if chunk.len() < CHUNK_BYTES { from.try_recv().ok() } else { None };
        }
        let missing = lost.swap(0, Ordering::Relaxed);
        if missing > 0 {
            let text =
                format!("{{\"level\":\"WARN\",\"message\":\"log records were lost\",\"count\":{missing}}}\n");
            chunk.extend_from_slice(text.as_bytes());
        }
        // A log that cannot be written cannot be complained about.
        let _ = sink.write_all(&chunk);
        let _ = sink.flush();
        chunk.clear();
        for done in flushed {
            let _ = done.try_send(());
        }
    }
}

impl Write for &Queue {
    /// Takes the whole record or counts it as lost; never waits.
    fn write(&mut self, record: &[u8]) -> io::Result<usize> {
        if self.to.try_send(Message::Record(record.to_vec())).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
        Ok(record.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Queue {
    type Writer = &'a Self;

    fn make_writer(&'a self) -> &'a Self {
        self
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::mpsc::{Sender, channel};

    use super::*;

    /// A sink that writes only while its gate is open, and tells when it was asked to.
    struct Gated {
        written: Arc<Mutex<Vec<u8>>>,
        asked: Sender<()>,
        gate: Receiver<()>,
    }

    impl Write for Gated {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.asked.send(());
            // Open for good once the other end is dropped.
            let _ = self.gate.recv();
            self.written.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_stalls_costs_records_but_no_time_and_the_loss_is_told() {
        let written = Arc::new(Mutex::new(Vec::new()));
        let ((asked, was_asked), (open, gate)) = (channel(), channel());
        let sink = Gated { written: Arc::clone(&written), asked, gate };
        let (queue, flush) = Queue::start(sink, 8).unwrap();
        (&queue).write_all(b"first\n").unwrap();
        was_asked.recv_timeout(Duration::from_secs(10)).unwrap();
        // The sink hangs from here on: 8 records find room, the others do not, and nobody waits.
        for _ in 0..1000 {
            (&queue).write_all(b"more\n").unwrap();
        }
        drop(open);
        drop(flush);
        let text = String::from_utf8(written.lock().unwrap().clone()).unwrap();
        assert_eq!(text.matches("more\n").count(), 8, "{text}");
        assert!(text.contains("\"count\":992"), "{text}");
    }

    #[test]
    fn everything_is_written_before_the_end() {
        let written = Arc::new(Mutex::new(Vec::new()));
        let ((asked, _was_asked), (open, gate)) = (channel(), channel());
        drop(open);
        let sink = Gated { written: Arc::clone(&written), asked, gate };
        let (queue, flush) = Queue::start(sink, CAPACITY).unwrap();
        for n in 0..1000 {
            (&queue).write_all(format!("{n}\n").as_bytes()).unwrap();
        }
        drop(flush);
        let expected: String = (0..1000).map(|n| format!("{n}\n")).collect();
        assert_eq!(String::from_utf8(written.lock().unwrap().clone()).unwrap(), expected);
    }

    #[test]
    fn a_sink_that_hangs_for_ever_does_not_hold_up_the_end() {
        let ((asked, was_asked), (_closed, gate)) = (channel(), channel());
        let sink = Gated { written: Arc::default(), asked, gate };
        let (queue, flush) = Queue::start(sink, 8).unwrap();
        (&queue).write_all(b"first\n").unwrap();
        was_asked.recv_timeout(Duration::from_secs(10)).unwrap();
        let began = Instant::now();
        drop(flush);
        assert!(began.elapsed() < Duration::from_secs(5));
    }
}
