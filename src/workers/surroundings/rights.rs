//! Who may do what with the tables on the old side and could not on the new one: applications sign in there with the same
//! roles, and the first statement that is refused is met after the switch.

use std::collections::{BTreeMap, BTreeSet};

use crate::ports::{Grant, Surroundings};

/// Tables named of one role.
const NAMED: usize = 5;

/// Notes on roles whose rights end with the switch. `tables` are those that move, each with its name on both sides.
pub(super) fn missing(tables: &[(&str, &str)], old: &Surroundings, new: &Surroundings) -> Vec<String> {
    // What each role lacks, with the tables it lacks it on.
    let mut lacks: BTreeMap<(Option<&str>, Vec<&str>), Vec<String>> = BTreeMap::new();
    for (source, target) in tables {
        let (source, target) = (in_schema(source), in_schema(target));
        for grant in old.grants.iter().filter(|grant| grant.table == source) {
            let has = rights(grant.role.as_deref(), &target, new);
            let Some(has) = has else { continue };
            let less: Vec<&str> =
                grant.rights.iter().map(String::as_str).filter(|right| !has.contains(right)).collect();
            if !less.is_empty() {
                lacks.entry((grant.role.as_deref(), less)).or_default().push(target.clone());
            }
        }
    }
    lacks.into_iter().map(|((role, rights), tables)| note(role, &rights, &tables, new)).collect()
}

/// The table with its schema, as grants name it.
pub(super) fn in_schema(table: &str) -> String {
    if table.contains('.') { table.to_owned() } else { format!("public.{table}") }
}

/// What a role may do with a table, by itself, by roles it has and as everybody; `None` when it may do anything.
fn rights<'s>(role: Option<&str>, table: &str, of: &'s Surroundings) -> Option<BTreeSet<&'s str>> {
    let known = role.and_then(|role| of.roles.iter().find(|known| known.name == role));
    if known.is_some_and(|known| known.anything) {
        return None;
    }
    let is_one = |grant: &&Grant| match &grant.role {
        None => true,
        Some(of) => role == Some(of) || known.is_some_and(|known| known.has.contains(of)),
    };
    let grants = of.grants.iter().filter(|grant| grant.table == table).filter(is_one);
    Some(grants.flat_map(|grant| grant.rights.iter().map(String::as_str)).collect())
}

fn note(role: Option<&str>, rights: &[&str], tables: &[String], new: &Surroundings) -> String {
    let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
    let (who, to) = role.map_or_else(
        || ("everybody".to_owned(), "PUBLIC".to_owned()),
        |role| (format!("the role {role}"), quoted(role)),
    );
    let rights = rights.join(", ");
    let more = tables.len().saturating_sub(NAMED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let named: Vec<&str> = tables.iter().take(NAMED).map(String::as_str).collect();
    let there = role.is_none_or(|role| new.roles.iter().any(|known| known.name == role));
    let first = if there { "" } else { "; there is no such role on the new side: CREATE ROLE first" };
    format!(
        "{who} may {rights} on the old side and could not on the new one: {}{more}; GRANT {rights} ON {} TO {to} before \
         customers are let in{first}",
        named.join(", "),
        tables.first().map_or("", String::as_str),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::Role;

    fn grant(role: Option<&str>, table: &str, rights: &[&str]) -> Grant {
        let rights = rights.iter().map(|right| (*right).to_owned()).collect();
        Grant { role: role.map(str::to_owned), table: table.to_owned(), rights }
    }

    fn role(name: &str, has: &[&str], anything: bool) -> Role {
        Role { name: name.to_owned(), has: has.iter().map(|of| (*of).to_owned()).collect(), anything }
    }

    #[test]
    fn a_role_that_would_have_no_right_any_more_is_named_with_its_tables_once() {
        let old = Surroundings {
            grants: vec![
                grant(None, "public.news", &["SELECT"]),
                grant(Some("app"), "public.books", &["INSERT", "SELECT"]),
                grant(Some("app"), "public.news", &["INSERT", "SELECT"]),
                grant(Some("app"), "public.stays", &["SELECT"]),
                grant(Some("gone"), "public.books", &["SELECT"]),
                grant(Some("member"), "public.books", &["SELECT"]),
                grant(Some("root"), "public.books", &["DELETE"]),
            ],
            ..Surroundings::default()
        };
        let mut new = Surroundings {
            grants: vec![grant(Some("readers"), "public.books2", &["SELECT"])],
            roles: vec![
                role("app", &[], false),
                role("member", &["readers"], false),
                role("readers", &[], false),
                role("root", &[], true),
            ],
            ..Surroundings::default()
        };
        let tables = [("books", "public.books2"), ("public.news", "public.news")];
        let notes = missing(&tables, &old, &new);
        assert_eq!(notes.len(), 3, "{notes:?}");
        assert!(notes[0].starts_with("everybody may SELECT") && notes[0].contains("TO PUBLIC"), "{notes:?}");
        let said = "the role app may INSERT, SELECT on the old side and could not on the new one: public.books2, public.news; \
                    GRANT INSERT, SELECT ON public.books2 TO \"app\" before customers are let in";
        assert_eq!(notes[1], said);
        assert!(notes[2].contains("the role gone") && notes[2].contains("CREATE ROLE first"), "{notes:?}");
        new.grants
            .extend(old.grants.iter().map(|one| Grant { table: one.table.replace("books", "books2"), ..one.clone() }));
        assert_eq!(missing(&tables, &old, &new), [""; 0]);
    }
}
