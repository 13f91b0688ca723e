//! What a place keeps beside a value.

use serde::{Deserialize, Serialize};

/// What the Parameter Store keeps beside a parameter's value, and loses or changes when a value is written without
/// it: a `SecureString` without its key ends under the account's default key, where those who read it may not decrypt
/// it. Empty for places that keep nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Attributes {
    /// The type as the store names it: `String`, `StringList` or `SecureString`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// The KMS key that a `SecureString` is encrypted with: id, ARN or alias, as the store names it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// `Standard` or `Advanced`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tier: Option<String>,
    /// `text`, `aws:ec2:image` or `aws:ssm:integration`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_type: Option<String>,
    /// The pattern that values must match.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pattern: Option<String>,
    /// Its description.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Policies (expiration, notifications), each as the JSON object that sets it, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub policies: Vec<String>,
}

impl Attributes {
    /// Whether nothing is kept beside the value, or nothing is known of it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// What `now` does not hold as `self` has it, in words; what was not captured is not compared.
    #[must_use]
    pub fn differences(&self, now: &Self) -> Vec<String> {
        let pairs = [
            ("type", &self.kind, &now.kind),
            ("KMS key", &self.key, &now.key),
            ("tier", &self.tier, &now.tier),
            ("data type", &self.data_type, &now.data_type),
            ("allowed pattern", &self.pattern, &now.pattern),
            ("description", &self.description, &now.description),
        ];
        let mut found: Vec<String> = pairs
            .into_iter()
            .filter(|(_, was, is)| was.is_some() && was != is)
            .map(|(what, was, is)| {
                let [was, is] = [was, is].map(|v| v.as_deref().unwrap_or("none"));
                format!("its {what} is {is}, not {was}")
            })
            .collect();
        if !self.is_empty() && self.policies != now.policies {
            found.push(format!("it has {} policies that were not there or lacks some that were", now.policies.len()));
        }
        found
    }

    /// What matters of it to somebody who sets the value by hand: `KMS key alias/orders, tier Advanced`.
    #[must_use]
    pub fn words(&self) -> String {
        let named = |what: &str, v: &Option<String>| v.as_ref().map(|v| format!("{what} {v}"));
        let mut all: Vec<String> = [named("type", &self.kind), named("KMS key", &self.key), named("tier", &self.tier)]
            .into_iter()
            .flatten()
            .collect();
        match self.policies.len() {
            0 => {}
            1 => all.push("1 policy".to_owned()),
            n => all.push(format!("{n} policies")),
        }
        all.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_captured_is_compared() {
        let key = |k: &str| Attributes { key: Some(k.into()), ..Attributes::default() };
        assert!(Attributes::default().differences(&key("alias/a")).is_empty());
        assert_eq!(key("alias/a").differences(&key("alias/a")), [""; 0]);
        assert_eq!(key("alias/a").differences(&key("alias/aws/ssm")), ["its KMS key is alias/aws/ssm, not alias/a"]);
        let policies = Attributes { policies: vec!["{}".into()], ..key("alias/a") };
        assert_eq!(policies.differences(&key("alias/a")).len(), 1);
        assert_eq!(policies.words(), "KMS key alias/a, 1 policy");
    }
}
