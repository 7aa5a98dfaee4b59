//! What an assignment's body may say, and that assignments stay bounded.

use proptest::prelude::*;
use serde_json::json;

use super::*;

const TENANT: &str = "3f14cf17-84d5-42c2-8689-a6365c474b4e";
const CLIENT: &str = "07474a86-625a-452f-977b-db4e13f21260";
const USER: &str = "350adb03-7be9-4846-b078-35adb0d0e119";

fn entra() -> Assignment {
    Assignment { principal: "user", tenant: TENANT.into(), clients: Some(vec![CLIENT.into()]) }
}

fn target<T: std::fmt::Debug>(read: Result<T, Box<Answer>>) -> String {
    let answer = read.unwrap_err();
    assert_eq!(answer.status, 400);
    let body: Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(body["error"]["code"], "ValidationError");
    body["error"]["target"].as_str().unwrap_or("none").to_owned()
}

#[test]
fn the_bodies_of_the_specification_are_read() {
    let body = json!({ "principalType": "user", "tenantId": TENANT.to_uppercase(), "clientIds": [CLIENT] });
    assert_eq!(read_entra(body.to_string().as_bytes()).unwrap(), entra());
    let read = read_teams(br#"{"principalType":"resourceAccount"}"#, TENANT.into()).unwrap();
    assert_eq!(read, Assignment { principal: "resourceAccount", tenant: TENANT.into(), clients: None });
    assert!(read.allows(CLIENT), "clients that are left out mean any");
    let none = Assignment { clients: Some(Vec::new()), ..read };
    assert!(!none.allows(CLIENT) && entra().allows(CLIENT) && !entra().allows(USER));
    let change = json!({ USER.to_uppercase(): body, TENANT: null });
    let mut changes = read_changes(change.to_string().as_bytes()).unwrap();
    changes.sort_by(|(a, _), (b, _)| a.cmp(b));
    assert_eq!(changes, [(USER.to_owned(), Some(entra())), (TENANT.to_owned(), None)]);
}

#[test]
fn each_fault_of_a_body_is_named() {
    let too_many = vec![CLIENT; 101];
    for (body, wanted) in [
        (json!({ "tenantId": TENANT, "clientIds": [CLIENT] }), "PrincipalType"),
        (json!({ "principalType": "person", "tenantId": TENANT, "clientIds": [CLIENT] }), "PrincipalType"),
        (json!({ "principalType": "resourceAccount", "tenantId": TENANT, "clientIds": [] }), "PrincipalType"),
        (json!({ "principalType": 1, "tenantId": TENANT, "clientIds": [CLIENT] }), "PrincipalType"),
        (json!({ "principalType": "user", "tenantId": null, "clientIds": [CLIENT] }), "TenantId"),
        (json!({ "principalType": "user", "tenantId": "contoso", "clientIds": [CLIENT] }), "TenantId"),
        (json!({ "principalType": "user", "tenantId": TENANT }), "ClientIds"),
        (json!({ "principalType": "user", "tenantId": TENANT, "clientIds": CLIENT }), "ClientIds"),
        (json!({ "principalType": "user", "tenantId": TENANT, "clientIds": [7] }), "ClientIds"),
        (json!({ "principalType": "user", "tenantId": TENANT, "clientIds": too_many }), "ClientIds"),
        (json!([]), "none"),
    ] {
        assert_eq!(target(read_entra(body.to_string().as_bytes())), wanted, "{body}");
        let change = json!({ USER: body }).to_string();
        let wanted = if body.is_array() { "ObjectId" } else { wanted };
        assert_eq!(target(read_changes(change.as_bytes())), wanted, "{change}");
    }
    assert_eq!(target(read_entra(b"")), "none");
    assert_eq!(target(read_changes(br#"{"sally":null}"#)), "ObjectId");
    assert_eq!(target(read_teams(br#"{"principalType":"group"}"#, TENANT.into())), "PrincipalType");
}

#[test]
fn assignments_are_bounded_and_those_that_are_there_can_still_be_changed() {
    let mut all = Assignments::default();
    let object = |n: usize| format!("{n:08x}-0000-4000-8000-000000000000");
    for n in 0..MOST {
        assert_eq!(all.put_entra(&object(n), entra()), Ok(true));
        assert_eq!(all.put_teams(&object(n), entra()), Ok(true));
    }
    assert_eq!(
        (all.put_entra(&object(MOST), entra()), all.put_teams(&object(MOST), entra())),
        (Err(Full), Err(Full))
    );
    assert_eq!(
        (all.put_entra(&object(0), entra()), all.put_teams(&object(0), entra())),
        (Ok(false), Ok(false))
    );
    let swap = |gone: usize, new: usize| vec![(object(gone), None), (object(new), Some(entra()))];
    assert_eq!(
        all.merge_entra(vec![
            (object(7), None),
            (object(8000), Some(entra())),
            (object(8001), Some(entra()))
        ]),
        Err(Full)
    );
    assert!(all.entra(&object(7)).is_some(), "all of a patch or nothing of it");
    assert_eq!(all.merge_entra(swap(7, 8000)), Ok(()));
    assert_eq!((all.entra(&object(7)), all.entra(&object(8000))), (None, Some(&entra())));
    let mut seen = Vec::new();
    let mut after = String::new();
    loop {
        let (page, more) = all.page_entra(&after, 300);
        seen.extend(page.iter().map(|(object, _)| (*object).clone()));
        if !more {
            break;
        }
        after.clone_from(seen.last().unwrap());
    }
    assert_eq!(seen, all.entra.keys().cloned().collect::<Vec<_>>());
}

proptest! {
    #[test]
    fn no_body_can_make_reading_panic(body in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = read_entra(&body);
        let _ = read_changes(&body);
        let _ = read_teams(&body, String::new());
    }

    #[test]
    fn no_json_can_make_reading_panic(text in r#"\{("(principalType|tenantId|clientIds|[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})":("user"|null|\[\]|\{\}|1),?){0,4}\}"#) {
        let _ = read_entra(text.as_bytes());
        let _ = read_changes(text.as_bytes());
    }
}
