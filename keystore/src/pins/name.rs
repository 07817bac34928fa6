//! Queries for a server that are not exactly its name: id prefixes, and mistyped names.

use farwire_protocol::id::Nonce;

/// The fewest digits of an id prefix; a shorter query counts as a mistyped name.
const FEWEST: usize = 4;

/// The maximum number of suggested names.
const SUGGESTIONS: usize = 3;

/// Longer names and queries are not compared.
const LONGEST: usize = 64;

/// A prefix of an id.
pub(super) enum IdPrefix {
    /// Of a fingerprint, without `fwa1` and hyphens.
    Fingerprint(String),
    /// Of a record's id.
    Record(String),
}

impl IdPrefix {
    pub(super) fn read(query: &str) -> Option<Self> {
        if query.len() > 2 * LONGEST || !query.is_ascii() {
            return None;
        }
        let query = query.to_ascii_lowercase();
        let (digits, fingerprint) = match query.strip_prefix("fwa1") {
            Some(rest) => (rest.replace('-', ""), true),
            None => (query, false),
        };
        if digits.len() < FEWEST {
            return None;
        }
        Some(if fingerprint { Self::Fingerprint(digits) } else { Self::Record(digits) })
    }

    pub(super) fn fits(&self, fingerprint: &str, record: Option<Nonce>) -> bool {
        match self {
            Self::Fingerprint(digits) => {
                let whole = fingerprint.replace('-', "");
                whole.strip_prefix("fwa1").is_some_and(|whole| whole.starts_with(digits))
            }
            Self::Record(digits) => {
                record.is_some_and(|record| record.to_string().starts_with(digits.as_str()))
            }
        }
    }
}

/// Returns the names that are most similar to `name`, best first.
pub(super) fn similar(name: &str, names: Vec<String>) -> Vec<String> {
    let name = name.to_lowercase();
    if name.chars().count() > LONGEST {
        return Vec::new();
    }
    let allowed = 1 + name.chars().count() / 4;
    let mut near: Vec<_> = names
        .into_iter()
        .filter(|other| other.len() <= LONGEST)
        .map(|other| (distance(&name, &other.to_lowercase()), other))
        .filter(|(distance, _)| *distance <= allowed)
        .collect();
    near.sort();
    near.into_iter().take(SUGGESTIONS).map(|(_, other)| other).collect()
}

/// The Levenshtein distance: how many characters must be inserted, deleted or changed to turn one
/// text into the other.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<_> = other.chars().collect();
    let mut row: Vec<_> = (0..=other.len()).collect();
    for (at, left) in one.chars().enumerate() {
        let mut diagonal = at;
        let mut before = at + 1;
        for (cell, right) in row.iter_mut().skip(1).zip(&other) {
            let changed = diagonal + usize::from(left != *right);
            diagonal = *cell;
            *cell = changed.min(before + 1).min(*cell + 1);
            before = *cell;
        }
        if let Some(first) = row.first_mut() {
            *first = at + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn distances_are_what_they_are_known_to_be() {
        for (one, other, is) in
            [("", "", 0), ("", "abc", 3), ("kitten", "sitting", 3), ("web-1", "web-2", 1)]
        {
            assert_eq!(distance(one, other), is, "{one} {other}");
        }
    }

    #[test]
    fn the_nearest_names_are_suggested_and_strange_ones_are_not() {
        let names = ["web-1", "web-2", "db", "Web-10"].map(str::to_owned).to_vec();
        assert_eq!(similar("web1", names.clone()), ["web-1", "Web-10", "web-2"]);
        assert_eq!(similar("WEB-1", names.clone())[0], "web-1");
        assert!(similar("mail", names.clone()).is_empty());
        assert!(similar(&"x".repeat(1 << 20), names).is_empty());
    }

    #[test]
    fn an_id_needs_four_digits_to_be_one() {
        let record = Some(Nonce([0xab; 16]));
        for (query, fits) in [
            ("fwa1-abcd", true),
            ("FWA1ABCDEF", true),
            ("fwa1-abcd-efgh", true),
            ("fwa1-abce", false),
            ("abab", true),
            ("abac", false),
        ] {
            assert_eq!(
                IdPrefix::read(query).unwrap().fits("fwa1-abcd-efgh", record),
                fits,
                "{query}"
            );
        }
        assert!(IdPrefix::read("fwa1-abc").is_none() && IdPrefix::read("aba").is_none());
        assert!(IdPrefix::read(&"a".repeat(1 << 20)).is_none() && IdPrefix::read("ääää").is_none());
    }

    proptest! {
        #[test]
        fn a_distance_is_symmetric_and_at_most_the_longer_text(a in ".{0,9}", b in ".{0,9}") {
            prop_assert_eq!(distance(&a, &b), distance(&b, &a));
            prop_assert!(distance(&a, &b) <= a.chars().count().max(b.chars().count()));
            prop_assert_eq!(distance(&a, &a), 0);
        }
    }
}
