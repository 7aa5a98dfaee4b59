//! Cuts Rust source into words, marks and plain texts, without comments and test code.
//!
//! Enough of a lexer for the architecture test, no more: it must not be fooled by a path inside a comment or a string,
//! by a lifetime that looks like a character, or by raw strings. It never fails: what it does not know is a mark.

/// A word, a number, a text in its quotes or a single mark, with the line it stands on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) text: String,
    pub(crate) line: usize,
}

impl Token {
    pub(crate) fn is(&self, text: &str) -> bool {
        self.text == text
    }

    /// Whether it is a name or a keyword. Raw identifiers have lost their `r#` already.
    pub(crate) fn is_word(&self) -> bool {
        self.text.starts_with(|c: char| c.is_alphabetic() || c == '_')
    }
}

/// All tokens of a source text.
pub(crate) fn tokens(source: &str) -> Vec<Token> {
    let chars: Vec<char> = source.chars().collect();
    let mut found = Vec::new();
    let (mut at, mut line) = (0, 1);
    while at < chars.len() {
        let start = at;
        let token = match chars[at] {
            c if c.is_whitespace() => {
                at += 1;
                None
            }
            '/' if peek(&chars, at + 1) == '/' => {
                while at < chars.len() && chars[at] != '\n' {
                    at += 1;
                }
                None
            }
            '/' if peek(&chars, at + 1) == '*' => {
                at = after_block_comment(&chars, at);
                None
            }
            '"' => {
                at = after_text(&chars, at);
                Some(chars[start..at].iter().collect())
            }
            '\'' => {
                at = after_quote(&chars, at);
                None
            }
            c if c.is_alphanumeric() || c == '_' => {
                while is_name(peek(&chars, at)) {
                    at += 1;
                }
                let word: String = chars[start..at].iter().collect();
                match after_prefixed_text(&chars, &word, at) {
                    Some(end) => {
                        at = end;
                        None
                    }
                    None if word == "r" && peek(&chars, at) == '#' && is_name(peek(&chars, at + 1)) => {
                        at += 1;
                        None
                    }
                    None => Some(word),
                }
            }
            ':' if peek(&chars, at + 1) == ':' => {
                at += 2;
                Some("::".to_owned())
            }
            mark => {
                at += 1;
                Some(mark.to_string())
            }
        };
        if let Some(text) = token {
            found.push(Token { text, line });
        }
        line += chars[start..at].iter().filter(|c| **c == '\n').count();
    }
    found
}

/// The tokens without items that exist in tests only: those behind `#[cfg(test)]`, `#[cfg(all(test, …))]` or
/// `#[cfg(any(fuzzing, test))]`, `#[test]`.
/// With them come the modules declared so, whose files are test code as a whole: by name, or as `"path"` in its quotes.
pub(crate) fn without_tests(tokens: &[Token]) -> (Vec<Token>, Vec<String>) {
    let (mut kept, mut test_modules) = (Vec::new(), Vec::new());
    let mut at = 0;
    while at < tokens.len() {
        if !is_test_attribute(&tokens[at..]) {
            kept.push(tokens[at].clone());
            at += 1;
            continue;
        }
        let mut place = None;
        while starts_with(&tokens[at..], &["#", "["]) {
            if starts_with(&tokens[at..], &["#", "[", "path", "="]) {
                place = tokens.get(at + 4);
            }
            at = after_group(tokens, at + 1);
        }
        let item = at;
        while at < tokens.len() && !tokens[at].is(";") && !tokens[at].is("{") && !tokens[at].is("}") {
            at = match tokens[at].text.as_str() {
                "(" | "[" => after_group(tokens, at),
                _ => at + 1,
            };
        }
        match tokens.get(at) {
            Some(end) if end.is("{") => at = after_group(tokens, at),
            Some(end) if end.is(";") => {
                if let Some(name) = tokens[item..at].iter().skip_while(|t| !t.is("mod")).nth(1) {
                    test_modules.push(place.unwrap_or(name).text.clone());
                }
                at += 1;
            }
            _ => {}
        }
    }
    (kept, test_modules)
}

/// The place after the group that opens at `at`.
fn after_group(tokens: &[Token], mut at: usize) -> usize {
    let mut depth = 0_usize;
    while at < tokens.len() {
        match tokens[at].text.as_str() {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth = depth.saturating_sub(1),
            _ => {}
        }
        at += 1;
        if depth == 0 {
            break;
        }
    }
    at
}

fn starts_with(tokens: &[Token], texts: &[&str]) -> bool {
    tokens.len() >= texts.len() && tokens.iter().zip(texts).all(|(token, text)| token.is(text))
}

fn is_test_attribute(tokens: &[Token]) -> bool {
    starts_with(tokens, &["#", "[", "cfg", "(", "test", ")", "]"])
        || starts_with(tokens, &["#", "[", "cfg", "(", "all", "(", "test", ","])
        || starts_with(tokens, &["#", "[", "cfg", "(", "any", "(", "fuzzing", ",", "test", ")", ")", "]"])
        || starts_with(tokens, &["#", "[", "test", "]"])
}

fn peek(chars: &[char], at: usize) -> char {
    chars.get(at).copied().unwrap_or('\0')
}

fn is_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn after_block_comment(chars: &[char], mut at: usize) -> usize {
    let mut depth = 0;
    while at < chars.len() {
        match (chars[at], peek(chars, at + 1)) {
            ('/', '*') => (depth, at) = (depth + 1, at + 2),
            ('*', '/') => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

fn after_text(chars: &[char], mut at: usize) -> usize {
    at += 1;
    while at < chars.len() && chars[at] != '"' {
        at += if chars[at] == '\\' { 2 } else { 1 };
    }
    (at + 1).min(chars.len())
}

/// A character ends within a few places; a lifetime does not end at all.
fn after_quote(chars: &[char], at: usize) -> usize {
    if peek(chars, at + 1) == '\\' {
        let mut end = at + 3;
        while end < chars.len() && chars[end] != '\'' {
            end += 1;
        }
        (end + 1).min(chars.len())
    } else if peek(chars, at + 2) == '\'' {
        at + 3
    } else {
        at + 1
    }
}

/// Texts with a prefix: `b"…"`, `c"…"`, `r"…"`, `br#"…"#`, `b'…'`.
fn after_prefixed_text(chars: &[char], prefix: &str, at: usize) -> Option<usize> {
    match (prefix, peek(chars, at)) {
        ("b" | "c", '"') => Some(after_text(chars, at)),
        ("b", '\'') => Some(after_quote(chars, at)),
        ("r" | "br" | "cr", '"' | '#') => {
            let hashes = chars[at..].iter().take_while(|c| **c == '#').count();
            if peek(chars, at + hashes) != '"' {
                return None;
            }
            let mut end = at + hashes + 1;
            while end < chars.len() {
                if chars[end] == '"'
                    && chars[end + 1..].iter().take(hashes).filter(|c| **c == '#').count() == hashes
                {
                    return Some(end + 1 + hashes);
                }
                end += 1;
            }
            Some(end)
        }
        _ => None,
    }
}
