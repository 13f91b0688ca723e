//! Real servers on loopback and real programs, well and unwell.

use std::sync::{Arc, Mutex};

use aws_config::{BehaviorVersion, SdkConfig};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;
use crate::adapters::aws::AwsSwitches;
use crate::adapters::http::http_client;
use crate::domain::alert::WebhookForm;
use crate::domain::plan::ValueRef;

/// What a server got.
type Got = Arc<Mutex<Vec<String>>>;

/// A server that answers each request with this, or never where there is nothing to say. Gives its address.
async fn server(answer: Option<&'static str>) -> (String, Got) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let got: Got = Got::default();
    let kept = Arc::clone(&got);
    tokio::spawn(async move {
        let mut hanging = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut text = String::new();
            while !is_whole(&text) {
                let mut some = [0_u8; 4096];
                let Ok(read @ 1..) = stream.read(&mut some).await else { break };
                text.push_str(&String::from_utf8_lossy(&some[..read]));
            }
            kept.lock().unwrap().push(text);
            match answer {
                Some(answer) => {
                    let _ = stream.write_all(answer.as_bytes()).await;
                }
                None => hanging.push(stream),
            }
        }
    });
    (format!("http://{at}/services/s3cr3t-t0k3n"), got)
}

fn is_whole(request: &str) -> bool {
    let Some((head, body)) = request.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    length.is_some_and(|length| length.parse() == Ok(body.len()))
}

/// A notifier, and a place whose address stands in a file.
fn place(url: &str, form: WebhookForm, timeout_ms: u64) -> (Notifier, Place, tempfile::NamedTempFile) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), format!("{url}\n")).unwrap();
    let webhook = Webhook { url: ValueRef::File(file.path().display().to_string()), form, timeout_ms };
    (notifier(), Place { name: "webhook 1".into(), kind: PlaceKind::Webhook(webhook) }, file)
}

fn notifier() -> Notifier {
    let sdk = SdkConfig::builder().behavior_version(BehaviorVersion::latest()).build();
    let switches = AwsSwitches::new(&sdk, None, None);
    Notifier::new(http_client().unwrap(), Arc::new(switches))
}

fn message() -> Message {
    Message {
        id: "r1/pager/x/1".into(),
        plan: "shop".into(),
        text: "lag > 30: it is 31s.".into(),
        ..Message::default()
    }
}

#[tokio::test]
async fn a_webhook_gets_the_message_as_it_takes_it() {
    let (url, got) = server(Some("HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok")).await;
    for form in [WebhookForm::Json, WebhookForm::Slack] {
        let (notifier, place, _file) = place(&url, form, 5_000);
        assert_eq!(notifier.tell(&place, &message()).await, Ok("status 200".to_owned()));
    }
    let got = got.lock().unwrap().clone();
    let body = |n: usize| got[n].split_once("\r\n\r\n").unwrap().1.to_owned();
    assert!(got[0].starts_with("POST /services/s3cr3t-t0k3n HTTP/1.1\r\n"), "{}", got[0]);
    assert!(got[0].contains("content-type: application/json\r\n"), "{}", got[0]);
    assert_eq!(serde_json::from_str::<Message>(&body(0)).unwrap(), message());
    assert_eq!(body(1), r#"{"text":"shop: lag &gt; 30: it is 31s."}"#);
}

#[tokio::test]
async fn a_server_that_is_busy_says_when_and_one_that_refuses_is_not_asked_again() {
    let busy = "HTTP/1.1 429 Slow\r\nretry-after: 7\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    let broken = "HTTP/1.1 500 No\r\ncontent-length: 4\r\nconnection: close\r\n\r\noops";
    let gone = "HTTP/1.1 404 No\r\ncontent-length: 36\r\nconnection: close\r\n\r\nno_service at /services/s3cr3t-t0k3n";
    for (answer, why, again) in [
        (busy, "status 429", Some(Duration::from_secs(7))),
        (broken, "status 500: oops", Some(webhook::PAUSE)),
        (gone, "status 404: no_service at ***", None),
    ] {
        let (url, _) = server(Some(answer)).await;
        let (notifier, place, _file) = place(&url, WebhookForm::Json, 5_000);
        let error = notifier.tell(&place, &message()).await.unwrap_err();
        assert_eq!(error, NotTold { why: why.into(), again });
    }
}

#[tokio::test]
async fn a_server_that_hangs_or_is_gone_is_said_without_its_address() {
    let (url, got) = server(None).await;
    let (notifier, place_, _file) = place(&url, WebhookForm::Json, 100);
    let error = notifier.tell(&place_, &message()).await.unwrap_err();
    assert_eq!(error.why, "no answer in 100 ms: whether it arrived is not known");
    assert!(error.again.is_some() && got.lock().unwrap().len() == 1);
    let (notifier, place_, _file) = place("http://127.0.0.1:1/services/s3cr3t-t0k3n", WebhookForm::Json, 5_000);
    let error = notifier.tell(&place_, &message()).await.unwrap_err();
    assert!(error.again.is_some() && !error.why.contains("s3cr3t"), "{error}");
    let looked = notifier.look(&place_).await.unwrap_err().to_string();
    assert!(looked.contains("connect to the webhook's server") && !looked.contains("s3cr3t"), "{looked}");
    let (notifier, place_, file) = place("s3cr3t", WebhookForm::Json, 5_000);
    let error = notifier.tell(&place_, &message()).await.unwrap_err();
    assert!(error.again.is_none() && !error.why.contains("s3cr3t"), "{error}");
    file.close().unwrap();
    let error = notifier.tell(&place_, &message()).await.unwrap_err();
    assert!(error.why.starts_with("its address cannot be read"), "{error}");
}

#[tokio::test]
async fn looking_sends_nothing() {
    let (url, got) = server(None).await;
    let (notifier, place, _file) = place(&url, WebhookForm::Json, 5_000);
    let found = notifier.look(&place).await.unwrap();
    assert!(found.contains("nothing was sent"), "{found}");
    assert!(got.lock().unwrap().iter().all(String::is_empty));
}

fn program(script: &str, timeout_ms: u64) -> Place {
    let run = ["sh", "-c", script].map(str::to_owned).to_vec();
    Place { name: "command 1".into(), kind: PlaceKind::Command(CommandPlace { run, timeout_ms }) }
}

#[tokio::test]
async fn a_program_reads_the_message_and_what_it_says_is_kept_without_addresses() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("got");
    let script = format!("cat > {}; echo paged via https://u:p@pager.example.org/k3y", file.display());
    let told = notifier().tell(&program(&script, 10_000), &message()).await;
    assert_eq!(told, Ok("paged via https://pager.example.org/***".to_owned()));
    let got: Message = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    assert_eq!(got, message());
    // One that does not read its input, and one that fails.
    assert_eq!(notifier().tell(&program("exit 0", 10_000), &message()).await, Ok("exit status: 0".to_owned()));
    let failed = notifier().tell(&program("echo no line >&2; exit 3", 10_000), &message()).await.unwrap_err();
    assert_eq!(failed, NotTold::for_good("exit status: 3; no line"));
    let mut absent = program("", 10_000);
    absent.kind = PlaceKind::Command(CommandPlace { run: vec!["no-such-pager".into()], timeout_ms: 1_000 });
    assert!(notifier().tell(&absent, &message()).await.is_err());
    assert!(notifier().look(&absent).await.unwrap_err().to_string().contains("it is not on the path"));
}

#[tokio::test]
async fn a_program_that_hangs_is_ended_with_what_it_started() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("pid");
    let script = format!("sleep 1000 & echo $! > {}; wait", file.display());
    let failed = notifier().tell(&program(&script, 500), &message()).await.unwrap_err();
    assert_eq!(failed, NotTold::for_good("it did not end in 500 ms and was ended"));
    let pid = std::fs::read_to_string(&file).unwrap();
    let is_gone = || {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
        stat.is_empty() || stat.contains(") Z ")
    };
    while !is_gone() {
        tokio::task::yield_now().await;
    }
}
