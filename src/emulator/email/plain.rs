//! What is left of HTML without its tags, for lists and searches.
//!
//! Pure, in one pass, and no parser of HTML: good enough to find words in, never to be shown as HTML. Used by `email`.

/// The text of `html`: tags, comments, scripts and styles are gone, the commonest entities are characters, and
/// whitespace is one blank.
pub(super) fn text(html: &str) -> String {
    let mut text = String::new();
    let mut rest = html;
    while let Some((before, tag)) = rest.split_once('<') {
        text.push_str(before);
        text.push(' ');
        rest = after_tag(tag);
    }
    text.push_str(rest);
    // The ampersand last, so that what it gives is not read again.
    for (entity, character) in
        [("&nbsp;", " "), ("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&#39;", "'"), ("&amp;", "&")]
    {
        text = text.replace(entity, character);
    }
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ")
}

/// What follows a tag whose `<` was read, with all that belongs to it: the inside of a comment, script or style.
fn after_tag(tag: &str) -> &str {
    if let Some(comment) = tag.strip_prefix("!--") {
        return comment.split_once("-->").map_or("", |(_, rest)| rest);
    }
    let Some((_, rest)) = tag.split_once('>') else { return "" };
    let names = |name: &str| {
        tag.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name))
            && !tag.as_bytes().get(name.len()).is_some_and(u8::is_ascii_alphanumeric)
    };
    for name in ["script", "style", "head"] {
        if names(name) {
            return after_end(rest, name);
        }
    }
    rest
}

/// What follows `</name`; nothing if it never comes.
fn after_end<'h>(html: &'h str, name: &str) -> &'h str {
    for (at, _) in html.match_indices("</") {
        let Some(end) = html.get(at.saturating_add(2)..) else { return "" };
        if end.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name)) {
            return end.split_once('>').map_or("", |(_, rest)| rest);
        }
    }
    ""
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn words_stay_and_tags_go() {
        for (html, expected) in [
            ("", ""),
            ("plain", "plain"),
            ("<p>Your code is&nbsp;<b>42</b>.</p>\n<p>Bye</p>", "Your code is 42 . Bye"),
            ("<html><head><title>T</title></head><body><h1>Hello</h1></body></html>", "Hello"),
            ("<header>Top</header>", "Top"),
            ("a<STYLE type=x>b{}</Style >c<script>if (1<2) {}</script>d", "a c d"),
            ("a<!-- > b -->c", "a c"),
            ("1 &lt; 2 &amp;amp; 3", "1 < 2 &amp; 3"),
            ("a<script>never ends", "a"),
            ("a<b", "a"),
        ] {
            assert_eq!(text(html), expected, "{html:?}");
        }
    }

    proptest! {
        #[test]
        fn text_without_tags_stays(words in prop::collection::vec("[a-zA-Zäж😀0-9.]{1,8}", 0..20)) {
            let plain = words.join(" ");
            prop_assert_eq!(text(&plain), plain.clone());
            let tagged: Vec<String> = words.iter().map(|word| format!("<p class=\"x\">{word}</p>")).collect();
            prop_assert_eq!(text(&tagged.concat()), plain);
        }

        #[test]
        fn hostile_html_is_no_problem(html in "[<>/!a-z&;\"'é -]{0,80}") {
            text(&html);
        }
    }
}
