//! Pages that the documentation owes.
//!
//! A kind of stream has its page of the specification, an MCP tool its part of the reference, and a
//! page in a directory with an index its line there. Commands and failures need no check here:
//! `cargo xtask ci reference` compares the reference with what the program writes.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use syn::{Expr, ImplItem, Item, Lit};

use super::findings::Finding;
use super::modules::Crate;
use crate::cargo::root;
use crate::files;

const STREAMS: &str = "streams";
const SPECIFICATION: &str = "docs/spec/README.md";
const TOOLS: &str = "docs/reference/tools.md";
const DECISIONS: &str = "docs/decisions";

/// What is owed.
pub(crate) fn check(houses: &[Crate]) -> Result<Vec<Finding>> {
    let read = |path: &str| fs::read_to_string(root().join(path)).with_context(|| path.to_owned());
    let (specification, tools) = (read(SPECIFICATION)?, read(TOOLS)?);
    let mut findings = Vec::new();
    for house in houses {
        findings.extend(kinds_without_page(house, &specification));
        findings.extend(tools_without_page(house, &tools));
    }
    for index in files::below(&root().join("docs"), "md")? {
        if index.ends_with("README.md") {
            findings.extend(pages_without_line(&index)?);
        }
    }
    let decisions = files::below(&root().join(DECISIONS), "md")?;
    let names = decisions.iter().filter_map(|page| page.file_name()?.to_str());
    findings.extend(same_numbers(names).into_iter().map(|number| {
        let text = format!("{DECISIONS}: two pages have the number {number}: give one the next");
        finding(number, text)
    }));
    Ok(findings)
}

/// The numbers that more than one page begins with: `0007-relay-store.md`.
fn same_numbers<'a>(names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut numbers: Vec<&str> = names.filter_map(|name| Some(name.split_once('-')?.0)).collect();
    numbers.sort_unstable();
    let pairs = numbers.windows(2).filter(|two| two[0] == two[1]);
    pairs.map(|two| two[0]).collect()
}

/// Kinds of streams that the index of the specification does not name.
fn kinds_without_page(house: &Crate, index: &str) -> Vec<Finding> {
    if house.name != "protocol" {
        return Vec::new();
    }
    let kinds = house.modules.iter().filter_map(|module| {
        let (parent, kind) = module.path.split_once("::")?;
        (parent == STREAMS && !kind.contains("::")).then_some(kind)
    });
    let owed = kinds.filter(|kind| {
        let pages = [format!("]({kind}.md)"), format!("]({kind}s.md)")];
        !pages.iter().any(|page| index.contains(page))
    });
    let text = |kind: &str| {
        format!(
            "{SPECIFICATION}: the stream kind `{kind}` has no page: write `{kind}.md` beside it, and \
             a row that links to it"
        )
    };
    owed.map(|kind| finding(kind, text(kind))).collect()
}

/// Tools that the reference does not have: in no list, or a reference that was not renewed.
fn tools_without_page(house: &Crate, reference: &str) -> Vec<Finding> {
    let items = house.modules.iter().flat_map(|module| &module.items);
    let names = items.filter_map(tool_name);
    let owed = names.filter(|name| {
        let heading = format!("### `{name}`");
        !reference.lines().any(|line| line.starts_with(&heading))
    });
    let text = |name: &str| {
        format!(
            "{TOOLS}: the tool `{name}` is missing: put it in the list of its category and run `cargo xtask reference`"
        )
    };
    owed.map(|name| finding(&name, text(&name))).collect()
}

/// The `NAME` in an `impl Tool for …`.
fn tool_name(item: &Item) -> Option<String> {
    let Item::Impl(item) = item else { return None };
    let (of, _) = item.trait_.as_ref()?;
    if of.segments.last()?.ident != "Tool" {
        return None;
    }
    item.items.iter().find_map(|item| match item {
        ImplItem::Const(item) if item.ident == "NAME" => match &item.expr {
            Expr::Lit(literal) => match &literal.lit {
                Lit::Str(name) => Some(name.value()),
                _ => None,
            },
            _ => None,
        },
        _ => None,
    })
}

/// Pages beside an index that it does not link to.
fn pages_without_line(index: &Path) -> Result<Vec<Finding>> {
    let text = fs::read_to_string(index)?;
    let directory = index.parent().context("a file is in a directory")?;
    let pages = files::below(directory, "md")?;
    let names = pages.iter().filter_map(|page| page.strip_prefix(directory).ok()?.to_str());
    Ok(unlinked(names, &text)
        .map(|name| finding(name, format!("{} does not link to {name}", files::relative(index))))
        .collect())
}

fn unlinked<'a>(
    names: impl Iterator<Item = &'a str>,
    index: &str,
) -> impl Iterator<Item = &'a str> {
    names.filter(move |name| {
        !name.contains('/') && *name != "README.md" && !index.contains(&format!("]({name}"))
    })
}

fn finding(key: &str, text: String) -> Finding {
    Finding { check: "page", key: key.into(), count: 1, text }
}

#[cfg(test)]
mod tests {
    use super::super::modules::tests::house;
    use super::{kinds_without_page, same_numbers, tools_without_page, unlinked};

    #[test]
    fn a_kind_of_stream_needs_its_row() {
        let mut protocol = house(&[
            ("streams.rs", "pub mod run; pub mod forward;"),
            ("streams/run.rs", "mod inner {}"),
            ("streams/forward.rs", ""),
        ]);
        let index = "| [runs.md](runs.md) | streams of kind run, and later of kind forward |";
        assert_eq!(kinds_without_page(&protocol, index), []);
        protocol.name = "protocol".into();
        let owed = kinds_without_page(&protocol, index);
        assert_eq!(owed.iter().map(|owed| owed.key.as_str()).collect::<Vec<_>>(), ["forward"]);
        assert!(owed[0].text.contains("`forward` has no page"), "{}", owed[0].text);
    }

    #[test]
    fn a_tool_needs_its_part_of_the_reference() {
        let source = "impl Tool for Run { const NAME: &'static str = \"run\"; }
                      impl tools::Tool for Gone { const NAME: &'static str = \"gone\"; }
                      impl Other for X { const NAME: &'static str = \"x\"; }";
        let owed = tools_without_page(
            &house(&[("a.rs", source)]),
            "### `run`: Run command\n\nSee `gone`.\n",
        );
        assert_eq!(owed.iter().map(|owed| owed.key.as_str()).collect::<Vec<_>>(), ["gone"]);
    }

    #[test]
    fn a_number_is_for_one_decision() {
        let names = ["0002-b.md", "0001-a.md", "0002-c.md", "README.md"];
        assert_eq!(same_numbers(names.into_iter()), ["0002"]);
        assert_eq!(same_numbers(["0001-a.md", "0002-a.md"].into_iter()), Vec::<&str>::new());
    }

    #[test]
    fn a_page_beside_an_index_needs_its_line() {
        let pages = ["README.md", "a.md", "b.md", "below/c.md"];
        let owed: Vec<&str> = unlinked(pages.into_iter(), "See [a](a.md#part).").collect();
        assert_eq!(owed, ["b.md"]);
    }
}
