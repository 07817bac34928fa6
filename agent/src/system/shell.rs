//! A command line becomes the arguments of the user's shell, without start-up files.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::Path;

use crate::system::user::User;

/// The arguments that run `line`: through the user's shell if we know how to keep it from reading
/// start-up files, else through `/bin/sh`. With `login` start-up files are wanted.
pub(crate) fn argv(user: &User, line: &[u8], login: bool) -> Vec<OsString> {
    let name = user.shell.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let usable = user.shell.is_absolute() && user.shell.exists();
    let options: &[&str] = match (name, login) {
        ("bash" | "zsh" | "fish", true) => &["-l", "-c"],
        ("bash", false) => &["--noprofile", "--norc", "-c"],
        ("zsh", false) => &["-f", "-c"],
        ("fish", false) => &["--no-config", "-c"],
        ("sh" | "dash" | "ash" | "ksh" | "mksh", true) => &["-l", "-c"],
        _ => &[],
    };
    let known = usable && !options.is_empty();
    let (shell, options) =
        if known { (user.shell.as_path(), options) } else { (Path::new("/bin/sh"), &["-c"][..]) };
    let mut argv = vec![shell.into()];
    argv.extend(options.iter().map(OsString::from));
    // A line that begins like an option would be taken for one; a blank in front changes nothing else.
    let mut line = line.to_vec();
    if matches!(line.first(), Some(b'-' | b'+')) {
        line.insert(0, b' ');
    }
    argv.push(OsString::from_vec(line));
    argv
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(shell: &str, login: bool, expected: &[&str]) {
        let user = User { shell: shell.into(), ..User::current() };
        assert_eq!(argv(&user, b"line", login), expected, "{shell}");
    }

    #[test]
    fn shells_are_kept_from_start_up_files_and_unknown_ones_are_not_used() {
        check("/bin/bash", false, &["/bin/bash", "--noprofile", "--norc", "-c", "line"]);
        check("/bin/bash", true, &["/bin/bash", "-l", "-c", "line"]);
        check("/bin/sh", false, &["/bin/sh", "-c", "line"]);
        check("/usr/sbin/nologin", false, &["/bin/sh", "-c", "line"]);
        check("/no/such/zsh", false, &["/bin/sh", "-c", "line"]);
        let user = User { shell: "/bin/bash".into(), ..User::current() };
        assert_eq!(argv(&user, b"-x", false).last().unwrap(), " -x", "a line is never an option");
        check("", true, &["/bin/sh", "-c", "line"]);
    }
}
