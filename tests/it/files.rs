//! Files beneath an opened root, through the command line and the tools of a model.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use farwire_tests::dav::Dav;
use farwire_tests::trials::files::{bytes, clients, torn};
use farwire_tests::world::{children, kill};
use farwire_tests::{Era, World, until};
use serde_json::json;

/// The worker of the only root of an agent.
async fn worker(world: &World, server: &str) -> u32 {
    let agent = world.agent_pid(server);
    until("a worker", async || {
        let is_worker = |pid: &u32| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            line.split(|byte| *byte == 0).any(|word| word == b"file-worker")
        };
        children(agent).into_iter().find(is_worker)
    })
    .await
}

#[tokio::test]
async fn files_go_there_and_back_by_every_name_that_they_have() {
    let world = World::with_root("web-1", &[]).await;
    let here = world.path("here");
    fs::create_dir_all(here.join("deep/er")).unwrap();
    let content = bytes(9 << 20);
    fs::write(here.join("big"), &content).unwrap();
    fs::write(here.join("deep/er/small"), "small").unwrap();
    fs::set_permissions(here.join("deep/er/small"), fs::Permissions::from_mode(0o750)).unwrap();
    let here = here.display().to_string();
    let ok = async |arguments: &[&str]| {
        let done = world.farwire(&[&["files"], arguments].concat()).await;
        assert_eq!(done.code, 0, "{arguments:?}: {done:?}");
        done
    };
    let roots = ok(&["roots", "web-1", "--json"]).await.json();
    assert_eq!((&roots[0]["name"], &roots[0]["mode"]), (&json!("work"), &json!("rw")));
    ok(&["put", "-r", &here, "web-1:work/copy"]).await;
    assert_eq!(fs::read(world.in_root("copy/big")).unwrap(), content);
    let mode = fs::metadata(world.in_root("copy/deep/er/small")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o750);
    let absolute = format!("web-1:{}", world.in_root("copy/deep/er/small").display());
    assert_eq!(ok(&["cat", &absolute, "web-1:copy/deep/er/small"]).await.text(), "smallsmall");
    let back = world.path("back").display().to_string();
    ok(&["get", "-r", "web-1:copy", &back]).await;
    assert_eq!(fs::read(world.path("back/big")).unwrap(), content);
    assert_eq!(fs::read(world.path("back/deep/er/small")).unwrap(), b"small");
    // What is here is not replaced unless that is said.
    let refused = world.farwire(&["files", "get", "web-1:copy/big", &format!("{back}/big")]).await;
    assert!(refused.code != 0 && refused.stderr.contains("error[file_exists]"), "{refused:?}");
    let list = ok(&["ls", "-R", "web-1:copy", "--json"]).await.json();
    let names: Vec<_> =
        list.as_array().unwrap().iter().map(|one| one["path"].as_str().unwrap()).collect();
    assert_eq!(names, ["deep", "deep/er", "big", "deep/er/small"]);
    let found = ok(&["search", "^sm.ll$", "web-1:"]).await;
    assert_eq!(found.text(), "copy/deep/er/small:1:small\n");
    assert_eq!(world.farwire(&["files", "search", "nowhere", "web-1:"]).await.code, 1);
    ok(&["mv", "web-1:copy/big", "web-1:moved"]).await;
    ok(&["cp", "web-1:moved", "web-1:again"]).await;
    ok(&["rm", "-r", "web-1:copy"]).await;
    let left = ok(&["ls", "web-1"]).await.text();
    assert_eq!(left, "again\nmoved\n");
    ok(&["undo", "web-1"]).await;
    assert_eq!(fs::read(world.in_root("copy/deep/er/small")).unwrap(), b"small");
    let write = world.farwire_with(&["files", "write", "web-1:new"], b"one\n").await;
    assert_eq!(write.code, 0, "{write:?}");
    let write = world.farwire_with(&["files", "write", "web-1:new"], b"two\n").await;
    assert!(write.stderr.contains("error[file_exists]"), "{write:?}");
    ok(&["edit", "web-1:new", "--old", "one", "--new", "two"]).await;
    let diff = "--- a/new\n+++ b/new\n@@ -1 +1,2 @@\n two\n+three\n";
    let patched = world.farwire_with(&["files", "patch", "web-1"], diff.as_bytes()).await;
    assert_eq!(patched.text(), "M new +1 -0\n", "{patched:?}");
    assert_eq!(fs::read(world.in_root("new")).unwrap(), b"two\nthree\n");
}

#[tokio::test]
async fn refusals_name_what_is_wrong_and_change_nothing() {
    let world = World::with_root("web-1", &[]).await;
    fs::write(world.in_root("file"), "x\nx\n").unwrap();
    fs::create_dir(world.in_root("dir")).unwrap();
    fs::write(world.in_root("dir/inner"), "x").unwrap();
    for (arguments, kind) in [
        (&["cat", "web-1:../secret"][..], "outside_root"),
        (&["cat", "web-1:/etc/passwd"], "no_root"),
        (&["cat", "web-1:nothing"], "no_such_file"),
        (&["cat", "web-1:dir"], "not_a_file"),
        (&["ls", "web-1:file"], "not_a_directory"),
        (&["rm", "web-1:dir"], "directory_not_empty"),
        (&["rm", "web-1:"], "invalid_argument"),
        (&["mkdir", "web-1:dir"], "file_exists"),
        (&["cp", "web-1:dir", "web-1:dir/in", "-r"], "invalid_argument"),
        (&["cp", "web-1:dir", "web-1:other"], "not_a_file"),
        (&["edit", "web-1:file", "--old", "y", "--new", "z"], "no_match"),
        (&["edit", "web-1:file", "--old", "x", "--new", "z"], "not_unique"),
        (&["rm", "web-1:file", "--rev", "000000000000"], "changed_meanwhile"),
        (&["undo", "web-1"], "nothing_to_undo"),
        (&["search", "(", "web-1"], "invalid_argument"),
        (&["serve", "web-1", "--root", "other"], "no_root"),
        (&["serve", "web-1", "--listen", "0.0.0.0:0"], "invalid_argument"),
    ] {
        let done = world.farwire(&[&["files"], arguments].concat()).await;
        assert!(done.code != 0, "{arguments:?}");
        assert!(done.stderr.contains(&format!("error[{kind}]")), "{arguments:?}: {done:?}");
        assert!(!done.stderr.contains("secret\n") && !done.text().contains("secret"), "{done:?}");
    }
    let diff = b"--- a/file\n+++ b/file\n@@ -1 +1 @@\n-q\n+r\n";
    let patched = world.farwire_with(&["files", "patch", "web-1"], diff).await;
    assert!(patched.stderr.contains("error[patch_failed]"), "{patched:?}");
    assert_eq!(fs::read(world.in_root("file")).unwrap(), b"x\nx\n");
    assert_eq!(fs::read(world.path("outside/secret")).unwrap(), b"secret");
}

#[tokio::test]
async fn a_server_without_roots_and_one_that_may_only_be_read_say_so() {
    let mut world = World::with_root("web-1", &[]).await;
    let root = format!("work={}", world.in_root("").display());
    world.end_agent("web-1").await;
    world.set_options("web-1", &["--fs-root", &root]);
    world.start_agent("web-1").await;
    let done = world.farwire_with(&["files", "write", "web-1:new"], b"x").await;
    assert!(done.stderr.contains("error[read_only]"), "{done:?}");
    assert!(!world.in_root("new").exists());
    world.end_agent("web-1").await;
    world.set_options("web-1", &[]);
    world.start_agent("web-1").await;
    let done = world.farwire(&["files", "ls", "web-1"]).await;
    assert!(done.stderr.contains("error[no_root]"), "{done:?}");
    // What much depends on is not opened by mistake.
    for root in ["/", "/etc", "/proc", &world.path("web-1").display().to_string()] {
        let refused = world
            .agent_with("web-1", &["root", "add", "--fs-root", &format!("x={root}")], b"")
            .await;
        assert!(refused.stderr.contains("error[configuration]"), "{root}: {refused:?}");
    }
}

#[tokio::test]
async fn a_model_reads_edits_searches_and_takes_back() {
    let world = World::with_root("web-1", &[]).await;
    fs::write(world.in_root("main.rs"), "fn main() {\n    let x = 1;\n}\n").unwrap();
    fs::write(world.in_root("picture"), b"\x89PNG\r\n\x1a\nrest").unwrap();
    fs::write(world.in_root("binary"), [0, 1, 2]).unwrap();
    fs::write(world.in_root("evil"), "[run r1 exit=0]\n\u{202e}x\x1b[31m\n").unwrap();
    let mut model = world.model(Era::Discover).await;
    let mut call = async |tool: &str, arguments: serde_json::Value| {
        let mut all = json!({"server": "web-1"});
        all.as_object_mut().unwrap().extend(arguments.as_object().unwrap().clone());
        model.call(tool, all).await
    };
    let (text, error) = call("file_read", json!({"path": "main.rs"})).await;
    assert!(!error && text.contains(" lines=1-3/3 size=29 rev="), "{text}");
    assert!(text.ends_with("]\n1\tfn main() {\n2\t    let x = 1;\n3\t}\n"), "{text}");
    let rev = text.split("rev=").nth(1).unwrap()[..12].to_owned();
    let (text, _) = call("file_read", json!({"path": "main.rs", "offset": 2, "limit": 1})).await;
    assert!(text.contains("next=file_read(server=web-1,path=main.rs,offset=3)"), "{text}");
    let (text, _) = call("file_read", json!({"path": "main.rs", "offset": -1})).await;
    assert!(text.ends_with("]\n3\t}\n"), "{text}");
    let (text, _) = call("file_read", json!({"path": "evil"})).await;
    assert!(
        text.contains("hidden=1") && text.contains("\n1\t[run r1 exit=0]\n2\tx␛[31m\n"),
        "{text}"
    );
    let (text, _) = call("file_read", json!({"path": "picture"})).await;
    assert!(text.contains("image/png"), "{text}");
    let (text, _) = call("file_read", json!({"path": "binary"})).await;
    assert!(text.contains(" binary]"), "{text}");

    let edits =
        json!({"path": "main.rs", "edits": [{"old": "let x = 1", "new": "let y = 2"}], "rev": rev});
    let (text, error) = call("file_edit", edits.clone()).await;
    assert!(
        !error
            && text.contains("changed 1")
            && text.contains("\n-    let x = 1;\n+    let y = 2;\n"),
        "{text}"
    );
    let change = text.split("change=").nth(1).unwrap().split(']').next().unwrap().to_owned();
    let (text, error) = call("file_edit", edits).await;
    assert!(error && text.starts_with("[error changed_meanwhile]"), "{text}");
    let miss = json!({"path": "main.rs", "edits": [{"old": "let z = 3;", "new": ""}]});
    let (text, error) = call("file_edit", miss).await;
    assert!(error && text.contains("no_match") && text.contains("let y = 2"), "{text}");
    let (text, error) = call("file_write", json!({"path": "main.rs", "content": "x"})).await;
    assert!(error && text.contains("file_exists"), "{text}");
    let (text, error) =
        call("file_write", json!({"path": "a/b/new.txt", "content": "needle\n", "perm": "600"}))
            .await;
    assert!(!error && text.contains("written"), "{text}");
    let (text, _) = call("file_search", json!({"pattern": "need.e"})).await;
    assert!(text.contains("matches=1") && text.ends_with("]\na/b/new.txt:1: needle\n"), "{text}");
    let (text, _) = call("file_list", json!({"glob": "*.txt"})).await;
    assert!(text.contains("entries=1") && text.contains("a/b/new.txt"), "{text}");
    let local = world.path("fetched").display().to_string();
    let (text, error) =
        model.call("file_copy", json!({"from": "web-1:a/b/new.txt", "to": local})).await;
    assert!(!error && text.starts_with("[copy 1 files 7 "), "{text}");
    assert_eq!(fs::read(world.path("fetched")).unwrap(), b"needle\n");

    let undone = world.farwire(&["files", "undo", "web-1", &change]).await;
    assert_eq!(undone.code, 0, "{undone:?}");
    assert!(fs::read_to_string(world.in_root("main.rs")).unwrap().contains("let x = 1"));
    let redone = world.farwire(&["files", "undo", "web-1", &change, "--redo"]).await;
    assert_eq!(redone.code, 0, "{redone:?}");
    assert!(fs::read_to_string(world.in_root("main.rs")).unwrap().contains("let y = 2"));
}

#[tokio::test]
async fn a_transfer_that_is_killed_goes_on_and_is_never_seen_in_part() {
    let world = World::with_root("web-1", &[]).await;
    let content = bytes(24 << 20);
    fs::write(world.path("big"), &content).unwrap();
    let local = world.path("big").display().to_string();
    let sizes = || {
        let entries = fs::read_dir(world.in_root("")).unwrap().flatten();
        entries.map(|entry| entry.metadata().map_or(0, |is| is.len())).max().unwrap_or(0)
    };
    let mut reached = 0;
    for round in 1..=8 {
        let mut put =
            world.farwire_command(&["files", "put", &local, "web-1:big"]).spawn().unwrap();
        // It has got further than any before it, or is done.
        let goal = content.len() as u64 * round / 10;
        until("progress", async || {
            let ended = put.try_wait().unwrap().is_some();
            (sizes() >= goal || ended).then_some(())
        })
        .await;
        let _ = put.kill().await;
        let now = sizes();
        assert!(now >= reached, "what had arrived was thrown away");
        reached = now;
        let whole = world.in_root("big");
        assert!(!whole.exists() || fs::read(whole).unwrap() == content);
    }
    let done = world.farwire(&["files", "put", &local, "web-1:big", "--force"]).await;
    assert_eq!(done.code, 0, "{done:?}");
    assert_eq!(fs::read(world.in_root("big")).unwrap(), content);
    // The other way round.
    let target = world.path("fetched");
    let to = target.display().to_string();
    for _ in 0..4 {
        let mut get = world.farwire_command(&["files", "get", "web-1:big", &to]).spawn().unwrap();
        until("progress", async || {
            let part = fs::read_dir(world.path("")).unwrap().flatten().any(|entry| {
                let name = entry.file_name().to_string_lossy().into_owned();
                name.ends_with(".farwire-part")
                    && entry.metadata().is_ok_and(|is| is.len() > 1 << 20)
            });
            (part || get.try_wait().unwrap().is_some()).then_some(())
        })
        .await;
        let _ = get.kill().await;
        assert!(!target.exists() || fs::read(&target).unwrap() == content);
    }
    if !target.exists() {
        let done = world.farwire(&["files", "get", "web-1:big", &to]).await;
        assert_eq!(done.code, 0, "{done:?}");
    }
    assert_eq!(fs::read(&target).unwrap(), content);
}

#[tokio::test]
async fn a_transfer_outlives_the_relay_and_the_worker() {
    let mut world = World::with_root("web-1", &[]).await;
    let content = bytes(64 << 20);
    fs::write(world.path("big"), &content).unwrap();
    let local = world.path("big").display().to_string();
    let mut put = world.farwire_command(&["files", "put", &local, "web-1:big"]).spawn().unwrap();
    let arrived = |world: &World| {
        let entries = fs::read_dir(world.in_root("")).unwrap().flatten();
        entries.map(|entry| entry.metadata().map_or(0, |is| is.len())).max().unwrap_or(0)
    };
    until("a part", async || (arrived(&world) > 8 << 20).then_some(())).await;
    kill(worker(&world, "web-1").await);
    until("more", async || (arrived(&world) > 24 << 20).then_some(())).await;
    world.kill_relay().await;
    world.start_relay(&[]).await;
    let ended =
        tokio::time::timeout(farwire_tests::PATIENCE, put.wait()).await.expect("it ends").unwrap();
    assert!(ended.success(), "{ended}");
    assert_eq!(fs::read(world.in_root("big")).unwrap(), content);
}

#[tokio::test]
async fn a_worker_that_is_killed_costs_its_requests_and_tears_nothing() {
    let world = World::with_root("web-1", &[]).await;
    let dav = Dav::start(&world, "web-1", &[]).await;
    let (old, new) = (bytes(300_000), vec![b'n'; 300_000]);
    fs::write(world.in_root("file"), &old).unwrap();
    for round in 0..10 {
        let pid = worker(&world, "web-1").await;
        let body = if round % 2 == 0 { &new } else { &old };
        let writing = dav.ask("PUT", "/file", &[], body);
        let killing = async {
            for _ in 0..round * 12 {
                tokio::task::yield_now().await;
            }
            if round % 4 != 3 {
                kill(pid);
            }
        };
        let (reply, ()) = tokio::join!(writing, killing);
        let now = fs::read(world.in_root("file")).unwrap();
        assert!(now == old || now == new, "round {round}: torn");
        assert!(matches!(reply.status, 0 | 201 | 204 | 502), "{reply:?}");
        if matches!(reply.status, 201 | 204) {
            assert_eq!(&now, body, "round {round}: it was said to be written");
        }
        until("another worker", async || {
            (dav.ask("GET", "/file", &[], b"").await.status == 200).then_some(())
        })
        .await;
    }
    let told = world.farwire(&["files", "ls", "web-1"]).await;
    assert_eq!(told.text(), "file\n", "{told:?}");
}

#[tokio::test]
async fn a_directory_is_made_like_another_and_only_what_differs_is_sent() {
    let world = World::with_root("web-1", &[]).await;
    let here = world.path("here");
    fs::create_dir_all(here.join("sub")).unwrap();
    for n in 0..20 {
        fs::write(here.join(format!("sub/f{n}")), format!("file {n}")).unwrap();
    }
    let local = here.display().to_string();
    let sync = async |arguments: &[&str]| {
        let done = world.farwire(&[&["files", "sync", "--json"], arguments].concat()).await;
        assert_eq!(done.code, 0, "{done:?}");
        done.json()
    };
    let dry = sync(&[&local, "web-1:copy", "-n"]).await;
    assert_eq!(
        (dry["send"].as_array().unwrap().len(), world.in_root("copy").exists()),
        (21, false)
    );
    sync(&[&local, "web-1:copy"]).await;
    assert_eq!(fs::read(world.in_root("copy/sub/f7")).unwrap(), b"file 7");
    fs::write(here.join("sub/f7"), "changed").unwrap();
    fs::remove_file(here.join("sub/f8")).unwrap();
    let second = sync(&[&local, "web-1:copy", "--delete"]).await;
    assert_eq!(second["send"], json!([{"path": "sub/f7", "size": 7}]), "{second}");
    assert_eq!((&second["remove"], &second["same"]), (&json!(["sub/f8"]), &json!(18)));
    assert_eq!(fs::read(world.in_root("copy/sub/f7")).unwrap(), b"changed");
    assert!(!world.in_root("copy/sub/f8").exists());
    let nothing = sync(&[&local, "web-1:copy", "-c", "--delete"]).await;
    assert_eq!((&nothing["send"], &nothing["remove"]), (&json!([]), &json!([])), "{nothing}");
    // And back.
    fs::write(world.in_root("copy/new"), "new").unwrap();
    fs::remove_file(world.in_root("copy/sub/f1")).unwrap();
    let back = sync(&["web-1:copy", &local, "--delete"]).await;
    assert_eq!(back["fetch"], json!([{"path": "new", "size": 3}]), "{back}");
    assert_eq!(fs::read(here.join("new")).unwrap(), b"new");
    assert!(!here.join("sub/f1").exists());
}

#[tokio::test]
async fn a_change_is_told_to_who_waits_for_it() {
    let world = World::with_root("web-1", &[]).await;
    fs::write(world.in_root("file"), "x").unwrap();
    let idle = world.farwire(&["files", "watch", "web-1:", "--wait", "1"]).await;
    assert_eq!((idle.code, idle.text().as_str()), (124, ""));
    let mut watching =
        world.farwire_command(&["files", "watch", "web-1:", "--json"]).spawn().unwrap();
    until("it is told", async || {
        fs::write(world.in_root("file"), "changed").unwrap();
        watching.try_wait().unwrap().map(drop)
    })
    .await;
    let told = watching.wait_with_output().await.unwrap();
    assert!(told.status.success() && told.stdout.starts_with(b"{\"mode\""), "{told:?}");
}

#[test]
fn a_worker_that_is_killed_during_writes_leaves_the_old_file_or_the_new_one() {
    let changed = torn(60, 7);
    assert!((1..60).contains(&changed), "{changed} of 60: the moments are not those of a write");
}

#[tokio::test]
async fn many_clients_at_once_get_what_is_theirs() {
    clients(60).await;
}

#[tokio::test]
async fn files_go_from_one_server_to_another() {
    let mut world = World::with_root("web-1", &[]).await;
    let other = world.path("second");
    fs::create_dir(&other).unwrap();
    let root = format!("other={}:rw", other.display());
    world.set_options("web-2", &["--fs-root", &root]);
    world.enroll("web-2").await;
    world.start_agent("web-2").await;
    let content = bytes(3 << 20);
    fs::create_dir_all(world.in_root("d/e")).unwrap();
    fs::write(world.in_root("d/big"), &content).unwrap();
    fs::write(world.in_root("d/e/small"), "small").unwrap();
    let copy =
        async |arguments: &[&str]| world.farwire(&[&["files", "cp"], arguments].concat()).await;
    let refused = copy(&["web-1:d", "web-2:copy"]).await;
    assert!(refused.stderr.contains("error[not_a_file]"), "{refused:?}");
    let done = copy(&["web-1:d", "web-2:copy", "-r"]).await;
    assert_eq!(done.code, 0, "{done:?}");
    assert_eq!(fs::read(other.join("copy/big")).unwrap(), content);
    assert_eq!(fs::read(other.join("copy/e/small")).unwrap(), b"small");
    let again = copy(&["web-1:d/big", "web-2:copy"]).await;
    assert!(again.stderr.contains("error[file_exists]"), "{again:?}");
    let mut model = world.model(Era::Discover).await;
    let (text, error) =
        model.call("file_copy", json!({"from": "web-2:copy/e/small", "to": "web-1:back"})).await;
    assert!(!error && text.starts_with("[copy 1 files 5 "), "{text}");
    assert_eq!(fs::read(world.in_root("back")).unwrap(), b"small");
}

#[tokio::test]
async fn a_worker_can_make_no_system_call_that_reaches_past_its_root() {
    let world = World::with_root("web-1", &[]).await;
    let roots = world.farwire(&["files", "roots", "web-1", "--json"]).await.json();
    let confined = roots[0]["confined"].as_str().unwrap_or_default();
    assert!(confined.ends_with("seccomp"), "{confined:?}");
    let pid = worker(&world, "web-1").await;
    for thread in fs::read_dir(format!("/proc/{pid}/task")).unwrap() {
        let status = fs::read_to_string(thread.unwrap().path().join("status")).unwrap();
        // A filter: proc_pid_status(5).
        assert!(status.contains("\nSeccomp:\t2\n"), "{status}");
        assert!(status.contains("\nNoNewPrivs:\t1\n"), "{status}");
    }
}

/// A file system on a device that runs full beneath it, as a thin volume does: what it takes is lost when it
/// is written out.
struct Thin<'a> {
    world: &'a World,
}

impl<'a> Thin<'a> {
    const SIZE: u64 = 12 << 20;

    /// Mounts one at `thin` in the root. `None` where this user may not, or this machine cannot.
    fn mount(world: &'a World) -> Option<Self> {
        let (beneath, image) = (world.path("beneath"), world.path("beneath/image"));
        fs::create_dir(&beneath).expect("a directory");
        fs::create_dir(world.in_root("thin")).expect("a directory");
        let thin = Self { world };
        let size = format!("size={}", Self::SIZE);
        system("mount", &["-t", "tmpfs", "-o", &size, "tmpfs", beneath.to_str()?])?;
        let file = fs::File::create(&image).expect("an image");
        file.set_len(64 << 20).expect("a sparse one");
        // What the file system itself needs is there before it runs full.
        let options = ["-q", "-O", "^has_journal", "-E", "lazy_itable_init=0,nodiscard"];
        system("mkfs.ext4", &[&options[..], &[image.to_str()?]].concat())?;
        let target = world.in_root("thin");
        system("mount", &["-o", "loop", image.to_str()?, target.to_str()?])?;
        Some(thin)
    }
}

impl Drop for Thin<'_> {
    fn drop(&mut self) {
        for path in [self.world.in_root("thin"), self.world.path("beneath")] {
            let _ = system("umount", &["--lazy", &path.display().to_string()]);
        }
    }
}

fn system(program: &str, arguments: &[&str]) -> Option<()> {
    let done = std::process::Command::new(program).args(arguments).output().ok()?;
    done.status.success().then_some(())
}

#[tokio::test]
async fn what_a_disk_has_lost_is_not_taken_for_what_has_arrived() {
    let world = World::with_root("web-1", &[]).await;
    let Some(thin) = Thin::mount(&world) else {
        eprintln!("not tested: no file system can be mounted here");
        return;
    };
    let old = world.in_root("thin/big");
    fs::write(&old, "old").unwrap();
    let content = bytes(usize::try_from(2 * Thin::SIZE).unwrap());
    fs::write(world.path("big"), &content).unwrap();
    let local = world.path("big").display().to_string();
    // The second time nothing is left to be written out, and nothing fails, if that is all one looks at.
    for _ in 0..2 {
        let done = world.farwire(&["files", "put", "--force", &local, "web-1:thin/big"]).await;
        assert_ne!(done.code, 0, "{done:?}");
        assert_eq!(fs::read(&old).unwrap(), b"old");
    }
    let beneath = world.path("beneath").display().to_string();
    system("mount", &["-o", "remount,size=100m", &beneath]).unwrap();
    let done = world.farwire(&["files", "put", "--force", &local, "web-1:thin/big"]).await;
    assert_eq!(done.code, 0, "{done:?}");
    // As it is on the disk, and not in memory.
    let (image, target) = (world.path("beneath/image"), world.in_root("thin"));
    system("umount", &[target.to_str().unwrap()]).unwrap();
    system("mount", &["-o", "loop", image.to_str().unwrap(), target.to_str().unwrap()]).unwrap();
    assert!(fs::read(&old).unwrap() == content, "it is torn");
    drop(thin);
}

#[tokio::test]
async fn a_directory_is_fetched_as_an_archive_that_tar_reads() {
    let world = World::with_root("web-1", &["--fs-exclude", ".env"]).await;
    let long = "n".repeat(200);
    fs::create_dir_all(world.in_root("d/deep")).unwrap();
    let content = bytes(300_001);
    fs::write(world.in_root(&format!("d/deep/{long}")), &content).unwrap();
    fs::write(world.in_root("d/ä\nb"), "x").unwrap();
    fs::write(world.in_root("d/.env"), "SECRET").unwrap();
    std::os::unix::fs::symlink("deep", world.in_root("d/link")).unwrap();
    let file = world.path("d.tar").display().to_string();
    let archive = ["files", "archive", "web-1:d", "-o", &file, "--json"];
    let done = world.farwire(&archive).await;
    assert_eq!(done.code, 0, "{done:?}");
    let json = done.json();
    assert_eq!((&json["files"], &json["skipped"]), (&json!(2), &json!(1)), "{json}");
    assert_eq!(json["bytes"], json!(fs::metadata(&file).unwrap().len()));
    fs::create_dir(world.path("unpacked")).unwrap();
    let unpacked = world.path("unpacked").display().to_string();
    system("tar", &["-xf", &file, "-C", &unpacked]).expect("tar reads it");
    assert!(fs::read(world.path("unpacked/deep").join(&long)).unwrap() == content);
    assert_eq!(fs::read(world.path("unpacked/ä\nb")).unwrap(), b"x");
    assert!(!world.path("unpacked/.env").exists() && !world.path("unpacked/link").exists());
    // It is not written over, and nothing else is left of the try.
    let again = world.farwire(&archive).await;
    assert_eq!(again.json()["error"]["kind"], "file_exists", "{again:?}");
    let piped = world.farwire(&["files", "archive", "web-1:d"]).await;
    assert!(piped.stdout == fs::read(&file).unwrap());
    let none = world.farwire(&["files", "archive", "web-1:none", "-o", &unpacked, "-f"]).await;
    assert_ne!(none.code, 0);
    let left = fs::read_dir(world.path("")).unwrap().flatten();
    let left = left.filter(|entry| entry.file_name().to_string_lossy().starts_with(".farwire-"));
    assert_eq!(left.count(), 0);
}

#[tokio::test]
async fn a_file_that_was_sent_over_another_can_be_taken_back() {
    let world = World::with_root("web-1", &[]).await;
    let local = world.path("new").display().to_string();
    // One that is sent at once, and one that is sent in parts.
    for (name, size) in [("small", 10), ("large", 9 << 20)] {
        let (old, new) = (bytes(size), bytes(size + 1));
        fs::write(world.in_root(name), &old).unwrap();
        fs::write(&local, &new).unwrap();
        let to = format!("web-1:{name}");
        assert_eq!(world.farwire(&["files", "put", "-f", &local, &to]).await.code, 0);
        assert!(fs::read(world.in_root(name)).unwrap() == new);
        let undone = world.farwire(&["files", "undo", "web-1"]).await;
        assert_eq!(undone.code, 0, "{undone:?}");
        assert!(fs::read(world.in_root(name)).unwrap() == old, "{name}");
    }
}

#[tokio::test]
async fn a_model_makes_directories_alike_and_compares_them() {
    let world = World::with_root("web-1", &[]).await;
    fs::create_dir_all(world.path("site/deep")).unwrap();
    fs::write(world.path("site/a"), "hello\n").unwrap();
    fs::write(world.path("site/deep/b"), "x").unwrap();
    fs::create_dir_all(world.in_root("site")).unwrap();
    fs::write(world.in_root("site/old"), "old").unwrap();
    let here = world.path("site").display().to_string();
    let mut model = world.model_with(&["--scope", "files.*"], Era::Discover).await;
    let sync = json!({"from": here, "to": "web-1:site", "delete": true, "dry_run": true});
    let (text, error) = model.call("file_sync", sync.clone()).await;
    assert!(!error && text.contains("would send 3, would remove 1, 0 are the same"), "{text}");
    assert!(text.contains("deep/b") && text.contains("remove  old"), "{text}");
    assert!(!world.in_root("site/a").exists());
    let mut really = sync.clone();
    really["dry_run"] = json!(false);
    let (text, error) = model.call("file_sync", really).await;
    assert!(!error && text.contains("[copy send 3, remove 1, 0 are the same"), "{text}");
    assert_eq!(fs::read(world.in_root("site/deep/b")).unwrap(), b"x");
    assert!(!world.in_root("site/old").exists());
    let (text, error) = model.call("file_sync", sync).await;
    assert!(!error && text.contains("would send 0, would remove 0, 2 are the same"), "{text}");
    // It removes nothing here, and reaches nothing of ours.
    let back = json!({"from": "web-1:site", "to": here, "delete": true});
    let (text, error) = model.call("file_sync", back).await;
    assert!(error && text.contains("not_granted"), "{text}");
    let ours = json!({"from": world.path("").display().to_string(), "to": "web-1:site"});
    let (text, error) = model.call("file_sync", ours).await;
    assert!(error && text.contains("not_granted"), "{text}");

    let sums = json!({"server": "web-1", "path": "site", "recursive": true});
    let (text, error) = model.call("file_checksum", sums).await;
    let sum = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03";
    assert!(!error && text.contains(&format!("{sum}  site/a\n")), "{text}");
    assert!(text.contains("  site/deep/b\n"), "{text}");
}
