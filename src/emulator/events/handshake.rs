//! Whether a webhook has agreed to get events: asked, answered, confirmed by its address, asked again.
//!
//! Pure: times and codes are passed in. Nothing is posted to a webhook that has not agreed. Used by `hook`.

use std::time::Duration;

use serde_json::{Value, json};

use super::envelope::Consent;
use crate::clock::Timestamp;
use crate::retry::Backoff;

/// How long the address in the question works.
const VALIDATION_URL: Duration = Duration::from_mins(10);
/// How soon an unwilling webhook is asked again: one that is still being started should not wait long.
const ASK_AGAIN: Backoff = Backoff { first: Duration::from_secs(1), cap: Duration::from_secs(10) };

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Pending,
    AwaitingManualAction,
    Validated,
}

/// How far the handshake with a webhook is.
#[derive(Debug)]
pub(super) struct Handshake {
    state: State,
    /// The code of the last question.
    code: String,
    asked: Timestamp,
    /// Whether the address in the last question was called.
    confirmed: bool,
    attempts: u32,
    next: Timestamp,
    last: Option<String>,
}

impl Handshake {
    pub(super) fn new() -> Self {
        Self {
            state: State::Pending,
            code: String::new(),
            asked: Timestamp::default(),
            confirmed: false,
            attempts: 0,
            next: Timestamp::default(),
            last: None,
        }
    }

    pub(super) fn is_done(&self) -> bool {
        self.state == State::Validated
    }

    /// When it is time to ask.
    pub(super) fn next(&self) -> Timestamp {
        self.next
    }

    /// The webhook is being asked, with this code.
    pub(super) fn ask(&mut self, code: &str, now: Timestamp) {
        self.state = State::Pending;
        code.clone_into(&mut self.code);
        self.asked = now;
        self.confirmed = false;
        self.attempts = self.attempts.saturating_add(1);
    }

    /// The webhook answered, in these words.
    pub(super) fn answered(&mut self, consent: Consent, words: String, now: Timestamp) {
        self.last = Some(words);
        self.state = match consent {
            Consent::Given => State::Validated,
            // Some call the address before they have answered; that is not for nothing.
            Consent::Open if self.confirmed => State::Validated,
            Consent::Open => State::AwaitingManualAction,
            Consent::Refused => State::Pending,
        };
        match self.state {
            State::AwaitingManualAction => self.next = self.asked.plus(VALIDATION_URL),
            State::Pending => {
                self.code.clear();
                self.next = now.plus(ASK_AGAIN.delay(self.attempts, 1.0));
            }
            State::Validated => {}
        }
    }

    /// The address in the question was called. True if the code is that of the last question and not too old.
    pub(super) fn confirm(&mut self, code: &str, now: Timestamp) -> bool {
        if self.code.is_empty() || self.code != code || now >= self.asked.plus(VALIDATION_URL) {
            return false;
        }
        self.confirmed = true;
        if self.state == State::AwaitingManualAction {
            self.state = State::Validated;
        }
        true
    }

    /// For the list of webhooks.
    pub(super) fn listing(&self) -> Value {
        let state = match self.state {
            State::Pending => "pending",
            State::AwaitingManualAction => "awaiting_manual_action",
            State::Validated => "validated",
        };
        json!({ "state": state, "attempts": self.attempts, "last": self.last })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Timestamp = Timestamp::from_millis(1_795_348_800_000);

    fn asked(code: &str) -> Handshake {
        let mut handshake = Handshake::new();
        handshake.ask(code, START);
        handshake
    }

    fn answer(handshake: &mut Handshake, consent: Consent, now: Timestamp) {
        handshake.answered(consent, "200".to_owned(), now);
    }

    #[test]
    fn an_answer_that_agrees_is_enough() {
        let mut handshake = asked("a");
        assert!(!handshake.is_done());
        answer(&mut handshake, Consent::Given, START);
        assert!(handshake.is_done());
    }

    #[test]
    fn a_refusal_is_asked_again_with_growing_waits_and_its_code_is_dead() {
        let mut handshake = Handshake::new();
        let mut waits = Vec::new();
        for _ in 0..6 {
            handshake.ask("a", START);
            answer(&mut handshake, Consent::Refused, START);
            waits.push(handshake.next().since(START).as_secs());
            assert!(!handshake.confirm("a", START) && !handshake.is_done());
        }
        assert_eq!(waits, [1, 2, 4, 8, 10, 10]);
        assert_eq!(handshake.listing(), json!({"state": "pending", "attempts": 6, "last": "200"}));
    }

    #[test]
    fn the_address_works_for_ten_minutes_and_only_with_the_code() {
        let almost = START.plus(VALIDATION_URL).minus(Duration::from_millis(1));
        let mut handshake = asked("a");
        answer(&mut handshake, Consent::Open, START);
        assert_eq!(handshake.listing()["state"], "awaiting_manual_action");
        assert!(!handshake.confirm("b", START) && !handshake.confirm("", START));
        assert!(!handshake.confirm("a", START.plus(VALIDATION_URL)) && !handshake.is_done());
        assert_eq!(handshake.next(), START.plus(VALIDATION_URL), "then it is asked again");
        assert!(handshake.confirm("a", almost) && handshake.is_done());
    }

    #[test]
    fn the_address_may_be_called_before_the_answer_but_does_not_replace_it() {
        for (consent, done) in [(Consent::Open, true), (Consent::Refused, false)] {
            let mut handshake = asked("a");
            assert!(handshake.confirm("a", START) && !handshake.is_done());
            answer(&mut handshake, consent, START);
            assert_eq!(handshake.is_done(), done);
        }
    }

    #[test]
    fn without_a_question_there_is_nothing_to_confirm() {
        assert!(!Handshake::new().confirm("", START));
    }
}
