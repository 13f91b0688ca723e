//! The least that a plan needs of AWS, as IAM policy documents: one for each account that calls are signed for.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value as Json, json};

use super::{
    CONTROL, Column, ColumnSource, ColumnType, Job, JobKind, Plan, Resource, SignalSource, StepKind, Store, StoreKind,
    SwitchKind, Table, ValueRef,
};

/// The DynamoDB table of our bookkeeping, beside a target's tables.
pub const BOOKKEEPING: &str = "cutover-bookkeeping";

/// What one role may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IamPolicy {
    /// The account whose role it is for, where the plan pins it.
    pub account: Option<String>,
    /// The profile that signs, where no account is pinned.
    pub profile: Option<String>,
    /// The plan's stores that are reached by it.
    pub stores: Vec<String>,
    statements: BTreeMap<&'static str, Statement>,
}

/// One statement: each action on each resource.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Statement {
    actions: BTreeSet<&'static str>,
    resources: BTreeSet<String>,
    /// A condition on every resource of it: operator, key and values.
    only: Option<(&'static str, &'static str, BTreeSet<String>)>,
}

impl IamPolicy {
    fn allow(&mut self, sid: &'static str, actions: &[&'static str], resources: impl IntoIterator<Item = String>) {
        let statement = self.statements.entry(sid).or_default();
        statement.actions.extend(actions);
        statement.resources.extend(resources);
    }

    /// The document, as IAM takes it.
    #[must_use]
    pub fn document(&self) -> Json {
        let used = self.statements.iter().filter(|(_, s)| !s.resources.is_empty());
        let statements: Vec<Json> = used
            .map(|(sid, s)| {
                let mut out = json!({ "Sid": sid, "Effect": "Allow", "Action": s.actions, "Resource": s.resources });
                if let Some((operator, key, values)) = &s.only {
                    out["Condition"] = json!({ *operator: { *key: values } });
                }
                out
            })
            .collect();
        json!({ "Version": "2012-10-17", "Statement": statements })
    }
}

/// The policies of a plan's roles. `parameters` are those of Parameter Store that hold passwords, in the plan's own region
/// and account.
#[must_use]
pub fn iam_policies(plan: &Plan, parameters: &[String]) -> Vec<IamPolicy> {
    let mut all: BTreeMap<(Option<&str>, Option<&str>), IamPolicy> = BTreeMap::new();
    for (name, store) in &plan.stores {
        if store.kind == StoreKind::Postgresql {
            continue;
        }
        let signer = (store.account.as_deref(), store.profile.as_deref());
        let policy = all.entry(signer).or_insert_with(|| IamPolicy {
            account: store.account.clone(),
            profile: store.profile.clone(),
            stores: Vec::new(),
            statements: BTreeMap::new(),
        });
        policy.stores.push(name.clone());
        match store.kind {
            StoreKind::Dynamodb => {
                source(plan, name, store, policy);
                target(plan, name, store, policy);
            }
            StoreKind::Aws => control(plan, name, store, parameters, policy),
            StoreKind::Postgresql => {}
        }
    }
    all.into_values().collect()
}

/// `arn:aws:dynamodb:eu-west-1:111122223333:table/books`. What is not known of account and region is any.
fn arn(store: &Store, service: &str, resource: &str) -> String {
    let region = store.region.as_deref().filter(|region| !region.is_empty()).unwrap_or("*");
    let partition = match region {
        _ if region.starts_with("cn-") => "aws-cn",
        _ if region.starts_with("us-gov-") => "aws-us-gov",
        _ => "aws",
    };
    // Gateways are named without the account they are in.
    let account = if service == "apigateway" { "" } else { store.account.as_deref().unwrap_or("*") };
    format!("arn:{partition}:{service}:{region}:{account}:{resource}")
}

fn table(store: &Store, name: &str) -> String {
    // A table of another account is named by its ARN.
    if name.starts_with("arn:") { name.to_owned() } else { arn(store, "dynamodb", &format!("table/{name}")) }
}

/// The streams of tables.
fn streams(tables: &[String]) -> impl Iterator<Item = String> + '_ {
    tables.iter().map(|table| format!("{table}/stream/*"))
}

const READ: [&str; 4] =
    ["dynamodb:DescribeTable", "dynamodb:DescribeTimeToLive", "dynamodb:Scan", "dynamodb:BatchGetItem"];
const FOLLOW: [&str; 3] = ["dynamodb:DescribeStream", "dynamodb:GetShardIterator", "dynamodb:GetRecords"];
const DEFINITION: [&str; 2] = ["dynamodb:ListTagsOfResource", "dynamodb:DescribeContinuousBackups"];
const ATTACHED: [&str; 3] = [
    "dynamodb:GetResourcePolicy",
    "dynamodb:DescribeKinesisStreamingDestination",
    "dynamodb:DescribeContributorInsights",
];

fn source(plan: &Plan, name: &str, store: &Store, policy: &mut IamPolicy) {
    let moved: Vec<&Table> = plan.tables.iter().filter(|t| t.from == name).collect();
    let arns: Vec<String> = moved.iter().map(|t| table(store, &t.source)).collect();
    policy.allow("ReadWhatMoves", &READ, arns.clone());
    policy.allow("NameWhatStaysBehind", &ATTACHED, arns.clone());
    let stays = plan.stays.iter().filter(|t| t.from == name).map(|t| table(store, &t.source));
    policy.allow("CountWhatStays", &["dynamodb:DescribeTable"], stays);
    if plan.moves.iter().any(|rule| rule.from == name) {
        policy.allow("ListTables", &["dynamodb:ListTables"], ["*".to_owned()]);
    }
    let held_against = moved.iter().filter(|t| plan.kind(&t.to) == StoreKind::Dynamodb);
    policy.allow("ReadDefinitions", &DEFINITION, held_against.map(|t| table(store, &t.source)));
    if plan.steps.iter().any(|s| s.kind == StepKind::Capture) {
        policy.allow("TurnStreamsOn", &["dynamodb:UpdateTable"], arns.clone());
        policy.allow("FollowChanges", &FOLLOW, streams(&arns));
        markers(store, &moved, policy);
    }
    if plan.reverse.enabled {
        let actions = ["dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:UpdateItem", "dynamodb:DeleteItem"];
        policy.allow("CarryWritesBack", &actions, arns);
    }
}

/// Markers are items whose key begins as the plan says; where keys are numbers or bytes no prefix tells them.
fn markers(store: &Store, moved: &[&Table], policy: &mut IamPolicy) {
    let actions = ["dynamodb:PutItem", "dynamodb:DeleteItem"];
    let (texts, others): (Vec<&&Table>, Vec<&&Table>) = moved.iter().partition(|t| has_text_key(t));
    let arns = |tables: &[&&Table]| tables.iter().map(|t| table(store, &t.source)).collect::<Vec<_>>();
    policy.allow("WriteMarkers", &actions, arns(&texts));
    policy.allow("WriteMarkersOfOtherKeys", &actions, arns(&others));
    if let Some(statement) = policy.statements.get_mut("WriteMarkers") {
        let only = ("ForAllValues:StringLike", "dynamodb:LeadingKeys", BTreeSet::new());
        statement.only.get_or_insert(only).2.extend(texts.iter().map(|t| format!("{}*", t.marker_prefix)));
    }
}

/// Whether the partition key is a text, as far as the plan knows.
fn has_text_key(table: &Table) -> bool {
    let made_of =
        |column: &&Column| matches!(&column.from, ColumnSource::Attribute(path) if path.first() == table.key.first());
    let column = table.columns.iter().filter(|column| column.key).find(made_of);
    let written = matches!(column.map(|c| c.ty), Some(ColumnType::Text | ColumnType::Varchar(_) | ColumnType::Uuid));
    written && !table.marker_prefix.is_empty()
}

fn target(plan: &Plan, name: &str, store: &Store, policy: &mut IamPolicy) {
    let tables: Vec<&Table> = plan.tables.iter().filter(|t| t.to == name).collect();
    if tables.is_empty() {
        return;
    }
    let arns: Vec<String> = tables.iter().map(|t| table(store, &t.target)).collect();
    let write = ["dynamodb:BatchWriteItem", "dynamodb:PutItem", "dynamodb:DeleteItem"];
    policy.allow("WriteNewTables", &[&READ[..], &write].concat(), arns.clone());
    let made = tables.iter().filter(|t| t.ddl.is_some()).map(|t| table(store, &t.target));
    let make = [
        "dynamodb:CreateTable",
        "dynamodb:TagResource",
        "dynamodb:UpdateTimeToLive",
        "dynamodb:UpdateContinuousBackups",
    ];
    policy.allow("MakeNewTables", &[&make[..], &DEFINITION].concat(), made);
    let held_against = tables.iter().filter(|t| plan.kind(&t.from) == StoreKind::Dynamodb);
    policy.allow("ReadDefinitions", &DEFINITION, held_against.map(|t| table(store, &t.target)));
    let book = [
        "dynamodb:CreateTable",
        "dynamodb:GetItem",
        "dynamodb:Query",
        "dynamodb:UpdateItem",
        "dynamodb:ConditionCheckItem",
    ];
    let own = table(store, BOOKKEEPING);
    policy.allow("KeepBooks", &[&READ[..], &write, &book].concat(), [own]);
    if plan.reverse.enabled {
        policy.allow("CaptureNewWrites", &["dynamodb:UpdateTable"], arns.clone());
        policy.allow("ReadNewWrites", &FOLLOW, streams(&arns));
    }
}

fn control(plan: &Plan, name: &str, store: &Store, parameters: &[String], policy: &mut IamPolicy) {
    let parameter = |name: &str| arn(store, "ssm", &format!("parameter/{}", name.trim_start_matches('/')));
    let (mut read, mut secure): (Vec<String>, bool) = (Vec::new(), false);
    if name == CONTROL {
        read.extend(parameters.iter().map(|name| parameter(name)));
        secure |= !parameters.is_empty();
    }
    for switch in plan.switches.iter().filter(|s| s.control == name) {
        for value in plan.values_of(switch) {
            if let ValueRef::Parameter(from) = value {
                read.push(parameter(from));
                secure = true;
            }
        }
        match &switch.kind {
            SwitchKind::Parameter { name, secure: secret } => {
                secure |= secret;
                let on = parameter(name);
                policy.allow("ReadSwitches", &["ssm:GetParameter", "ssm:GetParameterHistory"], [on.clone()]);
                policy.allow("SetSwitches", &["ssm:PutParameter"], [on]);
            }
            SwitchKind::StageVariable { api, stage, .. } => {
                let on = arn(store, "apigateway", &format!("/restapis/{api}/stages/{stage}"));
                policy.allow("SetStages", &["apigateway:GET", "apigateway:PATCH"], [on]);
            }
        }
    }
    policy.allow("ReadReferences", &["ssm:GetParameter"], read);
    if secure {
        // The plan does not say by which key a parameter is encrypted; only through Parameter Store is any of them used.
        let actions = ["kms:Decrypt", "kms:Encrypt", "kms:GenerateDataKey"];
        policy.allow("UseKeysOfParameters", &actions, [arn(store, "kms", "key/*")]);
        let via = format!("ssm.{}.amazonaws.com", store.region.as_deref().unwrap_or("*"));
        if let Some(statement) = policy.statements.get_mut("UseKeysOfParameters") {
            let only = statement.only.get_or_insert(("StringLike", "kms:ViaService", BTreeSet::new()));
            only.2.insert(via);
        }
    }
    for job in plan.jobs.iter().filter(|job| job.control == name) {
        begins(store, job, policy);
    }
    if name == CONTROL && plan.signals.iter().any(|s| matches!(s.source, SignalSource::CloudWatch(_))) {
        policy.allow("ReadMetrics", &["cloudwatch:GetMetricData"], ["*".to_owned()]);
    }
}

/// What begins a job, asks after it and ends it. Calls that list know no resource.
fn begins(store: &Store, job: &Job, policy: &mut IamPolicy) {
    let any = || ["*".to_owned()];
    match &job.kind {
        JobKind::InstanceRefresh { group, .. } => {
            let look = ["autoscaling:DescribeAutoScalingGroups", "autoscaling:DescribeInstanceRefreshes"];
            policy.allow("LookAtGroups", &look, any());
            let refresh = ["autoscaling:StartInstanceRefresh", "autoscaling:CancelInstanceRefresh"];
            let on = arn(store, "autoscaling", &format!("autoScalingGroup:*:autoScalingGroupName/{group}"));
            policy.allow("RefreshGroups", &refresh, [on]);
        }
        JobKind::ClusterSnapshot { cluster, name, .. } => {
            policy.allow("LookAtDatabases", &["rds:DescribeDBClusters", "rds:DescribeDBClusterSnapshots"], any());
            let on = [format!("cluster:{cluster}"), format!("cluster-snapshot:{name}-*")];
            let actions = ["rds:CreateDBClusterSnapshot", "rds:AddTagsToResource"];
            policy.allow("SnapshotClusters", &actions, on.map(|on| arn(store, "rds", &on)));
        }
        JobKind::InstanceSnapshot { instance, name, .. } => {
            policy.allow("LookAtDatabases", &["rds:DescribeDBInstances", "rds:DescribeDBSnapshots"], any());
            let on = [format!("db:{instance}"), format!("snapshot:{name}-*")];
            let actions = ["rds:CreateDBSnapshot", "rds:AddTagsToResource"];
            policy.allow("SnapshotInstances", &actions, on.map(|on| arn(store, "rds", &on)));
        }
        JobKind::TableBackup { table: name, .. } => {
            let on = table(store, name);
            let backups = format!("{on}/backup/*");
            policy.allow("BackTablesUp", &["dynamodb:DescribeTable", "dynamodb:CreateBackup"], [on]);
            policy.allow("ListBackups", &["dynamodb:ListBackups"], any());
            policy.allow("LookAtBackups", &["dynamodb:DescribeBackup"], [backups]);
        }
        JobKind::Delete(resource) => deletes(store, resource, policy),
        JobKind::Command { .. } => {}
    }
}

fn deletes(store: &Store, resource: &Resource, policy: &mut IamPolicy) {
    let any = || ["*".to_owned()];
    match resource {
        Resource::DbInstance { instance: id, .. } => {
            policy.allow("LookAtDatabases", &["rds:DescribeDBInstances"], any());
            policy.allow("DeleteInstances", &["rds:DeleteDBInstance"], [arn(store, "rds", &format!("db:{id}"))]);
        }
        Resource::DbCluster { cluster, final_snapshot } => {
            policy.allow("LookAtDatabases", &["rds:DescribeDBClusters"], any());
            let on = std::iter::once(format!("cluster:{cluster}"));
            let on = on.chain(final_snapshot.iter().map(|name| format!("cluster-snapshot:{name}-*")));
            let on: Vec<String> = on.map(|on| arn(store, "rds", &on)).collect();
            policy.allow("DeleteClusters", &["rds:DeleteDBCluster"], on.clone());
            if final_snapshot.is_some() {
                policy.allow("DeleteClusters", &["rds:CreateDBClusterSnapshot"], on);
            }
        }
        Resource::GlobalCluster(id) => {
            policy.allow("LookAtDatabases", &["rds:DescribeGlobalClusters"], any());
            let on = format!("arn:aws:rds::{}:global-cluster:{id}", store.account.as_deref().unwrap_or("*"));
            policy.allow("DeleteGlobalClusters", &["rds:DeleteGlobalCluster"], [on]);
        }
        Resource::Table(name) => {
            let actions = ["dynamodb:DescribeTable", "dynamodb:DeleteTable"];
            policy.allow("DeleteTables", &actions, [table(store, name)]);
        }
        Resource::Secret { secret, .. } => {
            // The service adds six characters to a secret's name.
            let on = match secret.starts_with("arn:") {
                true => secret.clone(),
                false => arn(store, "secretsmanager", &format!("secret:{secret}-??????")),
            };
            let actions = ["secretsmanager:DescribeSecret", "secretsmanager:DeleteSecret"];
            policy.allow("DeleteSecrets", &actions, [on]);
        }
    }
}
