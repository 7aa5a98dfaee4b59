//! Messages in Redis: a record each in a slot of its own, links in 16 groups, and one sorted set of what is due.
//!
//! A record changes by a script that compares its version. The links of one message go out together, one command for
//! each group they are in, so they take one round trip. Used through the port.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::try_join_all;
use redis::Value;

use super::command::{self, Command};
use super::{Redis, millis};
use crate::broker::ports::StoreError;
use crate::clock::Timestamp;
use crate::messaging::ports::{MessageStore, Versioned};
use crate::messaging::types::MessageId;
use crate::store::records::{
    decode_link, decode_message, encode_link, encode_message, message_head, message_id,
};

const GET: &str = "message_get";
const LINKED: &str = "message_linked";
const SCHEDULE: &str = "message_schedule";

/// The most messages taken at once, whatever is asked for.
const AT_ONCE: usize = 1000;

/// A time as a score: whole numbers of this size are exact in a sorted set.
fn score(time: Timestamp) -> u64 {
    time.as_millis().min(1 << 53)
}

impl Redis {
    fn message(
        &self,
        operation: &'static str,
        id: &MessageId,
        reply: Value,
    ) -> Result<Option<Versioned>, StoreError> {
        command::bytes(operation, reply)?.map(|bytes| decode_message(&self.vault, id, &bytes)).transpose()
    }
}

#[async_trait]
impl MessageStore for Redis {
    async fn insert(
        &self,
        id: &MessageId,
        record: &[u8],
        keep: Duration,
    ) -> Result<Option<Versioned>, StoreError> {
        let script = &self.scripts.keep;
        let bytes = encode_message(&self.vault, id, 1, record)?;
        let command = script.on([self.keys.message(id)], (bytes.as_slice(), millis(keep)));
        self.message(script.operation(), id, self.run(&command).await?)
    }

    async fn get(&self, id: &MessageId) -> Result<Option<Versioned>, StoreError> {
        let key = self.keys.message(id);
        let mut cmd = redis::cmd("GET");
        cmd.arg(&key);
        self.message(GET, id, self.run(&Command::read(GET, key, cmd)).await?)
    }

    async fn replace(
        &self,
        id: &MessageId,
        expected: u64,
        record: &[u8],
        keep: Duration,
    ) -> Result<Result<u64, Option<Versioned>>, StoreError> {
        let (script, version) = (&self.scripts.replace, expected.saturating_add(1));
        let (head, bytes) = (message_head(expected), encode_message(&self.vault, id, version, record)?);
        let arguments = (head.as_slice(), bytes.as_slice(), millis(keep));
        let command = script.on([self.keys.message(id)], arguments);
        Ok(match self.run(&command).await? {
            Value::Int(1) => Ok(version),
            other => Err(self.message(script.operation(), id, other)?),
        })
    }

    async fn remove(&self, id: &MessageId, expected: u64) -> Result<bool, StoreError> {
        let script = &self.scripts.drop;
        let command = script.on([self.keys.message(id)], message_head(expected).as_slice());
        Ok(command::number(script.operation(), self.run(&command).await?)? == 1)
    }

    async fn link(
        &self,
        upstream: &[(String, u32)],
        id: &MessageId,
        keep: Duration,
    ) -> Result<(), StoreError> {
        let mut groups: BTreeMap<u8, (Vec<String>, Vec<Vec<u8>>)> = BTreeMap::new();
        for (upstream, part) in upstream {
            let (group, key) = self.keys.link(upstream);
            let (keys, links) = groups.entry(group).or_default();
            keys.push(key);
            links.push(encode_link(id, *part));
        }
        let commands = groups.into_values().map(|(keys, links)| {
            let command = self.scripts.link.on_all(keys, (millis(keep), links));
            async move { self.run(&command).await }
        });
        try_join_all(commands).await.map(drop)
    }

    async fn linked(&self, upstream: &str) -> Result<Option<(MessageId, u32)>, StoreError> {
        let (_, key) = self.keys.link(upstream);
        let mut cmd = redis::cmd("GET");
        cmd.arg(&key);
        let reply = self.run(&Command::read(LINKED, key, cmd)).await?;
        command::bytes(LINKED, reply)?.map(|bytes| decode_link(&bytes)).transpose()
    }

    async fn schedule(&self, id: &MessageId, due: Option<Timestamp>) -> Result<(), StoreError> {
        let key = self.keys.due();
        let cmd = match due {
            Some(due) => {
                let mut cmd = redis::cmd("ZADD");
                cmd.arg(&key).arg(score(due)).arg(id.as_str());
                cmd
            }
            None => {
                let mut cmd = redis::cmd("ZREM");
                cmd.arg(&key).arg(id.as_str());
                cmd
            }
        };
        self.run(&Command::write(SCHEDULE, key, cmd)).await.map(drop)
    }

    async fn take_due(
        &self,
        now: Timestamp,
        hold: Duration,
        limit: usize,
    ) -> Result<Vec<MessageId>, StoreError> {
        let script = &self.scripts.due;
        let arguments = (score(now), score(now.plus(hold)), limit.min(AT_ONCE));
        let command = script.on([self.keys.due()], arguments);
        let taken = command::list(script.operation(), self.run(&command).await?)?;
        taken
            .into_iter()
            .map(|id| {
                let bytes = command::bytes(script.operation(), id)?;
                message_id(&bytes.ok_or_else(|| command::unexpected(script.operation()))?)
            })
            .collect()
    }
}
