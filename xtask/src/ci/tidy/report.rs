//! What the checks see, for a person: everything that is wrong, known or not, and the graph itself.

use std::collections::BTreeMap;

use super::findings::{Finding, grouped};
use super::graph::{Graph, circles};
use super::modules::Crate;

/// Everything that one check finds, or all of them do (`all`): first the numbers, then each
/// finding.
pub(crate) fn list(houses: &[Crate], findings: &[Finding], check: &str) -> String {
    let wanted = |name: &str| check == "all" || check == name;
    let mut lines = Vec::new();
    if wanted("circle") {
        lines.extend(houses.iter().map(shape));
        lines.push(String::new());
    }
    let wanted: Vec<Finding> =
        findings.iter().filter(|finding| wanted(finding.check)).cloned().collect();
    let mut totals: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    let groups = grouped(&wanted);
    for ((check, key), of_key) in &groups {
        let count: usize = of_key.iter().map(|finding| finding.count).sum();
        let total = totals.entry(check).or_default();
        *total = (total.0 + count, total.1 + 1);
        lines.push(format!("{check} {key} {count}"));
    }
    lines.push(String::new());
    lines.extend(
        totals.iter().map(|(check, (count, keys))| format!("{check}: {count} in {keys} entries")),
    );
    for of_key in groups.values() {
        lines.push(String::new());
        lines.extend(of_key.iter().map(|finding| format!("{}: {}", finding.check, finding.text)));
    }
    lines.push(String::new());
    lines.join("\n")
}

/// The circles of a crate in numbers, with and without arrows from a module to the one that
/// declares it.
fn shape(house: &Crate) -> String {
    let graph = Graph::of(house);
    let sizes = |circles: &[Vec<usize>]| -> String {
        let sizes: Vec<String> = circles.iter().map(|circle| circle.len().to_string()).collect();
        if sizes.is_empty() { "none".into() } else { sizes.join(", ") }
    };
    let apart: Vec<(usize, usize)> =
        graph.arrows.keys().copied().filter(|&(from, to)| !is_parent(house, to, from)).collect();
    format!(
        "{}: {} files, {} arrows; circles of files: {}; without arrows to parents: {}",
        house.name,
        house.files.len(),
        graph.arrows.len(),
        sizes(&graph.circles()),
        sizes(&circles(&apart))
    )
}

/// Whether a file declares the module of another one.
fn is_parent(house: &Crate, parent: usize, child: usize) -> bool {
    let declares = house.modules[house.module_of(child).parent].file;
    declares == parent
}

/// The arrows of a crate, one a line.
pub(crate) fn graph(house: &Crate) -> String {
    let graph = Graph::of(house);
    let arrow = |(&(from, to), arrow): (&(usize, usize), &super::graph::Arrow)| {
        format!("{}:{} -> {}: {}\n", house.files[from], arrow.line, house.files[to], arrow.names())
    };
    graph.arrows.iter().map(arrow).collect()
}

#[cfg(test)]
mod tests {
    use super::super::modules::tests::house;
    use super::{Finding, graph, list};

    #[test]
    fn a_list_has_numbers_and_texts() {
        let house = house(&[
            ("a.rs", "mod b; use crate::c::C; fn f() { b::g() }"),
            ("a/b.rs", "use super::A;"),
            ("c.rs", ""),
        ]);
        assert_eq!(
            graph(&house),
            "house/src/a.rs:1 -> house/src/a/b.rs: `g`\n\
             house/src/a.rs:1 -> house/src/c.rs: `C`\n\
             house/src/a/b.rs:1 -> house/src/a.rs: `A`\n"
        );
        let finding = |key: &str| Finding {
            check: "circle",
            key: key.into(),
            count: 3,
            text: format!("in {key}"),
        };
        let all = list(&[house], &[finding("x"), finding("x"), finding("y")], "circle");
        assert_eq!(
            all,
            "house: 4 files, 3 arrows; circles of files: 2; without arrows to parents: none\n\n\
             circle x 6\ncircle y 3\n\ncircle: 9 in 2 entries\n\n\
             circle: in x\ncircle: in x\n\ncircle: in y\n"
        );
    }
}
