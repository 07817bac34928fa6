//! What changes files and trees by the command line: what each is about, how it is asked for, and
//! how often it was done.

use std::fs;
use std::path::Path;

use super::{Answered, Bench, Kind};

/// What makes a file of `one` a file of `two`.
const DIFF: &str = "--- a/FILE\n+++ b/FILE\n@@ -1 +1 @@\n-one\n+two\n";

/// The files of a tree, with what is in them.
const TREE: [(&str, &str); 3] = [("a", "first\n"), ("b/c", "second\n"), ("b/d/e", "third\n")];

/// Makes a tree.
pub(super) fn plant(root: &Path) {
    for (path, content) in TREE {
        let path = root.join(path);
        fs::create_dir_all(path.parent().expect("a directory")).expect("a directory");
        fs::write(path, content).expect("a file");
    }
}

/// Whether all of a tree is there.
fn stands(root: &Path) -> bool {
    let holds = |(path, content)| fs::read_to_string(root.join(path)).is_ok_and(|is| is == content);
    TREE.into_iter().all(holds)
}

/// The file or directory that this request is about.
fn name(kind: Kind, number: usize) -> String {
    format!("{kind:?}-{number}").to_lowercase()
}

impl Bench {
    /// Makes what is changed, or sent. Gives what the request needs to know of it.
    pub(super) async fn lay_out(&self, kind: Kind, number: usize) -> String {
        let name = name(kind, number);
        let here = self.world.path(&name);
        match kind {
            Kind::PutTree | Kind::Sync => plant(&here),
            Kind::Mkdir => {}
            _ => fs::write(self.world.in_root(&name), "one\n").expect("a file"),
        }
        if kind != Kind::Undo {
            return here.display().to_string();
        }
        let place = format!("web-1:{name}");
        let edit = ["files", "edit", &place, "--old", "one", "--new", "two"];
        let done = self.world.farwire(&edit).await;
        assert_eq!(done.code, 0, "{done:?}");
        let changes = self.world.farwire(&["files", "undo", "web-1", "--list", "--json"]).await;
        let changes = changes.json().as_array().cloned().unwrap_or_default();
        let last = changes.iter().filter_map(|change| change["change"].as_u64()).max();
        last.expect("what was edited can be undone").to_string()
    }

    /// Asks for the change.
    pub(super) async fn change(
        &self,
        kind: Kind,
        number: usize,
        about: &str,
    ) -> (Answered, String) {
        let place = format!("web-1:{}", name(kind, number));
        let moved = format!("{place}-there");
        let diff = DIFF.replace("FILE", &name(kind, number));
        let (arguments, input): (&[&str], &str) = match kind {
            Kind::Append => (&["write", "--append", &place], "two\n"),
            Kind::Mkdir => (&["mkdir", &place], ""),
            Kind::Move => (&["mv", &place, &moved], ""),
            Kind::Remove => (&["rm", &place], ""),
            Kind::Patch => (&["patch", "web-1"], &diff),
            Kind::Undo => (&["undo", "web-1", about], ""),
            Kind::PutTree => (&["put", "--recursive", about, &place], ""),
            _ => (&["sync", about, &place], ""),
        };
        self.command_with(&[&["files"], arguments].concat(), input.as_bytes(), "").await
    }

    /// Fetches a tree: all of it, or something is said.
    pub(super) async fn get_tree(&self, number: usize) -> (Answered, String) {
        let to = self.world.path(&name(Kind::GetTree, number));
        let to_text = to.display().to_string();
        let get = ["files", "get", "--recursive", "web-1:tree", &to_text];
        let got = self.command_with(&get, b"", "").await;
        assert!(got.0 != Answered::Right || stands(&to), "{}", got.1);
        got
    }

    /// How often it was done.
    pub(super) fn changed(&self, kind: Kind, number: usize) -> usize {
        let path = self.world.in_root(&name(kind, number));
        let moved = self.world.in_root(&format!("{}-there", name(kind, number)));
        let read = |path: &Path| fs::read_to_string(path).unwrap_or_default();
        match kind {
            Kind::Append => read(&path).matches("two\n").count(),
            Kind::Mkdir => usize::from(path.is_dir()),
            Kind::Move => usize::from(!path.exists() && read(&moved) == "one\n"),
            Kind::Remove => usize::from(!path.exists()),
            Kind::Patch => usize::from(read(&path) == "two\n"),
            Kind::Undo => usize::from(read(&path) == "one\n"),
            _ => usize::from(stands(&path)),
        }
    }
}
