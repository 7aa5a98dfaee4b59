//! A short list that needs no allocation while it stays short, and has a bound all the same.
//!
//! A cached token names two subjects and a scope or two; a batch of mail names hundreds of recipients. What is beyond
//! the bound is counted, not kept. Used by `trail`.

/// At most `MOST` values, the first `N` of them in place.
#[derive(Debug, Clone)]
pub(super) struct Few<T, const N: usize, const MOST: usize> {
    here: [Option<T>; N],
    more: Vec<T>,
    /// Values that found no room.
    left_out: u32,
}

impl<T: Copy, const N: usize, const MOST: usize> Default for Few<T, N, MOST> {
    fn default() -> Self {
        Self { here: [None; N], more: Vec::new(), left_out: 0 }
    }
}

impl<T: Copy + PartialEq, const N: usize, const MOST: usize> Few<T, N, MOST> {
    /// Adds a value, unless it is there already.
    pub(super) fn add(&mut self, value: T) {
        if self.iter().any(|known| known == value) {
            return;
        }
        if let Some(free) = self.here.iter_mut().find(|place| place.is_none()) {
            *free = Some(value);
        } else if self.more.len() + N < MOST {
            self.more.push(value);
        } else {
            self.left_out = self.left_out.saturating_add(1);
        }
    }

    /// The values, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = T> {
        self.here.iter().flatten().copied().chain(self.more.iter().copied())
    }

    /// How many found no room.
    pub(super) fn left_out(&self) -> u32 {
        self.left_out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_stay_in_order_without_repetition_up_to_the_bound() {
        let mut few = Few::<u32, 2, 4>::default();
        for value in [3, 1, 3, 2, 1, 9, 8, 7] {
            few.add(value);
        }
        assert_eq!(few.iter().collect::<Vec<_>>(), [3, 1, 2, 9]);
        assert_eq!(few.left_out(), 2);
    }
}
