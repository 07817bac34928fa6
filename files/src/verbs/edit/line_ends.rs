//! The ends of lines: LF or CR LF.

/// Whether a text has lines, and all of them end in CR LF.
pub(super) fn ends_in_cr_lf(text: &[u8]) -> bool {
    let mut ends = memchr::memchr_iter(b'\n', text).peekable();
    ends.peek().is_some() && ends.all(|at| at > 0 && text.get(at - 1) == Some(&b'\r'))
}

/// A text with LF at the end of its lines, with CR LF instead.
pub(super) fn in_cr_lf(text: &[u8]) -> Vec<u8> {
    text.split(|&byte| byte == b'\n').collect::<Vec<_>>().join(&b"\r\n"[..])
}

/// A text with the CR removed from each CR LF.
pub(super) fn in_lf(text: &[u8]) -> Vec<u8> {
    let mut lines = text.split(|&byte| byte == b'\n').peekable();
    let mut out = Vec::with_capacity(text.len());
    while let Some(line) = lines.next() {
        let last = lines.peek().is_none();
        out.extend_from_slice(if last { line } else { line.strip_suffix(b"\r").unwrap_or(line) });
        if !last {
            out.push(b'\n');
        }
    }
    out
}
