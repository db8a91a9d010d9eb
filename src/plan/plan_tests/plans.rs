//! What is built of statements.

use thalweg_graph::explain::{ExplainOptions, explain};

use super::{insert, plan, select};

#[track_caller]
fn check(sql: &str, expected: &str) {
    let expected: Vec<&str> = expected.trim_matches('\n').lines().collect();
    let indent = expected.iter().filter(|l| !l.is_empty()).map(|l| l.len() - l.trim_start().len()).min().unwrap_or(0);
    let expected: Vec<&str> = expected.iter().map(|l| l.get(indent..).unwrap_or("").trim_end()).collect();
    let found = plan(sql);
    assert_eq!(found, expected.join("\n"), "\n--- found\n{found}\n");
}

/// The titles of the operators, from the sink up.
fn titles(sql: &str) -> Vec<String> {
    let skipped = |l: &&str| !l.contains('▲') && !l.trim_start_matches(['│', ' ']).starts_with("state ");
    plan(sql).lines().filter(skipped).map(|l| l.trim_start_matches(['│', ' ', '└', '├']).to_owned()).collect()
}

#[test]
fn a_filter_and_a_projection_read_only_what_they_need() {
    check(
        "INSERT INTO out_append SELECT o.id, note FROM orders AS o WHERE amount > 3 AND o.note LIKE 'a%'",
        "
        Sink out_append (fake, exactly-once)
        ▲ append-only · same worker
        └ Project id AS a, note AS b
          ▲ append-only · same worker
          └ Filter amount > 3.00 AND note LIKE 'a%'
            ▲ append-only · same worker
            └ Source orders (fake) id, amount, note
                state positions",
    );
}

#[test]
fn groups_are_hashed_and_globals_meet_on_one_worker() {
    check(
        "SELECT customer_id, COUNT(*), SUM(amount) AS total FROM orders GROUP BY customer_id HAVING COUNT(*) > 3",
        "
        Result
        ▲ changes · key (customer_id) · same worker
        └ Filter COUNT(*) > 3
          ▲ changes · key (customer_id) · same worker
          └ Aggregate COUNT(*), SUM(amount) PER customer_id
            │ state groups: (customer_id) → COUNT(*), SUM(amount)
            ▲ append-only · by hash(customer_id)
            └ Source orders (fake) customer_id, amount
                state positions",
    );
    check(
        "SELECT COUNT(*) FROM orders",
        "
        Result
        ▲ changes · one row · same worker
        └ Aggregate COUNT(*)
          │ state groups: () → COUNT(*)
          ▲ append-only · one worker
          └ Source orders (fake) customer_id
              state positions",
    );
}

#[test]
fn a_top_n_over_a_join_keeps_the_keys_that_it_needs() {
    check(
        "INSERT INTO out_top SELECT region, rn, name, amount FROM (SELECT region, name, amount,
           ROW_NUMBER() OVER (PARTITION BY region ORDER BY amount DESC) AS rn
           FROM changes o JOIN customers c ON o.customer_id = c.id) WHERE rn <= 3",
        "
        Sink out_top (fake, exactly-once)
        ▲ changes · key (region, rn) · same worker
        └ Project CHECK_NOT_NULL(region, 'region') AS region, rn, name, amount
          ▲ changes · key (id) · same worker
          └ TopN ROW_NUMBER <= 3 PER region ORDER BY amount DESC, ties by id
            │ state rows: (region, amount DESC, id) → name
            ▲ changes · key (id) · by hash(region)
            └ Project left.id AS id, amount, name, region
              ▲ changes · key (left.id) · same worker
              └ Join INNER customer_id = right.id
                │ state left:  (customer_id, id) → amount
                │ state right: (id) → name, region
                ├ ▲ changes · key (id) · by hash(customer_id)
                │ └ Source changes (fake) id, customer_id, amount
                │     state positions
                └ ▲ changes · key (id) · by hash(id)
                  └ Source customers (fake) id, name, region
                      state positions",
    );
}

#[test]
fn a_rank_that_nobody_reads_is_not_carried() {
    let top = |columns: &str, condition: &str| {
        let sql = format!(
            "SELECT {columns} FROM (SELECT id, amount, customer_id,
               ROW_NUMBER() OVER (PARTITION BY customer_id ORDER BY amount) AS rn FROM changes) WHERE {condition}"
        );
        titles(&sql).into_iter().find(|t| t.starts_with("TopN")).unwrap_or_else(|| panic!("{sql}"))
    };
    let ranks = |t: String| t.split(" PER").next().unwrap_or_default().to_owned();
    assert_eq!(ranks(top("id", "rn <= 3")), "TopN ROW_NUMBER <= 3");
    assert_eq!(ranks(top("id, rn", "3 >= rn")), "TopN ROW_NUMBER <= 3");
    assert_eq!(ranks(top("id", "rn = 2")), "TopN ROW_NUMBER = 2");
    assert_eq!(ranks(top("id", "rn BETWEEN 2 AND 4 AND amount > 3")), "TopN ROW_NUMBER BETWEEN 2 AND 4");
    assert_eq!(ranks(top("id", "2 <= rn AND rn < 5")), "TopN ROW_NUMBER BETWEEN 2 AND 4");
    let with =
        select("SELECT id, rn FROM (SELECT id, ROW_NUMBER() OVER (ORDER BY amount) AS rn FROM changes) WHERE rn < 4");
    let without =
        select("SELECT id FROM (SELECT id, ROW_NUMBER() OVER (ORDER BY amount) AS rn FROM changes) WHERE rn < 4");
    let width = |p: thalweg_core::Result<crate::SelectPlan>| {
        let graph = p.unwrap().graph;
        graph
            .nodes
            .iter()
            .filter(|n| n.spec.meaning().kind().starts_with("top-n"))
            .map(|n| n.outputs[0].columns.len())
            .max()
    };
    assert_eq!((width(with), width(without)), (Some(3), Some(2)));
}

#[test]
fn other_conditions_beside_the_rank_stay_above_it_or_choose_partitions() {
    let sql = "SELECT id FROM (SELECT id, amount, customer_id,
        ROW_NUMBER() OVER (PARTITION BY customer_id ORDER BY amount) AS rn FROM changes)
        WHERE rn <= 3 AND amount > 5 AND customer_id = 7";
    assert_eq!(
        titles(sql),
        [
            "Result",
            "Project id",
            "Filter amount > 5.00",
            "TopN ROW_NUMBER <= 3 PER customer_id ORDER BY amount, ties by id",
            "Filter customer_id = 7",
            "Source changes (fake) id, customer_id, amount"
        ]
    );
}

#[test]
fn the_first_or_last_row_by_arrival_is_a_deduplication() {
    let sql = |order: &str, columns: &str| {
        format!(
            "SELECT {columns} FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY user_id ORDER BY {order}) AS rn
            FROM events WHERE kind <> 'x') WHERE rn = 1"
        )
    };
    check(
        &sql("p", "user_id, kind, rn"),
        "
        Result
        ▲ append-only · key (user_id) · same worker
        └ Project user_id, kind, 1 AS rn
          ▲ append-only · key (user_id) · same worker
          └ Deduplicate keep first PER user_id
            │ state kept: (user_id)
            ▲ append-only · by hash(user_id)
            └ Filter kind <> 'x'
              ▲ append-only · same worker
              └ Source events (fake) user_id, kind
                  state positions",
    );
    assert!(titles(&sql("PROCTIME() DESC", "kind")).contains(&"Deduplicate keep last PER user_id".to_owned()));
    // Not by arrival alone, or over changes: a Top-1.
    assert!(titles(&sql("p, kind", "kind")).iter().any(|t| t.starts_with("TopN ROW_NUMBER <= 1")));
    let changing = "SELECT id FROM (SELECT id, ROW_NUMBER() OVER (PARTITION BY customer_id ORDER BY PROCTIME()) AS rn
        FROM changes) WHERE rn = 1";
    let titles = titles(changing);
    assert!(
        titles.iter().any(|t| t.starts_with("TopN")) && titles.contains(&"Memoize PROCTIME()".to_owned()),
        "{titles:?}"
    );
}

#[test]
fn values_that_a_deletion_cannot_repeat_are_memoized() {
    check(
        "SELECT name, op_ts FROM customers",
        "
        Result
        ▲ changes · by hash(name, op_ts)
        └ Project name, op_ts
          ▲ changes · key (id) · same worker
          └ Memoize op_ts
            │ state values: (id) → op_ts
            ▲ changes · key (id) · by hash(id)
            └ Source customers (fake) id, name, op_ts
                state positions",
    );
    check(
        "SELECT name, NOW() AS seen FROM customers WHERE RAND() < 0.5",
        "
        Result
        ▲ changes · by hash(name, seen)
        └ Project name, seen
          ▲ changes · key (id) · same worker
          └ Memoize NOW()
            │ state values: (id) → seen
            ▲ changes · key (id) · same worker
            └ Project id, name
              ▲ changes · key (id) · same worker
              └ Filter RAND() < 0.5
                ▲ changes · key (id) · same worker
                └ Memoize RAND() < 0.5
                  │ state values: (id) → RAND() < 0.5
                  ▲ changes · key (id) · by hash(id)
                  └ Source customers (fake) id, name
                      state positions",
    );
    // On rows that only come nothing needs to be kept, and an unread column is not memoized.
    assert!(!plan("SELECT id, NOW() FROM orders WHERE RAND() < 0.5").contains("Memoize"));
    assert!(!plan("SELECT id, name FROM (SELECT id, name, op_ts, NOW() AS n FROM customers)").contains("Memoize"));
    // While the key is there it can wait for the first use.
    let lines = titles("SELECT id, op_ts FROM customers");
    assert_eq!(lines, ["Result", "Memoize op_ts", "Source customers (fake) id, op_ts"]);
}

#[test]
fn upserts_are_normalized() {
    check(
        "SELECT item FROM prices WHERE price > 1",
        "
        Result
        ▲ changes · key (item) · same worker
        └ Project item
          ▲ changes · key (item) · same worker
          └ Filter price > 1e0
            ▲ changes · key (item) · same worker
            └ Normalize by item
              │ state current: (item) → price
              ▲ changes · by hash(item)
              └ Source prices (fake) item, price
                  state positions",
    );
}

#[test]
fn what_a_connector_notes_of_a_source_is_explained() {
    check(
        "SELECT v FROM noted",
        "
        Result
        ▲ changes · by hash(v)
        └ Source noted (fake) v
            note mind this
            state positions",
    );
}

#[test]
fn a_sink_s_key_is_kept_by_what_stands_before_it() {
    // Rows that only come: the last to arrive.
    let last = titles("INSERT INTO out_upsert SELECT user_id, kind FROM events");
    assert!(last.contains(&"Deduplicate keep last PER a".to_owned()), "{last:?}");
    // Changes with another key, or several inputs.
    let changed = titles("INSERT INTO out_upsert SELECT customer_id, 'x' FROM changes");
    assert_eq!(changed[1], "UpsertMaterialize by a");
    let two = "EXECUTE STATEMENT SET BEGIN INSERT INTO out_upsert SELECT id, name FROM customers;
        INSERT INTO out_upsert SELECT id, 'x' FROM changes; END";
    assert_eq!(titles(two)[1..3], ["UpsertMaterialize by a", "Union"]);
    // The key is contained, also behind a cast and a check.
    check(
        "INSERT INTO out_upsert SELECT customer_id, MAX(note) FROM orders GROUP BY customer_id",
        "
        Sink out_upsert (fake, exactly-once)
        ▲ changes · key (a) · same worker
        └ Project CHECK_NOT_NULL(CAST(customer_id AS BIGINT), 'a') AS a, MAX(note) AS b
          ▲ changes · key (customer_id) · same worker
          └ Aggregate MAX(note) PER customer_id
            │ state groups: (customer_id) → MAX(note)
            ▲ append-only · by hash(customer_id)
            └ Source orders (fake) customer_id, note
                state positions",
    );
}

#[test]
fn several_inserts_into_one_target_are_inputs_of_one_sink() {
    let set = "EXECUTE STATEMENT SET BEGIN INSERT INTO out_append SELECT id, note FROM orders;
        INSERT INTO out_append SELECT user_id, kind FROM events; END";
    let graph = insert(set).unwrap();
    assert_eq!(graph.sinks().count(), 1);
    let (sink, _) = graph.sinks().next().unwrap();
    assert_eq!(graph.nodes[sink].inputs.len(), 2);
}

#[test]
fn the_sink_of_a_query_with_one_row_knows_it() {
    let sink = |sql: &str| {
        let graph = select(sql).unwrap().graph;
        let (_, spec) = graph.sinks().next().unwrap();
        (spec.key.clone(), spec.one_row)
    };
    assert_eq!(sink("SELECT COUNT(*) FROM orders"), (vec![], true));
    assert_eq!(sink("SELECT customer_id, COUNT(*) FROM orders GROUP BY customer_id"), (vec![0], false));
    // Without a key: whole rows.
    let union = "SELECT COUNT(*) AS n FROM orders UNION ALL SELECT COUNT(*) FROM events";
    assert_eq!(sink(union), (vec![], false));
}

#[test]
fn what_may_fail_stays_behind_its_guard() {
    assert_eq!(
        titles("SELECT b FROM bounded_t, own_t WHERE b = k AND a <> 0 AND 10 / a > b"),
        [
            "Result",
            "Project b",
            "Filter 10 / a > b",
            "Join INNER b = k",
            "Filter a <> 0",
            "Source bounded_t (fake) a, b",
            "Source own_t (own) k"
        ]
    );
    assert_eq!(
        titles("SELECT a FROM (SELECT a, b FROM bounded_t WHERE b <> 0) WHERE 10 / b > 2 AND a > 1")[1..3],
        ["Project a", "Filter b <> 0 AND 10 / b > 2 AND a > 1"]
    );
    // Groups exist only after the aggregation, and one that can fail is not computed before.
    let lines = titles("SELECT * FROM (SELECT a, COUNT(*) FROM bounded_t GROUP BY a) WHERE a > 1 AND 10 / a > 2");
    assert_eq!(lines[1..4], ["Filter 10 / a > 2", "Aggregate COUNT(*) PER a", "Filter a > 1"]);
}

#[test]
fn tables_of_one_server_are_read_once() {
    check(
        "SELECT * FROM m1 JOIN m2 USING (a)",
        "
        Result
        ▲ changes · key (a) · same worker
        └ Project left.a AS a, b, c
          ▲ changes · key (left.a) · same worker
          └ Join INNER left.a = right.a
            │ state left:  (a) → b
            │ state right: (a) → c
            ├ ▲ changes · key (a) · by hash(a)
            │ └ Source m1 (fake) a, b
            │     state positions
            └ ▲ changes · key (a) · by hash(a)
              └ Source m2 (fake) a, c
                  state positions",
    );
    let graph = select("SELECT * FROM m1 JOIN m2 USING (a)").unwrap().graph;
    assert_eq!(graph.sources().count(), 1);
}

#[test]
fn a_query_that_is_named_twice_is_computed_once() {
    let sql = "WITH q AS (SELECT customer_id, COUNT(*) AS n FROM orders GROUP BY customer_id)
        SELECT a.n, b.n FROM q a JOIN q b ON a.n = b.customer_id";
    let graph = select(sql).unwrap().graph;
    let aggregates = graph.nodes.iter().filter(|n| n.spec.meaning().kind() == "aggregate/1").count();
    assert_eq!(aggregates, 1);
}

#[test]
fn limits_are_top_n_and_order_is_for_the_answer() {
    let p = select("SELECT a FROM bounded_t ORDER BY b DESC, s LIMIT 3 OFFSET 1").unwrap();
    assert_eq!(p.columns.len(), 1);
    assert_eq!(p.order_by.len(), 2);
    assert!(p.bounded && p.order_by[0].descending && !p.order_by[0].nulls_first);
    let (sink, spec) = p.graph.sinks().next().unwrap();
    assert_eq!(spec.def.columns.len(), 3);
    assert_eq!(p.graph.inputs(&p.graph.nodes[sink])[0].columns.len(), 3);
    assert!(titles("SELECT id FROM orders LIMIT 5")[1].starts_with("TopN ROW_NUMBER <= 5, ties by id"));
    assert_eq!(titles("SELECT id FROM orders LIMIT 0")[1], "Filter FALSE");
    let sorted = select("SELECT s, COUNT(*) AS n FROM bounded_t GROUP BY s ORDER BY n DESC").unwrap();
    assert_eq!(sorted.order_by[0].column, 1);
    assert!(!plan("SELECT s FROM bounded_t ORDER BY s").contains("TopN"));
}

#[test]
fn rows_that_are_written_out_need_no_work() {
    check("VALUES (1, 'a'), (2, NULL)", "Result\n▲ append-only · same worker\n└ Values 2 rows");
    check(
        "INSERT INTO out_narrow VALUES (1, 'a'), (2, NULL)",
        "Sink out_narrow (fake, exactly-once)\n▲ append-only · same worker\n└ Values 2 rows",
    );
    check(
        "INSERT INTO orders (created_at, id) VALUES (TIMESTAMP '2024-01-01 00:00:00', 1), ('2024-01-02 03:04:05', NULL)",
        "Sink orders (fake, exactly-once)\n▲ append-only · same worker\n└ Values 2 rows",
    );
    assert_eq!(titles("SELECT 1 + 1")[1..], ["Project 1 + 1", "Values 1 row"]);
}

#[test]
fn windows_may_stand_over_groups_and_be_filtered_by_qualify() {
    let sql = "SELECT customer_id, SUM(amount) AS total FROM orders GROUP BY customer_id
        QUALIFY ROW_NUMBER() OVER (ORDER BY SUM(amount) DESC) <= 3";
    assert_eq!(
        titles(sql)[1..3],
        [
            "TopN ROW_NUMBER <= 3 ORDER BY SUM(amount) DESC, ties by customer_id",
            "Aggregate SUM(amount) PER customer_id"
        ]
    );
}

#[test]
fn secrets_are_hidden_and_verbose_shows_types() {
    let graph = insert("INSERT INTO out_append SELECT id, note FROM orders").unwrap();
    let json = format!("{graph:?}");
    assert!(!json.contains("hidden") && json.contains("****"), "{json}");
    let text = explain(&graph, ExplainOptions { verbose: true });
    assert!(text.contains("columns id BIGINT, note STRING") && text.contains("identity path = orders"), "{text}");
}

#[test]
fn names_are_found_without_case_and_shown_as_declared() {
    let p = select("SELECT ID, Orders.NOTE, customer_id AS Cust FROM ORDERS").unwrap();
    let names: Vec<&str> = p.columns.iter().map(|c| c.name.as_str()).collect();
    assert_eq!(names, ["id", "note", "Cust"]);
    let all = select("SELECT * FROM named n JOIN customers USING (x)");
    assert!(all.is_err());
    let star = select("SELECT n.*, c.region FROM named n, customers c WHERE n.x = c.id").unwrap();
    let names: Vec<&str> = star.columns.iter().map(|c| c.name.as_str()).collect();
    assert_eq!(names, ["x", "y", "region"]);
}

#[test]
fn results_have_the_types_of_the_dialect() {
    let types =
        |sql: &str| select(sql).unwrap().columns.iter().map(|c| c.ty.to_string()).collect::<Vec<_>>().join(", ");
    assert_eq!(types("SELECT 1, 2147483648, 1.50, 1e0, 'a', NULL"), "INT, BIGINT, DECIMAL(3, 2), DOUBLE, STRING, INT");
    assert_eq!(
        types(
            "SELECT COUNT(*), SUM(customer_id), AVG(customer_id), SUM(amount), AVG(amount), MIN(created_at) FROM orders"
        ),
        "BIGINT, BIGINT, INT, DECIMAL(38, 2), DECIMAL(38, 6), TIMESTAMP(3)"
    );
    assert_eq!(
        types("SELECT amount * 2, amount / 3, amount + 1.5 FROM orders"),
        "DECIMAL(21, 2), DECIMAL(21, 13), DECIMAL(11, 2)"
    );
    assert_eq!(
        types("SELECT region, CAST(name AS VARCHAR(3)), UPPER(name) FROM customers"),
        "VARCHAR(20), VARCHAR(3), STRING"
    );
    assert_eq!(types("SELECT created_at + INTERVAL '1' DAY, DATE '2020-01-01' FROM orders"), "TIMESTAMP(3), DATE");
    assert_eq!(
        types("SELECT ARRAY[1, 2][1], MAP['a', 1]['a'], ROW(1, 'x')"),
        "INT, INT, ROW<EXPR$0 INT, EXPR$1 STRING>"
    );
    assert_eq!(
        types("SELECT CASE WHEN id > 1 THEN 1 ELSE 2.5 END, COALESCE(note, 'x'), IF(id > 1, id, 0) FROM orders"),
        "DECIMAL(11, 1), STRING, BIGINT"
    );
}

#[test]
fn tables_that_a_later_one_connects_are_not_multiplied() {
    let lines = titles("SELECT a.a, b.b FROM m1 a, m2 c, bounded_t b WHERE a.a = b.a AND b.b = c.a");
    assert_eq!(lines.iter().filter(|l| l.starts_with("Join INNER")).count(), 2, "{lines:?}");
    assert!(titles("SELECT m1.a FROM m1 CROSS JOIN m2").contains(&"Join CROSS".to_owned()));
    let p = select("SELECT * FROM m1 a, m2 c, bounded_t b WHERE a.a = b.a AND b.b = c.a").unwrap();
    let names: Vec<&str> = p.columns.iter().map(|c| c.name.as_str()).collect();
    assert_eq!(names, ["a", "b", "a", "c", "a", "b", "s"]);
}
