//! Values of a plan as a difference shows them: short, and without what may be secret.

use crate::domain::plan::ValueRef;

/// Longest text that is shown whole.
const LONGEST: usize = 80;

/// A length of time without rounding: `2h`, `90s`, `250ms`.
pub(super) fn length(ms: i64) -> String {
    match ms {
        0 => "0s".to_owned(),
        ms if ms % 3_600_000 == 0 => format!("{}h", ms / 3_600_000),
        ms if ms % 60_000 == 0 => format!("{}m", ms / 60_000),
        ms if ms % 1_000 == 0 => format!("{}s", ms / 1_000),
        ms => format!("{ms}ms"),
    }
}

/// A time before or after T-0 without rounding: `T-2h`, `T+90s`.
pub(super) fn planned(ms: i64) -> String {
    if ms < 0 { format!("T-{}", length(ms.saturating_neg())) } else { format!("T+{}", length(ms)) }
}

/// Text in quotes; of a long one the beginning and its length.
pub(super) fn text(text: &impl AsRef<str>) -> String {
    let text = text.as_ref();
    match text.char_indices().nth(LONGEST) {
        None => format!("{text:?}"),
        Some((end, _)) => format!("{:?}.. ({} characters)", &text[..end], text.chars().count()),
    }
}

/// What is there, or `-`.
pub(super) fn option<T: ?Sized>(value: Option<&T>, show: impl FnOnce(&T) -> String) -> String {
    value.map_or_else(|| "-".to_owned(), show)
}

/// Names in a list, or `-`.
pub(super) fn listed(all: &[String]) -> String {
    if all.is_empty() { "-".to_owned() } else { all.join(", ") }
}

/// `yes` or `no`.
pub(super) fn on(flag: bool) -> String {
    if flag { "yes" } else { "no" }.to_owned()
}

/// Text that may hold a secret: that it is there, and how long it is.
pub(super) fn hidden(text: &impl AsRef<str>) -> String {
    format!("*** ({} characters)", text.as_ref().chars().count())
}

/// An address without what may hold a secret: the name of a user, a password, the query.
pub(super) fn address(url: &impl AsRef<str>) -> String {
    let url = url.as_ref();
    let (place, query) = url.split_once(['?', '#']).map_or((url, ""), |(place, _)| (place, "?***"));
    let (scheme, rest) = place.split_once("://").map_or(("", place), |(scheme, rest)| (scheme, rest));
    let (host, path) = rest.split_once('/').map_or((rest, String::new()), |(host, path)| (host, format!("/{path}")));
    let host = host.rsplit_once('@').map_or_else(|| host.to_owned(), |(_, host)| format!("***@{host}"));
    let scheme = if scheme.is_empty() { String::new() } else { format!("{scheme}://") };
    format!("{scheme}{host}{path}{query}")
}

/// The value a switch is set to, or where it is found; `secret` values never.
pub(super) fn value(to: &ValueRef, secret: bool) -> String {
    match to {
        ValueRef::Literal(_) if secret => "***".to_owned(),
        ValueRef::Literal(value) => text(value),
        ValueRef::Env(name) => format!("env {name}"),
        ValueRef::File(path) => format!("file {path}"),
        ValueRef::Parameter(name) => format!("parameter {name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_secret_is_not_shown_and_what_is_shown_is_not_rounded() {
        let shown = address(&"https://bob:secret@shop.test:8443/health/x?token=secret#secret".to_owned());
        assert_eq!(shown, "https://***@shop.test:8443/health/x?***");
        assert_eq!(address(&"http://shop.test/".to_owned()), "http://shop.test/");
        assert_eq!(hidden(&"secret".to_owned()), "*** (6 characters)");
        assert_eq!(value(&ValueRef::Literal("secret".into()), true), "***");
        let lengths: Vec<String> = [0, 250, 90_000, 10_250, 7_200_000, 120_000].map(length).into();
        assert_eq!(lengths, ["0s", "250ms", "90s", "10250ms", "2h", "2m"]);
        assert_eq!((planned(-7_200_000), planned(90_000)), ("T-2h".to_owned(), "T+90s".to_owned()));
        assert_eq!(text(&"ß".repeat(81)), format!("{:?}.. (81 characters)", "ß".repeat(80)));
    }
}
