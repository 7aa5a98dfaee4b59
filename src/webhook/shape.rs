//! Looks at the shape of a JSON text before it is read: how deep it is, and of how many parts.
//!
//! A text of 1 MiB can become a hundred times as much in memory; one that is refused here has cost nothing. It does not
//! judge whether the text is JSON. Used by `server`.

/// The deepest nesting; real events have 5.
const MAX_DEPTH: usize = 32;
/// The most objects and lists, and the most members and items, in a request.
const MAX_CONTAINERS: usize = 20_000;
const MAX_ITEMS: usize = 200_000;

/// Whether it may be read.
pub(super) fn is_sane(text: &[u8]) -> bool {
    let (mut depth, mut containers, mut items) = (0_usize, 0_usize, 0_usize);
    let (mut in_text, mut escaped) = (false, false);
    for byte in text {
        match (in_text, byte) {
            (true, _) if escaped => escaped = false,
            (true, b'\\') => escaped = true,
            (_, b'"') => in_text = !in_text,
            (true, _) => {}
            (false, b'{' | b'[') => {
                depth += 1;
                containers += 1;
            }
            (false, b'}' | b']') => depth = depth.saturating_sub(1),
            (false, b',') => items += 1,
            (false, _) => {}
        }
        if depth > MAX_DEPTH || containers > MAX_CONTAINERS || items > MAX_ITEMS {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_too_deep_or_of_too_many_parts_is_refused() {
        let nested = |depth: usize| [vec![b'['; depth], vec![b']'; depth]].concat();
        assert!(is_sane(&nested(MAX_DEPTH)));
        assert!(!is_sane(&nested(MAX_DEPTH + 1)));
        let many = |count: usize, item: &str| format!("[{}]", vec![item; count].join(","));
        assert!(is_sane(many(MAX_CONTAINERS - 1, "{}").as_bytes()));
        assert!(!is_sane(many(MAX_CONTAINERS, "{}").as_bytes()));
        assert!(is_sane(many(MAX_ITEMS, "1").as_bytes()));
        assert!(!is_sane(many(MAX_ITEMS + 2, "1").as_bytes()));
    }

    #[test]
    fn brackets_inside_texts_count_for_nothing() {
        let text = format!(r#"["{}", "\"{}"]"#, "[".repeat(100), "{".repeat(100));
        assert!(is_sane(text.as_bytes()));
    }

    proptest! {
        #[test]
        fn a_text_that_is_sane_is_never_deeper_than_it_may_be(text in r#"[\[\]{}",\\a]{0,200}"#) {
            if is_sane(text.as_bytes()) && let Ok(value) = serde_json::from_str::<serde_json::Value>(&text) {
                fn depth(value: &serde_json::Value) -> usize {
                    match value {
                        serde_json::Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
                        serde_json::Value::Object(items) => 1 + items.values().map(depth).max().unwrap_or(0),
                        _ => 0,
                    }
                }
                prop_assert!(depth(&value) <= MAX_DEPTH);
            }
        }
    }
}
