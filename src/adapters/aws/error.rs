//! SDK errors as port errors. The SDK's own texts may quote request parts, so only code and message are kept.

use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;

use crate::ports::{ErrorKind, PortError};

/// Turns an SDK error into a port error.
pub fn port_error<E>(tried: &str, on: &str, error: &SdkError<E, HttpResponse>) -> PortError
where
    E: ProvideErrorMetadata,
{
    match error {
        SdkError::TimeoutError(_) => PortError::new(ErrorKind::TimedOut, tried, on, "no answer in time")
            .advise("read it back before trying again"),
        SdkError::DispatchFailure(f) => {
            let kind = if f.is_timeout() { ErrorKind::TimedOut } else { ErrorKind::Unreachable };
            let why = f.as_connector_error().map_or_else(|| "no connection".to_owned(), |e| root_cause(e));
            PortError::new(kind, tried, on, why).advise("check the endpoint, the network and the credentials' source")
        }
        SdkError::ConstructionFailure(_) => {
            PortError::new(ErrorKind::Invalid, tried, on, "the request could not be built")
                .advise("check region and credentials")
        }
        SdkError::ResponseError(_) => PortError::new(ErrorKind::Internal, tried, on, "the answer could not be read"),
        SdkError::ServiceError(s) => {
            let Some(code) = s.err().code() else { return without_a_code(tried, on, s.raw().status().as_u16()) };
            let message = s.err().message().map_or_else(String::new, |message| format!(": {message}"));
            let (kind, advice) = classify(code);
            PortError::new(kind, tried, on, format!("{code}{message}")).advise(advice)
        }
        // The enum may grow.
        _ => PortError::new(ErrorKind::Internal, tried, on, "the call failed before it was answered"),
    }
}

/// What is said of an answer that names no error of the service.
const UNSIGNED: &str = ", without an error of the service";

/// Whether somebody else than the service may have answered: what it says of the service's things proves nothing.
pub(super) fn is_unsigned(error: &PortError) -> bool {
    error.came_back.ends_with(UNSIGNED)
}

/// An answer that the service itself did not write, or not in its form: of a proxy, a load balancer, a gateway.
fn without_a_code(tried: &str, on: &str, status: u16) -> PortError {
    let (kind, advice) = match status {
        401 | 403 | 407 => (ErrorKind::Denied, "see whether a proxy or a firewall answered in place of the service"),
        404 => (ErrorKind::NotFound, "check the endpoint and the region"),
        429 => (ErrorKind::Throttled, "trying again more slowly"),
        500.. => (ErrorKind::Internal, "trying again may help; see whether a proxy answered in place of the service"),
        _ => (ErrorKind::Invalid, "check the endpoint: something else than the service may have answered"),
    };
    PortError::new(kind, tried, on, format!("HTTP status {status}{UNSIGNED}")).advise(advice)
}

/// The end of an error's chain of causes, in one line.
pub(super) fn root_cause(error: &(dyn std::error::Error + 'static)) -> String {
    let mut at = error;
    while let Some(next) = at.source() {
        at = next;
    }
    at.to_string().split_whitespace().collect::<Vec<_>>().join(" ")
}

fn classify(code: &str) -> (ErrorKind, &'static str) {
    let has = |words: &[&str]| words.iter().any(|w| code.contains(w));
    if code == "ParameterMaxVersionLimitExceeded" {
        // It holds 100, and the oldest one cannot go while a label is on it.
        (ErrorKind::Invalid, "move the label off the parameter's oldest version, then try again")
    } else if has(&["Throttl", "TooManyRequests", "LimitExceeded", "TooManyUpdates"]) {
        (ErrorKind::Throttled, "trying again more slowly")
    } else if has(&[
        "AccessDenied",
        "NotAuthorized",
        "UnrecognizedClient",
        "InvalidClientToken",
        "ExpiredToken",
        "InvalidSignature",
        "SignatureDoesNotMatch",
        "MissingAuthenticationToken",
        "Forbidden",
    ]) {
        (ErrorKind::Denied, "check credentials and the permissions listed in docs/permissions.md")
    } else if has(&["NotFound"]) {
        (ErrorKind::NotFound, "check the name and the region")
    } else if has(&["AlreadyExists", "Conflict"]) {
        (ErrorKind::Conflict, "somebody else changed it; read it again")
    } else if has(&["InternalServer", "ServiceUnavailable", "InternalFailure", "InternalError"]) {
        (ErrorKind::Internal, "trying again may help")
    } else {
        (ErrorKind::Invalid, "")
    }
}

#[cfg(test)]
mod tests {
    use aws_smithy_types::body::SdkBody;
    use aws_smithy_types::error::ErrorMetadata;

    use super::*;

    #[test]
    fn codes_are_sorted_into_kinds() {
        for (code, kind) in [
            ("ThrottlingException", ErrorKind::Throttled),
            ("TooManyUpdates", ErrorKind::Throttled),
            ("LimitExceededException", ErrorKind::Throttled),
            ("ParameterMaxVersionLimitExceeded", ErrorKind::Invalid),
            ("AccessDeniedException", ErrorKind::Denied),
            ("UnrecognizedClientException", ErrorKind::Denied),
            ("ParameterNotFound", ErrorKind::NotFound),
            ("ParameterVersionNotFound", ErrorKind::NotFound),
            ("ConflictException", ErrorKind::Conflict),
            ("InternalServerError", ErrorKind::Internal),
            ("ValidationException", ErrorKind::Invalid),
        ] {
            assert_eq!(classify(code).0, kind, "{code}");
        }
    }

    #[derive(Debug)]
    struct Answer(ErrorMetadata);

    impl ProvideErrorMetadata for Answer {
        fn meta(&self) -> &ErrorMetadata {
            &self.0
        }
    }

    fn answered(status: u16, code: Option<&str>) -> PortError {
        let meta = ErrorMetadata::builder();
        let meta = match code {
            Some(code) => meta.code(code),
            None => meta,
        };
        let raw = HttpResponse::new(status.try_into().unwrap(), SdkBody::empty());
        port_error("read", "/p", &SdkError::service_error(Answer(meta.build()), raw))
    }

    #[test]
    fn an_answer_without_a_code_says_its_status_and_what_to_do() {
        for (status, kind) in [
            (503, ErrorKind::Internal),
            (403, ErrorKind::Denied),
            (429, ErrorKind::Throttled),
            (404, ErrorKind::NotFound),
            (302, ErrorKind::Invalid),
        ] {
            let error = answered(status, None);
            assert_eq!(error.kind, kind, "{error}");
            assert!(error.came_back.contains(&status.to_string()) && !error.advice.is_empty(), "{error}");
        }
        assert_eq!(answered(400, Some("ParameterNotFound")).came_back, "ParameterNotFound");
    }
}
