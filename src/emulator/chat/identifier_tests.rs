//! Every kind of identifier in both directions, and what is refused.

use proptest::prelude::*;
use serde_json::json;

use super::*;

const GUID: &str = "ac80d96a-85de-48b1-995d-a3a3fa3627c8";
const OTHER: &str = "0000001a-9f42-71b4-88f7-08482200b429";

#[test]
fn every_kind_of_identifier_is_written_as_it_is_read() {
    let user = format!("8:acs:{GUID}_{OTHER}");
    let entra_user = format!("8:acs:{GUID}_wf_{OTHER}_{GUID}");
    for (raw_id, member) in [
        (entra_user.clone(), json!({ "communicationUser": { "id": entra_user } })),
        (user.clone(), json!({ "communicationUser": { "id": user } })),
        ("4:+14255550123".into(), json!({ "phoneNumber": { "value": "+14255550123" } })),
        ("4:+14255550123_7".into(), json!({ "phoneNumber": { "value": "+14255550123", "assertedId": "7" } })),
        (
            format!("8:orgid:{GUID}"),
            json!({ "microsoftTeamsUser": { "userId": GUID, "isAnonymous": false, "cloud": "public" } }),
        ),
        (
            format!("8:gcch:{GUID}"),
            json!({ "microsoftTeamsUser": { "userId": GUID, "isAnonymous": false, "cloud": "gcch" } }),
        ),
        (
            "8:teamsvisitor:abc".into(),
            json!({ "microsoftTeamsUser": { "userId": "abc", "isAnonymous": true, "cloud": "public" } }),
        ),
        (format!("28:dod:{GUID}"), json!({ "microsoftTeamsApp": { "appId": GUID, "cloud": "dod" } })),
        (
            format!("8:acs:{GUID}_{OTHER}_{GUID}"),
            json!({ "teamsExtensionUser": {
                "userId": GUID, "tenantId": OTHER, "resourceId": GUID, "cloud": "public",
            } }),
        ),
    ] {
        let mut written = member.clone();
        written["rawId"] = raw_id.clone().into();
        assert_eq!(model(&raw_id), written);
        assert_eq!(read(&written).unwrap(), raw_id);
        assert_eq!(read(&member).unwrap(), raw_id, "rawId may be missing");
        assert_eq!(read(&json!({ "rawId": raw_id })).unwrap(), raw_id, "rawId is enough");
    }
}

#[test]
fn the_member_of_the_kind_decides_and_null_means_absent() {
    let user = format!("8:acs:{GUID}_{OTHER}");
    let model = json!({
        "kind": "communicationUser", "rawId": "8:acs:other", "communicationUser": { "id": user }, "phoneNumber": null,
    });
    assert_eq!(read(&model).unwrap(), user);
}

#[test]
fn what_has_no_form_is_refused_with_its_text() {
    for raw_id in [
        "",
        "8:acs:broken",
        "8:acs:",
        "bob",
        "4:12",
        "8:orgid:me",
        "28:orgid:x",
        "8:teamsvisitor:",
        "9:acs:a_b",
    ] {
        let refusal = read(&json!({ "rawId": raw_id })).unwrap_err();
        assert_eq!(refusal.status, 400);
        let body: Value = serde_json::from_slice(&refusal.body).unwrap();
        let error = &body["CommunicationError"];
        assert_eq!(error["Code"], "BadRequest");
        assert_eq!(error["Message"], format!("Identifier format is invalid ({raw_id})."));
    }
}

#[test]
fn what_is_no_model_is_refused() {
    for model in [
        json!(null),
        json!("8:acs:a_b"),
        json!([]),
        json!({ "communicationUser": "x" }),
        json!({ "communicationUser": { "id": 7 } }),
        json!({ "communicationUser": {} }),
        json!({ "communicationUser": { "id": "a" }, "phoneNumber": { "value": "+1" } }),
        json!({ "microsoftTeamsUser": { "userId": GUID, "cloud": "moon" } }),
        json!({ "teamsExtensionUser": { "userId": GUID } }),
    ] {
        assert_eq!(read(&model).unwrap_err().status, 400, "{model}");
    }
}

proptest! {
    #[test]
    fn whatever_is_read_is_written_to_be_read_the_same(raw_id in "(8:acs:|8:dod:|4:\\+?|28:orgid:|8:teamsvisitor:)?[0-9a-f_.-]{0,80}") {
        if let Ok(read_id) = read(&json!({ "rawId": raw_id })) {
            prop_assert_eq!(&read_id, &raw_id);
            prop_assert_eq!(read(&model(&read_id)).unwrap(), raw_id);
        }
    }

    #[test]
    fn no_text_makes_reading_fail(text in ".{0,100}") {
        let _ = read(&json!({ "rawId": text }));
        let _ = read(&json!({ "phoneNumber": { "value": text } }));
        let _ = model(&text);
    }
}
