//! What the switch says should be in the files: which calls, which of their frames, and which phantoms
//! were sent them. It knows nothing of what the recorder did with them.

use simulator::FinishedCall;
use simulator::tone::Part;

/// A stream may end a frame or two before the switch counts the call as over.
const END_TOLERANCE: u32 = 3;
/// The switch may be so many frames behind its time on a busy machine.
const LATE_MAX: u32 = 25;

/// A call as the switch knows it.
#[derive(Clone, Debug)]
pub struct DueCall {
    /// The number in its time code.
    pub serial: u32,
    /// Its own UCID, then those of calls that were merged into it.
    pub ucids: Vec<String>,
    /// First and last frame that should be accounted for; absent if no recorder was ever in it.
    pub sent: Option<(u32, u32)>,
    /// What was sent to each phantom, stream by stream.
    pub heard: Vec<Heard>,
    /// Whether it should have been recorded at all.
    pub due: bool,
}

/// What was sent to a phantom without interruption.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    /// Its extension.
    pub phantom: String,
    /// The AES that it is registered through, and with it the node.
    pub aes: usize,
    /// Whose voices were sent.
    pub part: Part,
    /// First and last frame.
    pub frames: (u32, u32),
}

impl DueCall {
    /// Frames that a copy must account for, if these phantoms made it: those that were sent to
    /// them or to others of the same nodes.
    #[must_use]
    pub fn sent_to<'a>(&self, phantoms: impl Iterator<Item = &'a str>) -> Option<(u32, u32)> {
        let (_, end) = self.sent?;
        let phantoms: Vec<_> = phantoms.collect();
        let named = self.heard.iter().filter(|heard| phantoms.contains(&heard.phantom.as_str()));
        let nodes: Vec<_> = named.map(|heard| heard.aes).collect();
        let of_nodes = || self.heard.iter().filter(|heard| nodes.contains(&heard.aes));
        let first = of_nodes().map(|heard| heard.frames.0).min()?;
        let last = of_nodes().map(|heard| heard.frames.1).max()?;
        Some((first, last.min(end)))
    }
}

impl DueCall {
    /// Frames that a channel of these voices must account for.
    #[must_use]
    pub fn sent_of(&self, part: Part) -> Option<(u32, u32)> {
        let (_, end) = self.sent?;
        let of_part = || self.heard.iter().filter(|heard| heard.part == part);
        let first = of_part().map(|heard| heard.frames.0).min()?;
        let last = of_part().map(|heard| heard.frames.1).max()?;
        Some((first, last.min(end)))
    }
}

/// What the switch says of calls of a recorder alone: frames are due from the first to the last
/// that a phantom was sent. `is_due` tells which calls should be recorded.
#[must_use]
pub fn due_calls(history: &[FinishedCall], is_due: impl Fn(&FinishedCall) -> bool) -> Vec<DueCall> {
    history.iter().map(|call| due_call(call, is_due(call))).collect()
}

/// The same for a group: frames are due to the end of the call, whoever was there to hear them,
/// because somebody should have been.
#[must_use]
pub fn due_to_the_end(
    history: &[FinishedCall],
    is_due: impl Fn(&FinishedCall) -> bool,
) -> Vec<DueCall> {
    let to_the_end = |call: &FinishedCall| {
        let mut due = due_call(call, is_due(call));
        let end = call.frames_heard.saturating_sub(1);
        if let Some((_, last)) = &mut due.sent
            && *last + END_TOLERANCE < end
            && !(end - *last <= LATE_MAX && sent_late(call, *last))
        {
            *last = end;
        }
        due
    };
    history.iter().map(to_the_end).collect()
}

/// Whether a phantom was sent this frame last although it was in the call for longer: on a busy
/// machine the switch was behind its time, and the call was over before it had caught up.
fn sent_late(call: &FinishedCall, last: u32) -> bool {
    call.streams.iter().filter(|stream| stream.last_frame == Some(last)).any(|stream| {
        let Some((first, ended)) = stream.first_frame.zip(stream.ended) else { return true };
        first + ended.frames_since(stream.started) + END_TOLERANCE >= call.frames_heard
    })
}

fn due_call(call: &FinishedCall, due: bool) -> DueCall {
    // Later ones went to a phantom that had nobody to listen to any more.
    let last_of_call = call.frames_heard.saturating_sub(1);
    let heard: Vec<_> = call
        .streams
        .iter()
        .filter_map(|stream| {
            let frames = stream.first_frame.zip(stream.last_frame)?;
            let (phantom, aes, part) = (stream.phantom.clone(), stream.aes, stream.part);
            Some(Heard { phantom, aes, part, frames })
        })
        .collect();
    let first = heard.iter().map(|heard| heard.frames.0).min();
    let last = heard.iter().map(|heard| heard.frames.1).max();
    DueCall {
        serial: call.serial,
        ucids: std::iter::once(&call.ucid).chain(&call.former_ucids).cloned().collect(),
        sent: first.zip(last).map(|(first, last)| (first, last.min(last_of_call))),
        heard,
        due,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_must_account_for_what_its_node_was_sent() {
        let heard = |phantom: &str, aes, frames| {
            let (phantom, part) = (phantom.to_owned(), Part::Whole);
            Heard { phantom, aes, part, frames }
        };
        let call = DueCall {
            serial: 1,
            ucids: Vec::new(),
            sent: Some((3, 500)),
            heard: vec![
                heard("78001", 0, (3, 200)),
                heard("78002", 0, (300, 505)),
                heard("78501", 1, (9, 400)),
            ],
            due: true,
        };
        for (phantoms, expected) in [
            (&["78001"][..], Some((3, 500))),
            (&["78501"], Some((9, 400))),
            (&["78501", "78002"], Some((3, 500))),
            (&["78999"], None),
            (&[], None),
        ] {
            assert_eq!(call.sent_to(phantoms.iter().copied()), expected, "{phantoms:?}");
        }
    }
}
