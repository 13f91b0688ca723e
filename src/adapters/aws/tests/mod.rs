//! The adapters against the rehearsal's stand-in and, where the harness started one, an emulator that others wrote.

mod switches;

use aws_types::SdkConfig;

use crate::private::clients;
use crate::rehearsal::control::ControlPlane;
use crate::rehearsal::fault::Faults;

/// Somewhere the AWS calls of a cutover are answered.
struct TestAccount {
    session: SdkConfig,
    /// Names are made with it: emulators are shared between tests.
    unique: String,
    /// Only the stand-in keeps policies and patterns as AWS does.
    strict: bool,
    _plane: Option<ControlPlane>,
}

impl TestAccount {
    fn name(&self, end: &str) -> String {
        format!("/test/{}/{end}", self.unique)
    }
}

/// Every place there is to try.
async fn accounts() -> Vec<TestAccount> {
    let plane = ControlPlane::start(Faults::none()).await.unwrap();
    plane.put_stage("api1", "prod", &[("lambdaAlias", "blue")]);
    let unique = || uuid::Uuid::new_v4().simple().to_string();
    let session = clients::session(plane.endpoint(), 3);
    let mut all = vec![TestAccount { session, unique: unique(), strict: true, _plane: Some(plane) }];
    match std::env::var("CUTOVER_TEST_AWS_ENDPOINT") {
        Ok(at) => {
            all.push(TestAccount { session: clients::session(&at, 3), unique: unique(), strict: false, _plane: None })
        }
        Err(_) => {
            let missing = "CUTOVER_TEST_AWS_ENDPOINT names no emulator; tests/run.sh starts one";
            let required = std::env::var_os("CUTOVER_TEST_NEIGHBOURS_REQUIRED").is_some_and(|v| !v.is_empty());
            assert!(!required, "{missing}");
            eprintln!("the stand-in only: {missing}");
        }
    }
    all
}
