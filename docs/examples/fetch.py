"""Finds recordings and fetches their voice files over the WebSocket.

    python3 fetch.py ws://127.0.0.1:8080/ws qa extension=2611 from=2026-11-27T00:00:00Z

The password is a line on standard input. Each file is written to the current folder, once its size and its
checksum are right. Needs Python 3.9 and `websockets` 10 or later (Debian: python3-websockets).
"""

import asyncio
import hashlib
import json
import sys

import websockets


class Failed(Exception):
    """A reply `fail`, or audio that does not arrive whole."""


class Client:
    """Requests and replies on one socket; events are left to whoever wants them."""

    def __init__(self, socket):
        self.socket = socket
        self.last = 0

    async def ask(self, request, **arguments):
        """Sends a request and waits for its reply."""
        self.last += 1
        await self.socket.send(json.dumps({"request": request, "id": self.last, **arguments}))
        while True:
            frame = await self.socket.recv()
            if isinstance(frame, bytes):
                continue
            reply = json.loads(frame)
            if reply.get("id") == self.last and "result" in reply:
                if reply["result"] == "fail":
                    raise Failed(f"{request}: {reply['error']}: {reply['message']}")
                return reply

    async def found(self, **filters):
        """All recordings that match, page after page."""
        while True:
            page = await self.ask("listrecordings", limit=100, **filters)
            for recording in page["recordings"]:
                yield recording
            if "cursor" not in page:
                return
            filters["cursor"] = page["cursor"]

    async def fetch(self, recordingid, path):
        """Writes a voice file as it lies in the archive."""
        reply = await self.ask("fetchrecording", recordingid=recordingid)
        number = reply["fetch"].to_bytes(4, "big")
        sha256 = hashlib.sha256()
        with open(path, "wb") as file:
            while True:
                frame = await self.socket.recv()
                if isinstance(frame, bytes):
                    if frame[:4] == number:
                        file.write(frame[4:])
                        sha256.update(frame[4:])
                    continue
                event = json.loads(frame)
                if event.get("fetch") != reply["fetch"]:
                    continue
                if event["eventtype"] == "fetchfailed":
                    raise Failed(f"{recordingid}: {event['message']}")
                if event["eventtype"] == "fetchcomplete":
                    break
        if sha256.hexdigest() != event["sha256"]:
            raise Failed(f"{recordingid}: the checksum is wrong; fetch it again")


async def main(address, user, *filters):
    filters = dict(one.split("=", 1) for one in filters)
    # Frames are at most 64 KiB, but a page of records may be longer.
    async with websockets.connect(address, max_size=16 * 1024 * 1024) as socket:
        client = Client(socket)
        await client.ask("authenticate", user=user, password=sys.stdin.readline().rstrip("\n"))
        async for recording in client.found(**filters):
            ending = "opus" if recording["format"] == "opus" else "wav"
            path = f"{recording['recordingid']}.{ending}"
            await client.fetch(recording["recordingid"], path)
            print(path, recording["started"], recording["durationms"], "ms", flush=True)


if __name__ == "__main__":
    try:
        asyncio.run(main(*sys.argv[1:]))
    except Failed as failed:
        sys.exit(str(failed))
