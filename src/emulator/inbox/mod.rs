//! Stand-in.

use super::answer::{self, Answer};
use super::service::Shared;

pub(super) fn handle(_shared: &Shared, path: &[&str]) -> Option<Answer> {
    matches!(path, [] | [""]).then(|| answer::content("text/html; charset=utf-8", "<!doctype html>"))
}
