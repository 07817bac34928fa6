//! Finds the paths in a crate that lead into a module of it.

use std::collections::BTreeMap;

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};
use syn::{Attribute, ImplItem, Item, Macro, Path, UseTree, VisRestricted};

use crate::ci::tidy::modules::{Crate, attributes, is_test_only};

/// A path that leads from one module into another.
#[derive(Debug)]
pub(crate) struct Reference {
    pub(crate) from: usize,
    pub(crate) to: usize,
    pub(crate) line: usize,
    /// What it takes from there; the module's own name if that is all.
    pub(crate) name: String,
}

/// A path as it is written.
#[derive(Clone, Debug, Default)]
struct WrittenPath {
    segments: Vec<String>,
    line: usize,
    /// In `use`, a single name can be a module; elsewhere it is a variable or a type.
    imported: bool,
}

/// The paths of a crate that lead into modules of it.
pub(crate) fn references(house: &Crate) -> Vec<Reference> {
    let collected: Vec<Collector> = house
        .modules
        .iter()
        .map(|module| {
            let mut collector = Collector::default();
            module.items.iter().for_each(|item| collector.visit_item(item));
            collector
        })
        .collect();
    let resolver = Resolver { house, collected: &collected };
    let of_module = |(from, module): (usize, &Collector)| -> Vec<Reference> {
        module.written.iter().filter_map(|written| resolver.target(from, written)).collect()
    };
    collected.iter().enumerate().flat_map(of_module).collect()
}

/// What one module writes.
#[derive(Debug, Default)]
struct Collector {
    written: Vec<WrittenPath>,
    /// The names that `use` brings in, each with the path that it stands for.
    imports: BTreeMap<String, Vec<String>>,
}

impl Collector {
    fn import(&mut self, tree: &UseTree, before: &WrittenPath) {
        let mut path = before.clone();
        path.imported = true;
        match tree {
            UseTree::Path(part) => {
                path.segments.push(part.ident.to_string());
                path.line = part.ident.span().start().line;
                self.import(&part.tree, &path);
            }
            UseTree::Name(part) => self.import_name(path, &part.ident, &part.ident),
            UseTree::Rename(part) => self.import_name(path, &part.ident, &part.rename),
            UseTree::Glob(part) => {
                path.line = part.star_token.span.start().line;
                path.segments.push("*".into());
                self.written.push(path);
            }
            UseTree::Group(part) => part.items.iter().for_each(|tree| self.import(tree, before)),
        }
    }

    fn import_name(&mut self, mut path: WrittenPath, name: &syn::Ident, stands: &syn::Ident) {
        path.line = name.span().start().line;
        let (name, mut stands) = (name.to_string(), stands.to_string());
        if name != "self" {
            path.segments.push(name);
        } else if stands == "self" {
            stands = path.segments.last().cloned().unwrap_or_default();
        }
        self.imports.insert(stands, path.segments.clone());
        self.written.push(path);
    }

    /// Collects paths from what is no syntax yet. Strings count where `strings` says so.
    fn tokens(&mut self, tokens: TokenStream, strings: bool) {
        let mut path = WrittenPath::default();
        let mut colons = 0;
        for token in tokens {
            match token {
                TokenTree::Ident(name) if colons == 2 || path.segments.is_empty() => {
                    path.segments.push(name.to_string());
                    path.line = name.span().start().line;
                    colons = 0;
                    continue;
                }
                TokenTree::Punct(mark) if mark.as_char() == ':' => {
                    colons += 1;
                    continue;
                }
                TokenTree::Ident(name) => {
                    self.written.push(std::mem::take(&mut path));
                    path.segments.push(name.to_string());
                    path.line = name.span().start().line;
                    colons = 0;
                    continue;
                }
                TokenTree::Group(group) => self.tokens(group.stream(), strings),
                TokenTree::Literal(text) if strings => {
                    let line = text.span().start().line;
                    let text = text.to_string();
                    if let Ok(tokens) = text.trim_matches('"').parse::<TokenStream>() {
                        let before = self.written.len();
                        self.tokens(tokens, false);
                        self.written[before..].iter_mut().for_each(|path| path.line = line);
                    }
                }
                TokenTree::Literal(_) | TokenTree::Punct(_) => {}
            }
            self.written.push(std::mem::take(&mut path));
            colons = 0;
        }
        self.written.push(path);
    }
}

impl<'ast> Visit<'ast> for Collector {
    fn visit_item(&mut self, item: &'ast Item) {
        if !is_test_only(attributes(item)) {
            visit::visit_item(self, item);
        }
    }

    fn visit_impl_item(&mut self, item: &'ast ImplItem) {
        let attributes = match item {
            ImplItem::Fn(item) => &item.attrs,
            ImplItem::Const(item) => &item.attrs,
            _ => return visit::visit_impl_item(self, item),
        };
        if !is_test_only(attributes) {
            visit::visit_impl_item(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.import(&item.tree, &WrittenPath::default());
    }

    fn visit_path(&mut self, path: &'ast Path) {
        let segments = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        let line = path.segments.first().map_or(0, |first| first.ident.span().start().line);
        self.written.push(WrittenPath { segments, line, imported: false });
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, invocation: &'ast Macro) {
        self.visit_path(&invocation.path);
        self.tokens(invocation.tokens.clone(), false);
    }

    fn visit_attribute(&mut self, attribute: &'ast Attribute) {
        if let syn::Meta::List(list) = &attribute.meta {
            self.tokens(list.tokens.clone(), true);
        }
    }

    /// `pub(super)` says who may look, and takes nothing.
    fn visit_vis_restricted(&mut self, _: &'ast VisRestricted) {}
}

/// Follows paths through the modules of a crate.
struct Resolver<'a> {
    house: &'a Crate,
    collected: &'a [Collector],
}

/// How often a name may stand for another name before the search gives up.
const RENAMED: u8 = 4;

impl Resolver<'_> {
    fn target(&self, from: usize, written: &WrittenPath) -> Option<Reference> {
        if written.segments.len() < 2 && !written.imported {
            return None;
        }
        let (to, length) = self.follow(from, &written.segments, RENAMED)?;
        let name = written.segments.get(length).or_else(|| written.segments.last())?.clone();
        Some(Reference { from, to, line: written.line, name })
    }

    /// The last module of a path, and how many segments led to it.
    fn follow(&self, from: usize, path: &[String], renamed: u8) -> Option<(usize, usize)> {
        let modules = &self.house.modules;
        let mut at = match path.first()?.as_str() {
            "crate" => {
                let mut at = from;
                while modules[at].parent != at {
                    at = modules[at].parent;
                }
                at
            }
            "self" => from,
            "super" => modules[from].parent,
            name if self.house.library.as_deref() == Some(name) => 0,
            name => self.step(from, name, renamed)?,
        };
        let mut length = 1;
        for name in &path[1..] {
            at = match name.as_str() {
                "super" => modules[at].parent,
                name => match self.step(at, name, renamed) {
                    Some(next) => next,
                    None => break,
                },
            };
            length += 1;
        }
        Some((at, length))
    }

    /// The module that a name stands for in another module.
    fn step(&self, at: usize, name: &str, renamed: u8) -> Option<usize> {
        if let Some(child) = self.house.modules[at].children.get(name) {
            return Some(*child);
        }
        let path = self.collected[at].imports.get(name)?;
        let (to, length) = self.follow(at, path, renamed.checked_sub(1)?)?;
        (length == path.len()).then_some(to)
    }
}
