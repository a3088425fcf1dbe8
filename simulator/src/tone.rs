//! Time-coded audio: every 20 ms of every call is pleasant to hear and says what it is.
//!
//! What a person hears is a slow tune, two voices in turn, whose key depends on the call. What a
//! program reads stands in the lowest bit of the 160 code words of a frame, the first 104 of them:
//!
//! ```text
//! bit   0      16        24                 56                 88      104       160
//!       | sync | part    | serial of call   | number of frame  | CRC   | (audio) |
//! ```
//!
//! The part tells whose voices the frame holds: 1 all, 2 one station's, 3 everybody else's. Of the two
//! voices one is heard in part 2 and the other in part 3; both are coded all the time. Bits go from
//! the highest to the lowest of each field. The CRC is CRC-16/CCITT-FALSE over part, serial and frame
//! number. The lowest bit of a G.711 code word survives decoding to PCM
//! and encoding again with the same law, so a file of either kind can be read back, at any
//! alignment.

pub use crate::g711::Law;

/// Samples of a frame: 20 ms at 8 kHz.
pub const FRAME_LEN: usize = 160;

/// Opens each code.
const SYNC: u16 = 0xa6d3;
/// Part, serial, frame number.
const FIELD_BITS: usize = 72;
/// The whole code.
const CODE_BITS: usize = 16 + FIELD_BITS + 16;

/// Whose voices a frame holds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Part {
    /// Everybody's in one.
    Whole,
    /// Those of one station.
    Station,
    /// Everybody's but that station's.
    Others,
}

impl Part {
    const fn number(self) -> u8 {
        match self {
            Self::Whole => 1,
            Self::Station => 2,
            Self::Others => 3,
        }
    }

    const fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Whole),
            2 => Some(Self::Station),
            3 => Some(Self::Others),
            _ => None,
        }
    }

    /// Whether the voice of this turn is in it.
    const fn has_turn(self, turn: u32) -> bool {
        match self {
            Self::Whole => true,
            Self::Station => turn.is_multiple_of(2),
            Self::Others => !turn.is_multiple_of(2),
        }
    }
}

/// What a frame says.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Code {
    /// Whose voices it holds.
    pub part: Part,
    /// Serial number of the interaction.
    pub serial: u32,
    /// Number of the frame: 20 ms steps since the call was established.
    pub frame: u32,
}

/// What is said in a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Said {
    /// Nobody says anything.
    Nothing,
    /// Those whose turn it is sing the call's tune.
    Tune,
    /// A plain tone, all the time: for who measures what becomes of it.
    Sine(Sine),
}

/// A plain tone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sine {
    /// Its pitch, below 4000.
    pub hertz: u16,
    /// Its highest sample.
    pub peak: u16,
}

/// One frame of a call, with all voices.
#[must_use]
pub fn frame(law: Law, serial: u32, frame_no: u32) -> [u8; FRAME_LEN] {
    coded(law, Code { part: Part::Whole, serial, frame: frame_no }, Said::Tune)
}

/// One frame of a call, coded whatever is said in it.
#[must_use]
pub fn coded(law: Law, code: Code, said: Said) -> [u8; FRAME_LEN] {
    let has_turn = code.part.has_turn(code.frame / SYLLABLE_FRAMES / TURN);
    let mut words = match said {
        Said::Tune if has_turn => tune(law, code.serial, code.frame),
        Said::Sine(sine) => plain(law, sine, code.frame),
        Said::Tune | Said::Nothing => [law.encode(0); FRAME_LEN],
    };
    let code = code_word(code);
    for (position, word) in words.iter_mut().take(CODE_BITS).enumerate() {
        let bit = (code >> (CODE_BITS - 1 - position)) & 1;
        // `bit` is 0 or 1.
        *word = (*word & 0xfe) | (bit as u8);
    }
    if law == Law::Mu {
        // Of mu-law's two zeros only one comes back from PCM; they have the same low bit.
        for word in &mut words {
            if *word == 0x7f {
                *word = 0xff;
            }
        }
    }
    words
}

/// A frame without a code, for what is not a talk: ringing, queue music.
#[must_use]
pub fn uncoded(law: Law, position: u32) -> [u8; FRAME_LEN] {
    // All low bits equal can never hold the sync word.
    tune(law, 0x51de, position).map(|word| word | 1)
}

/// Reads the code of exactly one frame.
#[must_use]
pub fn read_at(_law: Law, words: &[u8]) -> Option<Code> {
    let words = words.get(..CODE_BITS)?;
    let code = words.iter().fold(0_u128, |code, word| code << 1 | u128::from(word & 1));
    decode(code)
}

/// Finds every code in audio of any alignment: offset of its frame and what it says.
#[must_use]
pub fn scan(_law: Law, words: &[u8]) -> Vec<(usize, Code)> {
    scan_bits(words.len(), words.iter().map(|word| word & 1))
}

/// The same in linear samples that were decoded with `law`.
#[must_use]
pub fn scan_pcm(law: Law, samples: &[i16]) -> Vec<(usize, Code)> {
    scan_bits(samples.len(), samples.iter().map(|sample| law.encode(*sample) & 1))
}

fn scan_bits(len: usize, bits: impl Iterator<Item = u8>) -> Vec<(usize, Code)> {
    const SYNC_AT: u32 = (CODE_BITS - 16) as u32;
    let mut found = Vec::with_capacity(len / FRAME_LEN);
    let mut window = 0_u128;
    for (position, bit) in bits.enumerate() {
        window = window << 1 | u128::from(bit);
        if (window >> SYNC_AT) as u16 == SYNC
            && position + 1 >= CODE_BITS
            && let Some(code) = decode(window)
        {
            found.push((position + 1 - CODE_BITS, code));
        }
    }
    found
}

/// The 104 bits of a code, sync first.
fn code_word(code: Code) -> u128 {
    let part = u128::from(code.part.number());
    let fields = part << 64 | u128::from(code.serial) << 32 | u128::from(code.frame);
    u128::from(SYNC) << (FIELD_BITS + 16) | fields << 16 | u128::from(crc(fields))
}

fn decode(bits: u128) -> Option<Code> {
    let fields = bits >> 16 & ((1 << FIELD_BITS) - 1);
    let right = (bits >> (FIELD_BITS + 16)) as u16 == SYNC && bits as u16 == crc(fields);
    let part = Part::from_number((fields >> 64) as u8).filter(|_| right)?;
    Some(Code { part, serial: (fields >> 32) as u32, frame: fields as u32 })
}

/// CRC-16/CCITT-FALSE over the nine bytes of the fields.
fn crc(fields: u128) -> u16 {
    (0..FIELD_BITS / 8).rev().fold(0xffff, |crc, byte| {
        let index = (crc >> 8) as u8 ^ (fields >> (8 * byte)) as u8;
        crc << 8 ^ CRC_TABLE[usize::from(index)]
    })
}

static CRC_TABLE: [u16; 256] = {
    let mut table = [0; 256];
    let mut index = 0;
    while index < 256 {
        let mut value = (index as u16) << 8;
        let mut bit = 0;
        while bit < 8 {
            value = if value & 0x8000 != 0 { value << 1 ^ 0x1021 } else { value << 1 };
            bit += 1;
        }
        table[index] = value;
        index += 1;
    }
    table
};

// ---- what a person hears ----

/// A syllable is this many frames: 240 ms.
const SYLLABLE_FRAMES: u32 = 12;
/// Samples of a syllable.
const SYLLABLE_LEN: u32 = SYLLABLE_FRAMES * FRAME_LEN as u32;
/// The voices take turns of eight syllables.
const TURN: u32 = 8;
/// Loudest sample of one partial.
const LOUDNESS: i32 = 5200;

/// A pentatonic scale as phase steps per sample (2^32 is a whole turn), from 196 Hz on.
static SCALE: [u32; 10] = {
    let tenths_of_hertz: [u64; 10] = [1960, 2200, 2616, 2937, 3296, 3920, 4400, 5233, 5873, 6593];
    let mut steps = [0; 10];
    let mut index = 0;
    while index < 10 {
        steps[index] = ((tenths_of_hertz[index] << 32) / 80_000) as u32;
        index += 1;
    }
    steps
};

/// One period of a sine, 256 steps, amplitude 1024, by Bhaskara's formula (error under 0.2 %).
static SINE: [i32; 256] = {
    let mut table = [0; 256];
    let mut index = 0;
    while index < 128 {
        let x = index as i64;
        let arch = x * (128 - x);
        let value = (1024 * 16 * arch / (5 * 128 * 128 - 4 * arch)) as i32;
        table[index] = value;
        table[index + 128] = -value;
        index += 1;
    }
    table
};

fn tune(law: Law, serial: u32, frame_no: u32) -> [u8; FRAME_LEN] {
    let syllable = frame_no / SYLLABLE_FRAMES;
    let start = frame_no % SYLLABLE_FRAMES * FRAME_LEN as u32;
    let turn = syllable / TURN;
    let mixed = mix(serial, syllable);
    // Every sixth syllable is a breath.
    if mixed >> 8 & 0xff < 42 {
        return [law.encode(0); FRAME_LEN];
    }
    // The key of the call, the voice of the turn, the note of the syllable.
    let voice = (turn & 1) * 3;
    let note = ((mix(serial, 0xffff_ffff) & 3) + voice + mixed % 4) as usize;
    let step = SCALE[note.min(SCALE.len() - 1)];
    let mut words = [0; FRAME_LEN];
    for (offset, word) in words.iter_mut().enumerate() {
        let at = start + offset as u32;
        let phase = at.wrapping_mul(step);
        let wave = sine(phase) * 6 + sine(phase.wrapping_mul(2)) * 3 + sine(phase.wrapping_mul(3));
        let level = wave * envelope(at) / 1024;
        let sample = level * LOUDNESS / (10 * 1024);
        // At most 5200 in magnitude.
        *word = law.encode(sample as i16);
    }
    words
}

/// A tone without seams between frames.
fn plain(law: Law, tone: Sine, frame_no: u32) -> [u8; FRAME_LEN] {
    let step = ((u64::from(tone.hertz) << 32) / 8000) as u32;
    let start = frame_no.wrapping_mul(FRAME_LEN as u32);
    std::array::from_fn(|offset| {
        let level = sine(start.wrapping_add(offset as u32).wrapping_mul(step));
        // The table goes to 1024.
        law.encode((level * i32::from(tone.peak) / 1024).min(i32::from(i16::MAX)) as i16)
    })
}

fn sine(phase: u32) -> i32 {
    SINE[(phase >> 24) as usize]
}

/// Rise of 30 ms, slow fall, silence at both ends; 0 to 1024.
const fn envelope(at: u32) -> i32 {
    const ATTACK: u32 = 240;
    if at < ATTACK {
        return (at * 1024 / ATTACK) as i32;
    }
    ((SYLLABLE_LEN - at) * 1024 / (SYLLABLE_LEN - ATTACK)) as i32
}

/// A well-spread hash of two numbers.
const fn mix(a: u32, b: u32) -> u32 {
    let mut x = a.wrapping_mul(0x9e37_79b1) ^ b.wrapping_mul(0x85eb_ca6b);
    x ^= x >> 15;
    x = x.wrapping_mul(0x2c1b_3c6d);
    x ^= x >> 12;
    x = x.wrapping_mul(0x297a_2d39);
    x ^ x >> 15
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LAWS: [Law; 2] = [Law::A, Law::Mu];

    #[test]
    fn reads_what_it_wrote() {
        for law in LAWS {
            for (serial, number) in [(0, 0), (1, 2), (u32::MAX, u32::MAX), (77, 123_456)] {
                let words = frame(law, serial, number);
                let code = Code { part: Part::Whole, serial, frame: number };
                assert_eq!(read_at(law, &words), Some(code));
                for part in [Part::Station, Part::Others] {
                    let code = Code { part, ..code };
                    let sine = Sine { hertz: 1100, peak: 9000 };
                    for said in [Said::Tune, Said::Nothing, Said::Sine(sine)] {
                        assert_eq!(read_at(law, &coded(law, code, said)), Some(code));
                    }
                }
            }
        }
    }

    #[test]
    fn each_part_has_one_of_the_two_voices() {
        let level = |part, frame| {
            let words = coded(Law::A, Code { part, serial: 5, frame }, Said::Tune);
            words.iter().map(|word| u32::from(Law::A.decode(*word).unsigned_abs())).sum::<u32>()
        };
        let turn = SYLLABLE_FRAMES * TURN;
        for number in 0..4 * turn {
            let [whole, station, others] =
                [Part::Whole, Part::Station, Part::Others].map(|part| level(part, number));
            let (speaks, listens) = if (number / turn).is_multiple_of(2) {
                (station, others)
            } else {
                (others, station)
            };
            // The codes differ, and with them the lowest bits.
            assert!(whole.abs_diff(speaks) <= 160 * 130, "{number}: {whole} {speaks}");
            assert!(listens <= 160 * 24, "{number}: {listens}");
        }
    }

    #[test]
    fn a_plain_tone_is_as_high_and_as_loud_as_it_is_told_to_be() {
        let said = Said::Sine(Sine { hertz: 1000, peak: 8000 });
        let words = (0..50)
            .flat_map(|frame| coded(Law::A, Code { part: Part::Others, serial: 5, frame }, said));
        let samples: Vec<_> = words.map(|word| Law::A.decode(word)).collect();
        let rises = samples.windows(2).filter(|pair| pair[0] < 0 && pair[1] >= 0).count();
        assert!(rises.abs_diff(1000) <= 1, "{rises}");
        let highest = samples.iter().max().copied().unwrap_or_default();
        assert!(highest.abs_diff(8000) <= 400, "{highest}");
    }

    #[test]
    fn crc_is_ccitt_false() {
        // The usual check value is over "123456789", which is nine bytes, as many as we have.
        let fields = b"123456789".iter().fold(0_u128, |all, byte| all << 8 | u128::from(*byte));
        assert_eq!(crc(fields), 0x29b1);
    }

    #[test]
    fn nothing_is_found_in_what_is_not_ours() {
        for law in LAWS {
            let mut words = vec![0xd5; 8000];
            words.extend((0..50).flat_map(|at| uncoded(law, at)));
            assert_eq!(scan(law, &words), []);
            assert_eq!(scan(law, &frame(law, 1, 1)[..100]), []);
        }
    }

    #[test]
    fn is_soft_and_differs_between_calls() {
        let level = |serial: u32| -> Vec<i16> {
            (0..500)
                .flat_map(|number| frame(Law::A, serial, number))
                .map(|word| Law::A.decode(word))
                .collect()
        };
        let (one, two) = (level(1), level(2));
        assert!(one.iter().all(|sample| sample.unsigned_abs() < 8000));
        let loud = one.iter().filter(|sample| sample.unsigned_abs() > 500).count();
        assert!(loud > one.len() / 4, "{loud}");
        let differ = one.iter().zip(&two).filter(|(a, b)| a.abs_diff(**b) > 200).count();
        assert!(differ > one.len() / 4, "{differ}");
    }

    proptest! {
        #[test]
        fn survives_any_alignment_and_the_way_through_pcm(
            serial in any::<u32>(),
            first in 0..u32::MAX - 10,
            lead in 0_usize..400,
            mu in any::<bool>(),
        ) {
            let law = if mu { Law::Mu } else { Law::A };
            let mut words = vec![0xd5_u8; lead];
            words.extend((first..first + 5).flat_map(|number| frame(law, serial, number)));
            let expected: Vec<_> = (0..5)
                .map(|n| {
                    let code = Code { part: Part::Whole, serial, frame: first + n };
                    (lead + n as usize * FRAME_LEN, code)
                })
                .collect();
            prop_assert_eq!(&scan(law, &words), &expected);
            let samples: Vec<i16> = words.iter().map(|word| law.decode(*word)).collect();
            prop_assert_eq!(&scan_pcm(law, &samples), &expected);
            // The words themselves come back too.
            let again: Vec<u8> = samples.iter().map(|sample| law.encode(*sample)).collect();
            prop_assert_eq!(&again[lead..], &words[lead..]);
        }

        #[test]
        fn one_wrong_bit_is_noticed(bit in 0_usize..CODE_BITS, serial in any::<u32>()) {
            let mut words = frame(Law::A, serial, 7);
            words[bit] ^= 1;
            prop_assert_eq!(read_at(Law::A, &words), None);
        }
    }
}
