//! Files when a process ends, something breaks, or many act at once.

use std::fs;

use farwire_tests::dav::Dav;
use farwire_tests::trials::files::{bytes, clients, torn};
use farwire_tests::world::{children, kill, program_file};
use farwire_tests::{PATIENCE, World, system, until};
use tokio::io::AsyncReadExt as _;
use tokio::time::timeout;

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
    // The other direction.
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
async fn a_root_that_is_replaced_or_made_again_is_noticed() {
    let world = World::with_root("web-1", &[]).await;
    let (root, old) = (world.path("outside/root"), world.path("outside/old"));
    let shown = async || world.farwire(&["files", "cat", "web-1:f"]).await.text();
    fs::write(root.join("f"), "v1").unwrap();
    assert_eq!(shown().await, "v1");
    fs::rename(&root, &old).unwrap();
    fs::create_dir(&root).unwrap();
    fs::write(root.join("f"), "v2").unwrap();
    assert_eq!(shown().await, "v2");
    let done = world.farwire_with(&["files", "write", "web-1:g"], b"new").await;
    assert_eq!(done.code, 0, "{done:?}");
    assert_eq!(fs::read(root.join("g")).unwrap(), b"new");
    assert!(!old.join("g").exists());
    fs::remove_dir_all(&root).unwrap();
    let done = world.farwire(&["files", "ls", "web-1:"]).await;
    assert_ne!(done.code, 0, "{done:?}");
    fs::create_dir(&root).unwrap();
    fs::write(root.join("f"), "v3").unwrap();
    assert_eq!(shown().await, "v3");
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
    let ended = timeout(PATIENCE, put.wait()).await.expect("it ends").unwrap();
    assert!(ended.success(), "{ended}");
    assert_eq!(fs::read(world.in_root("big")).unwrap(), content);
}

#[tokio::test]
async fn what_is_printed_goes_on_where_it_broke_off() {
    let mut world = World::with_root("web-1", &[]).await;
    let content = bytes(48 << 20);
    fs::write(world.in_root("big"), &content).unwrap();
    let mut cat = world.farwire_command(&["files", "cat", "web-1:big"]).spawn().unwrap();
    let mut out = cat.stdout.take().unwrap();
    let mut printed = vec![0; 32 << 20];
    // Nothing more is printed before it is read.
    out.read_exact(&mut printed[..1 << 20]).await.unwrap();
    world.kill_agent("web-1").await;
    world.start_agent("web-1").await;
    out.read_exact(&mut printed[1 << 20..]).await.unwrap();
    world.kill_relay().await;
    world.start_relay(&[]).await;
    out.read_to_end(&mut printed).await.unwrap();
    let output = timeout(PATIENCE, cat.wait_with_output()).await.expect("it ends").unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(printed == content, "{} bytes", printed.len());
}

#[tokio::test]
async fn what_is_printed_is_never_of_two_files() {
    let mut world = World::with_root("web-1", &[]).await;
    let content = bytes(48 << 20);
    fs::write(world.in_root("big"), &content).unwrap();
    let mut cat = world.farwire_command(&["files", "cat", "web-1:big"]).spawn().unwrap();
    let mut out = cat.stdout.take().unwrap();
    let mut printed = vec![0; 1 << 20];
    out.read_exact(&mut printed).await.unwrap();
    world.kill_agent("web-1").await;
    fs::write(world.in_root("big"), vec![b'x'; 48 << 20]).unwrap();
    world.start_agent("web-1").await;
    out.read_to_end(&mut printed).await.unwrap();
    let output = timeout(PATIENCE, cat.wait_with_output()).await.expect("it ends").unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("error[changed_meanwhile]") && !said.contains("session"), "{said}");
    assert!(content.starts_with(&printed) && printed.len() < content.len());
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

/// A file system on a device that runs full beneath it, as a thin volume does: data that it has
/// accepted is lost during writeback.
struct Thin<'a> {
    world: &'a World,
}

impl<'a> Thin<'a> {
    const SIZE: u64 = 12 << 20;

    /// Mounts one at `thin` in the root. `None` if this user may not, or this machine cannot.
    fn mount(world: &'a World) -> Option<Self> {
        let (beneath, image) = (world.path("beneath"), world.path("beneath/image"));
        fs::create_dir(&beneath).expect("a directory");
        fs::create_dir(world.in_root("thin")).expect("a directory");
        let thin = Self { world };
        let size = format!("size={}", Self::SIZE);
        system("mount", &["-t", "tmpfs", "-o", &size, "tmpfs", beneath.to_str()?])?;
        let file = fs::File::create(&image).expect("an image");
        file.set_len(64 << 20).expect("a sparse one");
        // The metadata of the file system is allocated before the device runs full.
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

#[tokio::test]
async fn what_a_disk_has_lost_is_not_taken_for_what_has_arrived() {
    let world = World::with_root("web-1", &[]).await;
    let Some(thin) = Thin::mount(&world) else {
        eprintln!("skipped: no file system can be mounted here");
        return;
    };
    let old = world.in_root("thin/big");
    fs::write(&old, "old").unwrap();
    let content = bytes(usize::try_from(2 * Thin::SIZE).unwrap());
    fs::write(world.path("big"), &content).unwrap();
    let local = world.path("big").display().to_string();
    // The second time nothing is left to be written back, so that a sync alone reports no failure.
    for _ in 0..2 {
        let done = world.farwire(&["files", "put", "--force", &local, "web-1:thin/big"]).await;
        assert_ne!(done.code, 0, "{done:?}");
        assert_eq!(fs::read(&old).unwrap(), b"old");
    }
    let beneath = world.path("beneath").display().to_string();
    system("mount", &["-o", "remount,size=100m", &beneath]).unwrap();
    let done = world.farwire(&["files", "put", "--force", &local, "web-1:thin/big"]).await;
    assert_eq!(done.code, 0, "{done:?}");
    // The content on disk, and not in memory.
    let (image, target) = (world.path("beneath/image"), world.in_root("thin"));
    system("umount", &[target.to_str().unwrap()]).unwrap();
    system("mount", &["-o", "loop", image.to_str().unwrap(), target.to_str().unwrap()]).unwrap();
    assert!(fs::read(&old).unwrap() == content, "it is torn");
    drop(thin);
}

#[test]
fn a_process_that_the_agent_starts_needs_nothing_of_its_environment() {
    use std::os::unix::process::CommandExt as _;
    for helper in ["file-worker", "holder"] {
        let mut command = std::process::Command::new(program_file("farwire-agent"));
        command.arg(helper).env_clear().current_dir("/").stdin(std::process::Stdio::null());
        // Only a process that is not root has to look for a home directory.
        if rustix::process::geteuid().is_root() {
            command.uid(65_534);
        }
        let done = match command.output() {
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
                eprintln!("skipped: the programs are where only root can start them");
                return;
            }
            done => done.unwrap(),
        };
        let said = String::from_utf8_lossy(&done.stderr);
        // It looks for its socket, which does not exist.
        assert!(said.contains("error[io]"), "{helper}: {said}");
    }
}
