//! A JSON text laid out for reading, with nothing changed: order, numbers and doubled names stay as they were received.
//!
//! Pure. What is no JSON comes out as some text. Used by `email` to show a request as it came in.

/// `json` with a line for each value, two blanks for each level.
pub(super) fn pretty(json: &str) -> String {
    let mut out = String::with_capacity(json.len().saturating_mul(5) / 4);
    let mut depth = 0_usize;
    let (mut in_string, mut is_escaped, mut is_opened) = (false, false, false);
    for c in json.chars() {
        if in_string {
            out.push(c);
            in_string = is_escaped || c != '"';
            is_escaped = !is_escaped && c == '\\';
            continue;
        }
        if c.is_ascii_whitespace() {
            continue;
        }
        let is_end = matches!(c, '}' | ']');
        if is_end {
            depth = depth.saturating_sub(1);
        }
        // An empty object or list stays on its line.
        if is_end != is_opened {
            new_line(&mut out, depth);
        }
        is_opened = matches!(c, '{' | '[');
        out.push(c);
        match c {
            '{' | '[' => depth = depth.saturating_add(1),
            ',' => new_line(&mut out, depth),
            ':' => out.push(' '),
            '"' => in_string = true,
            _ => {}
        }
    }
    out
}

fn new_line(out: &mut String, depth: usize) {
    out.push('\n');
    for _ in 0..depth {
        out.push_str("  ");
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "[\\\\\"{}\\[\\],: a-zä😀\n]{0,12}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 40, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::vec(("[a-z\\\\\"{]{0,4}", inner), 0..5)
                    .prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_laid_out_says_the_same(value in json()) {
            let expected = serde_json::to_string_pretty(&value).unwrap();
            prop_assert_eq!(pretty(&value.to_string()), expected.as_str());
            prop_assert_eq!(pretty(&expected), expected);
        }

        #[test]
        fn no_text_is_a_problem(text in "[{}\\[\\],:\"\\\\a ]{0,60}") {
            pretty(&text);
        }
    }

    #[test]
    fn order_and_numbers_stay() {
        assert_eq!(pretty(r#"{"b":1.50,"a":[],"b":{}}"#), "{\n  \"b\": 1.50,\n  \"a\": [],\n  \"b\": {}\n}");
    }
}
