//! Durations as text in settings: `250ms`, `90s`, `24h`. For `#[serde(with = "crate::duration")]` in any `Settings`.

use std::time::Duration;

use serde::de::Error;
use serde::{Deserialize, Deserializer};

/// Reads a duration from its text.
pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(from)?;
    humantime::parse_duration(&text)
        .map_err(|_| D::Error::custom("must be a duration such as \"250ms\", \"90s\" or \"24h\""))
}

/// A duration as settings write it, for messages.
pub fn text(duration: Duration) -> String {
    humantime::format_duration(duration).to_string()
}
