//! The line that is being typed to a shell, as far as the keys tell.

/// Who has the keys of a line until it is entered.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Editor {
    /// The kernel, for whoever reads next.
    Kernel,
    /// The shell.
    Shell,
    /// A program takes single keys, and has done with them.
    Nobody,
}

/// What was typed since a line was entered.
#[derive(Debug, Default)]
pub(super) struct TypedLine {
    /// How many characters it has at least, if none was erased in another way than by the key for
    /// one character.
    length: u32,
    /// Where the log was when a line was entered last.
    entered: Option<u64>,
}

impl TypedLine {
    /// Keys were typed when the log ended `at`.
    pub(super) fn note(&mut self, bytes: &[u8], at: u64, editor: Editor) {
        let kept = editor != Editor::Nobody;
        for &byte in bytes {
            match byte {
                b'\r' | b'\n' => (self.length, self.entered) = (0, Some(at)),
                // Interrupted, given up, or erased.
                0x03 | 0x15 | 0x1a | 0x1c => self.length = 0,
                0x04 if editor == Editor::Kernel => self.length = 0,
                0x08 | 0x7f => self.length = self.length.saturating_sub(1),
                // A line of the history.
                0x0e | 0x10 | 0x12 | 0x19 if kept => self.length = self.length.saturating_add(1),
                b' '.. if kept && (byte & 0xc0) != 0x80 => {
                    self.length = self.length.saturating_add(1);
                }
                _ => {}
            }
        }
    }

    /// Whether a shell that has waited since this offset has a line that is not finished, or has
    /// not taken one that was entered.
    pub(super) fn is_half_typed(&self, waits_since: Option<u64>) -> bool {
        self.length > 0 || self.is_entered(waits_since)
    }

    /// Whether a shell that has waited since this offset has not taken a line that was entered: it
    /// is about to, or waits for more of it.
    pub(super) fn is_entered(&self, waits_since: Option<u64>) -> bool {
        waits_since.is_some_and(|since| self.entered.is_some_and(|entered| entered >= since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_half_typed_until_it_is_entered_taken_back_or_erased() {
        let prompt = Some(10);
        let mut line = TypedLine::default();
        assert!(!line.is_half_typed(prompt));
        for end in [b"\x03".as_slice(), b"\x15", b"\x7f\x7f\x7f"] {
            line.note("ls\u{e4}".as_bytes(), 12, Editor::Shell);
            assert!(line.is_half_typed(prompt), "{end:?}");
            line.note(end, 13, Editor::Shell);
            assert!(!line.is_half_typed(prompt), "{end:?}");
        }
        line.note(b"\x1b[A", 14, Editor::Shell);
        assert!(line.is_half_typed(prompt), "it may be one of the history");
        line.note(b"\r", 15, Editor::Shell);
        assert!(line.is_half_typed(prompt), "the shell has not taken it, or waits for more");
        assert!(line.is_entered(prompt) && !line.is_entered(Some(16)));
        assert!(!line.is_half_typed(Some(16)), "it waits for the next one");
        assert!(!line.is_half_typed(None));
    }

    #[test]
    fn what_a_program_reads_is_no_line_and_what_the_kernel_keeps_is_one() {
        let mut line = TypedLine::default();
        line.note(b"q", 5, Editor::Nobody);
        assert!(!line.is_half_typed(Some(9)), "a pager has read it");
        line.note(b"abc", 5, Editor::Kernel);
        assert!(line.is_half_typed(Some(9)), "the shell reads it when the program has ended");
        line.note(b"\x04", 5, Editor::Kernel);
        assert!(!line.is_half_typed(Some(9)));
    }
}
