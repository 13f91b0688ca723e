//! Bookkeeping of another version in schema `cutover`: named, never read for ours, never written.

use super::*;
use crate::ports::{Bookkeeping, ChangeBatch, ErrorKind, Outbox as _, PortError};

const RUN: &str = "20261120T101112Z-shop-ab12";

/// What a version that knew no plans keeps: its lease, a stream, and a write that its trigger captured.
const EARLIER: &str = "
CREATE SCHEMA cutover;
CREATE TABLE cutover.lease (one boolean PRIMARY KEY DEFAULT true CHECK (one), run text NOT NULL, holder text NOT NULL,
    epoch bigint NOT NULL, until timestamptz NOT NULL);
INSERT INTO cutover.lease (run, holder, epoch, until) VALUES ('20261120T101112Z-shop-ab12', 'host:1', 7, now());
CREATE TABLE cutover.stream (table_id text PRIMARY KEY, stream text NOT NULL);
INSERT INTO cutover.stream VALUES ('books', 'stream');
CREATE TABLE cutover.outbox (id bigint PRIMARY KEY, table_id text NOT NULL, key jsonb NOT NULL);
CREATE FUNCTION cutover.capture_0a1b2c3d() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
CREATE TRIGGER cutover_capture_0a1b2c3d AFTER UPDATE ON books FOR EACH ROW EXECUTE FUNCTION cutover.capture_0a1b2c3d();
";

async fn bare(made: &str) -> (TestDatabase, Table) {
    let db = TestDatabase::bare().await;
    let books = books();
    db.sql.batch_execute(books.ddl.as_ref().unwrap()).await.unwrap();
    db.sql.batch_execute(made).await.unwrap();
    (db, books)
}

/// Everything that would need our tables, asked of a target.
async fn refusals(target: &PgTarget, books: &Table) -> Vec<PortError> {
    let tables = std::slice::from_ref(books);
    let part = Partition { index: 0, of: 1 };
    vec![
        target.prepare().await.unwrap_err(),
        target.claimable(tables).await.unwrap_err(),
        target.claim("run-2", tables).await.unwrap_err(),
        target.owned().await.unwrap_err(),
        target.disown().await.unwrap_err(),
        target.lease("run-2", "host:2", 1_000).await.unwrap_err(),
        target.seize("run-2", "host:2", 1_000).await.unwrap_err(),
        target.release("host:2").await.unwrap_err(),
        target.bulk(books, part).await.err().unwrap(),
        target.reset(books).await.unwrap_err(),
        target.positions(books).await.unwrap_err(),
        target.resume_follow(books, 1).await.unwrap_err(),
        target.apply(books, ChangeBatch::default()).await.unwrap_err(),
        target.open_to_customers(tables).await.unwrap_err(),
        target.opened_to_customers(tables).await.unwrap_err(),
        target.arm(tables).await.unwrap_err(),
        target.disarm(tables).await.unwrap_err(),
        target.mark_rolled_back("run-1", tables).await.unwrap_err(),
        target.settle("run-1", tables).await.unwrap_err(),
        target.take(books, 1).await.err().unwrap(),
        target.waiting(tables).await.unwrap_err(),
        target.armed(tables).await.unwrap_err(),
    ]
}

#[tokio::test]
async fn bookkeeping_of_an_earlier_version_is_refused_by_name_and_stays_as_it_is() {
    let (db, books) = bare(EARLIER).await;
    let before = super::server::catalogues(&db.sql).await;
    for (n, refused) in refusals(&db.target, &books).await.into_iter().enumerate() {
        assert_eq!((refused.kind, refused.on.as_str()), (ErrorKind::Conflict, "schema cutover"), "{n}: {refused}");
        let wanted = format!("an earlier version of this program keeps the bookkeeping of run {RUN} there");
        assert_eq!(refused.came_back, wanted, "{n}");
        assert!(refused.advice.contains(&format!("cutover rollback {RUN}")), "{n}: {refused}");
        assert!(refused.advice.contains("DROP SCHEMA cutover CASCADE"), "{n}: {refused}");
    }
    // A check reports it as one finding, and checks the rest.
    let found = db.target.inspect().await.unwrap();
    assert_eq!(found.bookkeeping, Bookkeeping::Older);
    let [wrong] = &found.obstacles[..] else { panic!("{found:?}") };
    assert!(wrong.wrong.contains(RUN) && !wrong.rights, "{wrong:?}");
    assert_eq!(db.target.describe(&books).await.unwrap().problems, Vec::<String>::new());
    db.target.count(&books, true).await.unwrap();
    assert_eq!(super::server::catalogues(&db.sql).await, before, "nothing was written");
    assert_eq!(db.number("SELECT count(*) FROM cutover.stream").await, 1);

    // What is advised ends it, with its capture, in the same process.
    db.sql.batch_execute("DROP SCHEMA cutover CASCADE").await.unwrap();
    assert_eq!(db.number("SELECT count(*) FROM pg_trigger WHERE tgname ~ 'cutover'").await, 0);
    db.target.prepare().await.unwrap();
    db.target.claim("run-2", std::slice::from_ref(&books)).await.unwrap();
    assert_eq!(db.target.inspect().await.unwrap().bookkeeping, Bookkeeping::Ready);
}

#[tokio::test]
async fn the_layout_is_named_so_that_a_later_one_can_be_told_apart() {
    let (db, books) = bare("").await;
    db.target.prepare().await.unwrap();
    db.target.lease("run-1", "host:1", 1_000).await.unwrap();
    let now = format!("SELECT number FROM cutover.layout WHERE number = {}", crate::adapters::postgres::layout::LAYOUT);
    assert_eq!(db.number(&now).await, 1);
    db.target.prepare().await.unwrap();
    db.sql.batch_execute("UPDATE cutover.layout SET number = number + 1").await.unwrap();
    let other = PgTarget::new(&db.settings, "other/test").unwrap();
    for refused in refusals(&other, &books).await {
        assert_eq!(refused.kind, ErrorKind::Conflict);
        assert!(refused.came_back.starts_with("a later version") && refused.came_back.contains("run-1"), "{refused}");
    }
    // Not even by a process that checked before.
    assert_eq!(db.target.prepare().await.unwrap_err().kind, ErrorKind::Conflict);
}
