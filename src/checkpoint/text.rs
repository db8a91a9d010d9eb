//! Numbers as people read them.

/// `2000000` → `2,000,000`.
pub(crate) fn thousands(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, d) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(d);
    }
    out
}

/// `1100000000` → `1.1 GB`.
pub(crate) fn bytes(n: u64) -> String {
    let (unit, name) = match n {
        0..1_000 => return format!("{n} B"),
        1_000..1_000_000 => (1e3, "kB"),
        1_000_000..1_000_000_000 => (1e6, "MB"),
        1_000_000_000..1_000_000_000_000 => (1e9, "GB"),
        _ => (1e12, "TB"),
    };
    let value = n as f64 / unit;
    if value < 9.95 { format!("{value:.1} {name}") } else { format!("{value:.0} {name}") }
}

/// `1 row`, `2,000 rows`.
pub(crate) fn rows(n: u64) -> String {
    if n == 1 { "1 row".to_owned() } else { format!("{} rows", thousands(n)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_units() {
        assert_eq!(thousands(0), "0");
        assert_eq!(thousands(1_234_567), "1,234,567");
        assert_eq!(thousands(123_456), "123,456");
        assert_eq!([bytes(12), bytes(1_100_000_000), bytes(40_000_000)], ["12 B", "1.1 GB", "40 MB"]);
        assert_eq!([rows(1), rows(2000)], ["1 row", "2,000 rows"]);
    }
}
