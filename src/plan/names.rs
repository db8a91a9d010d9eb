//! Names keep their case; they are looked up exactly, then without case if that is unique.

use thalweg_core::nearest::did_you_mean;
use thalweg_core::{Error, Place};

/// Names that an error lists at most.
const LISTED_NAMES_MAX: usize = 20;

/// What a name means among candidates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lookup {
    /// Ordinal of the one that is meant.
    Found(usize),
    NotFound,
    /// Ordinals of those that differ from it by case only.
    Ambiguous(Vec<usize>),
}

/// Looks a name up: the first that is equal, else the only one that is equal but for case.
pub fn look_up<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Lookup {
    let mut folded = vec![];
    let lower = name.to_lowercase();
    for (i, c) in candidates.into_iter().enumerate() {
        if c == name {
            return Lookup::Found(i);
        }
        if c.to_lowercase() == lower {
            folded.push(i);
        }
    }
    match folded.as_slice() {
        [] => Lookup::NotFound,
        [one] => Lookup::Found(*one),
        _ => Lookup::Ambiguous(folded),
    }
}

/// `MESSAGE` with the nearest candidate as a proposal, and a line `LIST: a, b, c` of what there is.
pub fn no_such<'a>(
    message: String,
    name: &str,
    place: Place,
    list: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Error {
    let candidates: Vec<&str> = candidates.into_iter().collect();
    let e = Error::name(message).at(place).propose(did_you_mean(name, candidates.iter().copied()));
    if candidates.is_empty() { e } else { e.note(format!("{list}: {}", listed(&candidates))) }
}

/// The candidates between which case alone decides.
pub fn ambiguous(what: &str, name: &str, place: Place, candidates: &[&str]) -> Error {
    Error::name(format!("the {what} \"{name}\" is ambiguous: {}", listed(candidates)))
        .at(place)
        .note("write it in the case of the one that is meant")
}

fn listed(names: &[&str]) -> String {
    if names.len() <= LISTED_NAMES_MAX {
        return names.join(", ");
    }
    format!("{} and {} more", names[..LISTED_NAMES_MAX].join(", "), names.len() - LISTED_NAMES_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exact_name_wins_then_one_that_differs_by_case() {
        assert_eq!(look_up("a", ["A", "a"]), Lookup::Found(1));
        assert_eq!(look_up("b", ["A", "B"]), Lookup::Found(1));
        assert_eq!(look_up("aB", ["AB", "ab"]), Lookup::Ambiguous(vec![0, 1]));
        assert_eq!(look_up("c", ["AB", "ab"]), Lookup::NotFound);
    }

    #[test]
    fn long_lists_are_cut() {
        let names: Vec<String> = (0..30).map(|i| format!("t{i}")).collect();
        let e = no_such("no table x".into(), "x", Place::new(1, 1, 1), "tables", names.iter().map(String::as_str));
        assert!(e.notes()[0].ends_with("t19 and 10 more"));
    }
}
