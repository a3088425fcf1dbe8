//! Writes DMCC messages: exact namespaces, schema order as the caller builds it. A style can put
//! odd but legal prefixes on everything, or write Latin-1 instead of UTF-8, to try the reader.

use std::fmt::Write as _;

/// The three namespaces of the protocol.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Ns {
    /// ECMA-354 application session.
    App,
    /// ECMA-323 edition 3.
    Csta,
    /// Avaya's own.
    Av,
}

impl Ns {
    const ALL: [Self; 3] = [Self::App, Self::Csta, Self::Av];

    /// The namespace's URI.
    #[must_use]
    pub const fn uri(self) -> &'static str {
        match self {
            Self::App => "http://www.ecma-international.org/standards/ecma-354/appl_session",
            Self::Csta => "http://www.ecma-international.org/standards/ecma-323/csta/ed3",
            Self::Av => "http://www.avaya.com/csta",
        }
    }
}

/// How a message is put into bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Style {
    /// Prefixes made from this number instead of default namespaces.
    pub prefix_seed: Option<u32>,
    /// One byte for each character up to U+00FF, which is not UTF-8.
    pub latin1: bool,
}

/// One element to be written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Node {
    ns: Ns,
    name: &'static str,
    attributes: Vec<(&'static str, String)>,
    text: String,
    children: Vec<Node>,
}

/// An element of the application session.
#[must_use]
pub const fn app(name: &'static str) -> Node {
    Node::new(Ns::App, name)
}

/// An element of standard CSTA.
#[must_use]
pub const fn csta(name: &'static str) -> Node {
    Node::new(Ns::Csta, name)
}

/// An element of Avaya's.
#[must_use]
pub const fn av(name: &'static str) -> Node {
    Node::new(Ns::Av, name)
}

impl Node {
    const fn new(ns: Ns, name: &'static str) -> Self {
        Self { ns, name, attributes: Vec::new(), text: String::new(), children: Vec::new() }
    }

    /// Name of the element.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Sets the text inside.
    #[must_use]
    #[expect(clippy::needless_pass_by_value, reason = "callers pass numbers and texts alike")]
    pub fn text(mut self, text: impl ToString) -> Self {
        self.text = text.to_string();
        self
    }

    /// Adds a child.
    #[must_use]
    pub fn with(mut self, child: Self) -> Self {
        self.children.push(child);
        self
    }

    /// Adds a child with a text.
    #[must_use]
    pub fn leaf(self, child: Self, text: impl ToString) -> Self {
        self.with(child.text(text))
    }

    /// Adds a child if there is one.
    #[must_use]
    pub fn maybe(mut self, child: Option<Self>) -> Self {
        self.children.extend(child);
        self
    }

    /// Adds children.
    #[must_use]
    pub fn with_all(mut self, children: impl IntoIterator<Item = Self>) -> Self {
        self.children.extend(children);
        self
    }

    /// Adds an attribute.
    #[must_use]
    #[expect(clippy::needless_pass_by_value, reason = "callers pass numbers and texts alike")]
    pub fn attribute(mut self, name: &'static str, value: impl ToString) -> Self {
        self.attributes.push((name, value.to_string()));
        self
    }

    /// The bytes of the message.
    #[must_use]
    pub fn to_bytes(&self, style: Style) -> Vec<u8> {
        let mut out = String::with_capacity(512);
        match style.prefix_seed {
            None => self.plain(&mut out, None),
            Some(seed) => self.prefixed(&mut out, seed, true),
        }
        if style.latin1 {
            return out.chars().map(|c| u8::try_from(u32::from(c)).unwrap_or(b'?')).collect();
        }
        out.into_bytes()
    }

    /// Default namespaces, declared anew wherever they change.
    fn plain(&self, out: &mut String, outer: Option<Ns>) {
        out.push('<');
        out.push_str(self.name);
        if outer != Some(self.ns) {
            attribute(out, "xmlns", self.ns.uri());
        }
        self.rest(out, self.name, |child, out| child.plain(out, Some(self.ns)));
    }

    fn prefixed(&self, out: &mut String, seed: u32, root: bool) {
        let name = format!("{}:{}", prefix(self.ns, seed), self.name);
        out.push('<');
        out.push_str(&name);
        if root {
            for ns in Ns::ALL {
                attribute(out, &format!("xmlns:{}", prefix(ns, seed)), ns.uri());
            }
        }
        self.rest(out, &name, |child, out| child.prefixed(out, seed, false));
    }

    fn rest(&self, out: &mut String, name: &str, mut inner: impl FnMut(&Self, &mut String)) {
        for (key, value) in &self.attributes {
            attribute(out, key, value);
        }
        if self.children.is_empty() && self.text.is_empty() {
            out.push_str("/>");
            return;
        }
        out.push('>');
        escape(out, &self.text);
        for child in &self.children {
            inner(child, out);
        }
        out.push_str("</");
        out.push_str(name);
        out.push('>');
    }
}

/// A legal prefix that differs with the seed and between the namespaces.
fn prefix(ns: Ns, seed: u32) -> String {
    let mixed = seed.wrapping_mul(2_654_435_761).rotate_left(7);
    let mut name = String::from(["x", "ns-", "_q", "Z."][(mixed & 3) as usize]);
    // Writing to a String cannot fail.
    let _ = write!(name, "{}{:x}", ns as u8, mixed >> 20);
    name
}

fn attribute(out: &mut String, name: &str, value: &str) {
    out.push(' ');
    out.push_str(name);
    out.push_str("=\"");
    escape(out, value);
    out.push('"');
}

fn escape(out: &mut String, text: &str) {
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            // Not allowed in XML 1.0 at all.
            '\u{0}'..='\u{8}' | '\u{b}' | '\u{c}' | '\u{e}'..='\u{1f}' => out.push('?'),
            other => out.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::read::parse;
    use super::*;

    fn sample() -> Node {
        csta("MonitorStartResponse").leaf(csta("monitorCrossRefID"), 12).with(
            csta("extensions").with(
                csta("privateData")
                    .with(csta("private").with(av("AvayaEvents").leaf(av("invertFilter"), true))),
            ),
        )
    }

    #[test]
    fn declares_a_namespace_where_it_changes() {
        let text = String::from_utf8(sample().to_bytes(Style::default())).unwrap();
        assert_eq!(
            text,
            "<MonitorStartResponse xmlns=\"http://www.ecma-international.org/standards/ecma-323/csta/ed3\">\
             <monitorCrossRefID>12</monitorCrossRefID><extensions><privateData><private>\
             <AvayaEvents xmlns=\"http://www.avaya.com/csta\"><invertFilter>true</invertFilter>\
             </AvayaEvents></private></privateData></extensions></MonitorStartResponse>"
        );
    }

    #[test]
    fn latin1_is_one_byte_a_character() {
        let style = Style { latin1: true, ..Style::default() };
        let bytes = av("reason").text("Zürich").to_bytes(style);
        assert!(bytes.windows(6).any(|part| part == b"Z\xfcrich"));
    }

    proptest! {
        #[test]
        fn every_style_reads_the_same(seed in any::<u32>(), text in "\\PC{0,40}") {
            let node = sample().leaf(av("note"), &text);
            let plain = parse(&node.to_bytes(Style::default())).unwrap();
            let style = Style { prefix_seed: Some(seed), latin1: false };
            let odd = parse(&node.to_bytes(style)).unwrap();
            prop_assert_eq!(plain.text_at(&["note"]), text.trim());
            prop_assert_eq!(plain.text_at(&["monitorCrossRefID"]), "12");
            prop_assert_eq!(odd.text_at(&["note"]), text.trim());
            prop_assert_eq!(odd.children.len(), plain.children.len());
        }
    }
}
