//! Rows whose time is over: DynamoDB removes them when it gets to it, the target may have done so already.

use crate::domain::at::At;
use crate::domain::plan::{ColumnSource, Table};
use crate::domain::value::{Cell, Record, Value};

/// DynamoDB leaves items alone whose time was over more than five years ago: their value is taken for a mistake.
const TOO_OLD_S: i64 = 5 * 365 * 86_400;

/// The time-to-live rule of one table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ttl {
    /// The source attribute: seconds since 1970, a number.
    attribute: String,
    /// Place of the target column that holds it as it is, if one does.
    column: Option<usize>,
    /// Place of the target column that holds the whole item, if one does.
    whole: Option<usize>,
}

impl Ttl {
    /// The rule of a table whose items expire by `attribute`.
    #[must_use]
    pub fn new(table: &Table, attribute: &str) -> Self {
        let from = ColumnSource::Attribute(vec![attribute.to_owned()]);
        let place = |from: &ColumnSource| table.columns.iter().position(|c| c.from == *from);
        Self { attribute: attribute.to_owned(), column: place(&from), whole: place(&ColumnSource::Whole) }
    }

    /// Whether the source's item is past its time: readers must not rely on it, and DynamoDB may remove it any moment.
    #[must_use]
    pub fn item_is_past(&self, item: &Record<'_>, now: At) -> bool {
        match item.get(&self.attribute) {
            // Only a number counts; DynamoDB ignores any other type.
            Some(Value::Decimal(n)) => n.parse::<f64>().is_ok_and(|s| past(s as i64, now)),
            _ => false,
        }
    }

    /// Whether the source's item was past its time so long ago that DynamoDB never removes it.
    #[must_use]
    pub fn item_never_expires(&self, item: &Record<'_>, now: At) -> bool {
        match item.get(&self.attribute) {
            Some(Value::Decimal(n)) => n.parse::<f64>().is_ok_and(|s| too_old(s as i64, now)),
            _ => false,
        }
    }

    /// Whether the target's row is past its time. A row whose time has no column is never known to be.
    #[must_use]
    pub fn row_is_past(&self, row: &[Cell<'_>], now: At) -> bool {
        match self.column.and_then(|place| row.get(place)) {
            Some(Cell::Int(s)) => past(*s, now),
            Some(Cell::Numeric(s)) => s.parse::<f64>().is_ok_and(|s| past(s as i64, now)),
            Some(Cell::Timestamp(us)) => past(us.div_euclid(1_000_000), now),
            Some(_) => false,
            None => self.whole.and_then(|place| row.get(place)).is_some_and(|whole| self.document_is_past(whole, now)),
        }
    }

    /// The same of a whole item in the row.
    fn document_is_past(&self, whole: &Cell<'_>, now: At) -> bool {
        let Cell::Json(text) = whole else { return false };
        let document: serde_json::Value = serde_json::from_str(text).unwrap_or_default();
        let number = document.get(&self.attribute).and_then(|value| value.get("N")?.as_str()?.parse::<f64>().ok());
        number.is_some_and(|s| past(s as i64, now))
    }
}

const fn past(seconds: i64, now: At) -> bool {
    seconds <= now.0.div_euclid(1000) && !too_old(seconds, now)
}

const fn too_old(seconds: i64, now: At) -> bool {
    seconds <= now.0.div_euclid(1000) - TOO_OLD_S
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::plan::{Column, ColumnType, Declared, Fallback};

    const NOW: At = At(1_800_000_000_000);

    fn table(ty: ColumnType) -> Table {
        let from = ColumnSource::Attribute(vec!["expiresAt".into()]);
        let column = Column {
            name: "expires_at".into(),
            ty,
            from,
            absent: Fallback::Null,
            key: false,
            declared: Declared::default(),
        };
        let id = Column { name: "id".into(), from: ColumnSource::Attribute(vec!["id".into()]), ..column.clone() };
        Table { columns: vec![id, column], ..Table::watched("carts", "Carts") }
    }

    fn item(value: Value<'static>) -> Record<'static> {
        Record { fields: vec![("expiresAt".into(), value)] }
    }

    #[test]
    fn an_item_is_past_from_its_second_on_and_not_for_ever() {
        let ttl = Ttl::new(&table(ColumnType::Bigint), "expiresAt");
        for (value, want) in [
            (Value::Decimal("1800000000".into()), true),
            (Value::Decimal("1800000001".into()), false),
            (Value::Decimal("1799999999.5".into()), true),
            (Value::Decimal("1640000000".into()), false),
            (Value::Decimal("0".into()), false),
            (Value::Text("1800000000".into()), false),
            (Value::Null, false),
        ] {
            assert_eq!(ttl.item_is_past(&item(value.clone()), NOW), want, "{value:?}");
        }
        // The second at which it changes, on both sides of it.
        let five_years = 1_800_000_000 - TOO_OLD_S;
        for (value, want) in [
            (Value::Decimal(five_years.to_string().into()), true),
            (Value::Decimal((five_years + 1).to_string().into()), false),
            (Value::Decimal("0".into()), true),
            (Value::Decimal("-1".into()), true),
            (Value::Decimal("1800000001".into()), false),
            (Value::Text("0".into()), false),
        ] {
            let item = item(value.clone());
            assert_eq!(ttl.item_never_expires(&item, NOW), want, "{value:?}");
            assert!(!(want && ttl.item_is_past(&item, NOW)), "{value:?} is one or the other");
        }
        assert!(!ttl.item_is_past(&Record::default(), NOW));
    }

    #[test]
    fn a_row_is_past_when_its_column_says_so() {
        let ttl = Ttl::new(&table(ColumnType::Bigint), "expiresAt");
        let id = Cell::Text("a".into());
        assert!(ttl.row_is_past(&[id.clone(), Cell::Int(1_799_999_999)], NOW));
        assert!(ttl.row_is_past(&[id.clone(), Cell::Numeric("1799999999".into())], NOW));
        assert!(ttl.row_is_past(&[id.clone(), Cell::Timestamp(1_799_999_999_000_000)], NOW));
        assert!(!ttl.row_is_past(&[id.clone(), Cell::Timestamp(1_800_000_001_000_000)], NOW));
        assert!(!ttl.row_is_past(&[id.clone(), Cell::Null], NOW));
        let elsewhere = Ttl::new(&table(ColumnType::Bigint), "ttl");
        assert!(!elsewhere.row_is_past(&[id, Cell::Int(1_799_999_999)], NOW), "no column holds it");
    }

    #[test]
    fn a_whole_item_tells_its_own_time() {
        let item = Column {
            from: ColumnSource::Whole,
            ty: ColumnType::Document,
            ..table(ColumnType::Bigint).columns[0].clone()
        };
        let ttl = Ttl::new(&Table { columns: vec![item], ..Table::watched("t", "T") }, "expiresAt");
        let is_past = |json: &str| ttl.row_is_past(&[Cell::Json(json.to_owned().into())], NOW);
        assert!(is_past(r#"{"expiresAt":{"N":"1799999999"},"id":{"S":"a"}}"#));
        assert!(!is_past(r#"{"expiresAt":{"N":"1800000001"}}"#) && !is_past(r#"{"expiresAt":{"S":"1799999999"}}"#));
        assert!(!is_past("{}") && !ttl.row_is_past(&[Cell::Null], NOW));
    }
}
