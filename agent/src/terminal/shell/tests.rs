//! What shells are started with.

use super::*;

#[test]
fn the_nonce_is_in_no_argument_and_in_no_file() {
    for name in ["bash", "zsh", "fish"] {
        let login = login(&Path::new("/bin").join(name), Path::new("/files"), "s3cret");
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
