//! One crate as a tree of modules, parsed, without its tests.
//!
//! Starts at the roots that Cargo names (`lib.rs`, `main.rs`, `bin/*.rs`) and follows `mod` as the
//! compiler does, so that a module is what the compiler takes for one. What exists only under
//! `cfg(test)` is left out.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use syn::{Attribute, Item, Meta, Token, punctuated::Punctuated};

use crate::cargo::{metadata, root};

/// A crate of the workspace.
#[derive(Debug)]
pub(crate) struct Crate {
    /// The directory that it is in: `agent`.
    pub(crate) name: String,
    /// What paths in its programs call its library: `farwire_agent`.
    pub(crate) library: Option<String>,
    /// Its sources, from the root of the repository: `agent/src/jobs/job.rs`.
    pub(crate) files: Vec<String>,
    /// Its modules, parents before children. The first one is the library, if there is one.
    pub(crate) modules: Vec<Module>,
}

/// A module, in a file of its own or inline in another one's.
pub(crate) struct Module {
    /// Where it is in the tree: `jobs::job`. A root is called like its file: `lib`, `main`.
    pub(crate) path: String,
    /// The index of its file in [`Crate::files`].
    pub(crate) file: usize,
    /// The index of its parent; its own for a root.
    pub(crate) parent: usize,
    /// The indices of its children by their names.
    pub(crate) children: BTreeMap<String, usize>,
    /// Everything in it but its children and its tests.
    pub(crate) items: Vec<Item>,
}

impl std::fmt::Debug for Module {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} with {} items", self.path, self.items.len())
    }
}

/// Reads a source by its path from the root of the repository. `None` if there is no such file.
type ReadSource<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Reads every crate of the workspace.
pub(crate) fn workspace() -> Result<Vec<Crate>> {
    let metadata = metadata(&["--no-deps", "--locked"])?;
    let read = |path: &str| fs::read_to_string(root().join(path)).ok();
    let packages = metadata["packages"].as_array().context("metadata names no packages")?;
    packages.iter().map(|package| read_package(package, &read)).collect()
}

fn read_package(package: &Value, read: ReadSource<'_>) -> Result<Crate> {
    let relative = |path: &Value| -> Result<String> {
        let path = path.as_str().context("a target has a source")?;
        let path = std::path::Path::new(path);
        let path = path.strip_prefix(root()).context("a package is in the repository")?;
        Ok(path.to_string_lossy().replace('\\', "/"))
    };
    let manifest = relative(&package["manifest_path"])?;
    let name = manifest.trim_end_matches("/Cargo.toml").to_owned();
    let (mut library, mut roots) = (None, Vec::new());
    for target in package["targets"].as_array().into_iter().flatten() {
        let source = relative(&target["src_path"])?;
        let kinds: Vec<_> = target["kind"].as_array().into_iter().flatten().collect();
        if kinds.iter().any(|kind| *kind == "lib") {
            library = target["name"].as_str().map(|name| name.replace('-', "_"));
            roots.insert(0, source);
        } else if kinds.iter().any(|kind| *kind == "bin") {
            roots.push(source);
        }
    }
    Crate::read(name, library, &roots, read)
}

impl Crate {
    /// Reads a crate from the roots of its targets, the library first.
    pub(crate) fn read(
        name: String,
        library: Option<String>,
        roots: &[String],
        read: ReadSource<'_>,
    ) -> Result<Self> {
        let new = Self { name, library, files: Vec::new(), modules: Vec::new() };
        let mut reader = Reader { read, new };
        for root in roots {
            let (directory, file) = root.rsplit_once('/').unwrap_or((".", root));
            let path = file.trim_end_matches(".rs").to_owned();
            let (file, items) = reader.parse(root)?;
            let place = ModulePlace { parent: None, path, file, directory: directory.to_owned() };
            reader.insert(place, items)?;
        }
        Ok(reader.new)
    }

    /// The module that a file begins with.
    pub(crate) fn module_of(&self, file: usize) -> &Module {
        let first = self.modules.iter().find(|module| module.file == file);
        first.expect("a file is read for a module")
    }
}

/// A crate that is being read.
struct Reader<'a> {
    read: ReadSource<'a>,
    new: Crate,
}

/// Where a module is that is to be inserted.
struct ModulePlace {
    parent: Option<usize>,
    path: String,
    file: usize,
    /// Where the files of its children are.
    directory: String,
}

impl Reader<'_> {
    /// Parses a file, appends it to the list of files, and says its index.
    fn parse(&mut self, path: &str) -> Result<(usize, Vec<Item>)> {
        let text = (self.read)(path).with_context(|| format!("{path} cannot be read"))?;
        let parsed = syn::parse_file(&text).with_context(|| format!("{path} is not Rust"))?;
        self.new.files.push(path.to_owned());
        Ok((self.new.files.len() - 1, parsed.items))
    }

    /// Inserts a module and then its children. Returns its index.
    fn insert(&mut self, at: ModulePlace, items: Vec<Item>) -> Result<usize> {
        let index = self.new.modules.len();
        let (children, items) = items
            .into_iter()
            .filter(|item| !is_test_only(attributes(item)))
            .partition::<Vec<_>, _>(|item| matches!(item, Item::Mod(_)));
        self.new.modules.push(Module {
            path: at.path.clone(),
            file: at.file,
            parent: at.parent.unwrap_or(index),
            children: BTreeMap::new(),
            items,
        });
        for item in children {
            let Item::Mod(item) = item else { continue };
            let name = item.ident.to_string();
            let (file, items) = match item.content {
                Some((_, items)) => (at.file, items),
                None => {
                    let beside = format!("{}/{name}.rs", at.directory);
                    let (file, read) = (&self.new.files[at.file], self.read);
                    if read(&beside).is_none() {
                        bail!("{beside} is missing: `mod {name}` of {file} names it");
                    }
                    self.parse(&beside)?
                }
            };
            let path = match at.parent {
                None => name.clone(),
                Some(_) => format!("{}::{name}", at.path),
            };
            let directory = format!("{}/{name}", at.directory);
            let child = ModulePlace { parent: Some(index), path, file, directory };
            let child = self.insert(child, items)?;
            self.new.modules[index].children.insert(name, child);
        }
        Ok(index)
    }
}

/// Whether these attributes leave something out of every build but those of tests.
pub(crate) fn is_test_only(attributes: &[Attribute]) -> bool {
    let cfg = attributes.iter().filter(|attribute| attribute.path().is_ident("cfg"));
    let tests = attributes.iter().any(|attribute| attribute.path().is_ident("test"));
    tests
        || cfg
            .filter_map(|attribute| attribute.parse_args::<Meta>().ok())
            .any(|condition| needs_test(&condition))
}

fn needs_test(condition: &Meta) -> bool {
    let parts = |list: &syn::MetaList| -> Vec<Meta> {
        let parts = list.parse_args_with(Punctuated::<Meta, Token![,]>::parse_terminated);
        parts.into_iter().flatten().collect()
    };
    match condition {
        Meta::Path(path) => path.is_ident("test") || path.is_ident("miri"),
        Meta::List(list) if list.path.is_ident("all") => parts(list).iter().any(needs_test),
        Meta::List(list) if list.path.is_ident("any") => parts(list).iter().all(needs_test),
        Meta::List(_) | Meta::NameValue(_) => false,
    }
}

/// The attributes of an item, of whatever kind it is.
pub(crate) fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::ExternCrate(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::ForeignMod(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::TraitAlias(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Union(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::Crate;

    /// A crate called `house` with these files beside its `src/lib.rs`, which declares their
    /// modules.
    pub(crate) fn house(files: &[(&str, &str)]) -> Crate {
        let top = |name: &str| name.split_once('/').is_none().then(|| name.replace(".rs", ""));
        let declared = files.iter().filter_map(|(name, _)| top(name)).filter(|name| name != "lib");
        let mut root: String = declared.map(|name| format!("mod {name};\n")).collect();
        root.extend(files.iter().filter(|(name, _)| *name == "lib.rs").map(|(_, text)| *text));
        let read = |path: &str| match path.strip_prefix("house/src/")? {
            "lib.rs" => Some(root.clone()),
            path => files.iter().find(|(name, _)| *name == path).map(|(_, text)| (*text).into()),
        };
        let roots = ["house/src/lib.rs".into()];
        Crate::read("house".into(), Some("farwire_house".into()), &roots, &read).expect("it parses")
    }

    fn paths(house: &Crate) -> Vec<&str> {
        house.modules.iter().map(|module| module.path.as_str()).collect()
    }

    #[test]
    fn modules_are_found_in_files_and_inline() {
        let house = house(&[
            ("jobs.rs", "mod inner { mod deep; } mod other {} pub mod job;"),
            ("jobs/job.rs", ""),
            ("jobs/inner/deep.rs", ""),
        ]);
        assert_eq!(
            paths(&house),
            ["lib", "jobs", "jobs::inner", "jobs::inner::deep", "jobs::other", "jobs::job"]
        );
        let files: Vec<usize> = house.modules.iter().map(|module| module.file).collect();
        assert_eq!(files, [0, 1, 1, 2, 1, 3]);
        assert_eq!(house.files[3], "house/src/jobs/job.rs");
    }

    #[test]
    fn tests_are_left_out_and_nothing_else() {
        let house = house(&[(
            "a.rs",
            "#[cfg(test)] mod tests; #[cfg(all(test, unix))] mod more {} #[test] fn t() {} #[cfg(any(test, miri))] mod m {}
             #[cfg(any(feature = \"inner\", test))] mod used {} #[cfg(not(test))] mod also {} #[cfg(unix)] fn f() {}",
        )]);
        assert_eq!(paths(&house), ["lib", "a", "a::used", "a::also"]);
        assert_eq!(house.modules[1].items.len(), 1);
    }

    #[test]
    fn a_module_without_a_file_is_named() {
        let read = |path: &str| (path == "a/src/lib.rs").then(|| "mod gone;".to_owned());
        let error = Crate::read("a".into(), None, &["a/src/lib.rs".into()], &read);
        let error = error.expect_err("it is missing").to_string();
        assert_eq!(error, "a/src/gone.rs is missing: `mod gone` of a/src/lib.rs names it");
    }
}
