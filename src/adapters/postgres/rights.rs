//! Rights on the target tables, asked for with the server's own functions before anything is written.

use tokio_postgres::Error;

use super::connect::Ask;
use super::names::{ident, qualified};
use super::trouble;
use crate::domain::plan::Table;
use crate::ports::{ErrorKind, Obstacle, Owning, PortError, PortResult};

/// What moving rows needs: reading and writing them, and emptying the table before a load.
const NEEDED: [&str; 5] = ["SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE"];

const QUERY: &str = "
SELECT w.name, current_user::text, pg_get_userbyid(c.relowner)::text, pg_has_role(c.relowner, 'USAGE'),
       ARRAY(SELECT p FROM unnest($2::text[]) WITH ORDINALITY p(p, n) WHERE NOT has_table_privilege(c.oid, p) ORDER BY n)
FROM unnest($1::text[]) WITH ORDINALITY w(name, n) JOIN pg_class c ON c.oid = to_regclass(w.name) ORDER BY w.n";

/// A table that is there.
struct Found {
    name: String,
    role: String,
    owner: String,
    owned: bool,
    missing: Vec<String>,
}

async fn look(client: &impl Ask, tables: &[Table]) -> Result<Vec<Found>, Error> {
    let names = tables.iter().flat_map(|t| std::iter::once(&t.target).chain(t.children.iter().map(|c| &c.target)));
    let names: Vec<String> = names.map(|name| qualified(name)).collect();
    let rows = client.ask(QUERY, &[&names, &NEEDED.as_slice()]).await?;
    let found = rows.iter().map(|row| {
        Ok(Found {
            name: row.try_get(0)?,
            role: row.try_get(1)?,
            owner: row.try_get(2)?,
            owned: row.try_get(3)?,
            missing: row.try_get(4)?,
        })
    });
    found.collect()
}

/// Rights that are missing on tables that are there, each with what grants it.
pub(super) async fn missing(client: &impl Ask, tables: &[Table], owning: Owning) -> Result<Vec<Obstacle>, Error> {
    let mut obstacles = Vec::new();
    for table in look(client, tables).await? {
        let Found { name, role, owner, owned, missing } = table;
        if !missing.is_empty() {
            let rights = missing.join(", ");
            obstacles.push(Obstacle {
                wrong: format!("{role} may not {rights} on {name}"),
                advice: format!("GRANT {rights} ON {name} TO {}", ident(&role)),
                rights: true,
            });
        }
        let why = match (owning.capture, owning.indexes) {
            _ if owned => continue,
            (true, _) => "only its owner can remove the capture that `[reverse]` makes",
            (_, true) => "only its owner can drop and build its indexes, as `defer_indexes` asks for",
            (false, false) => continue,
        };
        obstacles.push(Obstacle {
            wrong: format!("{name} belongs to {owner} and not to {role}: {why}"),
            advice: format!("run as {owner}, or GRANT {} TO {}", ident(&owner), ident(&role)),
            rights: true,
        });
    }
    Ok(obstacles)
}

/// Refuses to capture a table whose triggers only somebody else could remove again.
pub(super) async fn may_capture(client: &impl Ask, tables: &[Table]) -> PortResult<()> {
    let on = "the target tables";
    let found = look(client, tables).await.map_err(|e| trouble::error(&e, "capture changes of", on))?;
    let others: Vec<&Found> = found.iter().filter(|table| !table.owned).collect();
    let Some(first) = others.first() else { return Ok(()) };
    let names = others.iter().map(|t| format!("{} (of {})", t.name, t.owner)).collect::<Vec<_>>().join(", ");
    let came_back = format!("{} does not own {names}, and only the owner can remove a trigger again", first.role);
    Err(PortError::new(ErrorKind::Denied, "capture changes of", on, came_back).advise(format!(
        "run as the owner, or GRANT {} TO {}",
        ident(&first.owner),
        ident(&first.role)
    )))
}
