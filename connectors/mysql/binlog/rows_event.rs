//! Rows events: which rows of one table a statement inserted, updated or deleted.

use thalweg_core::fold::RowKind;
use thalweg_core::{Error, Result};

use super::bytes::{Bytes, damaged};
use crate::layout::ImagePlan;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowsKind {
    Insert,
    Update,
    Delete,
}

/// A rows event. Its rows cannot be read without the TABLE_MAP event before it.
#[derive(Debug, Clone, Copy)]
pub struct RowsEvent<'a> {
    pub kind: RowsKind,
    pub table_id: u64,
    /// The last rows event of its statement: table numbers end with it.
    pub ends_statement: bool,
    /// Columns of the table, as the event says.
    pub columns: usize,
    /// Per image (before, after; one of them for an insert or delete) a bitmap of the columns that it holds.
    present: [&'a [u8]; 2],
    rows: Bytes<'a>,
}

impl<'a> RowsEvent<'a> {
    pub(super) fn parse(kind: RowsKind, version: u8, mut body: Bytes<'a>) -> Result<Self> {
        const STATEMENT_END: u16 = 1;
        let table_id = body.u48()?;
        let flags = body.u16()?;
        if version == 2 {
            // Its own two bytes are counted. What is in there (partitions, NDB) says nothing about rows.
            let extra = usize::from(body.u16()?);
            body.take(extra.checked_sub(2).ok_or_else(|| damaged("extra data shorter than its length"))?)?;
        }
        let columns = body.packed()?;
        let columns = usize::try_from(columns).ok().filter(|c| c.div_ceil(8) <= body.rest().len());
        let columns = columns.ok_or_else(|| damaged("more columns than the event has room for"))?;
        let before = body.take(columns.div_ceil(8))?;
        let after = if kind == RowsKind::Update { body.take(columns.div_ceil(8))? } else { before };
        let ends_statement = flags & STATEMENT_END != 0;
        Ok(RowsEvent { kind, table_id, ends_statement, columns, present: [before, after], rows: body })
    }

    /// The rows, one image after another.
    pub fn images(&self) -> ImageCursor<'a> {
        ImageCursor {
            kind: self.kind,
            present: self.present,
            after: false,
            rest: self.rows,
            checked: false,
            columns: self.columns,
        }
    }
}

/// Walks over the images of a rows event. An update gives two, before (-U) and after (+U).
#[derive(Debug, Clone, Copy)]
pub struct ImageCursor<'a> {
    kind: RowsKind,
    present: [&'a [u8]; 2],
    columns: usize,
    /// The next image is the one after an update.
    after: bool,
    checked: bool,
    pub(crate) rest: Bytes<'a>,
}

/// One row as the binlog has it: NULL bitmap and values, of columns that are all there.
#[derive(Debug, Clone, Copy)]
pub struct Image<'a> {
    pub kind: RowKind,
    pub(crate) bytes: Bytes<'a>,
}

impl<'a> ImageCursor<'a> {
    pub fn is_done(&self) -> bool {
        self.rest.is_empty() && !self.after
    }

    /// Images that are not read yet can be read in pairs only at this place: the next image is not the second one of
    /// an update.
    pub fn is_between_rows(&self) -> bool {
        !self.after
    }

    /// The next image, cut from the event but not decoded; `None` behind the last.
    pub fn next_image(&mut self, plan: &ImagePlan) -> Result<Option<Image<'a>>> {
        let Some(kind) = self.next_kind(plan)? else { return Ok(None) };
        let begin = self.rest;
        plan.skip_image(&mut self.rest)?;
        let length = begin.rest().len() - self.rest.rest().len();
        let bytes = Bytes::new(&begin.rest()[..length], begin.offset());
        Ok(Some(Image { kind, bytes }))
    }

    /// What the next image is. The caller reads it from `rest`.
    #[inline]
    pub(crate) fn next_kind(&mut self, plan: &ImagePlan) -> Result<Option<RowKind>> {
        if !self.checked {
            self.check(plan)?;
        }
        if self.rest.is_empty() {
            return if self.after { Err(damaged("an update without its row after")) } else { Ok(None) };
        }
        Ok(Some(match self.kind {
            RowsKind::Insert => RowKind::Insert,
            RowsKind::Delete => RowKind::Delete,
            RowsKind::Update => {
                self.after = !self.after;
                if self.after { RowKind::UpdateBefore } else { RowKind::UpdateAfter }
            }
        }))
    }

    /// Both images hold all columns. `binlog_row_image` is a variable of each session, so that every event is asked.
    fn check(&mut self, plan: &ImagePlan) -> Result<()> {
        if self.columns != plan.columns() {
            let (found, expected) = (self.columns, plan.columns());
            return Err(damaged(format!("rows of {found} columns behind a table map of {expected}")));
        }
        for present in self.present {
            if let Some(missing) = (0..self.columns).find(|c| present[c / 8] & 1 << (c % 8) == 0) {
                return Err(Error::unsupported(format!(
                    "the binlog holds rows of table {} without all their columns (the first that is missing is \"{}\")",
                    plan.table(),
                    plan.column_name(missing)
                ))
                .note("a session wrote with binlog_row_image = MINIMAL or NOBLOB: SET GLOBAL binlog_row_image = FULL")
                .note(
                    "and see that no session sets it for itself; then start with --fresh, since these rows are lost",
                ));
            }
        }
        self.checked = true;
        Ok(())
    }
}
