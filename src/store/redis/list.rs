//! Walking the mapping page by page: bucket after bucket, in each by the bytes of the user's name.
//!
//! A page is where the one before ended, so an entry that exists throughout is returned exactly once. Few users leave
//! most buckets empty: the further a walk goes without filling its page, the more buckets it asks at once, up to a
//! bound. Used by `identities`.

use futures_util::stream::{self, StreamExt, TryStreamExt};

use super::Redis;
use super::command::{self, Command};
use crate::broker::ports::{IdentityPage, StoreError};
use crate::broker::types::{IdentityRecord, UserId};
use crate::store::codec::decode_mapping;
use crate::store::keys::Bucket;
use crate::store::seal::Name;

/// Commands one walk has under way at the same time.
const AT_ONCE: usize = 16;

/// The most entries on a page, whatever is asked for.
const PAGE: usize = 1000;

const RANGE: &str = "list_users";
const RECORDS: &str = "list_records";

impl Redis {
    /// The page of at most `limit` entries after `after`.
    pub(super) async fn page(&self, after: Option<Name>, limit: usize) -> Result<IdentityPage, StoreError> {
        let limit = limit.min(PAGE);
        if limit == 0 {
            return Ok(IdentityPage::default());
        }
        // One more than fits tells whether there is a next page.
        let users = self.users(after, limit + 1).await?;
        let next = match (users.get(limit), limit.checked_sub(1).and_then(|last| users.get(last))) {
            (Some(_), Some(last)) => Some(self.keys.page_token(last)),
            _ => None,
        };
        let entries = self.records(users.into_iter().take(limit).collect()).await?;
        Ok(IdentityPage { entries, next })
    }

    /// The first `wanted` users after `after`.
    async fn users(&self, after: Option<Name>, wanted: usize) -> Result<Vec<Name>, StoreError> {
        let first = after.as_ref().map_or(Bucket::FIRST, Bucket::of_user);
        let mut buckets = first.and_later();
        let mut found = Vec::new();
        let mut at_once = 1;
        loop {
            let some: Vec<Bucket> = buckets.by_ref().take(at_once).collect();
            if some.is_empty() || found.len() >= wanted {
                found.truncate(wanted);
                return Ok(found);
            }
            let missing = wanted - found.len();
            let ranges = some.into_iter().map(|bucket| {
                let start = after.as_ref().filter(|_| bucket == first);
                self.range(bucket, start, missing)
            });
            let ranges: Vec<Vec<Name>> = stream::iter(ranges).buffered(AT_ONCE).try_collect().await?;
            found.extend(ranges.into_iter().flatten());
            at_once = (at_once * 2).min(AT_ONCE);
        }
    }

    async fn range(
        &self,
        bucket: Bucket,
        after: Option<&Name>,
        most: usize,
    ) -> Result<Vec<Name>, StoreError> {
        let key = self.keys.index(bucket);
        let start = after.map_or_else(|| "-".to_owned(), |user| format!("({}", user.as_str()));
        let mut cmd = redis::cmd("ZRANGE");
        cmd.arg(&key).arg(start).arg("+").arg("BYLEX").arg("LIMIT").arg(0).arg(most);
        let reply = self.run(&Command::read(RANGE, key, cmd)).await?;
        command::list(RANGE, reply)?
            .into_iter()
            .map(|member| {
                let member = command::bytes(RANGE, member)?.unwrap_or_default();
                let text = String::from_utf8(member).map_err(|_| command::unexpected(RANGE))?;
                self.vault.read_name(&text).ok_or_else(|| command::unexpected(RANGE))
            })
            .collect()
    }

    /// The records of users in the order of their buckets. One that was removed meanwhile is left out.
    async fn records(&self, users: Vec<Name>) -> Result<Vec<(UserId, IdentityRecord)>, StoreError> {
        let buckets = users.chunk_by(|one, two| Bucket::of_user(one) == Bucket::of_user(two));
        let reads: Vec<_> = buckets.map(|users| self.bucket_records(users.to_vec())).collect();
        let records: Vec<Vec<_>> = stream::iter(reads).buffered(AT_ONCE).try_collect().await?;
        Ok(records.into_iter().flatten().collect())
    }

    async fn bucket_records(&self, users: Vec<Name>) -> Result<Vec<(UserId, IdentityRecord)>, StoreError> {
        let keys: Vec<String> = users.iter().map(|user| self.keys.record(user)).collect();
        let Some(first) = keys.first().cloned() else { return Ok(Vec::new()) };
        let mut cmd = redis::cmd("MGET");
        cmd.arg(&keys);
        let reply = self.run(&Command::read(RECORDS, first, cmd)).await?;
        let mut entries = Vec::with_capacity(users.len());
        for (user, record) in users.into_iter().zip(command::list(RECORDS, reply)?) {
            if let Some(bytes) = command::bytes(RECORDS, record)? {
                let (record, kept) = decode_mapping(&bytes)?;
                entries.push((self.vault.user(&user, kept)?, record));
            }
        }
        Ok(entries)
    }
}
