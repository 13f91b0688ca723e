//! Whose account a run is signed for: the named profile's and no other, compared with the plan, on record from the
//! first fact on.

use std::ffi::OsString;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use cutover::domain::run::StepStatus;

use super::console::Console;
use super::stage::{Options, Stage};

/// Accounts by access key.
const KEYS: [(&str, &str); 3] =
    [("AKIDPROFILE", "111122223333"), ("AKIDENVIRONMENT", "444455556666"), ("emulator", "111122223333")];

/// A server that takes every AWS call, says whose account it is, and knows no table and no parameter.
struct Cloud {
    address: String,
    seen: Arc<Mutex<Seen>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Seen {
    /// Service and access key of each call.
    calls: Vec<(String, String)>,
    /// The account that is named for every caller.
    account: Option<&'static str>,
    /// Whether the store refuses to say whose account it is.
    silent: bool,
    /// Seconds the clock here is ahead.
    ahead: i64,
    closed: bool,
}

impl Cloud {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let seen = Arc::new(Mutex::new(Seen::default()));
        let theirs = Arc::clone(&seen);
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if theirs.lock().unwrap().closed {
                    return;
                }
                let _ = answer(stream.unwrap(), &theirs);
            }
        });
        Self { address, seen, thread: Some(thread) }
    }

    fn set(&self, change: impl FnOnce(&mut Seen)) {
        change(&mut self.seen.lock().unwrap());
    }

    fn calls(&self) -> Vec<(String, String)> {
        self.seen.lock().unwrap().calls.clone()
    }
}

impl Drop for Cloud {
    fn drop(&mut self) {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).closed = true;
        let _ = TcpStream::connect(&self.address);
        self.thread.take().map(JoinHandle::join);
    }
}

/// Reads one request and answers it. Its own server, because the SDK must not be asked by the SDK's rules.
fn answer(mut stream: TcpStream, seen: &Mutex<Seen>) -> std::io::Result<()> {
    let mut request = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let n = stream.read(&mut buffer)?;
        request.extend_from_slice(&buffer[..n]);
        let text = String::from_utf8_lossy(&request).to_ascii_lowercase();
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            if n == 0 {
                return Ok(());
            }
            continue;
        };
        let length = head.lines().find_map(|l| l.strip_prefix("content-length: ")?.parse().ok()).unwrap_or(0);
        if body.len() >= length || n == 0 {
            break;
        }
    }
    let text = String::from_utf8_lossy(&request).into_owned();
    let scope = text.split("Credential=").nth(1).and_then(|t| t.split([',', '\r']).next()).unwrap_or_default();
    let scope: Vec<&str> = scope.split('/').collect();
    let [key, _, _, service, ..] = scope[..] else { return Ok(()) };
    let mut seen = seen.lock().unwrap();
    seen.calls.push((service.to_owned(), key.to_owned()));
    let account = seen.account.or_else(|| KEYS.iter().find(|(k, _)| *k == key).map(|(_, account)| *account));
    let (status, kind, body) = match (service, account) {
        ("sts", Some(account)) if !seen.silent => (
            "200 OK",
            "text/xml",
            format!(
                "<GetCallerIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><GetCallerIdentityResult>\
                 <Arn>arn:aws:sts::{account}:assumed-role/mover/alice</Arn><UserId>A:alice</UserId>\
                 <Account>{account}</Account></GetCallerIdentityResult></GetCallerIdentityResponse>"
            ),
        ),
        ("sts", _) => (
            "403 Forbidden",
            "text/xml",
            "<ErrorResponse><Error><Code>AccessDenied</Code>\
                 <Message>not here</Message></Error></ErrorResponse>"
                .to_owned(),
        ),
        _ => ("400 Bad Request", "application/x-amz-json-1.0", "{\"__type\":\"ResourceNotFoundException\"}".to_owned()),
    };
    let now = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(seen.ahead);
    drop(seen);
    let date = now.strftime("%a, %d %b %Y %H:%M:%S GMT");
    write!(
        stream,
        "HTTP/1.1 {status}\r\ndate: {date}\r\ncontent-type: {kind}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// A folder with profiles and a config whose `[aws]` is this, pointing at a cloud.
fn folder(aws: &str, vars: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let profile = "[move]\naws_access_key_id = AKIDPROFILE\naws_secret_access_key = of-the-profile\n";
    std::fs::write(dir.path().join("credentials"), profile).unwrap();
    std::fs::write(dir.path().join("profiles"), "[profile move]\nregion = eu-west-1\n").unwrap();
    let text = include_str!("../../assets/rehearsal.toml");
    let (before, rest) = text.split_once("[aws]\n").unwrap();
    let (_, after) = rest.split_once("[postgres]\n").unwrap();
    let mut text = format!("{before}[aws]\n{aws}\n[postgres]\n{after}").replace("\"${PG_PORT}\"", "1");
    text = text.replace("{ file = \"${PG_PASSWORD_FILE}\" }", "{ file = \"/dev/null\" }");
    for (name, value) in vars {
        text = text.replace(&format!("${{{name}}}"), value);
    }
    for name in ["PG_HOST", "PG_DATABASE", "PG_USER", "REST_API", "REST_STAGE"] {
        text = text.replace(&format!("${{{name}}}"), "127.0.0.1");
    }
    std::fs::write(dir.path().join("config.toml"), text.replace("${SHOP_URL}", "http://127.0.0.1:1")).unwrap();
    dir
}

/// Starts the binary with keys of another account in the environment, and these variables besides.
fn start(dir: &Path, name: &str, args: &[&str], more: &[(&str, &str)]) -> Console {
    let file = |name: &str| dir.join(name).into_os_string();
    let mut vars: Vec<(&str, OsString)> = vec![
        ("AWS_ACCESS_KEY_ID", "AKIDENVIRONMENT".into()),
        ("AWS_SECRET_ACCESS_KEY", "of-the-environment".into()),
        ("AWS_SESSION_TOKEN", "of-the-environment".into()),
        ("AWS_CONFIG_FILE", file("profiles")),
        ("AWS_SHARED_CREDENTIALS_FILE", file("credentials")),
        ("AWS_EC2_METADATA_DISABLED", "true".into()),
    ];
    vars.extend(more.iter().map(|(name, value)| (*name, (*value).into())));
    let vars: Vec<_> = vars.iter().map(|(name, value)| (*name, value.as_os_str())).collect();
    Console::start_with(dir, name, &[&["--state-dir", "state"], args].concat(), &vars)
}

/// The line of a check for this.
fn row(check: &Console, what: &str) -> String {
    let out = check.out();
    let found = out.lines().find(|l| l.split_whitespace().skip(1).collect::<Vec<_>>().join(" ").starts_with(what));
    found.unwrap_or_else(|| panic!("no line for {what}\n{}", check.words())).to_owned()
}

const REGION: &str = "region = \"eu-west-1\"\n";

#[test]
fn a_named_profile_signs_every_call_whatever_keys_the_environment_holds() {
    let cloud = Cloud::start();
    let dir = folder(&format!("{REGION}profile = \"move\"\nendpoint = \"http://{}\"\n", cloud.address), &[]);
    let mut check = start(dir.path(), "check", &["check", "-c", "config.toml"], &[]);
    check.wait();
    let calls = cloud.calls();
    let services: std::collections::BTreeSet<&str> = calls.iter().map(|(service, _)| service.as_str()).collect();
    assert_eq!(services.into_iter().collect::<Vec<_>>(), ["apigateway", "dynamodb", "ssm", "sts"], "{}", check.words());
    let others: Vec<_> = calls.iter().filter(|(_, key)| key != "AKIDPROFILE").collect();
    assert!(others.is_empty(), "{others:?}");
    for store in ["store old", "store control"] {
        let row = row(&check, store);
        let who = "account 111122223333 as arn:aws:sts::111122223333:assumed-role/mover/alice, region eu-west-1";
        assert!(row.contains(who) && row.contains(&format!(" at http://{}", cloud.address)), "{row}");
    }
    assert!(!check.out().contains("your clock"), "{}", check.words());
}

#[test]
fn a_profile_that_is_not_there_is_replaced_by_nothing() {
    let cloud = Cloud::start();
    let dir = folder(&format!("{REGION}profile = \"gone\"\nendpoint = \"http://{}\"\n", cloud.address), &[]);
    let mut check = start(dir.path(), "check", &["check", "-c", "config.toml"], &[]);
    check.expect_code(77);
    assert_eq!(cloud.calls(), [], "{}", check.words());
    assert!(row(&check, "AWS credentials").contains("profile gone"), "{}", check.words());
}

#[test]
fn without_a_profile_the_environment_signs_and_the_check_says_for_whom() {
    let cloud = Cloud::start();
    let dir = folder(&format!("{REGION}endpoint = \"http://{}\"\n", cloud.address), &[]);
    cloud.set(|seen| seen.ahead = 130);
    let mut check = start(dir.path(), "check", &["check", "-c", "config.toml"], &[]);
    check.wait();
    assert!(row(&check, "store old").contains("account 444455556666"), "{}", check.words());
    let clock = row(&check, "clock");
    assert!(clock.contains("your clock is 130 s behind") || clock.contains("your clock is 129 s behind"), "{clock}");
}

#[test]
fn another_account_than_the_plans_is_named_by_the_check_and_refused_before_anything_is_written() {
    let cloud = Cloud::start();
    let pinned = format!("{REGION}account = \"111122223333\"\nendpoint = \"http://{}\"\n", cloud.address);
    let dir = folder(&pinned, &[]);
    let mut check = start(dir.path(), "check", &["check", "-c", "config.toml"], &[]);
    check.expect_code(77);
    let row = row(&check, "store old");
    assert!(row.starts_with("  FAIL") && row.contains("444455556666") && row.contains("111122223333"), "{row}");
    let refused = |name: &str, wanted: &[&str]| {
        let mut run = start(dir.path(), name, &["run", "--headless", "--yes", "-c", "config.toml"], &[]);
        run.expect_code(77);
        for wanted in wanted {
            assert!(run.err().contains(wanted), "{wanted}\n{}", run.words());
        }
        assert!(!dir.path().join("state").exists(), "something was written\n{}", run.words());
    };
    refused("other", &["444455556666", "111122223333", "nothing was begun"]);
    // Not known is not the same.
    cloud.set(|seen| seen.silent = true);
    refused("silent", &["not known", "AccessDenied", "111122223333"]);
}

#[test]
fn an_account_nobody_names_is_a_question_mark() {
    let cloud = Cloud::start();
    cloud.set(|seen| seen.silent = true);
    let dir = folder(&format!("{REGION}endpoint = \"http://{}\"\n", cloud.address), &[]);
    let mut check = start(dir.path(), "check", &["check", "-c", "config.toml"], &[]);
    check.wait();
    let row = row(&check, "store old");
    assert!(row.starts_with("  ok") && row.contains("account ? (") && row.contains("AccessDenied"), "{row}");
}

#[test]
fn a_run_keeps_whose_account_it_was_opened_with_and_is_not_taken_up_with_another() {
    let cloud = Cloud::start();
    let stage = Stage::new(&Options::default());
    let text = stage.config();
    let endpoints = "[aws.endpoints]\n";
    assert_eq!(text.matches(endpoints).count(), 1);
    let text = text.replace(endpoints, &format!("{endpoints}sts = \"http://{}\"\n", cloud.address));
    stage.write("config.toml", &text);
    let until: Vec<String> = stage.answered().into_iter().chain(["--until".into(), "set-up".into()]).collect();
    let until: Vec<&str> = until.iter().map(String::as_str).collect();
    stage.start(&until, None).expect_code(75);
    let state = stage.state();
    assert_eq!(state.step("set-up").unwrap().status, StepStatus::Done);
    for store in ["old", "control"] {
        let caller = &state.callers[store];
        assert_eq!(caller.account.as_deref(), Some("111122223333"));
        assert_eq!(caller.arn.as_deref(), Some("arn:aws:sts::111122223333:assumed-role/mover/alice"));
    }
    let facts = stage.facts().len();
    cloud.set(|seen| seen.account = Some("999988887777"));
    let mut again = stage.start(&until, None);
    again.expect_code(77);
    assert!(again.err().contains("111122223333") && again.err().contains("999988887777"), "{}", again.words());
    assert_eq!(stage.facts().len(), facts, "a fact was written");
}

#[test]
fn endpoints_of_the_environment_are_one_for_all_clients_are_shown_and_are_part_of_the_plan() {
    let [tables, others] = [Cloud::start(), Cloud::start()];
    let dir = folder(REGION, &[]);
    let [at_tables, at_others] = [&tables, &others].map(|cloud| format!("http://{}", cloud.address));
    let named = [("AWS_ENDPOINT_URL_DYNAMODB", at_tables.as_str()), ("AWS_ENDPOINT_URL", at_others.as_str())];
    let mut check = start(dir.path(), "check", &["check", "-c", "config.toml"], &named);
    check.wait();
    let services = |cloud: &Cloud| {
        let all: std::collections::BTreeSet<String> = cloud.calls().into_iter().map(|(service, _)| service).collect();
        all.into_iter().collect::<Vec<_>>()
    };
    assert_eq!(services(&tables), ["dynamodb"], "{}", check.words());
    assert_eq!(services(&others), ["apigateway", "ssm", "sts"], "{}", check.words());
    let old = row(&check, "store old");
    assert!(old.contains(&format!("dynamodb at {at_tables}, streams at {at_others}")), "{old}");
    assert!(row(&check, "store control").contains(&format!("ssm at {at_others}")), "{}", check.words());
    // Another endpoint is another store.
    let hash = |name: &str, vars: &[(&str, &str)]| {
        let mut plan = start(dir.path(), name, &["plan", "-c", "config.toml", "--json"], vars);
        plan.expect_code(0);
        let plan: serde_json::Value = serde_json::from_str(&plan.out()).unwrap();
        plan["hash"].clone()
    };
    let with = hash("with", &named);
    assert_eq!(with, hash("again", &named));
    assert_ne!(with, hash("without", &[]));
    let profile = format!(
        "[default]\nendpoint_url = {at_others}\nservices = own\n[services own]\ndynamodb =\n  endpoint_url = {at_tables}\n"
    );
    std::fs::write(dir.path().join("profiles"), profile).unwrap();
    assert_eq!(with, hash("profile", &[]), "the profile says it as well as the environment");
    std::fs::write(dir.path().join("profiles"), "").unwrap();
    let ignored = [&named[..], &[("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true")]].concat();
    assert_eq!(hash("without", &[]), hash("ignored", &ignored));
}

#[test]
fn calls_go_through_the_proxy_that_the_environment_names() {
    let proxy = Cloud::start();
    let dir = folder(&format!("{REGION}profile = \"move\"\nendpoint = \"http://aws.invalid\"\n"), &[]);
    let at = format!("http://{}", proxy.address);
    let vars = [("HTTP_PROXY", at.as_str()), ("http_proxy", at.as_str()), ("NO_PROXY", "127.0.0.1")];
    let mut check = start(dir.path(), "check", &["check", "-c", "config.toml"], &vars);
    check.wait();
    assert!(row(&check, "store old").contains("account 111122223333"), "{}", check.words());
    assert!(proxy.calls().iter().any(|(service, _)| service == "dynamodb"), "{}", check.words());
}

#[test]
fn a_way_to_sign_in_that_is_left_to_the_cli_is_named_with_what_to_do() {
    let cloud = Cloud::start();
    let dir = folder(&format!("{REGION}profile = \"people\"\nendpoint = \"http://{}\"\n", cloud.address), &[]);
    let sso = "[profile people]\nsso_session = corp\nsso_account_id = 111122223333\nsso_role_name = mover\n\
               [sso-session corp]\nsso_region = eu-west-1\nsso_start_url = https://corp.awsapps.com/start\n";
    let login = "[profile people]\nlogin_session = arn:aws:iam::111122223333:user/alice\n";
    let process = "[profile people]\ncredential_process = echo no such vault >&2; false\n";
    let token = "[profile people]\nrole_arn = arn:aws:iam::111122223333:role/mover\n\
                 web_identity_token_file = /nowhere/token\n";
    let cases = [
        ("sso", sso, "signs in through IAM Identity Center", "aws configure export-credentials --profile people"),
        ("login", login, "signs in through `aws login`", "aws configure export-credentials --profile people"),
        ("process", process, "no such vault", "AWS_PROFILE"),
        ("token", token, "web identity", "AWS_PROFILE"),
    ];
    for (name, text, says, advice) in cases {
        std::fs::write(dir.path().join("profiles"), text).unwrap();
        let mut check = start(dir.path(), name, &["check", "-c", "config.toml"], &[]);
        check.expect_code(77);
        let found = row(&check, "AWS credentials");
        if name == "sso" && cfg!(feature = "sso") {
            continue;
        }
        assert!(found.to_lowercase().contains(&says.to_lowercase()), "{name}: {found}");
        assert!(check.out().contains(advice) && !check.out().contains("cargo feature"), "{name}: {}", check.words());
        let mut run =
            start(dir.path(), &format!("run-{name}"), &["run", "--headless", "--yes", "-c", "config.toml"], &[]);
        run.expect_code(77);
        assert!(run.err().contains(advice), "{name}: {}", run.words());
        assert!(!dir.path().join("state").exists(), "{name}: something was written\n{}", run.words());
    }
}

/// An instance's metadata service: gives out keys, says no, or does not answer.
#[derive(Clone, Copy, Debug)]
enum Instance {
    Gives,
    Refuses,
    Hangs,
}

fn metadata(instance: Instance) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        let mut held = Vec::new();
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut buffer = [0; 4096];
            let n = stream.read(&mut buffer).unwrap_or(0);
            let request = String::from_utf8_lossy(&buffer[..n]).into_owned();
            let path = request.split(' ').nth(1).unwrap_or_default();
            let (status, body) = match (instance, path) {
                (Instance::Hangs, _) => {
                    held.push(stream);
                    continue;
                }
                (Instance::Refuses, _) => ("403 Forbidden", "no"),
                (Instance::Gives, "/latest/api/token") => ("200 OK", "a-token"),
                (Instance::Gives, path) if path.ends_with("/security-credentials/") => ("200 OK", "mover"),
                (Instance::Gives, path) if path.contains("/security-credentials/") => (
                    "200 OK",
                    "{\"Code\":\"Success\",\"Type\":\"AWS-HMAC\",\"AccessKeyId\":\"AKIDPROFILE\",\"SecretAccessKey\":\"x\",\
                     \"Token\":\"y\",\"Expiration\":\"2099-01-01T00:00:00Z\",\"LastUpdated\":\"2026-01-01T00:00:00Z\"}",
                ),
                (Instance::Gives, _) => ("404 Not Found", ""),
            };
            let head = format!(
                "HTTP/1.1 {status}\r\nx-aws-ec2-metadata-token-ttl-seconds: 21600\r\nconnection: close\r\ncontent-length: {}",
                body.len()
            );
            let _ = write!(stream, "{head}\r\n\r\n{body}");
        }
    });
    format!("http://{address}")
}

#[test]
fn an_instances_role_signs_and_one_that_gives_no_keys_is_one_sentence() {
    for instance in [Instance::Gives, Instance::Refuses, Instance::Hangs] {
        let cloud = Cloud::start();
        let dir = folder(&format!("{REGION}endpoint = \"http://{}\"\n", cloud.address), &[]);
        std::fs::write(dir.path().join("credentials"), "").unwrap();
        let at = metadata(instance);
        let vars = [
            ("AWS_ACCESS_KEY_ID", ""),
            ("AWS_SECRET_ACCESS_KEY", ""),
            ("AWS_SESSION_TOKEN", ""),
            ("AWS_EC2_METADATA_DISABLED", "false"),
            ("AWS_EC2_METADATA_SERVICE_ENDPOINT", at.as_str()),
        ];
        let mut check = start(dir.path(), "check", &["check", "-c", "config.toml"], &vars);
        check.wait();
        if matches!(instance, Instance::Gives) {
            assert!(row(&check, "store old").contains("account 111122223333"), "{}", check.words());
            continue;
        }
        let found = row(&check, "AWS credentials");
        assert!(found.contains("FAIL") && !check.out().contains("cargo feature"), "{instance:?}: {}", check.words());
        assert_eq!(cloud.calls(), [], "{instance:?}: {}", check.words());
    }
}
