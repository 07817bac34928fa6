//! How much of a log is kept, and the steps in which it is indexed and freed.

/// Which stream bytes came from, by its channel on the wire: 1, 2 or 3.
pub(crate) type Stream = u8;

/// How much of a log is kept, and where. All in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SpoolLimits {
    /// Up to this many there is no file.
    pub(crate) memory: u64,
    /// This many of the newest are read from memory although they are in the file.
    pub(crate) window: u64,
    /// At most this many are kept.
    pub(crate) total: u64,
    /// At most this many are kept when there is no disk.
    pub(crate) fallback: u64,
    /// They are written to the file in blocks of at least this size.
    pub(crate) block: u64,
    /// The writer waits for a lossless reader that is about this far behind, or half of what is
    /// kept.
    pub(crate) ahead: u64,
}

impl SpoolLimits {
    /// The same limits with at most `kept` bytes kept, if that is less.
    pub(crate) fn with_total(self, kept: Option<u64>) -> Self {
        let most = Self::default().total;
        let total = kept.map_or(most, |kept| kept.min(most));
        Self { total, fallback: self.fallback.min(total), ..self }
    }

    /// The limits for a terminal: its output is shown at once, or somebody waits.
    pub(crate) fn terminal() -> Self {
        Self { ahead: 512 << 10, ..Self::default() }
    }
}

impl Default for SpoolLimits {
    fn default() -> Self {
        Self {
            memory: 64 << 10,
            window: 768 << 10,
            total: 256 << 20,
            fallback: 768 << 10,
            block: 128 << 10,
            ahead: u64::MAX,
        }
    }
}

/// A line index entry is made after this many bytes.
pub(super) const INDEX_STEP: u64 = 64 << 10;

/// How much may be between a lossless reader's cursor and what its far end has received. This much
/// is kept longer, for a reader that resumes where it was cut; at most half of what is kept.
pub(super) const IN_FLIGHT: u64 = 16 << 20;

/// The file frees space in steps of at least this size.
pub(super) const HOLE: u64 = 1 << 20;

/// An offset and a stream in one number.
pub(super) fn pack(offset: u64, stream: Stream) -> u64 {
    offset << 2 | u64::from(stream & 3)
}
