//! Which kinds of commands the members of a group know. Members run different programs while they are upgraded one
//! after the other, and a member that meets a command in the log that it cannot read must stop. So a
//! command is proposed only once all members have announced that they know it. What a program knows is
//! one number, its *level*; it stands behind the version in what a member announces, as `0.1.0+log2`, where
//! programs of the time before there were levels read a version and nothing else.

use crate::command::{Announce, Command};

/// What this program knows. A new kind of command gets the next number in [`of`].
pub const KNOWN: u16 = 3;
/// Stands between a program's version and its level.
const MARK: &str = "+log";

/// The level from which on programs know a command.
#[must_use]
pub const fn of(command: &Command) -> u16 {
    match command {
        Command::Announce(_)
        | Command::Health { .. }
        | Command::Grant(_)
        | Command::Claim(_)
        | Command::End { .. }
        | Command::Over { .. }
        | Command::Release { .. }
        | Command::Seal(_)
        | Command::Ack { .. }
        | Command::Resolve { .. }
        | Command::SetRole { .. }
        | Command::Drain { .. }
        | Command::Handover { .. }
        | Command::AddMember { .. }
        | Command::PromoteMember { .. }
        | Command::RemoveMember { .. } => 1,
        Command::HandIn { .. } => 2,
        Command::Checkpoint { .. } | Command::Countersign { .. } => 3,
    }
}

/// The level of a member, from the program that it has announced; the lowest while it has not.
#[must_use]
pub fn told(program: &str) -> u16 {
    let level = program.rsplit_once(MARK).and_then(|(_, level)| level.parse().ok());
    level.unwrap_or(1).max(1)
}

/// A member's program without its level, for people.
#[must_use]
pub fn version(program: &str) -> &str {
    match program.rsplit_once(MARK) {
        Some((version, level)) if level.parse::<u16>().is_ok() => version,
        _ => program,
    }
}

/// What a member says of itself, with its level: this program's, unless it names another.
pub(crate) fn announced(announce: Announce) -> Announce {
    if version(&announce.program) != announce.program {
        return announce;
    }
    let program = format!("{}{MARK}{KNOWN}", announce.program);
    Announce { program, ..announce }
}

#[cfg(test)]
mod tests {
    use storage_core::{NodeId, Role};

    use super::*;

    #[test]
    fn what_a_member_announces_says_its_level_and_older_programs_have_the_lowest() {
        let announce = Announce {
            node: NodeId(1),
            role: Role::Active,
            phantoms: Vec::new(),
            program: "0.1.0".to_owned(),
        };
        let told_of = announced(announced(announce));
        assert_eq!(told_of.program, format!("0.1.0+log{KNOWN}"));
        assert_eq!((told(&told_of.program), version(&told_of.program)), (KNOWN, "0.1.0"));
        for (program, level) in
            [("", 1), ("0.1.0", 1), ("1.0+log", 1), ("1+log0", 1), ("1+log9", 9)]
        {
            assert_eq!(told(program), level, "{program}");
        }
        assert_eq!(version("1.0+logs"), "1.0+logs");
    }
}
