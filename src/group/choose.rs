//! Who is asked, in which order, and what several answers amount to. Pure: the group as it is seen
//! and the answers go in.

use std::collections::{BTreeMap, BTreeSet};

use cluster_core::GroupView;
use serde_json::{Map, Value};
use storage_core::{Duty, NodeId, Role};

use crate::web::backend::{Code, Failure, Target, Unreachable};

/// A member, as far as is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Member {
    node: NodeId,
    role: Option<Role>,
    duty: Duty,
    reachable: bool,
}

/// The members of the group that record, or all of them, as this node sees them.
#[derive(Clone, Debug)]
pub struct Sight {
    me: NodeId,
    lead: Option<NodeId>,
    /// By duty, then by number.
    members: Vec<Member>,
}

impl Sight {
    /// Reads the group's view: those that record. Until the group has been heard, `configured` says who is in it.
    pub fn of(view: &GroupView, role: Role, configured: &[NodeId]) -> Self {
        let mut sight = Self::of_all(view, role, configured);
        sight.members.retain(|member| member.role != Some(Role::Witness));
        sight
    }

    /// The same with the witness, for what each member has, whether or not it records.
    pub fn of_all(view: &GroupView, role: Role, configured: &[NodeId]) -> Self {
        let mut members: Vec<Member> = view
            .members
            .iter()
            .map(|member| Member {
                node: member.node,
                role: member.role.or((member.node == view.node).then_some(role)),
                duty: member.duty,
                reachable: member.reachable,
            })
            .collect();
        if members.len() < 2 {
            let unheard = configured.iter().filter(|node| **node != view.node);
            members.extend(unheard.map(|node| Member {
                node: *node,
                role: None,
                duty: Duty::None,
                reachable: false,
            }));
        }
        members.sort_by_key(|member| (member.duty, member.node));
        Self { me: view.node, lead: view.lead, members }
    }

    /// The members that cannot be reached, by number.
    pub fn unreachable(&self) -> Vec<Unreachable> {
        let away = self.members.iter().filter(|member| !member.reachable);
        let mut away: Vec<_> = away.map(|m| Unreachable { node: m.node, role: m.role }).collect();
        away.sort_unstable();
        away
    }

    /// The same and those of these that did not answer.
    pub fn silent(&self, nodes: impl IntoIterator<Item = NodeId>) -> Vec<Unreachable> {
        let silent = nodes.into_iter().map(|node| self.name(node));
        let all: BTreeSet<_> = self.unreachable().into_iter().chain(silent).collect();
        all.into_iter().collect()
    }

    /// A member as people know it.
    pub fn name(&self, node: NodeId) -> Unreachable {
        let role = self.members.iter().find(|member| member.node == node);
        Unreachable { node, role: role.and_then(|member| member.role) }
    }

    /// Whether it is another of these members and can be reached.
    pub fn reaches(&self, node: NodeId) -> bool {
        self.peers().contains(&node)
    }

    /// The other members that can be reached, by duty.
    pub fn peers(&self) -> Vec<NodeId> {
        let others = self.members.iter().filter(|m| m.reachable && m.node != self.me);
        others.map(|member| member.node).collect()
    }

    /// Whether there is any other of them at all.
    pub fn has_peers(&self) -> bool {
        self.members.iter().any(|member| member.node != self.me)
    }

    /// Whether this node records.
    pub fn i_record(&self) -> bool {
        self.members.iter().any(|member| member.node == self.me)
    }

    /// Who is to start a recording, best first: whoever records the call already (he widens it, or
    /// says that it is being recorded), the lead, this node if it could record now, the others.
    pub fn start_order(&self, ready: bool, recording: &BTreeSet<NodeId>) -> Vec<NodeId> {
        let mut order: Vec<_> = self.members.iter().filter(|m| m.reachable).collect();
        order.sort_by_key(|member| {
            let me = match (member.node == self.me, ready) {
                (true, true) => 0,
                (false, _) => 1,
                (true, false) => 2,
            };
            let lead = self.lead == Some(member.node);
            (!recording.contains(&member.node), !lead, me)
        });
        order.into_iter().map(|member| member.node).collect()
    }
}

/// These members in words.
pub fn names(members: &[Unreachable]) -> String {
    let names: Vec<_> = members.iter().map(ToString::to_string).collect();
    names.join(", ")
}

/// The most telling of several refusals: a member that knows the call says more than one that
/// does not, and one that looked says more than one that could not.
pub fn most_telling(failures: impl IntoIterator<Item = Failure>) -> Option<Failure> {
    failures.into_iter().min_by_key(|failure| match failure.code {
        Code::NoPhantom => 1,
        Code::NotFound => 2,
        Code::NoCall => 3,
        Code::Unavailable => 4,
        _ => 0,
    })
}

/// The calls of several members, each call once: the same UCID, else the same call id, is the same
/// call. It is told as a node that records it sees it, with `recorded` from there. Where several
/// record it (active-active), `recordedby` lists them all.
pub fn merge_calls(lists: impl IntoIterator<Item = Vec<Value>>) -> Vec<Value> {
    let mut merged = Merged::default();
    for call in lists.into_iter().flatten() {
        if let Value::Object(call) = call {
            merged.take(call);
        }
    }
    merged.calls.into_iter().map(MergedCall::into_value).collect()
}

#[derive(Default)]
struct Merged {
    calls: Vec<MergedCall>,
    by_ucid: BTreeMap<String, usize>,
    by_callid: BTreeMap<String, usize>,
}

struct MergedCall {
    call: Map<String, Value>,
    /// By the node that records, and the recording's name.
    recorded: BTreeMap<(u64, String), Value>,
}

impl Merged {
    fn take(&mut self, mut call: Map<String, Value>) {
        let recorded = call.remove("recorded");
        let (ucid, callid) = (word(&call, "ucid"), word(&call, "callid"));
        let at = self.place(ucid.as_deref(), callid.as_deref()).unwrap_or_else(|| {
            self.calls.push(MergedCall { call: Map::new(), recorded: BTreeMap::new() });
            self.calls.len() - 1
        });
        let place = &mut self.calls[at];
        if place.recorded.is_empty() && (recorded.is_some() || place.call.is_empty()) {
            let before = std::mem::replace(&mut place.call, call);
            for (name, value) in before {
                place.call.entry(name).or_insert(value);
            }
        } else if let Some(ucid) = &ucid {
            place.call.entry("ucid").or_insert_with(|| ucid.clone().into());
        }
        if let Some(recorded) = recorded {
            let node = recorded["node"].as_u64().unwrap_or(0);
            let name = recorded["recordingid"].as_str().unwrap_or_default().to_owned();
            place.recorded.entry((node, name)).or_insert(recorded);
        }
        if let Some(ucid) = ucid {
            self.by_ucid.entry(ucid).or_insert(at);
        }
        if let Some(callid) = callid {
            self.by_callid.entry(callid).or_insert(at);
        }
    }

    fn place(&self, ucid: Option<&str>, callid: Option<&str>) -> Option<usize> {
        if let Some(at) = ucid.and_then(|ucid| self.by_ucid.get(ucid)) {
            return Some(*at);
        }
        // The switch gives call ids anew: two UCIDs are two calls.
        let at = *self.by_callid.get(callid?)?;
        let unnamed = !self.calls[at].call.contains_key("ucid");
        (ucid.is_none() || unnamed).then_some(at)
    }
}

impl MergedCall {
    fn into_value(self) -> Value {
        let Self { mut call, recorded } = self;
        let all: Vec<Value> = recorded.into_values().collect();
        if let Some(first) = all.first() {
            call.insert("recorded".to_owned(), first.clone());
        }
        if all.len() > 1 {
            call.insert("recordedby".to_owned(), all.into());
        }
        Value::Object(call)
    }
}

/// The nodes that record the call in question, by what each says of itself.
pub fn recorders_of(lists: &[(NodeId, Vec<Value>)], target: &Target) -> BTreeSet<NodeId> {
    let records = |node: NodeId, call: &Value| {
        is_meant(call, target) && call["recorded"]["node"].as_u64() == Some(u64::from(node.0))
    };
    let recording =
        lists.iter().filter(|(node, calls)| calls.iter().any(|call| records(*node, call)));
    recording.map(|(node, _)| *node).collect()
}

/// Whether a call in progress is the one that a request names.
pub fn is_meant(call: &Value, target: &Target) -> bool {
    match target {
        Target::Extension(extension) => {
            let extensions = call["extensions"].as_array();
            extensions.is_some_and(|all| all.iter().any(|one| *one == *extension.as_str()))
        }
        Target::Ucid(ucid) => call["ucid"] == *ucid.as_str(),
        Target::Recording(id) => call["recorded"]["recordingid"] == *id.to_string(),
    }
}

fn word(call: &Map<String, Value>, name: &str) -> Option<String> {
    let text = call.get(name)?.as_str()?;
    (!text.is_empty()).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use cluster_core::MemberView;
    use serde_json::json;

    use super::*;

    const ME: NodeId = NodeId(2);

    /// Active, backup (this one), witness, and a parallel.
    fn view(lead: u16, away: &[u16]) -> GroupView {
        let mut view = GroupView::alone(ME, Role::Backup);
        let pattern = view.members[0].clone();
        let roles = [Role::Active, Role::Backup, Role::Witness, Role::Parallel];
        view.members = (1..)
            .zip(roles)
            .map(|(n, role)| {
                let duty = match role {
                    Role::Witness => Duty::None,
                    Role::Parallel => Duty::Follow,
                    _ if n == lead => Duty::Lead,
                    _ => Duty::Standby,
                };
                let (node, reachable) = (NodeId(n), !away.contains(&n));
                MemberView { node, role: Some(role), duty, reachable, ..pattern.clone() }
            })
            .collect();
        view.lead = Some(NodeId(lead));
        view
    }

    fn nodes(numbers: &[u16]) -> Vec<NodeId> {
        numbers.iter().map(|number| NodeId(*number)).collect()
    }

    #[test]
    fn who_starts_a_recording() {
        let cases = [
            // (lead, away, this one is ready, who records the call, order)
            (1, vec![], true, vec![], vec![1, 2, 4]),
            (1, vec![], false, vec![], vec![1, 4, 2]),
            (2, vec![], true, vec![], vec![2, 4, 1]),
            (1, vec![1], true, vec![], vec![2, 4]),
            (1, vec![1, 4], false, vec![], vec![2]),
            // Calls in progress stay where they are when the lead comes back.
            (1, vec![], true, vec![2], vec![2, 1, 4]),
            (1, vec![], true, vec![1, 4], vec![1, 4, 2]),
        ];
        for (lead, away, ready, recording, expected) in cases {
            let sight = Sight::of(&view(lead, &away), Role::Backup, &[]);
            let recording = nodes(&recording).into_iter().collect();
            let order = sight.start_order(ready, &recording);
            assert_eq!(order, nodes(&expected), "lead {lead}, away {away:?}, ready {ready}");
        }
    }

    #[test]
    fn a_witness_is_no_recorder_and_is_not_missed() {
        let sight = Sight::of(&view(1, &[1, 3]), Role::Backup, &[]);
        let active = Unreachable { node: NodeId(1), role: Some(Role::Active) };
        assert_eq!(sight.unreachable(), [active]);
        assert_eq!(names(&sight.silent([NodeId(4)])), "node 1 (active), node 4 (parallel)");
        assert_eq!(sight.peers(), nodes(&[4]));
        assert!(sight.i_record() && sight.has_peers() && !sight.reaches(NodeId(1)));
        let mut view = view(1, &[]);
        view.node = NodeId(3);
        let sight = Sight::of(&view, Role::Witness, &[]);
        assert!(!sight.i_record());
        assert_eq!(sight.peers(), nodes(&[1, 4, 2]));
    }

    #[test]
    fn what_each_member_has_is_asked_of_the_witness_too_and_missed() {
        let sight = Sight::of_all(&view(1, &[]), Role::Backup, &[]);
        let mut peers = sight.peers();
        peers.sort_unstable();
        assert_eq!(peers, nodes(&[1, 3, 4]));
        let sight = Sight::of_all(&view(1, &[3]), Role::Backup, &[]);
        assert_eq!(names(&sight.unreachable()), "node 3 (witness)");
    }

    #[test]
    fn before_the_group_is_heard_the_configuration_says_who_is_missing() {
        let alone = GroupView::alone(ME, Role::Backup);
        let sight = Sight::of(&alone, Role::Backup, &nodes(&[1, 2, 3]));
        assert_eq!(names(&sight.unreachable()), "node 1, node 3");
        assert!(sight.peers().is_empty());
        let sight = Sight::of(&alone, Role::Backup, &[]);
        assert!(sight.unreachable().is_empty() && !sight.has_peers());
        // Once it is, a member that was removed is not missed.
        let sight = Sight::of(&view(1, &[]), Role::Backup, &nodes(&[1, 2, 3, 4, 9]));
        assert!(sight.unreachable().is_empty());
    }

    fn call(callid: &str, ucid: Option<&str>, recorded: Option<(u16, &str)>) -> Value {
        let mut call = json!({ "callid": callid, "extensions": ["2611"], "seenby": recorded });
        if let Some(ucid) = ucid {
            call["ucid"] = ucid.into();
        }
        if let Some((node, id)) = recorded {
            call["recorded"] = json!({ "node": node, "recordingid": id });
        }
        call
    }

    #[test]
    fn the_same_call_is_listed_once() {
        let a = call("1", Some("U1"), None);
        let recorded = call("1", Some("U1"), Some((1, "r1")));
        let own = json!({ "node": 1, "recordingid": "r1" });
        for lists in [[vec![a.clone()], vec![recorded.clone()]], [vec![recorded.clone()], vec![a]]]
        {
            let merged = merge_calls(lists);
            assert_eq!(merged.len(), 1);
            assert_eq!((&merged[0]["recorded"], merged[0].get("recordedby")), (&own, None));
            assert_eq!(merged[0]["seenby"], json!([1, "r1"]));
        }
        // Told twice by its own node and by a peer that has heard of it.
        let merged = merge_calls([vec![recorded.clone()], vec![recorded.clone()]]);
        assert_eq!((merged.len(), merged[0].get("recordedby")), (1, None));
        let other = call("1", Some("U1"), Some((2, "r2")));
        let merged = merge_calls([vec![other], vec![recorded]]);
        assert_eq!(merged[0]["recorded"], own);
        let both = json!([own, { "node": 2, "recordingid": "r2" }]);
        assert_eq!(merged[0]["recordedby"], both);
    }

    #[test]
    fn a_call_without_a_ucid_is_known_by_its_call_id() {
        let merged = merge_calls([
            vec![call("1", None, None), call("2", Some("U2"), None)],
            vec![call("1", Some("U1"), None), call("2", None, Some((2, "r")))],
        ]);
        assert_eq!(merged.len(), 2);
        assert_eq!((&merged[0]["ucid"], &merged[1]["ucid"]), (&json!("U1"), &json!("U2")));
        assert_eq!(merged[1]["recorded"]["node"], 2);
        // The same call id at two times is two calls, and what is no object is none.
        let merged = merge_calls([
            vec![call("1", Some("U1"), None), json!(7)],
            vec![call("1", Some("U9"), None)],
        ]);
        assert_eq!(merged.len(), 2);
    }

    #[test]
    fn who_records_a_call_is_what_each_says_of_itself() {
        let seen = call("1", Some("00001000011700000001"), Some((1, "r1")));
        let lists = [(NodeId(1), vec![seen.clone()]), (NodeId(2), vec![seen])];
        let ucid = Target::Ucid("00001000011700000001".parse().unwrap());
        for target in [ucid, Target::Extension("2611".into())] {
            assert_eq!(recorders_of(&lists, &target), BTreeSet::from([NodeId(1)]));
        }
        assert!(recorders_of(&lists, &Target::Extension("2612".into())).is_empty());
    }

    #[test]
    fn the_refusal_that_says_most() {
        let told = |codes: &[Code]| {
            most_telling(codes.iter().map(|code| Failure::new(*code, ""))).map(|told| told.code)
        };
        assert_eq!(told(&[]), None);
        assert_eq!(told(&[Code::Unavailable, Code::NoCall]), Some(Code::NoCall));
        assert_eq!(told(&[Code::NoCall, Code::NoPhantom]), Some(Code::NoPhantom));
        assert_eq!(told(&[Code::NoCall, Code::AlreadyRecording]), Some(Code::AlreadyRecording));
    }
}
