//! The Parameter Store: JSON 1.1.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{Plane, Refusal, now};
use crate::private::clients::REGION;
use crate::rehearsal::fault::Fault;
use crate::rehearsal::held;

/// Versions that are kept of one parameter.
const HISTORY: usize = 100;
/// The tier of parameters that cost nothing.
const PLAIN: &str = "Standard";
/// Longest value of that tier.
const STANDARD_BYTES: usize = 4096;

/// The types of parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParameterKind {
    /// Plain text.
    String,
    /// A comma-separated list.
    StringList,
    /// Encrypted text.
    SecureString,
}

impl ParameterKind {
    const fn name(self) -> &'static str {
        match self {
            Self::String => "String",
            Self::StringList => "StringList",
            Self::SecureString => "SecureString",
        }
    }

    fn parse(name: &str) -> Option<Self> {
        [Self::String, Self::StringList, Self::SecureString].into_iter().find(|k| k.name() == name)
    }
}

#[derive(Clone)]
struct Version {
    number: i64,
    kind: ParameterKind,
    value: String,
    /// Of a SecureString: the key it is encrypted with.
    key: Option<String>,
    tier: String,
    data_type: String,
    /// What is lost when a value is written without it.
    description: Option<String>,
    pattern: Option<String>,
    policies: Vec<Value>,
    labels: Vec<String>,
    modified: f64,
}

/// All parameters with their versions, oldest first.
#[derive(Default)]
pub(super) struct Parameters(Mutex<BTreeMap<String, Vec<Version>>>);

impl std::fmt::Debug for Parameters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Values may be secrets.
        write!(f, "Parameters({})", held(&self.0).len())
    }
}

type Answer = Result<Value, Refusal>;

pub(super) async fn call(plane: &Plane, operation: &str, input: &Value) -> Answer {
    match operation {
        "GetParameter" => get(plane, input),
        "GetParameters" => get_many(plane, input),
        "GetParametersByPath" => by_path(plane, input),
        "GetParameterHistory" => history(plane, input),
        "LabelParameterVersion" => label(plane, input),
        "PutParameter" => put(plane, input).await,
        other => Err(Refusal::new("UnknownOperationException", format!("the rehearsal has no {other}"))),
    }
}

fn text<'a>(input: &'a Value, field: &str) -> Result<&'a str, Refusal> {
    input
        .get(field)
        .and_then(Value::as_str)
        .filter(|s| !s.is_empty())
        .ok_or_else(|| Refusal::new("ValidationException", format!("{field} must be given and not empty")))
}

fn flag(input: &Value, field: &str) -> bool {
    input.get(field).and_then(Value::as_bool).unwrap_or(false)
}

/// Text in the form the key service would have given the value, which does not show it.
fn sealed(name: &str, version: &Version) -> String {
    let mut block = Sha256::digest(format!("{name}\0{}\0{}", version.number, version.value)).to_vec();
    let mut bytes = b"\x01\x02\x02\x00x".to_vec();
    while bytes.len() < 96 + version.value.len() {
        bytes.extend_from_slice(&block);
        block = Sha256::digest(&block).to_vec();
    }
    STANDARD.encode(bytes)
}

fn shown(name: &str, version: &Version, decrypt: bool) -> Value {
    let value = if version.kind == ParameterKind::SecureString && !decrypt {
        sealed(name, version)
    } else {
        version.value.clone()
    };
    json!({
        "Name": name,
        "Type": version.kind.name(),
        "Value": value,
        "Version": version.number,
        "LastModifiedDate": version.modified,
        "ARN": format!("arn:aws:ssm:{REGION}:000000000000:parameter/{}", name.trim_start_matches('/')),
        "DataType": version.data_type,
    })
}

/// Finds `name`, `name:version` or `name:label`.
fn select(all: &BTreeMap<String, Vec<Version>>, selector: &str, decrypt: bool) -> Answer {
    let (name, which) = match selector.split_once(':') {
        Some((name, which)) => (name, Some(which)),
        None => (selector, None),
    };
    let versions =
        all.get(name).ok_or_else(|| Refusal::new("ParameterNotFound", format!("Parameter {name} not found.")))?;
    let found = match which {
        None => versions.last(),
        Some(which) => versions.iter().find(|v| match which.parse::<i64>() {
            Ok(number) => v.number == number,
            Err(_) => v.labels.iter().any(|l| l == which),
        }),
    };
    let version = found.ok_or_else(|| {
        Refusal::new("ParameterVersionNotFound", format!("Systems Manager could not find version of {selector}."))
    })?;
    let mut value = shown(name, version, decrypt);
    if let Some(which) = which {
        value["Selector"] = json!(format!(":{which}"));
    }
    Ok(value)
}

fn get(plane: &Plane, input: &Value) -> Answer {
    let found = select(&held(&plane.parameters.0), text(input, "Name")?, flag(input, "WithDecryption"))?;
    Ok(json!({ "Parameter": found }))
}

fn get_many(plane: &Plane, input: &Value) -> Answer {
    let names: Vec<&str> =
        input.get("Names").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
    if names.is_empty() || names.len() > 10 {
        return Err(Refusal::new("ValidationException", "Names must hold 1 to 10 names"));
    }
    let all = held(&plane.parameters.0);
    let (mut found, mut invalid) = (Vec::new(), Vec::new());
    for name in names {
        match select(&all, name, flag(input, "WithDecryption")) {
            Ok(value) => found.push(value),
            Err(_) => invalid.push(name),
        }
    }
    Ok(json!({ "Parameters": found, "InvalidParameters": invalid }))
}

/// The window of `all` that `input` asks for, and the token for the next.
fn window(all: Vec<Value>, input: &Value, most: u64) -> Result<(Vec<Value>, Option<String>), Refusal> {
    let limit = input.get("MaxResults").map_or(Some(most), Value::as_u64);
    let limit = limit
        .filter(|n| (1..=most).contains(n))
        .ok_or_else(|| Refusal::new("ValidationException", format!("MaxResults must be between 1 and {most}")))?;
    let start = match input.get("NextToken").and_then(Value::as_str) {
        None => 0,
        Some(token) => token
            .parse::<usize>()
            .ok()
            .filter(|n| *n <= all.len())
            .ok_or_else(|| Refusal::new("InvalidNextToken", "The specified token is not valid."))?,
    };
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let next = (start + limit < all.len()).then(|| (start + limit).to_string());
    Ok((all.into_iter().skip(start).take(limit).collect(), next))
}

fn by_path(plane: &Plane, input: &Value) -> Answer {
    let path = text(input, "Path")?;
    if !path.starts_with('/') {
        return Err(Refusal::new("ValidationException", "Path must begin with a slash"));
    }
    let prefix = format!("{}/", path.trim_end_matches('/'));
    let (deep, decrypt) = (flag(input, "Recursive"), flag(input, "WithDecryption"));
    let all = held(&plane.parameters.0);
    let inside =
        all.iter().filter(|(name, _)| name.strip_prefix(&prefix).is_some_and(|rest| deep || !rest.contains('/')));
    let found = inside.filter_map(|(name, v)| v.last().map(|v| shown(name, v, decrypt))).collect();
    let (page, next) = window(found, input, 10)?;
    Ok(with_token(json!({ "Parameters": page }), next))
}

fn with_token(mut answer: Value, next: Option<String>) -> Value {
    if let Some(next) = next {
        answer["NextToken"] = json!(next);
    }
    answer
}

fn history(plane: &Plane, input: &Value) -> Answer {
    let name = text(input, "Name")?;
    let all = held(&plane.parameters.0);
    let versions =
        all.get(name).ok_or_else(|| Refusal::new("ParameterNotFound", format!("Parameter {name} not found.")))?;
    let decrypt = flag(input, "WithDecryption");
    let told = versions
        .iter()
        .map(|v| {
            let mut value = shown(name, v, decrypt);
            value["Labels"] = json!(v.labels);
            value["LastModifiedUser"] = json!("arn:aws:iam::000000000000:user/rehearsal");
            value["Tier"] = json!(v.tier);
            value["Policies"] = json!(v.policies);
            if let Some(fields) = value.as_object_mut() {
                fields.remove("ARN");
                let known = [("KeyId", &v.key), ("Description", &v.description), ("AllowedPattern", &v.pattern)];
                fields.extend(known.into_iter().filter_map(|(k, v)| Some((k.to_owned(), json!(v.as_ref()?)))));
            }
            value
        })
        .collect();
    let (page, next) = window(told, input, 50)?;
    Ok(with_token(json!({ "Parameters": page }), next))
}

fn label(plane: &Plane, input: &Value) -> Answer {
    let name = text(input, "Name")?;
    let labels: Vec<&str> =
        input.get("Labels").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
    if labels.is_empty() {
        return Err(Refusal::new("ValidationException", "Labels must hold at least one label"));
    }
    let mut all = held(&plane.parameters.0);
    let versions =
        all.get_mut(name).ok_or_else(|| Refusal::new("ParameterNotFound", format!("Parameter {name} not found.")))?;
    let number = match input.get("ParameterVersion").and_then(Value::as_i64) {
        Some(number) => number,
        None => versions.last().map_or(0, |v| v.number),
    };
    if !versions.iter().any(|v| v.number == number) {
        return Err(Refusal::new("ParameterVersionNotFound", format!("{name} has no version {number}.")));
    }
    let (valid, invalid): (Vec<&str>, Vec<&str>) = labels.into_iter().partition(|l| label_is_valid(l));
    for version in versions.iter_mut() {
        // A label sits on one version only: putting it elsewhere moves it.
        version.labels.retain(|l| !valid.contains(&l.as_str()));
        if version.number == number {
            version.labels.extend(valid.iter().map(|l| (*l).to_owned()));
        }
    }
    Ok(json!({ "InvalidLabels": invalid, "ParameterVersion": number }))
}

fn label_is_valid(label: &str) -> bool {
    let low = label.to_lowercase();
    let starts_well =
        !label.starts_with(|c: char| c.is_ascii_digit()) && !low.starts_with("aws") && !low.starts_with("ssm");
    starts_well && label.len() <= 100 && label.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c))
}

/// Whether the parameter moves traffic: where data is read, written and with which secret. The freeze does not.
fn moves_traffic(name: &str) -> bool {
    name.contains("/db/") || name.contains("/dynamodb/")
}

async fn put(plane: &Plane, input: &Value) -> Answer {
    if plane.faults.active(Fault::SsmSlow) {
        plane.faults.struck(Fault::SsmSlow);
        tokio::time::sleep(Duration::from_secs(3)).await;
    }
    let (name, value) = (text(input, "Name")?, text(input, "Value")?);
    if name.contains(':') || !name.chars().all(|c| c.is_ascii_alphanumeric() || "/_.-".contains(c)) {
        return Err(Refusal::new("ValidationException", format!("{name} is not a parameter name")));
    }
    let first = held(&plane.parameters.0).get(name).and_then(|v| v.first().map(|v| v.value.clone()));
    let away = moves_traffic(name) && first.is_some_and(|first| first != value);
    if away && plane.faults.active(Fault::SsmRefuse) {
        plane.faults.struck(Fault::SsmRefuse);
        return Err(Refusal::internal("injected: the parameter was not written"));
    }
    let answer = write(plane, name, value, input)?;
    if away && plane.faults.active(Fault::SsmLostReply) {
        plane.faults.struck(Fault::SsmLostReply);
        return Err(Refusal::internal("injected: the answer was lost"));
    }
    Ok(answer)
}

fn write(plane: &Plane, name: &str, value: &str, input: &Value) -> Answer {
    let kind = match input.get("Type").and_then(Value::as_str) {
        None => None,
        Some(given) => Some(
            ParameterKind::parse(given)
                .ok_or_else(|| Refusal::new("UnsupportedParameterType", format!("{given} is not a parameter type")))?,
        ),
    };
    let mut all = held(&plane.parameters.0);
    let last = all.get(name).and_then(|v| v.last());
    if last.is_some() && !flag(input, "Overwrite") {
        let message = "The parameter already exists. To overwrite this value, set the overwrite option to true.";
        return Err(Refusal::new("ParameterAlreadyExists", message));
    }
    let kind = kind
        .or(last.map(|v| v.kind))
        .ok_or_else(|| Refusal::new("ValidationException", "A parameter type is required when you create one."))?;
    let given = |field: &str| input.get(field).and_then(Value::as_str).filter(|s| !s.is_empty()).map(str::to_owned);
    let tier = given("Tier").or_else(|| last.map(|v| v.tier.clone())).unwrap_or_else(|| PLAIN.to_owned());
    if tier == PLAIN && last.is_some_and(|v| v.tier != PLAIN) {
        return Err(Refusal::new("ValidationException", "An advanced parameter cannot become a standard one."));
    }
    if tier == PLAIN && value.len() > STANDARD_BYTES {
        let message =
            format!("Standard tier parameters support a maximum parameter value of {STANDARD_BYTES} characters.");
        return Err(Refusal::new("ValidationException", message));
    }
    let policies = policies(input.get("Policies").and_then(Value::as_str), &tier)?;
    // Without a key the account's own is taken, whichever the version before had.
    let key =
        (kind == ParameterKind::SecureString).then(|| given("KeyId").unwrap_or_else(|| "alias/aws/ssm".to_owned()));
    let data_type = given("DataType").unwrap_or_else(|| "text".to_owned());
    let (description, pattern) = (given("Description"), given("AllowedPattern"));
    let number = last.map_or(1, |v| v.number + 1);
    let versions = all.entry(name.to_owned()).or_default();
    if versions.len() == HISTORY {
        if versions.first().is_some_and(|v| !v.labels.is_empty()) {
            let message = "The oldest of 100 versions has a label and cannot be removed.";
            return Err(Refusal::new("ParameterMaxVersionLimitExceeded", message));
        }
        versions.remove(0);
    }
    let answer = json!({ "Version": number, "Tier": tier });
    let (value, labels, modified) = (value.to_owned(), Vec::new(), now());
    let new = Version { number, kind, value, key, tier, data_type, description, pattern, policies, labels, modified };
    versions.push(new);
    Ok(answer)
}

/// Policies as the history has them.
fn policies(given: Option<&str>, tier: &str) -> Result<Vec<Value>, Refusal> {
    let Some(text) = given else { return Ok(Vec::new()) };
    let invalid = || Refusal::new("InvalidPolicyAttributeException", "The policies are not a list of policies.");
    let all = serde_json::from_str::<Vec<Value>>(text).map_err(|_| invalid())?;
    if tier == PLAIN && !all.is_empty() {
        return Err(Refusal::new("ValidationException", "Policies need the Advanced tier."));
    }
    all.into_iter()
        .map(|policy| {
            let kind = policy.get("Type").and_then(Value::as_str).ok_or_else(invalid)?.to_owned();
            Ok(json!({ "PolicyText": policy.to_string(), "PolicyType": kind, "PolicyStatus": "Pending" }))
        })
        .collect()
}
