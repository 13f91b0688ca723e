//! Who the calls to a store are signed as.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::domain::plan::{Plan, Stores};

/// Who the calls to a store are signed as, as the cloud itself says it. What it did not say is absent, never guessed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Caller {
    /// The account.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// The role or user, by its ARN.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub arn: Option<String>,
    /// The region the calls go to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Why the account is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unknown: Option<String>,
}

/// Callers by store name; only of stores that sign their calls.
pub type Callers = BTreeMap<String, Caller>;

/// `account 111122223333 as arn:aws:sts::111122223333:assumed-role/move/alice, region eu-west-1`, or `account ? (why)`.
impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "account {}", self.account.as_deref().unwrap_or("?"))?;
        if let Some(arn) = &self.arn {
            write!(f, " as {arn}")?;
        }
        if let Some(why) = &self.unknown {
            write!(f, " ({why})")?;
        }
        match &self.region {
            Some(region) => write!(f, ", region {region}"),
            None => Ok(()),
        }
    }
}

/// What keeps a plan from being run by this caller of one of its stores: another account than the plan pins, or none
/// that is known.
#[must_use]
pub fn another_account(pinned: Option<&str>, caller: &Caller) -> Option<String> {
    let pinned = pinned?;
    match (&caller.account, &caller.arn, &caller.unknown) {
        (Some(account), ..) if account == pinned => None,
        (Some(account), Some(arn), _) => {
            Some(format!("calls are signed for account {account} ({arn}), the plan is for account {pinned}"))
        }
        (Some(account), None, _) => {
            Some(format!("calls are signed for account {account}, the plan is for account {pinned}"))
        }
        (None, _, why) => {
            let why = why.as_deref().unwrap_or("nobody said it");
            Some(format!("the plan is for account {pinned}, and which one calls are signed for is not known: {why}"))
        }
    }
}

/// The same for every store of a plan, one line each.
#[must_use]
pub fn other_accounts(plan: &Plan, callers: &Callers) -> Vec<String> {
    let unasked = Caller::default();
    let pinned = |stores: &Stores, name: &String| stores.get(name).and_then(|s| s.account.clone());
    let names = plan.stores.keys().filter_map(|name| Some((name, pinned(&plan.stores, name)?)));
    names
        .filter_map(|(name, account)| {
            let wrong = another_account(Some(&account), callers.get(name).unwrap_or(&unasked))?;
            Some(format!("the `{name}` store: {wrong}"))
        })
        .collect()
}

/// Where the accounts of a resumed run are not those it was opened with. An account that is unknown on either side says
/// nothing: only a pinned account must be known.
#[must_use]
pub fn changed_accounts(was: &Callers, now: &Callers) -> Vec<String> {
    let known = |caller: Option<&Caller>| caller.and_then(|c| c.account.clone());
    was.keys()
        .filter_map(|name| Some((name, known(was.get(name))?, known(now.get(name))?)))
        .filter(|(_, was, now)| was != now)
        .map(|(name, was, now)| format!("the `{name}` store was account {was}; calls are signed for account {now} now"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(account: Option<&str>) -> Caller {
        let unknown = account.is_none().then(|| "no answer".to_owned());
        Caller { account: account.map(str::to_owned), unknown, region: Some("eu-west-1".into()), arn: None }
    }

    #[test]
    fn a_pinned_account_must_be_known_and_the_same() {
        assert_eq!(another_account(None, &of(None)), None);
        assert_eq!(another_account(Some("111122223333"), &of(Some("111122223333"))), None);
        let other = another_account(Some("111122223333"), &of(Some("444455556666"))).unwrap();
        assert!(other.contains("444455556666") && other.contains("111122223333"), "{other}");
        let unknown = another_account(Some("111122223333"), &of(None)).unwrap();
        assert!(unknown.contains("111122223333") && unknown.ends_with("no answer"), "{unknown}");
        assert_eq!(of(None).to_string(), "account ? (no answer), region eu-west-1");
    }

    #[test]
    fn a_run_is_taken_up_by_the_account_it_was_opened_with() {
        let callers = |account| Callers::from([("old".to_owned(), of(account))]);
        assert!(changed_accounts(&callers(Some("1")), &callers(Some("1"))).is_empty());
        assert!(changed_accounts(&callers(Some("1")), &callers(None)).is_empty());
        assert!(changed_accounts(&Callers::new(), &callers(Some("1"))).is_empty());
        assert_eq!(changed_accounts(&callers(Some("1")), &callers(Some("2"))).len(), 1);
    }
}
