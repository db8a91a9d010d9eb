//! The catalog in memory: tables and views by name, `CREATE` with its checks, `DROP`, `LIKE`, `SHOW CREATE`, `DESCRIBE`.

// The type that gives the folder its name has a file of its own.
#[allow(clippy::module_inception)]
mod catalog;
mod like;
mod show;
mod table;
mod view;

#[cfg(test)]
mod tests;

pub use catalog::{Catalog, Created, Relation};
pub use show::{DESCRIBE_COLUMNS, DescribeRow, describe_columns, describe_table, show_create_table, show_create_view};
pub use table::{Column as CatalogColumn, ColumnKind as CatalogColumnKind, PrimaryKey, Table, Watermark};
pub use view::View;
