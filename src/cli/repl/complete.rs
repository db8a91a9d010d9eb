//! Completion, highlighting, and whether a text is finished.

use std::borrow::Cow;

use rustyline::completion::{Completer, Pair};
use rustyline::highlight::{CmdKind, Highlighter};
use rustyline::hint::Hinter;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{Context, Helper};
use thalweg_session::plan::sql::{Completeness, CompletionWords, TokenClass, classify, complete};
use thalweg_session::plan::{Catalog, is_complete};
use thalweg_session::{SETTINGS, Session};

use super::help;

/// What the line editor asks.
pub struct SqlHelper {
    /// As it was when the prompt came.
    pub catalog: Catalog,
    functions: Vec<String>,
    connectors: Vec<&'static str>,
    has_colour: bool,
}

impl SqlHelper {
    pub fn new(session: &Session, functions: Vec<String>) -> Self {
        SqlHelper {
            catalog: session.catalog().clone(),
            functions,
            connectors: session.registry().names().collect(),
            has_colour: std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty()),
        }
    }
}

impl Helper for SqlHelper {}

impl Hinter for SqlHelper {
    type Hint = String;
}

impl Completer for SqlHelper {
    type Candidate = Pair;

    fn complete(&self, line: &str, pos: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<Pair>)> {
        let functions: Vec<&str> = self.functions.iter().map(String::as_str).collect();
        let settings: Vec<&str> = SETTINGS.iter().map(|s| s.name).collect();
        let words = CompletionWords { functions: &functions, settings: &settings, connectors: &self.connectors };
        let found = complete(&line[..pos], &self.catalog, words);
        let pairs = found.candidates.into_iter().map(|c| Pair { display: c.text.clone(), replacement: c.text });
        Ok((found.from, pairs.collect()))
    }
}

impl Highlighter for SqlHelper {
    fn highlight<'l>(&self, line: &'l str, _: usize) -> Cow<'l, str> {
        if !self.has_colour || help::command(line).is_some() {
            return Cow::Borrowed(line);
        }
        let mut out = String::with_capacity(line.len() + 64);
        for (range, class) in classify(line) {
            let colour = match class {
                TokenClass::Keyword => "1;34",
                TokenClass::Function => "36",
                TokenClass::String => "32",
                TokenClass::Number => "35",
                TokenClass::Comment | TokenClass::Hint => "90",
                _ => "",
            };
            match colour {
                "" => out.push_str(&line[range]),
                colour => out.extend(["\x1b[", colour, "m", &line[range], "\x1b[0m"]),
            }
        }
        Cow::Owned(out)
    }

    fn highlight_char(&self, _: &str, _: usize, _: CmdKind) -> bool {
        self.has_colour
    }
}

impl Validator for SqlHelper {
    fn validate(&self, cx: &mut ValidationContext<'_>) -> rustyline::Result<ValidationResult> {
        let text = cx.input();
        let is_whole =
            help::command(text).is_some() || matches!(is_complete(text), Completeness::Complete | Completeness::Empty);
        Ok(if is_whole { ValidationResult::Valid(None) } else { ValidationResult::Incomplete })
    }
}
