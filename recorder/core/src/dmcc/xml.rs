//! A small, bounded view of XML: elements, their text, nothing else. Names are local names:
//! namespaces, prefixes and attributes are not kept, because the reading rule of dossier 0.3 is
//! to ignore them. What the elements mean is not known here.

use quick_xml::Reader;
use quick_xml::events::{BytesRef, Event};

/// Deeper nesting than this is no message of ours; the deepest of the schema has about 15 levels.
const DEPTH_MAX: usize = 64;
/// A frame of 64 KiB could hold four times as many empty elements; real lists have hundreds.
const ELEMENTS_MAX: usize = 16_384;

/// Why a text is not taken as a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum XmlError {
    /// Not well-formed, or cut off.
    #[error("not well-formed XML")]
    Malformed,
    /// Nothing but white space.
    #[error("no element in it")]
    Empty,
    /// Something behind the root element.
    #[error("more than one root element")]
    SecondRoot,
    /// A document type, which could define entities.
    #[error("a document type declaration, which is refused")]
    Doctype,
    /// An entity that XML itself does not define.
    #[error("an entity reference that is not one of the five of XML")]
    Entity,
    /// Nested deeper than 64 levels.
    #[error("nested deeper than {DEPTH_MAX} elements")]
    TooDeep,
    /// More than 16384 elements.
    #[error("more than {ELEMENTS_MAX} elements")]
    TooMany,
}

/// An element with its text and its children.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Element {
    /// Local name.
    pub name: String,
    /// All text directly in it, trimmed.
    pub text: String,
    /// In the order of the wire.
    pub children: Vec<Element>,
}

impl Element {
    /// The first child of this name.
    #[must_use]
    pub fn child(&self, name: &str) -> Option<&Self> {
        self.children.iter().find(|child| child.name == name)
    }

    /// All children of this name.
    pub fn children_named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Self> {
        self.children.iter().filter(move |child| child.name == name)
    }

    /// The descendant that a path of names leads to, by the first child of each name.
    #[must_use]
    pub fn path(&self, names: &[&str]) -> Option<&Self> {
        names.iter().try_fold(self, |element, name| element.child(name))
    }

    /// The text of a child; `None` if there is no such child or it is empty.
    #[must_use]
    pub fn text_of(&self, name: &str) -> Option<&str> {
        self.child(name).map(|child| child.text.as_str()).filter(|text| !text.is_empty())
    }

    /// All text under this element, joined by spaces, in the order of the wire.
    #[must_use]
    pub fn all_text(&self) -> String {
        let mut words = Vec::new();
        self.collect_text(&mut words);
        words.join(" ")
    }

    // Recursion is bounded by the depth that `parse` allows.
    fn collect_text<'a>(&'a self, words: &mut Vec<&'a str>) {
        if !self.text.is_empty() {
            words.push(&self.text);
        }
        for child in &self.children {
            child.collect_text(words);
        }
    }
}

/// Reads one message. Bytes that are not UTF-8 are replaced, never refused: names from the switch
/// may be Latin-1 (dossier 1.2).
///
/// # Errors
/// If it is not one well-formed element within the bounds.
pub fn parse(bytes: &[u8]) -> Result<Element, XmlError> {
    let text = String::from_utf8_lossy(bytes);
    let mut reader = Reader::from_str(text.trim_end_matches('\0'));
    let mut tree = Tree::default();
    loop {
        match reader.read_event().map_err(|_| XmlError::Malformed)? {
            Event::Start(start) => tree.open(start.local_name().as_ref())?,
            Event::Empty(start) => {
                tree.open(start.local_name().as_ref())?;
                tree.close()?;
            }
            Event::End(_) => tree.close()?,
            Event::Text(text) => tree.text(&text.xml10_content())?,
            Event::CData(text) => tree.text(&text.xml10_content())?,
            Event::GeneralRef(reference) => {
                let mut buffer = [0; 4];
                tree.text(resolve(&reference)?.encode_utf8(&mut buffer))?;
            }
            Event::DocType(_) => return Err(XmlError::Doctype),
            Event::Comment(_) | Event::PI(_) | Event::Decl(_) => {}
            Event::Eof => return tree.finish(),
        }
    }
}

fn resolve(reference: &BytesRef) -> Result<char, XmlError> {
    if let Some(letter) = reference.resolve_char_ref().map_err(|_| XmlError::Malformed)? {
        return Ok(letter);
    }
    match reference.xml10_content().as_ref() {
        "lt" => Ok('<'),
        "gt" => Ok('>'),
        "amp" => Ok('&'),
        "apos" => Ok('\''),
        "quot" => Ok('"'),
        _ => Err(XmlError::Entity),
    }
}

#[derive(Default)]
struct Tree {
    /// From the root to the element that is open now.
    open: Vec<Element>,
    root: Option<Element>,
    elements: usize,
}

impl Tree {
    fn open(&mut self, name: &str) -> Result<(), XmlError> {
        if self.root.is_some() {
            return Err(XmlError::SecondRoot);
        }
        if self.open.len() == DEPTH_MAX {
            return Err(XmlError::TooDeep);
        }
        self.elements += 1;
        if self.elements > ELEMENTS_MAX {
            return Err(XmlError::TooMany);
        }
        self.open.push(Element { name: name.to_owned(), ..Element::default() });
        Ok(())
    }

    fn close(&mut self) -> Result<(), XmlError> {
        let mut element = self.open.pop().ok_or(XmlError::Malformed)?;
        let trimmed = element.text.trim();
        if trimmed.len() != element.text.len() {
            element.text = trimmed.to_owned();
        }
        match self.open.last_mut() {
            Some(parent) => parent.children.push(element),
            None => self.root = Some(element),
        }
        Ok(())
    }

    fn text(&mut self, text: &str) -> Result<(), XmlError> {
        match self.open.last_mut() {
            Some(element) => element.text.push_str(text),
            None if text.trim_matches(['\u{feff}', ' ', '\t', '\r', '\n']).is_empty() => {}
            None => return Err(XmlError::Malformed),
        }
        Ok(())
    }

    fn finish(self) -> Result<Element, XmlError> {
        if !self.open.is_empty() {
            return Err(XmlError::Malformed);
        }
        self.root.ok_or(XmlError::Empty)
    }
}

/// Writes elements one after the other. Names are ours and are written as they are, values are
/// escaped.
#[derive(Debug, Default)]
pub struct Writer {
    out: String,
    open: Vec<&'static str>,
}

impl Writer {
    /// Opens an element.
    pub fn open(&mut self, name: &'static str, attributes: &[(&str, &str)]) {
        self.out.push('<');
        self.out.push_str(name);
        for (attribute, value) in attributes {
            self.out.push(' ');
            self.out.push_str(attribute);
            self.out.push_str("=\"");
            self.escaped(value);
            self.out.push('"');
        }
        self.out.push('>');
        self.open.push(name);
    }

    /// Closes the element that was opened last.
    pub fn close(&mut self) {
        let name = self.open.pop().expect("each close stands behind its open in request.rs");
        self.out.push_str("</");
        self.out.push_str(name);
        self.out.push('>');
    }

    /// An element with nothing but text.
    pub fn leaf(&mut self, name: &'static str, text: &str) {
        self.leaf_with(name, &[], text);
    }

    /// An element with attributes and text.
    pub fn leaf_with(&mut self, name: &'static str, attributes: &[(&str, &str)], text: &str) {
        self.open(name, attributes);
        self.escaped(text);
        self.close();
    }

    /// The text, all elements closed.
    #[must_use]
    pub fn finish(mut self) -> String {
        while !self.open.is_empty() {
            self.close();
        }
        self.out
    }

    /// Characters that XML 1.0 cannot carry are left out: they cannot be written in any way.
    fn escaped(&mut self, text: &str) {
        for letter in text.chars() {
            match letter {
                '<' => self.out.push_str("&lt;"),
                '>' => self.out.push_str("&gt;"),
                '&' => self.out.push_str("&amp;"),
                '"' => self.out.push_str("&quot;"),
                '\'' => self.out.push_str("&apos;"),
                '\t' | '\n' | '\r' => self.out.push_str(&format!("&#{};", u32::from(letter))),
                '\0'..='\x1f' | '\u{fffe}' | '\u{ffff}' => {}
                _ => self.out.push(letter),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn prefixes_attributes_comments_and_white_space_do_not_count() {
        let tree = parse(
            b"\xef\xbb\xbf<?xml version='1.0'?>\n<q:a xmlns:q='u' x='1'><!-- c --> \n <q:b>\n 7 </q:b><c/></q:a>\n",
        )
        .unwrap();
        assert_eq!(tree.name, "a");
        assert_eq!(tree.text_of("b"), Some("7"));
        assert_eq!(tree.text_of("c"), None);
        assert!(tree.child("c").is_some());
    }

    #[test]
    fn references_and_cdata_are_text() {
        let tree = parse(b"<a>1 &lt; 2 &amp;&#x20;3 <![CDATA[<b>]]></a>").unwrap();
        assert_eq!(tree.text, "1 < 2 & 3 <b>");
    }

    #[test]
    fn latin_1_is_replaced_and_not_refused() {
        assert_eq!(parse(b"<a>M\xfcller</a>").unwrap().text, "M\u{fffd}ller");
    }

    #[test]
    fn what_is_refused() {
        let deep = format!("{}{}", "<a>".repeat(65), "</a>".repeat(65));
        let many = format!("<a>{}</a>", "<b/>".repeat(ELEMENTS_MAX));
        for (text, error) in [
            ("", XmlError::Empty),
            ("  \n", XmlError::Empty),
            ("hello", XmlError::Malformed),
            ("<a>", XmlError::Malformed),
            ("<a", XmlError::Malformed),
            ("<a></b>", XmlError::Malformed),
            ("</a>", XmlError::Malformed),
            ("<a/>x", XmlError::Malformed),
            ("<a/><b/>", XmlError::SecondRoot),
            ("<!DOCTYPE a [<!ENTITY e 'x'>]><a>&e;</a>", XmlError::Doctype),
            ("<a>&e;</a>", XmlError::Entity),
            (&deep, XmlError::TooDeep),
            (&many, XmlError::TooMany),
        ] {
            assert_eq!(parse(text.as_bytes()), Err(error), "{text:.40}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_never_panic(bytes in any::<Vec<u8>>()) {
            let _ = parse(&bytes);
        }

        #[test]
        fn any_markup_never_panics(text in "[<>/&;!\\[\\]a-c=\"' \\-?]{0,120}") {
            let _ = parse(text.as_bytes());
        }

        #[test]
        fn what_is_written_is_read_back(text in "[ -~\u{e4}\u{20ac}<>&\"']{0,40}") {
            let mut writer = Writer::default();
            writer.open("a", &[("k", &text)]);
            writer.leaf("b", &text);
            let tree = parse(writer.finish().as_bytes()).unwrap();
            prop_assert_eq!(tree.child("b").unwrap().text.as_str(), text.trim());
        }
    }
}
