//! The Query protocol: a form that names an action, answered in XML.

use std::collections::BTreeMap;

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::Refusal;

/// What a request says.
#[derive(Debug)]
pub(super) struct Form(BTreeMap<String, String>);

impl Form {
    /// Reads `a=b&c=d`.
    pub(super) fn read(body: &[u8]) -> Self {
        Self(form_urlencoded::parse(body).into_owned().collect())
    }

    /// One field; nothing when it is absent or empty.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// A field that must be there.
    pub(super) fn must(&self, name: &str) -> Result<&str, Refusal> {
        self.get(name).ok_or_else(|| Refusal::new("ValidationError", format!("{name} is missing")))
    }

    /// The members of a list.
    pub(super) fn list(&self, name: &str) -> Vec<&str> {
        let prefix = format!("{name}.member.");
        self.0.iter().filter(|(key, _)| key.starts_with(&prefix)).map(|(_, value)| value.as_str()).collect()
    }
}

/// Text between tags.
pub(super) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// `<name>text</name>`.
pub(super) fn tag(name: &str, text: &str) -> String {
    format!("<{name}>{}</{name}>", escaped(text))
}

/// The answer to an action: what stands in its result, as XML, or why not.
pub(super) fn answer(action: &str, result: Result<String, Refusal>) -> Response {
    let (status, body) = match result {
        Ok(inner) => (
            StatusCode::OK,
            format!(
                "<{action}Response><{action}Result>{inner}</{action}Result><ResponseMetadata><RequestId>rehearsal</RequestId>\
                 </ResponseMetadata></{action}Response>"
            ),
        ),
        Err(refusal) => (
            refusal.status,
            format!(
                "<ErrorResponse><Error><Type>Sender</Type>{}{}</Error><RequestId>rehearsal</RequestId></ErrorResponse>",
                tag("Code", refusal.code),
                tag("Message", &refusal.message)
            ),
        ),
    };
    (status, [(header::CONTENT_TYPE, "text/xml")], body).into_response()
}
