//! A request with a request id has its effect once, however often and through whichever replica it is retried.
//!
//! The ledger remembers who asked what under which id. A failure gives the id back, so that a retry can succeed; a
//! process that dies in the middle loses its claim after a while.

use std::time::Duration;

use sha2::{Digest, Sha256};

use super::Core;
use super::error::Error;
use super::ports::{Begun, LedgerKey};
use super::types::{Caller, UserId};

/// How long an unfinished request keeps others out: longer than the longest upstream call, which a setting limits to a
/// minute. Only the death of a process makes anybody wait that long.
const HOLD: Duration = Duration::from_secs(75);
/// When to ask again for a request that is running: most are done by then.
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// How long a finished request is remembered, as the API promises.
const KEEP: Duration = Duration::from_secs(24 * 3600);

/// A request that names itself.
pub(super) struct Request {
    key: LedgerKey,
    digest: [u8; 32],
}

impl Request {
    pub(super) fn new(caller: &Caller, operation: &'static str, request_id: String, user: &UserId) -> Self {
        let key = LedgerKey { caller: caller.name().to_owned(), operation, request_id };
        let digest = Sha256::new().chain_update(operation).chain_update([0]).chain_update(user.as_str());
        Self { key, digest: digest.finalize().into() }
    }
}

impl Core {
    /// Runs the work unless the request was done before; without a request, always.
    pub(super) async fn once(
        &self,
        request: Option<Request>,
        work: impl Future<Output = Result<(), Error>>,
    ) -> Result<(), Error> {
        let Some(Request { key, digest }) = request else { return work.await };
        let ledger = &self.stores.ledger;
        match ledger.begin(&key, &digest, HOLD).await? {
            Begun::Started => {}
            Begun::InProgress(at_most) => {
                return Err(Error::RequestInProgress { retry_after: at_most.min(ASK_AGAIN) });
            }
            Begun::Finished(_) => return Ok(()),
            Begun::Reused => return Err(Error::RequestIdReused),
        }
        match work.await {
            Ok(()) => Ok(ledger.finish(&key, &digest, &[], KEEP).await?),
            Err(error) => {
                if let Err(unable) = ledger.abandon(&key, &digest).await {
                    tracing::debug!(
                        error = &unable as &dyn std::error::Error,
                        "a request id is held until it lapses"
                    );
                }
                Err(error)
            }
        }
    }
}
