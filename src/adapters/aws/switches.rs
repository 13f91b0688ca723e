//! Switches in the Parameter Store and in API Gateway (FEATURES C1, C2).

use async_trait::async_trait;
use aws_config::SdkConfig;
use aws_sdk_apigateway::types::{Op, PatchOperation};
use aws_sdk_ssm::types::{ParameterHistory, ParameterTier, ParameterType};

use super::error::port_error;
use crate::domain::plan::{Switch, SwitchKind, ValueRef};
use crate::domain::run::Attributes;
use crate::domain::secret::Secret;
use crate::ports::{ErrorKind, PortError, PortResult, SwitchValue, Switches};

/// Versions asked for at a time.
const HISTORY_PAGE: i32 = 50;
/// Versions the store keeps; the oldest makes room for a new one, unless a label is on it (Systems Manager user guide).
const VERSIONS: usize = 100;
const HISTORY: &str = "read the history of parameter";

/// Reads and writes switches through the official SDKs.
#[derive(Clone, Debug)]
pub struct AwsSwitches {
    ssm: aws_sdk_ssm::Client,
    gateway: aws_sdk_apigateway::Client,
}

impl AwsSwitches {
    /// Clients over one session; endpoints override AWS's own.
    #[must_use]
    pub fn new(session: &SdkConfig, ssm: Option<&str>, gateway: Option<&str>) -> Self {
        let mut for_ssm = aws_sdk_ssm::config::Builder::from(session);
        let mut for_gateway = aws_sdk_apigateway::config::Builder::from(session);
        // Without one given, what the environment or the profile names for the service alone still stands.
        if let Some(endpoint) = ssm {
            for_ssm = for_ssm.endpoint_url(endpoint);
        }
        if let Some(endpoint) = gateway {
            for_gateway = for_gateway.endpoint_url(endpoint);
        }
        Self {
            ssm: aws_sdk_ssm::Client::from_conf(for_ssm.build()),
            gateway: aws_sdk_apigateway::Client::from_conf(for_gateway.build()),
        }
    }

    /// Reads a parameter; `selector` is a name or `name:version`.
    async fn parameter(&self, selector: &str) -> PortResult<SwitchValue> {
        let answer = self
            .ssm
            .get_parameter()
            .name(selector)
            .with_decryption(true)
            .send()
            .await
            .map_err(|e| port_error("read parameter", selector, &e))?;
        let parameter = answer.parameter().and_then(|p| p.value().map(|v| (v, p)));
        let (value, parameter) = parameter.ok_or_else(|| {
            PortError::new(ErrorKind::Invalid, "read parameter", selector, "the answer holds no value")
        })?;
        let version = parameter.version();
        let secret = parameter.r#type() == Some(&ParameterType::SecureString);
        Ok(SwitchValue { value: Secret::new(value), version: (version > 0).then_some(version), secret })
    }

    /// A parameter's history, values left encrypted: all of it, or as far as the page with this version.
    async fn history(&self, name: &str, until: Option<i64>) -> PortResult<Vec<ParameterHistory>> {
        let mut versions = Vec::new();
        let mut next = None;
        loop {
            let page = self
                .ssm
                .get_parameter_history()
                .name(name)
                .with_decryption(false)
                .max_results(HISTORY_PAGE)
                .set_next_token(next)
                .send()
                .await
                .map_err(|e| port_error(HISTORY, name, &e))?;
            next = page.next_token().map(str::to_owned);
            versions.extend(page.parameters.unwrap_or_default());
            if next.is_none() || until.is_some_and(|until| versions.iter().any(|v| v.version() == until)) {
                return Ok(versions);
            }
        }
    }

    /// A parameter's version as its history has it; without a version the newest.
    async fn in_history(&self, name: &str, version: Option<i64>) -> PortResult<ParameterHistory> {
        let found = self.history(name, version).await?.into_iter();
        let found = match version {
            Some(version) => found.into_iter().find(|v| v.version() == version),
            None => found.max_by_key(ParameterHistory::version),
        };
        found.ok_or_else(|| {
            let which = version.map_or_else(|| "no version".to_owned(), |v| format!("no version {v} any more"));
            PortError::new(ErrorKind::NotFound, HISTORY, name, format!("it holds {which}"))
                .advise("the store keeps the last 100 versions; see who writes this parameter so often")
        })
    }

    async fn put(&self, name: &str, secure: bool, value: &Secret, with: &Attributes) -> PortResult<()> {
        let as_planned = if secure { ParameterType::SecureString } else { ParameterType::String };
        let put = self
            .ssm
            .put_parameter()
            .name(name)
            .value(value.reveal())
            .r#type(with.kind.as_deref().map_or(as_planned, ParameterType::from))
            .overwrite(true)
            .set_key_id(with.key.clone())
            .set_tier(with.tier.as_deref().map(ParameterTier::from))
            .set_data_type(with.data_type.clone())
            .set_allowed_pattern(with.pattern.clone())
            .set_description(with.description.clone())
            .set_policies((!with.policies.is_empty()).then(|| format!("[{}]", with.policies.join(","))));
        put.send().await.map(|_| ()).map_err(|e| port_error("set parameter", name, &e).without(value))
    }

    async fn stage_variable(&self, api: &str, stage: &str, variable: &str) -> PortResult<SwitchValue> {
        let on = format!("{api}/{stage}:{variable}");
        let answer = self
            .gateway
            .get_stage()
            .rest_api_id(api)
            .stage_name(stage)
            .send()
            .await
            .map_err(|e| port_error("read stage variable", &on, &e))?;
        let value = answer.variables().and_then(|v| v.get(variable)).ok_or_else(|| {
            PortError::new(ErrorKind::NotFound, "read stage variable", &on, "the stage has no such variable")
                .advise("create the variable before the migration day; only existing values can be restored")
        })?;
        let canary = answer.canary_settings();
        if let Some(other) = canary.and_then(|c| c.stage_variable_overrides()).and_then(|o| o.get(variable)) {
            let share = canary.map_or(0.0, |c| c.percent_traffic());
            let why = format!(
                "the stage holds {value}, but its canary overrides the variable with {other} for {share} % of requests"
            );
            return Err(PortError::new(ErrorKind::Conflict, "read stage variable", &on, why)
                .advise("promote or delete the stage's canary (canarySettings), then try again"));
        }
        Ok(SwitchValue { value: Secret::new(value), version: None, secret: false })
    }
}

/// What the store keeps beside a version's value. Empty texts are none.
fn attributes(found: &ParameterHistory) -> Attributes {
    let text = |v: Option<&str>| v.filter(|v| !v.is_empty()).map(str::to_owned);
    let kind = found.r#type().map(|t| t.as_str().to_owned());
    Attributes {
        key: text(found.key_id()).filter(|_| kind.as_deref() == Some(ParameterType::SecureString.as_str())),
        kind,
        tier: found.tier().map(|t| t.as_str().to_owned()),
        data_type: text(found.data_type()),
        pattern: text(found.allowed_pattern()),
        description: text(found.description()),
        policies: found.policies().iter().filter_map(|p| p.policy_text()).map(one_form).collect(),
    }
}

/// A policy's JSON in one form, so that spaces and the order of its members make no difference.
fn one_form(policy: &str) -> String {
    serde_json::from_str::<serde_json::Value>(policy).map_or_else(|_| policy.to_owned(), |v| v.to_string())
}

#[async_trait]
impl Switches for AwsSwitches {
    async fn read(&self, switch: &Switch) -> PortResult<SwitchValue> {
        match &switch.kind {
            SwitchKind::Parameter { name, .. } => self.parameter(name).await,
            SwitchKind::StageVariable { api, stage, variable } => self.stage_variable(api, stage, variable).await,
        }
    }

    async fn read_version(&self, switch: &Switch, version: i64) -> PortResult<SwitchValue> {
        match &switch.kind {
            SwitchKind::Parameter { name, .. } => self.parameter(&format!("{name}:{version}")).await,
            SwitchKind::StageVariable { .. } => {
                Err(PortError::new(ErrorKind::Invalid, "read version of", switch.place(), "stage variables have none")
                    .advise("the captured value is in the journal"))
            }
        }
    }

    async fn attributes(&self, switch: &Switch, version: Option<i64>) -> PortResult<Attributes> {
        match &switch.kind {
            SwitchKind::Parameter { name, .. } => self.in_history(name, version).await.map(|p| attributes(&p)),
            SwitchKind::StageVariable { .. } => Ok(Attributes::default()),
        }
    }

    async fn writes_left(&self, switch: &Switch) -> PortResult<Option<usize>> {
        let SwitchKind::Parameter { name, .. } = &switch.kind else { return Ok(None) };
        let mut versions = self.history(name, None).await?;
        versions.sort_by_key(ParameterHistory::version);
        let labelled = versions.iter().position(|v| !v.labels().is_empty());
        Ok(labelled.map(|before| VERSIONS.saturating_sub(versions.len()) + before))
    }

    async fn set(&self, switch: &Switch, value: &Secret, attributes: &Attributes) -> PortResult<()> {
        match &switch.kind {
            SwitchKind::Parameter { name, secure } => self.put(name, *secure, value, attributes).await,
            SwitchKind::StageVariable { api, stage, variable } => {
                let patch = PatchOperation::builder()
                    .op(Op::Replace)
                    .path(format!("/variables/{variable}"))
                    .value(value.reveal())
                    .build();
                self.gateway
                    .update_stage()
                    .rest_api_id(api)
                    .stage_name(stage)
                    .patch_operations(patch)
                    .send()
                    .await
                    .map(|_| ())
                    .map_err(|e| port_error("set stage variable", &switch.place(), &e).without(value))
            }
        }
    }

    async fn resolve(&self, value: &ValueRef, _control: &str) -> PortResult<SwitchValue> {
        let plain = |text: &str| Ok(SwitchValue { value: Secret::new(text), version: None, secret: false });
        let missing = |on: &str, why: String, advice: &str| {
            Err(PortError::new(ErrorKind::NotFound, "resolve value", on, why).advise(advice))
        };
        match value {
            ValueRef::Literal(text) => plain(text),
            ValueRef::Env(name) => match std::env::var(name) {
                Ok(text) => plain(&text),
                Err(e) => missing(name, e.to_string(), "set the environment variable before starting"),
            },
            ValueRef::File(path) => match tokio::fs::read_to_string(path).await {
                Ok(text) => plain(text.trim_end_matches(['\n', '\r'])),
                Err(e) => missing(path, e.to_string(), "write the file before starting"),
            },
            ValueRef::Parameter(name) => self.parameter(name).await,
        }
    }
}
