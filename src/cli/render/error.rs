//! An error with its place in the source.

use std::io::IsTerminal;

use thalweg_session::core::{Error, Place};
use thalweg_session::plan::mask_secrets;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Where the statement came from.
#[derive(Clone, Copy)]
pub enum Source<'a> {
    None,
    /// Typed: places are lines and columns.
    Text(&'a str),
    /// A script: places are `jobs/orders.sql:14:22`.
    File {
        name: &'a str,
        text: &'a str,
    },
}

const TAB_WIDTH: usize = 4;

/// Message, place, marked source line with the proposal, notes; ends with a line end.
pub fn render_error(error: &Error, source: Source<'_>) -> String {
    let has_colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
    render(error, source, has_colour)
}

fn render(error: &Error, source: Source<'_>, has_colour: bool) -> String {
    let (red, bold, reset) = if has_colour { ("\x1b[1;31m", "\x1b[1m", "\x1b[0m") } else { ("", "", "") };
    let mut out = format!("{red}error{reset}{bold}: {}{reset}\n", error.message());
    let text = match source {
        Source::None => None,
        Source::Text(text) => Some(text),
        Source::File { text, .. } => Some(text),
    };
    let mut proposal = error.proposal();
    if let (Some(place), Some(text)) = (error.place(), text) {
        match source {
            Source::File { name, .. } => out.push_str(&format!("  {name}:{}:{}\n", place.line, place.column)),
            _ => out.push_str(&format!("  {place}\n")),
        }
        if let Some((line, marks)) = marked_line(text, place) {
            let number = place.line.to_string();
            out.push_str(&format!("  {number} │ {line}\n"));
            if let Some((before, marks)) = marks {
                let gutter = " ".repeat(number.len());
                let words = proposal.take().map(|p| format!(" {p}")).unwrap_or_default();
                let (before, marks) = (" ".repeat(before), "^".repeat(marks));
                out.push_str(&format!("  {gutter} │ {before}{red}{marks}{reset}{words}\n"));
            }
        }
    }
    for line in proposal.into_iter().chain(error.notes().iter().map(String::as_str)) {
        out.push_str(&format!("  {}\n", line.replace('\n', "\n  ")));
    }
    out
}

/// The line as it is shown, and how wide the text before the marks and the marks are. Values of secret options are
/// hidden; marks behind one are left out, for the columns differ then.
fn marked_line(text: &str, place: Place) -> Option<(String, Option<(usize, usize)>)> {
    let index = place.line.checked_sub(1)? as usize;
    let original = text.lines().nth(index)?;
    let masked = mask_secrets(text, &|_, _| false);
    if masked.lines().count() != text.lines().count() {
        return None;
    }
    let shown = masked.lines().nth(index)?;
    let equal = original.chars().zip(shown.chars()).take_while(|(a, b)| a == b).count();
    let (from, length) = (place.column as usize - 1, place.length.max(1) as usize);
    let is_whole = original == shown || from + length <= equal;
    let wide = |c: char| if c == '\t' { TAB_WIDTH } else { c.width().unwrap_or(0) };
    let marks = is_whole.then(|| {
        let before: usize = shown.chars().take(from).map(wide).sum();
        let marked: usize = shown.chars().skip(from).take(length).map(wide).sum();
        (before, marked.max(1))
    });
    let line = shown.replace('\t', &" ".repeat(TAB_WIDTH));
    debug_assert!(line.width() >= marks.map_or(0, |m| m.0));
    Some((line, marks))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_is_marked_and_the_proposal_follows() {
        let e = Error::name("table orders (o) has no column \"amuont\"")
            .at(Place::new(1, 22, 6))
            .propose(Some("did you mean \"amount\"?"))
            .note("columns of orders: id, amount");
        let text = "SELECT c.name, SUM(o.amuont)\n  FROM orders o;";
        let expected = "error: table orders (o) has no column \"amuont\"\n  line 1, column 22\n  1 │ SELECT c.name, SUM(o.amuont)\n    │                      ^^^^^^ did you mean \"amount\"?\n  columns of orders: id, amount\n";
        assert_eq!(render(&e, Source::Text(text), false), expected);
        let in_file = render(&e, Source::File { name: "a.sql", text }, false);
        assert!(in_file.contains("\n  a.sql:1:22\n"), "{in_file}");
    }

    #[test]
    fn marks_stand_below_wide_characters_and_tabs() {
        let e = Error::name("x").at(Place::new(1, 7, 2));
        let out = render(&e, Source::Text("\t'北京', ab"), false);
        let marks = out.lines().last().unwrap();
        assert_eq!(marks.chars().position(|c| c == '^').unwrap(), "    │ ".chars().count() + TAB_WIDTH + 7);
    }

    #[test]
    fn secrets_on_the_marked_line_are_hidden() {
        let e = Error::option("x").at(Place::new(1, 2, 1));
        let out = render(&e, Source::Text("CREATE TABLE t (a INT) WITH ('password' = 'hunter2', 'x' = 'y')"), false);
        assert!(!out.contains("hunter2") && out.contains("****"), "{out}");
    }
}
