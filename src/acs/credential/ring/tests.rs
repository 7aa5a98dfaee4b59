//! The decisions over time, without a server.

use super::*;

fn key(name: u8) -> Credential {
    Credential { name: Fingerprint([name; 8]), kind: super::super::Kind::Key(vec![name].into()) }
}

fn name(name: u8) -> Fingerprint {
    Fingerprint([name; 8])
}

/// When a change was made, for what is shown.
const AT: Timestamp = Timestamp::from_millis(7);
const TEN: Duration = Duration::from_secs(10);

fn after(start: Instant, seconds: u64) -> Instant {
    start + Duration::from_secs(seconds)
}

/// What is due, in a letter and the key's number.
fn due(ring: &Ring, now: Instant) -> String {
    match ring.due(TEN, now) {
        None => String::new(),
        Some(Due::Check) => "check".into(),
        Some(Due::Recover(one)) => format!("recover {}", one.name.0[0]),
        Some(Due::Prefer(one)) => format!("prefer {}", one.name.0[0]),
    }
}

#[tokio::test]
async fn while_all_are_refused_one_probe_is_due_every_ten_seconds_and_they_take_turns() {
    let (ring, start) = (Ring::new(key(1), Some(key(2)), Timestamp::default()), Instant::now());
    ring.all_refused(Refusal::Acs(401), start);
    let seen: Vec<_> = (0..45).map(|second| due(&ring, after(start, second))).collect();
    let probes: Vec<_> = seen.iter().enumerate().filter(|(_, what)| !what.is_empty()).collect();
    let expected = ["recover 1", "recover 2", "recover 1", "recover 2"].map(String::from);
    assert_eq!(probes, [(10, &expected[0]), (20, &expected[1]), (30, &expected[2]), (40, &expected[3])]);
    assert_eq!(ring.in_use().err(), Some(Refusal::Acs(401)));
}

#[tokio::test]
async fn new_credentials_are_tried_at_once_when_none_was_accepted() {
    let (ring, start) = (Ring::new(key(1), None, Timestamp::default()), Instant::now());
    ring.all_refused(Refusal::Acs(401), start);
    assert_eq!(due(&ring, after(start, 1)), "");
    assert!(ring.replace(key(3), None, after(start, 1)));
    assert_eq!(due(&ring, after(start, 1)), "recover 3");
    assert_eq!(due(&ring, after(start, 2)), "");
    ring.switch(&Arc::new(key(3)), None, after(start, 2), AT);
    assert_eq!((ring.name(), ring.changes(), ring.standing().refused), (name(3), 1, None));
}

#[tokio::test]
async fn a_change_of_keys_sticks_until_the_operator_changes_their_order() {
    let (ring, start) = (Ring::new(key(1), Some(key(2)), Timestamp::default()), Instant::now());
    ring.switch(&Arc::new(key(2)), Some(name(1)), start, AT);
    for second in 0..100 {
        ring.accepted(name(2), after(start, second));
        assert_eq!(due(&ring, after(start, second)), "", "the dead key is let alone");
    }
    assert!(ring.standing().first_refused);
    ring.accepted(name(2), after(start, 105));
    // The new primary.
    assert!(ring.replace(key(3), Some(key(2)), after(start, 100)));
    assert!(!ring.standing().first_refused);
    assert_eq!(due(&ring, after(start, 100)), "prefer 3");
    assert_eq!(due(&ring, after(start, 109)), "", "if it gets no answer, it is tried again later");
    assert_eq!(due(&ring, after(start, 110)), "prefer 3");
    ring.switch(&Arc::new(key(3)), None, after(start, 110), AT);
    let standing =
        Standing { in_use: name(3), since: AT, spare: Some(name(2)), refused: None, first_refused: false };
    assert_eq!(ring.standing(), standing);
    assert_eq!(
        (ring.fate(name(2)), ring.fate(name(1)), ring.fate(name(9))),
        (Fate::Spare, Fate::Dead, Fate::Unknown)
    );
}

#[tokio::test]
async fn the_key_in_use_serves_on_when_its_line_is_gone() {
    let (ring, start) = (Ring::new(key(1), None, Timestamp::default()), Instant::now());
    assert!(ring.replace(key(2), None, start));
    assert_eq!(ring.in_use().unwrap().name, name(1));
    assert_eq!(due(&ring, start), "prefer 2");
    // Putting it back calls it off.
    assert!(ring.replace(key(1), None, start));
    assert_eq!(due(&ring, after(start, 5)), "check");
}

#[tokio::test]
async fn one_examination_answers_for_every_request_that_was_signed_before() {
    let (ring, start) = (Ring::new(key(1), Some(key(2)), Timestamp::default()), Instant::now());
    let known = |signed, blame, now| ring.known(name(1), after(start, signed), blame, after(start, now));
    assert_eq!(known(0, Blame::Surely, 1), None);
    ring.confirmed(name(1), after(start, 5));
    assert_eq!(known(4, Blame::Surely, 6), Some(Next::Retry));
    assert_eq!(known(6, Blame::Surely, 7), None, "signed later: it may have died since");
    assert_eq!(known(6, Blame::Perhaps, 14), Some(Next::Stand));
    assert_eq!(known(6, Blame::Perhaps, 15), None);
    ring.switch(&Arc::new(key(2)), Some(name(1)), after(start, 20), AT);
    assert_eq!(known(19, Blame::Surely, 21), Some(Next::Retry));
    assert_eq!(known(19, Blame::Perhaps, 21), Some(Next::Retry));
    ring.all_refused(Refusal::Acs(401), after(start, 22));
    assert_eq!(known(19, Blame::Surely, 23), Some(Next::Stand));
}

#[tokio::test]
async fn an_accepted_call_puts_the_check_off() {
    let (ring, start) = (Ring::new(key(1), None, Timestamp::default()), Instant::now());
    assert_eq!(due(&ring, start), "check");
    assert_eq!(due(&ring, after(start, 9)), "");
    ring.accepted(name(1), after(start, 9));
    assert_eq!(due(&ring, after(start, 18)), "");
    assert_eq!(due(&ring, after(start, 19)), "check");
    ring.accepted(name(9), after(start, 20));
    assert_eq!(due(&ring, after(start, 29)), "check", "another's success proves nothing");
}

#[tokio::test]
async fn only_so_many_dead_ones_are_remembered() {
    let ring = Ring::new(key(0), None, Timestamp::default());
    for number in 1..=40 {
        ring.switch(&Arc::new(key(number)), Some(name(number - 1)), Instant::now(), AT);
    }
    assert_eq!(ring.lock().dead.len(), DEAD);
}
