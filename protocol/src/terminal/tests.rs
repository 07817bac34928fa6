//! The tracked modes of a terminal, and that each change can be undone.

use super::*;

fn read(text: &[u8]) -> (Modes, Vec<u8>) {
    let (mut whole, mut drawn) = (Modes::default(), Vec::new());
    whole.read(text, |part| drawn.extend_from_slice(part));
    let (mut split, mut dripped) = (Modes::default(), Vec::new());
    text.chunks(1).for_each(|byte| split.read(byte, |part| dripped.extend_from_slice(part)));
    assert_eq!(format!("{whole:?}"), format!("{split:?}"), "{text:?} byte by byte");
    assert_eq!(drawn, dripped, "{text:?} byte by byte");
    (whole, drawn)
}

fn region(text: &str) -> Option<(u16, u16)> {
    read(text.as_bytes()).0.region()
}

#[test]
fn a_region_is_what_was_said_last_of_this_screen() {
    assert_eq!(region("ab\x1b[31mc r"), None);
    assert_eq!(region("\x1b[2;5r"), Some((2, 5)));
    assert_eq!(region("\x1b[;5r"), Some((1, 5)));
    assert_eq!(region("\x1b[3r"), Some((3, 0)));
    assert_eq!(region("\x1b[2;5r\x1b[r"), None);
    assert_eq!(region("\x1b[2;5rx\x1bc"), None);
    assert_eq!(region("\x1b[2;\n5r"), Some((2, 5)), "a control in between");
    assert_eq!(region("\x1b[2;5\x18r"), None, "cancelled");
    assert_eq!(region("\x1b[?6r"), None, "another sequence");
    assert_eq!(region("\x1b[2;5r\x1b[?1049h"), None);
    assert_eq!(region("\x1b[2;5r\x1b[?1049h\x1b[3;4r\x1b[?1049l"), Some((2, 5)));
}

#[test]
fn lines_are_drawn_as_characters_that_everybody_knows() {
    let drawn = |text: &[u8]| String::from_utf8(read(text).1).unwrap();
    assert_eq!(drawn(b"\x1b(0lqk\x1b(Blqk"), "┌─┐lqk");
    assert_eq!(drawn(b"a\x1b)0q\x0eq\x0fq"), "aq─q");
    assert_eq!(drawn("\x1b(0xé~X \x1b7\x1b(Bx\x1b8x".as_bytes()), "│é·X \x1b7x\x1b8│");
    assert_eq!(
        drawn(b"\x1b[s\x1b[u\x1b[?1048h\x1b[?1047;25h"),
        "\x1b7\x1b8\x1b7\x1b[?47h\x1b[?25h"
    );
}

#[test]
fn every_change_is_undone_by_its_reverse() {
    for text in [
        "\x1b[?1049h\x1b[?25l\x1b[?1h\x1b=\x1b[?1002h\x1b[?1006h\x1b[?2004h\x1b[?1004h\x1b[?7l",
        "\x1b[4h\x1b(0\x1b)0\x0e\x1b[5 q\x1b[2;9r\x1b[?6h",
        "\x1b[?1000h\x1b[?1003h\x1b[?1005h\x1b[?1015h\x1b[?12h\x1b[?5h\x1b[?2026h\x1b[?1007h",
        "\x1b[?1047h\x1b[3;4r\x1b7\x1b*0\x1bn",
    ] {
        let (mut modes, _) = read(text.as_bytes());
        let changes = modes.all_changes();
        assert!(!changes.is_empty());
        // `to` makes each change, and `back` leaves no difference.
        let to: String = changes.iter().map(|change| change.to.as_str()).collect();
        let (mut again, _) = read(to.as_bytes());
        assert_eq!(again.all_changes(), changes, "{text:?}");
        let undo = modes.undo();
        for modes in [&mut modes, &mut again] {
            modes.read(undo.as_bytes(), |_| ());
            assert_eq!(modes.all_changes(), [], "{text:?} undone by {undo:?}");
        }
    }
}

#[test]
fn of_modes_that_exclude_each_other_the_last_one_counts() {
    let changes = |text: &str| -> String {
        let (modes, _) = read(text.as_bytes());
        modes.changes().into_iter().map(|change| change.to).collect()
    };
    assert_eq!(changes("\x1b[?1000h\x1b[?1003h\x1b[?1006h"), "\x1b[?1003h\x1b[?1006h");
    assert_eq!(changes("\x1b[?1000h\x1b[?1003h\x1b[?1003l"), "");
    assert_eq!(changes("\x1b[?7l\x1b[?25l\x1b[?7h"), "\x1b[?25l");
    assert_eq!(changes("\x1b[?25l\x1b[?2004h\x1b[?1h\x1b[4h\x1b[!p"), "\x1b[?2004h");
    assert_eq!(changes("\x1b[?25l\x1bc"), "");
}

#[test]
fn what_has_come_of_a_sequence_is_kept() {
    let pending = |text: &[u8]| read(text).0.pending().to_vec();
    assert_eq!(pending(b"a\x1b[31"), b"\x1b[31");
    assert_eq!(pending(b"a\xe2\x94"), b"\xe2\x94");
    assert_eq!(pending("a─".as_bytes()), b"");
    assert_eq!(pending(b"\x1b]0;ti"), b"\x1b]0;ti");
    assert_eq!(pending(b"\x1b]0;ti\x1b"), b"\x1b]0;ti\x1b");
    assert_eq!(pending(b"\x1b]0;ti\x07"), b"");
    let long = [b"\x1bP".as_slice(), &[b'q'; 9_000]].concat();
    assert_eq!(pending(&long), b"\x1bP");
    let long = [b"\x1b]0;".as_slice(), &[b'q'; 9_000]].concat();
    assert_eq!(pending(&long), b"\x1b]9999;");
    assert_eq!(pending(&[&long, b"\x1b".as_slice()].concat()), b"\x1b]9999;\x1b");
    // A reader that joins in between, and continues from the pending bytes, reports the same to the
    // next.
    for begun in [b"\x1b]9999;".as_slice(), b"\x1b]9999;\x1b", b"\x1bP", b"\x1b_x", b"\x1bP\x1b"] {
        let told = pending(begun);
        for more in [b"\x0e".as_slice(), b"more", b"\x1b"] {
            let [first, late] = [begun, &told].map(|begun| pending(&[begun, more].concat()));
            assert_eq!(first, late, "{begun:?} {more:?}");
        }
    }
    assert_eq!(pending(b"\x1b]9999;\x0e"), b"\x1b]9999;");
}

#[test]
fn any_output_is_read_without_a_panic_and_undone() {
    bolero::check!().for_each(|bytes: &[u8]| {
        let mut modes = Modes::default();
        modes.read(bytes, |_| ());
        let _ = (modes.changes(), modes.pending().len());
        modes.read(modes.clone().undo().as_bytes(), |_| ());
        assert_eq!(modes.all_changes(), []);
    });
}
