//! The command line of this process, as other users of the machine see it.

#![expect(unsafe_code, reason = "the kernel keeps the command line in our own memory")]

use zeroize::Zeroize as _;

/// Overwrites a secret wherever it stands in this process's command line. It may have been read
/// before. Returns whether it is gone.
///
/// Call it once, before there are other threads.
#[cfg(target_os = "linux")]
pub(crate) fn hide(secret: &str) -> bool {
    let Some(place) = place() else { return false };
    let length = place.end.saturating_sub(place.start);
    if secret.is_empty() || length == 0 {
        return true;
    }
    let start = core::ptr::with_exposed_provenance_mut::<u8>(place.start);
    // SAFETY: the kernel says that this process's arguments lie there, in its own stack, which is
    // mapped for as long as it lives. Nobody else in this process refers to them: the standard
    // library copies arguments out, and there is one thread.
    let arguments = unsafe { core::slice::from_raw_parts_mut(start, length) };
    let secret = secret.as_bytes();
    let mut at = 0;
    while let Some(window) = arguments.get_mut(at..at + secret.len()) {
        if window == secret {
            window.zeroize();
        }
        at += 1;
    }
    true
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn hide(_: &str) -> bool {
    false
}

/// Where the arguments lie: fields 48 and 49 of `/proc/self/stat` (proc(5)).
#[cfg(target_os = "linux")]
fn place() -> Option<core::ops::Range<usize>> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The name of the program may hold anything, and ends with the last parenthesis; field 3
    // follows.
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(45);
    let start = fields.next()?.parse().ok()?;
    let end = fields.next()?.parse().ok()?;
    (start != 0 && start < end).then_some(start..end)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn the_place_of_the_arguments_holds_what_the_kernel_shows() {
        let place = place().unwrap();
        let start = core::ptr::with_exposed_provenance::<u8>(place.start);
        // SAFETY: as in `hide`, and it is only read.
        let ours = unsafe { core::slice::from_raw_parts(start, place.end - place.start) };
        assert_eq!(ours, std::fs::read("/proc/self/cmdline").unwrap());
    }
}
