//! What shells are started with.

use super::*;

fn user(shell: &str) -> User {
    User {
        name: "ann".into(),
        uid: 1000,
        gid: 1000,
        home: "/home/ann".into(),
        shell: shell.into(),
        groups: vec![1000],
    }
}

#[test]
fn a_shell_that_cannot_be_started_is_replaced() {
    for shell in ["", "/nowhere/bash", "relative", "/etc/passwd"] {
        let login = login(&user(shell), Path::new("/files"), "n");
        assert_eq!(login.argv, ["/bin/sh", "-l", "-i"], "{shell}");
        assert!(!login.marks && login.env.is_empty());
    }
}

#[test]
fn the_nonce_is_in_no_argument_and_in_no_file() {
    let directory = tempfile::tempdir().unwrap();
    for name in ["bash", "zsh", "fish"] {
        let shell = directory.path().join(name);
        fs::write(&shell, "").unwrap();
        fs::set_permissions(&shell, fs::Permissions::from_mode(0o755)).unwrap();
        let login = login(&user(shell.to_str().unwrap()), Path::new("/files"), "s3cret");
        assert!(login.marks);
        assert!(login.argv.iter().all(|text| !text.to_string_lossy().contains("s3cret")));
        assert!(login.env.iter().any(|(_, value)| value == "s3cret"));
    }
}

#[test]
fn files_can_be_read_by_every_user() {
    let state = tempfile::tempdir().unwrap();
    let directory = prepare(state.path()).unwrap();
    prepare(state.path()).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&directory), 0o755);
    let names: Vec<_> = fs::read_dir(&directory).unwrap().map(|one| one.unwrap().path()).collect();
    assert_eq!(names.len(), FILES.len());
    assert!(names.iter().all(|path| mode(path) == 0o644));
}
