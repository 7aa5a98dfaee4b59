//! Makes a connection to the right node and looks at what it reached before anybody uses it.
//!
//! Three topologies end in one [`Link`]. Several seeds or Sentinels are asked at the same time, so that one that hangs
//! delays nobody. Every step is bounded. Used by `connection`.

use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt};
use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;
use redis::cluster_routing::{MultipleNodeRoutingInfo, ResponsePolicy, RoutingInfo};
use redis::{AsyncConnectionConfig, ConnectionAddr, ConnectionInfo, PushInfo, PushKind, TlsCertificates};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::address::{self, Addresses, shown};
use super::connect_error::ConnectError;
use super::facts::{Facts, Role};
use super::settings::{Settings, Topology};

/// The longest wait for one node to accept a connection and greet. Nobody's command waits that long: connecting goes
/// on in the background.
const CONNECT_WITHIN: Duration = Duration::from_secs(1);

/// The oldest Redis that has every command used here: `ZRANGE … BYLEX` came with 6.2.
const OLDEST: (u32, u32) = (6, 2);

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
    /// Cancelled when the connection is gone; not by the driver of a Cluster, which repairs its connections itself.
    pub(super) lost: CancellationToken,
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

    async fn open(
        &self,
        info: ConnectionInfo,
    ) -> Result<(MultiplexedConnection, CancellationToken), ConnectError> {
        let node = shown(&info);
        let lost = CancellationToken::new();
        let teller = lost.clone();
        let config = AsyncConnectionConfig::new()
            // Both are bounded by deadlines of our own.
            .set_connection_timeout(None)
            .set_response_timeout(None)
            // As many as there can be commands, so that none waits for a place in the driver's queue.
            .set_pipeline_buffer_size(self.max_concurrency)
            .set_push_sender(move |push: PushInfo| {
                if push.kind == PushKind::Disconnection {
                    teller.cancel();
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
        first_of(self.addresses.nodes.iter().map(|sentinel| async {
            match self.ask_sentinel(sentinel.clone()).await? {
                Some((host, port)) => match self.data_node(self.named_by_sentinel(host, port)).await {
                    Err(ConnectError::Replica(node)) => {
                        Err(ConnectError::Unreachable(node, "a failover is under way".into()))
                    }
                    result => result,
                },
                None => Err(ConnectError::UnknownMaster(self.master.clone())),
            }
        }))
        .await
    }

    async fn ask_sentinel(&self, sentinel: ConnectionInfo) -> Result<Option<(String, u16)>, ConnectError> {
        let node = shown(&sentinel);
        let (mut connection, _lost) = self.open(sentinel).await?;
        let mut command = redis::cmd("SENTINEL");
        command.arg("GET-MASTER-ADDR-BY-NAME").arg(&self.master);
        match timeout(CONNECT_WITHIN, command.query_async(&mut connection)).await {
            Ok(Ok(address)) => Ok(address),
            // A data node answers that it does not know the command.
            Ok(Err(error)) if error.code() == Some("ERR") => Err(ConnectError::NotSentinel(node)),
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
        let seeds = self.addresses.nodes.iter().map(|seed| self.seed(seed.clone()));
        let (node, facts) = first_of(seeds).await?;
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
                Ok(Connected { link: Link::Cluster(cluster), lost: CancellationToken::new(), facts, node })
            }
            Ok(Err(error)) => Err(ConnectError::from_driver(&node, &error)),
            Err(_) => Err(ConnectError::Silent(node)),
        }
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

/// The first good result of attempts that run at the same time. Without one, an error that may pass by itself if there
/// is one, for then it is worth trying again.
async fn first_of<T>(
    attempts: impl Iterator<Item = impl Future<Output = Result<T, ConnectError>>>,
) -> Result<T, ConnectError> {
    let mut attempts: FuturesUnordered<_> = attempts.collect();
    let mut failed = ConnectError::Setting("url", "must be set".into());
    while let Some(result) = attempts.next().await {
        match result {
            Ok(result) => return Ok(result),
            Err(error) if failed.needs_mending() => failed = error,
            Err(_) => {}
        }
    }
    Err(failed)
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
            // Any node will do: with one node of many away, most commands still succeed.
            let anyone = Some(ResponsePolicy::OneSucceeded);
            let primaries = RoutingInfo::MultiNode((MultipleNodeRoutingInfo::AllMasters, anyone));
            cluster.route_command(ping, primaries).await?.extract_error().map(drop)
        }
    }
}
