//! Secrets, as far as they are looked at and deleted.

use std::collections::BTreeMap;
use std::sync::Mutex;

use serde_json::{Value, json};

use super::{Plane, Refusal, now};
use crate::rehearsal::held;

/// Each by its name, with the moment from which it cannot be restored any more, once it is deleted.
#[derive(Debug, Default)]
pub(super) struct Secrets(Mutex<BTreeMap<String, Option<f64>>>);

impl Secrets {
    /// A secret.
    pub(super) fn put(&self, name: &str) {
        held(&self.0).insert(name.to_owned(), None);
    }
}

/// One operation.
pub(super) fn call(plane: &Plane, operation: &str, input: &Value) -> Result<Value, Refusal> {
    let name = input["SecretId"].as_str().unwrap_or_default();
    let mut all = held(&plane.secrets.0);
    let absent = || Refusal::new("ResourceNotFoundException", "Secrets Manager can't find the specified secret.");
    let found = all.get_mut(name).ok_or_else(absent)?;
    match operation {
        "DescribeSecret" => Ok(json!({ "Name": name, "ARN": name, "DeletedDate": found })),
        "DeleteSecret" => {
            if found.is_some() {
                let message = "You can't perform this operation on the secret because it was marked for deletion.";
                return Err(Refusal::new("InvalidRequestException", message));
            }
            let days = input["RecoveryWindowInDays"].as_f64().unwrap_or(30.0);
            *found = Some(now() + days * 86_400.0);
            Ok(json!({ "Name": name, "ARN": name, "DeletionDate": found }))
        }
        _ => Err(Refusal::new("UnknownOperationException", format!("no such operation: {operation}"))),
    }
}
