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
/// So much of a line stands before its mark, if not all of it fits.
const BEFORE_MARK_MAX: usize = 24;

/// Message, place, marked source line with the proposal, notes; ends with a line end.
pub fn render_error(error: &Error, source: Source<'_>) -> String {
    let is_terminal = std::io::stderr().is_terminal();
    let has_colour = is_terminal && super::has_colour();
    let width = if is_terminal { super::width_of(std::io::stderr()) } else { usize::MAX };
    render(error, source, has_colour, width)
}

/// `width`: of the terminal. A marked line that is longer is cut around its mark.
fn render(error: &Error, source: Source<'_>, has_colour: bool, width: usize) -> String {
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
            let (line, marks) = around_mark(&line, marks, width.saturating_sub(number.len() + 6));
            out.push_str(&format!("  {number} │ {line}\n"));
            if let Some((before, marks)) = marks {
                let gutter = " ".repeat(number.len());
                let room = width.saturating_sub(number.len() + 6 + before + marks);
                let words = proposal.take_if(|p| p.width() < room).map(|p| format!(" {p}")).unwrap_or_default();
                let (before, marks) = (" ".repeat(before), "^".repeat(marks));
                out.push_str(&format!("  {gutter} │ {before}{red}{marks}{reset}{words}\n"));
            }
        }
    }
    let notes = error.placed_notes().map(|(place, note)| match (place, source) {
        (Some(place), Source::File { name, .. }) => format!("{name}:{}:{}  {note}", place.line, place.column),
        (Some(place), Source::Text(_)) => format!("{place}  {note}"),
        _ => note.to_owned(),
    });
    for line in proposal.map(str::to_owned).into_iter().chain(notes) {
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

/// The part of a line around its mark that fits into `width`, with `…` where something is left out.
fn around_mark(line: &str, marks: Option<(usize, usize)>, width: usize) -> (String, Option<(usize, usize)>) {
    if line.width() <= width {
        return (line.to_owned(), marks);
    }
    let (before, marked) = marks.unwrap_or((0, 0));
    let skipped = match before + marked < width {
        true => 0,
        // No further than to show the line's end.
        false => before.saturating_sub(BEFORE_MARK_MAX.min(width / 3)).min(line.width().saturating_sub(width - 1)),
    };
    let (mut column, mut shown, mut first) = (0, String::new(), skipped);
    let is_cut = line.width() > skipped + width - 1;
    let room = width - usize::from(is_cut) - usize::from(skipped > 0);
    for c in line.chars() {
        let end = column + c.width().unwrap_or(0);
        if column >= skipped && end <= skipped + room {
            if shown.is_empty() {
                first = column;
            }
            shown.push(c);
        }
        column = end;
    }
    let cut = if skipped > 0 { "…" } else { "" };
    let moved = |(before, marked): (usize, usize)| {
        let before = before - first + cut.width();
        (before, marked.min(width.saturating_sub(before)).max(1))
    };
    (format!("{cut}{shown}{}", if is_cut { "…" } else { "" }), marks.map(moved))
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
        assert_eq!(render(&e, Source::Text(text), false, usize::MAX), expected);
        let in_file = render(&e, Source::File { name: "a.sql", text }, false, usize::MAX);
        assert!(in_file.contains("\n  a.sql:1:22\n"), "{in_file}");
    }

    #[test]
    fn notes_about_other_places_begin_with_them() {
        let e =
            Error::checkpoint("does not fit").note_at(Some(Place::new(2, 3, 1)), "TopN 7be3d170:\n  a").note("Choose");
        let text = "SELECT\n  x";
        assert_eq!(
            render(&e, Source::File { name: "a.sql", text }, false, 120),
            "error: does not fit\n  a.sql:2:3  TopN 7be3d170:\n    a\n  Choose\n"
        );
        assert!(render(&e, Source::Text(text), false, 120).contains("\n  line 2, column 3  TopN"));
    }

    #[test]
    fn marks_stand_below_wide_characters_and_tabs() {
        let e = Error::name("x").at(Place::new(1, 7, 2));
        let out = render(&e, Source::Text("\t'北京', ab"), false, usize::MAX);
        let marks = out.lines().last().unwrap();
        assert_eq!(marks.chars().position(|c| c == '^').unwrap(), "    │ ".chars().count() + TAB_WIDTH + 7);
    }

    #[test]
    fn a_long_line_is_cut_around_its_mark() {
        let text = format!("SELECT {}, amuont FROM orders WHERE {}", "abc, ".repeat(30), "x = 1 AND ".repeat(20));
        let column = text.find("amuont").unwrap() as u32 + 1;
        let e = Error::name("no column").at(Place::new(1, column, 6)).propose(Some("did you mean \"amount\"?"));
        let out = render(&e, Source::Text(&text), false, 60);
        let [.., line, marks] = out.lines().collect::<Vec<_>>()[..] else { panic!("{out}") };
        assert!(line.width() <= 60 && marks.width() <= 60, "{out}");
        let marked = marks.chars().position(|c| c == '^').unwrap();
        assert_eq!(line.chars().skip(marked).take(6).collect::<String>(), "amuont", "{out}");
        assert!(marks.ends_with("^^^^^^ did you mean \"amount\"?") && line.contains("…abc"), "{out}");
        // The end of a line is shown without more.
        let e = Error::name("x").at(Place::new(1, text.chars().count() as u32 - 1, 1));
        let out = render(&e, Source::Text(&text), false, 60);
        assert!(out.contains("x = 1 AND \n") && out.lines().all(|l| l.width() <= 60), "{out}");
        // At the beginning of a long line nothing is cut before the mark.
        let out = render(&Error::name("x").at(Place::new(1, 1, 6)), Source::Text(&text), false, 60);
        assert!(out.contains("1 │ SELECT abc") && out.contains("│ ^^^^^^\n"), "{out}");
    }

    #[test]
    fn secrets_on_the_marked_line_are_hidden() {
        let e = Error::option("x").at(Place::new(1, 2, 1));
        let out = render(
            &e,
            Source::Text("CREATE TABLE t (a INT) WITH ('password' = 'hunter2', 'x' = 'y')"),
            false,
            usize::MAX,
        );
        assert!(!out.contains("hunter2") && out.contains("****"), "{out}");
        for value in ["= \"hunter2\"", "= hunter2", "'hunter2'"] {
            let text = format!("CREATE TABLE t (a INT) WITH ('password' {value}, 'x' = 'y')");
            let out = render(&Error::option("x").at(Place::new(1, 43, 1)), Source::Text(&text), false, usize::MAX);
            assert!(!out.contains("hunter2") && out.contains("****"), "{out}");
        }
    }
}
