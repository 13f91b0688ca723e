//! What DynamoDB answers when it refuses, as the ports' error kinds.

use std::error::Error;

use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};

use crate::ports::{ErrorKind, PortError};

/// Longest message taken over from the service.
const MESSAGE: usize = 300;

/// The kind of an error code, by the status when the code is not known.
pub(super) fn kind(code: &str, status: u16) -> ErrorKind {
    match code {
        "ResourceNotFoundException" | "TableNotFoundException" => ErrorKind::NotFound,
        "AccessDeniedException"
        | "AccessDenied"
        | "UnrecognizedClientException"
        | "InvalidSignatureException"
        | "SignatureDoesNotMatch"
        | "MissingAuthenticationToken"
        | "MissingAuthenticationTokenException"
        | "IncompleteSignature"
        | "IncompleteSignatureException"
        | "InvalidClientTokenId"
        | "ExpiredToken"
        | "ExpiredTokenException"
        | "NotAuthorizedException"
        | "OptInRequired" => ErrorKind::Denied,
        "ProvisionedThroughputExceededException"
        | "ThrottlingException"
        | "Throttling"
        | "RequestLimitExceeded"
        | "LimitExceededException"
        | "TooManyRequestsException" => ErrorKind::Throttled,
        "ResourceInUseException"
        | "ConditionalCheckFailedException"
        | "TransactionConflictException"
        | "TransactionInProgressException" => ErrorKind::Conflict,
        "ExpiredIteratorException" => ErrorKind::Expired,
        "TrimmedDataAccessException" => ErrorKind::Trimmed,
        "RequestTimeout" | "RequestTimeoutException" => ErrorKind::TimedOut,
        "InternalServerError"
        | "InternalFailure"
        | "InternalServerErrorException"
        | "ServiceUnavailable"
        | "ServiceUnavailableException" => ErrorKind::Internal,
        _ => match status {
            401 | 403 => ErrorKind::Denied,
            408 => ErrorKind::TimedOut,
            429 => ErrorKind::Throttled,
            500.. => ErrorKind::Internal,
            _ => ErrorKind::Invalid,
        },
    }
}

/// What to do about a kind of error.
fn advice(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Throttled => "lower the read budget or raise the table's capacity; it is tried again by itself",
        ErrorKind::Unreachable | ErrorKind::ReadOnly | ErrorKind::Rewound => {
            "check the endpoint, the network and the region"
        }
        ErrorKind::TimedOut => "the service is slow or far away; it is tried again by itself",
        ErrorKind::Denied => "check the credentials, the clock of this machine and the permissions",
        ErrorKind::NotFound => "check the table's name, the region and the account",
        ErrorKind::Conflict => "something else is changing the table; try again when it is done",
        ErrorKind::Expired => "get another iterator after the last position",
        ErrorKind::Trimmed => "changes were trimmed before they were read: load the table anew",
        ErrorKind::Invalid => "the request does not fit the table; compare the plan with the table",
        ErrorKind::Internal => "the service failed inside; it is tried again by itself",
    }
}

/// An error from a code and a message of the service. Our requests hold keys at most, so its messages can
/// hold no more; they are cut all the same.
pub(super) fn answered(code: &str, message: &str, status: u16, tried: &str, on: &str) -> PortError {
    let kind = kind(code, status);
    let code = if code.is_empty() { format!("HTTP {status}") } else { code.to_owned() };
    let text = match cut(message) {
        "" => code,
        message => format!("{code}: {message}"),
    };
    PortError::new(kind, tried, on, text).advise(advice(kind))
}

/// An error without an answer of the service.
pub(super) fn unanswered(kind: ErrorKind, why: impl Into<String>, tried: &str, on: &str) -> PortError {
    PortError::new(kind, tried, on, why).advise(advice(kind))
}

/// An SDK error.
pub(super) fn sdk<E, R>(error: SdkError<E, R>, tried: &str, on: &str) -> PortError
where
    E: ProvideErrorMetadata + Error + Send + Sync + 'static,
    R: Status + std::fmt::Debug + Send + Sync + 'static,
{
    match &error {
        SdkError::ServiceError(e) => {
            let (code, message) = (e.err().code().unwrap_or_default(), e.err().message().unwrap_or_default());
            answered(code, message, e.raw().status(), tried, on)
        }
        SdkError::TimeoutError(_) => unanswered(ErrorKind::TimedOut, "no answer in time", tried, on),
        SdkError::DispatchFailure(e) if e.is_timeout() => {
            unanswered(ErrorKind::TimedOut, "no answer in time", tried, on)
        }
        SdkError::ResponseError(e) => unanswered(
            ErrorKind::Internal,
            format!("an answer that cannot be read, HTTP {}", e.raw().status()),
            tried,
            on,
        ),
        _ => {
            let why = chain(&error);
            // Credentials are read while the request is put together; the SDK has no error kind for that.
            let kind = match &error {
                _ if why.to_ascii_lowercase().contains("credential") => ErrorKind::Denied,
                SdkError::ConstructionFailure(_) => ErrorKind::Invalid,
                _ => ErrorKind::Unreachable,
            };
            unanswered(kind, why, tried, on)
        }
    }
}

/// An HTTP status, of whatever response type the SDK has.
pub(super) trait Status {
    /// The status code.
    fn status(&self) -> u16;
}

impl Status for aws_smithy_runtime_api::client::orchestrator::HttpResponse {
    fn status(&self) -> u16 {
        Self::status(self).as_u16()
    }
}

/// The causes of an error, outermost first.
pub(super) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        next = cause.source();
    }
    cut(&text).to_owned()
}

fn cut(text: &str) -> &str {
    let end = text.char_indices().nth(MESSAGE).map_or(text.len(), |(i, _)| i);
    text[..end].trim()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_statuses_have_kinds() {
        for (code, status, want) in [
            ("ResourceNotFoundException", 400, ErrorKind::NotFound),
            ("AccessDeniedException", 400, ErrorKind::Denied),
            ("ProvisionedThroughputExceededException", 400, ErrorKind::Throttled),
            ("ThrottlingException", 400, ErrorKind::Throttled),
            ("ValidationException", 400, ErrorKind::Invalid),
            ("ExpiredIteratorException", 400, ErrorKind::Expired),
            ("TrimmedDataAccessException", 400, ErrorKind::Trimmed),
            ("", 503, ErrorKind::Internal),
            ("", 429, ErrorKind::Throttled),
            ("", 403, ErrorKind::Denied),
            ("SomethingNew", 400, ErrorKind::Invalid),
        ] {
            assert_eq!(kind(code, status), want, "{code} {status}");
        }
    }

    #[test]
    fn messages_are_cut_between_characters() {
        let error = answered("ValidationException", &"é".repeat(400), 400, "scan", "t");
        assert_eq!(error.came_back.chars().filter(|c| *c == 'é').count(), MESSAGE);
        assert_eq!(answered("", "", 502, "scan", "t").came_back, "HTTP 502");
    }
}
