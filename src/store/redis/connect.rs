//! Makes a connection to the right node and looks at what it reached before anybody uses it.
//!
//! Three topologies end in one [`Link`]. What can go wrong is told apart by its mend ([`ConnectError`]); server texts
//! and URLs are never repeated, for an old server echoes the password it did not understand. Used by `connection`.

use std::sync::Arc;
use std::time::Duration;

use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;
use redis::{
    AsyncConnectionConfig, Cmd, ConnectionAddr, ConnectionInfo, ErrorKind, PushInfo, PushKind, RedisError,
    TlsCertificates,
};
use tokio::sync::Notify;
use tokio::time::timeout;

use super::address::{self, Addresses, shown};
use super::facts::{Facts, Role};
use super::settings::{Settings, Topology};

/// The longest wait for one node to accept a connection and greet. Nobody's command waits that long: connecting goes
/// on in the background.
const CONNECT_WITHIN: Duration = Duration::from_secs(1);

/// The oldest Redis that has every command used here: `ZRANGE … BYLEX` came with 6.2.
const OLDEST: (u32, u32) = (6, 2);

/// Why there is no connection. The texts say what to mend and show nothing secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// Nobody answers there.
    #[error("cannot connect to Redis at {0}: {1}; is it running, and is store.redis.url right?")]
    Unreachable(String, String),
    /// Somebody accepts the connection but says nothing.
    #[error(
        "{0} accepts connections but does not answer; is it a Redis, is it overloaded, or does it expect TLS \
         (rediss://)?"
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
    fn from_driver(node: &str, error: &RedisError) -> Self {
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

/// Something that takes commands.
#[derive(Clone)]
pub(super) enum Link {
    /// One connection to one node.
    Node(MultiplexedConnection),
    /// The driver's connections to all nodes of a Cluster.
    Cluster(ClusterConnection),
}

/// A connection that was made and looked at.
pub(super) struct Connected {
    /// Where commands go.
    pub(super) link: Link,
    /// Told when the connection is gone; never told by a Cluster, which repairs its connections itself.
    pub(super) lost: Arc<Notify>,
    /// What the node said of itself, if it may be asked.
    pub(super) facts: Option<Facts>,
    /// The node, for messages.
    pub(super) node: String,
}

/// Makes connections as the settings say.
pub(super) struct Connector {
    addresses: Addresses,
    trusted: Option<Vec<u8>>,
    topology: Topology,
    master: String,
    command_timeout: Duration,
    max_concurrency: usize,
}

impl Connector {
    /// Checks the settings and reads the CA file.
    pub(super) fn new(settings: &Settings) -> Result<Self, ConnectError> {
        let as_error = |(key, text)| ConnectError::Setting(key, text);
        if let Some(problem) = settings.problems().into_iter().next() {
            return Err(as_error(problem));
        }
        let addresses = address::parse(settings).map_err(as_error)?;
        let trusted = address::trusted(settings).map_err(as_error)?;
        if addresses.tls {
            // The driver takes rustls' process-wide provider; an error only says that one is installed already.
            let _ = rustls::crypto::ring::default_provider().install_default();
        }
        Ok(Self {
            addresses,
            trusted,
            topology: settings.topology,
            master: settings.sentinel_master.clone(),
            command_timeout: settings.timeout,
            max_concurrency: settings.max_concurrency,
        })
    }

    /// Connects, within a bounded time.
    pub(super) async fn connect(&self) -> Result<Connected, ConnectError> {
        match self.topology {
            Topology::Single => self.data_node(self.addresses.first.clone()).await,
            Topology::Sentinel => self.through_sentinels().await,
            Topology::Cluster => self.cluster().await,
        }
    }

    async fn open(&self, info: ConnectionInfo) -> Result<(MultiplexedConnection, Arc<Notify>), ConnectError> {
        let node = shown(&info);
        let lost = Arc::new(Notify::new());
        let teller = Arc::clone(&lost);
        let config = AsyncConnectionConfig::new()
            // Both are bounded by deadlines of our own.
            .set_connection_timeout(None)
            .set_response_timeout(None)
            // As many as there can be commands, so that none waits for a place in the driver's queue.
            .set_pipeline_buffer_size(self.max_concurrency)
            .set_push_sender(move |push: PushInfo| {
                if push.kind == PushKind::Disconnection {
                    teller.notify_one();
                }
                Ok::<(), redis::aio::SendError>(())
            });
        let client = address::client(info, self.trusted.as_ref())
            .map_err(|error| ConnectError::from_driver(&node, &error))?;
        match timeout(CONNECT_WITHIN, client.get_multiplexed_async_connection_with_config(&config)).await {
            Ok(Ok(connection)) => Ok((connection, lost)),
            Ok(Err(error)) => Err(ConnectError::from_driver(&node, &error)),
            Err(_) => Err(self.why_slow(&client, node).await),
        }
    }

    /// Tells a host that is away from one that accepts and says nothing.
    async fn why_slow(&self, client: &redis::Client, node: String) -> ConnectError {
        let (ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. }) =
            client.get_connection_info().addr()
        else {
            return ConnectError::Silent(node);
        };
        let address = (host.as_str(), *port);
        match timeout(CONNECT_WITHIN / 4, tokio::net::TcpStream::connect(address)).await {
            Ok(Ok(_)) => ConnectError::Silent(node),
            Ok(Err(error)) => ConnectError::Unreachable(node, error.kind().to_string()),
            Err(_) => ConnectError::Unreachable(node, "no answer".into()),
        }
    }

    /// Asks a node for its facts. None if its user may not ask.
    async fn facts(
        &self,
        node: &str,
        link: &mut MultiplexedConnection,
    ) -> Result<Option<Facts>, ConnectError> {
        let command = redis::cmd("INFO");
        match timeout(CONNECT_WITHIN, command.query_async::<String>(link)).await {
            Ok(Ok(text)) => Ok(Some(Facts::read(&text))),
            Ok(Err(error)) if error.code() == Some("NOPERM") => Ok(None),
            Ok(Err(error)) => Err(ConnectError::from_driver(node, &error)),
            Err(_) => Err(ConnectError::Silent(node.to_owned())),
        }
    }

    async fn data_node(&self, info: ConnectionInfo) -> Result<Connected, ConnectError> {
        let node = shown(&info);
        let (mut connection, lost) = self.open(info).await?;
        let facts = self.facts(&node, &mut connection).await?;
        if let Some(facts) = &facts {
            check(&node, facts, self.topology)?;
        }
        Ok(Connected { link: Link::Node(connection), lost, facts, node })
    }

    async fn through_sentinels(&self) -> Result<Connected, ConnectError> {
        let mut last = ConnectError::UnknownMaster(self.master.clone());
        for sentinel in &self.addresses.nodes {
            let found = match self.ask_sentinel(sentinel.clone()).await {
                Ok(Some((host, port))) => self.data_node(self.named_by_sentinel(host, port)).await,
                Ok(None) => Err(ConnectError::UnknownMaster(self.master.clone())),
                Err(error) => Err(error),
            };
            match found {
                Ok(connected) => return Ok(connected),
                // Another Sentinel may know better. A replica here means a failover under way.
                Err(ConnectError::Replica(node)) => {
                    last = ConnectError::Unreachable(node, "a failover is under way".into());
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    async fn ask_sentinel(&self, sentinel: ConnectionInfo) -> Result<Option<(String, u16)>, ConnectError> {
        let node = shown(&sentinel);
        let (mut connection, _lost) = self.open(sentinel).await?;
        let mut command = redis::cmd("SENTINEL");
        command.arg("GET-MASTER-ADDR-BY-NAME").arg(&self.master);
        match timeout(CONNECT_WITHIN, command.query_async(&mut connection)).await {
            Ok(Ok(address)) => Ok(address),
            // A data node answers that it does not know the command.
            Ok(Err(error)) if error.code() == Some("ERR") => {
                Err(ConnectError::NotRedis(format!("the Sentinel at {node}")))
            }
            Ok(Err(error)) => Err(ConnectError::from_driver(&node, &error)),
            Err(_) => Err(ConnectError::Silent(node)),
        }
    }

    fn named_by_sentinel(&self, host: String, port: u16) -> ConnectionInfo {
        let addr = if self.addresses.tls {
            ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None }
        } else {
            ConnectionAddr::Tcp(host, port)
        };
        let login = self.addresses.login.clone();
        self.addresses.first.clone().set_addr(addr).set_redis_settings(login)
    }

    async fn cluster(&self) -> Result<Connected, ConnectError> {
        // The driver's Cluster client hides why it failed, so a seed is asked directly first.
        let (node, facts) = self.any_seed().await?;
        let mut builder = ClusterClient::builder(self.addresses.nodes.clone())
            // No retries by the driver: it would send a write again that may have been done. Redirections are
            // followed by `Link::send`.
            .retries(0)
            .response_timeout(self.command_timeout)
            .connection_timeout(CONNECT_WITHIN / 2)
            .overall_response_timeout(None)
            .tcp_settings(address::tcp());
        if let Some(pem) = &self.trusted {
            builder = builder.certs(TlsCertificates { client_tls: None, root_cert: Some(pem.clone()) });
        }
        let client = builder.build().map_err(|error| ConnectError::from_driver(&node, &error))?;
        match timeout(CONNECT_WITHIN * 2, client.get_async_connection()).await {
            Ok(Ok(cluster)) => {
                Ok(Connected { link: Link::Cluster(cluster), lost: Arc::new(Notify::new()), facts, node })
            }
            Ok(Err(error)) => Err(ConnectError::from_driver(&node, &error)),
            Err(_) => Err(ConnectError::Silent(node)),
        }
    }

    async fn any_seed(&self) -> Result<(String, Option<Facts>), ConnectError> {
        let mut last = Err(ConnectError::Setting("url", "must be set".into()));
        for seed in &self.addresses.nodes {
            last = self.seed(seed.clone()).await;
            if last.is_ok() {
                break;
            }
        }
        last
    }

    async fn seed(&self, info: ConnectionInfo) -> Result<(String, Option<Facts>), ConnectError> {
        let node = shown(&info);
        let (mut connection, _lost) = self.open(info).await?;
        let facts = self.facts(&node, &mut connection).await?;
        if let Some(facts) = &facts {
            check(&node, facts, Topology::Cluster)?;
        }
        Ok((node, facts))
    }
}

/// Whether what a node said of itself fits the settings. Eviction is judged by the caller, who may allow it.
fn check(node: &str, facts: &Facts, topology: Topology) -> Result<(), ConnectError> {
    let node = node.to_owned();
    if let Some(version) = facts.version
        && version < OLDEST
    {
        return Err(ConnectError::TooOld(node, format!("{}.{}", version.0, version.1)));
    }
    match (topology, facts.cluster) {
        (Topology::Cluster, Some(false)) => return Err(ConnectError::NotCluster(node)),
        (Topology::Single | Topology::Sentinel, Some(true)) => return Err(ConnectError::IsCluster(node)),
        _ => {}
    }
    if facts.loading {
        return Err(ConnectError::Loading(node));
    }
    if topology != Topology::Cluster && facts.role == Some(Role::Replica) {
        return Err(ConnectError::Replica(node));
    }
    Ok(())
}

/// The command that asks a link whether it answers at all.
pub(super) async fn ping(link: &mut Link) -> redis::RedisResult<()> {
    let ping = redis::cmd("PING");
    match link {
        Link::Node(node) => node.req_packed_command(&ping).await?.extract_error().map(drop),
        Link::Cluster(cluster) => {
            use redis::cluster_routing::{RoutingInfo, SingleNodeRoutingInfo};
            // Any node will do: with one node of many away, most commands still succeed.
            let anywhere = RoutingInfo::SingleNode(SingleNodeRoutingInfo::Random);
            cluster.route_command(Cmd::clone(&ping), anywhere).await?.extract_error().map(drop)
        }
    }
}
