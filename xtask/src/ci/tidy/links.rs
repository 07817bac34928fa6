//! Links in documents that lead to no file of the repository.
//!
//! Understands `[text](link)` and `[text]: link`, outside of fenced code. Links to other hosts and
//! to headings are not followed.

/// The links for which `exists` says no, with their lines. It is asked for paths beside the
/// document.
pub(crate) fn dead<'a>(text: &'a str, exists: &dyn Fn(&str) -> bool) -> Vec<(usize, &'a str)> {
    let mut dead = Vec::new();
    let mut fenced = false;
    for (number, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        }
        if fenced {
            continue;
        }
        for link in links(line) {
            let file = link.split('#').next().unwrap_or_default();
            let elsewhere = file.is_empty() || link.contains("://") || link.starts_with("mailto:");
            // A path from the root would lead out of the repository.
            if !elsewhere && (file.starts_with('/') || !exists(file)) {
                dead.push((number + 1, link));
            }
        }
    }
    dead
}

/// The links in a line.
fn links(line: &str) -> impl Iterator<Item = &str> {
    let inline = line.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    let defined = line.trim_start().strip_prefix('[').and_then(|rest| rest.split_once("]: "));
    let defined = defined.map(|(_, link)| link);
    // Behind a link may stand a title, and around it brackets.
    inline.chain(defined).filter_map(|link| {
        let link = link.split_whitespace().next()?;
        Some(link.trim_start_matches('<').trim_end_matches('>'))
    })
}

#[cfg(test)]
mod tests {
    use super::dead;

    /// In a repository that has only `here.md`.
    fn check(text: &str) -> Vec<(usize, &str)> {
        dead(text, &|file| file == "here.md")
    }

    #[test]
    fn links_to_files_are_followed() {
        assert!(
            check("[a](here.md), [b](here.md#heading) and [c](<here.md> \"title\")").is_empty()
        );
        assert_eq!(check("[a](here.md)\n[b](gone.md)"), [(2, "gone.md")]);
        assert_eq!(check("[a](gone.md#heading) [b](here.md)"), [(1, "gone.md#heading")]);
        assert_eq!(check("[a]: gone.md \"title\""), [(1, "gone.md")]);
        assert_eq!(check("[a](/here.md)"), [(1, "/here.md")]);
    }

    #[test]
    fn links_to_elsewhere_are_not() {
        assert!(check("[a](https://example.org/x) [b](#heading) <mailto:a@b>").is_empty());
    }

    #[test]
    fn code_is_no_link() {
        assert!(check("```text\n[a](gone.md)\n```").is_empty());
        assert_eq!(check("```text\n```\n[a](gone.md)"), [(3, "gone.md")]);
    }
}
