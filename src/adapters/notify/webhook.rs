//! One POST to a webhook.

use std::time::Duration;

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper::header::{HeaderMap, RETRY_AFTER};

use super::redact::{shown, without};
use crate::adapters::http::{HttpClient, root_cause};
use crate::domain::alert::{Message, Webhook, WebhookForm};
use crate::domain::secret::Secret;
use crate::ports::NotTold;

/// Before another try, where the server names no time.
pub(super) const PAUSE: Duration = Duration::from_secs(2);
/// How much of an answer is read.
const BODY: usize = 4 * 1024;

/// The server and port of an address.
///
/// # Errors
/// In words, without the address: it is none.
pub(super) fn address(url: &Secret) -> Result<(String, u16), String> {
    let uri: hyper::Uri = url.reveal().parse().map_err(|_| "it is not a URL".to_owned())?;
    let usual = match uri.scheme_str() {
        Some("https") => 443,
        Some("http") => 80,
        _ => return Err("it begins with neither https:// nor http://".to_owned()),
    };
    let host = uri.host().ok_or_else(|| "it names no server".to_owned())?;
    Ok((host.trim_matches(['[', ']']).to_owned(), uri.port_u16().unwrap_or(usual)))
}

/// What is sent.
fn body(form: WebhookForm, message: &Message) -> serde_json::Result<Vec<u8>> {
    match form {
        WebhookForm::Json => serde_json::to_vec(message),
        // Slack reads these three as its own marks.
        WebhookForm::Slack => {
            let text = message.line().replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
            serde_json::to_vec(&serde_json::json!({ "text": text }))
        }
    }
}

/// Tries once.
pub(super) async fn post(
    client: &HttpClient,
    url: &Secret,
    webhook: &Webhook,
    message: &Message,
) -> Result<String, NotTold> {
    address(url).map_err(|why| NotTold::for_good(format!("its address cannot be used: {why}")))?;
    let body = body(webhook.form, message).map_err(|e| NotTold::for_good(e.to_string()))?;
    let request = hyper::Request::post(url.reveal())
        .header("user-agent", concat!("cutover/", env!("CARGO_PKG_VERSION")))
        .header("content-type", "application/json")
        .body(Full::new(Bytes::from(body)))
        .map_err(|e| NotTold::for_good(without(&e.to_string(), url)))?;
    let exchange = async {
        let answer = client.request(request).await.map_err(|e| without(&root_cause(&e), url))?;
        let (status, headers) = (answer.status(), answer.headers().clone());
        // What it says is worth having, and nothing depends on it.
        let said = Limited::new(answer.into_body(), BODY).collect().await.map(|all| all.to_bytes()).unwrap_or_default();
        Ok::<_, String>((status, headers, shown(&String::from_utf8_lossy(&said), &[url])))
    };
    let timeout = Duration::from_millis(webhook.timeout_ms);
    let (status, headers, said) = match tokio::time::timeout(timeout, exchange).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(why)) => return Err(NotTold::for_now(why, PAUSE)),
        Err(_) => {
            let why = format!("no answer in {} ms: whether it arrived is not known", webhook.timeout_ms);
            return Err(NotTold::for_now(why, PAUSE));
        }
    };
    if status.is_success() {
        return Ok(format!("status {}", status.as_u16()));
    }
    let said = if said.is_empty() { String::new() } else { format!(": {said}") };
    let why = format!("status {}{said}", status.as_u16());
    Err(match status.as_u16() {
        408 | 425 | 429 | 500..=599 => NotTold::for_now(why, retry_after(&headers).unwrap_or(PAUSE)),
        _ => NotTold::for_good(why),
    })
}

/// How long the server asks to wait: seconds, or until a date.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let at = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
    let left = at.as_millisecond() - jiff::Timestamp::now().as_millisecond();
    Some(Duration::from_millis(u64::try_from(left).unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_says_when_it_wants_to_be_asked_again() {
        let of = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, text.parse().unwrap());
            retry_after(&headers)
        };
        assert_eq!(of("30"), Some(Duration::from_secs(30)));
        assert_eq!(of("Wed, 21 Oct 2015 07:28:00 GMT"), Some(Duration::ZERO), "that time has come");
        assert!(of("Wed, 21 Oct 2099 07:28:00 GMT").is_some_and(|wait| wait > Duration::from_secs(3_600)));
        assert_eq!(of("soon"), None);
    }

    #[test]
    fn slacks_own_marks_are_escaped_and_the_line_is_one_text() {
        let message = Message { plan: "shop".into(), text: "lag > 30 & <b>".into(), ..Message::default() };
        let body: serde_json::Value = serde_json::from_slice(&body(WebhookForm::Slack, &message).unwrap()).unwrap();
        assert_eq!(body, serde_json::json!({ "text": "shop: lag &gt; 30 &amp; &lt;b&gt;" }));
    }

    #[test]
    fn what_is_no_address_is_said_without_it() {
        for url in ["ftp://secret", "secret-token", "http://", ""] {
            let why = address(&Secret::new(url)).unwrap_err();
            assert!(!why.contains("secret"), "{why}");
        }
        assert_eq!(address(&Secret::new("https://[::1]/x")), Ok(("::1".to_owned(), 443)));
        assert_eq!(address(&Secret::new("http://a:8080/x?y")), Ok(("a".to_owned(), 8080)));
    }
}
