//! The limits around a call, without a server.

use std::future::{pending, ready};

use proptest::prelude::*;
use tonic_types::StatusExt;

use super::*;
use crate::grpc::method;

fn observer(max_in_flight: usize) -> (Observer, Metrics) {
    let metrics = Metrics::new();
    (
        Observer::new(metrics.clone(), crate::audit::Audit::off(), Duration::from_secs(10), max_in_flight),
        metrics,
    )
}

/// Nobody, and never anybody.
static WHO: Identified = Identified::new();

fn issue() -> &'static Method {
    method::at("/acsbroker.v1.TokenService/IssueToken")
}

fn headers(name: &'static str, value: &str) -> HeaderMap {
    HeaderMap::from_iter([(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())])
}

fn ok() -> Response<Body> {
    Response::new(Body::empty())
}

fn reason(response: &Response<Body>) -> (Code, String) {
    let status = Status::from_header_map(response.headers()).unwrap();
    let reason = status.get_error_details().error_info().unwrap().reason.clone();
    (status.code(), reason)
}

fn counted(metrics: &Metrics, code: &str) -> bool {
    let line = format!("rpc_response_status_code=\"{code}\"}} 1");
    metrics.render().lines().any(|text| text.contains("duration_seconds_count") && text.ends_with(&line))
}

#[tokio::test(start_paused = true)]
async fn the_default_deadline_ends_a_call_whose_caller_set_none() {
    let (observer, metrics) = observer(1);
    let before = Instant::now();
    let response = observer.begin(issue(), &HeaderMap::new(), &WHO).run(pending()).await;
    assert_eq!(reason(&response), (Code::DeadlineExceeded, "DEADLINE_EXCEEDED".into()));
    assert_eq!(before.elapsed().as_secs(), 10);
    assert!(counted(&metrics, "DEADLINE_EXCEEDED"));
}

#[tokio::test(start_paused = true)]
async fn the_answer_leaves_before_the_callers_own_deadline() {
    let (observer, _) = observer(1);
    let before = Instant::now();
    let response = observer.begin(issue(), &headers("grpc-timeout", "500m"), &WHO).run(pending()).await;
    assert_eq!(reason(&response).0, Code::DeadlineExceeded);
    let took = before.elapsed();
    assert!(took >= Duration::from_millis(450) && took < Duration::from_millis(500), "{took:?}");
}

#[tokio::test]
async fn a_call_beyond_the_limit_is_refused_at_once_and_a_seat_given_back_is_taken_again() {
    let (observer, metrics) = observer(1);
    let mut first = Box::pin(observer.begin(issue(), &HeaderMap::new(), &WHO).run(pending()));
    assert!(futures_util::poll!(first.as_mut()).is_pending());

    let refused = observer.begin(issue(), &HeaderMap::new(), &WHO).run(ready(ok())).await;
    assert_eq!(reason(&refused), (Code::ResourceExhausted, "BROKER_OVERLOADED".into()));
    let status = Status::from_header_map(refused.headers()).unwrap();
    assert!(status.get_error_details().retry_info().unwrap().retry_delay.is_some());

    let check = method::at("/grpc.health.v1.Health/Check");
    let probe = observer.begin(check, &HeaderMap::new(), &WHO).run(ready(ok())).await;
    assert_eq!(code_of(&probe), Code::Ok, "probes are answered at full load");

    drop(first);
    assert!(counted(&metrics, "CANCELLED"), "{}", metrics.render());
    let served = observer.begin(issue(), &HeaderMap::new(), &WHO).run(ready(ok())).await;
    assert_eq!(code_of(&served), Code::Ok);
    assert!(metrics.render().contains("rpcs_in_flight 0"));
}

#[tokio::test]
async fn a_panic_in_a_handler_is_an_internal_error() {
    let (observer, _) = observer(1);
    let response =
        observer.begin(issue(), &HeaderMap::new(), &WHO).run(async { panic!("planted by the test") }).await;
    assert_eq!(reason(&response), (Code::Internal, "INTERNAL".into()));
}

#[tokio::test]
async fn the_request_id_comes_back_with_answers_and_errors() {
    let (observer, _) = observer(1);
    let sent = headers("x-request-id", "trace-7.a_B");
    let answer = observer.begin(issue(), &sent, &WHO).run(ready(ok())).await;
    assert_eq!(answer.headers()[REQUEST_ID], "trace-7.a_B");
    let error = observer
        .begin(issue(), &sent, &WHO)
        .run(ready(status::of(Error::IdentityNotFound).into_http()))
        .await;
    assert_eq!(error.headers()[REQUEST_ID], "trace-7.a_B");
    let details = Status::from_header_map(error.headers()).unwrap().get_error_details();
    assert_eq!(details.request_info().unwrap().request_id, "trace-7.a_B");
}

#[test]
fn a_request_id_unfit_for_logs_is_replaced() {
    for id in ["a", "A.b_c-9", &"x".repeat(128)] {
        assert_eq!(request_id(Some(&HeaderValue::from_str(id).unwrap())), id);
    }
    for id in ["", " a", "a b", "a\"b", "{}", "é", &"x".repeat(129)] {
        let made = request_id(Some(&HeaderValue::from_bytes(id.as_bytes()).unwrap()));
        assert!(uuid::Uuid::try_parse(made.to_str().unwrap()).is_ok(), "{id}");
    }
    assert_ne!(request_id(None), request_id(None));
}

#[test]
fn grpc_timeout_is_one_to_eight_digits_and_a_unit() {
    for (text, expected) in [
        ("1H", Some(Duration::from_secs(3600))),
        ("2M", Some(Duration::from_secs(120))),
        ("3S", Some(Duration::from_secs(3))),
        ("4m", Some(Duration::from_millis(4))),
        ("5u", Some(Duration::from_micros(5))),
        ("00000006n", Some(Duration::from_nanos(6))),
        ("99999999H", Some(Duration::from_secs(99_999_999 * 3600))),
        ("0m", Some(Duration::ZERO)),
        ("", None),
        ("m", None),
        ("5", None),
        ("5s", None),
        ("-5S", None),
        ("+5S", None),
        ("5.5S", None),
        ("123456789S", None),
        (" 5S", None),
    ] {
        assert_eq!(parse_timeout(text.as_bytes()), expected, "{text}");
    }
}

#[test]
fn no_call_gets_more_than_an_hour_and_a_malformed_timeout_counts_as_none() {
    let default = Duration::from_secs(10);
    let of = |text: &str| budget(Some(&HeaderValue::from_str(text).unwrap()), default);
    assert!(of("99999999H") <= MAX_DEADLINE);
    assert_eq!(of("soon"), default);
    assert_eq!(budget(None, default), default);
    assert_eq!(of("0S"), Duration::ZERO);
    assert_eq!(of("10S"), Duration::from_secs(10) - HEAD_START);
}

proptest! {
    #[test]
    fn no_header_panics(value in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse_timeout(&value);
        if let Ok(value) = HeaderValue::from_bytes(&value) {
            let id = request_id(Some(&value));
            prop_assert!((1..=MAX_REQUEST_ID_BYTES).contains(&id.len()));
            let _ = budget(Some(&value), Duration::from_secs(1));
        }
    }
}

#[test]
fn a_call_dropped_before_it_began_its_work_is_counted_too() {
    let (observer, metrics) = observer(1);
    drop(observer.begin(issue(), &HeaderMap::new(), &WHO));
    assert!(counted(&metrics, "CANCELLED"));
    assert!(metrics.render().contains("rpcs_in_flight 0"));
}
