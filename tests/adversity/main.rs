//! What befalls the disks, clocks, certificates and files of a running group, and what an operator sees of it:
//! alarms, `/readyz`, the console, the log, `astlogger verify`. Whatever it is, calls go on, each has its
//! recordings, and every 20 ms is in a file or in a declared gap.
//!
//! Each file is a kind of fault. Where a test needs mounts of its own, and this system allows none, it says so.

#[path = "../common/mod.rs"]
mod common;

mod certificates;
mod clock;
mod disks;
mod full;
mod read_only;
mod rot;
mod sees;
mod slow;
