"""Takes alarms over HTTP as some ticket system would, and writes one JSON line each to a file.

http_receiver.py PORT FILE SECRET REFUSALS [CERT KEY]: the first REFUSALS posts are answered with 503.
"""
import hashlib, hmac, http.server, json, ssl, sys

port, path, secret, refusals = int(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])


class Receiver(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        global refusals
        body = self.rfile.read(int(self.headers["Content-Length"]))
        due = "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
        signed = hmac.compare_digest(due, self.headers.get("X-AstLogger-Signature", ""))
        status = 204
        if refusals > 0:
            refusals, status = refusals - 1, 503
        with open(path, "a") as file:
            line = {"status": status, "signed": signed, "path": self.path,
                    "type": self.headers.get("Content-Type"), "body": json.loads(body)}
            file.write(json.dumps(line) + "\n")
        self.send_response(status)
        self.end_headers()

    def log_message(self, *_):
        pass


server = http.server.HTTPServer(("127.0.0.1", port), Receiver)
if len(sys.argv) > 5:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[5], sys.argv[6])
    server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
