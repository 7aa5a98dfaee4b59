//! Commands to paste into a shell: one for each official SDK that sends something to a running emulator.
//!
//! Each is whole, so that any of them works by itself. They hold the emulator's key, which opens nothing else. Used by
//! `dev`.

use std::path::Path;

/// What the packages are called that a language's commands need.
pub(super) const PYTHON: &str = "pip install azure-communication-identity azure-communication-sms \
                                 azure-communication-email azure-communication-chat";
pub(super) const JAVASCRIPT: &str = "npm install @azure/communication-identity @azure/communication-sms \
                                     @azure/communication-email @azure/communication-chat \
                                     @azure/communication-common";

/// Where the commands send to and from.
pub(super) struct Places<'p> {
    /// Over HTTPS: Python's SDKs speak nothing else.
    pub(super) connection_string: &'p str,
    pub(super) ca_file: &'p Path,
    /// A number or name that the resource owns.
    pub(super) sms_sender: &'p str,
}

impl Places<'_> {
    /// Identity, SMS, e-mail and chat in Python.
    pub(super) fn python(&self) -> [String; 4] {
        let (connection, endpoint, sender) = self.literals();
        let identity = "from azure.communication.identity import CommunicationIdentityClient as I";
        [
            format!(
                "{identity}; u, t = I.from_connection_string({connection}).create_user_and_token([\"chat\"]); \
                 print(u.raw_id)"
            ),
            format!(
                "from azure.communication.sms import SmsClient as S; \
                 print(S.from_connection_string({connection}).send(from_={sender}, to=[\"+14255550123\"], \
                 message=\"Hello from Python\")[0].message_id)"
            ),
            format!(
                "from azure.communication.email import EmailClient as E; \
                 print(E.from_connection_string({connection}).begin_send({{\"senderAddress\": \
                 \"DoNotReply@contoso.example\", \"recipients\": {{\"to\": [{{\"address\": \"alice@example.com\"}}]}}, \
                 \"content\": {{\"subject\": \"Hello\", \"plainText\": \"Hello from Python\"}}}}).result()[\"id\"])"
            ),
            format!(
                "{identity}; from azure.communication.chat import ChatClient as C, CommunicationTokenCredential as T; \
                 u, t = I.from_connection_string({connection}).create_user_and_token([\"chat\"]); \
                 c = C({endpoint}, T(t.token)); r = c.create_chat_thread(\"Hello\"); \
                 print(c.get_chat_thread_client(r.chat_thread.id).send_message(\"Hello from Python\").id)"
            ),
        ]
        .map(|program| self.command("REQUESTS_CA_BUNDLE", "python3 -c", &program))
    }

    /// The same in JavaScript.
    pub(super) fn javascript(&self) -> [String; 4] {
        let (connection, endpoint, sender) = self.literals();
        let identity = "const {CommunicationIdentityClient: I} = require(\"@azure/communication-identity\")";
        [
            format!(
                "{identity}; new I({connection}).createUserAndToken([\"chat\"])\
                 .then(r => console.log(r.user.communicationUserId))"
            ),
            format!(
                "const {{SmsClient: S}} = require(\"@azure/communication-sms\"); new S({connection}).send({{from: \
                 {sender}, to: [\"+14255550123\"], message: \"Hello from JavaScript\"}})\
                 .then(r => console.log(r[0].messageId))"
            ),
            format!(
                "const {{EmailClient: E}} = require(\"@azure/communication-email\"); new E({connection})\
                 .beginSend({{senderAddress: \"DoNotReply@contoso.example\", recipients: {{to: [{{address: \
                 \"alice@example.com\"}}]}}, content: {{subject: \"Hello\", plainText: \"Hello from JavaScript\"}}}})\
                 .then(p => p.pollUntilDone()).then(r => console.log(r.id))"
            ),
            format!(
                "{identity}, {{ChatClient: C}} = require(\"@azure/communication-chat\"), \
                 {{AzureCommunicationTokenCredential: T}} = require(\"@azure/communication-common\"); \
                 (async () => {{ const u = await new I({connection}).createUserAndToken([\"chat\"]), \
                 c = new C({endpoint}, new T(u.token)), \
                 t = (await c.createChatThread({{topic: \"Hello\"}})).chatThread, \
                 m = await c.getChatThreadClient(t.id).sendMessage({{content: \"Hello from JavaScript\"}}); \
                 console.log(m.id) }})()"
            ),
        ]
        .map(|program| self.command("NODE_EXTRA_CA_CERTS", "node -e", &program))
    }

    fn command(&self, trust: &str, interpreter: &str, program: &str) -> String {
        format!("{trust}={} {interpreter} {}", quoted(&self.ca_file.display().to_string()), quoted(program))
    }

    /// Connection string, endpoint and sender as both languages write texts.
    fn literals(&self) -> (String, String, String) {
        let rest = self.connection_string.strip_prefix("endpoint=").unwrap_or(self.connection_string);
        let endpoint = rest.split(';').next().unwrap_or_default().trim_end_matches('/');
        (literal(self.connection_string), literal(endpoint), literal(self.sms_sender))
    }
}

/// A text in double quotes, as Python and JavaScript both read it.
fn literal(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// A word for a POSIX shell.
pub(super) fn quoted(word: &str) -> String {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "/._-+".contains(letter);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_paths_are_quoted_for_the_shell() {
        assert_eq!(quoted("/a/b-c.d"), "/a/b-c.d");
        assert_eq!(quoted("/a b/it's"), "'/a b/it'\\''s'");
    }

    #[test]
    fn a_command_is_one_line_with_everything_in_it() {
        let places = Places {
            connection_string: "endpoint=https://127.0.0.1:8083/;accesskey=a+/=",
            ca_file: Path::new("/a b/ca.pem"),
            sms_sender: "+18005550100",
        };
        for (command, program) in places
            .python()
            .map(|command| (command, "REQUESTS_CA_BUNDLE='/a b/ca.pem' python3 -c '"))
            .into_iter()
            .chain(
                places.javascript().map(|command| (command, "NODE_EXTRA_CA_CERTS='/a b/ca.pem' node -e '")),
            )
        {
            assert!(command.starts_with(program) && command.ends_with('\''), "{command}");
            assert!(command.contains("\"endpoint=https://127.0.0.1:8083/;accesskey=a+/=\""), "{command}");
            assert!(!command.contains('\n'), "{command}");
        }
        assert!(places.python()[3].contains("C(\"https://127.0.0.1:8083\", "));
        assert!(places.python()[1].contains("from_=\"+18005550100\""));
    }
}
