//! SDK errors as port errors. The SDK's own texts may quote request parts, so only code and message are kept.

use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;

use crate::ports::{ErrorKind, PortError};

/// Turns an SDK error into a port error.
pub fn port_error<E, R>(tried: &str, on: &str, error: &SdkError<E, R>) -> PortError
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
            let code = s.err().code().unwrap_or("unknown error");
            let message = s.err().message().unwrap_or("");
            let (kind, advice) = classify(code);
            PortError::new(kind, tried, on, format!("{code}: {message}")).advise(advice)
        }
        _ => PortError::new(ErrorKind::Internal, tried, on, "unknown failure"),
    }
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
    if has(&["Throttl", "TooManyRequests", "LimitExceeded", "TooManyUpdates"]) {
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
    use super::*;

    #[test]
    fn codes_are_sorted_into_kinds() {
        for (code, kind) in [
            ("ThrottlingException", ErrorKind::Throttled),
            ("TooManyUpdates", ErrorKind::Throttled),
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
}
