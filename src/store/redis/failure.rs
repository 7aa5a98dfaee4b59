//! Why a command has no reply, told apart by what follows from it.
//!
//! It keeps only codes, never server texts: those may repeat keys, and keys hold user ids. Used by `connection`.

use std::sync::Arc;

use redis::{ErrorKind, RedisError};

use crate::broker::ports::StoreError;

/// Why a command has no reply.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Failure {
    /// There was none in time; the command may or may not have been done.
    #[error("Redis did not answer in time")]
    TimedOut,
    /// Too many commands are under way; it was not sent.
    #[error("too many Redis commands are under way (store.redis.max_concurrency)")]
    Busy,
    /// Redis is known to be away; it was not sent.
    #[error("Redis is away")]
    Down,
    /// The connection broke; the command may or may not have been done.
    #[error("the connection to Redis broke")]
    Broken,
    /// Redis answered with an error; the command was not done.
    #[error("Redis refused the command: {0}")]
    Refused(String),
    /// The reply could not be read.
    #[error("Redis gave a reply that cannot be read")]
    Unreadable,
}

impl Failure {
    /// The label in metrics.
    pub(super) const fn outcome(&self) -> &'static str {
        match self {
            Self::TimedOut => "timeout",
            Self::Busy => "busy",
            Self::Down => "down",
            Self::Broken => "broken",
            Self::Refused(_) => "refused",
            Self::Unreadable => "unreadable",
        }
    }

    fn code(&self) -> Option<&str> {
        if let Self::Refused(code) = self { Some(code) } else { None }
    }

    /// Whether it says that the server is unwell, not that this one command was.
    pub(super) fn counts(&self) -> bool {
        match self {
            Self::TimedOut | Self::Broken | Self::Unreadable => true,
            Self::Busy | Self::Down => false,
            Self::Refused(code) => {
                matches!(
                    code.as_str(),
                    "LOADING" | "MASTERDOWN" | "CLUSTERDOWN" | "READONLY" | "NOAUTH" | "BUSY"
                )
            }
        }
    }

    /// Whether another connection may do better.
    pub(super) fn ends_connection(&self) -> bool {
        matches!(self, Self::Broken | Self::Unreadable) || matches!(self.code(), Some("READONLY" | "NOAUTH"))
    }
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        Self::Unavailable(Arc::new(failure))
    }
}

/// What an error of the driver means.
pub(super) fn classify(error: &RedisError) -> Failure {
    if let Some(code) = error.code() {
        let plain =
            !code.is_empty() && code.len() <= 20 && code.bytes().all(|byte| byte.is_ascii_uppercase());
        return Failure::Refused(if plain { code.to_owned() } else { "an unknown error".to_owned() });
    }
    match error.kind() {
        ErrorKind::Parse | ErrorKind::UnexpectedReturnType => Failure::Unreadable,
        _ if error.is_timeout() => Failure::TimedOut,
        _ => Failure::Broken,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_code_of_a_server_error_is_kept() {
        let error = redis::make_extension_error("WRONGTYPE".into(), Some("hunter2".into()));
        let failure = classify(&error);
        assert_eq!(failure, Failure::Refused("WRONGTYPE".into()));
        assert!(!format!("{failure} {failure:?}").contains("hunter2"));
        let odd = classify(&redis::make_extension_error("alice@example.com".into(), None));
        assert!(!format!("{odd} {odd:?}").contains("alice"));
    }

    #[test]
    fn an_error_about_one_command_does_not_count_against_the_server() {
        assert!(!Failure::Refused("WRONGTYPE".into()).counts());
        assert!(!Failure::Busy.counts());
        assert!(Failure::TimedOut.counts());
        assert!(Failure::Refused("LOADING".into()).counts());
    }
}
