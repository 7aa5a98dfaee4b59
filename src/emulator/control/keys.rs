//! Replacing an access key, as one does in the portal: the old connection string is dead at once.

use serde::Deserialize;
use serde_json::json;

use super::super::answer::{self, Answer};
use super::super::identity::AccessKey;
use super::super::shared::Shared;
use super::request::{self, Refusal};

/// `POST keys/rotate`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rotate {
    key: KeyName,
}

#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "snake_case")]
enum KeyName {
    Primary,
    Secondary,
}

pub(super) fn rotate(shared: &Shared, body: &[u8]) -> Result<Answer, Refusal> {
    let Rotate { key } = request::object(body)?;
    let key = match key {
        KeyName::Primary => AccessKey::Primary,
        KeyName::Secondary => AccessKey::Secondary,
    };
    shared.state().rotate(key);
    shared.feed.changed();
    Ok(answer::json(
        200,
        &json!({
            "connection_string": shared.connection_string(false, key),
            "connection_string_tls": shared.connection_string(true, key),
        }),
    ))
}
