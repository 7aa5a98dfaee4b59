"""The 39 operations by method and path, under the names the control paths use. Facts only; nothing is sent from here."""

# Parameters of a path are braces without a name: the specifications name them differently from version to version.
PATHS = {
    "create_identity": "POST /identities",
    "get_identity": "GET /identities/{}",
    "delete_identity": "DELETE /identities/{}",
    "issue_token": "POST /identities/{}/:issueAccessToken",
    "revoke_tokens": "POST /identities/{}/:revokeAccessTokens",
    "exchange_teams_user_token": "POST /teamsUser/:exchangeAccessToken",
    "exchange_teams_extension_token": "POST /access/teamsExtension/:exchangeAccessToken",
    "get_teams_extension_assignment": "GET /access/teamsExtension/tenants/{}/assignments/{}",
    "put_teams_extension_assignment": "PUT /access/teamsExtension/tenants/{}/assignments/{}",
    "delete_teams_extension_assignment": "DELETE /access/teamsExtension/tenants/{}/assignments/{}",
    "exchange_entra_token": "POST /access/entra/:exchangeAccessToken",
    "list_entra_assignments": "GET /access/entra/assignments",
    "update_entra_assignments": "PATCH /access/entra/assignments",
    "get_entra_assignment": "GET /access/entra/assignments/{}",
    "put_entra_assignment": "PUT /access/entra/assignments/{}",
    "delete_entra_assignment": "DELETE /access/entra/assignments/{}",
    "send_sms": "POST /sms",
    "add_opt_outs": "POST /sms/optouts:add",
    "remove_opt_outs": "POST /sms/optouts:remove",
    "check_opt_outs": "POST /sms/optouts:check",
    "get_delivery_report": "GET /deliveryReports/{}",
    "send_email": "POST /emails:send",
    "get_email_operation": "GET /emails/operations/{}",
    "create_thread": "POST /chat/threads",
    "list_threads": "GET /chat/threads",
    "get_thread": "GET /chat/threads/{}",
    "update_thread": "PATCH /chat/threads/{}",
    "delete_thread": "DELETE /chat/threads/{}",
    "list_participants": "GET /chat/threads/{}/participants",
    "add_participants": "POST /chat/threads/{}/participants/:add",
    "remove_participant": "POST /chat/threads/{}/participants/:remove",
    "send_message": "POST /chat/threads/{}/messages",
    "list_messages": "GET /chat/threads/{}/messages",
    "get_message": "GET /chat/threads/{}/messages/{}",
    "update_message": "PATCH /chat/threads/{}/messages/{}",
    "delete_message": "DELETE /chat/threads/{}/messages/{}",
    "list_read_receipts": "GET /chat/threads/{}/readReceipts",
    "send_read_receipt": "POST /chat/threads/{}/readReceipts",
    "send_typing": "POST /chat/threads/{}/typing",
}

NAMES = {path: name for name, path in PATHS.items()}

# The versions the emulator serves, by the folder of the specification.
VERSIONS = {
    "identity": ["2023-10-01", "2025-03-02-preview", "2025-06-30"],
    "sms": ["2021-03-07", "2026-01-23"],
    "email": ["2023-03-31", "2025-09-01"],
    "chat": ["2024-03-07", "2025-03-15"],
}


def service_of(operation):
    """The folder of the specification that has the operation."""
    path = PATHS[operation].split(" ")[1]
    if path.startswith("/chat"):
        return "chat"
    if path.startswith("/emails"):
        return "email"
    if path.startswith(("/sms", "/deliveryReports")):
        return "sms"
    return "identity"
