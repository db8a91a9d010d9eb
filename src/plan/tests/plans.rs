//! What is built of statements.

use super::{insert, plan, select, shown};

#[track_caller]
fn check(sql: &str, expected: &str) {
    let expected: Vec<&str> = expected.trim_matches('\n').lines().collect();
    let indent = expected.iter().map(|l| l.len() - l.trim_start().len()).min().unwrap_or(0);
    let expected: Vec<String> = expected.iter().map(|l| l[indent..].trim_end().to_owned()).collect();
    let found = plan(sql);
    assert_eq!(found, expected.join("\n"), "\n--- found\n{found}\n");
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
fn dump() {
    for sql in [
        "SELECT customer_id, COUNT(*), SUM(amount) AS total FROM orders GROUP BY customer_id HAVING COUNT(*) > 3",
        "SELECT COUNT(*) FROM orders",
        "SELECT region, name, SUM(amount) FROM changes o JOIN customers c ON o.customer_id = c.id GROUP BY region, name",
        "INSERT INTO out_top SELECT region, rn, name, amount FROM (SELECT region, name, amount, ROW_NUMBER() OVER (PARTITION BY region ORDER BY amount DESC) AS rn FROM changes o JOIN customers c ON o.customer_id = c.id) WHERE rn <= 3",
        "SELECT user_id, kind FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY user_id ORDER BY p) AS rn FROM events) WHERE rn = 1",
        "SELECT name, op_ts FROM customers",
        "SELECT name, NOW() FROM customers WHERE RANDOM() < 0.5",
        "SELECT item, price FROM prices WHERE price > 1",
        "INSERT INTO out_upsert SELECT user_id, kind FROM events",
        "INSERT INTO out_upsert SELECT id, name FROM customers UNION ALL SELECT customer_id, 'x' FROM orders",
        "EXECUTE STATEMENT SET BEGIN INSERT INTO out_upsert SELECT customer_id, MAX(note) FROM orders GROUP BY customer_id; INSERT INTO out_append SELECT id, note FROM orders; END",
        "SELECT * FROM m1 JOIN m2 USING (a)",
        "VALUES (1, 'a'), (2, NULL)",
        "SELECT 1 + 1, UPPER('a')",
        "SELECT DISTINCT s FROM bounded_t ORDER BY s",
        "SELECT a, b FROM bounded_t ORDER BY b DESC LIMIT 3 OFFSET 1",
        "INSERT INTO out_narrow SELECT a, s FROM bounded_t",
        "SELECT COUNT(DISTINCT a), SUM(b) FILTER (WHERE a > 0) FROM bounded_t, own_t WHERE b = k AND a <> 0 AND 10 / a > b",
    ] {
        match super::parse_statement(sql).unwrap() {
            super::Statement::Query(_) => match select(sql) {
                Ok(p) => println!("{sql}\n{}\n", shown(&p.graph)),
                Err(e) => println!("{sql}\n   ERROR {e:?}"),
            },
            _ => match insert(sql) {
                Ok(g) => println!("{sql}\n{}\n", shown(&g)),
                Err(e) => println!("{sql}\n   ERROR {e:?}"),
            },
        }
    }
}
