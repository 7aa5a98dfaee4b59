//! What a Redis node says of itself in `INFO`: version, mode, role, what it evicts.
//!
//! Pure. Lines that are missing or odd leave a fact unknown; nothing is guessed. Used by `connect` and `check`.

/// Whether a node takes writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// It does.
    Primary,
    /// It copies another.
    Replica,
}

/// The facts that matter here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Facts {
    /// Major and minor version.
    pub(super) version: Option<(u32, u32)>,
    /// Whether it is a node of a Cluster.
    pub(super) cluster: Option<bool>,
    /// Its role.
    pub(super) role: Option<Role>,
    /// What it evicts when memory is full.
    pub(super) policy: Option<String>,
    /// Whether it is still reading its data from disk.
    pub(super) loading: bool,
}

impl Facts {
    /// The facts in the text of `INFO`.
    pub(super) fn read(info: &str) -> Self {
        let mut facts = Self::default();
        for line in info.lines() {
            match line.split_once(':').map(|(name, value)| (name, value.trim())) {
                Some(("redis_version", value)) => {
                    let mut parts = value.split('.').map(|part| part.parse().ok());
                    facts.version = parts.next().flatten().zip(parts.next().flatten());
                }
                Some(("redis_mode", value)) => facts.cluster = Some(value == "cluster"),
                Some(("role", "master")) => facts.role = Some(Role::Primary),
                Some(("role", "slave" | "replica")) => facts.role = Some(Role::Replica),
                Some(("maxmemory_policy", value)) => facts.policy = Some(value.to_owned()),
                Some(("loading", value)) => facts.loading = value == "1",
                _ => {}
            }
        }
        facts
    }

    /// The policy, if it may evict keys that never expire.
    pub(super) fn evicting_policy(&self) -> Option<&str> {
        self.policy.as_deref().filter(|policy| policy.starts_with("allkeys-"))
    }

    /// The policy, if it may evict keys with a time to live: records of messages and of requests among them.
    pub(super) fn policy_that_evicts_messages(&self) -> Option<&str> {
        self.policy.as_deref().filter(|policy| policy.starts_with("volatile-"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_are_read_and_unknown_ones_stay_unknown() {
        let text = "# Server\r\nredis_version:7.0.15\r\nredis_mode:standalone\r\nloading:0\r\nrole:slave\r\n\
                    maxmemory_policy:allkeys-lru\r\n";
        let facts = Facts::read(text);
        assert_eq!(facts.version, Some((7, 0)));
        assert_eq!((facts.cluster, facts.role, facts.loading), (Some(false), Some(Role::Replica), false));
        assert_eq!(facts.evicting_policy(), Some("allkeys-lru"));
        assert_eq!(Facts::read("nonsense\nredis_version:x.y\nrole:"), Facts::default());
    }

    #[test]
    fn only_policies_that_touch_lasting_keys_count_as_evicting() {
        for (policy, evicts) in [
            ("noeviction", false),
            ("volatile-lru", false),
            ("volatile-ttl", false),
            ("allkeys-lru", true),
            ("allkeys-lfu", true),
            ("allkeys-random", true),
        ] {
            let facts = Facts::read(&format!("maxmemory_policy:{policy}"));
            assert_eq!(facts.evicting_policy().is_some(), evicts, "{policy}");
            let messages = facts.policy_that_evicts_messages().is_some();
            assert_eq!(messages, policy.starts_with("volatile"), "{policy}");
        }
    }
}
