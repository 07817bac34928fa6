//! The layers of each crate, from the top down: a file names files of its own layer and of those
//! below.
//!
//! A module is in the layer that names it, or else in its parent's. To add a module, add it where
//! what it needs is below; if there is no such place, it holds two ideas. A root is called like its
//! file (`lib`, `main`).

use std::collections::BTreeSet;

use super::findings::Finding;
use super::graph::Graph;
use super::modules::Crate;

/// Where the table is, from the root of the repository.
const TABLE: &str = "xtask/src/ci/tidy/layers.rs";

/// For each crate its layers; modules in one line are in one layer.
const LAYERS: &[(&str, &[&str])] = &[
    (
        "protocol",
        &[
            "lib",
            "streams",
            "conversation handshake enroll",
            "surface frame token genesis",
            "bundle outer header",
            "signed address keys noise",
            "id peer record quote",
            "cbor chars curve lp failure sids terminal",
        ],
    ),
    ("link", &["lib", "inner", "outer"]),
    (
        "keystore",
        &[
            "lib",
            "home",
            "enrollment pins tickets ids phrases",
            "devices",
            "claim",
            "identity workspace",
            "relay secret",
            "file",
            "dir lock",
            "fault steps",
        ],
    ),
    (
        "files",
        &[
            "lib",
            "worker",
            "dav verbs",
            "undo transfers peer",
            "tree",
            "rules fault",
            "path listener",
        ],
    ),
    (
        "agent",
        &[
            "lib main",
            "cli",
            "run",
            "service status lockout",
            "dial enroll",
            "agent",
            "streams",
            "sessions",
            "jobs",
            "terminal",
            "files links conversations",
            "gate",
            "program",
            "holder",
            "spool",
            "build config device pace rates",
            "os",
        ],
    ),
    (
        "relay",
        &[
            "lib main",
            "cli",
            "run",
            "url connection http",
            "control splice",
            "relay",
            "entrance",
            "door hello",
            "presence",
            "store shares memory",
            "turns",
            "clock config data",
            "node workspace",
        ],
    ),
    (
        "bridge",
        &[
            "lib main",
            "cli",
            "mcp setup",
            "tools",
            "render",
            "verbs",
            "process",
            "runs sessions files handles",
            "fleet",
            "conversation",
            "client",
            "fault",
            "server",
            "network",
            "mail",
            "known_roots unsettled slots harden machine build",
            "text",
        ],
    ),
    (
        "tests",
        &[
            "farwire-show farwire-soak farwire-swarm",
            "show trials",
            "dav hand hostile liar person raw simulated",
            "lib model world",
        ],
    ),
    ("xtask", &["main", "ci", "bench demo fuzz lab reference show soak test", "files", "cargo"]),
];

/// What is wrong in a crate: imports that go up, and modules that the table does not know.
pub(crate) fn check(house: &Crate, graph: &Graph) -> Vec<Finding> {
    let Some((_, layers)) = LAYERS.iter().find(|(name, _)| *name == house.name) else {
        return vec![unplaced(house, format!("{} has no layers: add them to {TABLE}", house.name))];
    };
    check_against(house, graph, layers)
}

fn check_against(house: &Crate, graph: &Graph, layers: &[&str]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut missing = BTreeSet::new();
    for (file, path) in house.files.iter().enumerate() {
        let module = &house.module_of(file).path;
        let top = module.split("::").next().unwrap_or_default();
        if layer(layers, module).is_none() && missing.insert(top) {
            let text = format!("{path}: module `{top}` has no layer: add it to {TABLE}");
            findings.push(unplaced(house, text));
        }
    }
    for name in layers.iter().flat_map(|layer| layer.split(' ')) {
        if !house.modules.iter().any(|module| module.path == name) {
            let text = format!("{TABLE}: {} has no module `{name}`: take it out", house.name);
            findings.push(unplaced(house, text));
        }
    }
    for (&(from, to), arrow) in &graph.arrows {
        let of = |file: usize| layer(layers, &house.module_of(file).path);
        let (Some(lower), Some(upper)) = (of(from), of(to)) else { continue };
        if lower > upper {
            let (from, to) = (&house.files[from], &house.files[to]);
            let text = format!(
                "{from}:{} is in layer `{}` and takes {} from {to}, which is above it in layer `{}`: move that down, or \
                 let the upper one pass in what is needed",
                arrow.line,
                layers[lower],
                arrow.names(),
                layers[upper]
            );
            findings.push(Finding {
                check: "upward",
                key: format!("{from} -> {to}"),
                count: 1,
                text,
            });
        }
    }
    findings
}

fn unplaced(house: &Crate, text: String) -> Finding {
    Finding { check: "layers", key: house.name.clone(), count: 1, text }
}

/// The layer of a module, counted from the top: that of the longest name that it is or is beneath.
fn layer(layers: &[&str], module: &str) -> Option<usize> {
    let mut module = module;
    loop {
        let named = |layer: &&str| layer.split(' ').any(|name| name == module);
        if let Some(layer) = layers.iter().position(named) {
            return Some(layer);
        }
        module = module.rsplit_once("::")?.0;
    }
}

#[cfg(test)]
mod tests {
    use super::super::modules::tests::house;
    use super::{Graph, check, check_against};

    const LAYERS: &[&str] = &["lib", "cli", "runs files", "client"];

    fn found(files: &[(&str, &str)]) -> Vec<(String, String)> {
        let house = house(files);
        let findings = check_against(&house, &Graph::of(&house), LAYERS).into_iter();
        findings.map(|finding| (finding.key, finding.text)).collect()
    }

    #[test]
    fn an_import_may_go_down_or_aside() {
        let (cli, runs) = ("use crate::{client::C, runs::R};", "use crate::files::F;");
        let all = [("cli.rs", cli), ("runs.rs", runs), ("files.rs", ""), ("client.rs", "")];
        assert_eq!(found(&all), []);
    }

    #[test]
    fn an_import_that_goes_up_is_named_with_both_layers() {
        let up = "\nuse crate::cli::json;";
        let all = [("cli.rs", ""), ("runs.rs", "mod one;"), ("runs/one.rs", up), ("files.rs", "")];
        let found = found(&[&all[..], &[("client.rs", "")]].concat());
        let [(key, text)] = found.as_slice() else { panic!("{found:?}") };
        assert_eq!(key, "house/src/runs/one.rs -> house/src/cli.rs");
        let expected = "house/src/runs/one.rs:2 is in layer `runs files` and takes `json` from \
                        house/src/cli.rs, which is above it in layer `cli`";
        assert!(text.starts_with(expected), "{text}");
    }

    #[test]
    fn the_table_names_every_module_and_no_other() {
        let found = found(&[("cli.rs", ""), ("new.rs", ""), ("files.rs", ""), ("client.rs", "")]);
        let texts: Vec<&str> = found.iter().map(|(_, text)| text.as_str()).collect();
        assert!(texts[0].starts_with("house/src/new.rs: module `new` has no layer"), "{texts:?}");
        assert!(texts[1].contains("house has no module `runs`"), "{texts:?}");
        assert_eq!(texts.len(), 2);
        let house = house(&[]);
        assert!(check(&house, &Graph::default())[0].text.contains("has no layers"));
    }
}
