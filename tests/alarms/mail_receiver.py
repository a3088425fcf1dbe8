"""A mail server that takes mail only after STARTTLS and a login, and writes one JSON line each to a file.

mail_receiver.py PORT FILE CERT KEY USER PASSWORD
"""
import asyncio, email, email.policy, json, ssl, sys

from aiosmtpd.smtp import SMTP, AuthResult

port, path, cert, key, user, password = int(sys.argv[1]), *sys.argv[2:7]


class Receiver:
    async def handle_DATA(self, server, session, envelope):
        mail = email.message_from_bytes(envelope.content, policy=email.policy.default)
        line = {"from": envelope.mail_from, "to": envelope.rcpt_tos, "subject": mail["Subject"],
                "text": mail.get_content(), "tls": session.ssl is not None,
                "login": session.authenticated, "date": mail["Date"] is not None}
        with open(path, "a") as file:
            file.write(json.dumps(line) + "\n")
        return "250 OK"


def login(server, session, envelope, mechanism, data):
    right = (data.login, data.password) == (user.encode(), password.encode())
    return AuthResult(success=right)


def smtp():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    return SMTP(Receiver(), tls_context=context, require_starttls=True, auth_required=True,
                authenticator=login)


async def main():
    server = await asyncio.get_running_loop().create_server(smtp, "127.0.0.1", port)
    await server.serve_forever()


asyncio.run(main())
