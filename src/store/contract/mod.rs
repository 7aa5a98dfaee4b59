//! The behaviour suite of the stores: every sentence of the ports' contracts, run on every backend.
//!
//! A backend gives a factory of [`Harness`]es and calls `contract_suite!`, which makes one test per rule, or
//! [`run_all`], where starting the backend is costly. A rule uses names nobody else uses, so that all rules can share
//! one store. Time is moved where it can be; on a backend with a time of its own, rules wait for a condition.

pub(crate) mod budget;
pub(crate) mod events;
pub(crate) mod fair;
pub(crate) mod leases;
pub(crate) mod ledger;
pub(crate) mod mapping;
pub(crate) mod messages;
pub(crate) mod tokens;

use std::any::Any;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::broker::ports::{Inserted, Stores};
use crate::broker::types::{
    AccessToken, CachedToken, IdentityId, IdentityRecord, KeyId, Scope, ScopeSet, TokenKey, UserId, Validity,
};
use crate::clock::{Clock, ManualClock, SystemClock, Timestamp};
use crate::messaging::ports::{FairBudget, MessageStores};
use crate::secret::Secret;
use crate::store::Opened;

/// How the time of a backend passes.
pub(crate) enum Time {
    /// When the test moves it.
    Manual(Arc<ManualClock>),
    /// By itself.
    #[allow(dead_code, reason = "for the backends, of which a build may leave some out")]
    Real,
}

/// One backend under test.
pub(crate) struct Harness {
    pub(crate) stores: Stores,
    pub(crate) messages: MessageStores,
    pub(crate) time: Time,
    /// Fair budgets by a clock of their own, where the backend's time cannot be moved.
    simulated: Option<(Arc<dyn FairBudget>, Arc<ManualClock>)>,
    /// What must live as long as the stores: a server, a folder.
    _keep: Box<dyn Any + Send + Sync>,
    run: u64,
    names: AtomicU64,
}

impl Harness {
    pub(crate) fn new(opened: Opened, time: Time, keep: impl Any + Send + Sync) -> Self {
        let Opened { core: stores, messages, key_ring: _ } = opened;
        Self {
            stores,
            messages,
            time,
            simulated: None,
            _keep: Box::new(keep),
            run: rand::random(),
            names: AtomicU64::new(0),
        }
    }

    /// The same with fair budgets that go by this clock.
    #[allow(dead_code, reason = "for the backends, of which a build may leave some out")]
    pub(crate) fn with_simulated(self, budgets: Arc<dyn FairBudget>, clock: Arc<ManualClock>) -> Self {
        Self { simulated: Some((budgets, clock)), ..self }
    }

    /// Fair budgets and the clock they go by.
    fn simulated(&self) -> (Arc<dyn FairBudget>, Arc<ManualClock>) {
        match (&self.simulated, &self.time) {
            (Some((budgets, clock)), _) => (budgets.clone(), clock.clone()),
            (None, Time::Manual(clock)) => (self.messages.budgets.clone(), clock.clone()),
            (None, Time::Real) => panic!("this backend's time cannot be moved"),
        }
    }

    /// A name nobody used before.
    fn name(&self, stem: &str) -> String {
        format!("{stem}-{:x}-{}", self.run, self.names.fetch_add(1, Ordering::Relaxed))
    }

    fn user(&self) -> UserId {
        UserId::parse(&self.name("user")).unwrap()
    }

    fn record(&self) -> IdentityRecord {
        IdentityRecord {
            identity: IdentityId::parse(&self.name("8:acs:resource_")).unwrap(),
            generation: 0,
            created_at: Timestamp::from_millis(1_600_000_000_000),
        }
    }

    /// A user with a record in the mapping.
    async fn mapped(&self) -> (UserId, IdentityRecord) {
        let (user, record) = (self.user(), self.record());
        assert_eq!(self.insert(&user, &record).await, Inserted::New);
        (user, record)
    }

    async fn insert(&self, user: &UserId, record: &IdentityRecord) -> Inserted {
        self.stores.identities.insert_if_absent(user, record).await.unwrap()
    }

    async fn find(&self, user: &UserId) -> Option<IdentityRecord> {
        self.stores.identities.find(user).await.unwrap()
    }

    fn now(&self) -> Timestamp {
        match &self.time {
            Time::Manual(clock) => clock.now(),
            Time::Real => SystemClock.now(),
        }
    }

    /// Moves the time where it can be moved. Elsewhere it passes by itself: wait with [`Self::until`].
    fn elapse(&self, by: Duration) {
        if let Time::Manual(clock) = &self.time {
            clock.advance(by);
        }
    }

    /// Waits until `condition` holds; fails after a while.
    async fn until<F: Future<Output = bool>>(&self, what: &str, mut condition: impl FnMut() -> F) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while !condition().await {
            assert!(Instant::now() < deadline, "did not happen in time: {what}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// A token for this record that lives for `life`.
    fn token(&self, record: &IdentityRecord, text: &str, life: Duration) -> CachedToken {
        let now = self.now();
        CachedToken {
            identity: record.identity.clone(),
            generation: record.generation,
            token: AccessToken {
                secret: Secret::new(text),
                issued_at: now,
                expires_at: now.plus(life),
                key: KeyId(*b"the key!"),
            },
        }
    }

    async fn put(&self, user: &UserId, key: &TokenKey, token: &CachedToken) -> bool {
        self.stores.tokens.put(user, key, token).await.unwrap()
    }

    /// The token a look-up gives; it must fit the record that it gives.
    async fn cached(&self, user: &UserId, key: &TokenKey) -> Option<CachedToken> {
        let found = self.stores.tokens.look_up(user, key).await.unwrap();
        if let Some(token) = &found.token {
            let record = found.record.expect("a token without a record");
            assert_eq!((&token.identity, token.generation), (&record.identity, record.generation));
        }
        found.token
    }
}

const HOUR: Duration = Duration::from_secs(3600);
/// Long enough for nothing to expire while a rule runs.
const LONG: Duration = Duration::from_secs(600);
/// Short enough to wait for.
const SHORT: Duration = Duration::from_millis(200);

fn token_key(scopes: &[Scope], minutes: u64) -> TokenKey {
    TokenKey {
        scopes: ScopeSet::new(scopes.iter().copied()).unwrap(),
        validity: Validity::from_minutes(minutes).unwrap(),
    }
}

fn chat() -> TokenKey {
    token_key(&[Scope::Chat], 1440)
}

/// Names that are special somewhere: in patterns, hash tags, separators, paths, formats.
fn odd_names() -> Vec<String> {
    let mut names: Vec<String> = [
        "{",
        "}",
        "{}",
        "{a}",
        "}{",
        "a{b}c",
        "{{a}}",
        ":",
        "::",
        "a:",
        ":a",
        "a:b",
        "*",
        "a*",
        "?",
        "[a]",
        "[^a]",
        "\\",
        "\\*",
        "\"",
        "'",
        "`",
        "%",
        "%00",
        "%s",
        "$1",
        "..",
        "../a",
        "/",
        "a/b",
        "a b",
        "a|b",
        "a,b",
        "a;b",
        "0",
        "-1",
        "null",
        "user@example.com",
        "é",
        "e\u{301}",
        "ß",
        "SS",
        "ss",
        "I",
        "ı",
        "i",
        "🦀",
        "日本語",
        "\u{200d}",
        "\u{10ffff}",
        "a",
        "aa",
        "A",
    ]
    .map(String::from)
    .to_vec();
    names.push("x".repeat(256));
    names.push("x".repeat(255));
    names.push("ü".repeat(128));
    names.push("{".repeat(256));
    names
}

/// All rules: `contract_rules!([some_macro] args)` calls `some_macro!` with the list.
macro_rules! contract_rules {
    ([$($with:tt)*] $($args:tt)*) => {
        $($with)*! { $($args)* ;
            mapping::an_unknown_user_and_an_unknown_identity_are_not_found
            mapping::a_record_is_found_by_its_user_and_by_its_identity
            mapping::of_100_concurrent_insertions_for_a_user_one_is_new_and_the_others_see_it
            mapping::of_100_users_who_want_one_identity_one_gets_it
            mapping::an_existing_record_wins_over_a_conflict_of_identities
            mapping::the_losers_identity_stays_free
            mapping::a_generation_grows_by_one_each_time_and_changes_nothing_else
            mapping::a_generation_carries_into_its_higher_bytes_and_stops_at_the_last
            mapping::concurrent_advances_all_count
            mapping::advancing_needs_the_expected_identity
            mapping::removal_needs_the_expected_identity_and_frees_both_names
            mapping::of_concurrent_removals_one_removes
            mapping::odd_names_stay_apart
            mapping::pages_hold_every_entry_once_in_a_stable_order_and_at_most_the_limit
            mapping::an_entry_that_exists_throughout_is_listed_once_while_others_come_and_go
            mapping::a_cursor_of_the_longest_name_is_short_enough
            mapping::foreign_cursors_are_refused
            mapping::a_store_that_answers_is_fit
            tokens::a_token_is_found_with_the_record_it_was_put_for
            tokens::scopes_and_validities_are_kept_apart
            tokens::the_keys_of_a_users_tokens_are_known
            tokens::users_with_odd_names_have_their_own_tokens
            tokens::a_newer_token_replaces_an_older_one
            tokens::a_token_of_another_generation_identity_or_user_is_not_kept
            tokens::a_revocation_ends_every_token_of_the_user_and_of_nobody_else
            tokens::a_user_mapped_again_gets_no_token_of_before
            tokens::an_expired_token_is_neither_kept_nor_given
            tokens::a_long_token_is_kept_whole
            tokens::a_put_that_races_a_revocation_leaves_no_older_token
            tokens::a_put_that_races_a_removal_leaves_no_token_of_the_old_identity
            tokens::a_look_up_sees_one_point_in_time
            ledger::a_request_is_started_once_and_in_progress_for_the_others
            ledger::of_100_concurrent_beginners_one_starts
            ledger::another_digest_is_reuse_before_and_after_the_end
            ledger::a_finished_request_answers_with_its_outcome
            ledger::an_abandoned_request_can_be_started_again
            ledger::a_finished_request_stays_finished_when_abandoned
            ledger::the_first_outcome_stays
            ledger::an_unfinished_reservation_lapses
            ledger::an_outcome_is_recorded_after_the_reservation_lapsed
            ledger::an_outcome_is_forgotten_after_its_time
            ledger::names_with_odd_parts_stay_apart
            ledger::an_outcome_of_1_mib_is_kept_whole
            budget::what_is_allowed_is_taken_and_no_more
            budget::of_100_concurrent_takers_only_as_many_as_fit_go
            budget::a_take_that_one_limit_refuses_takes_nothing_from_the_others
            budget::in_no_window_is_more_than_the_maximum_taken
            budget::after_the_wait_it_fits_again
            budget::a_cost_that_never_fits_is_refused_and_nothing_is_taken
            budget::no_limit_and_no_cost_always_go
            budget::buckets_with_odd_names_stay_apart
            leases::a_lease_is_exclusive
            leases::of_100_concurrent_wishes_one_is_granted
            leases::a_released_lease_is_granted_again_with_a_larger_fence
            leases::only_its_holder_releases_a_lease
            leases::a_lease_ends_by_itself_and_its_fence_grows
            leases::a_renewed_lease_lasts_longer
            leases::only_its_holder_renews_a_lease
            leases::leases_with_odd_names_stay_apart
            messages::a_message_is_kept_once_and_the_first_record_stays
            messages::of_100_concurrent_insertions_one_is_kept_and_the_others_see_it
            messages::a_message_changes_only_at_the_version_expected
            messages::of_concurrent_replacements_of_a_version_one_succeeds
            messages::a_message_is_removed_only_at_the_version_expected
            messages::a_message_is_forgotten_after_its_time
            messages::a_replacement_is_kept_for_its_own_time
            messages::a_message_of_half_a_mebibyte_is_kept_whole
            messages::messages_with_odd_ids_stay_apart
            messages::ids_of_acs_lead_to_their_message_and_part
            messages::links_with_odd_names_stay_apart
            messages::a_link_is_forgotten_after_its_time
            messages::what_is_due_is_taken_oldest_first_and_put_off
            messages::the_last_wish_to_be_looked_at_counts
            messages::of_concurrent_takers_each_due_message_has_one
            events::events_are_read_in_the_order_they_were_appended
            events::an_event_is_appended_once_for_its_key
            events::of_100_concurrent_appends_with_one_key_one_succeeds
            events::concurrent_appends_are_all_read_once
            events::a_key_is_forgotten_after_its_time
            events::events_with_odd_keys_stay_apart
            events::events_that_are_old_go_and_a_reader_learns_that
            events::a_reader_sees_all_that_came_after_a_place_or_that_something_is_missing
            events::what_is_no_place_of_this_log_is_foreign
            events::an_event_of_256_kib_is_kept_whole
            fair::one_caller_alone_gets_all_there_is_and_no_more
            fair::of_100_concurrent_takers_of_10_callers_only_as_many_as_fit_go
            fair::what_one_limit_refuses_is_not_taken_from_the_others
            fair::what_never_fits_is_refused_and_what_costs_nothing_goes
            fair::a_caller_leaves_another_one_its_share
            fair::fair_buckets_and_callers_with_odd_names_stay_apart
            fair::what_is_given_back_is_free_again_and_nothing_else_is
            fair::two_who_begin_together_share_the_very_first_window
            fair::who_is_known_has_its_share_of_the_window_that_begins_with_its_first_ask
            fair::whom_nobody_joined_may_take_all_at_once
            fair::while_a_bucket_is_paused_nobody_gets_anything
            fair::a_fair_budget_comes_back_after_the_wait
            fair::a_flood_does_not_take_anothers_share
            fair::who_wants_less_than_its_share_gets_it_and_the_others_the_rest
            fair::units_that_cannot_be_divided_go_in_turn
            fair::more_callers_than_units_take_turns
            fair::a_batch_larger_than_a_share_gets_through_a_flood
            fair::who_comes_late_has_its_share_within_a_window_or_two
            fair::the_share_of_who_has_gone_is_the_others
            fair::shares_hold_under_two_limits_and_neither_is_passed
            fair::callers_who_come_back_when_told_share_it_all
        }
    };
}

macro_rules! one_test_per_rule {
    ($factory:path ; $($area:ident :: $rule:ident)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $rule() {
                let harness = $factory().await;
                $crate::store::contract::$area::$rule(&harness).await;
            }
        )*
    };
}

macro_rules! run_each_rule {
    ($harness:expr ; $($area:ident :: $rule:ident)*) => {
        $(
            println!("{}", stringify!($rule));
            $area::$rule($harness).await;
        )*
    };
}

/// One test per rule on the backend of this factory, an `async fn() -> Harness`.
macro_rules! contract_suite {
    ($factory:path) => {
        $crate::store::contract::contract_rules! { [$crate::store::contract::one_test_per_rule] $factory }
    };
}

#[allow(unused_imports, reason = "for the backends, of which a build may leave some out")]
pub(crate) use {contract_rules, contract_suite, one_test_per_rule};

/// Every rule in turn on one store, for backends that are slow to start.
#[allow(dead_code, reason = "for the backends, of which a build may leave some out")]
#[allow(clippy::large_stack_frames, clippy::large_futures, reason = "a test")]
pub(crate) async fn run_all(harness: &Harness) {
    contract_rules! { [run_each_rule] harness }
}
