//! The labels and limits of a session.

use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::streams::session::{Labels, Limits, Lost};

use crate::gate::principal::check_label;

/// The longest time in the limits of a session, in milliseconds: a year.
const LONGEST_MS: u64 = 366 * 24 * 3_600_000;

/// The lowest limit on the bytes per second that a session reads or writes.
const SLOWEST: u64 = 10;

/// The lowest and the highest limit on how much of a session's output is kept.
const KEPT: std::ops::RangeInclusive<u64> = (64 << 10)..=(256 << 20);

/// The labels and limits of a session, and where it comes from.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filed {
    pub(crate) labels: Labels,
    pub(crate) limits: Limits,
    /// When it was taken over from an earlier agent, in milliseconds since 1970.
    pub(crate) recovered_ms: Option<u64>,
    /// Why it has lost its program without having ended.
    pub(crate) lost: Option<Lost>,
}

/// Checks that they are within what can be enforced.
pub(crate) fn check(labels: &Labels, limits: &Limits) -> Result<(), Failure> {
    let named = [("owner", &labels.owner), ("tag", &labels.tag), ("group", &labels.group)];
    for (what, label) in named {
        check_label(&format!("the {what} of a session"), label.as_deref().unwrap_or_default())?;
    }
    let within = |what: &str, value: Option<u64>, from: u64, to: u64| match value {
        Some(value) if !(from..=to).contains(&value) => {
            let text = format!("{what} must be from {from} to {to}, not {value}");
            Err(Failure::new(Kind::InvalidArgument, text))
        }
        _ => Ok(()),
    };
    within("the idle limit in milliseconds", limits.idle_ms, 1, LONGEST_MS)?;
    within("the time to keep it in milliseconds", limits.keep_ms, 0, LONGEST_MS)?;
    within("the rate of output", limits.output_rate, SLOWEST, u64::from(u32::MAX))?;
    within("the rate of input", limits.input_rate, SLOWEST, u64::from(u32::MAX))?;
    within("the size of the kept output", limits.kept, *KEPT.start(), *KEPT.end())
}

/// The labels without empty ones.
pub(crate) fn plain(labels: Labels) -> Labels {
    let some = |label: Option<String>| label.filter(|label| !label.is_empty());
    let read_only = labels.read_only.filter(|&read_only| read_only);
    Labels {
        owner: some(labels.owner),
        tag: some(labels.tag),
        group: some(labels.group),
        read_only,
    }
}

/// The current labels with a change applied.
pub(crate) fn changed_labels(now: &Labels, change: Labels) -> Labels {
    plain(Labels {
        owner: now.owner.clone(),
        tag: change.tag.or_else(|| now.tag.clone()),
        group: change.group.or_else(|| now.group.clone()),
        read_only: change.read_only.or(now.read_only),
    })
}

/// The current limits with a change applied.
pub(crate) fn changed_limits(now: Limits, change: Limits) -> Limits {
    Limits {
        idle_ms: change.idle_ms.or(now.idle_ms),
        keep_ms: change.keep_ms.or(now.keep_ms),
        output_rate: change.output_rate.or(now.output_rate),
        input_rate: change.input_rate.or(now.input_rate),
        kept: change.kept.or(now.kept),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_and_bounds_that_cannot_be_kept_to_are_refused() {
        let label = |tag: &str| Labels { tag: Some(tag.to_owned()), ..Labels::default() };
        assert!(check(&label(&"x".repeat(64)), &Limits::default()).is_ok());
        for wrong in ["x".repeat(65), "a\nb".to_owned()] {
            assert!(check(&label(&wrong), &Limits::default()).is_err());
        }
        for wrong in [
            Limits { idle_ms: Some(0), ..Limits::default() },
            Limits { output_rate: Some(1), ..Limits::default() },
            Limits { input_rate: Some(u64::MAX), ..Limits::default() },
            Limits { kept: Some(1), ..Limits::default() },
            Limits { keep_ms: Some(u64::MAX), ..Limits::default() },
        ] {
            assert!(check(&Labels::default(), &wrong).is_err(), "{wrong:?}");
        }
    }
}
