//! Tests of DMCC as a whole: messages against the dossier's examples, and the link against a
//! scripted server. No time passes for real.

mod agents;
mod messages;
mod methods;
mod recovery;
mod registrations;
mod requests;
mod rig;
mod robustness;
mod setup;
mod taps;

/// The XML of a message that the dossier shows, by its name and its number among those.
fn example(name: &str, number: usize) -> &'static str {
    let heading = format!("{name} {number}");
    let found = examples().find(|(title, _)| *title == heading);
    found.unwrap_or_else(|| panic!("no example {heading}")).1
}

fn examples() -> impl Iterator<Item = (&'static str, &'static str)> {
    let text = include_str!("../../../testdata/dmcc/examples.txt");
    text.split("\n== ").skip(1).filter_map(|part| part.split_once('\n'))
}
