//! Where the calls to a service go: worked out by the SDK itself, so that the SDK's clients and our own go to one
//! place.

use aws_config::SdkConfig;
use aws_types::service_config::ServiceConfigKey;
use futures::FutureExt as _;

/// A service that is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// DynamoDB tables.
    Dynamodb,
    /// DynamoDB Streams.
    Streams,
    /// Parameter Store.
    Ssm,
    /// API Gateway.
    Apigateway,
    /// CloudWatch.
    Cloudwatch,
    /// Security Token Service.
    Sts,
    /// Auto Scaling.
    Autoscaling,
    /// RDS.
    Rds,
    /// Secrets Manager.
    Secretsmanager,
}

impl Service {
    /// As the config calls it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Dynamodb => "dynamodb",
            Self::Streams => "streams",
            Self::Ssm => "ssm",
            Self::Apigateway => "apigateway",
            Self::Cloudwatch => "cloudwatch",
            Self::Sts => "sts",
            Self::Autoscaling => "autoscaling",
            Self::Rds => "rds",
            Self::Secretsmanager => "secretsmanager",
        }
    }

    /// As variables and profiles call it: `AWS_ENDPOINT_URL_DYNAMODB_STREAMS`.
    const fn id(self) -> &'static str {
        match self {
            Self::Dynamodb => "DynamoDB",
            Self::Streams => "DynamoDB Streams",
            Self::Ssm => "SSM",
            Self::Apigateway => "API Gateway",
            Self::Cloudwatch => "CloudWatch",
            Self::Sts => "STS",
            Self::Autoscaling => "Auto Scaling",
            Self::Rds => "RDS",
            Self::Secretsmanager => "Secrets Manager",
        }
    }
}

/// The endpoint that the environment or the profile names for a service, for it alone or for all. `None` is AWS's own.
#[must_use]
pub fn configured(session: &SdkConfig, service: Service) -> Option<String> {
    let key = ServiceConfigKey::builder().service_id(service.id()).profile("endpoint_url").env("AWS_ENDPOINT_URL");
    let own = session.service_config().zip(key.build().ok()).and_then(|(all, key)| all.load_config(key));
    own.or_else(|| session.endpoint_url().map(str::to_owned))
}

/// Where the calls to a service go. `given`, from the config, wins over what the environment and the profile name;
/// without either it is AWS's own endpoint, the FIPS or dual-stack one if that is asked for.
///
/// # Errors
/// There is none: no region, or the region has no endpoint of that kind.
pub fn address(session: &SdkConfig, service: Service, given: Option<&str>) -> Result<String, String> {
    macro_rules! resolved {
        ($sdk:ident) => {{
            use $sdk::config::endpoint::{DefaultResolver, Params, ResolveEndpoint as _};
            let params = Params::builder()
                .set_region(session.region().map(ToString::to_string))
                .use_fips(session.use_fips().unwrap_or(false))
                .use_dual_stack(session.use_dual_stack().unwrap_or(false))
                .set_endpoint(given.map(str::to_owned).or_else(|| configured(session, service)))
                .build()
                .map_err(|e| e.to_string())?;
            let found = DefaultResolver::new().resolve_endpoint(&params).now_or_never();
            found.ok_or("the SDK is still working it out")?.map(|e| e.url().to_owned()).map_err(|e| e.to_string())
        }};
    }
    match service {
        #[cfg(feature = "dynamodb")]
        Service::Dynamodb => resolved!(aws_sdk_dynamodb),
        #[cfg(feature = "dynamodb")]
        Service::Streams => resolved!(aws_sdk_dynamodbstreams),
        #[cfg(not(feature = "dynamodb"))]
        Service::Dynamodb | Service::Streams => Err("this build has no DynamoDB".to_owned()),
        Service::Ssm => resolved!(aws_sdk_ssm),
        Service::Apigateway => resolved!(aws_sdk_apigateway),
        Service::Cloudwatch => resolved!(aws_sdk_cloudwatch),
        Service::Sts => resolved!(aws_sdk_sts),
        Service::Autoscaling => resolved!(aws_sdk_autoscaling),
        Service::Rds => resolved!(aws_sdk_rds),
        Service::Secretsmanager => resolved!(aws_sdk_secretsmanager),
    }
}

#[cfg(all(test, feature = "dynamodb"))]
mod tests {
    use aws_types::region::Region;
    use aws_types::service_config::LoadServiceConfig;

    use super::*;

    /// What the environment names for one service.
    #[derive(Debug)]
    struct Named(&'static str, &'static str);

    impl LoadServiceConfig for Named {
        fn load_config(&self, key: ServiceConfigKey<'_>) -> Option<String> {
            (key.service_id() == self.0 && key.env() == "AWS_ENDPOINT_URL").then(|| self.1.to_owned())
        }
    }

    fn session() -> aws_types::sdk_config::Builder {
        SdkConfig::builder().region(Region::new("eu-west-1"))
    }

    #[test]
    fn the_config_wins_over_the_service_over_all_over_aws() {
        let at = |session: &SdkConfig, service| address(session, service, None).unwrap();
        let plain = session().build();
        assert_eq!(at(&plain, Service::Dynamodb), "https://dynamodb.eu-west-1.amazonaws.com");
        assert_eq!(at(&plain, Service::Streams), "https://streams.dynamodb.eu-west-1.amazonaws.com");
        let others = [Service::Autoscaling, Service::Rds, Service::Secretsmanager];
        for service in [Service::Ssm, Service::Apigateway, Service::Cloudwatch, Service::Sts].into_iter().chain(others)
        {
            let at = at(&plain, service);
            assert!(at.starts_with("https://") && at.contains("eu-west-1"), "{at}");
        }
        let streams =
            session().service_config(Named("DynamoDB Streams", "http://own")).endpoint_url("http://all").build();
        assert_eq!(at(&streams, Service::Streams), "http://own");
        assert_eq!(at(&streams, Service::Dynamodb), "http://all");
        assert_eq!(address(&streams, Service::Streams, Some("http://given")).as_deref(), Ok("http://given"));
        let gateway = session().service_config(Named("API Gateway", "http://own")).build();
        assert_eq!(at(&gateway, Service::Apigateway), "http://own");
        assert_eq!(
            at(&session().use_fips(true).build(), Service::Dynamodb),
            "https://dynamodb-fips.eu-west-1.amazonaws.com"
        );
        assert_eq!(
            at(&session().use_dual_stack(true).build(), Service::Dynamodb),
            "https://dynamodb.eu-west-1.api.aws"
        );
        assert!(address(&SdkConfig::builder().build(), Service::Ssm, None).is_err(), "no region");
    }
}
