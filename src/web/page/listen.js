// A call in progress, as it is heard: frames of 20 ms come over the socket and are played one behind the other. Which
// call it is, and who may listen, is decided elsewhere.

/** Samples a second, as the node sends them. */
const RATE = 8000;
/** A frame's number, 32 bits, high byte first. */
const NUMBER_BYTES = 4;
/** What comes after a silence is played so much later, seconds: frames do not come quite evenly. */
const LEAD = 0.06;
/** What would have to wait for longer is left out, or the listener falls behind. */
const WAIT_MAX = 0.25;

/** The number and the samples of a binary frame; null if it is none. */
export function frameOf(data) {
  const samples = (data.byteLength - NUMBER_BYTES) / 2;
  if (samples < 1 || !Number.isInteger(samples)) {
    return null;
  }
  const view = new DataView(data);
  const read = (_, at) => view.getInt16(NUMBER_BYTES + 2 * at, true) / 32768;
  return { number: view.getUint32(0), samples: Float32Array.from({ length: samples }, read) };
}

/** When a frame is to be played that would be due at `next`, if it comes at `now`; null: not at all. */
export function playAt(next, now) {
  if (next < now) {
    return now + LEAD;
  }
  return next > now + WAIT_MAX ? null : next;
}

/** Plays what it is given. Made when somebody has pressed a button: browsers let nobody speak before. */
export class Speaker {
  // At the rate of what comes: nothing is resampled frame by frame, which would be heard.
  #context = new AudioContext({ sampleRate: RATE });
  #next = 0;

  /** Plays a frame behind those before it. */
  play(samples) {
    const at = playAt(this.#next, this.#context.currentTime);
    if (at === null) {
      return;
    }
    const sound = this.#context.createBuffer(1, samples.length, RATE);
    sound.copyToChannel(samples, 0);
    const source = this.#context.createBufferSource();
    source.buffer = sound;
    source.connect(this.#context.destination);
    source.start(at);
    this.#next = at + samples.length / RATE;
  }

  close() {
    this.#context.close();
  }
}
