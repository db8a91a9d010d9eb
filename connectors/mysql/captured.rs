//! A captured table while it is read: what of it is finished, and the rows that wait to be emitted.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::UInt32Array;
use thalweg_core::fold::RowKind;
use thalweg_core::{Changes, Error, Result};

use crate::binlog::rows_event::{Image, ImageCursor};
use crate::key::Key;
use crate::layout::{ImagePlan, ServerColumn, TableLayout};
use crate::position::{TablePosition, TableState};
use crate::rows::{RowMeta, RowsBuilder};
use crate::server::Server;
use crate::snapshot::fold::Fold;
use crate::snapshot::key_order::{Bounds, Place};
use crate::wire::Conn;

/// The chunk of a table that is being read.
pub struct ActiveChunk {
    /// Its last key; `None`: to the table's end.
    pub upper: Option<Key>,
    pub fold: Fold,
}

/// A table of the source.
pub struct Captured {
    /// As positions name it.
    pub name: String,
    pub layout: Arc<TableLayout>,
    pub state: TableState,
    pub chunk: Option<ActiveChunk>,
    builder: RowsBuilder,
    /// Rows of `builder` whose transaction was rolled back or will come again.
    dropped: Vec<Range<usize>>,
    /// Rows of which only the server can say where their keys are.
    undecided: Undecided,
    /// Of these, what it said to be of the finished part.
    decided: Vec<Changes>,
    /// Images of the running transaction: still to be skipped, since they were emitted before; and seen so far.
    pub skip: u64,
    pub taken: u64,
    /// Where the running transaction begins in what waits.
    begin: Mark,
}

struct Undecided {
    builder: RowsBuilder,
    keys: Vec<Key>,
    /// Whether the row is one that is now, or one that was.
    adds: Vec<bool>,
    dropped: Vec<Range<usize>>,
}

/// A place in what waits.
#[derive(Debug, Clone, Copy, Default)]
pub struct Mark {
    rows: usize,
    undecided: usize,
}

impl Captured {
    pub fn new(name: String, layout: TableLayout, state: TableState) -> Result<Self> {
        let layout = Arc::new(layout);
        Ok(Captured {
            name,
            state,
            chunk: None,
            builder: RowsBuilder::new(&layout)?,
            dropped: vec![],
            undecided: Undecided { builder: RowsBuilder::new(&layout)?, keys: vec![], adds: vec![], dropped: vec![] },
            decided: vec![],
            skip: 0,
            taken: 0,
            begin: Mark::default(),
            layout,
        })
    }

    pub fn position(&self) -> TablePosition {
        TablePosition {
            snapshot: self.state.clone(),
            columns: self.layout.columns().to_vec(),
            primary_key: self.layout.key().iter().map(|k| k.name.clone()).collect(),
        }
    }

    /// Goes on with other columns on the server; nothing may wait.
    pub fn change_layout(&mut self, columns: Vec<ServerColumn>) -> Result<()> {
        let state = self.state.clone();
        *self = Captured::new(std::mem::take(&mut self.name), self.layout.with_columns(columns)?, state)?;
        Ok(())
    }

    /// Bytes and rows that wait.
    pub fn waiting(&self) -> (usize, usize) {
        let rows = self.builder.rows() + self.undecided.keys.len();
        let bytes = if rows == 0 { 0 } else { self.builder.bytes() + self.undecided.builder.bytes() };
        (bytes, rows)
    }

    pub fn begin_transaction(&mut self) {
        (self.skip, self.taken) = (0, 0);
        self.begin = self.mark();
    }

    pub fn mark(&self) -> Mark {
        Mark { rows: self.builder.rows(), undecided: self.undecided.keys.len() }
    }

    /// What was added since the mark is void.
    pub fn drop_since(&mut self, mark: Mark) {
        if mark.rows < self.builder.rows() {
            self.dropped.push(mark.rows..self.builder.rows());
        }
        if mark.undecided < self.undecided.keys.len() {
            self.undecided.dropped.push(mark.undecided..self.undecided.keys.len());
        }
    }

    /// What the running transaction has added is void.
    pub fn drop_transaction(&mut self) {
        self.drop_since(self.begin);
    }

    /// Takes the rows of an event, as far as they concern what is finished or being read.
    pub fn take_images(&mut self, plan: &ImagePlan, cursor: &mut ImageCursor<'_>, meta: &mut RowMeta) -> Result<()> {
        while self.skip > 0 && cursor.next_image(plan)?.is_some() {
            self.skip -= 1;
            self.taken += 1;
        }
        if self.state == TableState::Done {
            self.taken += self.builder.push_images(plan, cursor, meta, usize::MAX)? as u64;
            return Ok(());
        }
        while let Some(image) = cursor.next_image(plan)? {
            self.taken += 1;
            let key = plan.key(&image)?;
            if image.kind != RowKind::UpdateBefore {
                self.route(plan, image, key, meta)?;
                continue;
            }
            let Some(after) = cursor.next_image(plan)? else { return Err(Error::internal("half an update")) };
            self.taken += 1;
            let key_after = plan.key(&after)?;
            // With another key it is a row that goes and one that comes: each has a place of its own.
            let kinds = if key == key_after { (image.kind, after.kind) } else { (RowKind::Delete, RowKind::Insert) };
            self.route(plan, Image { kind: kinds.0, ..image }, key, meta)?;
            self.route(plan, Image { kind: kinds.1, ..after }, key_after, meta)?;
        }
        Ok(())
    }

    fn route(&mut self, plan: &ImagePlan, image: Image<'_>, key: Key, meta: &mut RowMeta) -> Result<()> {
        match bounds(&self.state, self.chunk.as_ref()).place(&key) {
            Some(Place::Beyond) => return Ok(()),
            Some(Place::Finished) => self.builder.push_image(plan, &image, *meta)?,
            Some(Place::Chunk) => {
                if let Some(chunk) = &mut self.chunk {
                    if image.kind.adds() {
                        let image = Image { kind: RowKind::Insert, ..image };
                        chunk.fold.put(key, plan, &image, RowMeta { op_ts_ms: 0, ..*meta })?;
                    } else {
                        chunk.fold.delete(key);
                    }
                }
            }
            None => {
                self.undecided.builder.push_image(plan, &image, *meta)?;
                self.undecided.keys.push(key);
                self.undecided.adds.push(image.kind.adds());
            }
        }
        meta.order += 1;
        Ok(())
    }

    /// Whether the server must be asked before what waits can be emitted.
    pub fn has_undecided(&self) -> bool {
        !self.undecided.keys.is_empty()
    }

    /// Asks the server where the keys are of which it is not known: what is finished will be emitted, what is in the
    /// chunk is folded. If the server cannot be asked, nothing has changed.
    pub async fn decide(&mut self, server: &Server, conn: &mut Conn) -> Result<()> {
        let bounds = bounds(&self.state, self.chunk.as_ref());
        let places = bounds.ask(server, conn, &self.layout, &self.undecided.keys).await?;
        let undecided = &mut self.undecided;
        let changes = undecided.builder.finish()?;
        let (keys, adds) = (std::mem::take(&mut undecided.keys), std::mem::take(&mut undecided.adds));
        let dropped = std::mem::take(&mut undecided.dropped);
        let is_kept = |row: &usize| !dropped.iter().any(|r| r.contains(row));
        let rows_at = |place: Place| {
            let rows = places.iter().enumerate().filter(move |(_, p)| **p == place).map(|(row, _)| row);
            rows.filter(is_kept).map(|row| row as u32).collect::<Vec<_>>()
        };
        let finished = rows_at(Place::Finished);
        let in_chunk = rows_at(Place::Chunk);
        if let Some(chunk) = &mut self.chunk
            && !in_chunk.is_empty()
        {
            let rows = changes.take(&UInt32Array::from(in_chunk.clone()))?;
            let mut keys = keys;
            let changes = in_chunk.iter().enumerate().map(|(row, &from)| {
                let key = std::mem::replace(&mut keys[from as usize], Key(vec![]));
                (key, adds[from as usize].then_some(row))
            });
            chunk.fold.extend(rows.batch, changes)?;
        }
        self.begin.undecided = 0;
        match finished.len() {
            0 => {}
            n if n == changes.num_rows() => self.decided.push(changes),
            _ => self.decided.push(changes.take(&UInt32Array::from(finished))?),
        }
        Ok(())
    }

    /// What waits, to be emitted; nothing of it is undecided.
    pub fn finish(&mut self) -> Result<Vec<Changes>> {
        let mut all = std::mem::take(&mut self.decided);
        self.begin.rows = 0;
        let rows = self.builder.rows();
        if rows == 0 {
            self.dropped.clear();
            return Ok(all);
        }
        let changes = self.builder.finish()?;
        let dropped = std::mem::take(&mut self.dropped);
        if dropped.is_empty() {
            all.push(changes);
            return Ok(all);
        }
        let kept: UInt32Array =
            (0..rows).filter(|row| !dropped.iter().any(|r| r.contains(row))).map(|row| row as u32).collect();
        if !kept.is_empty() {
            all.push(changes.take(&kept)?);
        }
        Ok(all)
    }
}

fn bounds<'a>(state: &'a TableState, chunk: Option<&'a ActiveChunk>) -> Bounds<'a> {
    Bounds {
        finished: match state {
            TableState::UpTo(key) => Some(key),
            TableState::Empty | TableState::Done => None,
        },
        chunk: chunk.map(|c| c.upper.as_ref()),
    }
}
