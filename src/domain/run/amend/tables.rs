//! Tables and their mapping: what was written under the old mapping must stay the same under the new one.
//!
//! Which values have arrived is not known here, only how they were mapped. So a change of a column is allowed when it
//! can turn nothing but row errors into values: every value that was written before is written the same by the new
//! mapping, and only rows that were parked can change. [`widens`] and [`fills`] say which changes those are; an option
//! that is added to columns gets a function like them.

use super::phase::Phase;
use super::show::{listed, option, text};
use super::{AmendDecision, ChangeList, Member, allowed, as_long_as, refused};
use crate::domain::plan::{
    AfterLoad, Between, ChildTable, Column, ColumnSource, ColumnType, Declared, Fallback, ForeignKey, Move, MoverKind,
    Table, Unit, path_text,
};

const NEW_LOAD: &str = "rows have arrived by it: put it back, or load anew with `cutover run --new`";
const PARKED: &str = "rows parked for it may fit: `cutover parked retry`";
const NOT_LOADED: &str = "nothing is loaded yet; the target is asked whether it fits";
const LOOKED_AT: &str = "only `cutover check` asks for it";
const OPEN_TO_CUSTOMERS: &str = "customers write on the new side: what is carried back goes by the mapping that stands";

pub(super) fn tables(found: &mut ChangeList<'_>, old: &[Table], new: &[Table]) {
    let member = |_: &Phase<'_>, member: Member<'_, Table>| {
        refused(match member {
            Member::Added(_) => "a table is not added to a run: move it with a run of its own",
            Member::Gone(_) => "a table is not taken out of a run: open another run with `cutover run --new`",
            Member::Order => "the order of tables stands with the run: put it back",
        })
    };
    found.list("tables", (old, new), |t| &t.id, member, table);
}

fn table(found: &mut ChangeList<'_>, what: &str, old: &Table, new: &Table) {
    let Table {
        id: _,
        from,
        source,
        to,
        target,
        key,
        columns,
        children,
        foreign_keys,
        ttl,
        marker_prefix,
        ddl,
        triggers,
        leave_out,
        after_load,
        mover,
    } = old;
    let never = "a run keeps it: load anew with `cutover run --new`";
    found.field(format!("{what}.from"), (from, &new.from), text, |_| refused(never));
    found.field(format!("{what}.to"), (to, &new.to), text, |_| refused(never));
    found.field(format!("{what}.source"), (source, &new.source), text, |_| refused(never));
    found.field(format!("{what}.target"), (target, &new.target), text, |_| refused(never));
    found.field(format!("{what}.key"), (key, &new.key), |all| listed(all), |_| refused(never));
    let moved_by = |mover: &Option<MoverKind>| text(&mover.map_or("the console", MoverKind::name).to_owned());
    found.field(format!("{what}.mover"), (mover, &new.mover), moved_by, |_| refused(never));
    mapping(found, &format!("{what}.columns"), columns, &new.columns);
    let member = |phase: &Phase<'_>, _: Member<'_, ChildTable>| as_long_as(!phase.load_begun(), NOT_LOADED, NEW_LOAD);
    found.list(&format!("{what}.children"), (children, &new.children), |c| &c.target, member, child);
    let each = |all: &Vec<ForeignKey>| listed(&all.iter().map(reference).collect::<Vec<_>>());
    found.field(format!("{what}.foreign_keys"), (foreign_keys, &new.foreign_keys), each, |_| refused(never));
    found.field(
        format!("{what}.ttl"),
        (ttl, &new.ttl),
        |t| option(t.as_ref(), text),
        |phase| as_long_as(!phase.load_begun(), "", "what has expired since the load began was counted by it"),
    );
    found.field(format!("{what}.marker_prefix"), (marker_prefix, &new.marker_prefix), text, |_| refused(never));
    found.field(
        format!("{what}.ddl"),
        (ddl, &new.ddl),
        |t| option(t.as_ref(), text),
        |phase| allowed(if phase.set_up_done() { "it makes nothing any more: the table is there" } else { "" }),
    );
    found.field(
        format!("{what}.triggers"),
        (triggers, &new.triggers),
        |all| listed(all),
        |phase| as_long_as(!phase.open_to_customers(), "the target is asked whether it fits", OPEN_TO_CUSTOMERS),
    );
    found.field(
        format!("{what}.leave_out"),
        (leave_out, &new.leave_out),
        |all| listed(all),
        |_| allowed("nothing is written by it; the source is asked before the freeze"),
    );
    let names = |all: &Vec<AfterLoad>| listed(&all.iter().map(|one| one.name().to_owned()).collect::<Vec<_>>());
    found.field(format!("{what}.after_load"), (after_load, &new.after_load), names, |phase| {
        as_long_as(
            !phase.load_begun(),
            NOT_LOADED,
            "what the table gets after its load stands with the run: put it back",
        )
    });
}

/// The rules tables came by. What they give is judged table by table.
pub(super) fn moves(found: &mut ChangeList<'_>, old: &[Move], new: &[Move]) {
    let rule = |rule: &Move| {
        let Move { from, to, include, exclude } = rule;
        let but = if exclude.is_empty() { String::new() } else { format!(" but {}", exclude.join(", ")) };
        format!("{} from {from} to {to}{but}", include.join(", "))
    };
    let all = |rules: &Vec<Move>| listed(&rules.iter().map(rule).collect::<Vec<_>>());
    let effect = "the tables of the run stay as they are; others of the source are held against the new rule";
    found.field("moves", (&old.to_vec(), &new.to_vec()), all, |_| allowed(effect));
}

fn reference(key: &ForeignKey) -> String {
    let ForeignKey { columns, references } = key;
    format!("{} -> {references}", columns.join(", "))
}

fn child(found: &mut ChangeList<'_>, what: &str, old: &ChildTable, new: &ChildTable) {
    let ChildTable { target: _, list, columns, parent_key, sparse } = old;
    let loading = |phase: &Phase<'_>| as_long_as(!phase.load_begun(), NOT_LOADED, NEW_LOAD);
    found.field(format!("{what}.list"), (list, &new.list), |path| path_text(path), loading);
    found.field(format!("{what}.sparse"), (sparse, &new.sparse), |b| super::on(*b), |_| allowed(LOOKED_AT));
    mapping(found, &format!("{what}.columns"), columns, &new.columns);
    found.field(format!("{what}.parent_key"), (parent_key, &new.parent_key), |all| listed(all), loading);
}

fn mapping(found: &mut ChangeList<'_>, what: &str, old: &[Column], new: &[Column]) {
    let member = |phase: &Phase<'_>, member: Member<'_, Column>| {
        let key = match member {
            Member::Added(column) | Member::Gone(column) => column.key,
            Member::Order => false,
        };
        if key {
            return refused("the key of a table stands with the run: load anew with `cutover run --new`");
        }
        as_long_as(!phase.load_begun(), NOT_LOADED, NEW_LOAD)
    };
    found.list(what, (old, new), |c| &c.name, member, column);
}

/// One column. Each field by itself: a change that needs two of them at once is allowed only if both are.
fn column(found: &mut ChangeList<'_>, what: &str, old: &Column, new: &Column) {
    let Column { name: _, ty, from, absent, key, declared } = old;
    let Declared { unit, between, lossy, sparse } = declared;
    let in_key = *key || new.key;
    let rule = move |only_row_errors: bool, else_: &'static str| {
        move |phase: &Phase<'_>| -> AmendDecision {
            match (in_key, phase.load_begun(), only_row_errors) {
                (true, _, _) => refused("the key of a table stands with the run: load anew with `cutover run --new`"),
                (false, false, _) => allowed(NOT_LOADED),
                (false, true, _) if phase.open_to_customers() => refused(OPEN_TO_CUSTOMERS),
                (false, true, true) => allowed(PARKED),
                (false, true, false) => refused(format!("{else_}; {NEW_LOAD}")),
            }
        }
    };
    let ty_ = (ty, &new.ty);
    found.field(
        format!("{what}.type"),
        ty_,
        |t: &ColumnType| t.sql(),
        // What was cut or rounded to the old type would be cut or rounded elsewhere by the new one.
        rule(widens(*ty, new.ty) && !lossy, "values that fitted may look different in it"),
    );
    found.field(
        format!("{what}.from"),
        (from, &new.from),
        source,
        rule(false, "it takes other values than those that arrived"),
    );
    let fills = fills(absent, &new.absent);
    found.field(
        format!("{what}.default"),
        (absent, &new.absent),
        fallback,
        rule(fills, "rows without the attribute have arrived otherwise"),
    );
    let now = &new.declared;
    found.field(
        format!("{what}.unit"),
        (unit, &now.unit),
        |u: &Option<Unit>| option(u.as_ref(), |u| u.name().to_owned()),
        rule(unit.is_none(), "numbers that arrived were read in it"),
    );
    found.field(
        format!("{what}.between"),
        (between, &now.between),
        |b: &Option<Between>| option(b.as_ref(), |Between(from, to)| format!("day {from} to {to} from 1970-01-01 on")),
        rule(reaches(*between, now.between), "moments that arrived may be outside of it"),
    );
    found.field(
        format!("{what}.lossy"),
        (lossy, &now.lossy),
        |b| super::on(*b),
        rule(now.lossy, "values that arrived were rounded or cut"),
    );
    found.field(format!("{what}.sparse"), (sparse, &now.sparse), |b| super::on(*b), |_| allowed(LOOKED_AT));
    found.field(format!("{what}.key"), (key, &new.key), |b| super::on(*b), rule(false, ""));
}

/// Whether a type takes every value that the other one took, writes it the same, and takes more besides: the same kind
/// of value, longer, larger or with more digits.
fn widens(old: ColumnType, new: ColumnType) -> bool {
    use ColumnType as T;
    match (old, new) {
        (T::Varchar(was), T::Varchar(now)) => now > was,
        (T::Varchar(_), T::Text) => true,
        (T::Smallint, T::Integer | T::Bigint) | (T::Integer, T::Bigint) => true,
        (T::Numeric(Some(_)), T::Numeric(None)) => true,
        // As many digits before the point as there were, and as many after it.
        (T::Numeric(Some((digits, scale))), T::Numeric(Some((more, after)))) => {
            after >= scale && i32::from(more) - i32::from(after) >= i32::from(digits) - i32::from(scale)
        }
        (
            T::Text
            | T::Varchar(_)
            | T::Uuid
            | T::Numeric(_)
            | T::Smallint
            | T::Integer
            | T::Bigint
            | T::Double
            | T::Boolean
            | T::Timestamptz
            | T::Date
            | T::Jsonb
            | T::TextArray
            | T::Bytea
            | T::Native(_)
            | T::Document,
            _,
        ) => false,
    }
}

/// Whether every moment that was taken is taken still: the span grows, or takes the place of the usual one and holds
/// it.
fn reaches(old: Option<Between>, new: Option<Between>) -> bool {
    let Between(from, to) = old.unwrap_or(Between::USUAL);
    new.is_some_and(|Between(now_from, now_to)| now_from <= from && now_to >= to)
}

/// Whether something stands in now where a row was parked.
const fn fills(old: &Fallback, new: &Fallback) -> bool {
    match (old, new) {
        (Fallback::Required, Fallback::Null | Fallback::Literal(_)) => true,
        (Fallback::Required, Fallback::Required) | (Fallback::Null | Fallback::Literal(_), _) => false,
    }
}

fn source(from: &ColumnSource) -> String {
    match from {
        ColumnSource::Attribute(path) => path_text(path),
        ColumnSource::Constant(value) => format!("constant {}", text(value)),
        ColumnSource::Parent(name) => format!("parent {name}"),
        ColumnSource::Ordinal => "ordinal".to_owned(),
        ColumnSource::Element => "element".to_owned(),
        ColumnSource::Whole => "whole".to_owned(),
    }
}

fn fallback(absent: &Fallback) -> String {
    match absent {
        Fallback::Null => "NULL".to_owned(),
        Fallback::Literal(value) => text(value),
        Fallback::Required => "required".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_of_moments_only_grows() {
        let usual = Between::USUAL;
        for (old, new, wanted) in [
            (None, Some(Between(usual.0 - 1, usual.1)), true),
            (None, Some(Between(usual.0 + 1, usual.1)), false),
            (Some(Between(0, 9)), Some(Between(0, 10)), true),
            (Some(Between(0, 9)), Some(Between(1, 10)), false),
            (Some(Between(0, 9)), None, false),
        ] {
            assert_eq!(reaches(old, new), wanted, "{old:?} to {new:?}");
        }
    }

    #[test]
    fn a_type_widens_only_within_its_kind() {
        use ColumnType as T;
        let numeric = |p, s| T::Numeric(Some((p, s)));
        for (old, new, wanted) in [
            (T::Varchar(10), T::Varchar(11), true),
            (T::Varchar(10), T::Varchar(9), false),
            (T::Varchar(10), T::Text, true),
            (T::Text, T::Varchar(10), false),
            (T::Smallint, T::Bigint, true),
            (T::Integer, T::Smallint, false),
            (T::Integer, T::Double, false),
            (T::Bigint, T::Numeric(None), false),
            (numeric(10, 2), numeric(12, 4), true),
            (numeric(10, 2), numeric(11, 4), false),
            (numeric(10, 2), numeric(10, 1), false),
            (numeric(10, 2), T::Numeric(None), true),
            (T::Numeric(None), numeric(10, 2), false),
            (T::Text, T::Jsonb, false),
            (T::Varchar(10), T::TextArray, false),
            (T::Uuid, T::Text, false),
        ] {
            assert_eq!(widens(old, new), wanted, "{} to {}", old.sql(), new.sql());
        }
    }
}
