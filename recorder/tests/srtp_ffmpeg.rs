//! ffmpeg's SRTP, a third implementation, as the sender: what the recorder decrypts is byte for
//! byte what ffmpeg writes into a plain file, across a rollover of the sequence number, reports
//! included.

use std::net::{SocketAddr, UdpSocket};
use std::process::Command;
use std::time::Duration;

use recorder_core::dmcc::{Dialect, Secret};
use recorder_core::media::RtpPacket;
use recorder_core::media::rtp::is_rtcp;
use recorder_core::media::srtp::{Arrival, Decryptor};
use storage_core::journal::Channel;
use storage_core::{MonoTime, WallTime};

const KEY: &str = "000102030405060708090a0b0c0d0e0f";
const SALT: &str = "101112131415161718191a1b1c1d";
/// Key and salt, as SDES writes them (RFC 4568, 6.1).
const INLINE: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwd";
const SOUND: &str = "sine=frequency=440:sample_rate=8000:duration=3";

#[test]
fn what_ffmpeg_encrypts_is_what_ffmpeg_writes() {
    for (ffmpeg, name) in [
        ("AES_CM_128_HMAC_SHA1_80", "srtp-aescm128-hmac80"),
        // With reports under 32 bits, and under 80.
        ("AES_CM_128_HMAC_SHA1_32", "srtp-aescm128-hmac32"),
        ("SRTP_AES128_CM_HMAC_SHA1_32", "srtp-aescm128-hmac32"),
    ] {
        let (rtp, rtcp, port) = sockets();
        let url = format!("srtp://127.0.0.1:{port}?pkt_size=184");
        let sent = ["-srtp_out_suite", ffmpeg, "-srtp_out_params", INLINE, "-seq", "65500", &url];
        run_ffmpeg(&["-f", "rtp"], &sent);
        let plain = run_ffmpeg(&["-f", "alaw"], &["-"]);
        assert_eq!(plain.len(), 3 * 8_000);

        let dialect = Dialect::default();
        let wire = dialect.encryption_to_wire(name);
        let keys = dialect.protection(Some(wire), &Secret::new(KEY), &Secret::new(SALT));
        let mut decryptor = Decryptor::new(true);
        decryptor.begin();
        decryptor.terms(MonoTime::default(), WallTime::default(), keys).unwrap();
        let came = take(&mut decryptor, Channel::Rtp, &rtp);
        let reports = take(&mut decryptor, Channel::Rtcp, &rtcp);
        assert!(came > 100 && reports > 0, "{came} packets and {reports} reports came");

        let (mut audio, mut sequence) = (Vec::new(), Vec::new());
        for arrival in decryptor.opened(Channel::Rtp) {
            let packet = RtpPacket::parse(arrival.bytes).unwrap();
            audio.extend_from_slice(packet.payload);
            sequence.push(packet.seq.0);
        }
        assert!(audio == plain, "{ffmpeg}: {} and {} bytes", audio.len(), plain.len());
        assert!(sequence.first() == Some(&65_500) && sequence.contains(&0), "it rolls over");
        let opened: Vec<_> = decryptor.opened(Channel::Rtcp).collect();
        assert_eq!(opened.len(), reports, "{ffmpeg}");
        let sender_report = opened.iter().find(|report| report.bytes[1] == 200).unwrap();
        assert!(opened.iter().all(|report| is_rtcp(report.bytes)));
        // Its count of octets is behind what is encrypted.
        assert!(sender_report.bytes.len() >= 28);
        let octets = u32::from_be_bytes(sender_report.bytes[24..28].try_into().unwrap());
        assert!(usize::try_from(octets).unwrap() <= plain.len(), "{octets} octets");
        assert_eq!(decryptor.take_refused(), [0; 5]);
    }
}

/// Sockets on an even port and on the next one.
fn sockets() -> (UdpSocket, UdpSocket, u16) {
    for _ in 0..1_000 {
        let rtp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = rtp.local_addr().unwrap().port();
        if port.is_multiple_of(2)
            && let Ok(rtcp) = UdpSocket::bind(SocketAddr::from(([127, 0, 0, 1], port + 1)))
        {
            return (rtp, rtcp, port);
        }
    }
    panic!("no pair of ports is free");
}

/// The sine in A-law, as `form` to `to`; what it writes to its standard output.
fn run_ffmpeg(form: &[&str], to: &[&str]) -> Vec<u8> {
    let output = Command::new("ffmpeg")
        .args(["-v", "error", "-f", "lavfi", "-i", SOUND, "-ac", "1", "-c:a", "pcm_alaw"])
        .args(form)
        .args(to)
        .output()
        .expect("ffmpeg is installed: run ./setup tests");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// Takes all that has come to a socket; ffmpeg has ended, so nothing more will.
fn take(decryptor: &mut Decryptor, channel: Channel, socket: &UdpSocket) -> usize {
    socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let mut buffer = [0; 2_048];
    let mut count = 0;
    while let Ok((length, source)) = socket.recv_from(&mut buffer) {
        let (at, bytes) = (WallTime::default(), &buffer[..length]);
        decryptor.take(MonoTime::default(), channel, Arrival { at, source, bytes });
        count += 1;
    }
    count
}
