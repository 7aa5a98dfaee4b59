//! Where the emulator takes chance from: the system, or a seed, so that a run can be repeated.
//!
//! Ids come from one stream and faults from others (see `faults`), so that neither disturbs the other. With a seed the
//! ids are guessable, which only an emulator may be. Access keys are never drawn here. Used by every service.

use std::sync::{Mutex, PoisonError};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// A stream of chance.
pub(super) struct Random(Mutex<StdRng>);

impl Random {
    /// The stream of a seed, or one that nobody can foresee.
    pub(super) fn new(seed: Option<u64>) -> Self {
        let rng = match seed {
            Some(seed) => StdRng::seed_from_u64(seed),
            None => StdRng::from_seed(rand::random()),
        };
        Self(Mutex::new(rng))
    }

    /// Random bytes.
    pub(super) fn bytes<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        self.0.lock().unwrap_or_else(PoisonError::into_inner).fill_bytes(&mut bytes);
        bytes
    }

    /// A version 4 UUID.
    pub(super) fn uuid(&self) -> uuid::Uuid {
        uuid::Builder::from_random_bytes(self.bytes()).into_uuid()
    }
}
