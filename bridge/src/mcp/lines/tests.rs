//! Every line comes to a message or an answer, whatever it holds and in whatever pieces it comes.

use proptest::prelude::*;
use serde_json::json;

use super::*;

const SMALL: usize = 200;

fn lines(pieces: &[&[u8]]) -> Vec<Line> {
    let (mut machine, mut lines) = (LineReader::with_limit(SMALL), VecDeque::new());
    for piece in pieces {
        machine.push(piece, &mut lines);
    }
    assert!(machine.line.len() <= SMALL);
    lines.into()
}

fn refusal(line: &[u8]) -> Refusal {
    match decode(Line::Whole(line.to_vec())) {
        Decoded::Refused(refusal) => refusal,
        other => panic!("{} is {other:?}", String::from_utf8_lossy(line)),
    }
}

fn message(line: &[u8]) -> Value {
    match decode(Line::Whole(line.to_vec())) {
        Decoded::Message(message) => serde_json::to_value(&*message).unwrap(),
        other => panic!("{} is {other:?}", String::from_utf8_lossy(line)),
    }
}

fn is_nothing(line: &[u8]) -> bool {
    matches!(decode(Line::Whole(line.to_vec())), Decoded::Nothing)
}

fn number(id: i64) -> Option<RequestId> {
    Some(RequestId::Number(id))
}

fn text(id: &str) -> Option<RequestId> {
    Some(RequestId::String(id.into()))
}

#[test]
fn what_is_no_json_is_answered_with_its_id() {
    let answered: [(&[u8], Option<RequestId>); 9] = [
        (b"{not json}", None),
        (b"{\"id\":7,\"method\":\"ping\",\"params\":{\"a\":\"\xff\"}}", number(7)),
        (b"{\"params\":{\"id\":1},\"method\":\"ping\",\"id\":\"a\\\"b\"", text("a\"b")),
        (b"{\"method\":\"ping\" , \"id\" : 8 , \"params\":}", number(8)),
        (b"{\"method\":\"ping\",\"id\":8,\"id\":9,}", number(8)),
        (b"{\"method\":\"ping\",\"id\":1.5,}", None),
        (b"{\"method\":\"ping\",\"id\":{\"id\":3},}", None),
        // An answer to a question of ours has that question's id.
        (b"{\"id\":7,\"result\":{\"method\":\"ping\"},}", None),
        (b"Content-Length: 12", None),
    ];
    for (line, id) in answered {
        let Refusal { id: found, error } = refusal(line);
        assert_eq!((found, error.code), (id, ErrorCode::PARSE_ERROR), "{error:?}");
    }
    let nested = ["[".repeat(200), "]".repeat(200)].concat();
    let deep = format!("{{\"method\":\"ping\",\"params\":{{\"a\":{nested}}},\"id\":9}}");
    assert_eq!(refusal(deep.as_bytes()).id, number(9), "rmcp reads at most 128 levels");
}

#[test]
fn what_is_no_message_is_answered_with_its_id_unless_nobody_waits() {
    let answered = [
        (json!({"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": 5}), number(7)),
        (json!({"jsonrpc": "2.0", "id": 7, "result": 5, "error": 5}), None),
        (json!([1]), None),
        (json!(null), None),
    ];
    for (line, id) in answered {
        let Refusal { id: found, error } = refusal(line.to_string().as_bytes());
        assert_eq!((found, error.code), (id, ErrorCode::INVALID_REQUEST), "{line}");
    }
    for line in [json!({"method": "x", "params": 5}), json!({"method": "notifications/x", "id": 1})]
    {
        assert!(is_nothing(line.to_string().as_bytes()), "{line}");
    }
    assert!(is_nothing(b"") && is_nothing(b" \r") && is_nothing(b"\xef\xbb\xbf"));
}

#[test]
fn a_half_of_a_pair_is_replaced_and_a_pair_is_not() {
    let sent = |text: &str| {
        let line =
            format!(r#"{{"jsonrpc":"2.0","id":1,"method":"x/y","params":{{"a":"{text}"}}}}"#);
        message(line.as_bytes())["params"]["a"].as_str().unwrap().to_owned()
    };
    assert_eq!(sent(r"\ud800"), "\u{fffd}");
    assert_eq!(sent(r"\uDFFFx\udbff"), "\u{fffd}x\u{fffd}");
    assert_eq!(sent(r"\ud83d\ude00 \ud83d\ud83d\ude00"), "\u{1f600} \u{fffd}\u{1f600}");
    assert_eq!(sent(r"\\ud800 \\\ud800 \u00e9"), "\\ud800 \\\u{fffd} \u{e9}");
}

#[test]
fn a_line_that_is_too_long_is_answered_with_its_id_wherever_that_is() {
    let long = "x".repeat(SMALL);
    let request = |before: &str, after: &str| {
        format!("{{{before}\"method\":\"m\",\"params\":{{\"a\":\"{long}\"}}{after}}}\n")
    };
    let all = [
        (request("\"id\":7,", ""), number(7)),
        (request("", ",\"jsonrpc\":\"2.0\",\"id\":\"z\""), text("z")),
        (request("", ""), None),
        (format!("{{\"id\":7,\"result\":\"{long}\"}}\n"), None),
    ];
    for (line, id) in all {
        let read = lines(&[line.as_bytes(), b"{}\n"]);
        assert_eq!(read, [Line::TooLong(id.clone()), Line::Whole(b"{}".to_vec())]);
        let Decoded::Refused(refused) = decode(Line::TooLong(id.clone())) else { panic!("{line}") };
        assert_eq!((refused.id, refused.error.code), (id, ErrorCode::INVALID_REQUEST));
    }
    let longest = [long.as_bytes(), b"\n"].concat();
    assert_eq!(lines(&[&longest[..]]), [Line::Whole(long.into_bytes())]);
    assert_eq!(lines(&[&b"no end"[..]]), []);
}

/// JSON of every shape, with ids within it.
fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        ".{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 4, |inner| {
        let key = prop_oneof![Just("id".to_owned()), Just("method".to_owned()), ".{0,4}"];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(key, inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn the_id_of_a_request_is_found_among_whatever_else_it_holds(
        before in value(),
        after in value(),
        id in prop_oneof![any::<i64>().prop_map(Value::from), ".{0,20}".prop_map(Value::from)],
        pretty in any::<bool>(),
    ) {
        let write = |value: &Value| match pretty {
            true => serde_json::to_string_pretty(value).unwrap().replace('\n', " "),
            false => value.to_string(),
        };
        let (first, second) = (write(&before), write(&after));
        let line = format!("{{\"a\":{first},\"id\":{id} ,\"method\":\"m\", \"b\": {second}}}");
        let expected: RequestId = serde_json::from_value(id).unwrap();
        prop_assert_eq!(IdScan::of(line.as_bytes()).request(), Some(expected));
    }
}

#[test]
fn any_bytes_make_the_same_lines_in_any_pieces_and_each_comes_to_something() {
    bolero::check!().for_each(|bytes: &[u8]| {
        let whole = lines(&[bytes]);
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(lines(&single), whole);
        assert_eq!(whole.len(), memchr::memchr_iter(b'\n', bytes).count());
        for line in whole {
            if let Decoded::Refused(refusal) = decode(line) {
                assert!(refusal.error.message.len() < 200, "{refusal:?}");
            }
        }
    });
}
