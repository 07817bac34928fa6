//! Durations and sizes for people: at most two figures, never rounded up.

use std::time::Duration;

/// How long: `0.4s`, `12s`, `3m20s`, `2h05m`, `1d03h`, `3d`.
pub fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..10 => format!("{seconds}.{}s", duration.subsec_millis() / 100),
        10..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3600..DAY => format!("{}h{:02}m", seconds / 3600, seconds % 3600 / 60),
        DAY..THREE_DAYS => format!("{}d{:02}h", seconds / DAY, seconds % DAY / 3600),
        _ => format!("{}d", seconds / DAY),
    }
}

/// How many bytes, in steps of 1000: `999`, `1.2k`, `31M`.
pub fn size(bytes: u64) -> String {
    let (mut whole, mut rest) = (bytes, 0);
    for unit in ["", "k", "M", "G", "T", "P"] {
        if whole < 1000 {
            return match rest / 100 {
                tenths @ 1.. if whole < 10 => format!("{whole}.{tenths}{unit}"),
                _ => format!("{whole}{unit}"),
            };
        }
        rest = whole % 1000;
        whole /= 1000;
    }
    format!("{whole}E")
}

const DAY: u64 = 24 * 3600;
const THREE_DAYS: u64 = 3 * DAY;

#[cfg(test)]
mod tests {
    use super::*;

    fn all<T: Copy>(of: &[T], say: impl Fn(T) -> String) -> String {
        of.iter().map(|&one| say(one)).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn durations_get_coarser_as_they_get_longer() {
        let ms = [0, 40, 430, 9_999, 12_700, 200_000, 7_500_000, 97_200_000, 300_000_000];
        let said = all(&ms, |ms| duration(Duration::from_millis(ms)));
        assert_eq!(said, "0.0s 0.0s 0.4s 9.9s 12s 3m20s 2h05m 1d03h 3d");
        assert_eq!(duration(Duration::MAX), "213503982334601d");
    }

    #[test]
    fn sizes_have_a_tenth_where_it_matters() {
        let said = all(&[0, 999, 1_000, 1_234, 9_999, 31_000_000, u64::MAX], size);
        assert_eq!(said, "0 999 1k 1.2k 9.9k 31M 18E");
    }
}
