//! What is said of a record that cannot be read.

use thalweg_core::Error;

/// How much of an offending text is shown, in bytes.
const SHOWN_MAX: usize = 120;

/// The text as it can stand in a message: at most `SHOWN_MAX` bytes, control characters escaped.
pub fn shorten(text: &[u8]) -> String {
    let cut = text.len() > SHOWN_MAX;
    let mut shown = String::new();
    for c in String::from_utf8_lossy(&text[..text.len().min(SHOWN_MAX)]).chars() {
        if c.is_control() { shown.extend(c.escape_default()) } else { shown.push(c) }
    }
    if cut {
        shown.push('…');
    }
    shown
}

/// The error of a bad record: `format` without quotes, what is wrong, the record, and what can be done.
pub fn bad_row(format: &str, why: &str, record: &[u8]) -> Error {
    Error::row(why.to_owned())
        .note(format!("record: {}", shorten(record.trim_ascii())))
        .note(format!("'{format}.ignore-parse-errors' = 'true' skips such rows and sets such fields to NULL"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_and_strange_text_is_made_fit_to_be_shown() {
        assert_eq!(shorten(b"a\tb\x00"), "a\\tb\\u{0}");
        let long = shorten(&[b'x'; 500]);
        assert_eq!(long.chars().count(), SHOWN_MAX + 1);
        assert!(shorten(&[0xff, b'a']).ends_with('a'));
    }
}
