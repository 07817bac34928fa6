//! Conditions that hold, and conditions that do not.

use super::*;

struct Known;

impl ResourceState for Known {
    fn has_token(&self, path: &Rel, token: &str) -> bool {
        path.as_bytes() == b"a" && token == "urn:t"
    }

    fn revision(&self, path: &Rel) -> Option<u64> {
        (path.as_bytes() == b"a").then_some(0xab)
    }
}

fn parse(text: &str) -> Result<If, Refusal> {
    If::parse(text.as_bytes(), "/dav", b"h")
}

#[test]
fn lists_are_alternatives_and_conditions_are_not() {
    let (a, b) = (Rel::ROOT.join(b"a"), Rel::ROOT.join(b"b"));
    for (text, on_a, on_b) in [
        ("(<urn:t>)", true, false),
        ("(Not <urn:t>)", false, true),
        ("(<urn:t> [\"0000000000ab\"])", true, false),
        ("(<urn:t> [\"0000000000ac\"])", false, false),
        ("(<urn:t> [W/\"0000000000ab\"])", false, false),
        ("(<urn:x>) (Not <DAV:no-lock>)", true, true),
        ("</dav/a> (<urn:t>)", true, true),
        ("<http://h/dav/a> (<urn:x>) (<urn:t>)", true, true),
        ("<http://other/dav/a> (<urn:t>)", false, false),
        ("<http://other/dav/a> (Not <urn:t>)", true, true),
        ("</elsewhere/a> (<urn:t>)", false, false),
        ("</dav/b> (<urn:t>) </dav/a>(not<urn:x>)", true, true),
    ] {
        let read = parse(text).unwrap();
        assert_eq!((read.holds(&a, &Known), read.holds(&b, &Known)), (on_a, on_b), "{text}");
    }
    let tokens = parse("(<urn:t> Not <urn:u>) (<urn:t>)").unwrap().tokens();
    assert_eq!(tokens, ["urn:t", "urn:u"]);
    assert!(!parse("(<urn:t>)").unwrap().has_states());
    assert!(parse("(<urn:t>) (<urn:u> [\"a\"])").unwrap().has_states());
}

#[test]
fn what_the_grammar_does_not_have_is_refused() {
    for text in [
        "",
        "<",
        "(",
        "()",
        "(<",
        "(<>)",
        "(<a>)",
        "([)",
        "([\"a)",
        "([\"])",
        "(Not)",
        "(Not",
        "<urn:t>",
        "</dav/a>",
        "</dav/a> </dav/b> (<urn:t>)",
        "(<urn:t>) </dav/a> (<urn:t>)",
        "(<urn:t>) x",
        "x",
        "(urn:t)",
        "(Not Not <urn:t>)",
        "</dav/../x> (<urn:t>)",
        "(<urn:t>",
        "(<urn:t>))",
        "</dav/a> (<urn:t>) </dav/b>",
    ] {
        assert!(parse(text).is_err(), "{text}");
    }
    assert!(parse(&"(<urn:t>)".repeat(33)).is_err());
    assert!(parse(&format!("({})", "<urn:t>".repeat(65))).is_err());
    assert!(parse(&"(<urn:t>)".repeat(1000)).is_err());
}

#[test]
fn http_conditions_are_strong_where_they_must_be() {
    let tags = |text: &str| Some(super::super::fields::tags(text.as_bytes()).unwrap());
    let now = Some((0xab, 5_500_000_000));
    let matches = |text| Conditions { matches: tags(text), ..Conditions::default() };
    let none = |text| Conditions { none_matches: tags(text), ..Conditions::default() };
    assert!(matches("*").hold(now) && !matches("*").hold(None));
    assert!(matches("\"x\", \"0000000000ab\"").hold(now));
    assert!(!matches("W/\"0000000000ab\"").hold(now));
    assert!(!none("*").hold(now) && none("*").hold(None));
    assert!(!none("W/\"0000000000ab\"").hold(now) && none("\"x\"").hold(now));
    let since = |at| Conditions { unmodified_since: Some(at), ..Conditions::default() };
    assert!(since(5).hold(now) && !since(4).hold(now) && !since(5).hold(None));
}

#[test]
fn any_bytes_are_read_or_refused() {
    bolero::check!().for_each(|bytes: &[u8]| {
        if let Ok(read) = If::parse(bytes, "/dav", b"h") {
            let _ = read.holds(&Rel::ROOT, &Known);
            assert!(read.tokens().len() <= CONDITIONS && !read.0.is_empty());
        }
    });
}
