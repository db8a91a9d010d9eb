//! SQL text → statements with places.
//!
//! `lexer` cuts a text losslessly; `tokens` makes of it statements, fingerprints and sqlparser's tokens; `statement` and
//! `ddl` read the statements themselves and leave queries and expressions to sqlparser, with `dialect` for what Flink
//! writes differently; `secrets` finds what none of them may show. Every error has the place of the offending token.

pub(crate) mod cursor;
pub(crate) mod ddl;
pub(crate) mod dialect;
pub(crate) mod flink_types;
pub(crate) mod hints;
pub(crate) mod lexer;
pub(crate) mod limits;
mod options;
pub(crate) mod query;
mod secrets;
pub(crate) mod shell;
pub(crate) mod show;
pub(crate) mod statement;
pub(crate) mod tokens;

#[cfg(test)]
mod tests;

pub use cursor::Name;
pub use ddl::{
    ColumnDecl, ColumnDeclKind, CreateTable, CreateView, LikeClause, LikeFeature, LikeOption, LikeStrategy,
    PrimaryKeyDecl, TableOption, WatermarkDecl,
};
pub use flink_types::{name_text, place_of_ident, quoted_name, sql_type_of, text_of_type, type_of_text};
pub use hints::{Hints, TableHint};
pub use query::Query;
pub use secrets::{mask_parsed, mask_secrets};
pub use shell::{Candidate, CandidateKind, Completion, CompletionWords, TokenClass, classify, complete, keywords};
pub use show::like_matches;
pub use statement::{
    Delete, DropKind, DropObject, Explain, Insert, Parsed, Show, Statement, StatementSet, StopJob, Update,
    parse_script, parse_statement,
};
pub use tokens::{Completeness, StatementText, fingerprint, is_complete, place_of, split_script};
