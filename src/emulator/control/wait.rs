//! Waiting for messages: answers as soon as enough of them match.
//!
//! It subscribes before it looks, so that nothing slips between the two, and then looks only at what is new (`recent`)
//! and at what may change. Bounded in number and time, and it ends when the caller hangs up, because the connection then
//! drops it.

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::json;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::super::answer::{self, Answer};
use super::super::shared::Shared;
use super::matching::{self, Match, Tally};
use super::messages::missed;
use super::request::{self, Refusal, invalid};

/// The longest wait, in milliseconds.
const LONGEST_MS: u64 = 600_000;
/// The most messages that can be waited for, and that are in the answer.
const MOST: usize = 1000;
/// The time between two looks: at the least, and at the most however long looks take.
const PAUSE: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(10));

/// `POST messages/wait`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wait {
    #[serde(default, rename = "match")]
    wanted: Match,
    #[serde(default = "one")]
    count: usize,
    #[serde(default = "five_seconds")]
    timeout_ms: u64,
}

fn one() -> usize {
    1
}

fn five_seconds() -> u64 {
    5000
}

pub(super) async fn until(shared: &Arc<Shared>, body: &[u8]) -> Result<Answer, Refusal> {
    let Wait { wanted, count, timeout_ms } = request::object(body)?;
    if !(1..=MOST).contains(&count) {
        return Err(invalid("count", format_args!("must be from 1 to {MOST}")));
    }
    if timeout_ms > LONGEST_MS {
        return Err(invalid("timeout_ms", format_args!("must be {LONGEST_MS} at the most")));
    }
    let _place = shared.watchers.waits.try_acquire().map_err(|_| request::busy("waits", super::MAX_WAITS))?;
    let deadline = Instant::now() + Duration::from_millis(timeout_ms);

    let mut changes = shared.feed.subscribe();
    let recent = &shared.watchers.recent;
    recent.catch_up(shared, *changes.borrow_and_update());
    let mut position = recent.end();
    let mut tally = matching::look_at_all(shared, &wanted).await;
    loop {
        if let Some(answer) = enough(shared, &wanted, &mut tally, count).await {
            return Ok(answer);
        }
        if !matches!(timeout_at(deadline, changes.changed()).await, Ok(Ok(()))) {
            break;
        }
        let began = Instant::now();
        recent.catch_up(shared, *changes.borrow_and_update());
        match recent.since(&mut position) {
            Some(messages) if !tally.is_short() => {
                tally.look_again(shared, &wanted);
                messages.iter().for_each(|message| tally.take(&wanted, message));
            }
            _ => tally = matching::look_at_all(shared, &wanted).await,
        }
        if tally.count() < count {
            let pause = began.elapsed().saturating_mul(2).clamp(PAUSE.0, PAUSE.1);
            sleep_until((Instant::now() + pause).min(deadline)).await;
        }
    }
    tally = matching::look_at_all(shared, &wanted).await;
    if let Some(answer) = enough(shared, &wanted, &mut tally, count).await {
        return Ok(answer);
    }
    let message = format!("{} of {count} messages matched within {timeout_ms} ms.", tally.count());
    Ok(missed(408, "WaitTimedOut", &message, tally.count()))
}

/// The answer, if enough match. What was counted may be gone or changed by now, so what is answered is counted again.
async fn enough(shared: &Arc<Shared>, wanted: &Match, tally: &mut Tally, count: usize) -> Option<Answer> {
    if tally.count() < count {
        return None;
    }
    let since = tally.first().saturating_sub(1);
    let (messages, more) = matching::newest(shared, &wanted.clone().after(since), MOST);
    if messages.len() >= count || more {
        return Some(answer::json(200, &json!({ "messages": messages })));
    }
    *tally = matching::look_at_all(shared, wanted).await;
    None
}
