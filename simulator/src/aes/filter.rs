//! Which events a monitor asks for, in both senses of the filter.
//!
//! Standard CSTA: a flag set to true leaves the event out. With `AvayaEvents/invertFilter` true the
//! sense turns round for the whole monitor: true means send it, absent means do not.

use std::collections::BTreeSet;

use crate::wire::{Element, Node, av, csta};

/// The flags of one monitor.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Filter {
    inverted: bool,
    /// Flags that are true, as (group, flag).
    set: BTreeSet<(String, String)>,
}

impl Filter {
    /// Reads the filter out of a `MonitorStart` (or a `ChangeMonitorFilter`).
    #[must_use]
    pub fn read(request: &Element) -> Self {
        let avaya = request.find("AvayaEvents");
        let inverted = avaya.and_then(|events| events.flag("invertFilter")).unwrap_or(false);
        let standard = request
            .child("requestedMonitorFilter")
            .or_else(|| request.child("requestedFilterList"));
        let groups = standard.into_iter().chain(avaya).flat_map(|element| element.children.iter());
        let mut set = BTreeSet::new();
        for group in groups {
            for flag in &group.children {
                if matches!(flag.text.as_str(), "true" | "1") {
                    set.insert((group.name.clone(), flag.name.clone()));
                }
            }
        }
        Self { inverted, set }
    }

    /// Whether the monitor gets that event.
    #[must_use]
    pub fn wants(&self, group: &str, flag: &str) -> bool {
        let set = self.set.iter().any(|(a, b)| a == group && b == flag);
        set == self.inverted
    }

    /// The echo of `AvayaEvents` in the answer: what is really sent of the first-party events.
    #[must_use]
    pub fn echo(&self) -> Node {
        let wanted = |group, flag, node: Node| {
            let set = self.set.contains(&(str::to_owned(group), str::to_owned(flag)));
            set.then(|| node.text(true))
        };
        let mut events = av("AvayaEvents").leaf(av("invertFilter"), self.inverted);
        for (group, node, flags) in [
            (
                "terminalUnregisteredEvent",
                av("terminalUnregisteredEvent"),
                &[("unregistered", av("unregistered")), ("reregistered", av("reregistered"))][..],
            ),
            (
                "mediaControl",
                av("mediaControl"),
                &[("mediaStarted", av("mediaStarted")), ("mediaStopped", av("mediaStopped"))],
            ),
            (
                "endpointRegistrationStateEvents",
                av("endpointRegistrationStateEvents"),
                &[("registered", av("registered")), ("unregistered", av("unregistered"))],
            ),
        ] {
            let set: Vec<Node> =
                flags.iter().filter_map(|(flag, leaf)| wanted(group, flag, leaf.clone())).collect();
            if !set.is_empty() {
                events = events.with(node.with_all(set));
            }
        }
        events
    }
}

/// Puts private data where CSTA wants it.
#[must_use]
pub fn private(inner: Node) -> Node {
    csta("extensions").with(csta("privateData").with(csta("private").with(inner)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::read::parse;

    fn filter(callcontrol: &str, avaya: &str) -> Filter {
        let text = format!(
            "<MonitorStart><requestedMonitorFilter><callcontrol>{callcontrol}</callcontrol>\
             </requestedMonitorFilter><extensions><privateData><private><AvayaEvents>{avaya}\
             </AvayaEvents></private></privateData></extensions></MonitorStart>"
        );
        Filter::read(&parse(text.as_bytes()).unwrap())
    }

    #[test]
    fn both_senses() {
        let invert = "<invertFilter>true</invertFilter>";
        for (flags, avaya, delivered, held) in [
            ("<delivered>true</delivered>", invert, true, false),
            ("<delivered>true</delivered><held>false</held>", invert, true, false),
            ("<delivered>true</delivered>", "", false, true),
            ("<delivered>true</delivered>", "<invertFilter>false</invertFilter>", false, true),
            ("", invert, false, false),
            ("", "", true, true),
        ] {
            let filter = filter(flags, avaya);
            let got =
                (filter.wants("callcontrol", "delivered"), filter.wants("callcontrol", "held"));
            assert_eq!(got, (delivered, held), "{flags} {avaya}");
        }
    }

    #[test]
    fn flags_of_the_same_name_in_two_groups_differ() {
        let filter = filter(
            "",
            "<invertFilter>true</invertFilter><terminalUnregisteredEvent><unregistered>true\
             </unregistered></terminalUnregisteredEvent>",
        );
        assert!(filter.wants("terminalUnregisteredEvent", "unregistered"));
        assert!(!filter.wants("endpointRegistrationStateEvents", "unregistered"));
    }
}
