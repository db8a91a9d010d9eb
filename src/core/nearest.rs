//! The nearest name to one that is not there.

/// Letters of a beginning from which the rest of a name can be guessed.
const BEGINNING_CHARS_MIN: usize = 3;

/// The candidate that a person most likely meant, if one is near enough: equal but for case, else at an edit
/// distance (insert, delete, replace, swap of neighbours) of at most a third of the name's length, and less than all of
/// it, else the one that begins with it.
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = name.to_lowercase();
    let length = name.chars().count();
    let edits_max = (length / 3).max(1).min(length.saturating_sub(1));
    let near = |c: &'a str| {
        let folded = c.to_lowercase();
        match distance(&lower, &folded) {
            d if d <= edits_max => Some((d, c)),
            _ => (length >= BEGINNING_CHARS_MIN && folded.starts_with(&lower)).then_some((usize::MAX, c)),
        }
    };
    let found = candidates.into_iter().filter_map(near).min_by_key(|(d, c)| (*d, c.len(), *c));
    found.map(|(_, c)| c)
}

/// `did you mean "amount"?`, if a candidate is near; names in double quotes.
pub fn did_you_mean<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<String> {
    nearest(name, candidates).map(|n| format!("did you mean \"{n}\"?"))
}

/// Edits between two names (optimal string alignment).
fn distance(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.chars().collect();
    let b: Vec<char> = b.chars().collect();
    let mut before: Vec<usize> = vec![0; b.len() + 1];
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let cost = usize::from(a[i - 1] != b[j - 1]);
            row[j] = (above[j] + 1).min(row[j - 1] + 1).min(above[j - 1] + cost);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before[j - 2] + 1);
            }
        }
        before = std::mem::replace(&mut above, row);
    }
    above[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn swapped_letters_and_case_are_near() {
        assert_eq!(nearest("amuont", ["id", "amount", "created_at"]), Some("amount"));
        assert_eq!(nearest("ORDERS", ["orders", "order_lines"]), Some("orders"));
        assert_eq!(did_you_mean("kafak", ["kafka", "print"]).as_deref(), Some("did you mean \"kafka\"?"));
    }

    #[test]
    fn connectors_are_found_by_what_people_type() {
        let linked = ["blackhole", "datagen", "filesystem", "kafka", "mysql-cdc", "print", "upsert-kafka"];
        for (typed, meant) in [
            ("kafak", "kafka"),
            ("filesystm", "filesystem"),
            ("filesytem", "filesystem"),
            ("file", "filesystem"),
            ("datagn", "datagen"),
            ("data-gen", "datagen"),
            ("prnt", "print"),
            ("Print", "print"),
            ("black-hole", "blackhole"),
            ("mysql", "mysql-cdc"),
            ("mysqlcdc", "mysql-cdc"),
            ("upsert", "upsert-kafka"),
            ("kafka-upsert", ""),
            ("jdbc", ""),
            ("", ""),
        ] {
            assert_eq!(nearest(typed, linked).unwrap_or_default(), meant, "{typed}");
        }
    }

    #[test]
    fn what_is_far_is_not_proposed() {
        assert_eq!(nearest("zebra", ["id", "amount"]), None);
        assert_eq!(nearest("", ["id"]), None);
        assert_eq!(nearest("c", ["a", "b"]), None);
        assert_eq!(nearest("C", ["a", "c"]), Some("c"));
    }
}
