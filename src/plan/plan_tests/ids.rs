//! Ids mean what an operator means: nothing else changes them.

use thalweg_graph::OperatorSpec;

use super::{insert, select, state_ids};

const TOP: &str = "
    SELECT region, rn, name, amount FROM (
      SELECT c.region, c.name, o.amount,
             ROW_NUMBER() OVER (PARTITION BY c.region ORDER BY o.amount DESC) AS rn
        FROM changes o JOIN customers c ON o.customer_id = c.id WHERE o.amount > 10)
     WHERE rn <= 3";

fn ids(sql: &str) -> Vec<(String, String)> {
    state_ids(&select(sql).unwrap_or_else(|e| panic!("{sql}: {e}")).graph)
}

#[test]
fn aliases_case_and_white_space_do_not_enter() {
    let other = "
        SELECT r AS reg, place, nm, am FROM (
          SELECT CC.REGION AS r, CC.name nm, oo.Amount AS am,
             row_number() over (partition by CC.region order by oo.amount desc nulls last) as place
            FROM Changes AS oo INNER JOIN CUSTOMERS AS CC ON (CC.id = oo.customer_id) /* all */ WHERE 10 < oo.amount) x
         WHERE place BETWEEN 1 AND 3";
    let (a, b) = (ids(TOP), ids(other));
    assert_eq!(a.len(), 2);
    // `10 < amount` is not `amount > 10` and may be another filter; the rest is as it was.
    let same = "
        SELECT r AS reg, place, nm, am FROM (
          SELECT CC.REGION AS r, CC.name nm, oo.Amount AS am,
             row_number() over (partition by CC.region order by oo.amount desc nulls last) as place
            FROM Changes AS oo INNER JOIN CUSTOMERS AS CC ON (CC.id = oo.customer_id) WHERE oo.amount > 10) x
         WHERE place < 4";
    assert_eq!(a, ids(same));
    assert_eq!(a.len(), b.len());
}

#[test]
fn carried_columns_do_not_enter() {
    let more =
        TOP.replace("SELECT region, rn, name, amount FROM", "SELECT region, rn, name, amount, id, op_ts, cid FROM");
    let more = more.replace("SELECT c.region,", "SELECT c.op_ts, o.id, c.id AS cid, c.region,");
    let without_memoize =
        |ids: Vec<(String, String)>| ids.into_iter().filter(|(k, _)| !k.starts_with("memoize")).collect::<Vec<_>>();
    let plain = ids(&more.replace(", op_ts", "").replace("c.op_ts, ", ""));
    assert_eq!(ids(TOP), plain);
    // A value that is not stable is memoized below the join, which then is another join.
    assert_eq!(without_memoize(ids(&more)).len(), 2);
    let fewer = TOP.replace("rn, name, amount FROM", "name FROM");
    assert_eq!(ids(TOP), ids(&fewer));
}

#[test]
fn aggregate_calls_do_not_enter_and_groups_do() {
    let one = ids("SELECT customer_id, COUNT(*) FROM orders GROUP BY customer_id");
    assert_eq!(one, ids("SELECT SUM(amount) AS s, customer_id c FROM orders o GROUP BY c HAVING SUM(amount) > 1"));
    assert_ne!(one, ids("SELECT note, COUNT(*) FROM orders GROUP BY note"));
    assert_ne!(one, ids("SELECT customer_id, COUNT(*) FROM orders WHERE amount > 1 GROUP BY customer_id"));
}

#[test]
fn views_and_subqueries_do_not_enter() {
    let view = ids("SELECT customer_id, SUM(amount) FROM big_orders GROUP BY customer_id");
    let inline = ids("SELECT customer_id, SUM(amount) FROM orders WHERE amount > 100 GROUP BY customer_id");
    let nested = ids("WITH q AS (SELECT * FROM (SELECT amount AS x, customer_id AS y FROM orders) s WHERE x > 100)
         SELECT y, SUM(x) FROM q GROUP BY y");
    assert_eq!(view, inline);
    assert_eq!(view, nested);
}

#[test]
fn what_else_is_in_the_statement_set_does_not_enter() {
    let a = "INSERT INTO out_upsert SELECT customer_id, MAX(note) FROM orders WHERE amount > 3 GROUP BY customer_id;";
    let b = "INSERT INTO out_append SELECT id, note FROM orders;";
    let c = "INSERT INTO out_retract SELECT customer_id, MIN(note) FROM orders GROUP BY customer_id;";
    let set = |parts: &[&str]| {
        let graph = insert(&format!("EXECUTE STATEMENT SET BEGIN {} END", parts.concat())).unwrap();
        (state_ids(&graph), graph)
    };
    let (alone, graph) = set(&[a]);
    let variant =
        |g: &thalweg_graph::Graph, id: &str| g.nodes.iter().find(|n| n.id.to_string() == id).map(|n| n.variant);
    let (more, more_graph) = set(&[b, a]);
    assert_eq!(alone, more);
    // Also the variant: the aggregate sees the same columns, whatever the source reads for others.
    assert_eq!(variant(&graph, &alone[0].1), variant(&more_graph, &alone[0].1));
    let (all, all_graph) = set(&[a, b, c]);
    assert_eq!(all, set(&[c, b, a]).0);
    assert_eq!(all.len(), 2);
    assert!(all.contains(&alone[0]));
    let sources = all_graph.nodes.iter().filter(|n| matches!(n.spec, OperatorSpec::Source(_))).count();
    assert_eq!(sources, 1);
}

#[test]
fn a_changed_meaning_changes_the_id() {
    let top = ids(TOP);
    for (from, to) in
        [("<= 3", "<= 4"), ("DESC", "ASC"), ("o.amount > 10", "o.amount > 11"), ("BY c.region", "BY c.name")]
    {
        let changed = ids(&TOP.replacen(from, to, 1));
        assert_ne!(top, changed, "{to}");
    }
}

#[test]
fn ids_are_the_same_in_every_process() {
    let ids = ids("SELECT customer_id, COUNT(*) FROM orders WHERE amount > 3 GROUP BY customer_id");
    assert_eq!(ids, [("aggregate/1".to_owned(), GOLDEN.to_owned())]);
}

/// Changes only together with the canonical form of an operator, and then its version.
const GOLDEN: &str = "55b6a084fadcd97aca4ddbc6da5ffb95";

#[test]
fn what_was_planned_before_does_not_enter() {
    let first = ids(TOP);
    for other in [TOP.replace("<= 3", "<= 5"), "SELECT COUNT(*) FROM orders".to_owned(), "SELECT 1".to_owned()] {
        select(&other).unwrap();
    }
    assert_eq!(first, ids(TOP));
}
