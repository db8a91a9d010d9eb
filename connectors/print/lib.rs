//! `print`: writes every change as a line to standard output, in Flink's form: `+I[1, Ada]`.

mod value;

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;

use async_trait::async_trait;
use thalweg_connector_api::{
    Connector, DirectWriter, EncodeCx, Encoder, Segment, Sink, Source, SourceTable, options_of,
};
use thalweg_core::fold::{RowChanges, RowKind};
use thalweg_core::mark::{JobId, Mark};
use thalweg_core::options::{OptionKind, OptionSpec, Options};
use thalweg_core::table::{Delivery, SinkInfo, SinkMode, SourceInfo, TableDef};
use thalweg_core::{Error, Result, SqlType, Tick};

/// `'connector' = 'print'`.
pub struct Print;

const OPTIONS: &[OptionSpec] = &[
    OptionSpec::optional("print-identifier", OptionKind::Text, "stands before every line: 'identifier> +I[…]'"),
    OptionSpec::with_default(
        "standard-error",
        OptionKind::Bool,
        "false",
        "print to standard error, not to standard output",
    ),
];

/// What a printed line needs to know of the table.
#[derive(Clone)]
struct Form {
    prefix: String,
    standard_error: bool,
    types: Vec<SqlType>,
}

impl Form {
    fn of(table: &TableDef) -> Result<Self> {
        let values = options_of(table);
        let options = Options::check(&values, OPTIONS, format!("table {} (connector 'print')", table.name))?;
        Ok(Form {
            prefix: options.text("print-identifier").map(|p| format!("{p}> ")).unwrap_or_default(),
            standard_error: options.bool("standard-error"),
            types: table.types().cloned().collect(),
        })
    }

    fn write(&self, rows: &RowChanges, out: &mut String) {
        let columns = rows.batch.columns();
        for row in 0..rows.batch.num_rows() {
            out.push_str(&self.prefix);
            out.push_str(rows.kinds.as_ref().map_or(RowKind::Insert, |k| k[row]).symbol());
            out.push('[');
            for (i, (column, ty)) in columns.iter().zip(&self.types).enumerate() {
                if i > 0 {
                    out.push_str(", ");
                }
                value::write(column.as_ref(), ty, row, out);
            }
            out.push_str("]\n");
        }
    }
}

impl Connector for Print {
    fn name(&self) -> &'static str {
        "print"
    }

    fn source_options(&self, _table: &TableDef) -> Option<Vec<OptionSpec>> {
        None
    }

    fn sink_options(&self, _table: &TableDef) -> Option<Vec<OptionSpec>> {
        Some(OPTIONS.to_vec())
    }

    fn source_info(&self, table: &TableDef) -> Result<SourceInfo> {
        Err(cannot_be_read(table))
    }

    fn sink_info(&self, table: &TableDef) -> Result<SinkInfo> {
        Form::of(table)?;
        if !table.partitioned_by.is_empty() {
            return Err(Error::unsupported(format!(
                "table {} (connector 'print') cannot be PARTITIONED BY: nothing is stored",
                table.name
            )));
        }
        Ok(SinkInfo {
            identity: BTreeMap::from([("print".to_owned(), table.name.clone())]),
            accepts: SinkMode::Retract,
            delivery: Delivery::None,
            needs_net: true,
            key: None,
            metadata: vec![],
        })
    }

    fn open_source(&self, tables: &[SourceTable], _: &JobId) -> Result<Arc<dyn Source>> {
        Err(tables.first().map_or_else(|| Error::internal("no table to read"), |t| cannot_be_read(&t.def)))
    }

    fn open_sink(&self, table: &TableDef, _job: &JobId) -> Result<Arc<dyn Sink>> {
        Ok(Arc::new(PrintSink(Form::of(table)?)))
    }
}

fn cannot_be_read(table: &TableDef) -> Error {
    Error::unsupported(format!("table {} (connector 'print') can be written only, not read", table.name))
}

struct PrintSink(Form);

#[async_trait]
impl Sink for PrintSink {
    fn delivery(&self) -> Delivery {
        Delivery::None
    }

    fn encoder(&self, _cx: EncodeCx) -> Result<Box<dyn Encoder>> {
        Err(Error::internal("print gets its ticks directly"))
    }

    fn direct(&self, _cx: EncodeCx) -> Result<Box<dyn DirectWriter>> {
        Ok(Box::new(Writer { form: self.0.clone(), text: String::new() }))
    }

    async fn fence(&self, _job: &JobId) -> Result<Mark> {
        Ok(Mark::Absent)
    }

    async fn deliver(&self, _segments: &[Segment], _mark: &Mark) -> Result<()> {
        Ok(())
    }
}

/// Collected text is written out beyond this, also within a tick.
const TEXT_BYTES_MAX: usize = 1 << 20;

struct Writer {
    form: Form,
    text: String,
}

impl Writer {
    /// One write call, so that lines of different workers do not mix.
    fn put(&mut self) -> Result<()> {
        if self.text.is_empty() {
            return Ok(());
        }
        let bytes = self.text.as_bytes();
        let written = if self.form.standard_error {
            std::io::stderr().lock().write_all(bytes)
        } else {
            let mut out = std::io::stdout().lock();
            out.write_all(bytes).and_then(|()| out.flush())
        };
        self.text.clear();
        written.map_err(|e| Error::io(format!("print: the output cannot be written: {e}")).permanent())
    }
}

impl DirectWriter for Writer {
    fn write(&mut self, _tick: &Tick, rows: &RowChanges) -> Result<()> {
        self.form.write(rows, &mut self.text);
        if self.text.len() > TEXT_BYTES_MAX { self.put() } else { Ok(()) }
    }

    fn end_tick(&mut self, _tick: &Tick) -> Result<()> {
        self.put()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ArrayRef, Int32Array, RecordBatch, StringArray};
    use thalweg_core::Column;
    use thalweg_core::table::{ColumnKind, TableColumn};

    fn table(options: &[(&str, &str)]) -> TableDef {
        let column = |name: &str, ty| TableColumn { column: Column::new(name, ty, true), kind: ColumnKind::Physical };
        TableDef {
            name: "t".to_owned(),
            columns: vec![column("id", SqlType::Int), column("name", SqlType::STRING)],
            primary_key: vec![],
            partitioned_by: vec![],
            options: options.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect(),
        }
    }

    #[test]
    fn lines_are_in_flinks_form() {
        let ids: ArrayRef = Arc::new(Int32Array::from(vec![Some(1), None]));
        let names: ArrayRef = Arc::new(StringArray::from(vec!["Ada", "x, y"]));
        let batch = RecordBatch::try_from_iter([("id", ids), ("name", names)]).unwrap();
        let rows = RowChanges { batch, kinds: Some(vec![RowKind::UpdateBefore, RowKind::Delete]) };
        let mut out = String::new();
        Form::of(&table(&[("connector", "print"), ("print-identifier", "p")])).unwrap().write(&rows, &mut out);
        assert_eq!(out, "p> -U[1, Ada]\np> -D[null, x, y]\n");
    }

    #[test]
    fn an_unknown_option_is_refused() {
        let e = Print.sink_info(&table(&[("connector", "print"), ("print-identifer", "p")])).unwrap_err();
        assert!(e.to_string().contains("did you mean \"print-identifier\"?"), "{e}");
    }
}
