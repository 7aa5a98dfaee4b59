//! The shelf against a model that is too simple to be wrong: a list of what was put.

use std::time::Duration;

use proptest::prelude::*;

use super::*;

fn at(millis: u64) -> Timestamp {
    Timestamp::from_millis(1_000_000 + millis)
}

fn shelf(count: usize, age: u64, bytes: usize) -> Shelf<u32> {
    Shelf::new(Bounds { count, age: Duration::from_millis(age), bytes })
}

const ONE: usize = OVERHEAD + size_of::<u32>() + 1;

#[derive(Debug, Clone)]
enum Step {
    Put { id: u8, bytes: usize },
    Remove { id: u8 },
    Pass { millis: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0u8..8, 0usize..2000).prop_map(|(id, bytes)| Step::Put { id, bytes }),
        1 => (0u8..8).prop_map(|id| Step::Remove { id }),
        2 => (0u64..50).prop_map(|millis| Step::Pass { millis }),
    ]
}

proptest! {
    #[test]
    fn a_shelf_keeps_the_newest_within_its_bounds(
        steps in prop::collection::vec(step(), 0..120),
        count in 1usize..6,
        age in 1u64..120,
        bytes in 0usize..6000,
    ) {
        let mut shelf = shelf(count, age, bytes);
        let mut model: Vec<(String, u64, usize, u32)> = Vec::new();
        let mut now = 0;
        for (value, step) in (0u32..).zip(steps) {
            match step {
                Step::Put { id, bytes } => {
                    let id = id.to_string();
                    model.retain(|kept| kept.0 != id);
                    shelf.put(&id, at(now), bytes, value);
                    model.push((id, now, ONE + bytes, value));
                }
                Step::Remove { id } => {
                    let id = id.to_string();
                    let expected = model.iter().find(|kept| kept.0 == id).map(|kept| kept.3);
                    prop_assert_eq!(shelf.remove(&id), expected);
                    model.retain(|kept| kept.0 != id);
                }
                Step::Pass { millis } => {
                    now += millis;
                    shelf.expire(at(now));
                }
            }
            model.retain(|kept| now - kept.1 < age);
            while model.len() > 1
                && (model.len() > count || model.iter().map(|kept| kept.2).sum::<usize>() > bytes)
            {
                model.remove(0);
            }
            let kept: Vec<(String, u32)> =
                shelf.newest_first().map(|(id, value)| (id.to_owned(), *value)).collect();
            let expected: Vec<(String, u32)> =
                model.iter().rev().map(|kept| (kept.0.clone(), kept.3)).collect();
            prop_assert_eq!(kept, expected);
            prop_assert_eq!(shelf.len(), model.len());
            prop_assert_eq!(shelf.numbers.len(), model.len());
            prop_assert_eq!(shelf.bytes, model.iter().map(|kept| kept.2).sum::<usize>());
            for id in 0u8..8 {
                let id = id.to_string();
                let expected = model.iter().find(|kept| kept.0 == id).map(|kept| kept.3);
                prop_assert_eq!(shelf.get(&id).copied(), expected);
                prop_assert_eq!(shelf.get_mut(&id).copied(), expected);
            }
        }
    }
}

#[test]
fn one_that_is_larger_than_the_shelf_stays_until_the_next() {
    let mut shelf = shelf(10, 1000, 500);
    shelf.put("a", at(0), 10_000, 1);
    assert_eq!(shelf.get("a"), Some(&1));
    shelf.put("b", at(1), 0, 2);
    assert_eq!((shelf.get("a"), shelf.get("b")), (None, Some(&2)));
}

#[test]
fn the_oldest_tells_when_it_goes() {
    let mut shelf = shelf(10, 1000, 100_000);
    assert_eq!(shelf.goes_at(), None);
    shelf.put("a", at(0), 0, 1);
    shelf.put("b", at(300), 0, 2);
    assert_eq!(shelf.goes_at(), Some(at(1000)));
    shelf.expire(at(999));
    assert_eq!(shelf.len(), 2);
    shelf.expire(at(1000));
    assert_eq!((shelf.get("a"), shelf.get("b")), (None, Some(&2)));
    shelf.clear();
    assert_eq!((shelf.len(), shelf.bytes, shelf.goes_at()), (0, 0, None));
}
