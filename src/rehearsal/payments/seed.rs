//! Accounts and payments before the day, the same for the same seed.

use std::collections::BTreeMap;
use std::str::FromStr;

use tokio_postgres::Client;

use super::SCHEMA;
use crate::rehearsal::error::{RehearsalError, RehearsalResult};
use crate::rehearsal::records::{Account, Decimal, Moment, Payment, Record, RecordKey};
use crate::rehearsal::seed::{BEGINNING, Dataset, moment, name, uuid, words};

/// What a payment goes through.
pub(super) const STATES: &[&str] = &["created", "authorized", "captured", "settled", "refunded"];
const CURRENCIES: &[&str] = &["EUR", "USD", "GBP", "JPY", "SEK"];
/// Records in one statement.
const BATCH: usize = 500;

/// How many records of each kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct PaymentSizes {
    pub accounts: usize,
    pub payments: usize,
}

impl Default for PaymentSizes {
    fn default() -> Self {
        Self { accounts: 2_000, payments: 8_000 }
    }
}

/// Text that is not two numbers.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not ACCOUNTS,PAYMENTS; write two whole numbers like 2000,8000, accounts above 0")]
pub struct BadPaymentSizes(String);

impl FromStr for PaymentSizes {
    type Err = BadPaymentSizes;

    fn from_str(text: &str) -> Result<Self, BadPaymentSizes> {
        let bad = || BadPaymentSizes(text.to_owned());
        let numbers: Vec<usize> =
            text.split(',').map(|n| n.trim().parse()).collect::<Result<_, _>>().map_err(|_| bad())?;
        match numbers[..] {
            [accounts, payments] if accounts > 0 => Ok(Self { accounts, payments }),
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
    let records = accounts.into_iter().map(Record::Account).chain(payments.into_iter().map(Record::Payment)).collect();
    Dataset { records, parked: BTreeMap::new() }
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

/// Creates the tables and fills them.
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
        // The shop's: this application has none of them.
        Record::Book(_) | Record::User(_) | Record::Order(_) | Record::Cart(_) => String::new(),
    }
}
