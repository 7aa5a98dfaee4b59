//! A question to a policy: may this caller do that, and what decides it. For the tests in the file and for
//! `check-config --explain`.
//!
//! Asks the same [`Rules`] as a call does. What a question does not name is not asked.

use super::file::{File, Listed};
use super::text::Problem;
use crate::broker::policy::{Missing, Need, Patterns, Rpc, RpcSet, Rules};
use crate::broker::types::{ScopeSet, UserId, Validity};

/// A call, as far as a policy judges it.
#[derive(Debug, Clone)]
pub struct Case {
    /// What is called.
    pub rpc: Rpc,
    /// For whom.
    pub user: Option<UserId>,
    /// With which scopes.
    pub scopes: Option<ScopeSet>,
    /// For how long.
    pub validity: Option<Validity>,
    /// From which sender.
    pub sender: Option<String>,
}

/// Why a case cannot be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadCase {
    /// Nobody of that name is listed.
    #[error("the policy lists no caller of that name")]
    NoSuchCaller,
    /// The RPC takes no sender.
    #[error("only RPCs that send, and those about opt-outs, have a sender")]
    NoSender,
    /// The RPC names no user: the gate would not look at one.
    #[error("this RPC names no user")]
    NoUser,
    /// The RPC asks for no token.
    #[error("only IssueToken and RefreshToken have scopes and a validity")]
    NoToken,
}

/// One thing that was asked, with what decides it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// What was asked, in words.
    pub asked: String,
    /// The entry that allows it, or what is missing.
    pub answer: Result<String, Missing>,
}

/// One `[[tests]]`.
#[derive(Debug)]
pub(super) struct Test {
    pub(super) line: usize,
    pub(super) path: String,
    pub(super) caller: String,
    pub(super) case: Case,
    pub(super) expected: Expected,
}

/// What a test expects.
#[derive(Debug)]
pub(super) enum Expected {
    Allow,
    Deny {
        /// The permission that must be the missing one, if it is said.
        missing: Option<String>,
    },
}

impl Case {
    /// What the RPC needs in this case, in the order in which a call is asked.
    fn needs(&self) -> Result<Vec<(String, Need<'_>)>, BadCase> {
        let mut needs = vec![(format!("call {}", self.rpc.name()), Need::Rpc)];
        if self.user.is_some() && !names_users(self.rpc) {
            return Err(BadCase::NoUser);
        }
        let asks_for_a_token = matches!(self.rpc, Rpc::IssueToken | Rpc::RefreshToken);
        if (self.scopes.is_some() || self.validity.is_some()) && !asks_for_a_token {
            return Err(BadCase::NoToken);
        }
        if let Some(user) = &self.user {
            needs.push(("name this user".into(), Need::User(user)));
        } else if self.rpc == Rpc::ListIdentities {
            needs.push(("see all users".into(), Need::EveryUser));
        }
        if let Some(scopes) = self.scopes {
            needs.push((format!("scopes {}", scopes.canonical()), Need::Scopes(scopes)));
        }
        if let Some(validity) = self.validity {
            let time = humantime::format_duration(validity.as_duration());
            needs.push((format!("a validity of {time}"), Need::Validity(validity)));
        }
        if let Some(sender) = &self.sender {
            let need = match self.rpc {
                Rpc::SendSms | Rpc::CheckSmsOptOuts | Rpc::AddSmsOptOuts | Rpc::RemoveSmsOptOuts => {
                    Need::SmsSender(sender)
                }
                Rpc::SendEmail => Need::EmailSender(sender),
                _ => return Err(BadCase::NoSender),
            };
            needs.push(("use this sender".into(), need));
        }
        Ok(needs)
    }
}

/// Whether a call of that RPC names users one by one.
fn names_users(rpc: Rpc) -> bool {
    match rpc.service() {
        "TokenService" | "ChatService" => true,
        "IdentityService" => rpc != Rpc::ListIdentities,
        _ => false,
    }
}

impl File {
    /// What decides whether the caller of that name may do this, step by step, up to the first that is missing.
    ///
    /// # Errors
    /// The case makes no sense.
    pub fn explain(&self, caller: &str, case: &Case) -> Result<Vec<Step>, BadCase> {
        let listed = self.callers.iter().find(|listed| listed.name == caller);
        let listed = listed.ok_or(BadCase::NoSuchCaller)?;
        let mut steps = Vec::new();
        for (asked, need) in case.needs()? {
            let answer = listed.rules.allow(case.rpc, need).map(|()| listed.by(case.rpc, need));
            let ends = answer.is_err();
            steps.push(Step { asked, answer });
            if ends {
                break;
            }
            let proof = match (&listed.rules.end_user, need) {
                (Some(rule), Need::User(_)) => {
                    let issuer = toml::Value::from(rule.issuer.as_ref());
                    Ok(format!("user_token = {issuer}, if the call brings one that names this user"))
                }
                // Whoever is a user by that user's own token is never all of them.
                (Some(_), Need::EveryUser) => Err(Missing::EndUser),
                _ => continue,
            };
            let ends = proof.is_err();
            steps.push(Step { asked: "act as that user's token says".into(), answer: proof });
            if ends {
                break;
            }
        }
        Ok(steps)
    }

    /// A problem for each test of the file that fails.
    pub(super) fn failed_tests(&self) -> Vec<Problem> {
        self.tests.iter().filter_map(|test| self.failure(test)).collect()
    }

    /// How many tests the file has.
    pub fn tests(&self) -> usize {
        self.tests.len()
    }

    fn failure(&self, test: &Test) -> Option<Problem> {
        let problem = |what: String| Some(Problem { line: test.line, key: test.path.clone(), what });
        let steps = match self.explain(&test.caller, &test.case) {
            Ok(steps) => steps,
            Err(bad) => return problem(format!("cannot be asked: {bad}")),
        };
        let missing = steps.into_iter().find_map(|step| step.answer.err());
        match (&test.expected, missing) {
            (Expected::Allow, Some(missing)) => {
                problem(format!("fails: expected \"allow\", and {missing} is missing"))
            }
            (Expected::Deny { .. }, None) => problem("fails: expected \"deny\", and it is allowed".into()),
            (Expected::Deny { missing: Some(expected) }, Some(missing))
                if *expected != missing.to_string() =>
            {
                problem(format!("fails: expected another permission to be missing than {missing}"))
            }
            (Expected::Allow, None) | (Expected::Deny { .. }, Some(_)) => None,
        }
    }
}

impl Listed {
    /// The entry of the policy that allows this.
    fn by(&self, rpc: Rpc, need: Need<'_>) -> String {
        let written = &self.written;
        let among =
            |key: &str, list: &[String], is_it: &dyn Fn(&String) -> bool| match list.iter().position(is_it) {
                Some(index) => {
                    format!("{key}[{index}] = {}", toml::Value::from(list.get(index).map_or("", |one| one)))
                }
                None => key.to_owned(),
            };
        let alone = |rules: Rules| rules.allow(rpc, need).is_ok();
        match need {
            Need::Rpc => among("rpcs", &written.rpcs, &|one| {
                RpcSet::of_pattern(one).is_some_and(|set| set.contains(rpc))
            }),
            Need::User(_) | Need::EveryUser => among("user_prefixes", &written.users, &|one| {
                alone(Rules { users: Patterns::beginnings([one]), ..Rules::default() })
            }),
            Need::SmsSender(_) => among("sms_senders", &written.sms_senders, &|one| {
                alone(Rules { sms_senders: Patterns::senders([one]), ..Rules::default() })
            }),
            Need::EmailSender(_) => among("email_senders", &written.email_senders, &|one| {
                alone(Rules { email_senders: Patterns::senders([one]), ..Rules::default() })
            }),
            Need::Scopes(_) => "scopes".into(),
            Need::Validity(_) => {
                format!(
                    "max_validity = {}",
                    humantime::format_duration(self.rules.max_validity.as_duration())
                )
            }
            Need::ServiceIdentity => "service_identity = true".into(),
            Need::EveryEvent => "events = \"all\"".into(),
        }
    }
}
