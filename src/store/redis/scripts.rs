//! The scripts that make several steps one: their texts are in `scripts/`, each with its contract at the top.
//!
//! Every script touches keys of one slot only, so they run in a Cluster too. A script is named by its hash; only a
//! server that does not know it is sent the text. Used by the ports' files.

use redis::{Script, ToRedisArgs};

use super::command::Command;

/// A script, its text and its name in metrics.
pub(super) struct Named {
    operation: &'static str,
    source: &'static str,
    script: Script,
}

impl Named {
    fn new(operation: &'static str, source: &'static str) -> Self {
        Self { operation, source, script: Script::new(source) }
    }

    /// The command that runs the script on these keys, which are in the slot of the first.
    pub(super) fn on<const N: usize>(&self, keys: [String; N], arguments: impl ToRedisArgs) -> Command {
        self.on_all(keys.into(), arguments)
    }

    /// The same for any number of keys, at least one.
    pub(super) fn on_all(&self, keys: Vec<String>, arguments: impl ToRedisArgs) -> Command {
        Command::script(self.operation, &self.script, self.source, keys, arguments)
    }

    /// Its name in metrics.
    pub(super) const fn operation(&self) -> &'static str {
        self.operation
    }
}

/// All of them, hashed once.
pub(super) struct Scripts {
    pub(super) insert: Named,
    pub(super) advance: Named,
    pub(super) remove: Named,
    pub(super) claim: Named,
    pub(super) disclaim: Named,
    pub(super) put: Named,
    pub(super) begin: Named,
    pub(super) finish: Named,
    pub(super) abandon: Named,
    pub(super) take: Named,
    pub(super) acquire: Named,
    pub(super) renew: Named,
    pub(super) release: Named,
    pub(super) mark: Named,
    pub(super) keep: Named,
    pub(super) replace: Named,
    pub(super) drop: Named,
    pub(super) link: Named,
    pub(super) due: Named,
    pub(super) append: Named,
    pub(super) end: Named,
    pub(super) after: Named,
    pub(super) fair: Named,
    pub(super) pause: Named,
    pub(super) give_back: Named,
}

impl Scripts {
    pub(super) fn new() -> Self {
        let delete_if = include_str!("scripts/delete_if.lua");
        let fair = include_str!("scripts/fair.lua");
        Self {
            insert: Named::new("insert_if_absent", include_str!("scripts/insert.lua")),
            advance: Named::new("advance_generation", include_str!("scripts/advance.lua")),
            remove: Named::new("remove", include_str!("scripts/remove.lua")),
            claim: Named::new("claim_identity", include_str!("scripts/claim.lua")),
            disclaim: Named::new("disclaim_identity", delete_if),
            put: Named::new("put_token", include_str!("scripts/put.lua")),
            begin: Named::new("ledger_begin", include_str!("scripts/begin.lua")),
            finish: Named::new("ledger_finish", include_str!("scripts/finish.lua")),
            abandon: Named::new("ledger_abandon", delete_if),
            take: Named::new("budget_take", include_str!("scripts/take.lua")),
            acquire: Named::new("lease_acquire", include_str!("scripts/acquire.lua")),
            renew: Named::new("lease_renew", include_str!("scripts/renew.lua")),
            release: Named::new("lease_release", delete_if),
            mark: Named::new("mark", include_str!("scripts/mark.lua")),
            keep: Named::new("message_insert", include_str!("scripts/keep.lua")),
            replace: Named::new("message_replace", include_str!("scripts/replace.lua")),
            drop: Named::new("message_remove", include_str!("scripts/drop.lua")),
            link: Named::new("message_link", include_str!("scripts/link.lua")),
            due: Named::new("message_take_due", include_str!("scripts/due.lua")),
            append: Named::new("event_append", include_str!("scripts/append.lua")),
            end: Named::new("event_end", include_str!("scripts/end.lua")),
            after: Named::new("event_read", include_str!("scripts/after.lua")),
            fair: Named::new("fair_take", fair),
            pause: Named::new("fair_pause", fair),
            give_back: Named::new("fair_give_back", fair),
        }
    }
}
