//! Everything that the connections of one emulator share.
//!
//! Each part has its own lock or needs none. No lock is kept across an await, and no two are held at once. Made by
//! `start`; used by every service, by `control` and by the handle.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;

use super::calls::Calls;
use super::clock::VirtualClock;
use super::faults::Faults;
use super::feed::Feed;
use super::operation::Operation;
use super::random::Random;
use super::scheduler::Scheduler;
use super::settings::Settings;
use super::throttle::Throttle;
use super::{chat, control, email, events, identity, issuer, sms};

/// Bodies of the largest kind that are held at the same time; the others wait.
const LARGE_BODIES: usize = 16;

/// Everything that the connections of one emulator share.
pub(super) struct Shared {
    pub(super) settings: Settings,
    /// Where HTTP is served.
    pub(super) http: SocketAddr,
    /// Where HTTPS is served.
    pub(super) tls: SocketAddr,
    pub(super) clock: VirtualClock,
    pub(super) random: Random,
    pub(super) feed: Feed,
    pub(super) scheduler: Scheduler,
    pub(super) faults: Faults,
    pub(super) throttle: Throttle,
    pub(super) calls: Calls,
    pub(super) signer: identity::Signer,
    pub(super) identities: Mutex<identity::State>,
    pub(super) issuer: issuer::Issuer,
    pub(super) sms: sms::Sms,
    pub(super) email: email::Email,
    pub(super) chat: chat::Chat,
    pub(super) events: events::Events,
    pub(super) watchers: control::Watchers,
    pub(super) large_bodies: Semaphore,
}

impl Shared {
    /// The keys, identities and tokens. Never keep it across an await, nor take it twice.
    pub(super) fn state(&self) -> MutexGuard<'_, identity::State> {
        self.identities.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connection string over HTTP or HTTPS with either key.
    pub(super) fn connection_string(&self, https: bool, key: identity::AccessKey) -> String {
        let (scheme, address) = if https { ("https", self.tls) } else { ("http", self.http) };
        let key = self.state().key_text(key);
        format!("endpoint={scheme}://{}/;accesskey={}", reachable(address), key.expose())
    }

    /// The address of the inbox page, for a browser on this machine.
    pub(super) fn inbox(&self) -> String {
        format!("http://{}/_emulator/", reachable(self.http))
    }

    /// Moves the emulator's clock ahead; what falls due happens at once.
    pub(super) fn advance(&self, by: Duration) {
        self.clock.advance(by);
        self.scheduler.wake();
        self.feed.changed();
    }

    /// Forgets everything but keys, addresses and time.
    pub(super) fn reset(&self) {
        self.scheduler.clear();
        self.state().reset();
        self.issuer.reset();
        self.sms.reset();
        self.email.reset();
        self.chat.reset();
        self.events.reset();
        self.faults.clear(Operation::Any);
        self.throttle.reset();
        self.calls.reset();
        self.feed.changed();
    }
}

pub(super) fn large_bodies() -> Semaphore {
    Semaphore::new(LARGE_BODIES)
}

/// An address that clients on this machine can use: "any address" becomes loopback.
pub(super) fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}
