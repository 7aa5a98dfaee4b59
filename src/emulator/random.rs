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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_chance_again_and_another_seed_another() {
        let drawn = |seed| {
            let random = Random::new(Some(seed));
            (random.bytes::<16>(), random.uuid(), random.bytes::<4>())
        };
        assert_eq!(drawn(1), drawn(1));
        assert_ne!(drawn(1), drawn(2));
    }

    #[test]
    fn without_a_seed_no_two_streams_are_the_same() {
        assert_ne!(Random::new(None).bytes::<16>(), Random::new(None).bytes::<16>());
    }

    #[test]
    fn uuids_are_of_version_4_and_differ() {
        let random = Random::new(Some(7));
        let (one, other) = (random.uuid(), random.uuid());
        assert_eq!((one.get_version_num(), one.get_variant()), (4, uuid::Variant::RFC4122));
        assert_ne!(one, other);
    }
}
