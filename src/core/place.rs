//! Where in a SQL text something stands.

use serde::{Deserialize, Serialize};

/// A stretch of a SQL text. Lines and columns count from 1, columns in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Place {
    pub line: u32,
    pub column: u32,
    /// Characters from `column` on that are meant; at least 1, and never over the end of the line.
    pub length: u32,
}

impl Place {
    pub fn new(line: u32, column: u32, length: u32) -> Self {
        Place { line, column, length: length.max(1) }
    }

    /// The same place when the text that it was found in begins at `line`, `column` of a larger one
    /// (a statement in a script).
    pub fn offset_by(self, line: u32, column: u32) -> Self {
        let column = if self.line == 1 { self.column + column - 1 } else { self.column };
        Place { line: self.line + line - 1, column, length: self.length }
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "line {}, column {}", self.line, self.column)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_s_place_becomes_the_script_s() {
        assert_eq!(Place::new(1, 5, 2).offset_by(10, 3), Place::new(10, 7, 2));
        assert_eq!(Place::new(2, 5, 2).offset_by(10, 3), Place::new(11, 5, 2));
    }
}
