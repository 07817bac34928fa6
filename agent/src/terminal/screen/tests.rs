//! What is skipped in a flood, and how a screen is redrawn.

use proptest::prelude::*;

use super::*;

const SIZE: Size = Size { cols: 30, rows: 5 };

fn all() -> Effort {
    Effort::new(Duration::MAX)
}

fn screen(pieces: &[&[u8]]) -> Screen {
    let mut screen = Screen::new(SIZE);
    pieces.iter().for_each(|piece| screen.draw(piece, &all()));
    screen
}

/// Pieces of output: floods of lines, and what may come before, between and after.
fn piece() -> impl Strategy<Value = Vec<u8>> {
    let line = prop_oneof![
        8 => "[ -~]{0,40}\r\n",
        1 => "[ -~]{0,40}\n",
        1 => "[a-zäé漢\t]{0,20}\r\n",
        2 => "[ -~]{1,40}",
        1 => "[ -~äé漢]{1,40}",
    ];
    let flood = (prop::collection::vec(line, 1..30), 1_usize..800)
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
        Just("\x1b(0"),
        Just("\x1b(B"),
        Just("\x1b)0"),
        Just("\x0e"),
        Just("\x0f"),
        Just("lqqqk"),
        Just("\x1b[?47h"),
        Just("\x1b[?47l"),
        Just("\x1b[s"),
        Just("\x1b[u"),
        Just("\x1b[?25l"),
        Just("\x1b[?1002;1006h"),
        Just("\x1b[?2004h"),
        Just("\x1b[4h"),
    ];
    prop_oneof![flood, other.prop_map(|text| text.as_bytes().to_vec())]
}

proptest! {
    #[test]
    fn what_is_left_out_makes_no_difference(pieces in prop::collection::vec(piece(), 1..12)) {
        let (mut short, mut modes) = (Screen::new(SIZE), Modes::default());
        let mut long = Parser::new_with_callbacks(rows(SIZE), cols(SIZE), 0, Watcher::default());
        for piece in &pieces {
            short.draw(piece, &all());
            modes.read(piece, |part| long.process(part));
        }
        prop_assert_eq!(short.grid().screen().state_formatted(), long.screen().state_formatted());
    }
}

/// Sequences that switch modes, that only draw, or that begin something.
fn sequence() -> impl Strategy<Value = Vec<u8>> {
    let all = [
        "\x1b[?1049h",
        "\x1b[?1049l",
        "\x1b[?47h",
        "\x1b[?6h",
        "\x1b[?2004h",
        "\x1b[?2004l",
        "\x1b[?1000h",
        "\x1b[2;3r",
        "\x1b[r",
        "\x1b7",
        "\x1b8",
        "\x1b[s",
        "\x1b[u",
        "\x0e",
        "\x0f",
        "\x1b(0",
        "\x1b)0",
        "\x1bc",
        "\x1b[!p",
        "\x1b=",
        "\x1b[4h",
        "\x1b[31m",
        "\x1b]2;y\x1b\\",
        "\x1b[2J",
        "\x1b[5;5H",
        "\x1b]0;x\x07",
        "\x1b]8;;y\x07",
        "\x1b]0;x",
        "\x1bP",
        "\x1b[",
        "\x1b",
        "\x18",
        "[",
        "text",
        "é",
    ];
    prop::sample::select(all.to_vec()).prop_map(|text| text.as_bytes().to_vec())
}

proptest! {
    #[test]
    fn what_is_passed_over_switches_as_what_is_read(
        pieces in prop::collection::vec((sequence(), 1_usize..4), 0..40),
        cut in 0_usize..400,
    ) {
        let text: Vec<u8> = pieces.iter().flat_map(|(piece, times)| piece.repeat(*times)).collect();
        let mut modes = Modes::default();
        modes.read(&text, |_| {});
        let (first, rest) = text.split_at(cut.min(text.len()));
        let mut passed = Screen::new(SIZE);
        passed.pass_over(first, &all());
        passed.pass_over(rest, &all());
        prop_assert_eq!(passed.modes.undo(), modes.undo());
        prop_assert_eq!(passed.modes.beneath(), modes.beneath());
        prop_assert_eq!(passed.modes.saved(), modes.saved());
        prop_assert_eq!(passed.modes.is_midway(), modes.is_midway());
        let mut drawn = Screen::new(SIZE);
        drawn.draw(&text, &all());
        prop_assert_eq!(passed.summary().title, drawn.summary().title);
    }
}

#[test]
fn what_is_left_out_switches_all_the_same() {
    let mut screen = screen(&[b"\x1b[?2004h$ \x1b]0;half"]);
    screen.modes.read(b"title\x07\x1b[2;4rx\x1b[?1049hx\x1b[?2004l\x1b[?1h", |_| {});
    screen.settle();
    let facts = screen.summary().facts;
    assert!(facts.alternate && facts.application_cursor && !facts.bracketed_paste);
    screen.draw(b"\x1b[H\x1b[Jseen\x1b[?1049l", &all());
    assert_eq!(screen.text(), "$\n");
}

#[test]
fn what_takes_too_long_is_left_out_and_what_follows_is_drawn_as_what_it_is() {
    let mut screen = screen(&[b"\x1b[?2004hbefore", b"\x1b["]);
    screen.draw(b"5;5Hleft out\x1b[?1h\x1b]0;half", &Effort::new(Duration::ZERO));
    screen.draw(b" title\x07\x1b[1mafter", &all());
    assert_eq!(screen.text(), "beforeafter\n");
    let ScreenSummary { facts, title, .. } = screen.summary();
    assert!(facts.bracketed_paste && facts.application_cursor);
    assert_eq!(title.as_deref(), Some("half title"));
}

#[test]
fn a_character_is_repeated_as_often_as_there_are_cells() {
    let size = Size { cols: 3, rows: 2 };
    for (count, drawn) in [("", 2), ("3", 4), ("65535", 7), ("99999999", 7)] {
        let mut screen = Screen::new(size);
        screen.draw(format!("x\x1b[{count}b").as_bytes(), &all());
        let mut long = Screen::new(size);
        long.draw("x".repeat(drawn).as_bytes(), &all());
        assert_eq!(screen.drawing(), long.drawing(), "{count}");
    }
}

#[test]
fn a_flood_of_what_draws_nothing_is_hardly_read() {
    for one in ["\x1b]0;x\x07", "\x1b[?1049h", "\x1b[2;5r", "\x1b[5;5H", "\x1b[31m"] {
        let flood = one.as_bytes().repeat(10_000);
        let rest = skip::without_drawing(&flood, false);
        assert!(rest.bytes.len() < 16, "{one:?}");
    }
}

#[test]
fn a_flood_is_hardly_drawn() {
    let flood = b"0123456789abcdef\r\n".repeat(100_000);
    let mut drawn = 0;
    let size = Size { cols: 120, rows: 40 };
    skip::draw_shown(&flood, size, |part| drawn += part.len());
    assert!(drawn < 2_000, "{drawn}");
    // The same without the end of a line, whatever comes before and after.
    for flood in
        [b"x".repeat(1 << 20), [b"\r\n\x1b[1m".as_slice(), &b"y".repeat(1 << 20), b"\t"].concat()]
    {
        drawn = 0;
        skip::draw_shown(&flood, size, |part| drawn += part.len());
        assert!(drawn < 11_000, "{drawn}");
    }
}

#[test]
fn what_is_passed_over_leaves_what_it_switched() {
    let flood = b"\x1b[?2004h\x1b[31mred\x1b[2K\x1b[1;1H\xc3\xa9\r\x1b[?1h\x1b[0;1m".repeat(1_000);
    assert!(skip::without_drawing(&flood, false).bytes.len() < flood.len() * 2 / 3);
    let mut screen = screen(&[b"$ \x1b[?1049h"]);
    screen.pass_over(&[&flood[..], b"\x1b]2;title\x07\x1b[?10"].concat(), &all());
    screen.draw(b"02h\x1b[H\x1b[Jseen", &all());
    assert!(
        screen.summary().facts.alternate
            && screen.summary().facts.bracketed_paste
            && screen.summary().facts.application_cursor
    );
    assert_eq!(screen.summary().title.as_deref(), Some("title"));
    assert_eq!(screen.text(), "seen\n");
    let modes = String::from_utf8(screen.drawing()).unwrap();
    assert!(modes.contains("\x1b[?1002h"), "{modes:?}");
}

#[test]
fn who_joins_late_has_the_region_that_scrolls() {
    let before = b"\x1b[2;4r\x1b[3;1Hx".as_slice();
    let after = b"\r\n1\r\n2\r\n3\r\n4".as_slice();
    let mut first = screen(&[before]);
    let mut late = screen(&[&first.drawing()]);
    first.draw(after, &all());
    late.draw(after, &all());
    assert_eq!(first.text(), late.text());
    assert_eq!(first.drawing(), late.drawing());
}

#[test]
fn who_joins_late_has_the_cursor_that_was_saved_at_the_end_of_a_full_row() {
    let full = "x".repeat(SIZE.cols.into());
    for save in ["\x1b7", "\x1b[s"] {
        let mut first = screen(&[full.as_bytes(), save.as_bytes(), b"\x1b[H"]);
        let mut late = screen(&[&first.drawing()]);
        first.draw(b"\x1b8y", &all());
        late.draw(b"\x1b8y", &all());
        assert_eq!(first.text(), format!("{full}\ny\n"), "{save:?}");
        assert_eq!(first.text(), late.text(), "{save:?}");
    }
}

/// Pieces after which a terminal that starts late is in the same state as one that saw everything.
/// Where the crate that draws keeps a state for each screen, such as origin mode, and terminals
/// have one for both, it would mislead this test.
fn before() -> impl Strategy<Value = Vec<Vec<u8>>> {
    prop::collection::vec(piece(), 0..12).prop_filter("shared by both screens", |all| {
        !all.concat().windows(5).any(|of| of == b"\x1b[?6h")
    })
}

proptest! {
    #[test]
    fn who_joins_late_sees_what_the_first_one_sees(
        before in before(),
        after in before(),
        rested in any::<bool>(),
    ) {
        let mut first = Screen::new(SIZE);
        before.iter().for_each(|piece| first.draw(piece, &all()));
        // The content of a hidden alternate screen is not redrawn, and mode 47 would show it again.
        let has = |pieces: &[Vec<u8>], mode: &[u8]| memchr::memmem::find(&pieces.concat(), mode).is_some();
        let drawn = has(&before, b"[?47h") || has(&before, b"[?1049h");
        prop_assume!(first.summary().facts.alternate || !drawn || !has(&after, b"[?47h"));
        let mut late = screen(&[&first.drawing()]);
        if rested {
            first.looked = Instant::now().checked_sub(KEEP).unwrap();
            first.rest();
        }
        prop_assert_eq!(first.text(), late.text());
        for piece in after {
            first.draw(&piece, &all());
            late.draw(&piece, &all());
        }
        prop_assert_eq!(first.text(), late.text());
        let [first, late] = [first.drawing(), late.drawing()];
        prop_assert_eq!(String::from_utf8_lossy(&first), String::from_utf8_lossy(&late));
    }
}

#[test]
fn a_character_that_comes_in_pieces_takes_none_away_with_it() {
    let text = "é漢B\u{301}C─𝄞\u{301}é";
    for cut in 0..=text.len() {
        let (first, rest) = text.as_bytes().split_at(cut);
        let mut screen = screen(&[first]);
        if cut % 2 == 0 {
            screen.looked = Instant::now().checked_sub(KEEP).unwrap();
            screen.rest();
        }
        rest.chunks(1).for_each(|byte| screen.draw(byte, &all()));
        assert_eq!(screen.text(), format!("{text}\n"), "{cut}");
    }
    let (at_once, in_pieces) = (b"\xc3\x1b[1m\xe6\xbcx", [&b"\xc3"[..], b"\x1b[1m\xe6\xbc", b"x"]);
    assert_eq!(screen(&in_pieces).drawing(), screen(&[at_once]).drawing());
}

#[test]
fn the_next_line_and_one_line_down_are_lines() {
    assert_eq!(screen(&[b"abc\x1bEdef\x1bDg"]).text(), "abc\ndef\n   g\n");
}

#[test]
fn lines_are_shown_as_lines() {
    let mut screen = screen(&[b"\x1b(0lqqk\r\nx  x\r\nmqqj\x1b(B\r\nq"]);
    assert_eq!(screen.text(), "┌──┐\n│  │\n└──┘\nq\n");
}

#[test]
fn who_joins_within_a_full_screen_program_finds_the_other_screen_beneath() {
    let mut first = screen(&[b"$ vim f\r\n", b"\x1b[?1049h\x1b[?1h\x1b=\x1b[Hpicture"]);
    let mut late = screen(&[&first.drawing()]);
    assert_eq!(late.text(), "picture\n");
    first.draw(b"\x1b[?1l\x1b>\x1b[?1049l$ ", &all());
    late.draw(b"\x1b[?1l\x1b>\x1b[?1049l$ ", &all());
    assert_eq!(late.text(), "$ vim f\n$\n");
    assert_eq!(first.drawing(), late.drawing());
}
