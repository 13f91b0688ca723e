//! Who pays: what the customers of the payments application do.

use super::seed::{STATES, account, amount, device, limit, payment, scopes, session};
use crate::rehearsal::oracle::{Claim, Oracle};
use crate::rehearsal::records::{Kind, Limit, Moment, Payment, Record, Session, Write};
use crate::rehearsal::seed::name;
use crate::rehearsal::shop::Customers;

/// Records of a kind stay in this number at least: deletes stop there.
const MINIMUM: usize = 10;

/// The customers, drawn from a seed.
#[derive(Debug)]
pub struct Payers {
    rng: fastrand::Rng,
    /// Makes e-mail addresses of this run unique.
    number: u64,
    seed: u64,
}

impl Payers {
    /// The customers of a seed.
    pub(in crate::rehearsal) fn new(rng: fastrand::Rng, seed: u64) -> Self {
        Self { rng, number: 0, seed }
    }

    fn email(&mut self) -> String {
        self.number += 1;
        format!("new{}-{}@example.com", self.seed, self.number)
    }

    /// Removes some record of a kind.
    fn removes(&mut self, oracle: &Oracle, kind: Kind) -> Option<(Claim, Write)> {
        if oracle.live(kind) <= MINIMUM {
            return None;
        }
        let (claim, _) = oracle.claim_any(kind, &mut self.rng)?;
        let write = Write::Delete(claim.key().clone());
        Some((claim, write))
    }

    /// Makes some record anew that was removed; pays where there is none.
    fn makes_again(&mut self, oracle: &Oracle, at: Moment) -> Option<(Claim, Write)> {
        let Some((claim, record)) = oracle.claim_deleted() else { return self.pays(oracle, at) };
        let again = match record {
            Record::Payment(payment) => Record::Payment(Payment { updated_at: at, ..payment }),
            Record::Session(session) => Record::Session(Session { seen_at: at, ..session }),
            Record::Limit(limit) => Record::Limit(Limit { changed_at: at, ..limit }),
            // Nothing else is made again here; what was claimed is given back.
            Record::Book(_) | Record::User(_) | Record::Order(_) | Record::Cart(_) | Record::Account(_) => {
                return None;
            }
        };
        Some((claim, Write::Put(again)))
    }

    /// What happens to sessions and limits.
    fn on_items(&mut self, oracle: &Oracle, at: Moment) -> Option<(Claim, Write)> {
        match self.rng.u8(..100) {
            0..22 => {
                let account = oracle.any(Kind::Account, &mut self.rng)?;
                put(oracle, Record::Session(session(&mut self.rng, &account.id, at)))
            }
            22..46 => {
                let (claim, record) = oracle.claim_any(Kind::Session, &mut self.rng)?;
                let (device, scopes) = (device(&mut self.rng), scopes(&mut self.rng));
                Some((claim, Write::Seen { id: record.key().id, device, scopes, at }))
            }
            46..54 => self.removes(oracle, Kind::Session),
            // Over the one that is there, if the account has one for that day.
            54..68 => {
                let account = oracle.any(Kind::Account, &mut self.rng)?;
                put(oracle, Record::Limit(limit(&mut self.rng, &account.id, at)))
            }
            68..86 => {
                let (claim, record) = oracle.claim_any(Kind::Limit, &mut self.rng)?;
                Some((claim, Write::Spent { id: record.key().id, spent: amount(&mut self.rng), at }))
            }
            86..92 => self.removes(oracle, Kind::Limit),
            _ => self.makes_again(oracle, at),
        }
    }

    fn pays(&mut self, oracle: &Oracle, at: Moment) -> Option<(Claim, Write)> {
        let account = oracle.any(Kind::Account, &mut self.rng)?;
        // Only an account that is certainly there can pay.
        oracle.certain(&account)?;
        let payment = payment(&mut self.rng, &account.id, at);
        put(oracle, Record::Payment(payment))
    }
}

impl Customers for Payers {
    fn asks(&self, rng: &mut fastrand::Rng) -> Kind {
        match rng.u8(..9) {
            0..2 => Kind::Account,
            2..6 => Kind::Payment,
            6..8 => Kind::Session,
            _ => Kind::Limit,
        }
    }

    fn next(&mut self, oracle: &Oracle) -> Option<(Claim, Write)> {
        let at = Moment::now();
        if self.rng.u8(..5) < 2 {
            return self.on_items(oracle, at);
        }
        match self.rng.u8(..100) {
            0..30 => self.pays(oracle, at),
            30..55 => {
                let (claim, record) = oracle.claim_any(Kind::Payment, &mut self.rng)?;
                let state = STATES[self.rng.usize(..STATES.len())].to_owned();
                Some((claim, Write::State { id: record.key().id, state, at }))
            }
            55..75 => {
                let (claim, record) = oracle.claim_any(Kind::Account, &mut self.rng)?;
                Some((claim, Write::Balance { id: record.key().id, balance: amount(&mut self.rng), at }))
            }
            75..83 => {
                let (claim, record) = oracle.claim_any(Kind::Account, &mut self.rng)?;
                let (holder, email) = (name(&mut self.rng), self.email());
                Some((claim, Write::Holder { id: record.key().id, holder, email }))
            }
            83..90 => {
                let email = self.email();
                let account = account(&mut self.rng, &email, at);
                put(oracle, Record::Account(account))
            }
            90..96 => self.removes(oracle, Kind::Payment),
            _ => self.makes_again(oracle, at),
        }
    }
}

fn put(oracle: &Oracle, record: Record) -> Option<(Claim, Write)> {
    Some((oracle.claim(&record.key())?, Write::Put(record)))
}
