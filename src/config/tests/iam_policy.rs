//! The least that a plan needs of AWS.

use serde_json::Value as Json;

use super::control::with_region;
use super::*;
use crate::domain::plan::iam_policies;

/// What a document allows on a resource.
fn allowed(document: &Json, resource: &str) -> Vec<String> {
    let statements = document["Statement"].as_array().unwrap().iter();
    let on = statements.filter(|s| s["Resource"].as_array().unwrap().iter().any(|r| r == resource));
    let mut all: Vec<String> =
        on.flat_map(|s| s["Action"].as_array().unwrap()).map(|a| a.as_str().unwrap().to_owned()).collect();
    all.sort();
    all.dedup();
    all
}

#[test]
fn a_role_may_do_what_the_plan_does_and_nothing_else() {
    let config = read(EXAMPLE).unwrap();
    let all = iam_policies(&config.plan, &config.connections.password_parameters());
    assert_eq!(all.len(), 1);
    let document = all[0].document();
    let ssm = |name: &str| format!("arn:aws:ssm:us-east-1:*:parameter/cloudshelf/prod/{name}");
    let set = ["ssm:GetParameter", "ssm:GetParameterHistory", "ssm:PutParameter"];
    assert_eq!(allowed(&document, &ssm("db/reads")), set);
    assert_eq!(allowed(&document, &ssm("db/secret-v2")), ["ssm:GetParameter"], "it is only read");
    let stage = "arn:aws:apigateway:us-east-1::/restapis/a1b2c3d4e5/stages/prod";
    assert_eq!(allowed(&document, stage), ["apigateway:GET", "apigateway:PATCH"]);
    let table = format!("arn:aws:dynamodb:us-east-1:*:table/{}", config.plan.tables[0].source);
    let books = allowed(&document, &table);
    assert!(books.contains(&"dynamodb:Scan".to_owned()) && books.contains(&"dynamodb:UpdateItem".to_owned()));
    for asked in ["GetResourcePolicy", "DescribeKinesisStreamingDestination", "DescribeContributorInsights"] {
        assert!(books.contains(&format!("dynamodb:{asked}")), "check names what stays behind: {books:?}");
    }
    assert!(!books.iter().any(|a| a.contains("DeleteTable") || a.contains('*')), "{books:?}");
    let stays = format!("arn:aws:dynamodb:us-east-1:*:table/{}", config.plan.stays[0].source);
    assert_eq!(allowed(&document, &stays), ["dynamodb:DescribeTable"], "it is only counted");
    let keys = document["Statement"].as_array().unwrap().iter().find(|s| s["Sid"] == "UseKeysOfParameters").unwrap();
    assert_eq!(keys["Condition"]["StringLike"]["kms:ViaService"], serde_json::json!(["ssm.us-east-1.amazonaws.com"]));
}

#[test]
fn without_a_way_back_nothing_of_the_old_side_may_be_changed_but_markers() {
    let mut plan = Plan::clone(&read(EXAMPLE).unwrap().plan);
    plan.reverse.enabled = false;
    let document = iam_policies(&plan, &[])[0].document();
    let table = format!("arn:aws:dynamodb:us-east-1:*:table/{}", plan.tables[0].source);
    let may = allowed(&document, &table);
    assert!(
        !may.contains(&"dynamodb:UpdateItem".to_owned()) && may.contains(&"dynamodb:PutItem".to_owned()),
        "{may:?}"
    );
    let statements = document["Statement"].as_array().unwrap();
    let puts = |s: &&Json| s["Action"].as_array().unwrap().iter().any(|a| a == "dynamodb:PutItem");
    for statement in statements.iter().filter(puts) {
        let keys = &statement["Condition"]["ForAllValues:StringLike"]["dynamodb:LeadingKeys"];
        assert_eq!(keys[0], format!("{}*", plan.tables[0].marker_prefix), "{statement:#}");
    }
}

#[test]
fn each_account_has_a_document_of_its_own_and_each_action_is_explained() {
    let region = "[control.eu]\nregion = \"eu-west-1\"\naccount = \"444455556666\"";
    let all = iam_policies(&read(&with_region(region, "eu")).unwrap().plan, &["/db/password".to_owned()]);
    let eu = all.iter().find(|policy| policy.account.as_deref() == Some("444455556666")).unwrap();
    assert_eq!(eu.stores, ["control.eu"]);
    let reads = "arn:aws:ssm:eu-west-1:444455556666:parameter/cloudshelf/prod/db/reads";
    assert_eq!(allowed(&eu.document(), reads).len(), 3);
    let home = all.iter().find(|policy| policy.account.is_none()).unwrap().document();
    assert_eq!(allowed(&home, "arn:aws:ssm:us-east-1:*:parameter/db/password"), ["ssm:GetParameter"]);
    let explained = include_str!("../../../docs/permissions.md");
    for policy in &all {
        for statement in policy.document()["Statement"].as_array().unwrap() {
            for action in statement["Action"].as_array().unwrap() {
                let name = action.as_str().unwrap().split_once(':').unwrap().1;
                assert!(
                    explained.contains(&format!("`{name}`")),
                    "docs/permissions.md does not say what {name} is for"
                );
            }
        }
    }
}
