//! What sending costs: so many streams for so many seconds to a socket that nobody reads.
//! `cargo run --release -p simulator --example rtp_load -- 1000 10`

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeVal;
use simulator::clock::Clock;
use simulator::media::{Change, Coding, Play, Sender, media_socket};
use simulator::switch::{Extension, Serial};
use simulator::tone::{self, Law, Part};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1).filter_map(|text| text.parse::<u64>().ok());
    let streams = arguments.next().unwrap_or(200);
    let seconds = arguments.next().unwrap_or(5);

    let started = Instant::now();
    let odd = (0..100_000).fold(0, |odd, number| odd ^ tone::frame(Law::A, number, number)[7]);
    println!("{} ns a frame ({odd})", started.elapsed().as_nanos() / 100_000);
    let minute: Vec<u8> = (0..3000).flat_map(|number| tone::frame(Law::A, 1, number)).collect();
    let started = Instant::now();
    let found: usize = (0..100).map(|_| tone::scan(Law::A, &minute).len()).sum();
    println!("100 minutes scanned in {:?}, {found} codes", started.elapsed());

    let sink = UdpSocket::bind("127.0.0.1:0")?;
    let to = sink.local_addr()?;
    let clock = Clock::start();
    let sender = Sender::start(clock, vec![media_socket(to.ip())?], 1)?;
    for number in 0..streams {
        sender.table().apply(clock.now(), Change::Restart(play(number, to, clock)));
    }
    let (before, started) = (cpu()?, Instant::now());
    std::thread::sleep(Duration::from_secs(seconds));
    let share = (cpu()? - before).as_secs_f64() / started.elapsed().as_secs_f64();
    println!("{streams} streams: {:.2} % of one core", share * 100.0);
    Ok(())
}

/// Two recorders hear each call.
fn play(number: u64, to: SocketAddr, clock: Clock) -> Play {
    Play {
        key: (Extension::from(number.to_string()), 0),
        aes: 0,
        to,
        coding: Coding::G711(Law::A),
        protection: None,
        first_index: None,
        report_packets: 0,
        part: Part::Whole,
        serial: Serial(u32::try_from(number / 2).unwrap_or(u32::MAX)),
        established: Some(clock.now()),
        not_before: clock.now(),
    }
}

fn cpu() -> Result<Duration, nix::Error> {
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    let time = |value: TimeVal| {
        Duration::from_secs(value.tv_sec().unsigned_abs())
            + Duration::from_micros(value.tv_usec().unsigned_abs())
    };
    Ok(time(usage.user_time()) + time(usage.system_time()))
}
