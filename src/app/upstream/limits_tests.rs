//! The published limits at their published lengths, over a fleet of three on one Redis: minutes and hours go by on a
//! clock that the test moves, which budgets, client and emulator share. What ACS saw is counted by the emulator.

use std::time::Duration;

use tokio_util::task::TaskTracker;

use super::*;
use crate::acs::CustomId;
use crate::acs::testing::settings;
use crate::broker::Broker;
use crate::broker::types::{Caller, UserId};
use crate::clock::{Clock, ManualClock};
use crate::emulator::{self, EmulatorHandle, Operation};
use crate::messaging::chat::{Chat, CreateThread, SendChatMessage};
use crate::messaging::types::{EmailAddress, Number};
use crate::messaging::{Messaging, SendEmail, SendSms, Settings};
use crate::metrics::Metrics;
use crate::store::redis::tests::redis_server::RedisServer;
use crate::store::redis::tests::replica_on;

struct Fleet {
    clock: Arc<ManualClock>,
    emulator: EmulatorHandle,
    replicas: Vec<Chat>,
    messaging: Vec<Messaging>,
    _redis: RedisServer,
}

impl Fleet {
    async fn start() -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let clock = Arc::new(ManualClock::at(crate::messaging::testing::START));
        let dynamic = || Arc::clone(&clock) as Arc<dyn Clock>;
        let emulator = emulator::start(emulator::Settings::on_free_ports(), dynamic()).await.unwrap();
        let redis = RedisServer::start();
        let core = crate::store::memory(dynamic()).core;
        let (mut replicas, mut messaging) = (Vec::new(), Vec::new());
        for _ in 0..3 {
            let resource = acs::ConnectionString::parse(&emulator.connection_string()).unwrap();
            let client = acs::Client::new(&settings(), resource, dynamic()).unwrap();
            let metrics = Metrics::new();
            let upstream =
                Upstream::new(client, CustomId::Off, Duration::from_secs(8), dynamic(), metrics.clone());
            let upstream = Arc::new(upstream);
            let mut wish = Settings::default();
            wish.sms.senders = "+18005550100".into();
            wish.email.senders = "noreply@contoso.example".into();
            let one = Messaging::new(
                wish,
                replica_on(&redis.url(), dynamic()).await,
                upstream.clone(),
                upstream.clone(),
                dynamic(),
                metrics.clone(),
                TaskTracker::new(),
            );
            let broker = crate::broker::Settings::default();
            let broker = Broker::new(broker, upstream.clone(), core.clone(), dynamic(), metrics);
            replicas.push(Chat::new(one.clone(), Arc::new(broker), upstream));
            messaging.push(one);
        }
        Self { clock, emulator, replicas, messaging, _redis: redis }
    }
}

/// What the emulator saw in each tick, and what each of the two callers was granted in it.
struct Seen {
    tick: Duration,
    at_acs: Vec<u64>,
    granted: Vec<[u64; 2]>,
}

impl Seen {
    fn ticks(&self, time: Duration) -> usize {
        usize::try_from(time.as_millis() / self.tick.as_millis()).unwrap()
    }

    /// The most that ACS saw in any window of this length.
    fn most_in(&self, window: Duration) -> u64 {
        self.at_acs.windows(self.ticks(window)).map(|ticks| ticks.iter().sum()).max().unwrap()
    }

    /// What the flood and the modest caller got in the window of this number.
    fn shares(&self, window: Duration, number: usize) -> [u64; 2] {
        let ticks = self.ticks(window);
        let mut both = [0, 0];
        for granted in self.granted.iter().skip(number * ticks).take(ticks) {
            both = [both[0] + granted[0], both[1] + granted[1]];
        }
        both
    }
}

/// In each tick the flood asks so often, then the modest caller, through one replica after the other.
async fn flood(
    fleet: &Fleet,
    operation: Operation,
    (tick, time): (Duration, Duration),
    [flood, modest]: [usize; 2],
    ask: impl AsyncFn(usize, &Caller) -> bool,
) -> Seen {
    let mut seen = Seen { tick, at_acs: Vec::new(), granted: Vec::new() };
    let callers = [Caller::new("flood"), Caller::new("modest")];
    let (mut asked, mut before) = (0, fleet.emulator.calls(operation));
    for _ in 0..time.as_millis() / tick.as_millis() {
        let mut granted = [0, 0];
        for (who, times) in [flood, modest].into_iter().enumerate() {
            for _ in 0..times {
                asked += 1;
                granted[who] += u64::from(ask(asked % 3, &callers[who]).await);
            }
        }
        let now = fleet.emulator.calls(operation);
        assert_eq!(
            now - before,
            granted[0] + granted[1],
            "ACS is asked for what was granted, and for no more"
        );
        seen.at_acs.push(now - before);
        seen.granted.push(granted);
        before = now;
        fleet.clock.advance(tick);
    }
    println!(
        "{operation:?}: {asked} wishes in {time:?} over 3 replicas, {} at ACS",
        seen.at_acs.iter().sum::<u64>()
    );
    seen
}

/// Whether it was sent; a refusal must say when to come back.
fn went<T>(result: Result<T, Error>) -> bool {
    match result {
        Ok(_) => true,
        Err(Error::AcsLimitReached { retry_after }) => {
            assert!(retry_after > Duration::ZERO);
            false
        }
        Err(error) => panic!("{error:?}"),
    }
}

fn even(what: &str, [flood, modest]: [u64; 2], share: u64) {
    println!("{what}: flood {flood}, modest {modest}, an even share {share}");
    assert!(modest * 10 >= share * 9 && modest * 10 <= share * 11, "{what}: ±10 %");
}

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_mins(1);
const HOUR: Duration = Duration::from_hours(1);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_sms_a_minute_of_a_number_are_shared_from_the_first_minute_on() {
    let fleet = Fleet::start().await;
    let seen = flood(&fleet, Operation::SendSms, (SECOND, 4 * MINUTE), [8, 3], async |replica, caller| {
        let wish = SendSms {
            request_id: uuid::Uuid::new_v4(),
            from: None,
            to: vec![Number::parse("+14255550120").unwrap()],
            text: "one of many".into(),
            delivery_report: false,
            tag: None,
        };
        went(fleet.messaging[replica].send_sms(caller, wish).await)
    })
    .await;
    assert!(seen.most_in(MINUTE) <= 200, "{}", seen.most_in(MINUTE));
    assert!(seen.most_in(MINUTE) >= 195, "what there is is used");
    even("the first minute", seen.shares(MINUTE, 0), 100);
    for minute in 1..4 {
        let both = seen.shares(MINUTE, minute);
        even("a later minute", both, both.iter().sum::<u64>() / 2);
        // It is counted in tenths, which may cost an eleventh.
        assert!(both.iter().sum::<u64>() >= 180, "{both:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thirty_mails_a_minute_and_a_hundred_an_hour_are_never_passed_and_shared() {
    let fleet = Fleet::start().await;
    let ask = async |replica: usize, caller: &Caller| {
        let wish = SendEmail {
            request_id: uuid::Uuid::new_v4(),
            from: None,
            to: vec![EmailAddress::parse("reader@example.com", "").unwrap()],
            cc: Vec::new(),
            bcc: Vec::new(),
            reply_to: Vec::new(),
            subject: "one of many".into(),
            plain_text: Some("a mail".into()),
            html: None,
            attachments: Vec::new(),
            headers: std::collections::BTreeMap::new(),
            tracking_disabled: false,
        };
        went(fleet.messaging[replica].send_email(caller, wish).await)
    };
    let time = (20 * SECOND, 3 * HOUR);
    let seen = flood(&fleet, Operation::SendEmail, time, [3, 1], ask).await;
    let (minute, hour) = (seen.most_in(MINUTE), seen.most_in(HOUR));
    println!("mails: at most {minute} in a minute, {hour} in an hour");
    assert!(minute <= 30 && hour <= 100, "{minute} {hour}");
    assert!(hour >= 95, "what there is is used: {hour}");
    even("the first hour", seen.shares(HOUR, 0), 50);
    let all: u64 = (0..3).map(|hour| seen.shares(HOUR, hour)[1]).sum();
    let total: u64 = (0..3).map(|hour| seen.shares(HOUR, hour).iter().sum::<u64>()).sum();
    even("three hours", [total - all, all], total / 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_chat_messages_in_ten_seconds_and_thirty_in_a_minute_are_never_passed_and_shared() {
    let fleet = Fleet::start().await;
    let alice = || Some(UserId::parse("alice").unwrap());
    let wish = CreateThread {
        request_id: uuid::Uuid::new_v4(),
        topic: "tea".into(),
        participants: Vec::new(),
        metadata: crate::messaging::ports::Metadata::new(),
    };
    let thread =
        fleet.replicas[0].create_thread(&Caller::new("modest"), alice(), wish).await.unwrap().thread.id;
    let ask = async |replica: usize, caller: &Caller| {
        let wish = SendChatMessage {
            request_id: uuid::Uuid::new_v4(),
            thread: thread.clone(),
            text: "one of many".into(),
            is_html: false,
            sender_display_name: String::new(),
            metadata: crate::messaging::ports::Metadata::new(),
        };
        went(fleet.replicas[replica].send_message(caller, alice(), wish).await)
    };
    let seen = flood(&fleet, Operation::SendMessage, (SECOND, 6 * MINUTE), [3, 1], ask).await;
    let most = [10 * SECOND, 30 * SECOND, MINUTE].map(|window| seen.most_in(window));
    println!("chat messages: at most {most:?} in 10 s, 30 s, a minute");
    assert!(most[0] <= 10 && most[1] <= 30 && most[2] <= 30, "{most:?}");
    assert!(most[2] >= 28, "what there is is used: {most:?}");
    even("the first minute", seen.shares(MINUTE, 0), 15);
    let all: u64 = (1..6).map(|minute| seen.shares(MINUTE, minute)[1]).sum();
    let total: u64 = (1..6).map(|minute| seen.shares(MINUTE, minute).iter().sum::<u64>()).sum();
    even("later minutes", [total - all, all], total / 2);
}
