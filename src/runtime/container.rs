//! What travels on timely's channels: changes and marks, addressed to a worker.

use std::io::Cursor;

use arrow::array::{AsArray, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use arrow::ipc::{reader::StreamReader, writer::StreamWriter};
use serde::de::Error as _;
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thalweg_core::{Changes, Watermark};

/// One message on an edge.
#[derive(Clone)]
pub enum Message {
    Changes(Changes),
    /// The sending worker's watermark on this edge, from this tick on.
    Mark {
        sender: usize,
        watermark: Watermark,
    },
}

/// A message with the worker that it is for. On edges that stay on their worker nobody reads `to`.
#[derive(Clone)]
pub struct Routed {
    pub to: u64,
    pub message: Message,
}

/// The form between processes: Arrow IPC, the weights as one more column.
#[derive(Serialize, Deserialize)]
enum Wire {
    Changes { ipc: Vec<u8>, weighted: bool },
    Mark { sender: usize, watermark: Watermark },
}

impl Serialize for Routed {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let wire = match &self.message {
            Message::Mark { sender, watermark } => Wire::Mark { sender: *sender, watermark: *watermark },
            Message::Changes(changes) => {
                Wire::Changes { ipc: to_ipc(changes).map_err(S::Error::custom)?, weighted: changes.weights.is_some() }
            }
        };
        (self.to, wire).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Routed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (to, wire) = <(u64, Wire)>::deserialize(deserializer)?;
        let message = match wire {
            Wire::Mark { sender, watermark } => Message::Mark { sender, watermark },
            Wire::Changes { ipc, weighted } => Message::Changes(from_ipc(&ipc, weighted).map_err(D::Error::custom)?),
        };
        Ok(Routed { to, message })
    }
}

fn to_ipc(changes: &Changes) -> Result<Vec<u8>, arrow::error::ArrowError> {
    let mut batch = changes.batch.clone();
    if let Some(weights) = &changes.weights {
        let mut fields: Vec<_> = batch.schema().fields().iter().cloned().collect();
        fields.push(Field::new("$weight", DataType::Int64, false).into());
        let mut columns = batch.columns().to_vec();
        columns.push(std::sync::Arc::new(weights.clone()));
        batch = RecordBatch::try_new(Schema::new(fields).into(), columns)?;
    }
    let mut ipc = vec![];
    let mut writer = StreamWriter::try_new(&mut ipc, &batch.schema())?;
    writer.write(&batch)?;
    writer.finish()?;
    Ok(ipc)
}

fn from_ipc(ipc: &[u8], weighted: bool) -> Result<Changes, arrow::error::ArrowError> {
    let mut reader = StreamReader::try_new(Cursor::new(ipc), None)?;
    let missing = || arrow::error::ArrowError::IpcError("an exchange message without a batch".to_owned());
    let batch = reader.next().ok_or_else(missing)??;
    if !weighted {
        return Ok(Changes::inserts(batch));
    }
    let last = batch.num_columns().checked_sub(1).ok_or_else(missing)?;
    let weights: Int64Array = batch.column(last).as_primitive::<Int64Type>().clone();
    Ok(Changes::new(batch.project(&(0..last).collect::<Vec<_>>())?, Some(weights)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn changes_survive_the_wire() {
        let schema = Arc::new(Schema::new(vec![Field::new("a", DataType::Int64, true)]));
        let batch = RecordBatch::try_new(schema, vec![Arc::new(Int64Array::from(vec![Some(1), None]))]).unwrap();
        for weights in [None, Some(Int64Array::from(vec![1, -1]))] {
            let changes = Changes::new(batch.clone(), weights);
            let routed = Routed { to: 1, message: Message::Changes(changes.clone()) };
            let back: Routed = serde_json::from_str(&serde_json::to_string(&routed).unwrap()).unwrap();
            assert!(matches!(back.message, Message::Changes(c) if c == changes));
        }
    }
}
