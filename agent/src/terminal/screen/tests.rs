//! What is left out of a flood, and what draws a screen anew.

use proptest::prelude::*;

use super::*;

const SIZE: Size = Size { cols: 30, rows: 5 };

fn screen(pieces: &[&[u8]]) -> Screen {
    let mut screen = Screen::new(SIZE);
    pieces.iter().for_each(|piece| screen.draw(piece));
    screen
}

/// Pieces of output: floods of lines, and what may come before, between and after.
fn piece() -> impl Strategy<Value = Vec<u8>> {
    let line = prop_oneof![
        8 => "[ -~]{0,40}\r\n",
        1 => "[ -~]{0,40}\n",
        1 => "[a-zäé漢\t]{0,20}\r\n",
    ];
    let flood = (prop::collection::vec(line, 1..30), 1_usize..80)
        .prop_map(|(lines, times)| lines.concat().repeat(times).into_bytes());
    let other = prop_oneof![
        Just("\x1b[31m"),
        Just("\x1b[m"),
        Just("\x1b[2;4r"),
        Just("\x1b[r"),
        Just("\x1b[?1049h"),
        Just("\x1b[?1049l"),
        Just("\x1b[?7l"),
        Just("\x1b[?7h"),
        Just("\x1b[3;7H"),
        Just("\x1b[?6h"),
        Just("\x1b[?6l"),
        Just("\x1b["),
        Just("\r\n1"),
        Just("m"),
        Just("\x1b]0;title\x07"),
        Just("\x1b]0;ti"),
        Just("\x1bc"),
        Just("\u{85}"),
        Just("\x1b[J"),
        Just("\x08"),
        Just("\x0b"),
        Just("\x1bM"),
        Just("\x1b7"),
        Just("\x1b8"),
    ];
    prop_oneof![flood, other.prop_map(|text| text.as_bytes().to_vec())]
}

proptest! {
    #[test]
    fn what_is_left_out_makes_no_difference(pieces in prop::collection::vec(piece(), 1..12)) {
        let mut short = Screen::new(SIZE);
        let mut long = Parser::new_with_callbacks(rows(SIZE), cols(SIZE), 0, Watcher::default());
        for piece in &pieces {
            short.draw(piece);
            long.process(piece);
        }
        prop_assert_eq!(short.grid().state_formatted(), long.screen().state_formatted());
    }
}

#[test]
fn a_flood_is_hardly_drawn() {
    let flood = b"0123456789abcdef\r\n".repeat(100_000);
    let mut drawn = 0;
    skip::shown(&flood, 40, |part| drawn += part.len());
    assert!(drawn < 2_000, "{drawn}");
}

#[test]
fn who_joins_late_has_the_region_that_scrolls() {
    let before = b"\x1b[2;4r\x1b[3;1Hx".as_slice();
    let after = b"\r\n1\r\n2\r\n3\r\n4".as_slice();
    let mut first = screen(&[before]);
    let mut late = screen(&[&first.drawing()]);
    first.draw(after);
    late.draw(after);
    assert_eq!(first.text(), late.text());
    assert_eq!(first.drawing(), late.drawing());
}
