//! The chat of the world for tests: threads that remember their repeatability ids, messages that may turn up late.
//!
//! Every call is a step, as with the other ports. The users of this world have identities made of their names.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::{Death, Replica, World};
use crate::broker::error::Error;
use crate::broker::types::{Caller, IdentityId, UserId};
use crate::clock::{Clock, Timestamp};
use crate::messaging::Settings;
use crate::messaging::chat::Chat;
use crate::messaging::ports::{
    ActingToken, ChatError, ChatPage, ChatRange, ChatUpstream, ChatUsers, Message, MessageKind, Metadata,
    OutgoingMessage, Participant, Party, Receipt, RefusedParticipant, Thread,
};
use crate::messaging::types::Failure;
use crate::secret::Secret;

/// What ACS knows of chats.
#[derive(Default)]
pub(crate) struct Threads {
    /// By repeatability id.
    pub(crate) threads: HashMap<uuid::Uuid, Thread>,
    /// Each with when it turns up in lists.
    pub(crate) messages: Vec<(Timestamp, Message)>,
    /// What ACS answers to the next calls that change something, done or not.
    pub(crate) script: Vec<ChatError>,
    /// How long messages take until they turn up.
    pub(crate) late: Duration,
    /// Tokens that ACS does not take.
    pub(crate) refused: HashSet<String>,
    /// How often a token was asked for, and how often a new one.
    pub(crate) tokens: (usize, usize),
    /// How often a list of messages was asked for.
    pub(crate) looks: usize,
    /// Whether lists of messages cannot be had.
    pub(crate) is_blind: bool,
    /// Whether the acting user is no longer in the thread.
    pub(crate) is_shut: bool,
}

impl Threads {
    /// Whether the call may happen at all, and what it answers if not as it should.
    fn begin(&mut self, token: &Secret) -> Result<Option<ChatError>, ChatError> {
        if self.refused.contains(token.expose()) {
            return Err(ChatError::TokenRefused(Error::internal("refused")));
        }
        if self.is_shut {
            return Err(ChatError::NotDone(Error::ChatForbidden));
        }
        match self.script.pop() {
            Some(lost @ ChatError::Unknown { .. }) => Ok(Some(lost)),
            Some(error) => Err(error),
            None => Ok(None),
        }
    }

    /// The texts of all messages, oldest first.
    pub(crate) fn texts(&self) -> Vec<&str> {
        self.messages.iter().map(|(_, message)| message.text.as_str()).collect()
    }
}

/// The raw id of a user of this world.
pub(crate) fn identity(user: &str) -> String {
    format!("8:acs:world_{user}")
}

/// Chat in a process of its own.
pub(crate) fn start(world: &Arc<World>, settings: Settings, death: Death) -> (Chat, Arc<Replica>) {
    let (messaging, replica) = Replica::start(world, settings, death);
    let (users, upstream) =
        (Arc::clone(&replica) as Arc<dyn ChatUsers>, Arc::clone(&replica) as Arc<dyn ChatUpstream>);
    (Chat::new(messaging, users, upstream), replica)
}

/// A lost answer.
pub(crate) fn lost() -> ChatError {
    ChatError::Unknown { retry_after: None, cause: None }
}

fn sender(token: &Secret) -> Party {
    Party::named(identity(token.expose().split('#').next().unwrap_or_default()))
}

#[async_trait]
impl ChatUsers for Replica {
    async fn token(&self, _: &Caller, user: &UserId, renew: bool) -> Result<ActingToken, Error> {
        self.step(|world| {
            let mut chat = world.chat.lock().unwrap();
            chat.tokens.0 += 1;
            chat.tokens.1 += usize::from(renew);
            let token = Secret::new(format!("{}#{}", user.as_str(), chat.tokens.1));
            Ok(ActingToken { token, acs_user_id: identity(user.as_str()) })
        })
        .await
    }

    async fn identity(&self, _: &Caller, user: &UserId) -> Result<IdentityId, Error> {
        self.step(|_| Ok(IdentityId::parse(&identity(user.as_str())).unwrap())).await
    }

    async fn known_identity(&self, _: &Caller, user: &UserId) -> Result<Option<IdentityId>, Error> {
        let known = IdentityId::parse(&identity(user.as_str())).unwrap();
        self.step(|_| Ok((!user.as_str().contains("nobody")).then_some(known))).await
    }

    async fn users_of(&self, _: &Caller, ids: Vec<IdentityId>) -> Result<HashMap<String, UserId>, Error> {
        self.step(|_| {
            let known = ids.iter().filter_map(|id| {
                let user = id.as_str().strip_prefix("8:acs:world_")?;
                Some((id.as_str().to_owned(), UserId::parse(user).unwrap()))
            });
            Ok(known.collect())
        })
        .await
    }
}

#[async_trait]
impl ChatUpstream for Replica {
    async fn create_thread(
        &self,
        token: &Secret,
        repeatability_id: uuid::Uuid,
        topic: &str,
        participants: &[Participant],
        metadata: &Metadata,
    ) -> Result<(Thread, Vec<RefusedParticipant>), ChatError> {
        self.step(|world| {
            let mut chat = world.chat.lock().unwrap();
            let lost = chat.begin(token)?;
            let id = format!("19:{}@thread.v2", chat.threads.len());
            let new = || Thread {
                id,
                topic: topic.into(),
                created: Some(world.clock.now()),
                creator: Some(sender(token)),
                deleted: None,
                metadata: metadata.clone(),
                last_message: None,
            };
            let thread = chat.threads.entry(repeatability_id).or_insert_with(new).clone();
            // Whoever has "stranger" in the name is not let in.
            let refused = participants.iter().filter(|one| one.party.id.contains("stranger"));
            let failure = || Failure { code: "403".into(), detail: "Permissions check failed".into() };
            let refused = refused
                .map(|one| RefusedParticipant { party: Party::named(&one.party.id), failure: failure() });
            let refused = refused.collect();
            lost.map_or(Ok((thread, refused)), Err)
        })
        .await
    }

    async fn thread(&self, token: &Secret, thread: &str) -> Result<Thread, ChatError> {
        self.step(|world| {
            let mut chat = world.chat.lock().unwrap();
            chat.begin(token)?;
            let found = chat.threads.values().find(|one| one.id == thread).cloned();
            found.ok_or(ChatError::NotDone(Error::ChatNotFound))
        })
        .await
    }

    async fn threads(&self, _: &Secret, _: &ChatRange) -> Result<ChatPage<Thread>, ChatError> {
        Err(ChatError::NotDone(Error::internal("no test lists threads here")))
    }

    async fn update_thread(
        &self,
        _: &Secret,
        _: &str,
        _: Option<&str>,
        _: Option<&Metadata>,
    ) -> Result<(), ChatError> {
        Err(ChatError::NotDone(Error::internal("no test changes threads here")))
    }

    async fn delete_thread(&self, _: &Secret, _: &str) -> Result<(), ChatError> {
        Err(ChatError::NotDone(Error::internal("no test deletes threads here")))
    }

    async fn add_participants(
        &self,
        _: &Secret,
        _: &str,
        _: &[Participant],
    ) -> Result<Vec<RefusedParticipant>, ChatError> {
        Err(ChatError::NotDone(Error::internal("no test adds participants here")))
    }

    async fn participants(
        &self,
        _: &Secret,
        _: &str,
        _: &ChatRange,
    ) -> Result<ChatPage<Participant>, ChatError> {
        Err(ChatError::NotDone(Error::internal("no test lists participants here")))
    }

    async fn remove_participant(&self, _: &Secret, _: &str, _: &str) -> Result<(), ChatError> {
        Err(ChatError::NotDone(Error::internal("no test removes participants here")))
    }

    async fn send_message(&self, token: &Secret, message: &OutgoingMessage) -> Result<String, ChatError> {
        self.step(|world| {
            let mut chat = world.chat.lock().unwrap();
            let lost = chat.begin(token)?;
            let (now, sequence) = (world.clock.now(), chat.messages.len());
            let id = (now.as_millis() + sequence as u64).to_string();
            let seen_from = now.plus(chat.late);
            chat.messages.push((
                seen_from,
                Message {
                    id: id.clone(),
                    kind: MessageKind::Text,
                    sequence: i64::try_from(sequence).unwrap(),
                    version: id.clone(),
                    text: message.text.clone(),
                    sender: Some(sender(token)),
                    sender_display_name: message.sender_display_name.clone().unwrap_or_default(),
                    created: now,
                    edited: None,
                    deleted: None,
                    metadata: message.metadata.clone(),
                    topic: String::new(),
                    participants: Vec::new(),
                    initiator: None,
                },
            ));
            lost.map_or(Ok(id), Err)
        })
        .await
    }

    async fn message(&self, token: &Secret, _: &str, message: &str) -> Result<Message, ChatError> {
        self.step(|world| {
            let mut chat = world.chat.lock().unwrap();
            chat.begin(token)?;
            let found = chat.messages.iter().find(|(_, one)| one.id == message);
            found.map(|(_, one)| one.clone()).ok_or(ChatError::NotDone(Error::ChatNotFound))
        })
        .await
    }

    /// Pages of two, so that looking has to turn them.
    async fn messages(
        &self,
        token: &Secret,
        _: &str,
        range: &ChatRange,
    ) -> Result<ChatPage<Message>, ChatError> {
        self.step(|world| {
            let mut chat = world.chat.lock().unwrap();
            chat.begin(token)?;
            chat.looks += 1;
            if chat.is_blind {
                return Err(lost());
            }
            let now = world.clock.now();
            let from: usize = range.from.as_deref().map_or(0, |from| from.parse().unwrap());
            let seen = chat.messages.iter().rev().filter(|(seen_from, _)| *seen_from <= now);
            let mut left = seen.map(|(_, message)| message.clone()).skip(from);
            let entries: Vec<Message> = left.by_ref().take(2).collect();
            let next = left.next().map(|_| (from + 2).to_string());
            Ok(ChatPage { entries, next })
        })
        .await
    }

    async fn update_message(
        &self,
        token: &Secret,
        _: &str,
        message: &str,
        text: Option<&str>,
        metadata: Option<&Metadata>,
    ) -> Result<(), ChatError> {
        self.step(|world| {
            let mut chat = world.chat.lock().unwrap();
            chat.begin(token)?;
            let Some((_, found)) = chat.messages.iter_mut().find(|(_, one)| one.id == message) else {
                return Err(ChatError::NotDone(Error::ChatNotFound));
            };
            found.text = text.unwrap_or(&found.text).to_owned();
            found.metadata = metadata.cloned().unwrap_or_else(BTreeMap::new);
            Ok(())
        })
        .await
    }

    async fn delete_message(&self, _: &Secret, _: &str, _: &str) -> Result<(), ChatError> {
        Err(ChatError::NotDone(Error::internal("no test deletes messages here")))
    }

    async fn send_read_receipt(&self, _: &Secret, _: &str, _: &str) -> Result<(), ChatError> {
        Err(ChatError::NotDone(Error::internal("no test sends receipts here")))
    }

    async fn read_receipts(
        &self,
        _: &Secret,
        _: &str,
        _: &ChatRange,
    ) -> Result<ChatPage<Receipt>, ChatError> {
        Err(ChatError::NotDone(Error::internal("no test lists receipts here")))
    }

    async fn send_typing(&self, _: &Secret, _: &str, _: Option<&str>) -> Result<(), ChatError> {
        Err(ChatError::NotDone(Error::internal("no test types here")))
    }
}
