//! Any bytes as what a member of the group sends or has stored: messages, proposals, snapshots. What can
//! be read is written and read again as the same.
#![no_main]

use cluster_core::State;
use cluster_core::command::Proposal;
use cluster_core::wire::Message;
use libfuzzer_sys::fuzz_target;

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
});
