//! For the shell: the list of keywords, what each stretch of a text is (highlighting), and what may come next
//! (completion). All of it works on texts that are no statements yet.

use std::ops::Range;

use crate::catalog::{Catalog, Relation};
use crate::sql::flink_types::name_text;
use crate::sql::lexer::{Lexeme, LexemeKind, lex};
use crate::sql::tokens::string_value;

/// Every word that means something in this dialect, in upper case and in alphabetical order.
const KEYWORDS: &[&str] = &[
    "ALL",
    "AND",
    "ARRAY",
    "AS",
    "ASC",
    "BEGIN",
    "BETWEEN",
    "BIGINT",
    "BINARY",
    "BOOLEAN",
    "BOTH",
    "BY",
    "BYTES",
    "CASE",
    "CAST",
    "CHAR",
    "COLUMNS",
    "COMMENT",
    "CONSTRAINT",
    "CONSTRAINTS",
    "CREATE",
    "CROSS",
    "CURRENT_DATE",
    "CURRENT_TIME",
    "CURRENT_TIMESTAMP",
    "DATE",
    "DAY",
    "DECIMAL",
    "DELETE",
    "DESC",
    "DESCRIBE",
    "DISTINCT",
    "DOUBLE",
    "DROP",
    "ELSE",
    "END",
    "ENFORCED",
    "ESCAPE",
    "EXCEPT",
    "EXCLUDING",
    "EXECUTE",
    "EXISTS",
    "EXPLAIN",
    "EXTRACT",
    "FALSE",
    "FETCH",
    "FILTER",
    "FIRST",
    "FLOAT",
    "FOR",
    "FROM",
    "FULL",
    "FUNCTIONS",
    "GENERATED",
    "GROUP",
    "HAVING",
    "HOUR",
    "IF",
    "IN",
    "INCLUDING",
    "INNER",
    "INSERT",
    "INT",
    "INTEGER",
    "INTERSECT",
    "INTERVAL",
    "INTO",
    "IS",
    "JOB",
    "JOBS",
    "JOIN",
    "KEY",
    "LAST",
    "LEADING",
    "LEFT",
    "LIKE",
    "LIMIT",
    "LOCAL",
    "LOCALTIME",
    "LOCALTIMESTAMP",
    "MAP",
    "METADATA",
    "MINUTE",
    "MONTH",
    "NATURAL",
    "NOT",
    "NULL",
    "NULLS",
    "NUMERIC",
    "OFFSET",
    "ON",
    "ONLY",
    "OPTIONS",
    "OR",
    "ORDER",
    "OUTER",
    "OVER",
    "OVERWRITING",
    "PARTITION",
    "PARTITIONED",
    "PARTITIONS",
    "PRECISION",
    "PRIMARY",
    "RESET",
    "RIGHT",
    "ROW",
    "ROWS",
    "SAVEPOINT",
    "SECOND",
    "SELECT",
    "SET",
    "SHOW",
    "SIMILAR",
    "SMALLINT",
    "STATEMENT",
    "STOP",
    "STRING",
    "TABLE",
    "TABLES",
    "TEMPORARY",
    "THEN",
    "TIME",
    "TIMESTAMP",
    "TIMESTAMP_LTZ",
    "TINYINT",
    "TO",
    "TRAILING",
    "TRUE",
    "TRY_CAST",
    "UNION",
    "UNKNOWN",
    "UPDATE",
    "USING",
    "VALUES",
    "VARBINARY",
    "VARCHAR",
    "VERBOSE",
    "VIEW",
    "VIEWS",
    "VIRTUAL",
    "WATERMARK",
    "WATERMARKS",
    "WHEN",
    "WHERE",
    "WITH",
    "WITHOUT",
    "YEAR",
    "ZONE",
];

/// Words with which a statement begins.
const BEGINNINGS: &[&str] = &[
    "BEGIN", "CREATE", "DELETE", "DESCRIBE", "DROP", "EXECUTE", "EXPLAIN", "INSERT", "RESET", "SELECT", "SET", "SHOW",
    "STOP", "UPDATE", "VALUES", "WITH",
];

pub fn keywords() -> &'static [&'static str] {
    KEYWORDS
}

pub(crate) fn is_keyword(word: &str) -> bool {
    KEYWORDS.binary_search(&word.to_ascii_uppercase().as_str()).is_ok()
}

/// What a stretch of a text is, for highlighting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenClass {
    Keyword,
    /// A name, with or without backticks.
    Identifier,
    /// A name with a parenthesis behind it.
    Function,
    String,
    Number,
    Comment,
    Hint,
    Symbol,
    Space,
}

/// Cuts a text into classified stretches (in bytes) that cover all of it.
pub fn classify(text: &str) -> Vec<(Range<usize>, TokenClass)> {
    let lexemes = lex(text);
    let mut classes = Vec::with_capacity(lexemes.len());
    for (i, l) in lexemes.iter().enumerate() {
        let class = match l.kind {
            LexemeKind::Word => {
                let next = lexemes[i + 1..].iter().find(|n| !n.is_trivia());
                let before = lexemes[..i].iter().rev().find(|n| !n.is_trivia());
                let of_name = before.is_some_and(|b| b.is_symbol(text, "."));
                if is_keyword(l.text(text)) && !of_name {
                    TokenClass::Keyword
                } else if next.is_some_and(|n| n.is_symbol(text, "(")) {
                    TokenClass::Function
                } else {
                    TokenClass::Identifier
                }
            }
            LexemeKind::QuotedName => TokenClass::Identifier,
            LexemeKind::String | LexemeKind::HexString | LexemeKind::UnicodeString | LexemeKind::DoubleQuoted => {
                TokenClass::String
            }
            LexemeKind::Number => TokenClass::Number,
            LexemeKind::LineComment | LexemeKind::BlockComment => TokenClass::Comment,
            LexemeKind::Hint => TokenClass::Hint,
            LexemeKind::Symbol => TokenClass::Symbol,
            LexemeKind::Space => TokenClass::Space,
        };
        classes.push((l.range.clone(), class));
    }
    classes
}

/// What completion needs beside the catalog.
#[derive(Debug, Clone, Copy, Default)]
pub struct CompletionWords<'a> {
    pub functions: &'a [&'a str],
    /// Names that `SET` and `RESET` know.
    pub settings: &'a [&'a str],
    /// Names of connectors, for `'connector' = '…'`.
    pub connectors: &'a [&'a str],
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Completion {
    /// The candidates replace the text from this byte on.
    pub from: usize,
    pub candidates: Vec<Candidate>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    pub text: String,
    pub kind: CandidateKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum CandidateKind {
    Column,
    Table,
    View,
    Function,
    Keyword,
    Setting,
    Connector,
}

/// What the word at the end of the text may become, the likelier first.
pub fn complete(text_before_cursor: &str, catalog: &Catalog, words: CompletionWords<'_>) -> Completion {
    let text = text_before_cursor;
    let lexemes = lex(text);
    let begin = lexemes.iter().rposition(|l| l.is_symbol(text, ";")).map_or(0, |i| i + 1);
    let mut significant: Vec<&Lexeme> = lexemes[begin..].iter().filter(|l| !l.is_trivia()).collect();
    let in_comment = lexemes.last().is_some_and(|l| match l.kind {
        LexemeKind::LineComment => true,
        LexemeKind::BlockComment | LexemeKind::Hint => !l.closed,
        _ => false,
    });
    if in_comment {
        return Completion { from: text.len(), candidates: vec![] };
    }
    // The word that is being typed, if the cursor touches one.
    let touched =
        significant.last().copied().filter(|l| l.range.end == text.len() && (l.kind == LexemeKind::Word || !l.closed));
    if touched.is_some() {
        significant.pop();
    }
    let (from, typed) = match touched {
        Some(l) => (l.range.start, l.text(text)),
        None => (text.len(), ""),
    };
    let context = Context { text, before: &significant, all: &lexemes[begin..], catalog, words };
    let mut candidates = match touched.map(|l| l.kind) {
        Some(LexemeKind::String) => context.in_string(),
        Some(LexemeKind::QuotedName) => context.names(),
        Some(LexemeKind::Word) | None => context.words(typed),
        _ => vec![],
    };
    let prefix = typed.trim_start_matches(['\'', '`']).to_lowercase();
    candidates.retain(|c| c.text.trim_start_matches(['\'', '`']).to_lowercase().starts_with(&prefix));
    let mut seen = std::collections::HashSet::new();
    candidates.retain(|c| seen.insert(c.text.clone()));
    Completion { from, candidates }
}

struct Context<'a> {
    text: &'a str,
    /// Of the statement, before the word that is being typed.
    before: &'a [&'a Lexeme],
    all: &'a [Lexeme],
    catalog: &'a Catalog,
    words: CompletionWords<'a>,
}

impl Context<'_> {
    fn before_is_word(&self, n: usize, words: &[&str]) -> bool {
        self.before.len() > n && words.iter().any(|w| self.before[self.before.len() - 1 - n].is_word(self.text, w))
    }

    fn before_is_symbol(&self, n: usize, symbol: &str) -> bool {
        self.before.len() > n && self.before[self.before.len() - 1 - n].is_symbol(self.text, symbol)
    }

    fn in_string(&self) -> Vec<Candidate> {
        if self.before.len() == 1 && self.before_is_word(0, &["SET", "RESET"]) {
            return quoted(self.words.settings, CandidateKind::Setting);
        }
        let of_connector = self.before_is_symbol(0, "=")
            && self.before.len() > 1
            && string_value(self.before[self.before.len() - 2].text(self.text)).eq_ignore_ascii_case("connector");
        if of_connector { quoted(self.words.connectors, CandidateKind::Connector) } else { vec![] }
    }

    /// Within backticks: tables, or columns of those that are mentioned.
    fn names(&self) -> Vec<Candidate> {
        let mut names = if self.wants_table() { vec![] } else { self.columns() };
        names.extend(self.tables(true, true));
        names.into_iter().map(|c| Candidate { text: backticked(&c.text), kind: c.kind }).collect()
    }

    fn wants_table(&self) -> bool {
        self.before_is_word(0, &["FROM", "JOIN", "INTO", "UPDATE", "DESCRIBE", "TABLE", "VIEW", "LIKE"])
            || (self.before_is_word(0, &["DESC"]) && self.before.len() == 1)
            || (self.before_is_word(0, &["EXISTS"]) && self.before_is_word(1, &["IF"]))
    }

    fn words(&self, typed: &str) -> Vec<Candidate> {
        if self.before_is_symbol(0, ".") {
            return self.columns_of_qualifier();
        }
        if self.before.is_empty() || (self.before.len() == 1 && self.before_is_word(0, &["EXPLAIN"])) {
            return keyword_candidates(BEGINNINGS, typed);
        }
        if self.before.len() == 1 && self.before_is_word(0, &["SHOW"]) {
            return keyword_candidates(&["COLUMNS", "CREATE", "FUNCTIONS", "JOBS", "TABLES", "VIEWS"], typed);
        }
        if self.before.len() == 1 && self.before_is_word(0, &["SET", "RESET"]) {
            return quoted(self.words.settings, CandidateKind::Setting);
        }
        if self.before.len() == 1 && self.before_is_word(0, &["CREATE", "DROP"]) {
            return keyword_candidates(&["TABLE", "TEMPORARY", "VIEW"], typed);
        }
        if self.wants_table() {
            let views_only = self.before_is_word(0, &["VIEW"]);
            let tables_only = self.before_is_word(0, &["INTO", "UPDATE"]);
            let mut names = self.tables(!views_only, !tables_only);
            names.extend(keyword_candidates(&["IF", "LATERAL", "TABLE"], typed));
            return names;
        }
        let mut names = self.columns();
        names.extend(
            self.words
                .functions
                .iter()
                .map(|f| Candidate { text: in_case_of(f, typed), kind: CandidateKind::Function }),
        );
        names.extend(keyword_candidates(KEYWORDS, typed));
        names
    }

    fn tables(&self, tables: bool, views: bool) -> Vec<Candidate> {
        self.catalog
            .relations()
            .filter_map(|r| match r {
                Relation::Table(t) if tables => {
                    Some(Candidate { text: name_text(&t.name), kind: CandidateKind::Table })
                }
                Relation::View(v) if views => Some(Candidate { text: name_text(&v.name), kind: CandidateKind::View }),
                _ => None,
            })
            .collect()
    }

    /// Columns of all relations that the statement mentions, also behind the cursor's word.
    fn columns(&self) -> Vec<Candidate> {
        let mut found = vec![];
        for (_, relation) in self.mentioned() {
            found.extend(self.columns_of(&relation));
        }
        found
    }

    fn columns_of_qualifier(&self) -> Vec<Candidate> {
        let Some(qualifier) = self.before.len().checked_sub(2).map(|i| self.before[i]) else { return vec![] };
        let qualifier = name_of(qualifier, self.text);
        self.mentioned()
            .into_iter()
            .filter(|(alias, _)| alias.eq_ignore_ascii_case(&qualifier))
            .flat_map(|(_, relation)| self.columns_of(&relation))
            .collect()
    }

    fn columns_of(&self, relation: &str) -> Vec<Candidate> {
        let columns = match self.catalog.get(relation) {
            Some(Relation::Table(t)) => t.columns.iter().map(|c| c.name.clone()).collect(),
            Some(Relation::View(v)) => v.columns.clone().unwrap_or_default(),
            None => vec![],
        };
        columns.iter().map(|c| Candidate { text: name_text(c), kind: CandidateKind::Column }).collect()
    }

    /// `(alias, relation)` behind FROM, JOIN, INTO, UPDATE and the commas between tables.
    fn mentioned(&self) -> Vec<(String, String)> {
        let significant: Vec<&Lexeme> =
            self.all.iter().filter(|l| !l.is_trivia() && l.kind != LexemeKind::Hint).collect();
        let is_name = |l: &Lexeme| {
            l.kind == LexemeKind::QuotedName || (l.kind == LexemeKind::Word && !is_keyword(l.text(self.text)))
        };
        let mut found = vec![];
        let mut in_from = false;
        for (i, l) in significant.iter().enumerate() {
            let begins = ["FROM", "JOIN", "INTO", "UPDATE"].iter().any(|w| l.is_word(self.text, w));
            in_from = begins || (in_from && (is_name(l) || l.is_symbol(self.text, ",") || l.is_word(self.text, "AS")));
            let comes_name = begins || (in_from && l.is_symbol(self.text, ","));
            let Some(table) = significant.get(i + 1).filter(|n| comes_name && is_name(n)) else { continue };
            let relation = name_of(table, self.text);
            let as_word = significant.get(i + 2).is_some_and(|a| a.is_word(self.text, "AS"));
            let alias = significant.get(i + 2 + usize::from(as_word)).filter(|a| is_name(a));
            let alias = alias.map_or_else(|| relation.clone(), |a| name_of(a, self.text));
            found.push((alias, relation));
        }
        found
    }
}

fn name_of(l: &Lexeme, text: &str) -> String {
    if l.kind == LexemeKind::QuotedName { string_value(l.text(text)) } else { l.text(text).to_owned() }
}

fn backticked(name: &str) -> String {
    if name.starts_with('`') { name.to_owned() } else { format!("`{name}`") }
}

fn quoted(words: &[&str], kind: CandidateKind) -> Vec<Candidate> {
    words.iter().map(|w| Candidate { text: format!("'{w}'"), kind }).collect()
}

fn keyword_candidates(words: &[&str], typed: &str) -> Vec<Candidate> {
    words.iter().map(|w| Candidate { text: in_case_of(w, typed), kind: CandidateKind::Keyword }).collect()
}

/// In lower case where the user types so.
fn in_case_of(word: &str, typed: &str) -> String {
    if typed.starts_with(|c: char| c.is_lowercase()) { word.to_lowercase() } else { word.to_uppercase() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::{Statement, parse_statement};

    fn catalog() -> Catalog {
        let mut catalog = Catalog::default();
        for sql in [
            "CREATE TABLE orders (id INT, amount DECIMAL(10, 2), `group` STRING)",
            "CREATE TABLE customers (id INT, name STRING)",
        ] {
            let Statement::CreateTable(t) = parse_statement(sql).unwrap() else { panic!("{sql}") };
            catalog.create_table(&t).unwrap();
        }
        let Statement::CreateView(v) = parse_statement("CREATE VIEW totals (total) AS SELECT 1").unwrap() else {
            panic!()
        };
        catalog.create_view(&v).unwrap();
        catalog
    }

    fn texts(text: &str) -> Vec<String> {
        let words = CompletionWords {
            functions: &["COUNT", "CONCAT"],
            settings: &["parallelism.default", "pipeline.name"],
            connectors: &["kafka", "print"],
        };
        complete(text, &catalog(), words).candidates.into_iter().map(|c| c.text).collect()
    }

    #[test]
    fn the_list_of_keywords_is_sorted() {
        assert!(KEYWORDS.windows(2).all(|w| w[0] < w[1]));
    }

    #[test]
    fn a_statement_begins_with_a_statement_s_word() {
        assert_eq!(texts("sel"), ["select"]);
        assert_eq!(texts("SELECT 1; DES"), ["DESCRIBE"]);
        assert_eq!(texts("SHOW T"), ["TABLES"]);
    }

    #[test]
    fn tables_come_where_a_table_must_stand() {
        assert_eq!(texts("SELECT * FROM "), ["customers", "orders", "totals", "IF", "LATERAL", "TABLE"]);
        assert_eq!(texts("SELECT * FROM o"), ["orders"]);
        assert_eq!(texts("INSERT INTO t"), ["table"]);
        assert_eq!(texts("SELECT * FROM `c"), ["`customers`"]);
        assert_eq!(texts("DROP VIEW IF EXISTS t"), ["totals", "table"]);
    }

    #[test]
    fn columns_come_of_the_tables_that_are_mentioned() {
        assert!(texts("SELECT id FROM orders WHERE am").contains(&"amount".to_owned()));
        assert_eq!(texts("SELECT * FROM orders AS o JOIN customers c ON o."), ["id", "amount", "`group`"]);
        assert_eq!(texts("SELECT * FROM orders AS o JOIN customers c ON o.id = c.n"), ["name"]);
        assert_eq!(texts("SELECT * FROM totals t WHERE t.to"), ["total"]);
    }

    #[test]
    fn functions_keep_the_case_that_is_typed() {
        assert_eq!(texts("SELECT cou"), ["count"]);
        assert_eq!(texts("SELECT CON")[0], "CONCAT");
    }

    #[test]
    fn settings_and_connectors_come_in_their_strings() {
        assert_eq!(texts("SET 'par"), ["'parallelism.default'"]);
        assert_eq!(texts("CREATE TABLE t (a INT) WITH ('connector' = 'k"), ["'kafka'"]);
        assert_eq!(texts("SELECT 'sel"), Vec::<String>::new());
        assert_eq!(texts("SELECT 1 -- sel"), Vec::<String>::new());
    }

    #[test]
    fn every_stretch_has_its_class() {
        use TokenClass::*;
        let text = "SELECT COUNT(*), `a`, 'x', 1.5 -- c\nFROM t.date";
        let classes: Vec<TokenClass> = classify(text).into_iter().map(|(_, c)| c).filter(|c| *c != Space).collect();
        assert_eq!(
            classes,
            [
                Keyword, Function, Symbol, Symbol, Symbol, Symbol, Identifier, Symbol, String, Symbol, Number, Comment,
                Keyword, Identifier, Symbol, Identifier
            ]
        );
        assert_eq!(classify(text).iter().map(|(r, _)| r.len()).sum::<usize>(), text.len());
    }
}
