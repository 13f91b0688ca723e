//! What the server says when it refuses a row: whether the row is at fault, and what may be shown of it.

use tokio_postgres::Error;
use tokio_postgres::error::{DbError, SqlState};

use crate::domain::mapping::{RowError, RowErrorReason};

/// Longest name the server gives anything: what is longer is no name.
const NAME: usize = 63;

/// Whether the row is at fault rather than the server: trying fewer rows may find the ones it refuses.
pub(super) fn is_data(error: &Error) -> bool {
    error.as_db_error().is_some_and(|db| is_of_a_row(db.code().code()))
}

/// Classes of SQLSTATE that would refuse every row alike, or come from outside the statement: trying rows one by one
/// would park a whole table because of a lost connection.
const NOT_OF_A_ROW: [&[&str]; 6] = [
    // The connection, and the way to a foreign server.
    &["08", "HV"],
    // Rights and roles.
    &["0L", "0P", "28", "2B"],
    // The transaction with its cursors, savepoints and statements; 40 is tried again whole.
    &["0B", "24", "25", "26", "2D", "34", "3B", "40", "72"],
    // The statement: features, locators, diagnostics, names, syntax, types, and rights on tables (42501).
    &["0A", "0F", "0Z", "3D", "3F", "42"],
    // Resources, locks and states of objects, an operator's hand, the system under the server.
    &["53", "55", "57", "58"],
    // The server's settings and its own bugs.
    &["F0", "XX"],
];

/// Whether a SQLSTATE belongs to the rows of a statement: without some of them it would have gone through. Decided
/// class by class, and every class that is not known to be something else's is a row's: invalid data (`22`),
/// constraints (`23`), the same key twice (`21`), a view's check (`44`), and what somebody's trigger, domain or
/// function raises, be it PL/pgSQL's own (`P0`, `20`, `2F`, `38`, `39`, `09`, `27`) or a state of their own (`45000`,
/// `UF001`), which nobody can list.
fn is_of_a_row(code: &str) -> bool {
    let class = code.get(..2).unwrap_or_default();
    // Of the limits, a row may exceed that of an index entry (54000) or of a trigger's recursion (54001); columns and
    // arguments are counted in statements.
    let counted = matches!(code, "54011" | "54023");
    !counted && !NOT_OF_A_ROW.iter().any(|kind| kind.contains(&class))
}

/// What may be shown of an error: its SQLSTATE, and names of the schema that the server gave with it.
pub(super) fn facts(db: &DbError, with_column: bool) -> String {
    let mut said = format!("SQLSTATE {}", db.code().code());
    let column = db.column().filter(|_| with_column);
    for (what, name) in [("constraint", db.constraint()), ("column", column)] {
        if let Some(name) = name.filter(|n| is_name(n)) {
            said.push_str(&format!(", {what} {name}"));
        }
    }
    said
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.len() <= NAME && !text.chars().any(char::is_control)
}

/// The server's message, unless it may hold a row's values: data errors quote what they refuse, and a function that
/// raises an error may put anything into it.
pub(super) fn words(db: &DbError) -> String {
    let raised = db.routine() == Some("exec_stmt_raise");
    let of_a_row = is_of_a_row(db.code().code());
    // Of constraints only the names are in the message, the values in the detail.
    let plain = db.code().code().starts_with("23") || db.code().code() == "21000";
    if raised {
        format!("{} refused it", raiser(db).unwrap_or_else(|| "a function of the database".to_owned()))
    } else if of_a_row && !plain {
        "the data was refused".to_owned()
    } else {
        db.message().to_owned()
    }
}

/// The function that raised an error, as the server's context names it: `the function no_ddl()`.
fn raiser(db: &DbError) -> Option<String> {
    let context = db.where_()?.lines().next()?;
    let name = context.strip_prefix("PL/pgSQL function ")?.split_once(" line ")?.0;
    is_name(name).then(|| format!("the function {name}"))
}

/// Why one row was refused. `table` is the main table's name; a child's column is named with its table.
pub(super) fn row_error(error: &Error, table: &str) -> RowError {
    let Some(db) = error.as_db_error() else { return RowError::new("-", RowErrorReason::Refused) };
    let reason = match db.code().code() {
        "23505" => RowErrorReason::DuplicateUnique,
        "23P01" => RowErrorReason::Excluded,
        "23503" => RowErrorReason::ForeignKey,
        "22001" => RowErrorReason::TooLong,
        "22003" => RowErrorReason::NumberRange,
        "22021" => RowErrorReason::Nul,
        _ => RowErrorReason::Refused,
    };
    let named = db.column().filter(|c| is_name(c)).map(str::to_owned);
    let column = named.or_else(|| detail_columns(db)).unwrap_or_else(|| "-".into());
    let bare = table.rsplit('.').next().unwrap_or(table).trim_matches('"');
    let column = match db.table() {
        // Staging tables stand for the main table.
        Some(other) if is_name(other) && other != bare && !other.starts_with("cutover_stage_") => {
            format!("{other}.{column}")
        }
        _ => column,
    };
    RowError { column, reason, detail: facts(db, false) }
}

/// Why one row could not be deleted: named is the table whose rows refer to it.
pub(super) fn refused_delete(error: &Error, table: &str) -> RowError {
    match error.as_db_error() {
        Some(db) if db.code() == &SqlState::FOREIGN_KEY_VIOLATION => RowError {
            column: db.table().unwrap_or("-").to_owned(),
            reason: RowErrorReason::StillReferenced,
            detail: facts(db, false),
        },
        _ => row_error(error, table),
    }
}

/// The column names in `Key (a, b)=(…) already exists.`, without the values that follow.
fn detail_columns(db: &DbError) -> Option<String> {
    let rest = db.detail()?.strip_prefix("Key (")?;
    Some(rest.split_once(")=(")?.0.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_the_rows_or_the_statements() {
        for code in [
            "09000", "20000", "21000", "22001", "22P02", "23505", "23514", "27000", "2F005", "38001", "39P01", "44000",
            "45000", "54000", "54001", "P0000", "P0001", "P0002", "P0004", "UF001", "99999", "02000",
        ] {
            assert!(is_of_a_row(code), "{code}");
        }
        for code in [
            "08006", "0A000", "0B000", "0P000", "0Z002", "24000", "25006", "25P02", "25P03", "25P04", "26000", "28P01",
            "2BP01", "2D000", "34000", "3B001", "3D000", "3F000", "40001", "40P01", "42501", "42883", "53100", "53300",
            "54023", "55P03", "57014", "57P01", "57P02", "57P03", "58030", "72000", "F0000", "HV00N", "XX000", "XX002",
        ] {
            assert!(!is_of_a_row(code), "{code}");
        }
    }

    #[test]
    fn what_is_no_name_is_not_told() {
        assert!(is_name("books_price_check"));
        assert!(!is_name("") && !is_name(&"x".repeat(64)) && !is_name("a\nb"));
    }
}
