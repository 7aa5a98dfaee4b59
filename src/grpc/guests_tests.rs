//! Who may stay, who has to make room, and who has to leave.

use super::*;

const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

fn guests(stay: Stay) -> Arc<Guests> {
    Guests::new(stay, Metrics::new(), CancellationToken::new())
}

const FOR_EVER: Stay = Stay { most_per_peer: usize::MAX, age: None, idle: None };

fn counted(guests: &Guests, reason: &str) -> bool {
    guests.metrics.render().contains(&format!("connections_ended_total{{reason=\"{reason}\"}}"))
}

#[tokio::test]
async fn an_address_has_so_many_places_and_another_its_own() {
    let guests = guests(Stay { most_per_peer: 2, ..FOR_EVER });
    let network = |last: u16| IpAddr::from([0x2001, 0xdb8, 1, 1, last, 0, 0, last]);
    for (one, other) in [
        (HERE, IpAddr::from([127, 0, 0, 2])),
        ("::ffff:10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap()),
        (network(1), "2001:db8:1:2::1".parse().unwrap()),
    ] {
        let (first, second) = (guests.admit(one).unwrap(), guests.admit(one).unwrap());
        assert!(guests.admit(one).is_none() && guests.admit(other).is_some());
        drop(first);
        assert!(guests.admit(one).is_some());
        drop(second);
    }
    let full = (guests.admit(network(7)), guests.admit(network(8)));
    assert!(guests.admit(network(9)).is_none(), "a host has a network of addresses");
    drop(full);
    assert!(lock(&guests.list).peers.is_empty() && lock(&guests.list).open.is_empty());
    assert!(counted(&guests, "peer_limit"));
}

#[tokio::test(start_paused = true)]
async fn of_too_many_strangers_the_oldest_goes_when_it_has_had_its_time() {
    let guests = guests(FOR_EVER);
    let (known, certified) = (guests.admit(HERE).unwrap(), guests.admit(HERE).unwrap());
    known.begun(None);
    known.guest.becomes_known();
    certified.begun(Some(Arc::from([vec![1].into()])));
    let mut strangers = Vec::new();
    let start = Instant::now();
    for _ in 0..MAX_STRANGERS {
        guests.room().await;
        strangers.push(guests.admit(HERE).unwrap());
        // Whoever has begun and said nothing is a stranger like all.
        strangers[0].begun(None);
    }
    assert_eq!(start.elapsed(), Duration::ZERO, "there is room");
    let left = |places: &[Place]| places.iter().filter(|place| place.guest.leave.is_cancelled()).count();
    for _ in 0..3 {
        guests.room().await;
        strangers.push(guests.admit(HERE).unwrap());
    }
    assert!((GRACE..GRACE * 2).contains(&start.elapsed()), "{:?}", start.elapsed());
    assert_eq!((left(&strangers), left(&strangers[..3])), (3, 3));
    assert!(!known.guest.leave.is_cancelled() && !certified.guest.leave.is_cancelled());
    // The others came at the same time and go as soon as somebody wants their place.
    guests.room().await;
    assert_eq!(left(&strangers), 4);
    drop(strangers);
    assert!(lock(&guests.list).strangers.is_empty());
    assert!(counted(&guests, "crowded_out"));
}

#[tokio::test(start_paused = true)]
async fn a_crowd_of_honest_ones_waits_its_turn() {
    let guests = guests(FOR_EVER);
    let strangers: Vec<_> = (0..MAX_STRANGERS).map(|_| guests.admit(HERE).unwrap()).collect();
    let waiting = tokio::spawn({
        let guests = guests.clone();
        async move { guests.room().await }
    });
    tokio::time::sleep(GRACE / 2).await;
    assert!(!waiting.is_finished());
    strangers[100].guest.becomes_known();
    tokio::time::timeout(GRACE / 10, waiting).await.expect("somebody is known").unwrap();
    assert!(!counted(&guests, "crowded_out"));
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_silent_ones_keeps_nobody_waiting() {
    let guests = guests(FOR_EVER);
    let mut strangers = Vec::new();
    let start = Instant::now();
    for _ in 0..2000 {
        guests.room().await;
        strangers.push(guests.admit(HERE).unwrap());
    }
    // Once its whole time, then sixteen rooms full of the least.
    assert!(start.elapsed() < GRACE + LEAST_GRACE * 17, "{:?}", start.elapsed());
    let newest = Arc::clone(strangers.last().unwrap().guest());
    for stays in (0..MAX_STRANGERS).rev() {
        guests.room().await;
        strangers.push(guests.admit(HERE).unwrap());
        assert_ne!(newest.leave.is_cancelled(), stays > 0, "as long as there are older ones it stays");
    }
    assert_eq!(guests.farewell(), LEAST_GRACE.mul_f64(FAREWELL));
}

#[tokio::test(start_paused = true)]
async fn the_time_of_strangers_grows_again_with_those_who_use_it_and_when_the_flood_is_over() {
    let guests = guests(FOR_EVER);
    let grace = || lock(&guests.list).grace.0;
    let flood = async || {
        let mut strangers = Vec::new();
        for _ in 0..MAX_STRANGERS * 2 {
            guests.room().await;
            strangers.push(guests.admit(HERE).unwrap());
        }
        assert_eq!(grace(), LEAST_GRACE);
        strangers
    };
    let strangers = flood().await;
    for known in &strangers[MAX_STRANGERS..][..20] {
        known.guest.becomes_known();
        known.guest.becomes_known();
    }
    assert!((GRACE * 9 / 10..=GRACE).contains(&grace()), "{:?}", grace());
    drop(strangers);
    drop(flood().await);
    for _ in 0..20 {
        guests.room().await;
    }
    assert!((GRACE * 9 / 10..=GRACE).contains(&grace()), "{:?}", grace());
}

#[tokio::test(start_paused = true)]
async fn nobody_has_to_go_because_the_broker_is_late() {
    let guests = guests(FOR_EVER);
    let strangers: Vec<_> = (0..MAX_STRANGERS).map(|_| guests.admit(HERE).unwrap()).collect();
    guests.turn_took(Duration::from_millis(100));
    guests.turn_took(Duration::ZERO);
    let waiting = tokio::time::timeout(GRACE * 2, guests.room()).await;
    assert!(waiting.is_err() && !counted(&guests, "crowded_out"));
    for _ in 0..200 {
        guests.turn_took(Duration::ZERO);
    }
    tokio::time::timeout(GRACE / 10, guests.room()).await.expect("it is in time again");
    assert!(strangers[0].guest.leave.is_cancelled());
    guests.turn_took(Duration::from_secs(100));
    assert!(guests.lenient(GRACE) < Duration::from_secs(5));
}

#[tokio::test(start_paused = true)]
async fn who_had_to_make_room_is_waited_for_a_moment_unless_a_call_came_in_time() {
    let guests = guests(FOR_EVER);
    let crowd = |_| {
        let place = guests.admit(HERE).unwrap();
        place.guest.crowded_out.store(true, Ordering::Relaxed);
        place
    };
    let [silent, late] = [0, 1].map(crowd);
    let start = Instant::now();
    silent.guest.overstays(Duration::ZERO).await;
    assert_eq!(start.elapsed(), GRACE.mul_f64(FAREWELL));
    let call = late.guest.call();
    let waiting = tokio::spawn({
        let guest = Arc::clone(&late.guest);
        async move { guest.overstays(Duration::ZERO).await }
    });
    tokio::time::sleep(GRACE.mul_f64(FAREWELL / 2.0)).await;
    late.guest.becomes_known();
    tokio::time::sleep(LINGERING * 3).await;
    assert!(!waiting.is_finished(), "its call runs");
    drop(call);
    tokio::time::timeout(LINGERING * 2, waiting).await.expect("it does not linger").unwrap();
}

#[tokio::test(start_paused = true)]
async fn who_does_not_answer_the_farewell_is_not_waited_for_for_ever() {
    let guests = guests(Stay { idle: Some(Duration::from_secs(600)), ..FOR_EVER });
    let idle = guests.admit(HERE).unwrap();
    tokio::time::advance(Duration::from_secs(601)).await;
    guests.look(None).await;
    assert!(idle.guest.leave.is_cancelled());
    let start = Instant::now();
    idle.guest.overstays(Duration::ZERO).await;
    assert!((LINGERING..LINGERING * 2).contains(&start.elapsed()), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn age_ends_a_stay_more_or_less_a_tenth_after_its_time() {
    let guests = guests(Stay { age: Some(Duration::from_secs(1000)), ..FOR_EVER });
    let places: Vec<_> = (0..100).map(|_| guests.admit(HERE).unwrap()).collect();
    let left = || places.iter().filter(|place| place.guest.leave.is_cancelled()).count();
    tokio::time::advance(Duration::from_secs(899)).await;
    guests.look(None).await;
    assert_eq!(left(), 0);
    tokio::time::advance(Duration::from_secs(101)).await;
    guests.look(None).await;
    assert!((1..100).contains(&left()), "{} of 100: not all at once", left());
    tokio::time::advance(Duration::from_secs(101)).await;
    guests.look(None).await;
    assert_eq!(left(), 100);
}

#[tokio::test(start_paused = true)]
async fn idle_is_without_a_call_not_without_an_end_of_one() {
    let guests = guests(Stay { idle: Some(Duration::from_secs(60)), ..FOR_EVER });
    let (idle, long, busy) =
        (guests.admit(HERE).unwrap(), guests.admit(HERE).unwrap(), guests.admit(HERE).unwrap());
    let call = long.guest.call();
    for _ in 0..10 {
        drop(busy.guest.call());
        tokio::time::advance(Duration::from_secs(59)).await;
        guests.look(None).await;
    }
    let left = |place: &Place| place.guest.leave.is_cancelled();
    assert_eq!((left(&idle), left(&long), left(&busy)), (true, false, false));
    drop(call);
    tokio::time::advance(Duration::from_secs(30)).await;
    guests.look(None).await;
    assert!(!left(&long), "idle since its call was last seen to run");
    tokio::time::advance(Duration::from_secs(61)).await;
    guests.look(None).await;
    assert!(left(&long) && left(&busy));
}

#[tokio::test]
async fn whose_certificate_is_no_longer_good_is_distrusted_and_leaves() {
    let guests = guests(FOR_EVER);
    let chain = |byte: u8| -> Chain { Arc::from([vec![byte].into()]) };
    let (good, bad, none) =
        (guests.admit(HERE).unwrap(), guests.admit(HERE).unwrap(), guests.admit(HERE).unwrap());
    good.begun(Some(chain(1)));
    bad.begun(Some(chain(2)));
    none.begun(None);
    guests.look(None).await;
    assert!(!bad.guest.is_distrusted(), "nobody judged");
    guests.look(Some(&|chain: &Chain| chain.first().is_some_and(|leaf| leaf.as_ref() == [1]))).await;
    let state = |place: &Place| (place.guest.is_distrusted(), place.guest.leave.is_cancelled());
    assert_eq!((state(&good), state(&bad), state(&none)), ((false, false), (true, true), (false, false)));
}
