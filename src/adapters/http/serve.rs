//! A page of numbers over HTTP, for Prometheus.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ACCEPT, ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

/// Clients that are answered at once; a further one is hung up on.
const CLIENTS: usize = 16;
/// How long one client may take altogether. One that hangs holds nothing for longer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Before connections are taken again after the kernel had none to give.
const PAUSE: Duration = Duration::from_secs(1);

/// How the numbers are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricsForm {
    /// The text format of Prometheus, 0.0.4.
    Prometheus,
    /// `OpenMetrics` 1.0.
    OpenMetrics,
}

/// Writes the page, from what is known at that moment. Must not wait.
pub type Page = Arc<dyn Fn(MetricsForm) -> String + Send + Sync>;

/// Serves the page at `/metrics` until `stop`, in tasks of its own.
pub fn serve(listener: TcpListener, page: Page, stop: CancellationToken) {
    tokio::spawn(async move {
        let places = Arc::new(Semaphore::new(CLIENTS));
        let mut said = false;
        loop {
            let came = tokio::select! {
                () = stop.cancelled() => return,
                came = listener.accept() => came,
            };
            let stream = match came {
                Ok((stream, _)) => stream,
                Err(error) => {
                    if !std::mem::replace(&mut said, true) {
                        tracing::warn!(%error, "metrics: no connection could be taken; it is tried again");
                    }
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            };
            let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
            let (page, stop) = (Arc::clone(&page), stop.clone());
            tokio::spawn(async move {
                let _place = place;
                tokio::select! {
                    () = stop.cancelled() => {}
                    _ = tokio::time::timeout(PATIENCE, client(stream, page)) => {}
                }
            });
        }
    });
}

/// One request of one client.
async fn client(stream: TcpStream, page: Page) {
    let service = service_fn(move |request: Request<Incoming>| {
        let answer = answer(&request, &page);
        async move { Ok::<_, Infallible>(answer) }
    });
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(PATIENCE).keep_alive(false).max_buf_size(16 * 1024);
    // How it went is the client's concern.
    let _ = server.serve_connection(TokioIo::new(stream), service).await;
}

fn answer(request: &Request<Incoming>, page: &Page) -> Response<Full<Bytes>> {
    let with = |status: StatusCode, text: String| {
        let mut answer = Response::new(Full::new(Bytes::from(text)));
        *answer.status_mut() = status;
        answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        answer
    };
    if request.uri().path() != "/metrics" {
        return with(StatusCode::NOT_FOUND, "the numbers are at /metrics\n".to_owned());
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut answer = with(StatusCode::METHOD_NOT_ALLOWED, "they can only be read\n".to_owned());
        answer.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return answer;
    }
    let accepts = request.headers().get(ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    let (form, kind) = if accepts.contains("application/openmetrics-text") {
        (MetricsForm::OpenMetrics, "application/openmetrics-text; version=1.0.0; charset=utf-8")
    } else {
        (MetricsForm::Prometheus, "text/plain; version=0.0.4; charset=utf-8")
    };
    let mut answer = with(StatusCode::OK, page(form));
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    answer
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    async fn served() -> (std::net::SocketAddr, CancellationToken) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let page: Page = Arc::new(|form| format!("{form:?} 1\n"));
        serve(listener, page, stop.clone());
        (at, stop)
    }

    async fn ask(at: std::net::SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(at).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        text
    }

    #[tokio::test]
    async fn the_page_is_read_while_a_client_hangs() {
        let (at, stop) = served().await;
        // Each is connected and sends half a request.
        let mut hangs = Vec::new();
        for _ in 0..CLIENTS - 1 {
            let mut stream = TcpStream::connect(at).await.unwrap();
            stream.write_all(b"GET /metrics HT").await.unwrap();
            hangs.push(stream);
        }
        let text = ask(at, "GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n").await;
        assert!(text.starts_with("HTTP/1.1 200") && text.ends_with("Prometheus 1\n"), "{text}");
        assert!(text.contains("text/plain; version=0.0.4"), "{text}");
        stop.cancel();
    }

    #[tokio::test]
    async fn it_is_written_as_it_is_asked_for_and_can_only_be_read() {
        let (at, stop) = served().await;
        let accept = "accept: application/openmetrics-text;version=1.0.0;q=0.5,text/plain;q=0.3";
        let text = ask(at, &format!("GET /metrics?x=1 HTTP/1.1\r\nhost: x\r\n{accept}\r\n\r\n")).await;
        assert!(text.contains("application/openmetrics-text; version=1.0.0") && text.ends_with("OpenMetrics 1\n"));
        let text = ask(at, "POST /metrics HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n").await;
        assert!(text.starts_with("HTTP/1.1 405"), "{text}");
        let text = ask(at, "GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
        assert!(text.starts_with("HTTP/1.1 404"), "{text}");
        stop.cancel();
    }
}
