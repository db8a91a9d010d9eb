//! `LIKE table (…)`: what a new table takes from another one, by Flink's rules.
//!
//! Physical columns are always taken, the new table's come behind them. Of the rest each part (computed columns,
//! metadata columns, watermark, primary key, partitions, options) is taken (INCLUDING: a clash is an error), taken where
//! the new table has none (OVERWRITING), or left out (EXCLUDING). Unless something else is said, all is taken, and the
//! new table's options win.

use thalweg_core::{Error, Place, Result};

use crate::catalog::table::{Column, ColumnKind, Table};
use crate::sql::{
    ColumnDecl, ColumnDeclKind, CreateTable, LikeClause, LikeFeature, LikeStrategy, Name, PrimaryKeyDecl, TableOption,
    WatermarkDecl,
};

/// The statement as if everything that is taken had been written out. What is taken has the place of `LIKE`'s table.
pub(crate) fn apply_like(t: &CreateTable, like: &LikeClause, base: &Table) -> Result<CreateTable> {
    let place = like.table.place;
    let named = |value: &str| Name { value: value.to_owned(), place };
    let mut merged = t.clone();
    merged.like = None;
    merged.columns = columns(t, like, base)?;
    let own_watermark = !t.watermarks.is_empty();
    if let Some(w) = &base.watermark
        && takes(like, LikeFeature::Watermarks, own_watermark, || {
            clash("watermark", "WATERMARKS", t.watermarks[0].place)
        })?
    {
        let column = named(&base.columns[w.column].name);
        merged.watermarks.push(WatermarkDecl { column, expr: w.expr.clone(), text: w.text.clone(), place });
    }
    if let Some(key) = &base.primary_key {
        let own = t.primary_key.as_ref().map(|k| k.place);
        if takes(like, LikeFeature::Constraints, own.is_some(), || {
            clash("primary key", "CONSTRAINTS", own.unwrap_or(place))
        })? {
            merged.primary_key = Some(PrimaryKeyDecl {
                constraint: key.constraint.as_deref().map(named),
                columns: key.columns.iter().map(|i| named(&base.columns[*i].name)).collect(),
                // Whether it is enforced follows from where the new table's data is.
                enforced: false,
                place,
            });
        }
    }
    if !base.partitioned_by.is_empty() {
        let own = t.partitioned_by.first().map(|p| p.place);
        if takes(like, LikeFeature::Partitions, own.is_some(), || {
            clash("partitions", "PARTITIONS", own.unwrap_or(place))
        })? {
            merged.partitioned_by = base.partitioned_by.iter().map(|i| named(&base.columns[*i].name)).collect();
        }
    }
    for (key, value) in &base.options {
        let own = t.options.iter().find(|o| o.key.value.eq_ignore_ascii_case(key)).map(|o| o.key.place);
        let what = format!("option '{key}'");
        if takes(like, LikeFeature::Options, own.is_some(), || clash(&what, "OPTIONS", own.unwrap_or(place)))? {
            merged.options.push(TableOption { key: named(key), value: named(value) });
        }
    }
    Ok(merged)
}

fn strategy(like: &LikeClause, feature: LikeFeature) -> LikeStrategy {
    let given = |f| like.options.iter().find(|o| o.feature == f).map(|o| o.strategy);
    given(feature).or_else(|| given(LikeFeature::All)).unwrap_or(match feature {
        LikeFeature::Options => LikeStrategy::Overwriting,
        _ => LikeStrategy::Including,
    })
}

/// Whether the base table's part is taken, given that the new table has its own or not.
fn takes(like: &LikeClause, feature: LikeFeature, own: bool, clash: impl FnOnce() -> Error) -> Result<bool> {
    match strategy(like, feature) {
        LikeStrategy::Excluding => Ok(false),
        LikeStrategy::Including if own => Err(clash()),
        LikeStrategy::Overwriting if own => Ok(false),
        LikeStrategy::Including | LikeStrategy::Overwriting => Ok(true),
    }
}

fn clash(what: &str, feature: &str, place: Place) -> Error {
    Error::name(format!("both this table and the one after LIKE have the {what}"))
        .at(place)
        .note(format!("LIKE … (EXCLUDING {feature}) leaves that of the other table out"))
}

fn columns(t: &CreateTable, like: &LikeClause, base: &Table) -> Result<Vec<ColumnDecl>> {
    let place = like.table.place;
    let mut merged = vec![];
    for c in &base.columns {
        let own = t.columns.iter().find(|o| o.name.value == c.name);
        let (feature, word) = match &c.kind {
            ColumnKind::Physical { .. } => {
                if let Some(own) = own {
                    let message = format!("table {} has a column \"{}\" already", base.name, c.name);
                    return Err(Error::name(message).at(own.name.place).note("physical columns are always taken"));
                }
                merged.push(declared(c, place));
                continue;
            }
            ColumnKind::Metadata { .. } => (LikeFeature::Metadata, "METADATA"),
            ColumnKind::Computed { .. } => (LikeFeature::Generated, "GENERATED"),
        };
        let what = format!("column \"{}\"", c.name);
        if takes(like, feature, own.is_some(), || clash(&what, word, own.map_or(place, |o| o.name.place)))? {
            merged.push(declared(c, place));
        }
    }
    merged.extend(t.columns.iter().cloned());
    Ok(merged)
}

fn declared(c: &Column, place: Place) -> ColumnDecl {
    let kind = match &c.kind {
        ColumnKind::Physical { ty, nullable } => {
            ColumnDeclKind::Physical { ty: ty.clone(), nullable: *nullable, ty_place: place }
        }
        ColumnKind::Metadata { ty, nullable, key, is_virtual } => ColumnDeclKind::Metadata {
            ty: ty.clone(),
            nullable: *nullable,
            ty_place: place,
            key: Some(Name { value: key.clone(), place }),
            is_virtual: *is_virtual,
        },
        ColumnKind::Computed { expr, text } => ColumnDeclKind::Computed { expr: expr.clone(), text: text.clone() },
    };
    ColumnDecl { name: Name { value: c.name.clone(), place }, kind, comment: c.comment.clone() }
}
