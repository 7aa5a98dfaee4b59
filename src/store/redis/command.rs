//! One command as the store sends it: what it does, where it goes, what it is called in metrics.
//!
//! It also reads replies. A reply of an unexpected shape is an error, never a guess, and its text is never repeated.
//! Used by the ports' files, which make commands, and by `connection`, which sends them.

use std::sync::Arc;

use redis::{Cmd, Script, ToRedisArgs, Value};

use crate::broker::ports::StoreError;

/// Whether a command may be sent again without knowing what became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// It changes nothing.
    Read,
    /// It may change something.
    Write,
}

/// Which nodes of a Cluster a command is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Target {
    /// The primary that holds this key.
    Key(String),
    /// Every primary; the reply is a map from node to reply.
    Primaries,
}

/// A command, ready to be sent.
#[derive(Clone)]
pub(super) struct Command {
    /// Its name in metrics.
    pub(super) operation: &'static str,
    /// Whether it may be sent twice.
    pub(super) effect: Effect,
    /// Where it goes.
    pub(super) target: Target,
    /// What is sent.
    pub(super) cmd: Cmd,
    /// What is sent if the server does not know the script that `cmd` names.
    pub(super) with_source: Option<Cmd>,
}

impl Command {
    /// A read of `key`.
    pub(super) fn read(operation: &'static str, key: String, cmd: Cmd) -> Self {
        Self { operation, effect: Effect::Read, target: Target::Key(key), cmd, with_source: None }
    }

    /// A write of `key`.
    pub(super) fn write(operation: &'static str, key: String, cmd: Cmd) -> Self {
        Self { effect: Effect::Write, ..Self::read(operation, key, cmd) }
    }

    /// The same, for a script that changes nothing.
    pub(super) fn reading(self) -> Self {
        Self { effect: Effect::Read, ..self }
    }

    /// A script over keys in the slot of the first.
    pub(super) fn script(
        operation: &'static str,
        script: &Script,
        source: &'static str,
        keys: Vec<String>,
        arguments: impl ToRedisArgs,
    ) -> Self {
        let build = |name: &str, script: &str| {
            let mut cmd = redis::cmd(name);
            cmd.arg(script).arg(keys.len()).arg(&keys[..]).arg(&arguments);
            cmd
        };
        let (cmd, with_source) = (build("EVALSHA", script.get_hash()), Some(build("EVAL", source)));
        let target = Target::Key(keys.into_iter().next().unwrap_or_default());
        Self { operation, effect: Effect::Write, target, cmd, with_source }
    }
}

/// A reply that this version cannot read; says nothing of its content.
#[derive(Debug, thiserror::Error)]
#[error("Redis gave an unexpected reply to {0}")]
struct UnexpectedReply(&'static str);

/// The error for a reply of an unexpected shape.
pub(super) fn unexpected(operation: &'static str) -> StoreError {
    StoreError::Corrupt(Arc::new(UnexpectedReply(operation)))
}

/// Bytes, or nothing.
pub(super) fn bytes(operation: &'static str, reply: Value) -> Result<Option<Vec<u8>>, StoreError> {
    match reply {
        Value::Nil => Ok(None),
        Value::BulkString(bytes) => Ok(Some(bytes)),
        Value::SimpleString(text) => Ok(Some(text.into_bytes())),
        _ => Err(unexpected(operation)),
    }
}

/// A list.
pub(super) fn list(operation: &'static str, reply: Value) -> Result<Vec<Value>, StoreError> {
    match reply {
        Value::Array(values) => Ok(values),
        _ => Err(unexpected(operation)),
    }
}

/// A whole number.
pub(super) fn number(operation: &'static str, reply: Value) -> Result<i64, StoreError> {
    match reply {
        Value::Int(number) => Ok(number),
        _ => Err(unexpected(operation)),
    }
}

/// A list of exactly two.
pub(super) fn pair(operation: &'static str, reply: Value) -> Result<(Value, Value), StoreError> {
    let [first, second]: [Value; 2] =
        list(operation, reply)?.try_into().map_err(|_| unexpected(operation))?;
    Ok((first, second))
}
