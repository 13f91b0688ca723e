//! Rights on the target tables: each that is missing is named with what grants it, before anything is made.

use super::{PLAN, TestDatabase};
use crate::adapters::postgres::{PgSettings, PgTarget};
use crate::domain::secret::Secret;
use crate::ports::{ErrorKind, Outbox as _, Owning, Target as _};

#[tokio::test]
async fn each_right_that_is_missing_is_named_with_its_grant_and_capture_needs_the_owner() {
    let (db, table) = TestDatabase::with_books().await;
    let role = format!("mover_{}", db.settings.database);
    let sql = format!(
        "CREATE ROLE {role} LOGIN PASSWORD 'pw'; GRANT ALL ON SCHEMA cutover TO {role};
         GRANT ALL ON ALL TABLES IN SCHEMA cutover TO {role}; GRANT ALL ON ALL SEQUENCES IN SCHEMA cutover TO {role};
         GRANT SELECT, UPDATE, DELETE, TRIGGER ON books TO {role}; GRANT ALL ON book_tags TO {role}"
    );
    db.sql.batch_execute(&sql).await.unwrap();
    let settings = PgSettings { user: role.clone(), password: Some(Secret::new("pw")), ..db.settings.clone() };
    let target = PgTarget::new(&settings, PLAN).unwrap();
    let tables = std::slice::from_ref(&table);
    let found = target.rights(tables, Owning::default()).await.unwrap();
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].wrong.contains("may not INSERT, TRUNCATE on") && found[0].rights, "{found:?}");
    db.sql.batch_execute(&found[0].advice).await.unwrap();
    assert_eq!(target.rights(tables, Owning::default()).await.unwrap(), vec![]);
    for owning in [Owning { capture: true, indexes: false }, Owning { capture: false, indexes: true }] {
        let found = target.rights(tables, owning).await.unwrap();
        assert_eq!(found.len(), 2, "the child table too: {found:?}");
    }
    db.sql.batch_execute(&format!("GRANT TRIGGER ON book_tags TO {role}")).await.unwrap();
    let triggers = "SELECT count(*) FROM pg_trigger WHERE tgrelid = 'books'::regclass AND NOT tgisinternal";
    let refused = target.arm(tables).await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Denied, "{refused}");
    assert!(refused.came_back.contains("books") && refused.came_back.contains("book_tags"), "{refused}");
    assert_eq!(db.number(triggers).await, 0, "nothing was made that nobody could remove");
    // A table that is not there yet will be the role's own.
    db.sql.batch_execute("DROP TABLE book_tags, books").await.unwrap();
    assert_eq!(target.rights(tables, Owning { capture: true, indexes: true }).await.unwrap(), vec![]);
}
