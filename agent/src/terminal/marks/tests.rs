//! Marks are read where they are, and believed only with the nonce.

use proptest::prelude::*;

use super::*;

fn mark(what: &str) -> String {
    format!("\x1b]133;{what}\x07")
}

fn read(marks: &mut Marks, text: &str) -> MarkScan {
    marks.read(0, text.as_bytes(), 0)
}

#[test]
fn a_command_has_its_text_its_exit_and_exactly_its_output() {
    let mut marks = Marks::new(Some("n"));
    let before = format!("{}$ {}ls\r\n{}", mark("A;n"), mark("B;n"), mark("E;n;ls%3b%20%25"));
    let began = format!("{before}{}", mark("C;n"));
    let output = "a \x1b[31mb\x1b[m\r\n";
    let text = format!("{began}{output}{}{}$ {}", mark("D;n;7"), mark("A;n"), mark("B;n"));
    assert!(read(&mut marks, &text).changed && marks.marks_commands());
    let command = marks.commands().next().unwrap();
    assert_eq!((command.number, command.exit), (1, Some(7)));
    assert_eq!(command.text.as_deref(), Some("ls; %"));
    let (start, end) = (command.start as usize, command.end.unwrap() as usize);
    assert_eq!(&text[start..end], output);
    assert_eq!((marks.phase(), marks.ended_count()), (Phase::Waiting, 1));
}

#[test]
fn the_text_may_come_after_the_end() {
    let mut marks = Marks::new(Some("n"));
    let text = [mark("C;n"), mark("D;n;0"), mark("E;n;true"), mark("A;n")].concat();
    read(&mut marks, &text);
    assert_eq!(marks.commands().next().unwrap().text.as_deref(), Some("true"));
}

#[test]
fn output_that_imitates_marks_is_output() {
    let mut marks = Marks::new(Some("nonce"));
    read(&mut marks, &mark("C;nonce"));
    for fake in ["D;0", "D;;0", "D;other;0", "D;nonc;0", "D;nonce0", "A", "133;D;nonce;0"] {
        assert!(!read(&mut marks, &mark(fake)).changed, "{fake}");
    }
    // Within another string, broken off, too long.
    read(&mut marks, "\x1bP\x1b]133;D;x\x07 \x1b]133;D;nonce\x18;0\x07");
    let long = format!("D;nonce;0{}", "0".repeat(9_000));
    read(&mut marks, &mark(&long));
    assert_eq!((marks.phase(), marks.ended_count()), (Phase::Running, 0));
    assert!(!Marks::new(None).read(0, mark("A;").as_bytes(), 0).changed, "none is believed");
}

#[test]
fn a_recording_of_the_session_itself_ends_nothing() {
    let mut marks = Marks::new(Some("n"));
    let first = [mark("A;n"), mark("B;n"), mark("C;n;1"), "a".into(), mark("D;n;0;1")].concat();
    let prompt = [mark("A;n"), mark("B;n")].concat();
    read(&mut marks, &[&first, &prompt, &mark("C;n;2")].map(String::as_str).concat());
    for replayed in [&first, &prompt, &mark("D;n;0"), &mark("E;n;x"), &mark("C;n;2"), &mark("C;n")]
    {
        assert!(!read(&mut marks, replayed).changed, "{replayed:?}");
        assert_eq!((marks.phase(), marks.ended_count()), (Phase::Running, 1));
    }
    read(&mut marks, &mark("D;n;5;2"));
    assert_eq!(marks.commands().next_back().unwrap().exit, Some(5));
    // At the prompt, from the background.
    read(&mut marks, &[prompt, mark("D;n;0;1"), mark("C;n;1")].concat());
    assert_eq!((marks.phase(), marks.ended_count()), (Phase::Waiting, 2));
}

#[test]
fn what_runs_when_the_terminal_ends_has_ended_nobody_knows_how() {
    let mut marks = Marks::new(Some("n"));
    let text = [mark("C;n"), mark("D;n;0"), mark("C;n"), "half".into()].concat();
    read(&mut marks, &text);
    marks.over(text.len() as u64);
    let ends: Vec<_> = marks.commands().map(|command| (command.exit, command.end)).collect();
    assert_eq!(ends[0].0, Some(0));
    assert_eq!(ends[1], (None, Some(text.len() as u64)));
    assert_eq!((marks.phase(), marks.ended_count()), (Phase::Unknown, 2));
}

#[test]
fn a_line_of_several_commands_is_one() {
    let mut marks = Marks::new(Some("n"));
    let text = [mark("C;n"), "a".into(), mark("C;n"), "b".into(), mark("D;n;3")].concat();
    read(&mut marks, &text);
    assert_eq!(marks.commands().count(), 1);
    assert_eq!(marks.commands().next().unwrap().exit, Some(3));
}

#[test]
fn questions_to_a_terminal_are_found_and_others_are_not() {
    let found = |text: &str| -> Vec<Query> {
        let found = Marks::new(None).read(0, text.as_bytes(), 0);
        found.queries.into_iter().map(|(_, query)| query).collect()
    };
    assert_eq!(found("\x1b[c\x1b[0c"), [Query::Attributes; 2]);
    assert_eq!(
        found("x\x1b[>cx\x1b[5nx\x1b[6n"),
        [Query::MoreAttributes, Query::Status, Query::Cursor]
    );
    assert_eq!(found("\x1b[1c\x1b[?6c\x1b[0n\x1b[6;1R\x1b]0;\x1b[6n"), [Query::Cursor]);
}

proptest! {
    #[test]
    fn however_it_is_cut_the_same_is_found(cuts in prop::collection::vec(0..200_usize, 0..6)) {
        let text = [
            &mark("A;n"), "$ ", &mark("B;n"), "x\r\n", &mark("E;n;x"), &mark("C;n"), "out\x1b[6n\x1b]8;;\x1b\\",
            "\x1b]133;D;n;42\x1b\\", &mark("A;n"),
        ].concat();
        let mut whole = Marks::new(Some("n"));
        let queries = read(&mut whole, &text).queries;
        let mut cuts: Vec<_> = cuts.into_iter().map(|at| at.min(text.len())).collect();
        cuts.extend([0, text.len()]);
        cuts.sort_unstable();
        let mut parts = Marks::new(Some("n"));
        let mut found = Vec::new();
        for pair in cuts.windows(2) {
            found.extend(parts.read(pair[0] as u64, &text.as_bytes()[pair[0]..pair[1]], 0).queries);
        }
        prop_assert_eq!(queries, found);
        let (one, other) = (whole.commands().next().unwrap(), parts.commands().next().unwrap());
        prop_assert_eq!((one.start, one.end, one.exit), (other.start, other.end, other.exit));
        prop_assert_eq!(other.exit, Some(42));
    }
}

proptest! {
    #[test]
    fn what_comes_at_once_is_read_as_what_comes_byte_by_byte(
        pieces in prop::collection::vec(prop::sample::select(vec![
            "\x1b[31m", "\x1b[6n", "\x1b[>c", "\x1b[?25h", "\x1b[", "\x1b]0;x\x07", "\x1b]133;C;n\x07", "\x1b]133;D;n;1\x07",
            "\x1b]133", "\x1b]", ";", "\x07", "\x18", "\x1b", "\\", "P", "text", "\x1b]8;;\x1b\\", "\x1b[3 q", "\n",
        ]), 0..24),
    ) {
        let text = pieces.concat();
        let (mut whole, mut parts) = (Marks::new(Some("n")), Marks::new(Some("n")));
        let at_once = read(&mut whole, &text).queries;
        let each = text.bytes().enumerate();
        let one_by_one: Vec<_> = each.flat_map(|(at, byte)| parts.read(at as u64, &[byte], 0).queries).collect();
        prop_assert_eq!(at_once, one_by_one);
        prop_assert_eq!(whole.phase(), parts.phase());
        let ends = |marks: &Marks| -> Vec<_> { marks.commands().map(|one| (one.start, one.end, one.exit)).collect() };
        prop_assert_eq!(ends(&whole), ends(&parts));
    }
}

#[test]
fn any_bytes_are_read() {
    bolero::check!().for_each(|bytes: &[u8]| {
        let mut marks = Marks::new(Some("n"));
        marks.read(0, bytes, 0);
        assert!(marks.ended_count() <= bytes.len() as u64);
    });
}

#[test]
fn of_what_an_earlier_agent_has_read_nobody_knows_when_it_came() {
    let mut marks = Marks::new(Some("n"));
    let old = [mark("C;n"), "\x1b[6n".to_owned()].concat();
    let seen = old.len() as u64;
    let queries = marks.read(0, old.as_bytes(), seen).queries;
    assert_eq!(queries, [(seen, Query::Cursor)], "not after what was seen: not answered again");
    marks.read(seen, [mark("D;n;0"), mark("C;n"), mark("D;n;1")].concat().as_bytes(), seen);
    let [first, second] = [0, 1].map(|at| marks.commands().nth(at).unwrap().duration());
    assert!(first.is_none() && second.is_some());
}

#[test]
fn marks_within_the_output_of_a_line_are_none_of_it() {
    let output = b"a\r\n\x1b]133;C;n0nce;2\x07b\x1b]133;C;other;2\x07\x1b]133;E;n0nce\x07c";
    let left = without_marks(output, Some("n0nce"));
    assert_eq!(left, b"a\r\nb\x1b]133;C;other;2\x07c".as_slice());
    assert_eq!(without_marks(output, None), output.as_slice());
    assert_eq!(without_marks(b"x\x1b]133;C;n0nce;2", Some("n0nce")), b"x".as_slice());
    assert_eq!(without_marks(b"plain", Some("n0nce")), b"plain".as_slice());
}
