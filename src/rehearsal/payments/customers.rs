//! Who pays: what the customers of the payments application do.

use super::seed::{STATES, account, amount, payment};
use crate::rehearsal::oracle::{Claim, Oracle};
use crate::rehearsal::records::{Kind, Moment, Record, Write};
use crate::rehearsal::seed::name;
use crate::rehearsal::shop::Customers;

/// Payments stay in this number at least: deletes stop there.
const PAYMENTS_MINIMUM: usize = 10;

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
        if rng.u8(..3) == 0 { Kind::Account } else { Kind::Payment }
    }

    fn next(&mut self, oracle: &Oracle) -> Option<(Claim, Write)> {
        let at = Moment::now();
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
            90..96 => {
                if oracle.live(Kind::Payment) <= PAYMENTS_MINIMUM {
                    return None;
                }
                let (claim, _) = oracle.claim_any(Kind::Payment, &mut self.rng)?;
                let write = Write::Delete(claim.key().clone());
                Some((claim, write))
            }
            _ => match oracle.claim_deleted() {
                Some((claim, Record::Payment(mut payment))) => {
                    payment.updated_at = at;
                    Some((claim, Write::Put(Record::Payment(payment))))
                }
                // Nothing else is made again here; what was claimed is given back.
                Some(_) | None => self.pays(oracle, at),
            },
        }
    }
}

fn put(oracle: &Oracle, record: Record) -> Option<(Claim, Write)> {
    Some((oracle.claim(&record.key())?, Write::Put(record)))
}
