//! What the kernel says of this process and of the network: processor time, memory, drops. The
//! parsers are pure; the files are those of proc(5).

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage, setrlimit};
use nix::sys::time::TimeVal;
use nix::unistd::Pid;

/// Keeps the calling thread, and the threads that it starts, on one processor.
pub fn pin(processor: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(processor)?;
    sched_setaffinity(Pid::from_raw(0), &set)
        .with_context(|| format!("processor {processor} cannot be had"))
}

/// Lets this process open as many files as it may.
pub fn raise_file_limit() -> Result<()> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    Ok(setrlimit(Resource::RLIMIT_NOFILE, most, most)?)
}

/// User and system time of this process so far.
pub fn process_time() -> Result<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    Ok(duration(usage.user_time()) + duration(usage.system_time()))
}

fn duration(time: TimeVal) -> Duration {
    let seconds = u64::try_from(time.tv_sec()).unwrap_or(0);
    let micros = u64::try_from(time.tv_usec()).unwrap_or(0);
    Duration::from_secs(seconds) + Duration::from_micros(micros)
}

/// User and system time of another process so far, in the kernel's ticks.
pub fn process_time_of(pid: u32) -> Result<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let ticks = ticks(&stat).with_context(|| format!("/proc/{pid}/stat: {stat}"))?;
    let second = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK)?.unwrap_or(100);
    Ok(Duration::from_secs_f64(ticks as f64 / second as f64))
}

/// From a `stat` file: user and system time. The program's name may hold anything.
fn ticks(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    Some(user + fields.next()?.parse::<u64>().ok()?)
}

/// Each thread of this process by name, with the time that it was on a processor.
pub fn thread_times() -> Result<Vec<(String, Duration)>> {
    let threads = threads_of("self")?;
    Ok(threads.into_iter().map(|(name, run)| (name, run.time)).collect())
}

/// What a thread has had of a processor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Run {
    /// How long.
    pub time: Duration,
    /// In how many turns: each time that it was woken, mostly.
    pub turns: u64,
}

/// Each thread of a process by name.
pub fn threads_of(pid: &str) -> Result<Vec<(String, Run)>> {
    let mut threads = Vec::new();
    for task in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        let folder = task?.path();
        let name = std::fs::read_to_string(folder.join("comm"))?;
        let times = std::fs::read_to_string(folder.join("schedstat"))?;
        threads.push((name.trim().to_owned(), run(&times).unwrap_or_default()));
    }
    Ok(threads)
}

/// From a `schedstat` file: nanoseconds on the processor, waiting for it, number of turns.
fn run(schedstat: &str) -> Option<Run> {
    let mut numbers = schedstat.split_whitespace().map(str::parse);
    let time = Duration::from_nanos(numbers.next()?.ok()?);
    Some(Run { time, turns: numbers.nth(1)?.ok()? })
}

/// Resident memory of this process, bytes.
pub fn resident_bytes() -> Result<u64> {
    resident(&std::fs::read_to_string("/proc/self/status")?).context("no VmRSS in the status")
}

/// The same of another process.
pub fn resident_bytes_of(pid: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    resident(&status).context("no VmRSS in the status")
}

fn resident(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib * 1024)
}

/// Packets that the kernel has dropped between network and sockets, on all processors.
pub fn softnet_drops() -> Result<u64> {
    Ok(softnet(&std::fs::read_to_string("/proc/net/softnet_stat")?))
}

/// A line a processor; the second number, hexadecimal, counts drops at `netdev_max_backlog`.
fn softnet(text: &str) -> u64 {
    let drops = |line: &str| u64::from_str_radix(line.split_whitespace().nth(1)?, 16).ok();
    text.lines().filter_map(drops).sum()
}

/// Datagrams that this machine's sockets at an address have dropped since they were bound.
pub fn socket_drops(address: Ipv4Addr) -> Result<u64> {
    let text = std::fs::read_to_string("/proc/net/udp")?;
    let ours = text.lines().filter_map(udp_socket).filter(|(local, _)| *local.ip() == address);
    Ok(ours.map(|(_, drops)| drops).sum())
}

/// Local address and drops from a line of `/proc/net/udp`. The address is in the byte order of
/// the machine, the port is not.
fn udp_socket(line: &str) -> Option<(SocketAddrV4, u64)> {
    let mut fields = line.split_whitespace();
    let (ip, port) = fields.nth(1)?.split_once(':')?;
    let ip = Ipv4Addr::from(u32::from_str_radix(ip, 16).ok()?.to_ne_bytes());
    let port = u16::from_str_radix(port, 16).ok()?;
    Some((SocketAddrV4::new(ip, port), fields.last()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_files_are_read() {
        let expected = Run { time: Duration::from_nanos(1500), turns: 3 };
        assert_eq!(run("1500 20 3\n"), Some(expected));
        assert_eq!((run(""), run("1500 20")), (None, None));
        assert_eq!(resident("VmHWM:\t 9 kB\nVmRSS:\t    12 kB\n"), Some(12 << 10));
        assert_eq!(resident("Name:\tx\n"), None);
        let stat = "7 (a) (b) S 1 7 7 0 -1 4194560 1 2 3 4 120 30 0 0 20 0 9 0 5";
        assert_eq!((ticks(stat), ticks("7 (a"), ticks("")), (Some(150), None, None));
        assert_eq!(softnet("00257801 0000000a 0 0\n002ab55e 00000006 0 0\n\n"), 16);
    }

    #[test]
    fn a_sockets_line_is_read() {
        let line = "  9: 0100007F:A7C8 00000000:0000 07 00000000:00000000 00:00000000 00000000 \
                    0 0 4711 2 ffff888003 17";
        let expected = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 42_952);
        if cfg!(target_endian = "little") {
            assert_eq!(udp_socket(line), Some((expected, 17)));
        }
        assert_eq!(udp_socket("  sl  local_address rem_address st ... drops"), None);
    }

    #[test]
    fn this_process_uses_time_and_memory() {
        assert!(resident_bytes().unwrap() > 100_000);
        assert!(!thread_times().unwrap().is_empty());
        assert!(process_time().unwrap() > Duration::ZERO);
    }
}
