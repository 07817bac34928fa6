//! Locks under a clock that is set by hand.

use std::sync::atomic::{AtomicU64, Ordering};

use super::*;

fn rel(path: &str) -> Rel {
    Rel::parse(path.as_bytes()).unwrap()
}

fn request(path: &str, deep: bool, shared: bool) -> LockRequest {
    LockRequest { path: rel(path), deep, shared, owner: None, lasts: None }
}

fn clock() -> (Arc<AtomicU64>, Locks) {
    let time = Arc::new(AtomicU64::new(0));
    let shown = time.clone();
    let locks =
        Locks::with_clock(Arc::new(move || Duration::from_millis(shown.load(Ordering::Relaxed))));
    (time, locks)
}

#[test]
fn a_lock_is_gone_when_its_time_is_over() {
    let (time, locks) = clock();
    let second = Some(Duration::from_secs(1));
    let lock = locks.lock(LockRequest { lasts: second, ..request("a", false, false) }).unwrap();
    time.store(999, Ordering::Relaxed);
    assert!(locks.hinder(&rel("a"), Touch::default(), &[]).is_some());
    assert!(locks.has_token(&rel("a"), &lock.token));
    time.store(1_000, Ordering::Relaxed);
    assert!(locks.hinder(&rel("a"), Touch::default(), &[]).is_none());
    assert!(locks.refresh(&rel("a"), &lock.token, second).is_none());
    assert!(!locks.unlock(&rel("a"), &lock.token));
    let forever = Some(Duration::from_secs(1 << 40));
    let lock = locks.lock(LockRequest { lasts: forever, ..request("a", false, false) }).unwrap();
    assert_eq!(lock.time_left(locks.now()), LONGEST);
}

#[test]
fn a_refreshed_lock_lasts_from_then_on() {
    let (time, locks) = clock();
    let lock = locks.lock(request("a", true, false)).unwrap();
    time.store(500_000, Ordering::Relaxed);
    assert!(locks.refresh(&rel("a/b"), &lock.token, None).is_some());
    assert!(locks.refresh(&rel("b"), &lock.token, None).is_none());
    time.store(1_099_000, Ordering::Relaxed);
    assert!(locks.has_token(&rel("a/b/c"), &lock.token));
    time.store(1_100_000, Ordering::Relaxed);
    assert!(!locks.has_token(&rel("a"), &lock.token));
}

#[test]
fn locks_exclude_each_other_along_the_path() {
    let (_, locks) = clock();
    let lock = locks.lock(request("a/b", true, false)).unwrap();
    for (path, deep, possible) in [
        ("a", false, true),
        ("c", true, true),
        ("a", true, false),
        ("a/b", false, false),
        ("a/b/c", false, false),
        ("a/bc", true, true),
    ] {
        let made = locks.lock(request(path, deep, true));
        assert_eq!(made.is_ok(), possible, "{path} {deep}");
        if let Ok(made) = made {
            locks.unlock(&rel(path), &made.token);
        }
    }
    let shared = locks.lock(request("s", false, true)).unwrap();
    let other = locks.lock(request("s", false, true)).unwrap();
    assert!(locks.lock(request("s", false, false)).is_err());
    assert_ne!(shared.token, other.token);
    assert!(locks.hinder(&rel("s"), Touch::default(), &[other.token]).is_none());
    assert!(locks.hinder(&rel("s"), Touch::default(), &[lock.token]).is_some());
}

#[test]
fn a_directory_is_changed_by_what_comes_and_goes_in_it() {
    let (_, locks) = clock();
    let lock = locks.lock(request("a", false, false)).unwrap();
    let name = Touch { name: true, deep: false };
    let deep = Touch { name: true, deep: true };
    assert!(locks.hinder(&rel("a/b"), Touch::default(), &[]).is_none());
    assert_eq!(locks.hinder(&rel("a/b"), name, &[]), Some(rel("a")));
    assert!(locks.hinder(&rel("a/b/c"), name, &[]).is_none());
    assert!(locks.hinder(&rel("a/b"), name, &[lock.token]).is_none());
    locks.lock(request("d/e/f", false, false)).unwrap();
    assert_eq!(locks.hinder(&rel("d"), deep, &[]), Some(rel("d/e/f")));
    locks.forget(&rel("d/e"));
    assert!(locks.hinder(&rel("d"), deep, &[]).is_none());
}

#[test]
fn there_are_only_so_many() {
    let (time, locks) = clock();
    for number in 0..COUNT {
        locks.lock(request(&format!("f{number}"), false, false)).unwrap();
    }
    assert!(locks.are_full() && locks.lock(request("more", false, false)).is_err());
    time.store(600_000, Ordering::Relaxed);
    assert!(!locks.are_full() && locks.lock(request("more", false, false)).is_ok());
    assert!(new_token().unwrap().len() == 45 && format!("{locks:?}").contains("count: 1"));
}
