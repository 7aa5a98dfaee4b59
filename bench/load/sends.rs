//! The load of `bench/load/sends.py`: each request under an id of its own, a bounded number at a time.
//!
//! Arguments: the server's URL, `sms` or `chat`, how many, how many at a time, and for `chat` a broker's URL, where the
//! thread is made. Prints the time in seconds, and p50 and p99 in milliseconds. Fails on the first error.
#![allow(clippy::print_stdout, reason = "the driver reads the figures from standard output")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use acs_broker::grpc::proto::v1;
use tonic::transport::{Channel, Endpoint};
use v1::chat_service_client::ChatServiceClient;
use v1::sms_service_client::SmsServiceClient;

fn new_id() -> String {
    uuid::Uuid::new_v4().to_string()
}

async fn one(channel: Channel, thread: Option<&str>, number: u64) -> Result<(), tonic::Status> {
    match thread {
        None => {
            let to = vec![format!("+1425{:07}", 2_000_000 + number % 7_000_000)];
            let wish = v1::SendSmsRequest {
                request_id: new_id(),
                to,
                text: "a text of usual length, as services send it".into(),
                ..Default::default()
            };
            SmsServiceClient::new(channel).send_sms(wish).await.map(drop)
        }
        Some(thread) => {
            let wish = v1::SendChatMessageRequest {
                acting_user_id: "bench".into(),
                thread_id: thread.into(),
                request_id: new_id(),
                text: "a text of usual length, as people write it".into(),
                ..Default::default()
            };
            ChatServiceClient::new(channel).send_chat_message(wish).await.map(drop)
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [server, kind, count, at_once, rest @ ..] = arguments.as_slice() else {
        return Err("usage: sends SERVER_URL sms|chat COUNT AT_ONCE [BROKER_URL]".into());
    };
    let (count, at_once): (u64, u64) = (count.parse()?, at_once.parse()?);
    let thread = if kind == "chat" {
        let broker = rest.first().ok_or("chat needs the URL of a broker")?;
        let wish = v1::CreateChatThreadRequest {
            acting_user_id: "bench".into(),
            request_id: new_id(),
            topic: "bench".into(),
            ..Default::default()
        };
        let made = ChatServiceClient::connect(broker.clone()).await?.create_chat_thread(wish).await?;
        made.into_inner().thread.map(|thread| thread.thread_id)
    } else {
        None
    };
    let thread = Arc::new(thread);
    let mut channels = Vec::new();
    for _ in 0..4 {
        channels.push(Endpoint::from_shared(server.clone())?.tcp_nodelay(true).connect().await?);
    }
    let (next, started) = (Arc::new(AtomicU64::new(0)), Instant::now());
    let workers: Vec<_> = (0..at_once)
        .zip(channels.iter().cycle())
        .map(|(_, channel)| {
            let (channel, next, thread) = (channel.clone(), Arc::clone(&next), Arc::clone(&thread));
            tokio::spawn(async move {
                let mut times = Vec::new();
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count {
                        return Ok::<_, tonic::Status>(times);
                    }
                    let began = Instant::now();
                    one(channel.clone(), thread.as_deref(), number).await?;
                    times.push(began.elapsed().as_secs_f64() * 1e3);
                }
            })
        })
        .collect();
    let mut times = Vec::new();
    for worker in workers {
        times.extend(worker.await??);
    }
    let took = started.elapsed().as_secs_f64();
    times.sort_by(f64::total_cmp);
    let at = |percent: usize| times.get(times.len() * percent / 100).copied().unwrap_or_default();
    println!("{took:.3} {:.3} {:.3}", at(50), at(99));
    Ok(())
}
