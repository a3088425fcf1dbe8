//! Reads a DMCC message into a plain tree, tolerantly: local names only, no namespaces, children
//! in any order, unknown ones kept. Bytes that are not UTF-8 are replaced and never fail a message.

use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};
use thiserror::Error;

/// Deepest nesting that is read. The deepest message of the protocol has about 12 levels.
const MAX_DEPTH: usize = 64;

/// One element.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Element {
    /// Name without its prefix.
    pub name: String,
    /// Attributes by local name, in order.
    pub attributes: Vec<(String, String)>,
    /// All text directly inside, trimmed.
    pub text: String,
    /// Elements directly inside.
    pub children: Vec<Element>,
}

/// Why a message cannot be read.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum XmlError {
    /// Not well-formed.
    #[error("not well-formed XML: {0}")]
    Malformed(String),
    /// No element at all.
    #[error("the message holds no element")]
    Empty,
    /// Nested deeper than `MAX_DEPTH`.
    #[error("nested deeper than {MAX_DEPTH} levels")]
    TooDeep,
}

impl Element {
    /// The first child of that name.
    #[must_use]
    pub fn child(&self, name: &str) -> Option<&Self> {
        self.children.iter().find(|child| child.name == name)
    }

    /// All children of that name.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Self> {
        self.children.iter().filter(move |child| child.name == name)
    }

    /// Goes down along `path`.
    #[must_use]
    pub fn at(&self, path: &[&str]) -> Option<&Self> {
        path.iter().try_fold(self, |element, name| element.child(name))
    }

    /// The text at the end of `path`; empty if there is none.
    #[must_use]
    pub fn text_at(&self, path: &[&str]) -> &str {
        self.at(path).map_or("", |element| element.text.as_str())
    }

    /// The first element of that name anywhere below (or this one).
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&Self> {
        if self.name == name {
            return Some(self);
        }
        self.children.iter().find_map(|child| child.find(name))
    }

    /// Whether the child of that name says `true` or `1`.
    #[must_use]
    pub fn flag(&self, name: &str) -> Option<bool> {
        self.child(name).map(|child| matches!(child.text.as_str(), "true" | "1"))
    }
}

/// Reads one message.
///
/// # Errors
/// When the text is not well-formed XML, holds nothing, or is nested too deep.
pub fn parse(bytes: &[u8]) -> Result<Element, XmlError> {
    let text = String::from_utf8_lossy(bytes);
    let mut reader = Reader::from_str(&text);
    let mut open: Vec<Element> = Vec::new();
    loop {
        let event = reader.read_event().map_err(|error| XmlError::Malformed(error.to_string()))?;
        match event {
            Event::Start(tag) => {
                if open.len() >= MAX_DEPTH {
                    return Err(XmlError::TooDeep);
                }
                open.push(start(&tag)?);
            }
            Event::Empty(tag) => {
                let element = start(&tag)?;
                if let Some(root) = close(&mut open, element) {
                    return Ok(root);
                }
            }
            Event::End(_) => {
                let Some(element) = open.pop() else { return Err(XmlError::Empty) };
                if let Some(root) = close(&mut open, element) {
                    return Ok(root);
                }
            }
            Event::Text(part) => append(&mut open, &part),
            Event::CData(part) => append(&mut open, &part),
            Event::GeneralRef(name) => append(&mut open, &reference(&name)?),
            Event::Eof => return Err(XmlError::Empty),
            Event::Decl(_) | Event::PI(_) | Event::Comment(_) | Event::DocType(_) => {}
        }
    }
}

fn start(tag: &BytesStart<'_>) -> Result<Element, XmlError> {
    let mut element = Element { name: tag.local_name().as_ref().to_owned(), ..Element::default() };
    for attribute in tag.attributes() {
        let attribute = attribute.map_err(|error| XmlError::Malformed(error.to_string()))?;
        let name = attribute.key.local_name();
        let value = attribute.value.into_owned();
        element.attributes.push((name.as_ref().to_owned(), value));
    }
    Ok(element)
}

/// Puts a finished element into its parent, or hands it back as the root.
fn close(open: &mut [Element], mut element: Element) -> Option<Element> {
    element.text = element.text.trim().to_owned();
    match open.last_mut() {
        Some(parent) => {
            parent.children.push(element);
            None
        }
        None => Some(element),
    }
}

fn append(open: &mut [Element], text: &str) {
    if let Some(element) = open.last_mut() {
        element.text.push_str(text);
    }
}

/// The five predefined entities and character references; anything else is refused, so that no
/// document can expand itself.
fn reference(name: &quick_xml::events::BytesRef<'_>) -> Result<String, XmlError> {
    let resolved =
        name.resolve_char_ref().map_err(|error| XmlError::Malformed(error.to_string()))?;
    if let Some(character) = resolved {
        return Ok(character.to_string());
    }
    match name.as_ref() {
        "amp" => Ok("&".to_owned()),
        "lt" => Ok("<".to_owned()),
        "gt" => Ok(">".to_owned()),
        "quot" => Ok("\"".to_owned()),
        "apos" => Ok("'".to_owned()),
        other => Err(XmlError::Malformed(format!("unknown entity {other}"))),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ignores_prefixes_and_order() {
        let root =
            parse(b"<?xml version='1.0'?><q:a xmlns:q='urn:x'><q:c>2</q:c> <b x='1'>1 &amp; &#50;</b></q:a>")
                .unwrap();
        assert_eq!(root.name, "a");
        assert_eq!(root.text_at(&["c"]), "2");
        assert_eq!(root.text_at(&["b"]), "1 & 2");
        assert_eq!(root.child("b").unwrap().attributes, [("x".to_owned(), "1".to_owned())]);
    }

    #[test]
    fn refuses_what_is_not_xml() {
        for bad in [&b""[..], b"hello", b"<a>", b"<a></b>", b"<a>&boom;</a>"] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
        assert_eq!(parse("<a>".repeat(100).as_bytes()), Err(XmlError::TooDeep));
    }

    #[test]
    fn replaces_bytes_that_are_not_utf8() {
        assert_eq!(parse(b"<a>M\xfcller</a>").unwrap().text, "M\u{fffd}ller");
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn arbitrary_markup_never_panics(text in "[<>/a-c=\"'&;#! ?\\[\\]-]{0,200}") {
            let _ = parse(text.as_bytes());
        }
    }
}
