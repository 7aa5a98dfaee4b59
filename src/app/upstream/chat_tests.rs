//! ChatService over a socket, the core, the real ACS client and the emulator: every method, every refusal.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::*;
use crate::acs::CustomId;
use crate::acs::testing::settings;
use crate::auth::Gate;
use crate::broker::Broker;
use crate::clock::Clock;
use crate::emulator::{self, EmulatorHandle, Fault, Operation};
use crate::grpc::proto::v1;
use crate::grpc::proto::v1::chat_service_client::ChatServiceClient;
use crate::grpc::proto::v1::token_service_client::TokenServiceClient;
use crate::grpc::{self, Cores, Health};
use crate::messaging::chat::Chat;
use crate::messaging::testing::{Death, Replica, World};
use crate::metrics::Metrics;

/// A broker before an emulator, on a clock that stands still.
struct Rig {
    world: Arc<World>,
    emulator: EmulatorHandle,
    chat: ChatServiceClient<Channel>,
    tokens: TokenServiceClient<Channel>,
    /// The client of ACS, for whoever has a token.
    acs: acs::Client,
    stop: CancellationToken,
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn rig() -> Rig {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let world = World::new();
    let clock = || Arc::clone(&world) as Arc<dyn Clock>;
    let emulator = emulator::start(emulator::Settings::on_free_ports(), clock()).await.unwrap();
    let resource = acs::ConnectionString::parse(&emulator.connection_string()).unwrap();
    let acs = acs::Client::new(&settings(), resource, clock()).unwrap();
    let metrics = Metrics::new();
    let timeout = Duration::from_secs(8);
    let upstream = Arc::new(Upstream::new(acs.clone(), CustomId::Off, timeout, clock(), metrics.clone()));
    let stores = crate::store::memory(clock()).core;
    let issuer = Arc::clone(&upstream) as Arc<dyn crate::broker::ports::TokenIssuer>;
    let broker = Broker::new(crate::broker::Settings::default(), issuer, stores, clock(), metrics.clone());
    let (messaging, _) = Replica::start(&world, crate::messaging::Settings::default(), Death::Never);
    let chat = Chat::new(messaging.clone(), Arc::new(broker.clone()), upstream);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address: SocketAddr = listener.local_addr().unwrap();
    let (health, stop) = (Health::new(), CancellationToken::new());
    health.set_serving(true);
    let cores =
        Cores { broker, messaging: Some(messaging), chat: Some(chat), audit: crate::audit::Audit::off() };
    let gate = Arc::new(Gate::open(false));
    let settings = grpc::Settings::default();
    tokio::spawn(grpc::serve(listener, &settings, cores, gate, metrics, health, stop.clone()));
    let channel = Endpoint::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
    let (chat, tokens) = (ChatServiceClient::new(channel.clone()), TokenServiceClient::new(channel));
    Rig { world, emulator, chat, tokens, acs, stop }
}

fn uuid(number: u128) -> String {
    uuid::Uuid::from_u128(number).to_string()
}

fn who(user: &str) -> v1::ChatParticipant {
    let party = Some(v1::ChatParty { user_id: user.into(), acs_user_id: String::new() });
    v1::ChatParticipant { party, display_name: format!("the {user}"), share_history_time: None }
}

fn create(request: u128, actor: &str, participants: &[&str]) -> v1::CreateChatThreadRequest {
    v1::CreateChatThreadRequest {
        acting_user_id: actor.into(),
        request_id: uuid(request),
        topic: "tea".into(),
        participants: participants.iter().map(|user| who(user)).collect(),
        metadata: HashMap::from([("order".to_owned(), "7".to_owned())]),
    }
}

fn say(request: u128, actor: &str, thread: &str, text: &str) -> v1::SendChatMessageRequest {
    v1::SendChatMessageRequest {
        acting_user_id: actor.into(),
        thread_id: thread.into(),
        request_id: uuid(request),
        text: text.into(),
        r#type: 0,
        sender_display_name: "A".into(),
        metadata: HashMap::from([("own".to_owned(), "1".to_owned())]),
    }
}

fn messages(actor: &str, thread: &str) -> v1::ListChatMessagesRequest {
    v1::ListChatMessagesRequest {
        acting_user_id: actor.into(),
        thread_id: thread.into(),
        ..Default::default()
    }
}

fn mask(path: &str) -> Option<prost_types::FieldMask> {
    Some(prost_types::FieldMask { paths: vec![path.into()] })
}

#[track_caller]
fn reason(status: &Status, code: Code) -> String {
    assert_eq!(status.code(), code, "{status:?}");
    status.get_error_details().error_info().unwrap().reason.clone()
}

impl Rig {
    async fn thread(&mut self, request: u128, actor: &str, participants: &[&str]) -> v1::ChatThread {
        let created = self.chat.create_chat_thread(create(request, actor, participants)).await.unwrap();
        let created = created.into_inner();
        assert!(created.refused.is_empty());
        created.thread.unwrap()
    }

    /// A token of the user for anybody who speaks to ACS itself.
    async fn token(&mut self, user: &str) -> Secret {
        let wish = v1::IssueTokenRequest {
            user_id: user.into(),
            scopes: vec![v1::Scope::Chat.into()],
            ..Default::default()
        };
        Secret::new(self.tokens.issue_token(wish).await.unwrap().into_inner().token)
    }

    /// The texts in a thread as a user's own client sees them, newest first.
    async fn seen_by(&mut self, user: &str, thread: &str) -> Vec<String> {
        let token = self.token(user).await;
        let deadline = Instant::now() + Duration::from_secs(8);
        let page = self.acs.chat(&token).messages(thread, acs::ChatRange::default(), deadline).await.unwrap();
        page.entries.into_iter().filter(|one| one.kind == "text").filter_map(|one| one.text).collect()
    }
}

#[tokio::test]
async fn two_app_users_talk_and_their_own_tokens_see_the_same_thread() {
    let mut rig = rig().await;
    let thread = rig.thread(1, "alice", &["bob"]).await;
    let id = thread.thread_id.as_str();
    assert_eq!(thread.creator.as_ref().unwrap().user_id, "alice");
    assert_eq!((thread.topic.as_str(), thread.metadata["order"].as_str()), ("tea", "7"));
    assert!(thread.create_time.is_some());

    let hello = rig.chat.send_chat_message(say(2, "alice", id, "hello")).await.unwrap().into_inner();
    rig.chat.send_chat_message(say(3, "bob", id, "hi")).await.unwrap();
    for user in ["alice", "bob"] {
        assert_eq!(rig.seen_by(user, id).await, ["hi", "hello"]);
    }

    let get = v1::GetChatMessageRequest {
        acting_user_id: "bob".into(),
        thread_id: id.into(),
        message_id: hello.message_id.clone(),
        ..Default::default()
    };
    let message = rig.chat.get_chat_message(get.clone()).await.unwrap().into_inner().message.unwrap();
    assert_eq!((message.text.as_str(), message.sender_display_name.as_str()), ("hello", "A"));
    assert_eq!(message.sender.as_ref().unwrap().user_id, "alice");
    assert!(message.sender.unwrap().acs_user_id.starts_with("8:acs:"));
    assert_eq!(message.metadata, HashMap::from([("own".to_owned(), "1".to_owned())]));

    let list = rig.chat.list_chat_messages(messages("bob", id)).await.unwrap().into_inner().messages;
    let added = list.iter().find(|one| one.r#type() == v1::ChatMessageType::ParticipantAdded).unwrap();
    let mut names: Vec<_> =
        added.participants.iter().map(|one| one.party.as_ref().unwrap().user_id.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["alice", "bob"]);
    assert_eq!(added.initiator.as_ref().unwrap().user_id, "alice");

    let edit = v1::UpdateChatMessageRequest {
        acting_user_id: "alice".into(),
        thread_id: id.into(),
        message_id: hello.message_id.clone(),
        text: "hello!".into(),
        metadata: HashMap::new(),
        update_mask: mask("text"),
    };
    rig.chat.update_chat_message(edit.clone()).await.unwrap();
    let own = HashMap::from([("own".to_owned(), "2".to_owned())]);
    let edit = v1::UpdateChatMessageRequest { metadata: own.clone(), update_mask: mask("metadata"), ..edit };
    rig.chat.update_chat_message(edit).await.unwrap();
    let message = rig.chat.get_chat_message(get.clone()).await.unwrap().into_inner().message.unwrap();
    assert_eq!((message.text.as_str(), &message.metadata), ("hello!", &own));
    assert!(message.edit_time.is_some());

    let delete = v1::DeleteChatMessageRequest {
        acting_user_id: "alice".into(),
        thread_id: id.into(),
        message_id: hello.message_id,
    };
    rig.chat.delete_chat_message(delete).await.unwrap();
    let message = rig.chat.get_chat_message(get).await.unwrap().into_inner().message.unwrap();
    assert!(message.delete_time.is_some() && message.text.is_empty());
}

#[tokio::test]
async fn threads_and_participants_are_listed_changed_and_removed() {
    let mut rig = rig().await;
    let thread = rig.thread(1, "alice", &["bob"]).await.thread_id;
    let get = v1::GetChatThreadRequest { acting_user_id: "bob".into(), thread_id: thread.clone() };
    let update = v1::UpdateChatThreadRequest {
        acting_user_id: "alice".into(),
        thread_id: thread.clone(),
        topic: "coffee".into(),
        metadata: HashMap::from([("more".to_owned(), "8".to_owned())]),
        update_mask: Some(prost_types::FieldMask { paths: vec!["topic".into(), "metadata".into()] }),
    };
    rig.chat.update_chat_thread(update).await.unwrap();
    let found = rig.chat.get_chat_thread(get.clone()).await.unwrap().into_inner().thread.unwrap();
    assert_eq!(found.topic, "coffee");
    assert_eq!((found.metadata["order"].as_str(), found.metadata["more"].as_str()), ("7", "8"));

    let add = v1::AddChatParticipantsRequest {
        acting_user_id: "alice".into(),
        thread_id: thread.clone(),
        participants: vec![who("carol"), who("bob")],
    };
    for _ in 0..2 {
        let refused = rig.chat.add_chat_participants(add.clone()).await.unwrap().into_inner().refused;
        assert!(refused.is_empty());
    }
    let mut list = v1::ListChatParticipantsRequest {
        acting_user_id: "carol".into(),
        thread_id: thread.clone(),
        page_size: 2,
        page_token: String::new(),
    };
    let first = rig.chat.list_chat_participants(list.clone()).await.unwrap().into_inner();
    assert!(first.participants.len() == 2 && !first.next_page_token.is_empty());
    list.page_token.clone_from(&first.next_page_token);
    let second = rig.chat.list_chat_participants(list.clone()).await.unwrap().into_inner();
    let all: Vec<_> = first.participants.iter().chain(&second.participants).collect();
    let name = |one: &&v1::ChatParticipant| one.party.as_ref().unwrap().user_id.clone();
    assert_eq!(all.iter().map(name).collect::<Vec<_>>(), ["alice", "bob", "carol"]);
    assert_eq!(all[2].display_name, "the carol");
    assert!(second.next_page_token.is_empty());
    let stolen = v1::ListChatParticipantsRequest { acting_user_id: "bob".into(), ..list };
    let refused = rig.chat.list_chat_participants(stolen).await.unwrap_err();
    assert_eq!(reason(&refused, Code::InvalidArgument), "INVALID_FIELD");

    let remove = v1::RemoveChatParticipantRequest {
        acting_user_id: "alice".into(),
        thread_id: thread.clone(),
        user_id: "bob".into(),
    };
    for _ in 0..2 {
        rig.chat.remove_chat_participant(remove.clone()).await.unwrap();
    }
    let outside = rig.chat.get_chat_thread(get).await.unwrap_err();
    assert_eq!(reason(&outside, Code::PermissionDenied), "CHAT_FORBIDDEN");

    let another = rig.thread(2, "alice", &[]).await.thread_id;
    let list = v1::ListChatThreadsRequest { acting_user_id: "alice".into(), ..Default::default() };
    let threads = rig.chat.list_chat_threads(list.clone()).await.unwrap().into_inner().threads;
    let mut ids: Vec<_> = threads.into_iter().map(|thread| thread.thread_id).collect();
    ids.sort();
    let mut expected = vec![thread.clone(), another.clone()];
    expected.sort();
    assert_eq!(ids, expected);
    let delete = v1::DeleteChatThreadRequest { acting_user_id: "alice".into(), thread_id: thread };
    for _ in 0..2 {
        rig.chat.delete_chat_thread(delete.clone()).await.unwrap();
    }
    let threads = rig.chat.list_chat_threads(list).await.unwrap().into_inner().threads;
    let left: Vec<_> = threads.iter().filter(|thread| thread.delete_time.is_none()).collect();
    assert_eq!(left.iter().map(|thread| thread.thread_id.as_str()).collect::<Vec<_>>(), [another]);
}

#[tokio::test]
async fn receipts_and_typing_go_through() {
    let mut rig = rig().await;
    let thread = rig.thread(1, "alice", &["bob"]).await.thread_id;
    let sent = rig.chat.send_chat_message(say(2, "alice", &thread, "hello")).await.unwrap().into_inner();
    let receipt = v1::SendReadReceiptRequest {
        acting_user_id: "bob".into(),
        thread_id: thread.clone(),
        message_id: sent.message_id.clone(),
    };
    rig.chat.send_read_receipt(receipt).await.unwrap();
    let list = v1::ListReadReceiptsRequest {
        acting_user_id: "alice".into(),
        thread_id: thread.clone(),
        ..Default::default()
    };
    let receipts = rig.chat.list_read_receipts(list).await.unwrap().into_inner().receipts;
    let bob = receipts.iter().find(|one| one.reader.as_ref().unwrap().user_id == "bob").unwrap();
    assert!(bob.message_id == sent.message_id && bob.read_time.is_some());
    let typing = v1::SendTypingNotificationRequest {
        acting_user_id: "bob".into(),
        thread_id: thread,
        sender_display_name: "B".into(),
    };
    rig.chat.send_typing_notification(typing).await.unwrap();
}

#[tokio::test]
async fn messages_come_newest_first_in_pages_of_one_user_and_one_thread() {
    let mut rig = rig().await;
    let thread = rig.thread(1, "alice", &["bob"]).await.thread_id;
    for number in 0..5 {
        rig.chat.send_chat_message(say(10 + number, "alice", &thread, &format!("m{number}"))).await.unwrap();
    }
    let mut texts = Vec::new();
    let mut wish = v1::ListChatMessagesRequest { page_size: 2, ..messages("bob", &thread) };
    let mut pages = 0;
    loop {
        let page = rig.chat.list_chat_messages(wish.clone()).await.unwrap().into_inner();
        texts.extend(page.messages.into_iter().map(|one| one.text).filter(|text| !text.is_empty()));
        pages += 1;
        if page.next_page_token.is_empty() {
            break;
        }
        wish.page_token = page.next_page_token;
    }
    assert_eq!(texts, ["m4", "m3", "m2", "m1", "m0"]);
    assert!(pages >= 3);
}

#[tokio::test]
async fn the_service_identity_is_one_and_acts_where_no_user_does() {
    let mut rig = rig().await;
    let thread = rig.thread(1, "", &["alice"]).await;
    let creator = thread.creator.unwrap();
    assert_eq!(creator.user_id, "");
    assert!(creator.acs_user_id.starts_with("8:acs:"));
    let again = rig.thread(2, "", &[]).await.creator.unwrap();
    assert_eq!(again.acs_user_id, creator.acs_user_id);
    rig.chat.send_chat_message(say(3, "", &thread.thread_id, "from us")).await.unwrap();
    assert_eq!(rig.seen_by("alice", &thread.thread_id).await, ["from us"]);
    let own = "acsbroker:service";
    let stolen = v1::IssueTokenRequest {
        user_id: own.into(),
        scopes: vec![v1::Scope::Chat.into()],
        ..Default::default()
    };
    let refused = rig.tokens.issue_token(stolen).await.unwrap_err();
    assert_eq!(reason(&refused, Code::InvalidArgument), "INVALID_FIELD");
    let refused = rig.chat.create_chat_thread(create(4, own, &[])).await.unwrap_err();
    assert_eq!(reason(&refused, Code::InvalidArgument), "INVALID_FIELD");
}

#[tokio::test]
async fn lost_answers_double_neither_threads_nor_messages() {
    let mut rig = rig().await;
    let lost = || Fault::drop_connection().after_commit();
    // The client itself repeats a creation, under the same id; more than it has patience for.
    rig.emulator.faults().next(Operation::CreateThread, lost(), 4);
    let unknown = rig.chat.create_chat_thread(create(1, "alice", &["bob"])).await.unwrap_err();
    assert_eq!(reason(&unknown, Code::Unavailable), "OUTCOME_UNKNOWN");
    let thread = loop {
        match rig.chat.create_chat_thread(create(1, "alice", &["bob"])).await {
            Ok(created) => break created.into_inner().thread.unwrap().thread_id,
            Err(status) => assert_eq!(reason(&status, Code::Unavailable), "OUTCOME_UNKNOWN"),
        }
    };
    let list = v1::ListChatThreadsRequest { acting_user_id: "alice".into(), ..Default::default() };
    assert_eq!(rig.chat.list_chat_threads(list).await.unwrap().into_inner().threads.len(), 1);

    rig.emulator.faults().next(Operation::SendMessage, lost(), 1);
    let found = rig.chat.send_chat_message(say(2, "alice", &thread, "once")).await.unwrap().into_inner();
    let again = rig.chat.send_chat_message(say(2, "alice", &thread, "once")).await.unwrap().into_inner();
    assert_eq!(found.message_id, again.message_id);

    // A gateway that says 503 of what was done behind it.
    rig.emulator.faults().next(Operation::SendMessage, Fault::status(503).after_commit(), 1);
    rig.chat.send_chat_message(say(4, "alice", &thread, "behind")).await.unwrap();

    // Lost before it was done: not there, and sent again only once that is certain.
    rig.emulator.faults().next(Operation::SendMessage, Fault::status(503), 1);
    let unknown = rig.chat.send_chat_message(say(3, "alice", &thread, "late")).await.unwrap_err();
    assert_eq!(reason(&unknown, Code::Unavailable), "OUTCOME_UNKNOWN");
    let still = rig.chat.send_chat_message(say(3, "alice", &thread, "late")).await.unwrap_err();
    assert_eq!(reason(&still, Code::Unavailable), "OUTCOME_UNKNOWN");
    assert_eq!(rig.seen_by("bob", &thread).await, ["behind", "once"]);
    rig.world.clock.advance(Duration::from_secs(61));
    rig.chat.send_chat_message(say(3, "alice", &thread, "late")).await.unwrap();
    assert_eq!(rig.seen_by("bob", &thread).await, ["late", "behind", "once"]);
}

#[tokio::test]
async fn a_token_that_acs_no_longer_takes_is_renewed() {
    let mut rig = rig().await;
    let thread = rig.thread(1, "alice", &[]).await.thread_id;
    rig.emulator.faults().next(Operation::SendMessage, Fault::status(401), 1);
    let before = rig.emulator.tokens_issued();
    rig.chat.send_chat_message(say(2, "alice", &thread, "hello")).await.unwrap();
    assert_eq!(rig.emulator.tokens_issued(), before + 1);
    assert_eq!(rig.seen_by("alice", &thread).await, ["hello"]);
}

#[tokio::test]
async fn every_refusal_has_its_code_and_leaves_nothing_behind() {
    let mut rig = rig().await;
    let thread = rig.thread(1, "alice", &[]).await.thread_id;
    let unknown = "19:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA1@thread.v2";
    let nowhere = rig.chat.send_chat_message(say(2, "alice", unknown, "x")).await.unwrap_err();
    assert_eq!(reason(&nowhere, Code::NotFound), "CHAT_NOT_FOUND");
    let outside = rig.chat.send_chat_message(say(3, "mallory", &thread, "x")).await.unwrap_err();
    assert_eq!(reason(&outside, Code::PermissionDenied), "CHAT_FORBIDDEN");
    let long = "x".repeat(28 * 1024 + 1);
    let long = rig.chat.send_chat_message(say(4, "alice", &thread, &long)).await.unwrap_err();
    assert_eq!(reason(&long, Code::InvalidArgument), "INVALID_FIELD");
    let none = v1::GetChatMessageRequest {
        acting_user_id: "alice".into(),
        thread_id: thread.clone(),
        message_id: "1".into(),
        ..Default::default()
    };
    let none = rig.chat.get_chat_message(none).await.unwrap_err();
    assert_eq!(reason(&none, Code::NotFound), "CHAT_NOT_FOUND");
    rig.emulator.faults().next(Operation::SendMessage, Fault::throttled(7), 9);
    let throttled = rig.chat.send_chat_message(say(5, "alice", &thread, "x")).await.unwrap_err();
    assert_eq!(reason(&throttled, Code::ResourceExhausted), "ACS_THROTTLED");
    assert!(throttled.get_error_details().retry_info().unwrap().retry_delay.is_some());
    rig.world.use_up_budgets(Some(Duration::from_secs(3)));
    let limited = rig.chat.send_chat_message(say(6, "alice", &thread, "x")).await.unwrap_err();
    assert_eq!(reason(&limited, Code::ResourceExhausted), "ACS_LIMIT_REACHED");
    rig.world.use_up_budgets(None);
    assert!(rig.seen_by("alice", &thread).await.is_empty());
}

#[tokio::test]
async fn the_251st_participant_is_refused_as_a_field() {
    let mut rig = rig().await;
    let thread = rig.thread(1, "alice", &[]).await.thread_id;
    let add = |from: usize, to: usize| {
        let participants = (from..to).map(|number| who(&format!("user-{number}"))).collect();
        v1::AddChatParticipantsRequest {
            acting_user_id: "alice".into(),
            thread_id: thread.clone(),
            participants,
        }
    };
    let (first, second, last) = (add(0, 200), add(200, 249), add(249, 250));
    rig.chat.add_chat_participants(first).await.unwrap();
    rig.chat.add_chat_participants(second).await.unwrap();
    let refused = rig.chat.add_chat_participants(last).await.unwrap_err();
    assert_eq!(reason(&refused, Code::InvalidArgument), "INVALID_FIELD");
    let details = refused.get_error_details();
    assert_eq!(details.bad_request().unwrap().field_violations[0].field, "participants");
}
