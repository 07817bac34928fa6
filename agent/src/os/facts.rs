//! Facts about this machine, for people and for models.

use rustix::system::uname;

/// What does not change while the machine is up.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Facts {
    /// The machine's own host name.
    pub(crate) hostname: String,
    /// The system's name and version as it calls itself: "Debian GNU/Linux 12 (bookworm)".
    pub(crate) system: String,
    /// The processor's architecture: "x86_64".
    pub(crate) arch: String,
}

impl Facts {
    /// Reads them. Opens a small file.
    pub(crate) fn read() -> Self {
        let names = uname();
        let text = |name: &core::ffi::CStr| plain(&name.to_string_lossy());
        Self {
            hostname: text(names.nodename()),
            system: release().unwrap_or_else(|| text(names.sysname())),
            arch: text(names.machine()),
        }
    }
}

/// The name of the system, from the file in which distributions put it.
fn release() -> Option<String> {
    let text = head("/etc/os-release").or_else(|| head("/usr/lib/os-release"))?;
    pretty_name(&text)
}

/// The value of `PRETTY_NAME`, with the quotes of a shell taken off. The last one counts.
fn pretty_name(text: &str) -> Option<String> {
    let value = text.lines().rev().find_map(|line| line.trim().strip_prefix("PRETTY_NAME="))?;
    let name = plain(&unquote(value));
    (!name.is_empty()).then_some(name)
}

/// A value as a shell would read it: bare, in single or in double quotes.
fn unquote(value: &str) -> String {
    let mut chars = value.chars();
    let quote = chars.clone().next().filter(|c| matches!(c, '"' | '\''));
    if quote.is_some() {
        chars.next();
    }
    let mut name = String::new();
    while let Some(c) = chars.next() {
        if quote == Some(c) {
            break;
        }
        match c {
            '\\' if quote != Some('\'') => name.extend(chars.next()),
            _ => name.push(c),
        }
    }
    name
}

/// Without control characters, and cut.
fn plain(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(LONGEST).collect()
}

/// The beginning of a file, if it is there.
fn head(path: &str) -> Option<String> {
    use std::io::Read as _;

    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).ok()?;
    file.take(FILE).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// A host name has at most 64 characters, and a longer system name is no name.
const LONGEST: usize = 128;

/// Files that describe a system have less than 1 KiB.
const FILE: u64 = 16 * 1024;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn this_machine_has_all_of_them() {
        let facts = Facts::read();
        let uname = std::process::Command::new("uname").args(["-n", "-m"]).output().unwrap();
        let expected = format!("{} {}\n", facts.hostname, facts.arch);
        assert_eq!(String::from_utf8(uname.stdout).unwrap(), expected);
        assert!(!facts.system.is_empty());
    }

    #[test]
    fn the_name_of_the_system_may_be_quoted_in_every_way() {
        let check = |text: &str, name: Option<&str>| assert_eq!(pretty_name(text).as_deref(), name);
        check(
            "NAME=x\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n",
            Some("Debian GNU/Linux 12 (bookworm)"),
        );
        check("PRETTY_NAME='Alpine \\ 3'", Some("Alpine \\ 3"));
        check("PRETTY_NAME=Void", Some("Void"));
        check(r#"PRETTY_NAME="a \"b\" c" # comment"#, Some(r#"a "b" c"#));
        check("PRETTY_NAME=old\nPRETTY_NAME=new\n", Some("new"));
        check("PRETTY_NAME=\n", None);
        check("NAME=x\n", None);
        check("PRETTY_NAME=\"\x1b[31mred", Some("[31mred"));
        check("PRETTY_NAME=\"ends in \\", Some("ends in "));
    }

    proptest! {
        #[test]
        fn a_name_is_short_and_printable(text in "(PRETTY_NAME=)?.{0,300}") {
            if let Some(name) = pretty_name(&text) {
                prop_assert!(!name.is_empty() && name.chars().count() <= LONGEST);
                prop_assert!(!name.contains(char::is_control));
            }
        }
    }

    #[test]
    fn no_bytes_are_too_odd() {
        bolero::check!().for_each(|bytes: &[u8]| {
            let _ = pretty_name(&String::from_utf8_lossy(bytes));
        });
    }
}
