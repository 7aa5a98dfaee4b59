//! Sends a command over a link: the script's hash first, its source if the server does not know it, and in a Cluster
//! where the slot really is.
//!
//! Only answers that prove that nothing was done (NOSCRIPT, MOVED, ASK, TRYAGAIN) make it send again, so a write is
//! never done twice. It has no deadline: its caller does. Used by `connection`.

use std::time::Duration;

use redis::aio::ConnectionLike;
use redis::cluster_async::ClusterConnection;
use redis::cluster_routing::{MultipleNodeRoutingInfo, Route, RoutingInfo, SingleNodeRoutingInfo, SlotAddr};
use redis::{Cmd, RedisError, RedisResult, Value};
use tokio::time::sleep;

use super::command::{Command, Target};
use super::connect::Link;

/// How often a command is redirected before it gives up: a stable Cluster needs one.
const REDIRECTIONS: usize = 8;

/// The pause before a command is tried again on a Cluster that is moving its slot.
const PAUSE: Duration = Duration::from_millis(5);

impl Link {
    /// Sends the command and returns its reply.
    pub(super) async fn send(&mut self, command: &Command) -> RedisResult<Value> {
        match (self.send_once(&command.cmd, &command.target).await, &command.with_source) {
            (Err(error), Some(with_source)) if error.code() == Some("NOSCRIPT") => {
                self.send_once(with_source, &command.target).await
            }
            (result, _) => result,
        }
    }

    async fn send_once(&mut self, cmd: &Cmd, target: &Target) -> RedisResult<Value> {
        match self {
            Self::Node(node) => node.req_packed_command(cmd).await?.extract_error(),
            Self::Cluster(cluster) => match target {
                Target::Key(key) => to_slot(cluster, cmd, key).await,
                Target::Primaries => {
                    let everywhere = RoutingInfo::MultiNode((MultipleNodeRoutingInfo::AllMasters, None));
                    cluster.route_command(cmd.clone(), everywhere).await?.extract_error()
                }
            },
        }
    }
}

/// Sends to the primary of the key's slot, wherever the Cluster says it is.
async fn to_slot(cluster: &mut ClusterConnection, cmd: &Cmd, key: &str) -> RedisResult<Value> {
    let slot = SingleNodeRoutingInfo::SpecificNode(Route::with_key(key, SlotAddr::Master));
    let mut result = single(cluster, cmd, slot.clone()).await;
    for _ in 0..REDIRECTIONS {
        let Err(error) = &result else { break };
        match error.code() {
            // The driver has begun to fetch the new map of slots; a node it knows already can be asked directly.
            Some("MOVED") => match redirected(error) {
                Some(node) => result = single(cluster, cmd, node).await,
                None => break,
            },
            Some("ASK") => match redirected(error) {
                Some(node) => result = asking(cluster, cmd, node).await,
                None => break,
            },
            Some("TRYAGAIN") => {
                sleep(PAUSE).await;
                result = single(cluster, cmd, slot.clone()).await;
            }
            // The driver knows no connection to the node it was redirected to yet.
            None if error.kind() == redis::ErrorKind::ClusterConnectionNotFound => {
                sleep(PAUSE).await;
                result = single(cluster, cmd, slot.clone()).await;
            }
            _ => break,
        }
    }
    result
}

async fn single(cluster: &mut ClusterConnection, cmd: &Cmd, to: SingleNodeRoutingInfo) -> RedisResult<Value> {
    cluster.route_command(cmd.clone(), RoutingInfo::SingleNode(to)).await?.extract_error()
}

async fn asking(cluster: &mut ClusterConnection, cmd: &Cmd, to: SingleNodeRoutingInfo) -> RedisResult<Value> {
    let mut both = redis::pipe();
    both.cmd("ASKING").add_command(cmd.clone());
    let replies = cluster.route_pipeline(both, 1, 1, to).await?;
    replies.into_iter().next().unwrap_or_default().extract_error()
}

/// The node an error redirects to.
fn redirected(error: &RedisError) -> Option<SingleNodeRoutingInfo> {
    let (address, _slot) = error.redirect_node()?;
    let (host, port) = address.rsplit_once(':')?;
    Some(SingleNodeRoutingInfo::ByAddress { host: host.to_owned(), port: port.parse().ok()? })
}
