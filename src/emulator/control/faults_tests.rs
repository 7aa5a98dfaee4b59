//! Tests of how faults are asked for.

use proptest::prelude::*;

use super::*;

fn seen(body: &str) -> Result<Waiting, String> {
    read(body.as_bytes(), Some(11)).map_err(|refusal| {
        assert_eq!(refusal.status, 400);
        let body: Value = serde_json::from_slice(&refusal.body).unwrap();
        body["error"]["message"].as_str().unwrap().to_owned()
    })
}

#[test]
fn a_fault_is_read_with_all_its_parts() {
    let read = seen(
        r#"{"operation":"issue_token","effect":"answer","status":503,"retry_after_seconds":2,
            "commit":"after","delay_ms":100,"count":3,"probability":0.3,"seed":7}"#,
    );
    let fault = Fault::status(503).with_retry_after(2).after_commit().delayed(Duration::from_millis(100));
    let chance = Some(Chance { probability: 0.3, seed: 7 });
    let wanted = Waiting { operation: Operation::IssueToken, fault, left: Some(3), chance };
    assert_eq!(read, Ok(wanted));
    let lasting = Waiting { operation: Operation::Any, fault: Fault::hang(), left: None, chance: None };
    assert_eq!(seen(r#"{"operation":"any","effect":"hang"}"#), Ok(lasting));
    let slow = Fault::slow_body(Duration::from_millis(800));
    let wanted = Waiting { operation: Operation::SendEmail, fault: slow, left: None, chance: None };
    assert_eq!(seen(r#"{"operation":"send_email","effect":"slow_body","over_ms":800}"#), Ok(wanted));
}

#[test]
fn chance_without_a_seed_takes_the_emulators() {
    let read = seen(r#"{"operation":"any","effect":"drop","probability":1}"#).unwrap();
    assert_eq!(read.chance, Some(Chance { probability: 1.0, seed: 11 }));
}

#[test]
fn a_fault_that_makes_no_sense_is_refused_and_the_field_named() {
    for (body, named) in [
        ("", "not JSON"),
        ("[]", "object"),
        (r#"{"operation":"any"}"#, "effect"),
        (r#"{"operation":"sms","effect":"drop"}"#, "operation"),
        (r#"{"operation":"any","effect":"explode"}"#, "effect"),
        (r#"{"operation":"any","effect":"answer"}"#, "status"),
        (r#"{"operation":"any","effect":"answer","status":200}"#, "status"),
        (r#"{"operation":"any","effect":"drop","status":500}"#, "status"),
        (r#"{"operation":"any","effect":"hang","retry_after_seconds":1}"#, "retry_after_seconds"),
        (r#"{"operation":"any","effect":"drop","times":1}"#, "times"),
        (r#"{"operation":"any","effect":"drop","delay_ms":600001}"#, "delay_ms"),
        (r#"{"operation":"any","effect":"drop","count":-1}"#, "count"),
        (r#"{"operation":"any","effect":"drop","probability":1.5}"#, "probability"),
        (r#"{"operation":"any","effect":"drop","seed":1}"#, "seed"),
        (r#"{"operation":"any","effect":"slow_body"}"#, "over_ms"),
        (r#"{"operation":"any","effect":"slow_body","over_ms":600001}"#, "over_ms"),
        (r#"{"operation":"any","effect":"drop","over_ms":1}"#, "over_ms"),
        (r#"{"operation":"any","effect":"slow_body","over_ms":1,"commit":"before"}"#, "commit"),
    ] {
        let said = seen(body).unwrap_err();
        assert!(said.contains(named), "{body}: {said}");
    }
}

proptest! {
    #[test]
    fn what_is_listed_can_be_asked_for_again(
        operation in proptest::sample::select(Operation::ALL),
        status in 400_u16..600, retry in proptest::option::of(0_u64..100), delay in 0_u64..=600_000,
        left in proptest::option::of(1_u64..100), effect in 0..5, after: bool,
        chance in proptest::option::of((0..=64_u32, any::<u64>())),
    ) {
        let fault = match effect {
            0 => Fault::status(status),
            1 => Fault { effect: Effect::Answer { status, retry_after_seconds: retry }, ..Fault::hang() },
            2 => Fault::drop_connection(),
            3 => Fault::slow_body(Duration::from_millis(delay)),
            _ => Fault::latency(Duration::ZERO),
        };
        let fault = if after { fault.after_commit() } else { fault };
        let fault = fault.delayed(Duration::from_millis(delay));
        // Sixty-fourths, because JSON is read to the nearest double but one.
        let chance = chance.map(|(part, seed)| Chance { probability: f64::from(part) / 64.0, seed });
        let waiting = Waiting { operation, fault, left, chance };
        let body = shown(&waiting).to_string();
        prop_assert_eq!(seen(&body), Ok(waiting), "{}", body);
    }
}
