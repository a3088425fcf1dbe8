//! Any bytes as what a member of the group sends or has stored: messages, proposals, snapshots, what it
//! captures for a mirror. What can be read is written and read again as the same.
#![no_main]

use cluster_core::State;
use cluster_core::command::Proposal;
use cluster_core::wire::Message;
use libfuzzer_sys::fuzz_target;
use storage_core::mirror_wire::{Messages, Taken};

fuzz_target!(|data: &[u8]| {
    if let Ok(message) = Message::decode(data) {
        assert_eq!(Message::decode(&message.encode()).as_ref(), Ok(&message));
    }
    if let Ok(proposal) = Proposal::decode(data)
        && let Ok(bytes) = proposal.encode()
    {
        assert_eq!(Proposal::decode(&bytes).as_ref(), Ok(&proposal));
    }
    if let Ok(state) = State::decode(data) {
        assert!(State::decode(&state.encode()).is_ok());
    }
    let (mut messages, mut again) = (Messages::default(), Vec::new());
    messages.push(data);
    while let Ok(Some(message)) = messages.next_message() {
        let at = again.len();
        message.encode(&mut again);
        assert!(data.starts_with(&again[..at]));
    }
    assert!(data.starts_with(&again));
    if let Ok(taken) = Taken::decode(data) {
        assert_eq!(taken.encode(), data);
    }
});
