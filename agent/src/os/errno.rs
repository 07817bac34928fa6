//! Error numbers of the kernel in words: a phrase for people, and the name to search for.

use rustix::io::Errno;

/// "no such file or directory (ENOENT)".
pub(crate) fn words(errno: Errno) -> String {
    let code = errno.raw_os_error();
    match TABLE.iter().find(|(number, ..)| *number == code) {
        Some((_, name, phrase)) => format!("{phrase} ({name})"),
        None => format!("error {code} of the system"),
    }
}

/// "ENOENT".
pub(crate) fn name(errno: Errno) -> String {
    let code = errno.raw_os_error();
    match TABLE.iter().find(|(number, ..)| *number == code) {
        Some((_, name, _)) => (*name).to_owned(),
        None => format!("error {code}"),
    }
}

/// Lists the errors that starting, waiting and signalling can return.
macro_rules! table {
    ($( $name:ident $phrase:literal; )*) => {
        const TABLE: &[(i32, &str, &str)] = &[$( (libc::$name, stringify!($name), $phrase), )*];
    };
}

table! {
    E2BIG "argument list too long";
    EACCES "permission denied";
    EAGAIN "resource temporarily unavailable";
    EBADF "bad file descriptor";
    EBUSY "device or resource busy";
    ECHILD "no child process";
    EFAULT "bad address";
    EINTR "interrupted";
    EINVAL "invalid argument";
    EIO "input or output error";
    EISDIR "is a directory";
    ELOOP "too many symbolic links";
    EMFILE "too many open files";
    ENAMETOOLONG "file name too long";
    ENFILE "too many open files in the system";
    ENODEV "no such device";
    ENOENT "no such file or directory";
    ENOEXEC "not a program for this system";
    ENOMEM "out of memory";
    ENOSPC "no space left";
    ENOSYS "not implemented by the kernel";
    ENOTDIR "not a directory";
    ENXIO "no such device or address";
    EPERM "operation not permitted";
    ESRCH "no such process";
    ESTALE "stale file handle";
    ETIMEDOUT "timed out";
    ETXTBSY "the file is being written";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_has_a_phrase_and_a_name() {
        assert_eq!(words(Errno::NOENT), "no such file or directory (ENOENT)");
        assert_eq!(name(Errno::ACCESS), "EACCES");
        assert_eq!(words(Errno::from_raw_os_error(4000)), "error 4000 of the system");
    }
}
