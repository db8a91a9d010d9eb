//! Completion and highlighting.

use std::borrow::Cow;

use rustyline::completion::{Completer, Pair};
use rustyline::highlight::{CmdKind, Highlighter};
use rustyline::hint::Hinter;
use rustyline::validate::Validator;
use rustyline::{Context, Helper};
use thalweg_session::plan::Catalog;
use thalweg_session::plan::sql::{CandidateKind, CompletionWords, TokenClass, classify, complete};
use thalweg_session::{SETTINGS, Session};

use super::help;
use crate::render::has_colour;

/// What the line editor asks.
pub struct SqlHelper {
    /// As it was when the prompt came.
    pub catalog: Catalog,
    /// The lines of the statement before the one that is typed, each with its line end.
    pub before: String,
    functions: Vec<String>,
    connectors: Vec<&'static str>,
    has_colour: bool,
}

impl SqlHelper {
    pub fn new(session: &Session, functions: Vec<String>) -> Self {
        SqlHelper {
            catalog: session.catalog().clone(),
            before: String::new(),
            functions,
            connectors: session.registry().names().collect(),
            has_colour: has_colour(),
        }
    }
}

impl Helper for SqlHelper {}

impl Validator for SqlHelper {}

impl Hinter for SqlHelper {
    type Hint = String;
}

impl Completer for SqlHelper {
    type Candidate = Pair;

    fn complete(&self, line: &str, pos: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<Pair>)> {
        let functions: Vec<&str> = self.functions.iter().map(String::as_str).collect();
        let settings: Vec<&str> = SETTINGS.iter().map(|s| s.name).collect();
        let words = CompletionWords { functions: &functions, settings: &settings, connectors: &self.connectors };
        let text = format!("{}{}", self.before, &line[..pos]);
        let found = complete(&text, &self.catalog, words);
        let only = found.candidates.len() == 1;
        let pairs = found.candidates.into_iter().map(|c| {
            // A keyword is followed by something.
            let space = if only && c.kind == CandidateKind::Keyword { " " } else { "" };
            Pair { replacement: format!("{}{space}", c.text), display: c.text }
        });
        Ok((found.from.saturating_sub(self.before.len()), pairs.collect()))
    }
}

impl Highlighter for SqlHelper {
    fn highlight<'l>(&self, line: &'l str, _: usize) -> Cow<'l, str> {
        if !self.has_colour || help::command(line, !self.before.is_empty()).is_some() {
            return Cow::Borrowed(line);
        }
        let text = format!("{}{line}", self.before);
        let mut out = String::with_capacity(line.len() + 64);
        for (range, class) in classify(&text) {
            let range = range.start.max(self.before.len())..range.end;
            if range.is_empty() {
                continue;
            }
            let colour = match class {
                TokenClass::Keyword => "1;34",
                TokenClass::Function => "36",
                TokenClass::String => "32",
                TokenClass::Number => "35",
                TokenClass::Comment | TokenClass::Hint => "90",
                _ => "",
            };
            match colour {
                "" => out.push_str(&text[range]),
                colour => out.extend(["\x1b[", colour, "m", &text[range], "\x1b[0m"]),
            }
        }
        Cow::Owned(out)
    }

    fn highlight_char(&self, _: &str, _: usize, _: CmdKind) -> bool {
        self.has_colour
    }
}
