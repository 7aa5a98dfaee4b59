//! Weighs requests as they come in, so that all that are being worked on together fit into memory.
//!
//! A mail is hundreds of times larger than any other request, and thousands of half-sent messages of any kind are as
//! heavy. Refusing one too many at once is better than a process that is killed with everybody's calls on it. The first
//! bytes of each are free, as seats bound them, and so a small request costs no more than a comparison. Knows bytes
//! alone. Used by `arriving`; `server` says what is held until it is answered for.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What all requests together may weigh. On its way a mail is there up to four times: as bytes, as a message, as JSON in
/// base64, and in the client's buffer.
const MOST_KIB: usize = 32 * 1024;

/// What of each is not weighed.
const FREE: usize = 4 * KIB;

/// Bytes of a unit of weight.
const KIB: usize = 1024;

/// The requests of one server.
pub(super) struct Scales(Arc<Semaphore>);

impl Default for Scales {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(MOST_KIB)))
    }
}

/// What a request weighs that is worked on after it was read; its last drop gives everything back.
#[derive(Clone, Default)]
pub(super) struct Weight(Arc<Mutex<Option<OwnedSemaphorePermit>>>);

/// What a request weighs so far.
pub(super) struct Load {
    held: Held,
    /// Bytes that are paid for, or free, and not there yet.
    spare: usize,
}

enum Held {
    /// For as long as it is read.
    Here(Option<OwnedSemaphorePermit>),
    /// For as long as somebody has this.
    Longer(Weight),
}

impl Default for Load {
    fn default() -> Self {
        Self { held: Held::Here(None), spare: FREE }
    }
}

impl Load {
    /// One that is held as long as the weight.
    pub(super) fn held_by(weight: Weight) -> Self {
        Self { held: Held::Longer(weight), ..Self::default() }
    }

    /// Makes room for this many bytes more; says whether there is any.
    pub(super) fn takes(&mut self, scales: &Scales, bytes: usize) -> bool {
        let missing = bytes.saturating_sub(self.spare).div_ceil(KIB);
        if missing > 0 {
            let units = u32::try_from(missing).unwrap_or(u32::MAX);
            let Ok(more) = Arc::clone(&scales.0).try_acquire_many_owned(units) else { return false };
            match &mut self.held {
                Held::Here(held) => merge(held, more),
                Held::Longer(Weight(held)) => {
                    merge(&mut held.lock().unwrap_or_else(PoisonError::into_inner), more);
                }
            }
        }
        self.spare = (self.spare + missing * KIB).saturating_sub(bytes);
        true
    }
}

fn merge(held: &mut Option<OwnedSemaphorePermit>, more: OwnedSemaphorePermit) {
    match held {
        Some(held) => held.merge(more),
        None => *held = Some(more),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scales(kib: usize) -> Scales {
        Scales(Arc::new(Semaphore::new(kib)))
    }

    #[test]
    fn what_is_there_together_is_bounded_and_given_back() {
        let scales = scales(10);
        let weight = Weight::default();
        let mut first = Load::held_by(weight.clone());
        assert!(first.takes(&scales, FREE + 6 * KIB + 1));
        // Read, and still worked on.
        drop(first);
        assert_eq!(scales.0.available_permits(), 3);
        let mut second = Load::default();
        assert!(!second.takes(&scales, FREE + 3 * KIB + 1));
        drop(weight);
        assert!(second.takes(&scales, FREE + 3 * KIB + 1));
        assert_eq!(scales.0.available_permits(), 6);
        drop(second);
        assert_eq!(scales.0.available_permits(), 10);
    }

    #[test]
    fn many_small_pieces_weigh_no_more_than_their_sum_and_the_first_weigh_nothing() {
        let (scales, mut load) = (scales(2), Load::default());
        assert!((0..FREE).all(|_| load.takes(&scales, 1)));
        assert_eq!(scales.0.available_permits(), 2);
        assert!((0..2 * KIB).all(|_| load.takes(&scales, 1)));
        assert!(!load.takes(&scales, 1));
    }
}
