//! Which file of a crate names which other one.
//!
//! An arrow stands for a path that leads into another module's file: in `use`, in code and types,
//! in what a macro is given, and in strings of attributes
//! (`#[cbor(decode_with = "crate::peer::count")]`). A path counts for the last module in it, also
//! where that one only re-exports what is meant. `mod` is no arrow, nor is a link in a comment.

mod paths;

use std::collections::{BTreeMap, BTreeSet};

use super::modules::Crate;

/// The arrows between the files of a crate.
#[derive(Debug, Default)]
pub(crate) struct Graph {
    /// By the indices of the two files: who names whom.
    pub(crate) arrows: BTreeMap<(usize, usize), Arrow>,
}

/// Why one file has an arrow to another.
#[derive(Debug, Default)]
pub(crate) struct Arrow {
    /// The first line that names the other file.
    pub(crate) line: usize,
    /// What it takes from there.
    pub(crate) names: BTreeSet<String>,
}

impl Arrow {
    /// What it takes, for a person: a few names and how many more.
    pub(crate) fn names(&self) -> String {
        const FEW: usize = 5;
        let few: Vec<String> =
            self.names.iter().take(FEW).map(|name| format!("`{name}`")).collect();
        match self.names.len().saturating_sub(FEW) {
            0 => few.join(", "),
            more => format!("{} and {more} more", few.join(", ")),
        }
    }
}

impl Graph {
    /// Draws the graph of a crate.
    pub(crate) fn of(house: &Crate) -> Self {
        let mut graph = Self::default();
        for reference in paths::references(house) {
            let (from, to) = (house.modules[reference.from].file, house.modules[reference.to].file);
            if from != to {
                let arrow = graph.arrows.entry((from, to)).or_default();
                arrow.line =
                    if arrow.line == 0 { reference.line } else { arrow.line.min(reference.line) };
                arrow.names.insert(reference.name);
            }
        }
        graph
    }

    /// The circles of files, each of which can reach all others of it; largest first. Files in none
    /// are left out.
    pub(crate) fn circles(&self) -> Vec<Vec<usize>> {
        let arrows: Vec<(usize, usize)> = self.arrows.keys().copied().collect();
        circles(&arrows)
    }
}

/// The strongly connected components with more than one member, largest first.
pub(crate) fn circles(arrows: &[(usize, usize)]) -> Vec<Vec<usize>> {
    let nodes: BTreeSet<usize> = arrows.iter().flat_map(|&(from, to)| [from, to]).collect();
    let mut forward: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    let mut backward: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for &(from, to) in arrows {
        forward.entry(from).or_default().push(to);
        backward.entry(to).or_default().push(from);
    }
    // Kosaraju: what ends last going forward is first to be flooded going backward.
    let mut order = Vec::new();
    let mut seen = BTreeSet::new();
    for &node in &nodes {
        flood(node, &forward, &mut seen, &mut order);
    }
    let mut seen = BTreeSet::new();
    let mut circles = Vec::new();
    for &node in order.iter().rev() {
        let mut circle = Vec::new();
        flood(node, &backward, &mut seen, &mut circle);
        if circle.len() > 1 {
            circle.sort_unstable();
            circles.push(circle);
        }
    }
    circles.sort_by_key(|circle| (std::cmp::Reverse(circle.len()), circle[0]));
    circles
}

/// Appends everything that can be reached and was not seen, each node after all those behind it.
fn flood(
    node: usize,
    arrows: &BTreeMap<usize, Vec<usize>>,
    seen: &mut BTreeSet<usize>,
    order: &mut Vec<usize>,
) {
    if seen.insert(node) {
        for &next in arrows.get(&node).into_iter().flatten() {
            flood(next, arrows, seen, order);
        }
        order.push(node);
    }
}

#[cfg(test)]
mod tests {
    use super::super::modules::tests::house;
    use super::{Graph, circles};

    /// The arrows of a house as `from -> to: names`.
    fn check(files: &[(&str, &str)], expected: &[&str]) {
        let house = house(files);
        let graph = Graph::of(&house);
        let short = |file: usize| house.files[file].replace("house/src/", "");
        let arrows = graph.arrows.iter().map(|(&(from, to), arrow)| {
            let names: Vec<&str> = arrow.names.iter().map(String::as_str).collect();
            format!("{} -> {}: {}", short(from), short(to), names.join(" "))
        });
        assert_eq!(arrows.collect::<Vec<_>>(), expected, "{files:?}");
    }

    #[test]
    fn every_way_to_name_a_module_is_an_arrow() {
        for source in [
            "use crate::b::B;",
            "use crate::{b::B as C, d};",
            "use super::b::B;",
            "fn f() -> crate::b::B { todo() }",
            "fn f() { let x = super::b::B::new(); }",
            "use crate::b; fn f(x: &b::B) {}",
            "use crate::b as c; fn f() { c::B }",
            "fn f() { format!(\"{}\", crate::b::B) }",
            "macro_rules! m { () => { $crate::b::B } }",
            "struct S { #[cbor(with = \"crate::b::B\")] x: u8 }",
            "mod inner { use super::super::b::B; }",
            "use farwire_house::b::B;",
        ] {
            let (b, d) = ("pub struct B; impl B { fn new() {} }", "");
            let house = house(&[("a.rs", source), ("b.rs", b), ("d.rs", d)]);
            let graph = Graph::of(&house);
            let arrow = graph.arrows.get(&(1, 2)).unwrap_or_else(|| panic!("no arrow: {source}"));
            assert!(arrow.names.contains("B"), "{source}: {arrow:?}");
            assert_eq!(arrow.line, 1);
        }
    }

    #[test]
    fn what_names_no_other_module_is_no_arrow() {
        for source in [
            "//! See [`crate::b::B`].",
            "use std::b::B;",
            "pub(crate) struct B; pub(super) struct C;",
            "fn f() { b() } enum E { B } fn g() { E::B }",
            "#[cfg(test)] mod tests { use crate::b::B; }",
            "impl X { #[cfg(test)] fn f() { crate::b::f() } }",
            "use self::E as F; enum E { B }",
            "fn f() { \"crate::b::B\" }",
        ] {
            check(&[("a.rs", source), ("b.rs", "")], &[]);
        }
    }

    #[test]
    fn a_module_that_is_passed_on_is_followed() {
        check(
            &[
                ("a.rs", "pub use self::inner::deep; mod inner;"),
                ("a/inner.rs", "pub mod deep;"),
                ("a/inner/deep.rs", "pub struct D;"),
                ("b.rs", "use crate::a; fn f() -> a::deep::D { crate::a::inner::deep::D }"),
            ],
            &["a.rs -> a/inner/deep.rs: deep", "b.rs -> a.rs: a", "b.rs -> a/inner/deep.rs: D"],
        );
    }

    #[test]
    fn parents_and_children_count_like_others() {
        check(
            &[("a.rs", "mod b; fn f() { b::g() } pub struct A;"), ("a/b.rs", "use super::A;")],
            &["a.rs -> a/b.rs: g", "a/b.rs -> a.rs: A"],
        );
    }

    #[test]
    fn circles_are_what_can_reach_each_other() {
        assert_eq!(circles(&[(1, 2), (2, 3)]), Vec::<Vec<usize>>::new());
        let arrows = [(1, 2), (2, 1), (3, 4), (4, 5), (5, 3), (2, 3), (5, 9)];
        assert_eq!(circles(&arrows), [vec![3, 4, 5], vec![1, 2]]);
    }
}
