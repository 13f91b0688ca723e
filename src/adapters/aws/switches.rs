//! Switches in the Parameter Store and in API Gateway (FEATURES C1, C2).

use async_trait::async_trait;
use aws_config::SdkConfig;
use aws_sdk_apigateway::types::{Op, PatchOperation};
use aws_sdk_ssm::types::ParameterType;

use super::error::port_error;
use super::session::endpoint;
use crate::domain::plan::{Switch, SwitchKind, ValueRef};
use crate::domain::secret::Secret;
use crate::ports::{ErrorKind, PortError, PortResult, Reading, Switches};

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
        for_ssm.set_endpoint_url(endpoint(session, ssm));
        let mut for_gateway = aws_sdk_apigateway::config::Builder::from(session);
        for_gateway.set_endpoint_url(endpoint(session, gateway));
        Self {
            ssm: aws_sdk_ssm::Client::from_conf(for_ssm.build()),
            gateway: aws_sdk_apigateway::Client::from_conf(for_gateway.build()),
        }
    }

    /// Reads a parameter; `selector` is a name or `name:version`.
    async fn parameter(&self, selector: &str) -> PortResult<Reading> {
        let answer = self
            .ssm
            .get_parameter()
            .name(selector)
            .with_decryption(true)
            .send()
            .await
            .map_err(|e| port_error("read parameter", selector, &e))?;
        let parameter = answer.parameter().and_then(|p| p.value().map(|v| (v, p.version())));
        let (value, version) = parameter.ok_or_else(|| {
            PortError::new(ErrorKind::Invalid, "read parameter", selector, "the answer holds no value")
        })?;
        Ok(Reading { value: Secret::new(value), version: (version > 0).then_some(version) })
    }

    async fn stage_variable(&self, api: &str, stage: &str, variable: &str) -> PortResult<Reading> {
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
        Ok(Reading { value: Secret::new(value), version: None })
    }
}

#[async_trait]
impl Switches for AwsSwitches {
    async fn read(&self, switch: &Switch) -> PortResult<Reading> {
        match &switch.kind {
            SwitchKind::Parameter { name, .. } => self.parameter(name).await,
            SwitchKind::StageVariable { api, stage, variable } => self.stage_variable(api, stage, variable).await,
        }
    }

    async fn read_version(&self, switch: &Switch, version: i64) -> PortResult<Secret> {
        match &switch.kind {
            SwitchKind::Parameter { name, .. } => Ok(self.parameter(&format!("{name}:{version}")).await?.value),
            SwitchKind::StageVariable { .. } => {
                Err(PortError::new(ErrorKind::Invalid, "read version of", switch.place(), "stage variables have none")
                    .advise("the captured value is in the journal"))
            }
        }
    }

    async fn set(&self, switch: &Switch, value: &Secret) -> PortResult<()> {
        match &switch.kind {
            SwitchKind::Parameter { name, secure } => {
                let kind = if *secure { ParameterType::SecureString } else { ParameterType::String };
                self.ssm
                    .put_parameter()
                    .name(name)
                    .value(value.reveal())
                    .r#type(kind)
                    .overwrite(true)
                    .send()
                    .await
                    .map(|_| ())
                    .map_err(|e| port_error("set parameter", name, &e))
            }
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
                    .map_err(|e| port_error("set stage variable", &switch.place(), &e))
            }
        }
    }

    async fn resolve(&self, value: &ValueRef) -> PortResult<Secret> {
        let missing = |on: &str, why: String, advice: &str| {
            Err(PortError::new(ErrorKind::NotFound, "resolve value", on, why).advise(advice))
        };
        match value {
            ValueRef::Literal(text) => Ok(Secret::new(text)),
            ValueRef::Env(name) => match std::env::var(name) {
                Ok(text) => Ok(Secret::new(text)),
                Err(e) => missing(name, e.to_string(), "set the environment variable before starting"),
            },
            ValueRef::File(path) => match tokio::fs::read_to_string(path).await {
                Ok(text) => Ok(Secret::new(text.trim_end_matches(['\n', '\r']))),
                Err(e) => missing(path, e.to_string(), "write the file before starting"),
            },
            ValueRef::Parameter(name) => Ok(self.parameter(name).await?.value),
        }
    }
}
