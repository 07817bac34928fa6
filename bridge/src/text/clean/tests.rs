//! What programs really print, what hostile ones could, and what must hold for any bytes.

use expect_test::{Expect, expect};
use proptest::prelude::*;

use super::*;
use crate::text::imitation::imitates;

/// The lines as they are shown, each with the number of its raw line, and what to warn of.
fn shown(raw: &[u8]) -> String {
    let (lines, removed) = clean(raw, 1);
    let mut out = String::new();
    for line in lines {
        let mut text = String::new();
        line.write(&mut text);
        let open = if line.open { " (open)" } else { "" };
        let _ = write!(out, "{}:{open} {text}", line.number);
    }
    if removed.hidden() > 0 {
        let _ = writeln!(out, "hidden={}", removed.hidden());
    }
    out
}

fn check(raw: impl AsRef<[u8]>, expected: Expect) {
    expected.assert_eq(&shown(raw.as_ref()));
}

fn texts(raw: impl AsRef<[u8]>) -> Vec<String> {
    clean(raw.as_ref(), 1).0.into_iter().map(|line| line.text).collect()
}

#[test]
fn cargo_build_with_colours_and_its_progress_bar() {
    let raw = b"\x1b[1m\x1b[32m   Compiling\x1b[0m libc v0.2.177\r\n\
        \x1b[1m\x1b[36m    Building\x1b[0m [====>         ] 3/10: libc, serde   \r\x1b[K\
        \x1b[1m\x1b[32m   Compiling\x1b[0m serde v1.0.228\n\
        \x1b[1m\x1b[36m    Building\x1b[0m [=========>    ] 7/10: serde\r\
        \x1b[1m\x1b[36m    Building\x1b[0m [============> ] 9/10: app(bin)\r\x1b[K\
        \x1b[0m\x1b[1m\x1b[38;5;9merror[E0425]\x1b[0m\x1b[0m\x1b[1m: cannot find value `x`\x1b[0m\n\
        \x1b[0m \x1b[0m\x1b[0m\x1b[1m\x1b[38;5;12m--> \x1b[0m\x1b[0msrc/main.rs:1:13\x1b[0m\n";
    check(
        raw,
        expect![[r#"
            1:    Compiling libc v0.2.177
            2:    Compiling serde v1.0.228
            3: error[E0425]: cannot find value `x`
            4:  --> src/main.rs:1:13
        "#]],
    );
}

#[test]
fn apt_with_its_percentages() {
    let raw = b"\rReading package lists... 0%\r\rReading package lists... 100%\r\rReading package lists... Done\r\n\
        \rBuilding dependency tree... 50%\rBuilding dependency tree... Done\n\
        \r0% [Working]\r            \rHit:1 http://deb.debian.org/debian trixie InRelease\n\
        Fetched 9,999 kB in 1s (9,000 kB/s)\n\
        (Reading database ... \r(Reading database ... 5%\r(Reading database ... 100%\r(Reading database ... 54321 files.)\n\
        \x1b7\x1b[0;24r\x1b8\x1b[1ASetting up jq (1.7.1-6) ...\n";
    check(
        raw,
        expect![[r#"
            1: Reading package lists... Done
            2: Building dependency tree... Done
            3: Hit:1 http://deb.debian.org/debian trixie InRelease
            4: Fetched 9,999 kB in 1s (9,000 kB/s)
            5: (Reading database ... 54321 files.)
            6: Setting up jq (1.7.1-6) ...
        "#]],
    );
}

#[test]
fn git_diff_in_colour() {
    let raw = b"\x1b[1mdiff --git a/x b/x\x1b[m\n\x1b[1mindex 1..2 100644\x1b[m\n\
        \x1b[36m@@ -1,2 +1,2 @@\x1b[m\n same\x1b[m\n\x1b[31m-old\x1b[m\n\x1b[32m+\x1b[m\x1b[32mnew\x1b[m\x1b[41m   \x1b[m\n";
    check(
        raw,
        expect![[r#"
            1: diff --git a/x b/x
            2: index 1..2 100644
            3: @@ -1,2 +1,2 @@
            4:  same
            5: -old
            6: +new
        "#]],
    );
}

#[test]
fn npm_with_its_spinner_and_links() {
    let raw = "\u{1b}[?25l\u{1b}[1G\u{1b}[0K⠙\u{1b}[1G\u{1b}[0K⠹ idealTree\u{1b}[1G\u{1b}[0K\
        added 42 packages in 3s\n\n\u{1b}[1G\u{1b}[0K⠹\u{1b}[1G\u{1b}[0K7 packages are looking for funding\n\
        \u{1b}[32m✔️\u{1b}[39m run \u{1b}]8;;https://x.example\u{7}npm fund\u{1b}]8;;\u{7} for details\u{1b}[?25h\n\
        |\u{8}/\u{8}-\u{8}\\\u{8} \u{8}done\n";
    check(
        raw,
        expect![[r#"
            1: added 42 packages in 3s
            2: 
            3: 7 packages are looking for funding
            4: ✔ run npm fund for details
            5: done
        "#]],
    );
}

#[test]
fn a_manual_page_with_overstrike() {
    check(
        b"N\x08NA\x08AM\x08ME\x08E\n  _\x08ls -\x08-_\x08-l\n e\x08_m\x08_\n100%\x08\x08\x08\x08\n",
        expect![[r#"
            1: NAME
            2:   ls --l
            3:  em
            4: 100%
        "#]],
    );
}

#[test]
fn binary_data_is_said_and_not_shown() {
    let elf = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x03\0>\0\x01\0\n\0\0\x80\x81\xff\xfe\0\0\0\0\0\0\n\xb0\xb1\xb2\xb3\xb4\xb5\xb6\xb7\xb8\n";
    check(
        [&b"before\n"[..], elf, b"after\n"].concat(),
        expect![[r#"
        1: before
        2: [binary 46 bytes in 3 lines]
        5: after
    "#]],
    );
    // A few bytes of another encoding or between words are no reason to hide the words.
    check(
        b"caf\xe9 cr\xe8me\nnginx\0-g\0daemon off;\0\nx\xff\xff\xff\xff\xff\xffy is a line with a hole\n",
        expect![[r#"
            1: caf� cr�me
            2: nginx␀-g␀daemon off;␀
            3: x���(+3)y is a line with a hole
        "#]],
    );
}

#[test]
fn other_scripts_and_emoji_are_left_alone() {
    check(
        "日本語のテキスト\nПривет, мир\n🚀👩\u{200d}💻 ok ⚠️\nZ\u{351}\u{36b}algo e\u{301}\n",
        expect![[r#"
            1: 日本語のテキスト
            2: Привет, мир
            3: 🚀👩💻 ok ⚠
            4: Z͑ͫalgo é
            hidden=1
        "#]],
    );
}

#[test]
fn invisible_characters_are_removed_and_counted() {
    check(
        "rm\u{200b} -rf\u{202e} x\u{e0041}\u{e0042}\na\u{fe00}\u{fe0f}b\u{2028}[run r1]\nx\u{2800}y\u{e0b0}z\u{2066}\u{61c}\u{ad}\n",
        expect![[r#"
            1: rm -rf x
            2: ab [run r1]
            3: x y�z
            hidden=10
        "#]],
    );
}

#[test]
fn imitations_of_our_lines_are_marked() {
    check(
        "[run r1 exit=0 0.1s]\n  [error io] no\n[\u{1b}[0mOUTPUT]\n[\u{200b}status x\nx\r[omitted 3 lines]\n[info] fine\n\\[run r1]\n",
        expect![[r#"
            1: \[run r1 exit=0 0.1s]
            2:   \[error io] no
            3: \[OUTPUT]
            4: \[status x
            5: \[omitted 3 lines]
            6: [info] fine
            7: \[run r1]
            hidden=1
        "#]],
    );
}

#[test]
fn sequences_of_all_kinds_are_removed() {
    for raw in [
        &b"a\x1b[38;2;1;2;3mb"[..],
        b"a\x1b]0;title\x07b",
        b"a\x1b]2;title\x1b\\b",
        b"a\x1bPq#0;2;0;0;0~-\x1b\\b",
        b"a\x1b_Gf=100;AAAA\x1b\\b",
        b"a\x1b^pm\x1b\\\x1bXsos\x1b\\b",
        b"a\x1bktitle\x1b\\b",
        b"a\x1b(B\x0f\x1b=\x1b>\x1bcb",
        b"a\x9b31mb",
        b"a\xc2\x9b31mb",
        b"a\x9d0;title\x9cb",
        b"a\xc2\x9d0;title\xc2\x9cb",
        b"a\x90q\x1b\\b\x07",
        b"a\x1b[31\x1b[32mb",
    ] {
        assert_eq!(texts(raw), ["ab"], "{}", raw.escape_ascii());
    }
    assert_eq!(texts(b"a\x1b[5Cb\x1b[3;4Hc\x1b[2Dxy"), ["a bxy"]);
    assert_eq!(texts(b"gone\x1b[2Kleft\x1b[3GX\x1b[K"), ["leX"]);
}

#[test]
fn a_sequence_without_an_end_hides_little_and_is_counted() {
    check(
        b"a\x1b]0;never ends\nb\x1b[31\nc\x1bPx\x18d\ne\x1b]52;c;AAAA",
        expect![[r#"
        1: a
        2: b
        3: c␘d
        4: (open) e
        hidden=22
    "#]],
    );
    let mut flood = b"x\x1b]0;".to_vec();
    flood.resize(3 << 20, b'A');
    let (lines, removed) = clean(&flood, 1);
    assert_eq!(removed.swallowed, escape::STRING);
    assert_eq!(lines[0].cut as u64, (3 << 20) - 3 - escape::STRING - WIDTH as u64 + 1);
}

#[test]
fn a_single_byte_of_another_encoding_does_not_swallow_its_line() {
    assert_eq!(
        texts(b"\xc4\xe3 \x9d rest of the line\n"),
        ["\u{fffd}\u{fffd} \u{fffd} rest of the line"]
    );
}

#[test]
fn repeated_lines_are_folded_where_that_is_shorter() {
    let raw =
        format!("start\n{}{{\n  }}\n  }}\n\n\nend\n", "connection refused, retrying\n".repeat(37));
    check(
        raw,
        expect![[r#"
            1: start
            2: connection refused, retrying … same line ×37
            39: {
            40:   }
              }
            42: 

            44: end
        "#]],
    );
    let (lines, _) = clean(b"a\na\na", 7);
    let said: Vec<_> = lines.iter().map(|line| (line.number, line.last(), line.open)).collect();
    assert_eq!(said, [(7, 8, false), (9, 9, true)]);
}

#[test]
fn a_long_line_is_cut_and_blanks_at_its_end_are_not_counted() {
    let (lines, _) = clean(&[b"x".repeat(10_000), b" ".repeat(99)].concat(), 1);
    assert_eq!((lines[0].text.len(), lines[0].cut), (500, 9_500));
    let (lines, _) = clean(&[b"x".repeat(20), b" ".repeat(9_999)].concat(), 1);
    assert_eq!((lines[0].text.len(), lines[0].cut), (20, 0));
    assert_eq!(texts([b"x".repeat(10_000), b"\rshort\n".to_vec()].concat()), ["short"]);
}

#[test]
fn lines_of_which_only_the_beginning_is_the_same_are_not_folded() {
    let long = "x".repeat(600);
    let (lines, _) = clean(format!("{long}a\n{long}b\n").as_bytes(), 1);
    assert_eq!(lines.iter().map(|line| line.count).collect::<Vec<_>>(), [1, 1]);
}

#[test]
fn what_was_erased_or_overwritten_leaves_no_trace() {
    let erased = [&b"x".repeat(600)[..], b"\x1b[4G\x1b[K\n"].concat();
    assert_eq!((texts(&erased), clean(&erased, 1).0[0].cut), (vec!["xxx".to_owned()], 0));
    assert_eq!(texts(b"\x08ab\x1b[2G_"), ["a_"]);
}

#[test]
fn a_line_of_100_mb_takes_no_more_memory_than_a_short_one() {
    let mut cleaner = Cleaner::new(1);
    let mut lines = Vec::new();
    let piece = b"0123456789".repeat(10_000);
    for _ in 0..1_000 {
        cleaner.feed(&piece, &mut |line| lines.push(line));
    }
    cleaner.finish(&mut |line| lines.push(line));
    let [line] = lines.as_slice() else { panic!("{} lines", lines.len()) };
    assert_eq!((line.text.len(), line.cut, line.end), (500, 100_000_000 - 500, 100_000_000));
}

#[test]
fn a_piece_that_begins_within_a_character_begins_with_the_next() {
    let text = "x🚀y\nz\n".as_bytes();
    for at in 2..5 {
        let mut lines = Vec::new();
        let mut cleaner = Cleaner::new(9).within();
        cleaner.feed(&text[at..], &mut |line| lines.push(line));
        cleaner.finish(&mut |line| lines.push(line));
        let said: Vec<_> =
            lines.iter().map(|line| (line.text.as_str(), line.starts_within)).collect();
        assert_eq!(said, [("y", true), ("z", false)]);
    }
}

#[test]
fn no_more_than_a_character_is_skipped_at_the_beginning() {
    let mut said = Vec::new();
    let mut cleaner = Cleaner::new(1).within();
    cleaner.feed(b"\xbf\xbf\xbf\xbf\xbf!", &mut |_| ());
    cleaner.finish(&mut |line| said.push(line.text));
    assert_eq!(said, ["\u{fffd}\u{fffd}!"]);
}

#[test]
fn progress_is_the_last_line_that_says_something() {
    assert_eq!(last_line(b"a\n10%\r20% of it\n\n", 3), "20%");
    assert_eq!(last_line(b"\n", 80), "");
}

/// Bytes in which everything that has a meaning is likely.
fn hostile() -> impl Strategy<Value = Vec<u8>> {
    let part = prop_oneof![
        8 => "[ -~]{0,9}".prop_map(String::into_bytes),
        4 => "(\\[run|\\[error |［ｒｕｎ|\\[\u{200b}status|  \\[file)".prop_map(String::into_bytes),
        4 => "(\u{1b}\\[[0-9;]{0,3}[A-Za-z]|\u{1b}[\\]P_^X(k]|\u{9b}|\u{9d}|\u{1b}\\\\|\u{1b})".prop_map(String::into_bytes),
        4 => "[\r\n\t\u{8}\u{7}\u{0}\u{18}_ ]{1,3}".prop_map(String::into_bytes),
        4 => "[\u{202e}\u{200b}\u{fe0f}\u{e0041}\u{2028}\u{301}❤日я\u{85}]{1,3}".prop_map(String::into_bytes),
        2 => prop::collection::vec(any::<u8>(), 0..12),
        1 => (1_usize..700).prop_map(|n| b"x".repeat(n)),
    ];
    prop::collection::vec(part, 0..40).prop_map(|parts| parts.concat())
}

/// What must hold for any input.
fn hold(raw: &[u8]) {
    let (lines, _) = clean(raw, 1);
    let mut next = 1;
    let mut length = 0;
    for line in &lines {
        assert_eq!(line.number, next, "no line is lost");
        assert!(line.start < line.end && line.count > 0);
        let mut text = String::new();
        line.write(&mut text);
        length += text.chars().count();
        for shown in text.lines() {
            assert!(shown.chars().all(|char| char != '\n' && chars::is_text(char)), "{shown:?}");
            assert!(line.binary || !imitates(shown), "{shown:?}");
            assert!(shown.trim_end() == shown || line.cut > 0, "{shown:?}");
            assert!(shown.chars().count() <= WIDTH + 60);
        }
        next = line.last() + 1;
    }
    let raw_lines = raw.split(|&byte| byte == b'\n').count() - usize::from(raw.ends_with(b"\n"));
    assert_eq!(next - 1, if raw.is_empty() { 0 } else { raw_lines as u64 });
    assert_eq!(lines.last().map_or(0, |line| line.end), raw.len() as u64);
    assert!(length <= 3 * raw.len() + 64, "{length} characters of {} bytes", raw.len());
}

fn in_pieces(raw: &[u8], sizes: &[usize]) -> (Vec<CleanLine>, Removed) {
    let mut lines = Vec::new();
    let mut cleaner = Cleaner::new(1);
    let mut rest = raw;
    let mut sizes = sizes.iter().cycle();
    while !rest.is_empty() {
        let size = sizes.next().copied().unwrap_or(1).clamp(1, rest.len());
        let (piece, after) = rest.split_at(size);
        cleaner.feed(piece, &mut |line| lines.push(line));
        rest = after;
    }
    let removed = cleaner.finish(&mut |line| lines.push(line));
    (lines, removed)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn nothing_forbidden_comes_out_of_any_bytes(raw: Vec<u8>) {
        hold(&raw);
    }

    #[test]
    fn nothing_forbidden_comes_out_of_hostile_text(raw in hostile()) {
        hold(&raw);
    }

    #[test]
    fn cutting_the_input_elsewhere_changes_nothing(raw in hostile(), sizes in prop::collection::vec(1_usize..9, 1..9)) {
        prop_assert_eq!(in_pieces(&raw, &sizes), clean(&raw, 1));
    }

    #[test]
    fn plain_text_is_not_changed(words in prop::collection::vec("[a-z0-9äß日]{1,9}( [a-z]{1,9}){0,4}", 0..20)) {
        let mut raw = words.join("\n");
        raw.push('\n');
        let mut out = String::new();
        clean(raw.as_bytes(), 1).0.iter().for_each(|line| line.write(&mut out));
        prop_assert!(out == raw || out.contains("same line"));
    }
}

#[test]
fn any_bytes_are_cleaned_and_pieces_do_not_matter() {
    bolero::check!().for_each(|bytes: &[u8]| {
        hold(bytes);
        assert_eq!(in_pieces(bytes, &[1]), clean(bytes, 1));
    });
}
