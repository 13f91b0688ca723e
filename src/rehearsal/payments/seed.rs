//! Accounts, payments, sessions and limits before the day, the same for the same seed.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

use tokio_postgres::Client;

use super::SCHEMA;
use crate::private::{RehearsalError, RehearsalResult};
use crate::rehearsal::records::{Account, Decimal, Limit, Moment, Payment, Record, RecordKey, Session};
use crate::rehearsal::seed::{BEGINNING, Dataset, moment, name, uuid, words};

/// What a payment goes through.
pub(super) const STATES: &[&str] = &["created", "authorized", "captured", "settled", "refunded"];
const DEVICES: &[&str] = &["phone", "tablet", "laptop", "branch terminal", "téléphone", ""];
const SCOPES: &[&str] = &["read", "pay", "transfer", "limits", "statements"];
/// The day that limits begin at: 2026-06-01, in days since 1970-01-01.
const FIRST_DAY: i64 = 20_605;
/// So many days have limits.
const DAYS: i64 = 60;
const CURRENCIES: &[&str] = &["EUR", "USD", "GBP", "JPY", "SEK"];
/// Records in one statement.
const BATCH: usize = 500;

/// How many records of each kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct PaymentSizes {
    pub accounts: usize,
    pub payments: usize,
    pub sessions: usize,
    pub limits: usize,
}

impl Default for PaymentSizes {
    fn default() -> Self {
        Self { accounts: 2_000, payments: 8_000, sessions: 800, limits: 500 }
    }
}

/// Text that is not four numbers.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not ACCOUNTS,PAYMENTS,SESSIONS,LIMITS; write four whole numbers like 2000,8000,800,500, accounts above 0"
)]
pub struct BadPaymentSizes(String);

impl FromStr for PaymentSizes {
    type Err = BadPaymentSizes;

    fn from_str(text: &str) -> Result<Self, BadPaymentSizes> {
        let bad = || BadPaymentSizes(text.to_owned());
        let numbers: Vec<usize> =
            text.split(',').map(|n| n.trim().parse()).collect::<Result<_, _>>().map_err(|_| bad())?;
        match numbers[..] {
            [accounts, payments, sessions, limits] if accounts > 0 => Ok(Self { accounts, payments, sessions, limits }),
            _ => Err(bad()),
        }
    }
}

/// The data of a seed. All of it fits the new side.
pub(in crate::rehearsal) fn generate(sizes: PaymentSizes, seed: u64) -> Dataset {
    let mut rng = fastrand::Rng::with_seed(seed);
    let accounts: Vec<Account> = (0..sizes.accounts)
        .map(|i| {
            let at = moment(&mut rng, BEGINNING);
            account(&mut rng, &format!("holder{i}@example.com"), at)
        })
        .collect();
    let payments: Vec<Payment> = (0..sizes.payments)
        .map(|_| {
            let of = rng.usize(..accounts.len());
            let at = moment(&mut rng, accounts[of].opened_at.0);
            payment(&mut rng, &accounts[of].id, at)
        })
        .collect();
    let any = |rng: &mut fastrand::Rng| accounts[rng.usize(..accounts.len())].clone();
    let sessions: Vec<Session> = (0..sizes.sessions)
        .map(|_| {
            let of = any(&mut rng);
            let at = moment(&mut rng, of.opened_at.0);
            session(&mut rng, &of.id, at)
        })
        .collect();
    // A key that is drawn twice is one limit.
    let limits: BTreeMap<String, Limit> = (0..sizes.limits)
        .map(|_| {
            let of = any(&mut rng);
            let at = moment(&mut rng, of.opened_at.0);
            limit(&mut rng, &of.id, at)
        })
        .map(|limit| (limit.id(), limit))
        .collect();
    let rows = accounts.into_iter().map(Record::Account).chain(payments.into_iter().map(Record::Payment));
    let items = sessions.into_iter().map(Record::Session).chain(limits.into_values().map(Record::Limit));
    Dataset { records: rows.chain(items).collect(), parked: BTreeMap::new() }
}

/// A new account.
pub(super) fn account(rng: &mut fastrand::Rng, email: &str, at: Moment) -> Account {
    Account {
        id: uuid(rng),
        holder: name(rng),
        email: email.to_owned(),
        balance: amount(rng),
        opened_at: at,
        updated_at: at,
    }
}

/// A new payment from an account.
pub(super) fn payment(rng: &mut fastrand::Rng, account: &str, at: Moment) -> Payment {
    let note = rng.bool().then(|| words(rng, 4));
    Payment {
        id: uuid(rng),
        account: account.to_owned(),
        amount: amount(rng),
        currency: CURRENCIES[rng.usize(..CURRENCIES.len())].to_owned(),
        state: STATES[0].to_owned(),
        note,
        created_at: at,
        updated_at: at,
    }
}

/// A session that somebody has just opened.
pub(super) fn session(rng: &mut fastrand::Rng, account: &str, at: Moment) -> Session {
    let mut token = vec![0; 24];
    rng.fill(&mut token);
    Session {
        id: uuid(rng),
        account: account.to_owned(),
        device: device(rng),
        token,
        scopes: scopes(rng),
        opened_at: at,
        seen_at: at,
    }
}

/// A device that somebody signs in on.
pub(super) fn device(rng: &mut fastrand::Rng) -> String {
    DEVICES[rng.usize(..DEVICES.len())].to_owned()
}

/// What a session may do; one in four may do nothing.
pub(super) fn scopes(rng: &mut fastrand::Rng) -> BTreeSet<String> {
    let count = if rng.u8(..4) == 0 { 0 } else { rng.usize(1..4) };
    (0..count).map(|_| SCOPES[rng.usize(..SCOPES.len())].to_owned()).collect()
}

/// A limit of some day, nothing of it spent.
pub(super) fn limit(rng: &mut fastrand::Rng, account: &str, at: Moment) -> Limit {
    let reason = rng.bool().then(|| words(rng, 3));
    Limit {
        account: account.to_owned(),
        day: FIRST_DAY + rng.i64(0..DAYS),
        most: Decimal::cents(rng.i64(1_000..5_000_000)),
        spent: Decimal::cents(0),
        reason,
        changed_at: at,
    }
}

/// Any sum of money that the application knows, overdrafts included.
pub(super) fn amount(rng: &mut fastrand::Rng) -> Decimal {
    Decimal::cents(rng.i64(-50_000..2_000_000))
}

/// The account that the write probe writes, with its nonce.
pub(in crate::rehearsal) fn probe(key: &RecordKey, nonce: String) -> Record {
    let now = Moment::now();
    Record::Account(Account {
        id: key.id.clone(),
        holder: nonce,
        email: "probe@example.com".to_owned(),
        balance: Decimal::cents(100),
        opened_at: now,
        updated_at: now,
    })
}

/// Creates the database's tables and fills them.
pub(in crate::rehearsal) async fn import(client: &Client, data: &Dataset) -> RehearsalResult<()> {
    let failed = |e: tokio_postgres::Error| RehearsalError::caused("seed", "the payments database", &e);
    client.batch_execute(SCHEMA).await.map_err(failed)?;
    for batch in data.records.chunks(BATCH) {
        let statements: Vec<String> = batch.iter().map(insert).collect();
        client.batch_execute(&statements.join("\n")).await.map_err(failed)?;
    }
    client.batch_execute("ANALYZE accounts; ANALYZE payments").await.map_err(failed)
}

fn insert(record: &Record) -> String {
    let quoted = |text: &str| format!("'{}'", text.replace('\'', "''"));
    match record {
        Record::Account(a) => format!(
            "INSERT INTO accounts VALUES ('{}', {}, {}, {}, '{}', '{}');",
            a.id,
            quoted(&a.holder),
            quoted(&a.email),
            a.balance.text(),
            a.opened_at.iso(),
            a.updated_at.iso()
        ),
        Record::Payment(p) => format!(
            "INSERT INTO payments VALUES ('{}', '{}', {}, {}, {}, {}, '{}', '{}');",
            p.id,
            p.account,
            p.amount.text(),
            quoted(&p.currency),
            quoted(&p.state),
            p.note.as_deref().map_or_else(|| "NULL".to_owned(), quoted),
            p.created_at.iso(),
            p.updated_at.iso()
        ),
        // Items, or the shop's: this database has none of them.
        Record::Book(_)
        | Record::User(_)
        | Record::Order(_)
        | Record::Cart(_)
        | Record::Session(_)
        | Record::Limit(_) => String::new(),
    }
}
