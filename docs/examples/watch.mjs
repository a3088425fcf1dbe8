// Watches calls and recordings as they happen; each new recording is fetched over HTTP, checked, and tagged.
//
//     node watch.mjs http://127.0.0.1:8080 qa 10
//
// The password is a line on standard input; it ends after so many recordings. Needs Node 18 or later; one without a
// WebSocket of its own (before 22) also `npm install ws`.

import { createHash } from "node:crypto";
import { once } from "node:events";
import { createInterface } from "node:readline";

const Socket = globalThis.WebSocket ?? (await import("ws")).WebSocket;
const [site, user, count] = process.argv.slice(2);

/** Whatever HTTP answers but success is an error that says why. */
async function http(path, init) {
  const answer = await fetch(new URL(path, site), init);
  if (!answer.ok) {
    const { error, message } = await answer.json();
    throw new Error(`${path}: ${error}: ${message}`);
  }
  return answer;
}

/** Signs in; the token is for HTTP and for the socket. */
async function signIn(password) {
  const body = JSON.stringify({ user, password });
  const answer = await http("/api/signin", { method: "POST", body });
  return (await answer.json()).token;
}

/** Fetches the audio and holds it against the record; leaves a tag. */
async function look(recording, headers) {
  const { recordingid, sha256, durationms } = recording;
  const answer = await http(`/api/recordings/${recordingid}/audio`, { headers });
  const audio = Buffer.from(await answer.arrayBuffer());
  const sound = createHash("sha256").update(audio).digest("hex") === sha256;
  const body = JSON.stringify({ recordingid, add: [sound ? "checked" : "broken"] });
  await http("/api/requests/tagrecording", { method: "POST", headers, body });
  console.log(`${recordingid} ${durationms} ms, ${audio.length} bytes, ${sound ? "checked" : "BROKEN"}`);
}

const [password] = await once(createInterface({ input: process.stdin }), "line");
const token = await signIn(password);
const headers = { authorization: `Bearer ${token}` };
const address = new URL("/ws", site);
address.protocol = address.protocol.replace("http", "ws");
const socket = new Socket(address);
const ask = (request, more) => socket.send(JSON.stringify({ request, id: request, ...more }));

let seen = 0;
socket.onopen = () => {
  ask("authenticate", { token });
  ask("subscribe", { events: ["calls", "recordings"] });
};
socket.onmessage = async ({ data }) => {
  const told = JSON.parse(data);
  if (told.result === "fail") throw new Error(`${told.id}: ${told.error}: ${told.message}`);
  if (told.id === "subscribe") console.log("watching");
  if (told.eventtype) console.log(told.eventtype, told.ucid ?? told.recordingid ?? "");
  if (told.eventtype === "recordingpublished") {
    await look(told.recording, headers);
    seen += 1;
    if (seen === Number(count)) socket.close();
  }
};
socket.onclose = ({ code }) => process.exit(seen >= Number(count) ? 0 : console.error(`closed: ${code}`) ?? 1);
