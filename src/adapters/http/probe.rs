//! Probes: one request, one verdict (FEATURES D2).

use std::time::{Duration, Instant};

use async_trait::async_trait;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;

use super::client::HttpClient;
use crate::domain::plan::Probe;
use crate::ports::{ProbeOutcome, ProbeResult, Probes};

/// How much of an answer is read at most; the rest is ignored.
const BODY_LIMIT: usize = 256 * 1024;

/// Sends probes over a pooled client.
#[derive(Clone, Debug)]
pub struct HttpProbes {
    client: HttpClient,
}

impl HttpProbes {
    /// Probes over this client.
    #[must_use]
    pub const fn new(client: HttpClient) -> Self {
        Self { client }
    }

    /// The status and the body, or what went wrong in words.
    async fn send(&self, probe: &Probe) -> Result<(u16, Bytes), String> {
        let body = probe.body.as_deref().map(|b| b.replace("{nonce}", &uuid::Uuid::new_v4().to_string()));
        let json = body.as_deref().is_some_and(|b| b.trim_start().starts_with(['{', '[']));
        let mut request = hyper::Request::builder()
            .method(probe.method.as_str())
            .uri(&probe.url)
            .header("user-agent", concat!("cutover/", env!("CARGO_PKG_VERSION")));
        if json {
            request = request.header("content-type", "application/json");
        }
        let request = request.body(Full::new(Bytes::from(body.unwrap_or_default()))).map_err(|e| e.to_string())?;
        let answer = self.client.request(request).await.map_err(|e| root_cause(&e))?;
        let status = answer.status().as_u16();
        let body = Limited::new(answer.into_body(), BODY_LIMIT)
            .collect()
            .await
            .map_err(|_| "the answer broke off".to_owned())?
            .to_bytes();
        Ok((status, body))
    }
}

/// The innermost error: what came back, without the layers above it.
pub fn root_cause(error: &(dyn std::error::Error + 'static)) -> String {
    let mut at = error;
    while let Some(next) = at.source() {
        at = next;
    }
    at.to_string()
}

/// Judges an answer. The body is searched, never quoted.
fn judge(probe: &Probe, status: u16, body: &[u8]) -> ProbeOutcome {
    if probe.refused.contains(&status) {
        return ProbeOutcome::Refused;
    }
    let served = if probe.accept.is_empty() { (200..300).contains(&status) } else { probe.accept.contains(&status) };
    if !served {
        return ProbeOutcome::Failed(format!("status {status}"));
    }
    match &probe.contains {
        Some(text) if !String::from_utf8_lossy(body).contains(text.as_str()) => {
            ProbeOutcome::Failed(format!("status {status}, but the answer does not hold the wanted text"))
        }
        _ => ProbeOutcome::Served,
    }
}

#[async_trait]
impl Probes for HttpProbes {
    async fn probe(&self, probe: &Probe) -> ProbeResult {
        let began = Instant::now();
        let answer = tokio::time::timeout(Duration::from_millis(probe.timeout_ms), self.send(probe)).await;
        let latency_ms = u32::try_from(began.elapsed().as_millis()).unwrap_or(u32::MAX);
        let (outcome, status) = match answer {
            Ok(Ok((status, body))) => (judge(probe, status, &body), Some(status)),
            Ok(Err(why)) => (ProbeOutcome::Failed(why), None),
            Err(_) => (ProbeOutcome::Failed(format!("no answer in {} ms", probe.timeout_ms)), None),
        };
        ProbeResult { outcome, status, latency_ms }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    fn probe(url: &str) -> Probe {
        Probe {
            id: "p".into(),
            method: "GET".into(),
            url: url.into(),
            body: None,
            accept: vec![],
            refused: vec![503],
            contains: Some("ok".into()),
            every_ms: 100,
            timeout_ms: 500,
        }
    }

    #[test]
    fn answers_are_judged() {
        let p = probe("http://x/");
        assert_eq!(judge(&p, 200, b"all ok"), ProbeOutcome::Served);
        assert_eq!(judge(&p, 503, b"read-only"), ProbeOutcome::Refused);
        assert!(matches!(judge(&p, 500, b"ok"), ProbeOutcome::Failed(_)));
        assert!(matches!(judge(&p, 200, b"nope"), ProbeOutcome::Failed(_)));
    }

    #[tokio::test]
    async fn a_server_that_hangs_or_is_gone_is_a_failure_in_words() {
        let probes = HttpProbes::new(http_client().unwrap());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let result = probes.probe(&Probe { timeout_ms: 100, ..probe(&url) }).await;
        assert_eq!(result.outcome, ProbeOutcome::Failed("no answer in 100 ms".into()));
        drop(listener);
        let result = probes.probe(&probe(&url)).await;
        assert!(matches!(result.outcome, ProbeOutcome::Failed(why) if why.contains("refused")));
    }

    #[tokio::test]
    async fn an_answer_over_a_real_socket_is_served() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/books", listener.local_addr().unwrap());
        tokio::spawn(async move {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut buffer = [0; 1024];
            let n = socket.read(&mut buffer).await.unwrap();
            assert!(buffer[..n].starts_with(b"GET /books HTTP/1.1"));
            socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
        });
        let result = HttpProbes::new(http_client().unwrap()).probe(&probe(&url)).await;
        assert_eq!((result.outcome, result.status), (ProbeOutcome::Served, Some(200)));
    }

    use super::super::client::http_client;
}
