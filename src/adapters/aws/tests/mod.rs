//! The adapters against the rehearsal's stand-in and, where the harness started one, an emulator that others wrote.

mod switches;

use aws_types::SdkConfig;

use crate::rehearsal::clients;
use crate::rehearsal::control::ControlPlane;
use crate::rehearsal::fault::Faults;

/// Somewhere the AWS calls of a cutover are answered.
struct Place {
    session: SdkConfig,
    /// Names are made with it: emulators are shared between tests.
    unique: String,
    /// Only the stand-in keeps policies and patterns as AWS does.
    strict: bool,
    _plane: Option<ControlPlane>,
}

impl Place {
    fn name(&self, end: &str) -> String {
        format!("/test/{}/{end}", self.unique)
    }
}

/// Every place there is to try.
async fn places() -> Vec<Place> {
    let plane = ControlPlane::start(Faults::none()).await.unwrap();
    plane.put_stage("api1", "prod", &[("lambdaAlias", "blue")]);
    let unique = || uuid::Uuid::new_v4().simple().to_string();
    let session = clients::session(plane.endpoint(), 3);
    let mut all = vec![Place { session, unique: unique(), strict: true, _plane: Some(plane) }];
    match std::env::var("CUTOVER_TEST_AWS_ENDPOINT") {
        Ok(at) => all.push(Place { session: clients::session(&at, 3), unique: unique(), strict: false, _plane: None }),
        Err(_) => eprintln!("the stand-in only: CUTOVER_TEST_AWS_ENDPOINT names no emulator; tests/run.sh starts one"),
    }
    all
}
