//! Decoders against programs that are not ours, and against rubbish.

use std::io::Write;
use std::process::{Command, Stdio};

use oxideav_core::{AudioFrame, Encoder};
use oxideav_g729::codec::G729Encoder;
use proptest::prelude::*;
use storage_core::g711::Law;

use super::*;

/// Seconds of something like speech at `rate`: a voice of 120 to 180 Hz with two formants, in
/// syllables.
fn voice(rate: u32, seconds: u32) -> Vec<i16> {
    let mut phase = 0.0_f64;
    (0..rate * seconds)
        .map(|n| {
            let t = f64::from(n) / f64::from(rate);
            let pitch = 150.0 + 30.0 * (t * 2.1).sin();
            phase += pitch / f64::from(rate);
            let syllable = (t * 3.0 * std::f64::consts::PI).sin().powi(2);
            let harmonics = (1..=18).map(|k| {
                let f = pitch * f64::from(k);
                let formant = |at: f64, width: f64| (-((f - at) / width).powi(2)).exp();
                let gain = formant(600.0, 250.0) + 0.5 * formant(1_700.0, 400.0) + 0.02;
                gain * (std::f64::consts::TAU * f64::from(k) * phase).sin()
            });
            (harmonics.sum::<f64>() * syllable * 5_000.0) as i16
        })
        .collect()
}

/// What ffmpeg makes of bytes of a format: samples at 8 kHz, or bytes.
fn ffmpeg(arguments: &[&str], input: &[u8]) -> Option<Vec<u8>> {
    let mut child = Command::new("ffmpeg")
        .args(["-v", "error"])
        .args(arguments)
        .arg("-")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .ok()?;
    let mut stdin = child.stdin.take()?;
    let input = input.to_vec();
    let writer = std::thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output().ok()?;
    writer.join().unwrap().unwrap();
    assert!(output.status.success(), "ffmpeg {arguments:?}");
    Some(output.stdout)
}

fn linear(bytes: &[u8]) -> Vec<i16> {
    bytes.chunks_exact(2).map(|pair| i16::from_le_bytes([pair[0], pair[1]])).collect()
}

fn bytes(samples: &[i16]) -> Vec<u8> {
    samples.iter().flat_map(|sample| sample.to_le_bytes()).collect()
}

/// Signal to difference, dB. `heard` has `finer` times as many samples and may be a few of them late:
/// filters delay by parts of a sample.
fn likeness(expected: &[i16], heard: &[i16], finer: usize) -> f64 {
    let ratio = |delay: usize| {
        let pairs = expected.iter().zip(heard[delay..].iter().step_by(finer));
        let (mut signal, mut noise) = (0.0, 1.0);
        for (expected, heard) in pairs {
            let (expected, heard) = (f64::from(*expected), f64::from(*heard));
            signal += expected * expected;
            noise += (expected - heard).powi(2);
        }
        10.0 * (signal / noise).log10()
    };
    (0..16 * finer).map(ratio).fold(f64::MIN, f64::max)
}

fn g729(samples: &[i16]) -> Vec<u8> {
    let mut encoder = G729Encoder::new();
    let samples_count = u32::try_from(samples.len()).unwrap();
    let frame = AudioFrame { samples: samples_count, pts: None, data: vec![bytes(samples)] };
    encoder.send_frame(&Frame::Audio(frame)).unwrap();
    std::iter::from_fn(|| encoder.receive_packet().ok()).flat_map(|packet| packet.data).collect()
}

/// Decodes a stream in packets of `payload` bytes of which each is `samples` long.
fn decoded(codec: Codec, stream: &[u8], payload: usize, samples: u16) -> Vec<i16> {
    let mut decoders = Decoders::default();
    let packets = stream.chunks_exact(payload).enumerate();
    let samples = packets.flat_map(|(number, payload)| {
        let packet = Coded { codec, payload, fresh: number == 0, skip: 0, take: samples };
        decoders.decode(&packet).to_vec()
    });
    samples.collect()
}

#[test]
fn g729_sounds_as_another_decoder_makes_it() {
    let spoken = voice(8_000, 4);
    let stream = g729(&spoken);
    assert_eq!(stream.len(), 4_000);
    let ours = decoded(Codec::G729, &stream, 20, 160);
    assert_eq!(ours.len(), spoken.len());
    let Some(theirs) = ffmpeg(&["-f", "g729", "-i", "-", "-f", "s16le"], &stream) else {
        return eprintln!("no ffmpeg here: not compared");
    };
    let like = likeness(&ours, &linear(&theirs), 1);
    println!("G.729 against ffmpeg: {like:.1} dB");
    assert!(like > 20.0, "{like:.1} dB");
}

#[test]
fn g722_sounds_as_another_decoder_makes_it() {
    let spoken = bytes(&voice(16_000, 4));
    let encode = ["-f", "s16le", "-ar", "16000", "-i", "-", "-f", "g722"];
    let Some(stream) = ffmpeg(&encode, &spoken) else {
        return eprintln!("no ffmpeg here: not compared");
    };
    let ours = decoded(Codec::G722, &stream, 160, 160);
    let decode = ["-f", "g722", "-i", "-", "-ar", "64000", "-f", "s16le"];
    let theirs = linear(&ffmpeg(&decode, &stream).unwrap());
    let like = likeness(&ours, &theirs, 8);
    println!("G.722 against ffmpeg: {like:.1} dB");
    assert!(like > 20.0, "{like:.1} dB");
}

#[cfg(feature = "opus")]
#[test]
fn opus_sounds_as_another_decoder_makes_it() {
    let spoken = bytes(&voice(16_000, 4));
    let encode = ["-f", "s16le", "-ar", "16000", "-i", "-", "-c:a", "libopus", "-f", "ogg"];
    let Some(file) = ffmpeg(&encode, &spoken) else {
        return eprintln!("no ffmpeg here: not compared");
    };
    let mut packets = ogg::reading::PacketReader::new(std::io::Cursor::new(&file));
    let mut stream = Vec::new();
    while let Some(packet) = packets.read_packet().unwrap() {
        stream.push(packet.data);
    }
    let mut decoders = Decoders::default();
    let decoded = stream[2..].iter().enumerate().flat_map(|(number, payload)| {
        let take = Codec::Opus.samples(payload);
        let packet = Coded { codec: Codec::Opus, payload, fresh: number == 0, skip: 0, take };
        decoders.decode(&packet).to_vec()
    });
    // The file's begin, 6.5 ms, is not to be heard; ffmpeg leaves it out.
    let ours: Vec<i16> = decoded.skip(52).take(8_000 * 39 / 10).collect();
    // Its own decoder, not libopus.
    let theirs = linear(&ffmpeg(&["-c:a", "opus", "-i", "-", "-f", "s16le"], &file).unwrap());
    let like = likeness(&ours, &theirs, 6);
    println!("Opus against ffmpeg: {like:.1} dB");
    assert!(like > 15.0, "{like:.1} dB");
}

#[test]
fn packets_of_any_size_and_parts_of_them_are_the_same_audio() {
    let stream = g729(&voice(8_000, 1));
    let whole = decoded(Codec::G729, &stream, 20, 160);
    assert_eq!(decoded(Codec::G729, &stream, 10, 80), whole);
    // With the silence's description at its end.
    let mut decoders = Decoders::default();
    let payload = [&stream[..20], &[1, 2]].concat();
    let packet = Coded { codec: Codec::G729, payload: &payload, fresh: true, skip: 30, take: 100 };
    assert_eq!(decoders.decode(&packet), &whole[30..130]);
    // A decoder that begins anew has forgotten all.
    let packet = Coded { payload: &stream[..20], skip: 0, take: 160, ..packet };
    decoders.decode(&Coded { payload: &stream[500..520], ..packet });
    assert_eq!(decoders.decode(&packet), &whole[..160]);
    assert_ne!(decoders.decode(&Coded { fresh: false, ..packet }), &whole[..160]);
}

#[test]
fn linear_samples_and_g711_are_taken_as_they_are() {
    let mut decoders = Decoders::default();
    let payload = [0x12, 0x34, 0xff, 0xfe];
    let packet = Coded { codec: Codec::L16, payload: &payload, fresh: true, skip: 0, take: 2 };
    assert_eq!(decoders.decode(&packet), [0x1234, -2]);
    let packet = Coded { codec: Codec::G711(Law::A), take: 4, ..packet };
    let expected = payload.map(|byte| Law::A.decode(byte));
    assert_eq!(decoders.decode(&packet), expected);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_bytes_give_as_many_samples_as_are_wanted(
        packets in proptest::collection::vec(
            (any::<bool>(), proptest::collection::vec(any::<u8>(), 0..200), 0_u16..200, 0_u16..400),
            1..20,
        ),
        codec in prop_oneof![Just(Codec::G729), Just(Codec::G722), Just(Codec::L16), Just(Codec::Opus)],
    ) {
        let mut decoders = Decoders::default();
        for (fresh, payload, skip, take) in &packets {
            let packet =
                Coded { codec, payload, fresh: *fresh, skip: *skip, take: *take };
            prop_assert_eq!(decoders.decode(&packet).len(), usize::from(*take));
        }
    }
}
