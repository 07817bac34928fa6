//! How remote bytes become text that a person or a model can read safely.
//!
//! [`clean`] takes away everything that is not text; [`digest`] fits what is left into a budget and
//! says what is shown and what is not; [`header`] is the first line of every result. All of it is
//! data from machines that may be hostile: nothing in it can break out of its line, hide, or pass
//! for a line of ours.

pub mod clean;
pub mod digest;
pub mod header;

/// A short remote text on one line: names, labels, versions. Never longer than `limit` characters.
pub fn neutral(text: &str, limit: usize) -> String {
    let mut out: String = text
        .chars()
        .take(limit)
        .map(|char| if clean::is_unwanted(char) || char.is_control() { '\u{fffd}' } else { char })
        .collect();
    if text.chars().nth(limit).is_some() {
        out.push('…');
    }
    out
}

/// Rows in columns two blanks apart. The last column is not padded.
pub fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max()
    };
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let mut out = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(cell);
            let pad = width + 2 - cell.chars().count();
            line.extend(std::iter::repeat_n(' ', pad));
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

/// A duration as people say it.
pub fn duration(ms: u64) -> String {
    let seconds = ms / 1000;
    match seconds {
        0..10 => format!("{}.{}s", seconds, ms % 1000 / 100),
        10..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h{:02}m", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{}d{:02}h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

/// A number of bytes as people say it.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["", "k", "M", "G", "T"];
    let mut value = bytes;
    let mut rest = 0;
    for unit in UNITS {
        if value < 1000 {
            let tenths = rest * 10 / 1000;
            let exact = unit.is_empty() || value >= 10 || tenths == 0;
            return if exact {
                format!("{value}{unit}")
            } else {
                format!("{value}.{tenths}{unit}")
            };
        }
        rest = value % 1000;
        value /= 1000;
    }
    format!("{value}P")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes_are_short() {
        let said: Vec<_> = [40, 1_300, 25_000, 200_000, 7_500_000, 300_000_000]
            .map(duration)
            .into_iter()
            .collect();
        assert_eq!(said, ["0.0s", "1.3s", "25s", "3m20s", "2h05m", "3d11h"]);
        assert_eq!([0, 999, 1234, 31_000_000].map(size), ["0", "999", "1.2k", "31M"]);
    }

    #[test]
    fn a_hostile_name_stays_on_its_line() {
        assert_eq!(neutral("a\n[error x]\u{202e}", 99), "a\u{fffd}[error x]\u{fffd}");
        assert_eq!(neutral("abcdef", 3), "abc…");
    }
}
