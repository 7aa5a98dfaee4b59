//! Tests of a mail's parts: names of files, pictures in place, and the bounds of both.

use proptest::prelude::*;

use super::*;

fn text(answer: &Answer) -> String {
    String::from_utf8(answer.body.to_vec()).unwrap()
}

fn header<'a>(answer: &'a Answer, name: &str) -> &'a str {
    answer.headers.iter().find(|(each, _)| *each == name).map(|(_, value)| value.as_str()).unwrap()
}

pub(in super::super) fn file(name: &str, content_type: &str, id: &str, bytes: &'static [u8]) -> Attachment {
    Attachment {
        name: name.to_owned(),
        content_type: content_type.to_owned(),
        bytes: hyper::body::Bytes::from_static(bytes),
        content_id: Some(id.to_owned()),
    }
}

fn picture(id: &str, content_type: &str, bytes: &'static [u8]) -> Attachment {
    file("picture", content_type, id, bytes)
}

#[test]
fn names_of_files_are_one_plain_name() {
    for (given, kept) in [
        ("report.pdf", "report.pdf"),
        ("../../etc/passwd", "passwd"),
        ("C:\\Windows\\system32\\evil.exe", "evil.exe"),
        ("invoice\u{202e}fdp.exe", "invoicefdp.exe"),
        ("a\r\nSet-Cookie: x=1.txt", "aSet-Cookie_ x=1.txt"),
        ("\"; filename=\"x.html", "__ filename=_x.html"),
        (".bashrc", "bashrc"),
        ("...", "attachment"),
        ("", "attachment"),
        ("dir/", "attachment"),
        ("NUL.txt", "_NUL.txt"),
        ("com1", "_com1"),
        ("Größe 日本.png", "Größe 日本.png"),
    ] {
        assert_eq!(file_name(given), kept, "{given:?}");
    }
}

#[test]
fn attachments_are_bytes_to_keep_whatever_they_are() {
    let answer = attachment(file("Größe \"1\".html", "text/html", "", b"<script>"));
    assert_eq!(answer.content_type, Some("application/octet-stream"));
    assert_eq!(
        header(&answer, "content-disposition"),
        "attachment; filename=\"Gr__e _1_.html\"; filename*=UTF-8''Gr%C3%B6%C3%9Fe%20_1_.html"
    );
}

#[test]
fn no_part_of_a_mail_is_a_document() {
    for answer in [preview("<p>Hello", std::iter::empty()), source("<p>Hello".to_owned())] {
        assert_eq!(answer.content_type, Some("text/plain; charset=utf-8"));
        assert_eq!(text(&answer), "<p>Hello");
        assert!(header(&answer, "content-security-policy").ends_with("; sandbox"));
    }
}

#[test]
fn pictures_of_the_mail_are_put_in_place_and_nothing_else_is() {
    let html = "<img src=CID:logo-2><img src='cid:logo'><img src=cid:page><img src=cid:drawing><img src=cid:none> placid:logo";
    let files = [
        picture("<logo>", "image/png", b"1"),
        picture("logo-2", "IMAGE/GIF; name=x", b"2"),
        picture("page", "text/html", b"3"),
        picture("drawing", "image/svg+xml", b"4"),
    ];
    let shown = text(&preview(html, files.into_iter()));
    let wanted = "<img src=data:image/gif;base64,Mg==><img src='data:image/png;base64,MQ=='><img src=cid:page>\
                  <img src=cid:drawing><img src=cid:none> pladata:image/png;base64,MQ==";
    assert!(shown.ends_with(wanted), "{shown}");
}

#[test]
fn one_large_picture_named_many_times_does_not_grow_without_end() {
    let large: &'static [u8] = vec![0; 1024 * 1024].leak();
    let html = "<img src=cid:a>".repeat(10_000);
    let answer = preview(&html, std::iter::once(picture("a", "image/png", large)));
    assert!(answer.body.len() < LARGEST_PREVIEW + html.len() + 2048, "{}", answer.body.len());
}

proptest! {
    #[test]
    fn any_name_becomes_a_name_and_stays_one(name in ".*|[./\\\\:a-z\u{202e}\r\n\"]{0,300}") {
        let kept = file_name(&name);
        prop_assert!(!kept.is_empty());
        prop_assert!(kept.chars().count() <= LONGEST_NAME + 1);
        prop_assert!(!kept.contains(['/', '\\', '"', '\r', '\n', '\0']));
        prop_assert!(!kept.starts_with('.'));
        let header = header(&attachment(file(&name, "", "", b"")), "content-disposition").to_owned();
        prop_assert!(http::HeaderValue::from_str(&header).is_ok(), "{header:?}");
    }

    #[test]
    fn a_mail_without_pictures_is_left_as_it_is(html in ".*") {
        prop_assert_eq!(with_pictures(&html, &[]), html.clone());
        prop_assert_eq!(with_pictures(&html, &[("no such id at all".to_owned(), String::new())]), html);
    }
}
