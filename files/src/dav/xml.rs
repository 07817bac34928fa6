//! Checks bodies in XML before anything is built from them.

use xml::common::XmlVersion;
use xml::reader::{ParserConfig, XmlEvent};

use super::reply::Refusal;

/// The most bytes of a body.
pub(super) const BODY: usize = 64 << 10;

/// The deepest nesting of elements.
const DEPTH: usize = 32;

/// The most elements.
const ELEMENTS: usize = 1_024;

/// The most attributes of all elements together.
const ATTRIBUTES: usize = 1_024;

/// The most namespaces in scope: the parser copies them for every element.
const NAMESPACES: usize = 32;

/// The most bytes of their names together.
const SPACE: usize = 4 << 10;

/// The namespace of WebDAV.
pub(super) const DAV: &str = "DAV:";

/// The namespace that belongs to the prefix `xml`, and to no other.
const XML: &str = "http://www.w3.org/XML/1998/namespace";

/// The structure of a body.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Shape {
    /// The outermost element.
    pub root: Name,
    /// The elements in the root.
    pub parts: Vec<Name>,
    /// The elements in those.
    pub leaves: Vec<Name>,
    /// The number of all elements.
    pub elements: usize,
}

/// The name of an element.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Name {
    /// Its namespace.
    pub space: String,
    /// Its local name.
    pub local: String,
}

impl Name {
    /// Whether it is this element of WebDAV's.
    pub(super) fn is(&self, local: &str) -> bool {
        self.space == DAV && self.local == local
    }
}

/// Checks a body.
///
/// # Errors
///
/// 400 if it is not XML, has a document type or processing instructions, or exceeds a limit.
pub(super) fn check(body: &[u8]) -> Result<Shape, Refusal> {
    if body.len() > BODY {
        return Err(Refusal::status(413));
    }
    // Without a document type there are only the predefined entities. It is refused before the
    // parser sees it.
    let typed = |window: &[u8]| window.eq_ignore_ascii_case(b"<!doctype");
    if std::str::from_utf8(body).is_err() || body.windows(9).any(typed) {
        return Err(Refusal::MALFORMED);
    }
    let config = ParserConfig::new().ignore_comments(false);
    let mut reader = config.create_reader(body);
    let mut shape = Shape::default();
    let (mut depth, mut attributes_seen) = (0, 0);
    loop {
        match reader.next().map_err(|_| Refusal::MALFORMED)? {
            XmlEvent::StartDocument { version, encoding, .. } => {
                let plain = encoding.eq_ignore_ascii_case("utf-8");
                if version != XmlVersion::Version10 || !plain {
                    return Err(Refusal::MALFORMED);
                }
            }
            XmlEvent::StartElement { name, attributes, namespace } => {
                depth += 1;
                shape.elements += 1;
                attributes_seen += attributes.len();
                if depth > DEPTH
                    || shape.elements > ELEMENTS
                    || attributes_seen > ATTRIBUTES
                    || namespace.0.len() > NAMESPACES
                    || namespace.0.values().map(String::len).sum::<usize>() > SPACE
                {
                    return Err(Refusal::MALFORMED);
                }
                let mut bound = namespace.0.iter();
                // A strict parser could not read this when it is sent back.
                if bound.any(|(prefix, space)| prefix != "xml" && space == XML) {
                    return Err(Refusal::MALFORMED);
                }
                let space = name.namespace.unwrap_or_default();
                let name = Name { space, local: name.local_name };
                match depth {
                    // The parser reads several documents as one.
                    1 if shape.elements > 1 => return Err(Refusal::MALFORMED),
                    1 => shape.root = name,
                    2 => shape.parts.push(name),
                    3 => shape.leaves.push(name),
                    _ => {}
                }
            }
            XmlEvent::EndElement { .. } => depth -= 1,
            XmlEvent::EndDocument => return Ok(shape),
            XmlEvent::Doctype { .. } | XmlEvent::ProcessingInstruction { .. } => {
                return Err(Refusal::MALFORMED);
            }
            XmlEvent::CData(_)
            | XmlEvent::Comment(_)
            | XmlEvent::Characters(_)
            | XmlEvent::Whitespace(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shape_of_a_body() {
        let body = b"<?xml version=\"1.0\" encoding=\"utf-8\"?>\
            <d:propfind xmlns:d=\"DAV:\"><d:prop><d:getetag/><x xmlns=\"u:\"/></d:prop></d:propfind>";
        let shape = check(body).unwrap();
        assert!(
            shape.root.is("propfind") && shape.parts[0].is("prop") && shape.leaves[0].is("getetag")
        );
        assert_eq!(shape.leaves[1], Name { space: "u:".to_owned(), local: "x".to_owned() });
    }

    #[test]
    fn what_grows_or_hides_is_refused() {
        let deep = |count: usize| format!("{}{}", "<a>".repeat(count), "</a>".repeat(count));
        let wide = |count: usize| format!("<a>{}</a>", "<b/>".repeat(count));
        let spaces = |count: usize| {
            format!(
                "<a {}/>",
                (0..count).map(|n| format!("xmlns:n{n}='u:{n}' ")).collect::<String>()
            )
        };
        assert!(check(deep(DEPTH).as_bytes()).is_ok() && check(wide(1_000).as_bytes()).is_ok());
        assert!(check(spaces(20).as_bytes()).is_ok());
        for bad in [
            deep(DEPTH + 1),
            deep(7_000),
            wide(1_025),
            spaces(100),
            format!("<a xmlns='{}'/>", "u".repeat(SPACE + 1)),
            "<!DOCTYPE a [<!ENTITY b \"c\">]><a>&b;</a>".to_owned(),
            "<!doctype a><a/>".to_owned(),
            "<a>&b;</a>".to_owned(),
            "<?xml version=\"1.1\"?><a>&#1;</a>".to_owned(),
            "<?xml version=\"1.0\" encoding=\"utf-16\"?><a/>".to_owned(),
            "<a>&#1;</a>".to_owned(),
            "<a><?php x?></a>".to_owned(),
            "<a/><b/>".to_owned(),
            "<a>".to_owned(),
            "<x:a/>".to_owned(),
            "<xmlns:a/>".to_owned(),
            format!("<x:a xmlns:x='{XML}'/>"),
            format!("<a xmlns='{XML}'/>"),
            "text".to_owned(),
            String::new(),
        ] {
            assert!(check(bad.as_bytes()).is_err(), "{}", bad.get(..60).unwrap_or(&bad));
        }
        assert_eq!(check(&vec![b' '; BODY + 1]), Err(Refusal::status(413)));
        assert!(check(b"<a>\xff</a>").is_err());
    }
}
