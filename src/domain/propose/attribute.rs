//! One attribute: how items write it, and the column type that holds most of its values.

use std::collections::BTreeMap;

use crate::domain::mapping::cell_of;
use crate::domain::plan::{ColumnType, Unit};
use crate::domain::value::Value;

/// Types that are proposed, the narrowest first: the first one that holds every value is taken.
const CANDIDATES: [ColumnType; 9] = [
    ColumnType::Uuid,
    ColumnType::Date,
    ColumnType::Timestamptz,
    ColumnType::Boolean,
    ColumnType::Bigint,
    ColumnType::Numeric(None),
    ColumnType::Bytea,
    ColumnType::TextArray,
    ColumnType::Text,
];

/// What a sample showed of one attribute.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Values by the type the store gives them, nulls included.
    pub kinds: BTreeMap<&'static str, u64>,
    /// Values that are not null.
    pub present: u64,
    /// How many each candidate holds, in their order.
    held: [u64; CANDIDATES.len()],
    /// Values that only JSON holds, or that it holds as well.
    json: u64,
    /// Texts that a `uuid` holds and would give back in other letters.
    other_letters: u64,
    /// Characters of the longest text.
    pub longest: usize,
    /// Numbers that are likely moments, by what they would count.
    units: BTreeMap<Unit, u64>,
    /// Elements of lists and sets, and whether any of them is no text: such a list is better kept as JSON.
    not_text: bool,
}

/// A column type, and what of the sample it does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fit {
    /// The type.
    pub ty: ColumnType,
    /// Values of the sample that it does not hold: their rows would be parked.
    pub parked: u64,
}

impl Seen {
    pub(super) fn look(&mut self, value: &Value<'_>) {
        *self.kinds.entry(value.kind()).or_default() += 1;
        if matches!(value, Value::Null) {
            return;
        }
        self.present += 1;
        for (held, ty) in self.held.iter_mut().zip(CANDIDATES) {
            *held += u64::from(holds(ty, value));
        }
        self.json += u64::from(cell_of(ColumnType::Jsonb, value).is_ok());
        match value {
            Value::Text(text) => {
                self.longest = self.longest.max(text.chars().count());
                self.other_letters += u64::from(text.chars().any(|c| c.is_ascii_uppercase()) || text.len() != 36);
            }
            Value::Decimal(number) => {
                if let Some(unit) = likely_unit(number) {
                    *self.units.entry(unit).or_default() += 1;
                }
            }
            Value::List(items) => self.not_text |= items.iter().any(|i| !matches!(i, Value::Text(_))),
            Value::DecimalSet(_) | Value::BytesSet(_) => self.not_text = true,
            Value::Bytes(_) | Value::Bool(_) | Value::Null | Value::Map(_) | Value::TextSet(_) | Value::Cell(_) => {}
        }
    }

    /// The type that holds most of the values. A key has to come back letter for letter.
    #[must_use]
    pub fn fit(&self, key: bool) -> Fit {
        let mut best = Fit { ty: ColumnType::Jsonb, parked: self.present - self.json };
        let mut most = 0;
        for (held, ty) in self.held.into_iter().zip(CANDIDATES) {
            let unfaithful = match ty {
                ColumnType::Uuid => self.other_letters > 0,
                ColumnType::Date | ColumnType::Timestamptz | ColumnType::Boolean => key,
                ColumnType::TextArray => self.not_text,
                _ => false,
            };
            if !unfaithful && held > most {
                (most, best) = (held, Fit { ty, parked: self.present - held });
            }
        }
        // Structured values among others: JSON holds them all, if it does.
        if best.parked > self.present - self.json && !key {
            best = Fit { ty: ColumnType::Jsonb, parked: self.present - self.json };
        }
        best
    }

    /// What its numbers count since 1970, if every one of them is a likely moment.
    #[must_use]
    pub fn unit(&self) -> Option<Unit> {
        let numbers = self.kinds.get("N").copied().unwrap_or(0);
        let (unit, times) = self.units.iter().max_by_key(|(_, times)| **times)?;
        (*times == numbers && numbers == self.present).then_some(*unit)
    }

    /// `S 98 %, N 2 %, absent 14 %`, of so many items.
    #[must_use]
    pub fn shares(&self, items: u64) -> String {
        let there: u64 = self.kinds.values().sum();
        let mut kinds: Vec<(&str, u64)> = self.kinds.iter().map(|(kind, n)| (*kind, *n)).collect();
        kinds.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
        let mut said: Vec<String> = kinds.into_iter().map(|(kind, n)| share(kind, n, there)).collect();
        if there < items {
            said.push(share("absent", items - there, items));
        }
        said.join(", ")
    }
}

/// Whole percent, and never 0 or 100 of what is there in part.
fn share(what: &str, part: u64, of: u64) -> String {
    let percent = (part * 100 + of / 2) / of.max(1);
    match percent {
        0 if part > 0 => format!("{what} < 1 %"),
        100 if part < of => format!("{what} > 99 %"),
        percent => format!("{what} {percent} %"),
    }
}

/// What a number counts since 1970 if it stands for a moment from 2000 to 2099; small counts are no moments.
fn likely_unit(number: &str) -> Option<Unit> {
    let number: f64 = number.parse().ok()?;
    let within = |per_second: f64| (946_684_800.0..4_102_444_800.0).contains(&(number / per_second));
    [(Unit::Seconds, 1.0), (Unit::Millis, 1e3), (Unit::Micros, 1e6)]
        .into_iter()
        .find(|(_, n)| within(*n))
        .map(|(u, _)| u)
}

fn holds(ty: ColumnType, value: &Value<'_>) -> bool {
    match (ty, value) {
        // Texts that happen to say so are texts.
        (ColumnType::Boolean, Value::Text(_)) => false,
        // A text column would hold these by their JSON or their digits: another type was meant.
        (ColumnType::Text, value) => matches!(value, Value::Text(_)) && cell_of(ty, value).is_ok(),
        (ty, value) => cell_of(ty, value).is_ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(values: &[Value<'_>]) -> Seen {
        let mut seen = Seen::default();
        values.iter().for_each(|v| seen.look(v));
        seen
    }

    fn text(s: &str) -> Value<'_> {
        Value::Text(s.into())
    }

    fn number(s: &str) -> Value<'_> {
        Value::Decimal(s.into())
    }

    #[test]
    fn the_narrowest_type_that_holds_every_value_is_proposed() {
        let id = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11";
        let type_of = |values: &[Value<'_>]| seen(values).fit(false);
        let all = |ty| Fit { ty, parked: 0 };
        assert_eq!(type_of(&[text(id)]), all(ColumnType::Uuid));
        assert_eq!(type_of(&[text(&id.to_uppercase())]), all(ColumnType::Text), "it would come back in other letters");
        assert_eq!(type_of(&[text(id), text("guest")]), all(ColumnType::Text));
        assert_eq!(type_of(&[text("2026-01-02T03:04:05Z")]), all(ColumnType::Timestamptz));
        assert_eq!(type_of(&[text("2026-01-02")]), all(ColumnType::Date));
        assert_eq!(type_of(&[number("7"), number("-3")]), all(ColumnType::Bigint));
        assert_eq!(type_of(&[number("7"), number("1.25")]), all(ColumnType::Numeric(None)));
        assert_eq!(type_of(&[Value::Bool(true), Value::Null]), all(ColumnType::Boolean));
        assert_eq!(type_of(&[text("true")]), all(ColumnType::Text));
        assert_eq!(type_of(&[Value::Bytes(b"x"[..].into())]), all(ColumnType::Bytea));
        assert_eq!(type_of(&[Value::List(vec![text("a")])]), all(ColumnType::TextArray));
        assert_eq!(type_of(&[Value::List(vec![number("1")])]), all(ColumnType::Jsonb));
        assert_eq!(type_of(&[Value::TextSet(vec!["a".into()])]), all(ColumnType::TextArray));
        assert_eq!(type_of(&[Value::Map(Vec::new())]), all(ColumnType::Jsonb));
        assert_eq!(type_of(&[]), all(ColumnType::Jsonb));
    }

    #[test]
    fn a_key_comes_back_letter_for_letter() {
        assert_eq!(seen(&[text("2026-01-02T03:04:05Z")]).fit(true).ty, ColumnType::Text);
        assert_eq!(seen(&[number("42")]).fit(true).ty, ColumnType::Bigint);
    }

    #[test]
    fn values_of_two_types_go_where_most_of_them_fit_and_the_others_are_counted() {
        let mixed = seen(&[number("1"), number("2"), number("3"), text("four")]);
        assert_eq!(mixed.fit(true), Fit { ty: ColumnType::Bigint, parked: 1 });
        assert_eq!(mixed.fit(false), Fit { ty: ColumnType::Jsonb, parked: 0 });
        assert_eq!(mixed.shares(8), "N 75 %, S 25 %, absent 50 %");
        assert_eq!(seen(&vec![text("x"); 999]).shares(1_000), "S 100 %, absent < 1 %");
    }

    #[test]
    fn numbers_that_are_all_likely_moments_are_said_to_be() {
        assert_eq!(seen(&[number("1764000000"), number("1764000100")]).unit(), Some(Unit::Seconds));
        assert_eq!(seen(&[number("1764000000"), number("12")]).unit(), None);
        assert_eq!(seen(&[number("1764000000"), text("x")]).unit(), None);
    }
}
