//! What people, models, files and networks hand in that they should not, through the real programs.
//!
//! Each test is one family. A refusal names its kind, the object and the next step on two lines
//! that hold no control characters; nothing panics, and what worked before goes on working.

mod clocks;
mod faults;
mod runs;
mod tokens;

use farwire_tests::Done;

/// It was refused with this code and this kind, in a form that people and programs can read.
fn refused(done: &Done, code: i32, kind: &str) {
    said(&done.stderr, kind);
    assert_eq!(done.code, code, "{done:?}");
}

/// This is how a refusal is told.
fn said(stderr: &str, kind: &str) {
    assert!(!stderr.contains("panicked"), "{stderr}");
    let mut lines = stderr.lines().skip_while(|line| !line.starts_with("error["));
    let (error, hint) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    assert!(error.starts_with(&format!("error[{kind}]: ")), "not {kind}: {stderr}");
    assert!(hint.starts_with("hint: ") && hint.len() > 10, "no next step: {stderr}");
    assert!(!error.chars().chain(hint.chars()).any(char::is_control), "{stderr:?}");
    assert!(error.len() < 2_200, "{stderr}");
}

/// The arguments were turned away before anything was done.
fn misused(done: &Done, code: i32, word: &str) {
    assert_eq!(done.code, code, "{done:?}");
    assert!(done.stderr.starts_with("error: ") && done.stderr.contains(word), "{}", done.stderr);
    assert!(!done.stderr.contains("panicked"), "{}", done.stderr);
}
