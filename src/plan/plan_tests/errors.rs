//! Every refusal names what it is about and where it stands.

use thalweg_core::ErrorCode::{self, *};

use super::{insert, select};

/// `sql` with `«…»` around the place of the error.
#[track_caller]
fn fails(sql: &str, code: ErrorCode, message: &str) -> thalweg_core::Error {
    let plain = sql.replace(['«', '»'], "");
    let is_query = ["SELECT", "WITH", "VALUES"].iter().any(|w| plain.trim_start().starts_with(w));
    let e = if is_query {
        match select(&plain) {
            Ok(p) => panic!("{plain} was planned:\n{}", super::shown(&p.graph)),
            Err(e) => e,
        }
    } else {
        match insert(&plain) {
            Ok(g) => panic!("{plain} was planned:\n{}", super::shown(&g)),
            Err(e) => e,
        }
    };
    assert_eq!(e.code(), code, "{e}");
    assert!(e.message().contains(message), "\n{e}\ninstead of\n{message}");
    if let Some(start) = sql.find('«') {
        let place = e.place().unwrap_or_else(|| panic!("no place: {e}"));
        let line = sql[..start].matches('\n').count() as u32 + 1;
        let column = sql[..start].chars().rev().take_while(|c| *c != '\n').count() as u32 + 1;
        let marked = &sql[start + '«'.len_utf8()..sql.find('»').expect("both marks")];
        assert_eq!((place.line, place.column), (line, column), "{e}");
        if !marked.contains('\n') {
            assert_eq!(place.length, marked.chars().count() as u32, "{e}");
        }
    }
    e
}

#[test]
fn names_have_place_proposal_and_list() {
    let e = fails(
        "SELECT c.name, SUM(o.«amuont»)\n FROM orders o JOIN customers c ON o.customer_id = c.id\n GROUP BY c.name",
        Name,
        "table orders (o) has no column \"amuont\"",
    );
    assert_eq!(e.proposal(), Some("did you mean \"amount\"?"));
    assert_eq!(e.notes(), ["columns of orders: id, customer_id, amount, created_at, note"]);
    let e = fails("SELECT «amuont» FROM orders", Name, "table orders has no column \"amuont\"");
    assert_eq!(e.proposal(), Some("did you mean \"amount\"?"));
    let e = fails("SELECT * FROM «ordres»", Name, "no table or view \"ordres\"");
    assert_eq!(e.proposal(), Some("did you mean \"orders\"?"));
    let e = fails("SELECT «SUBSTRNG»(note) FROM orders", Name, "no function SUBSTRNG");
    assert_eq!(e.proposal(), Some("did you mean \"SUBSTRING\"?"));
    fails("SELECT «id» FROM orders o, customers c", Name, "column \"id\" is ambiguous");
    let e = fails("SELECT «x».id FROM orders o", Name, "no table or alias \"x\"");
    assert_eq!(e.notes(), ["in FROM: o"]);
    fails("SELECT «orders».id FROM orders o", Name, "no table or alias \"orders\"");
    fails("SELECT * FROM orders, «orders»", Name, "called \"orders\"");
    fails(
        "SELECT customer_id, «note» FROM orders GROUP BY customer_id",
        Name,
        "column \"note\" is neither in GROUP BY",
    );
    fails("SELECT id FROM orders ORDER BY «3» LIMIT 1", Name, "columns 1 to 1");
    fails("SELECT id FROM (SELECT id, id FROM orders) s", Name, "two columns \"id\"");
    fails("WITH q AS (SELECT 1 AS a) SELECT «b» FROM q", Name, "WITH query q has no column \"b\"");
}

#[test]
fn types_have_the_place_of_the_smallest_part() {
    fails("SELECT id + 1, «note + 1» FROM orders", Type, "cannot compute STRING + INT");
    fails("SELECT * FROM orders WHERE id > 1 AND «created_at = 5»", Type, "cannot compare TIMESTAMP(3) with INT");
    fails("SELECT * FROM orders WHERE «id»", Type, "WHERE must be BOOLEAN, it is BIGINT");
    fails("SELECT SUM(«note») FROM orders", Type, "SUM needs a number, not STRING");
    fails("SELECT CASE WHEN id > 1 THEN 1 ELSE DATE '2020-01-01' END FROM orders", Type, "CASE has values of type INT");
    fails("SELECT 1 UNION ALL «SELECT DATE '2020-01-01'»", Type, "column 1 of UNION ALL");
    fails("SELECT DATE «'soon'»", Type, "'soon' is not a DATE");
    fails("SELECT CAST(created_at AS INT) FROM orders", Type, "no CAST from TIMESTAMP(3) to INT");
    fails("SELECT «created_at - created_at» FROM orders", Type, "cannot compute TIMESTAMP(3) - TIMESTAMP(3)");
    fails("SELECT note LIKE «id» FROM orders", Type, "LIKE is for strings");
}

#[test]
fn what_is_not_supported_is_refused_by_name() {
    for (sql, message) in [
        ("SELECT * FROM orders o LEFT JOIN «customers c» ON o.id = c.id", "LEFT JOIN is not supported"),
        ("SELECT * FROM orders o FULL JOIN customers c ON o.id = c.id", "FULL JOIN is not supported"),
        ("SELECT * FROM orders WHERE «id IN (SELECT id FROM customers»)", "IN with a subquery"),
        ("SELECT * FROM orders WHERE EXISTS (SELECT 1 FROM customers)", "EXISTS is not supported"),
        ("SELECT (SELECT MAX(id) FROM customers) FROM orders", "a subquery as a value"),
        ("SELECT 1 UNION SELECT 2", "UNION without ALL"),
        ("SELECT 1 INTERSECT SELECT 2", "INTERSECT"),
        ("SELECT 1 EXCEPT SELECT 2", "EXCEPT"),
        ("SELECT «RANK»() OVER (ORDER BY id) FROM orders", "the window function RANK"),
        ("SELECT SUM(id) OVER (ORDER BY id) FROM orders", "the window function SUM"),
        (
            "SELECT «ROW_NUMBER»() OVER (ORDER BY id) FROM orders",
            "ROW_NUMBER over unbounded input needs an upper bound",
        ),
        ("SELECT note, COUNT(*) FROM orders GROUP BY ROLLUP (note)", "ROLLUP"),
        ("SELECT note, COUNT(*) FROM orders GROUP BY GROUPING SETS ((note), ())", "GROUPING SETS"),
        ("SELECT «LISTAGG»(note) FROM orders", "the aggregate function LISTAGG"),
        ("SELECT STDDEV_POP(id) FROM orders", "the aggregate function STDDEV_POP"),
        ("SELECT * FROM orders FOR SYSTEM_TIME AS OF PROCTIME()", "FOR SYSTEM_TIME AS OF"),
        ("SELECT * FROM TABLE(TUMBLE(TABLE orders, DESCRIPTOR(created_at), INTERVAL '1' MINUTE))", "TUMBLE"),
        ("WITH RECURSIVE q AS (SELECT 1 AS a) SELECT * FROM q", "WITH RECURSIVE"),
        ("SELECT * FROM orders o CROSS JOIN UNNEST(ARRAY[1]) AS u(x)", "UNNEST"),
        ("SELECT * FROM orders FETCH FIRST 3 ROWS WITH TIES", "WITH TIES"),
        ("SELECT id FROM orders ORDER BY «id»", "ORDER BY of an unbounded query needs LIMIT"),
        ("SELECT id FROM (SELECT id FROM orders ORDER BY «id»)", "ORDER BY without LIMIT has no meaning here"),
        ("INSERT INTO out_append SELECT id, note FROM bounded_orders ORDER BY id", "bounded_orders"),
        ("SELECT COUNT(DISTINCT id, note) FROM orders", "COUNT of several values"),
        ("SELECT * FROM orders TABLESAMPLE BERNOULLI (10)", "TABLESAMPLE"),
        ("SELECT * FROM orders WHERE id = ANY (SELECT 1)", "ANY"),
        ("SELECT id FROM orders FOR UPDATE", "FOR UPDATE"),
        ("SELECT * FROM a.orders", "with a catalog or database in it"),
    ] {
        let plain = sql.replace(['«', '»'], "");
        // What the parser refuses already has its own tests.
        let parsed = crate::sql::parse_statement(&plain);
        if parsed.is_ok() && !sql.contains("bounded_orders") {
            fails(sql, Unsupported, message);
        } else if let Err(e) = parsed {
            println!("{plain}: {e}");
        }
    }
}

#[test]
fn clauses_say_what_may_not_stand_in_them() {
    let e = fails("SELECT * FROM orders WHERE «SUM»(id) > 3", Syntax, "SUM cannot stand in WHERE");
    assert_eq!(e.notes(), ["a condition on groups stands in HAVING"]);
    fails("SELECT SUM(«COUNT»(*)) FROM orders", Syntax, "within another aggregate");
    fails(
        "SELECT * FROM orders WHERE «ROW_NUMBER»() OVER (ORDER BY id) < 3",
        Syntax,
        "ROW_NUMBER cannot stand in WHERE",
    );
    fails("SELECT «*»", Name, "needs a FROM");
}

#[test]
fn inserts_are_checked_against_their_target() {
    let e = fails("INSERT INTO «out_append» SELECT id FROM orders", Type, "takes 2 columns here, the query has 1");
    assert_eq!(e.notes(), ["columns of out_append: a BIGINT, b STRING", "columns of the query: id BIGINT"]);
    fails(
        "INSERT INTO out_append SELECT id, «created_at» FROM orders",
        Type,
        "column \"b\" of table out_append is STRING",
    );
    fails("INSERT INTO out_append («c») SELECT id FROM orders", Name, "has no column \"c\"");
    fails("INSERT INTO «out_narrow» (b) SELECT note FROM orders", Type, "column \"a\" of table out_narrow is NOT NULL");
    fails("INSERT INTO out_narrow VALUES («NULL», 'x')", Type, "NOT NULL");
    fails("INSERT INTO out_narrow VALUES (1, 'a'), (2, «'toolong'»)", Row, "'toolong' is longer than 3 characters");
    fails(
        "INSERT INTO out_narrow VALUES («300», 'a')",
        Row,
        "column \"a\" of table out_narrow: 300 is out of the range",
    );
    fails("INSERT INTO out_narrow VALUES (1, 'a'), («1»)", Type, "takes 2 values here, the row has 1");
    fails("INSERT INTO events («twice») SELECT id FROM orders", Name, "computed: it cannot be written");
    fails("INSERT INTO «big_orders» SELECT 1", Name, "is a view, not a table");
    let e = fails(
        "INSERT INTO «out_append» SELECT customer_id, MAX(note) FROM orders GROUP BY customer_id",
        Unsupported,
        "table out_append takes inserts only",
    );
    assert!(e.message().contains("\"Aggregate MAX(note) PER customer_id\" changes rows"), "{e}");
    fails(
        "INSERT INTO out_append SELECT id, name FROM customers",
        Unsupported,
        "table customers comes with updates and deletes",
    );
}
