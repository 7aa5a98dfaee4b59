//! Where events are posted: what a webhook is configured to be, checked before it is used.
//!
//! Pure. An address may hold a key in its query, so no webhook has a `Debug` text. Used by `events` and by `control`,
//! which reads them as JSON.

use serde::{Deserialize, Serialize};
use url::Url;

/// More webhooks than this are refused.
const MAX_WEBHOOKS: usize = 16;
/// The longest address.
const MAX_URL: usize = 2048;
/// The most kinds one webhook may list, and the longest of them.
const MAX_KINDS: usize = 64;
const MAX_KIND: usize = 128;
/// The most extra copies of an event.
const MAX_DUPLICATE: u32 = 10;
/// What types of events begin with; a kind may be written with it or without.
pub(super) const PREFIX: &str = "Microsoft.Communication.";

/// How an event is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::emulator) enum Schema {
    /// Event Grid's own.
    #[default]
    EventGrid,
    /// CloudEvents 1.0.
    CloudEvents,
}

/// A webhook as it is configured.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::emulator) struct Webhook {
    /// An HTTP or HTTPS address.
    pub(in crate::emulator) url: String,
    #[serde(default)]
    pub(in crate::emulator) schema: Schema,
    /// The kinds of events it gets; empty: all.
    #[serde(default)]
    pub(in crate::emulator) kinds: Vec<String>,
    /// How many more times each event is posted.
    #[serde(default)]
    pub(in crate::emulator) duplicate: u32,
    /// Whether events that come close together are posted out of order.
    #[serde(default)]
    pub(in crate::emulator) reorder: bool,
}

impl Webhook {
    /// The webhook that settings describe; none without an address.
    pub(super) fn from_settings(url: &str, schema: &str) -> Result<Option<Self>, String> {
        if url.is_empty() {
            return Ok(None);
        }
        let schema = match schema {
            "event_grid" => Schema::EventGrid,
            "cloud_events" => Schema::CloudEvents,
            _ => return Err("the schema must be event_grid or cloud_events".to_owned()),
        };
        Ok(Some(Self { url: url.to_owned(), schema, kinds: Vec::new(), duplicate: 0, reorder: false }))
    }

    /// Whether it gets events of this kind.
    pub(super) fn wants(&self, kind: &str) -> bool {
        let plain = |listed: &str| listed.strip_prefix(PREFIX).unwrap_or(listed).eq_ignore_ascii_case(kind);
        self.kinds.is_empty() || self.kinds.iter().any(|listed| plain(listed))
    }

    /// Its address, once everything about it is checked.
    pub(super) fn checked(&self) -> Result<Url, String> {
        if self.url.len() > MAX_URL {
            return Err(format!("the address is longer than {MAX_URL} bytes"));
        }
        let url = Url::parse(&self.url).map_err(|_| "the address is no URL".to_owned())?;
        if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
            return Err("the address must begin with http:// or https://".to_owned());
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err("the address must not hold a user or password".to_owned());
        }
        if self.kinds.len() > MAX_KINDS
            || self.kinds.iter().any(|kind| kind.is_empty() || kind.len() > MAX_KIND)
        {
            return Err(format!("at most {MAX_KINDS} kinds of 1 to {MAX_KIND} bytes can be listed"));
        }
        if self.duplicate > MAX_DUPLICATE {
            return Err(format!("an event can be duplicated at most {MAX_DUPLICATE} times"));
        }
        Ok(url)
    }
}

/// The addresses of a whole list, or what is wrong with which of them.
pub(super) fn checked(webhooks: &[Webhook]) -> Result<Vec<Url>, String> {
    if webhooks.len() > MAX_WEBHOOKS {
        return Err(format!("there can be at most {MAX_WEBHOOKS} webhooks"));
    }
    let check = |(index, webhook): (usize, &Webhook)| {
        webhook.checked().map_err(|problem| format!("webhook {}: {problem}", index + 1))
    };
    webhooks.iter().enumerate().map(check).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(json: &str) -> Result<Webhook, String> {
        let webhook: Webhook = serde_json::from_str(json).map_err(|error| error.to_string())?;
        webhook.checked().map(|_| webhook)
    }

    #[test]
    fn only_the_address_is_required() {
        let webhook = read(r#"{"url":"http://127.0.0.1:1/hook"}"#).ok().unwrap();
        assert!(webhook.schema == Schema::EventGrid && webhook.kinds.is_empty());
        assert!(webhook.duplicate == 0 && !webhook.reorder);
        assert!(webhook.wants("SMSReceived"));
    }

    #[test]
    fn kinds_filter_with_or_without_the_prefix() {
        let webhook = read(
            r#"{"url":"https://a.example/","kinds":["SMSReceived","Microsoft.Communication.ChatThreadCreated"]}"#,
        );
        let webhook = webhook.ok().unwrap();
        assert!(webhook.wants("SMSReceived") && webhook.wants("ChatThreadCreated"));
        assert!(!webhook.wants("SMSDeliveryReportReceived") && !webhook.wants(""));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let long = format!(r#"{{"url":"http://a.example/{}"}}"#, "x".repeat(MAX_URL));
        for body in [
            "{}",
            r#"{"url":""}"#,
            r#"{"url":"127.0.0.1:80"}"#,
            r#"{"url":"ftp://a.example/"}"#,
            r#"{"url":"file:///etc/passwd"}"#,
            r#"{"url":"http://"}"#,
            r#"{"url":"http://user:password@a.example/"}"#,
            r#"{"url":"http://a.example/","schema":"xml"}"#,
            r#"{"url":"http://a.example/","kinds":[""]}"#,
            r#"{"url":"http://a.example/","duplicate":11}"#,
            r#"{"url":"http://a.example/","duplicate":-1}"#,
            r#"{"url":"http://a.example/","colour":"red"}"#,
            &long,
        ] {
            assert!(read(body).is_err(), "{body:.80}");
        }
    }

    #[test]
    fn the_seventeenth_webhook_is_refused_and_a_bad_one_is_named() {
        let good = read(r#"{"url":"http://a.example/"}"#).ok().unwrap();
        let bad = Webhook { url: "nowhere".to_owned(), ..good.clone() };
        assert_eq!(checked(&vec![good.clone(); 16]).map(|urls| urls.len()), Ok(16));
        assert!(checked(&vec![good.clone(); 17]).is_err());
        assert!(checked(&[good, bad]).unwrap_err().starts_with("webhook 2:"));
    }

    proptest! {
        #[test]
        fn an_address_that_passes_is_http_and_no_text_fails_otherwise_than_with_words(url in ".{0,60}") {
            let webhook = Webhook::from_settings(&url, "event_grid");
            if let Ok(Some(webhook)) = webhook
                && let Ok(url) = webhook.checked()
            {
                prop_assert!(url.scheme() == "http" || url.scheme() == "https");
                prop_assert!(url.has_host());
            }
        }
    }
}
