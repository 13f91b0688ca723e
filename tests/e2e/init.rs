//! `cutover init`: a config that only names its stores becomes one that moves every table.

use std::fs;

use super::store_pair::{StorePair, n, s};

/// The part of the config of a pair that says where both stores are.
fn started(pair: &StorePair) -> String {
    let config = fs::read_to_string(pair.dir().join("config.toml")).unwrap();
    let stores = config.split("[load]").next().unwrap();
    fs::write(pair.dir().join("start.toml"), stores).unwrap();
    config
}

#[test]
fn what_is_proposed_is_a_plan_that_moves_every_table() {
    let pair = StorePair::new("");
    pair.books(12);
    pair.book(12, &[("price", n("7")), ("soldAt", n(1_764_000_000)), ("order", s("x"))]);
    pair.put("Shelf-Carts", &[("userId", s("bob")), ("itemNo", n(3)), ("expiresAt", n(4_000_000_000_u64))]);
    let config = started(&pair);
    pair.cutover(&["init", "-c", "start.toml", "--write", "full.toml"], 0);
    let full = fs::read_to_string(pair.dir().join("full.toml")).unwrap();
    assert!(full.contains("pages = { from = \"pages\", type = \"bigint\" }   # N 100 %"), "{full}");
    assert!(full.contains("# decide: sold_at: every number is a likely moment"), "{full}");
    assert!(full.contains("# decide: review_id: the table shows no item"), "{full}");
    // A plan as it stands; only the places of switches and probes are made up.
    pair.cutover(&["plan", "-c", "full.toml"], 0);

    let (tables, _) = full.split_once("# ── Switches").unwrap();
    let (_, steps) = config.split_once("[[steps]]").unwrap();
    fs::write(pair.dir().join("config.toml"), format!("{tables}[[steps]]{steps}")).unwrap();
    pair.load();
    let all = pair.json(&["verify", "--full"], 0);
    let counts: Vec<(&str, u64)> = all["tables"]
        .as_array()
        .unwrap()
        .iter()
        .map(|t| (t["table"].as_str().unwrap(), t["summary"]["equal"].as_u64().unwrap()))
        .collect();
    assert_eq!(counts, [("shelf_authors", 1), ("shelf_books", 13), ("shelf_carts", 1), ("shelf_reviews", 0)], "{all}");
    assert_eq!(pair.number("SELECT count(*) FROM shelf_books WHERE \"order\" = 'x' AND price = 7"), 1);

    // What is there already is not written over, and what does not exist is named.
    pair.cutover(&["init", "-c", "start.toml", "--write", "full.toml"], 2);
    assert_eq!(fs::read_to_string(pair.dir().join("full.toml")).unwrap(), full);
    pair.cutover(&["init", "-c", "start.toml", "--tables", "Shop-*"], 2);
    assert!(
        pair.cutover(&["init", "-c", "start.toml", "--tables", "*Carts"], 0).contains("PRIMARY KEY (user_id, item_no)")
    );
}
