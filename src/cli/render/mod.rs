//! Answers and errors as text.

pub mod changes;
pub mod error;
pub mod rows;
pub mod table;
pub mod value;

use std::io::{IsTerminal, Write};

/// Of a terminal that does not say how wide it is.
pub const TERMINAL_WIDTH_DEFAULT: usize = 80;

/// Whether colours are wanted on a terminal: neither `NO_COLOR` nor one that knows none.
pub fn has_colour() -> bool {
    let is_set = |name| std::env::var_os(name).is_some_and(|v| !v.is_empty());
    !is_set("NO_COLOR") && std::env::var_os("TERM").is_none_or(|t| t != "dumb")
}

/// How wide lines of answers may be: as the terminal that they go to; anywhere else as they come.
pub fn width_of_answers() -> Option<usize> {
    std::io::stdout().is_terminal().then(|| width_of(std::io::stdout()))
}

/// The columns of the terminal behind a stream.
pub fn width_of(stream: impl std::os::fd::AsFd) -> usize {
    terminal_size::terminal_size_of(stream).map_or(TERMINAL_WIDTH_DEFAULT, |(w, _)| usize::from(w.0.max(20)))
}

/// Writes an answer. A reader that went away (`| head`) ends the process as it would any other tool.
pub fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    if let Err(e) = out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        if e.kind() != std::io::ErrorKind::BrokenPipe {
            eprintln!("error: the answer cannot be written: {e}");
        }
        crate::end_process(1);
    }
}

/// `1234567` as `1,234,567`.
pub fn grouped(number: &str) -> String {
    let (sign, rest) = number.strip_prefix('-').map_or(("", number), |r| ("-", r));
    let (whole, fraction) = rest.split_once('.').map_or((rest, None), |(w, f)| (w, Some(f)));
    let mut text = String::from(sign);
    for (i, digit) in whole.chars().enumerate() {
        if i > 0 && (whole.len() - i) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    if let Some(fraction) = fraction {
        text.push('.');
        text.push_str(fraction);
    }
    text
}

/// A count with thousands separators.
pub fn count(n: u64) -> String {
    grouped(&n.to_string())
}

/// `1.4 MB`
pub fn bytes(n: u64) -> String {
    const UNITS: [&str; 5] = ["bytes", "kB", "MB", "GB", "TB"];
    let mut value = n as f64;
    let mut unit = 0;
    while value >= 1000.0 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    match unit {
        0 => format!("{n} bytes"),
        _ if value < 10.0 => format!("{value:.1} {}", UNITS[unit]),
        _ => format!("{value:.0} {}", UNITS[unit]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_grouped_before_the_point() {
        assert_eq!(grouped("-1234567.8901"), "-1,234,567.8901");
        assert_eq!(grouped("123"), "123");
        assert_eq!(count(1000), "1,000");
        assert_eq!(bytes(1_400_000), "1.4 MB");
        assert_eq!(bytes(999), "999 bytes");
    }
}
