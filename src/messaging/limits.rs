//! The published limits of ACS as data, and which of them a call falls under.
//!
//! Pure. The figures are `limits.json` (Microsoft Learn, "Service limits for Azure Communication Services"), scaled by
//! the setting `messages.limits` for those whose limits Microsoft raised. Used by `sms`, `email`, `chat`.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::types::EmailAddress;
use crate::broker::ports::Limit;
use crate::broker::types::UserId;

/// What a call is counted in: a name that the fleet shares, and the limits that hold for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Bucket {
    /// Its kind, for metrics.
    pub(super) kind: &'static str,
    pub(super) name: String,
    pub(super) limits: Vec<Limit>,
}

/// What is done in a chat, as the published limits tell it apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ChatOperation {
    CreateThread,
    DeleteThread,
    UpdateThread,
    ChangeParticipants,
    ReadThreads,
    GetMessage,
    ListMessages,
    ListReceipts,
    ListParticipants,
    ChangeMessages,
    SendReceipt,
    Typing,
}

/// Users and threads in the name of a bucket: short, and not telling who.
fn short(parts: &[&str]) -> String {
    let mut digest = Sha256::new();
    for part in parts {
        digest.update((part.len() as u64).to_be_bytes());
        digest.update(part);
    }
    digest.finalize().iter().take(12).map(|byte| format!("{byte:02x}")).collect()
}

/// The limits in force.
pub(super) struct Limits(BTreeMap<String, Vec<Limit>>);

#[derive(Deserialize)]
struct Published {
    window_seconds: u64,
    max: u32,
}

impl Limits {
    /// The published limits times `factor`, each at least 1; none with a factor of 0.
    pub(super) fn new(factor: f64) -> Self {
        let published: BTreeMap<String, Vec<Published>> = if factor > 0.0 {
            // A test reads the file that is compiled in: it can only fail there.
            serde_json::from_str(include_str!("limits.json")).unwrap_or_default()
        } else {
            BTreeMap::new()
        };
        let limit = |published: &Published| {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a float beyond the range of u32 becomes its end, which is meant"
            )]
            let max = (f64::from(published.max) * factor) as u32;
            Limit { window: Duration::from_secs(published.window_seconds), max: max.max(1) }
        };
        Self(published.into_iter().map(|(name, list)| (name, list.iter().map(limit).collect())).collect())
    }

    /// What SMS from this sender are counted in.
    pub(super) fn sms(&self, sender: &str) -> Bucket {
        let digits = sender.bytes().all(|byte| byte.is_ascii_digit());
        if sender.starts_with('+') {
            self.bucket("sms_number", Some(sender))
        } else if digits {
            self.bucket("sms_short_code", Some(sender))
        } else {
            // All alphanumeric senders of a resource share one limit.
            self.bucket("sms_alphanumeric", None)
        }
    }

    /// What mail from this sender is counted in.
    pub(super) fn email_send(&self, sender: &EmailAddress) -> Bucket {
        self.bucket(if is_managed(sender) { "email_send_managed" } else { "email_send" }, None)
    }

    /// What questions about mail from this sender are counted in.
    pub(super) fn email_status(&self, managed: bool) -> Bucket {
        self.bucket(if managed { "email_status_managed" } else { "email_status" }, None)
    }

    /// What a chat operation of this user in this thread is counted in.
    pub(super) fn chat(&self, operation: ChatOperation, user: &UserId, thread: &str) -> Vec<Bucket> {
        let by_user = |kind| self.bucket(kind, Some(&short(&[user.as_str()])));
        let by_thread = |kind| self.bucket(kind, Some(&short(&[thread])));
        let by_both = |kind| self.bucket(kind, Some(&short(&[user.as_str(), thread])));
        match operation {
            ChatOperation::CreateThread => vec![by_user("chat_create_thread")],
            ChatOperation::DeleteThread => vec![by_user("chat_delete_thread")],
            ChatOperation::UpdateThread => vec![by_thread("chat_update_thread")],
            ChatOperation::ChangeParticipants => vec![by_thread("chat_change_participants")],
            ChatOperation::ReadThreads => vec![by_user("chat_read_threads")],
            ChatOperation::GetMessage => {
                vec![by_both("chat_get_message_user"), by_thread("chat_get_message_thread")]
            }
            ChatOperation::ListMessages => {
                vec![by_both("chat_list_messages_user"), by_thread("chat_list_messages_thread")]
            }
            ChatOperation::ListReceipts => {
                vec![by_both("chat_list_receipts_user"), by_thread("chat_list_receipts_thread")]
            }
            ChatOperation::ListParticipants => {
                vec![by_both("chat_list_participants_user"), by_thread("chat_list_participants_thread")]
            }
            ChatOperation::ChangeMessages => vec![by_thread("chat_change_messages")],
            ChatOperation::SendReceipt => vec![by_both("chat_send_receipt")],
            ChatOperation::Typing => vec![by_both("chat_typing_user"), by_thread("chat_typing_thread")],
        }
    }

    fn bucket(&self, kind: &'static str, of: Option<&str>) -> Bucket {
        let name = of.map_or_else(|| kind.to_owned(), |of| format!("{kind}:{of}"));
        Bucket { kind, name, limits: self.0.get(kind).cloned().unwrap_or_default() }
    }
}

/// Whether the domain is one that Azure manages, which has lower limits.
pub(super) fn is_managed(sender: &EmailAddress) -> bool {
    sender.domain().to_ascii_lowercase().ends_with(".azurecomm.net")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_sender_has_its_limit() {
        let limits = Limits::new(1.0);
        let minute = |max| vec![Limit { window: Duration::from_mins(1), max }];
        let number = limits.sms("+18005550100");
        assert_eq!((number.name.as_str(), number.limits), ("sms_number:+18005550100", minute(200)));
        assert_eq!(limits.sms("50505").limits, minute(6000));
        let name = limits.sms("Contoso");
        assert_eq!((name.name.as_str(), name.limits), ("sms_alphanumeric", minute(600)));
        let own = EmailAddress::parse("a@contoso.com", "").unwrap();
        let managed = EmailAddress::parse("a@1234.AzureComm.net", "").unwrap();
        assert_eq!(limits.email_send(&own).limits.len(), 2);
        assert_eq!(limits.email_send(&managed).limits[0].max, 5);
        assert_eq!(limits.email_status(false).limits[1].max, 200);
    }

    #[test]
    fn every_chat_operation_has_published_limits_per_user_or_thread() {
        use ChatOperation as O;
        let limits = Limits::new(1.0);
        let (alice, bob) = (UserId::parse("alice").unwrap(), UserId::parse("bob").unwrap());
        for (operation, kinds) in [
            (O::CreateThread, 1),
            (O::DeleteThread, 1),
            (O::UpdateThread, 1),
            (O::ChangeParticipants, 1),
            (O::ReadThreads, 1),
            (O::GetMessage, 2),
            (O::ListMessages, 2),
            (O::ListReceipts, 2),
            (O::ListParticipants, 2),
            (O::ChangeMessages, 1),
            (O::SendReceipt, 1),
            (O::Typing, 2),
        ] {
            let buckets = limits.chat(operation, &alice, "19:a@thread.v2");
            assert_eq!(buckets.len(), kinds, "{operation:?}");
            for bucket in &buckets {
                assert!(!bucket.limits.is_empty(), "{}", bucket.kind);
                assert!(!bucket.name.contains("alice") && !bucket.name.contains("19:a"), "{}", bucket.name);
            }
            assert_eq!(buckets, limits.chat(operation, &alice, "19:a@thread.v2"));
            assert_ne!(buckets, limits.chat(operation, &bob, "19:b@thread.v2"), "{operation:?}");
        }
        let window = |seconds, max| Limit { window: Duration::from_secs(seconds), max };
        let sends = limits.chat(O::ChangeMessages, &alice, "t");
        assert_eq!(sends[0].limits, [window(10, 10), window(60, 30)]);
        assert_eq!(sends, limits.chat(O::ChangeMessages, &bob, "t"), "all who write share a thread's limit");
    }

    #[test]
    fn limits_are_scaled_and_may_be_off() {
        assert_eq!(Limits::new(10.0).sms("50505").limits[0].max, 60_000);
        assert_eq!(Limits::new(0.0001).sms("50505").limits[0].max, 1);
        assert!(Limits::new(0.0).sms("50505").limits.is_empty());
    }
}
