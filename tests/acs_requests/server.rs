//! A server on loopback that records requests and answers each with the least success its operation has. It checks
//! nothing: that is for the judge, who also judges the answers.

use std::sync::{Arc, Mutex};

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::response::Response;
use serde_json::{Value, json};

const USER: &str = "8:acs:11111111-2222-4333-8444-555555555555_00000001-0000-0000-0000-000000000001";
const TIME: &str = "2025-03-04T05:06:07Z";

/// The operation that is under way, and what arrived.
#[derive(Default)]
struct Shared {
    operation: String,
    arrived: Vec<Value>,
}

/// The server; it ends with the test's runtime.
#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) endpoint: String,
    shared: Arc<Mutex<Shared>>,
}

impl Server {
    pub(crate) async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let shared = Arc::new(Mutex::new(Shared::default()));
        let service = axum::Router::new().fallback(record).with_state(Arc::clone(&shared));
        tokio::spawn(async move { axum::serve(listener, service).await.unwrap() });
        Self { endpoint, shared }
    }

    /// Answers from now on as this operation does.
    pub(crate) fn expect(&self, operation: &str) {
        operation.clone_into(&mut self.shared.lock().unwrap().operation);
    }

    /// What arrived since it was last asked.
    pub(crate) fn arrived(&self) -> Vec<Value> {
        std::mem::take(&mut self.shared.lock().unwrap().arrived)
    }
}

async fn record(State(shared): State<Arc<Mutex<Shared>>>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let body = String::from_utf8(to_bytes(body, usize::MAX).await.unwrap().to_vec()).unwrap();
    let headers: Vec<_> =
        head.headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
    let mut shared = shared.lock().unwrap();
    let asked = serde_json::from_str(&body).unwrap_or(Value::Null);
    let (status, answer) = answer(&shared.operation, &asked);
    shared.arrived.push(json!({
        "method": head.method.as_str(),
        "target": head.uri.to_string(),
        "headers": headers,
        "body": body,
        "status": status,
        "answer": answer,
    }));
    let text = if answer.is_null() { String::new() } else { answer.to_string() };
    Response::builder()
        .status(status)
        .header("content-type", "application/json")
        .body(Body::from(text))
        .unwrap()
}

/// The least success of an operation.
fn answer(operation: &str, asked: &Value) -> (u16, Value) {
    let token = json!({"token": "e30.e30.e30", "expiresOn": TIME});
    let thread = json!({
        "id": "19:thread@thread.v2",
        "topic": "Rowing club",
        "createdOn": TIME,
        "createdByCommunicationIdentifier": {"rawId": USER},
    });
    let per_recipient = |list: &str, one: Value| {
        let result = |recipient: &Value| {
            let mut result = one.clone();
            result["to"] = recipient["to"].clone();
            result
        };
        json!({"value": asked[list].as_array().unwrap().iter().map(result).collect::<Vec<_>>()})
    };
    match operation {
        "create_identity" if asked.get("createTokenWithScopes").is_some() => {
            (201, json!({"identity": {"id": USER}, "accessToken": token}))
        }
        "create_identity" => (201, json!({"identity": {"id": USER}})),
        "issue_token" => (200, token),
        "send_sms" => {
            let taken = json!({"messageId": "Outgoing_1", "httpStatusCode": 202, "successful": true});
            (202, per_recipient("smsRecipients", taken))
        }
        "check_opt_outs" => {
            (200, per_recipient("recipients", json!({"httpStatusCode": 200, "isOptedOut": false})))
        }
        "add_opt_outs" | "remove_opt_outs" => {
            (200, per_recipient("recipients", json!({"httpStatusCode": 200})))
        }
        "send_email" => (202, json!({"id": "mail", "status": "Running"})),
        "get_email_operation" => (200, json!({"id": "mail", "status": "Succeeded"})),
        "create_thread" => (201, json!({"chatThread": thread})),
        "get_thread" => (200, thread),
        "list_threads" | "list_participants" | "list_messages" | "list_read_receipts" => {
            (200, json!({"value": []}))
        }
        "add_participants" => (201, json!({})),
        "send_message" => (201, json!({"id": "1591137790240"})),
        "get_message" => {
            (200, json!({"id": "1", "type": "text", "sequenceId": "1", "version": "1", "createdOn": TIME}))
        }
        "send_read_receipt" | "send_typing" => (200, Value::Null),
        "revoke_tokens" | "delete_identity" | "update_thread" | "delete_thread" | "remove_participant"
        | "update_message" | "delete_message" => (204, Value::Null),
        other => panic!("the server knows no {other}"),
    }
}
