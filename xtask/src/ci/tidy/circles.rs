//! Circles of files: to understand one of them takes all of them.
//!
//! A few files that know each other are one idea in several files. More than [`LARGEST`] are
//! refused, with the arrows whose removal opens the circle.

use std::collections::BTreeSet;

use super::findings::Finding;
use super::graph::{Arrow, Graph, circles};
use super::modules::Crate;

/// How many files may form a circle.
const LARGEST: usize = 5;

/// What is wrong in a crate: one finding for each circle, which counts its files.
pub(crate) fn check(house: &Crate, graph: &Graph) -> Vec<Finding> {
    let too_large = graph.circles().into_iter().filter(|circle| circle.len() > LARGEST);
    too_large.map(|circle| finding(house, graph, &circle)).collect()
}

fn finding(house: &Crate, graph: &Graph, circle: &[usize]) -> Finding {
    let files: Vec<&str> = circle.iter().map(|&file| house.files[file].as_str()).collect();
    let arrows = within(graph, circle);
    let mut lines = vec![format!(
        "{} files of {} form a circle, and {LARGEST} may: {}",
        circle.len(),
        house.name,
        files.join(", ")
    )];
    if let Some((hub, left)) = hub(&arrows) {
        let within = |from| circle.contains(&from);
        let taken = graph.arrows.iter().filter(|((from, to), _)| *to == hub && within(*from));
        let names = taken.flat_map(|(_, arrow)| arrow.names.iter().cloned()).collect();
        lines.push(format!(
            "  With what they take from {} ({}) in a file below them all, the largest circle has \
             {left} files.",
            house.files[hub],
            Arrow { line: 0, names }.names()
        ));
    }
    let cuts = cuts(&arrows);
    lines.push(format!("  It opens without {} of its arrows:", cuts.len()));
    lines.extend(cuts.into_iter().map(|(from, to)| {
        let arrow = &graph.arrows[&(from, to)];
        let (from, to) = (&house.files[from], &house.files[to]);
        format!("    {from}:{} -> {to}: {}", arrow.line, arrow.names())
    }));
    let text = lines.join("\n");
    Finding { check: "circle", key: house.name.clone(), count: circle.len(), text }
}

/// The file on which most of a circle hangs: without the arrows to it, the largest circle is
/// smallest. With that size.
fn hub(arrows: &[(usize, usize)]) -> Option<(usize, usize)> {
    let targets: BTreeSet<usize> = arrows.iter().map(|&(_, to)| to).collect();
    let without = |hub: usize| {
        let rest: Vec<_> = arrows.iter().copied().filter(|&(_, to)| to != hub).collect();
        circles(&rest).first().map_or(0, Vec::len)
    };
    let left = targets.into_iter().map(|target| (target, without(target)));
    left.min_by_key(|&(_, left)| left)
}

fn within(graph: &Graph, circle: &[usize]) -> Vec<(usize, usize)> {
    let within = |&(from, to): &(usize, usize)| circle.contains(&from) && circle.contains(&to);
    graph.arrows.keys().copied().filter(within).collect()
}

/// A small set of arrows without which no circle is too large, by trial: the smallest is not worth
/// its time.
fn cuts(arrows: &[(usize, usize)]) -> Vec<(usize, usize)> {
    let order = order(arrows);
    let place = |node: usize| order.iter().position(|&other| other == node);
    let (mut kept, back): (Vec<_>, Vec<_>) =
        arrows.iter().copied().partition(|&(from, to)| place(from) < place(to));
    // An arrow that closes only a small circle may stay.
    let mut cuts = Vec::new();
    for arrow in back {
        kept.push(arrow);
        if circles(&kept).first().is_some_and(|circle| circle.len() > LARGEST) {
            kept.pop();
            cuts.push(arrow);
        }
    }
    cuts
}

/// The nodes in an order that few arrows run against: each node is moved to its best place until
/// none has a better.
fn order(arrows: &[(usize, usize)]) -> Vec<usize> {
    let nodes: BTreeSet<usize> = arrows.iter().flat_map(|&(from, to)| [from, to]).collect();
    // Whoever names many and is named by few begins.
    let named = |node: usize| -> i32 {
        let ends = |&(from, to): &(usize, usize)| i32::from(to == node) - i32::from(from == node);
        arrows.iter().map(ends).sum()
    };
    let mut order: Vec<usize> = nodes.into_iter().collect();
    order.sort_by_key(|&node| (named(node), node));
    let against = |order: &[usize]| {
        let place = |node: usize| order.iter().position(|&other| other == node);
        arrows.iter().filter(|&&(from, to)| place(from) > place(to)).count()
    };
    let mut least = against(&order);
    loop {
        let before = least;
        for node in order.clone() {
            let mut rest = order.clone();
            rest.retain(|&other| other != node);
            for at in 0..=rest.len() {
                let mut moved = rest.clone();
                moved.insert(at, node);
                let count = against(&moved);
                if count < least {
                    (least, order) = (count, moved);
                }
            }
        }
        if least == before {
            return order;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::modules::tests::house;
    use super::{Graph, LARGEST, check, cuts};

    /// A ring of so many files, each of which names the next one.
    fn ring(count: usize) -> Vec<(String, String)> {
        let file =
            |at: usize| (format!("f{at}.rs"), format!("use crate::f{}::F;", (at + 1) % count));
        (0..count).map(file).collect()
    }

    fn found(files: &[(String, String)]) -> Vec<(usize, String)> {
        let files: Vec<_> = files.iter().map(|(name, text)| (name.as_str(), &**text)).collect();
        let house = house(&files);
        let found = check(&house, &Graph::of(&house)).into_iter();
        found.map(|finding| (finding.count, finding.text)).collect()
    }

    #[test]
    fn a_circle_may_be_small() {
        assert_eq!(found(&ring(LARGEST)), []);
    }

    #[test]
    fn a_large_circle_is_named_with_its_cut() {
        let found = found(&ring(6));
        let [(6, text)] = found.as_slice() else { panic!("{found:?}") };
        assert!(text.contains("house/src/f0.rs, house/src/f1.rs"), "{text}");
        assert!(text.contains("It opens without 1 of its arrows"), "{text}");
        assert_eq!(text.matches("-> house/src/f").count(), 1, "{text}");
    }

    #[test]
    fn the_file_on_which_a_circle_hangs_is_named() {
        // A parent that lists its children, each of which takes the same from it.
        let child = |at: usize| (format!("c{at}.rs"), "use crate::parent::Shared;".to_owned());
        let list: String = (0..7).map(|at| format!("use crate::c{at}::C;")).collect();
        let mut files: Vec<_> = (0..7).map(child).collect();
        files.push(("parent.rs".into(), list));
        let found = found(&files);
        let [(8, text)] = found.as_slice() else { panic!("{found:?}") };
        let hint = "With what they take from house/src/parent.rs (`Shared`) in a file below them \
                    all, the largest circle has 0 files.";
        assert!(text.contains(hint), "{text}");
    }

    #[test]
    fn the_arrow_that_ties_two_rings_is_found() {
        // Ten files in a line, three ways back that all begin in one place: cut what leads there.
        let mut arrows: Vec<_> = (0..9).map(|at| (at, at + 1)).collect();
        arrows.extend([(9, 0), (9, 1), (9, 2)]);
        assert_eq!(cuts(&arrows), [(8, 9)]);
        // A child and its parent stay as they are.
        arrows.extend([(20, 21), (21, 20)]);
        assert_eq!(cuts(&arrows), [(8, 9)]);
    }
}
