//! Messaging: SMS, mail and chat for callers that name their own users and numbers, each effect once.
//!
//! It decides and does no I/O: the channels of ACS and the store are ports (`ports`), time comes from `clock`. It never
//! sees gRPC. A message is kept before it is sent, under an id made of caller and request id, with upstream ids made
//! of that one: whoever goes on with it, after a crash or on another replica, sends the same again, which ACS takes for
//! the same. What ACS did not answer is UNKNOWN, and is found out, never sent blindly.

pub mod ports;
pub mod types;

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use tokio_util::task::TaskTracker;

use self::ports::{EmailSender, MessageStores, SmsSender};
use crate::clock::Clock;
use crate::metrics::Metrics;

/// `[messages]`: what holds for all channels. Ranges are checked by [`Settings::problems`].
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// How long a request and its outcome are remembered.
    #[serde(with = "crate::duration")]
    pub retention: Duration,
    /// How long one replica may work on a request before another may take it over.
    #[serde(with = "crate::duration")]
    pub hold: Duration,
    /// How long an outcome that is not known is looked for.
    #[serde(with = "crate::duration")]
    pub find_out_within: Duration,
    /// The published limits of ACS times this; more if Microsoft raised yours, 0 for none.
    pub limits: f64,
    /// SMS.
    pub sms: SmsSettings,
    /// E-mail.
    pub email: EmailSettings,
}

/// `[messages.sms]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SmsSettings {
    /// The senders callers may use, separated by commas; the first is the default. Empty: no SMS.
    pub senders: String,
    /// The recipients that are allowed, separated by commas: whole numbers or beginnings such as `+1425*`. Empty: all.
    pub allow: String,
    /// Where every SMS goes instead of to its recipients. Empty: to them.
    pub redirect: String,
}

/// `[messages.email]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EmailSettings {
    /// The sender addresses callers may use, separated by commas; the first is the default. Empty: no mail.
    pub senders: String,
    /// The recipients that are allowed, separated by commas: whole addresses or `*@domain`. Empty: all.
    pub allow: String,
    /// Where every mail goes instead of to its recipients. Empty: to them.
    pub redirect: String,
}

impl Default for Settings {
    /// The values of `config/default.toml`.
    fn default() -> Self {
        let open = || (String::new(), String::new());
        let ((allow, redirect), (allow_mail, redirect_mail)) = (open(), open());
        Self {
            retention: Duration::from_hours(7 * 24),
            hold: Duration::from_secs(75),
            find_out_within: Duration::from_mins(5),
            limits: 1.0,
            sms: SmsSettings { senders: String::new(), allow, redirect },
            email: EmailSettings { senders: String::new(), allow: allow_mail, redirect: redirect_mail },
        }
    }
}

/// What messaging is made of. Cheap to clone; clones share everything.
#[derive(Clone)]
pub struct Messaging(Arc<Parts>);

struct Parts {
    settings: Settings,
    stores: MessageStores,
    sms: Arc<dyn SmsSender>,
    email: Arc<dyn EmailSender>,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
    /// Work that outlives the caller who started it.
    tasks: TaskTracker,
}
