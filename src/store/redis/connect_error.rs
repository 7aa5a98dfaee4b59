//! Why there is no connection to Redis, told apart by the mend.
//!
//! Server texts and URLs are never repeated, for an old server echoes the password it did not understand. Used by
//! `connect`, which finds out, by `redis::open`, which refuses to start, and by whoever shows why.

use std::sync::Arc;

use redis::{ErrorKind, RedisError};

use crate::store::seal::NamesProblem;

/// Why there is no connection. The texts say what to mend and show nothing secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// Nobody answers there.
    #[error("cannot connect to Redis at {0}: {1}; is it running, and is store.redis.url right?")]
    Unreachable(String, String),
    /// Somebody accepts the connection but says nothing.
    #[error(
        "{0} accepts connections but does not answer; is it a Redis, is it overloaded, and do both sides agree on \
         TLS (redis:// without, rediss:// with)?"
    )]
    Silent(String),
    /// It asks for a password and none is set.
    #[error(
        "Redis at {0} needs a password; set store.redis.password_file (and store.redis.username for an ACL user)"
    )]
    PasswordNeeded(String),
    /// It refuses the user or the password.
    #[error(
        "Redis at {0} refuses the user name or password; mend store.redis.username and store.redis.password"
    )]
    PasswordWrong(String),
    /// The ACL user may not do what is needed.
    #[error(
        "Redis at {0} does not permit its user a command the broker needs; docs/store-keys.md lists them"
    )]
    NotPermitted(String),
    /// It speaks another protocol.
    #[error(
        "{0} does not answer as a Redis; store.redis.url must name a Redis server, and rediss:// if it uses TLS"
    )]
    NotRedis(String),
    /// TLS could not be agreed on.
    #[error(
        "TLS with Redis at {0} failed ({1}); check that it serves TLS there, that its certificate names this host, \
         and that store.redis.ca_file holds its CA"
    )]
    Tls(String, String),
    /// It is too old.
    #[error("Redis at {0} has version {1}; the broker needs 6.2 or newer")]
    TooOld(String, String),
    /// A Cluster node, but not the topology for it.
    #[error("Redis at {0} is a node of a Cluster; set store.redis.topology to \"cluster\"")]
    IsCluster(String),
    /// Not a Cluster node, but the topology for one.
    #[error(
        "Redis at {0} is not a node of a Cluster; set store.redis.topology to \"single\" or \"sentinel\""
    )]
    NotCluster(String),
    /// A replica, which takes no writes.
    #[error("Redis at {0} is a read-only replica; store.redis.url must lead to the primary")]
    Replica(String),
    /// It is reading its data from disk.
    #[error("Redis at {0} is loading its data; it will be used when it is done")]
    Loading(String),
    /// It may drop keys that never expire.
    #[error(
        "Redis at {0} may evict keys that never expire (maxmemory-policy {1}) and so lose identities; set noeviction \
         or a volatile-* policy, or store.redis.allow_eviction"
    )]
    Evicts(String, String),
    /// It may drop messages before their time.
    #[error(
        "Redis at {0} may evict records of messages (maxmemory-policy {1}), and a message whose record is gone may be \
         sent twice; set noeviction, or store.redis.allow_eviction"
    )]
    EvictsMessages(String, String),
    /// It calls users by other names.
    #[error("Redis under store.redis.prefix: {0}")]
    OtherNames(NamesProblem),
    /// It is a Redis, but no Sentinel.
    #[error(
        "{0} is not a Sentinel; store.redis.url must name Sentinels with topology \"sentinel\", or set topology to \"single\""
    )]
    NotSentinel(String),
    /// The Sentinels do not know the name.
    #[error("the Sentinels do not watch a master named {0:?}; mend store.redis.sentinel_master")]
    UnknownMaster(String),
    /// A setting is wrong.
    #[error("store.redis.{0} {1}")]
    Setting(&'static str, String),
}

impl ConnectError {
    /// Whether only a change of settings or of the server's set-up can help, so that it is better not to start.
    pub fn needs_mending(&self) -> bool {
        !matches!(self, Self::Unreachable(..) | Self::Silent(_) | Self::Loading(_))
    }

    /// What an error of the driver while connecting to `node` means.
    pub(super) fn from_driver(node: &str, error: &RedisError) -> Self {
        let node = node.to_owned();
        match (error.code(), error.kind()) {
            (Some("WRONGPASS"), _) => Self::PasswordWrong(node),
            (Some("NOAUTH"), _) => Self::PasswordNeeded(node),
            (Some("NOPERM"), _) => Self::NotPermitted(node),
            (Some("LOADING" | "MASTERDOWN"), _) => Self::Loading(node),
            (_, ErrorKind::AuthenticationFailed) => Self::PasswordWrong(node),
            (_, ErrorKind::RESP3NotSupported) => Self::TooOld(node, "older than 6".into()),
            (_, ErrorKind::Parse) => Self::NotRedis(node),
            (_, ErrorKind::Io) => match io_error(error) {
                Some(io) => Self::from_io(node, io),
                None => Self::Unreachable(node, "I/O error".into()),
            },
            // An old or crippled server that does not know HELLO, or something that merely resembles Redis.
            (Some("ERR"), _) => Self::NotRedis(node),
            _ => Self::Unreachable(node, "it refused the connection's set-up".into()),
        }
    }

    fn from_io(node: String, error: &std::io::Error) -> Self {
        let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        match (tls, error.kind()) {
            (Some(tls), _) => Self::Tls(node, tls.to_string()),
            (None, std::io::ErrorKind::TimedOut) => Self::Silent(node),
            (None, std::io::ErrorKind::InvalidData) => Self::NotRedis(node),
            (None, std::io::ErrorKind::UnexpectedEof | std::io::ErrorKind::BrokenPipe) => Self::Unreachable(
                node,
                "it closed the connection at once (do both sides agree on TLS?)".into(),
            ),
            (None, kind) => Self::Unreachable(node, kind.to_string()),
        }
    }
}

fn io_error(error: &RedisError) -> Option<&std::io::Error> {
    let source = std::error::Error::source(error)?;
    source
        .downcast_ref::<std::io::Error>()
        .or_else(|| source.downcast_ref::<Arc<dyn std::error::Error + Send + Sync>>()?.downcast_ref())
}
