//! Comments that are wider than the code beside them.
//!
//! rustfmt breaks code at 100 columns and leaves comments alone. This check leaves alone what
//! cannot be broken without harm: tables, code, links, long words, and comments that follow code.

use super::findings::Finding;

/// The width that rustfmt gives to code.
const WIDTH: usize = 100;

/// What is wrong in a source of a crate: one finding for each line.
pub(crate) fn check(crate_name: &str, path: &str, text: &str) -> Vec<Finding> {
    let finding = |(line, columns)| Finding {
        check: "comment",
        key: crate_name.into(),
        count: 1,
        text: format!("{path}:{line}: the comment has {columns} columns: break it at {WIDTH}"),
    };
    too_wide(text).into_iter().map(finding).collect()
}

/// The comment lines that could be broken and are not, with their columns.
fn too_wide(text: &str) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut fenced = false;
    for (number, line) in text.lines().enumerate() {
        let Some(comment) = comment(line) else {
            fenced = false;
            continue;
        };
        if comment.trim_start().starts_with("```") {
            fenced = !fenced;
        }
        let columns = line.chars().count();
        let is_prose = !fenced && !comment.starts_with(['|', ' ']);
        if columns > WIDTH && is_prose && can_be_broken(line, comment) {
            found.push((number + 1, columns));
        }
    }
    found
}

/// The text of a line that is nothing but a comment. It begins with a space if it is indented code.
fn comment(line: &str) -> Option<&str> {
    const CODE: usize = 4;
    let marked = line.trim_start().strip_prefix("//")?.trim_start_matches(['/', '!']);
    let text = marked.trim_start();
    let indented = marked.len() - text.len() > CODE;
    Some(if indented { &marked[marked.len() - text.len() - 1..] } else { text })
}

/// Whether there is a space to break at, and no link that would still be as long.
fn can_be_broken(line: &str, comment: &str) -> bool {
    let marker = line.chars().count() - comment.chars().count();
    let within = comment.chars().take(WIDTH - marker.min(WIDTH));
    within.collect::<String>().trim_end().contains(' ') && !comment.contains("://")
}

#[cfg(test)]
mod tests {
    use super::{WIDTH, check, too_wide};

    /// Words of so many columns.
    fn words(columns: usize) -> String {
        "words ".repeat(columns)[..columns].replace(' ', "x").replacen("sx", "s ", 1)
    }

    #[test]
    fn a_comment_may_be_as_wide_as_code() {
        for marker in ["// ", "/// ", "//! ", "        // "] {
            let just = format!("{marker}{}\n", words(WIDTH - marker.len()));
            assert_eq!(too_wide(&just), [], "{just}");
            let over = format!("\n{marker}{}\n", words(WIDTH + 1 - marker.len()));
            assert_eq!(too_wide(&over), [(2, WIDTH + 1)], "{over}");
        }
        // Columns, not bytes.
        assert_eq!(too_wide(&format!("// {}", words(97).replace('w', "ü"))), []);
    }

    #[test]
    fn what_cannot_be_broken_is_left_alone() {
        let wide = words(120);
        for text in [
            format!("// https://example.org/ {wide}"),
            format!("// | a | {wide} |"),
            format!("//!     {wide}"),
            format!("/// ```\n/// {wide}\n/// ```"),
            format!("// {}", wide.replace(' ', "_")),
            format!("let x = 1; // {wide}"),
            format!("let x = \"{wide}\";"),
        ] {
            assert_eq!(too_wide(&text), [], "{text}");
        }
        assert_eq!(too_wide(&format!("/// ```\n/// ```\n/// {wide}")), [(3, 124)]);
        let found = check("agent", "agent/src/a.rs", &format!("// {wide}"));
        assert_eq!(found[0].text, "agent/src/a.rs:1: the comment has 123 columns: break it at 100");
    }
}
