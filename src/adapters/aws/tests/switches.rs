//! What goes with a value, and what a stage serves besides it.

use aws_sdk_apigateway::types::{Op, PatchOperation};
use aws_sdk_ssm::types::{ParameterTier, ParameterType};

use super::{TestAccount, accounts};
use crate::adapters::aws::AwsSwitches;
use crate::domain::plan::{CONTROL, Switch, SwitchKind, ValueRef};
use crate::domain::run::Attributes;
use crate::domain::secret::Secret;
use crate::ports::{ErrorKind, Switches as _};

fn switch(kind: SwitchKind) -> Switch {
    Switch {
        id: "s".into(),
        title: "s".into(),
        kind,
        control: CONTROL.to_owned(),
        expect: None,
        to: ValueRef::Literal("new".into()),
        exercise: true,
    }
}

fn parameter(name: &str, secure: bool) -> Switch {
    switch(SwitchKind::Parameter { name: name.into(), secure })
}

fn ssm(account: &TestAccount) -> aws_sdk_ssm::Client {
    aws_sdk_ssm::Client::new(&account.session)
}

#[tokio::test]
async fn key_tier_and_policies_go_with_a_value_there_and_back() {
    const POLICY: &str =
        r#"[{"Type":"NoChangeNotification","Version":"1.0","Attributes":{"After":"20","Unit":"Days"}}]"#;
    for account in accounts().await {
        let name = account.name("secret");
        let put = ssm(&account).put_parameter().name(&name).value("one").r#type(ParameterType::SecureString);
        let put = put.key_id("alias/orders").tier(ParameterTier::Advanced).description("who may read it");
        let put = if account.strict { put.policies(POLICY).allowed_pattern("[a-z]+") } else { put };
        put.send().await.unwrap();

        let switches = AwsSwitches::new(&account.session, None, None);
        let switch = parameter(&name, true);
        let before = switches.read(&switch).await.unwrap();
        assert!(before.secret && before.version == Some(1), "{before:?}");
        let kept = switches.attributes(&switch, before.version).await.unwrap();
        assert_eq!((kept.key.as_deref(), kept.tier.as_deref()), (Some("alias/orders"), Some("Advanced")));
        assert_eq!((kept.policies.len(), kept.pattern.is_some()), (usize::from(account.strict), account.strict));
        // Set and set back: nothing is lost either time, and an older version can still be read.
        for (value, version) in [("two", 2), ("one", 3)] {
            switches.set(&switch, &Secret::new(value), &kept).await.unwrap();
            let now = switches.read(&switch).await.unwrap();
            assert_eq!((now.value.reveal(), now.version, now.secret), (value, Some(version), true));
            for version in [Some(version), Some(1), None] {
                let found = switches.attributes(&switch, version).await.unwrap();
                assert_eq!(kept.differences(&found), [""; 0], "{version:?}");
            }
        }
        // The earlier fault: without these attributes the value ends under the account's default key.
        if account.strict {
            let bare = Attributes { tier: kept.tier.clone(), ..Attributes::default() };
            switches.set(&switch, &Secret::new("three"), &bare).await.unwrap();
            let lost = kept.differences(&switches.attributes(&switch, None).await.unwrap());
            assert!(lost[0] == "its KMS key is alias/aws/ssm, not alias/orders" && lost.len() == 4, "{lost:?}");
        }
    }
}

#[tokio::test]
async fn the_data_type_of_a_value_goes_with_it() {
    for account in accounts().await.into_iter().filter(|account| account.strict) {
        let name = account.name("image");
        let put = ssm(&account).put_parameter().name(&name).value("ami-0000000000000001").r#type(ParameterType::String);
        put.data_type("aws:ec2:image").send().await.unwrap();
        let (switches, switch) = (AwsSwitches::new(&account.session, None, None), parameter(&name, false));
        let kept = switches.attributes(&switch, Some(1)).await.unwrap();
        assert_eq!(kept.data_type.as_deref(), Some("aws:ec2:image"));
        switches.set(&switch, &Secret::new("ami-0000000000000002"), &kept).await.unwrap();
        assert_eq!(switches.attributes(&switch, Some(2)).await.unwrap().data_type, kept.data_type);
        // Without it the value ends as text, and that is told.
        switches.set(&switch, &Secret::new("ami-0000000000000003"), &Attributes::default()).await.unwrap();
        let lost = kept.differences(&switches.attributes(&switch, Some(3)).await.unwrap());
        assert!(lost.iter().any(|lost| lost.contains("data type")), "{lost:?}");
    }
}

#[tokio::test]
async fn a_version_is_found_behind_many_others_and_one_that_is_gone_is_named() {
    for account in accounts().await {
        let switches = AwsSwitches::new(&account.session, None, None);
        let switch = parameter(&account.name("busy"), false);
        for n in 0..60 {
            switches.set(&switch, &Secret::new(format!("v{n}")), &Attributes::default()).await.unwrap();
        }
        let found = switches.attributes(&switch, Some(58)).await.unwrap();
        assert_eq!(found.kind.as_deref(), Some("String"));
        assert_eq!(switches.attributes(&switch, None).await.unwrap(), found);
        let gone = switches.attributes(&switch, Some(99)).await.unwrap_err();
        assert!(gone.kind == ErrorKind::NotFound && gone.came_back.contains("no version 99"), "{gone}");
    }
}

#[tokio::test]
async fn how_often_a_parameter_can_be_set_before_a_label_stands_in_the_way() {
    for account in accounts().await {
        let switches = AwsSwitches::new(&account.session, None, None);
        let name = account.name("labelled");
        let switch = parameter(&name, false);
        let set = |n: usize| {
            let (switches, switch) = (&switches, &switch);
            async move { switches.set(switch, &Secret::new(format!("v{n}")), &Attributes::default()).await }
        };
        for n in 0..4 {
            set(n).await.unwrap();
        }
        assert_eq!(switches.writes_left(&switch).await, Ok(None), "the oldest makes room");
        let label = ssm(&account).label_parameter_version().name(&name).parameter_version(3).labels("stable");
        label.send().await.unwrap();
        // 96 up to the store's hundred, and two of the oldest that make room.
        assert_eq!(switches.writes_left(&switch).await, Ok(Some(98)));
        if account.strict {
            for n in 4..102 {
                set(n).await.unwrap();
            }
            assert_eq!(switches.writes_left(&switch).await, Ok(Some(0)));
            assert!(set(102).await.unwrap_err().to_string().contains("label"));
        }
    }
}

#[tokio::test]
async fn the_store_says_what_is_secret_whatever_the_config_says() {
    for account in accounts().await {
        let name = account.name("untold");
        let put = ssm(&account).put_parameter().name(&name).value("hunter2").r#type(ParameterType::SecureString);
        put.send().await.unwrap();
        let switches = AwsSwitches::new(&account.session, None, None);
        assert!(switches.read(&parameter(&name, false)).await.unwrap().secret);
        assert!(switches.read_version(&parameter(&name, false), 1).await.unwrap().secret);
        assert!(switches.resolve(&ValueRef::Parameter(name), CONTROL).await.unwrap().secret);
    }
}

#[tokio::test]
async fn an_error_never_quotes_the_value_that_was_to_be_set() {
    for account in accounts().await.into_iter().filter(|p| p.strict) {
        let switches = AwsSwitches::new(&account.session, None, None);
        let kind =
            SwitchKind::StageVariable { api: "api1".into(), stage: "prod".into(), variable: "lambdaAlias".into() };
        let error = switches.set(&switch(kind), &Secret::new("alphanumeric"), &Attributes::default()).await;
        assert_eq!(error, Ok(()));
        let value = "no such value!";
        let kind =
            SwitchKind::StageVariable { api: "api1".into(), stage: "prod".into(), variable: "lambdaAlias".into() };
        let error = switches.set(&switch(kind), &Secret::new(value), &Attributes::default()).await.unwrap_err();
        assert!(!error.to_string().contains(value), "{error}");
    }
}

#[tokio::test]
async fn a_canary_that_overrides_the_variable_is_refused_and_named() {
    for account in accounts().await {
        let gateway = aws_sdk_apigateway::Client::new(&account.session);
        let (api, stage) = if account.strict {
            ("api1".to_owned(), "prod".to_owned())
        } else {
            let at = account.session.endpoint_url().unwrap();
            (crate::rehearsal::world::create_api(at, "prod").await.unwrap(), "prod".to_owned())
        };
        let switches = AwsSwitches::new(&account.session, None, None);
        let variable = "lambdaAlias".to_owned();
        let switch = switch(SwitchKind::StageVariable { api: api.clone(), stage: stage.clone(), variable });
        assert_eq!(switches.read(&switch).await.unwrap().value.reveal(), "blue");
        let patch = |path: &str, value: &str| PatchOperation::builder().op(Op::Replace).path(path).value(value).build();
        let update = gateway.update_stage().rest_api_id(&api).stage_name(&stage);
        // The emulator keeps the number as text, which the SDK does not read.
        let percent = patch("/canarySettings/percentTraffic", "10");
        let update = if account.strict { update.patch_operations(percent) } else { update };
        let update = update.patch_operations(patch("/canarySettings/stageVariableOverrides/lambdaAlias", "blue"));
        update.send().await.unwrap();
        switches.set(&switch, &Secret::new("green"), &Attributes::default()).await.unwrap();
        let error = switches.read(&switch).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Conflict);
        let share = if account.strict { "blue for 10 %" } else { "blue for 0 %" };
        assert!(error.came_back.contains("holds green") && error.came_back.contains(share), "{error}");
        assert!(error.advice.contains("canary"), "{error}");
    }
}
