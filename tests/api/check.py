"""Holds AstLogger's descriptions (docs/api) against a running node, as somebody would who trusts neither.

    check.py NODE DESCRIPTIONS PASSWORD

NODE is HOST:PORT, DESCRIPTIONS the folder of both files, PASSWORD that of users who are named as their roles. While
it runs, each member of each answer must be described, each role must be let in or refused as described, and each
event that is heard must be described. "watching" on standard output says that it hears events; a line on standard
input ends that. Ends with a JSON object: what was asked and what was heard. Any contradiction is an exception.
"""

import asyncio
import copy
import json
import sys
import urllib.error
import urllib.request

import jsonschema
import websockets
import yaml

NODE, FOLDER, PASSWORD = sys.argv[1:]
ROLES = ["agent", "supervisor", "qa", "auditor", "admin"]
OPENAPI = yaml.safe_load(open(f"{FOLDER}/openapi.yaml"))
ASYNCAPI = yaml.safe_load(open(f"{FOLDER}/asyncapi.yaml"))
TOKENS = {}
# What a request needs to be more than refused for its arguments; an empty `recordingid` is filled in.
ARGUMENTS = json.load(open(f"{FOLDER}/../../tests/api/arguments.json"))


def resolve(node, document, seen=()):
    """The node without references."""
    if isinstance(node, dict):
        if "$ref" in node:
            file, path = node["$ref"].split("#", 1)
            target = OPENAPI if file == "openapi.yaml" else document
            assert (path, id(target)) not in seen, f"{path} refers to itself"
            found = target
            for part in path.strip("/").split("/"):
                found = found[part.replace("~1", "/")]
            return resolve(found, target, seen + ((path, id(target)),))
        return {name: resolve(value, document, seen) for name, value in node.items()}
    if isinstance(node, list):
        return [resolve(value, document, seen) for value in node]
    return node


def strict(schema):
    """The same schema, in which a member that is not described is wrong."""
    schema = copy.deepcopy(schema)

    def close(node, inside_all):
        if isinstance(node, list):
            for value in node:
                close(value, inside_all)
            return
        if not isinstance(node, dict):
            return
        whole = node.get("type") == "object" and "properties" in node or "allOf" in node
        if whole and not inside_all and "additionalProperties" not in node:
            node["unevaluatedProperties"] = False
        for name, value in node.items():
            if name == "properties":
                for member in value.values():
                    close(member, False)
            elif name == "allOf":
                close(value, True)
            elif name in ("items", "oneOf", "anyOf"):
                close(value, False)

    close(schema, False)
    return schema


def check(value, schema, what):
    validator = jsonschema.Draft202012Validator(strict(schema), format_checker=jsonschema.FormatChecker())
    wrong = [f"{'/'.join(map(str, error.absolute_path))}: {error.message}" for error in validator.iter_errors(value)]
    assert not wrong, f"{what}: {wrong}: {json.dumps(value)[:2000]}"


def payload(name):
    return resolve(ASYNCAPI["components"]["messages"][name]["payload"], ASYNCAPI)


def http(method, path, role=None, body=None):
    headers = {"Authorization": f"Bearer {TOKENS[role]}"} if role else {}
    data = json.dumps(body).encode() if body is not None else None
    request = urllib.request.Request(f"http://{NODE}{path}", data=data, headers=headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.headers.get_content_type(), answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers.get_content_type(), error.read()


def check_answer(operation, answer, what):
    """An HTTP answer must be one of those described."""
    status, kind, body = answer
    responses = operation["responses"]
    described = responses.get(str(status), responses.get("default"))
    assert described, f"{what}: {status} is not described: {body[:300]}"
    content = resolve(described, OPENAPI).get("content", {})
    if not body and not content:
        return
    assert kind in content, f"{what}: {status} is {kind}, described is {list(content)}: {body[:300]}"
    schema = content[kind].get("schema")
    if kind == "application/json":
        check(json.loads(body), resolve(schema, OPENAPI), what)


def allowed(operation, role, answer, what):
    roles = operation.get("x-roles")
    if roles is None:
        return
    status, _, body = answer
    forbidden = status == 403 and json.loads(body)["error"] == "forbidden"
    assert forbidden == (role not in roles), f"{what} by {role}: {status}: {body[:300]}"


def over_http(recordingid):
    """Each address and each method that is described, as nobody and as each role."""
    asked = 0
    for path, item in OPENAPI["paths"].items():
        for method, operation in ((m, o) for m, o in item.items() if m in ("get", "post")):
            if path in ("/ws", "/api/signout", "/api/signin"):
                continue
            request = path.rsplit("/", 1)[1]
            body = None
            if path.startswith("/api/requests/"):
                body = {**ARGUMENTS.get(request, {})}
                if body.get("recordingid") == "":
                    body["recordingid"] = recordingid
            address = path.replace("{id}", recordingid)
            open_to_all = {} in operation.get("security", [{"bearer": []}]) or operation.get("security") == []
            what = f"{method} {address}"
            for role in [None, *ROLES]:
                if request == "drill" and role == "admin":
                    continue
                answer = http(method.upper(), address, role, body)
                asked += 1
                check_answer(operation, answer, f"{what} by {role}")
                if role is None:
                    assert open_to_all or answer[0] == 401, f"{what} by nobody: {answer[0]}"
                else:
                    allowed(operation, role, answer, what)
    return asked


async def over_socket(recordingid):
    """Each request, as each role."""
    asked = {}
    for role in ROLES:
        headers = {"Authorization": f"Bearer {TOKENS[role]}"}
        async with websockets.connect(f"ws://{NODE}/ws", extra_headers=headers, max_size=None) as socket:
            for name, operation in ASYNCAPI["operations"].items():
                if operation["action"] != "receive" or name == "drill" and role == "admin" or name == "signout":
                    continue
                arguments = {**ARGUMENTS.get(name, {})}
                if arguments.get("recordingid") == "":
                    arguments["recordingid"] = recordingid
                if name == "authenticate":
                    arguments = {"token": TOKENS[role]}
                request = {"request": name, "id": [name, role], **arguments}
                check(request, payload(name), f"our own {name}")
                await socket.send(json.dumps(request))
                while True:
                    frame = await asyncio.wait_for(socket.recv(), 30)
                    if isinstance(frame, bytes):
                        assert len(frame) <= 64 * 1024
                        continue
                    reply = json.loads(frame)
                    if "eventtype" in reply:
                        check(reply, payload(reply["eventtype"]), f"event {reply['eventtype']}")
                        continue
                    break
                assert reply["id"] == [name, role], reply
                forbidden = reply.get("error") == "forbidden"
                assert forbidden == (role not in operation["x-roles"]), f"{name} by {role}: {reply}"
                good = reply["result"] == "success"
                check(reply, payload(f"{name}.reply" if good else "failure"), f"{name} by {role}")
                asked.setdefault(name, set()).add(reply.get("error", "success"))
    return {name: sorted(outcomes) for name, outcomes in asked.items()}


async def sign_out(role):
    """The last request of a session: its token is none any more."""
    token = json.loads(http("POST", "/api/signin", None, {"user": role, "password": PASSWORD})[2])["token"]
    async with websockets.connect(f"ws://{NODE}/ws", extra_headers={"Authorization": f"Bearer {token}"}) as socket:
        request = {"request": "signout", "id": 1}
        check(request, payload("signout"), "our own signout")
        await socket.send(json.dumps(request))
        reply = json.loads(await asyncio.wait_for(socket.recv(), 30))
        check(reply, payload("signout.reply"), f"signout by {role}")
        assert reply["result"] == "success", reply
        await asyncio.wait_for(socket.wait_closed(), 30)
        assert socket.close_code == 1008, socket.close_code
    TOKENS["signed out"] = token
    assert http("GET", "/api/calls/own", "signed out")[0] == 401


async def hear():
    """Events, until a line on standard input."""
    heard = {}
    headers = {"Authorization": f"Bearer {TOKENS['supervisor']}"}
    async with websockets.connect(f"ws://{NODE}/ws", extra_headers=headers, max_size=None) as socket:
        topics = ["calls", "recordings", "cluster", "alarms", "levels"]
        await socket.send(json.dumps({"request": "subscribe", "events": topics}))
        assert sorted(json.loads(await socket.recv())["events"]) == sorted(topics)
        print("watching", flush=True)
        ended = asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
        while not ended.done():
            try:
                event = json.loads(await asyncio.wait_for(socket.recv(), 0.2))
            except asyncio.TimeoutError:
                continue
            name = event["eventtype"]
            check(event, payload(name), f"event {name}")
            heard[name] = heard.get(name, 0) + 1
    return heard


def sign_in():
    """A token for each role."""
    operation = OPENAPI["paths"]["/api/signin"]["post"]
    for role in ROLES:
        answer = http("POST", "/api/signin", None, {"user": role, "password": PASSWORD})
        check_answer(operation, answer, f"sign-in of {role}")
        TOKENS[role] = json.loads(answer[2])["token"]
    refused = http("POST", "/api/signin", None, {"user": "qa", "password": "wrong"})
    check_answer(operation, refused, "a wrong password")
    assert refused[0] == 401, refused


def main():
    sign_in()
    heard = asyncio.run(hear())
    recordings = json.loads(http("GET", "/api/recordings?extension=31001&limit=1", "qa")[2])["recordings"]
    recordingid = recordings[0]["recordingid"]
    result = {"heard": heard, "http": over_http(recordingid), "socket": asyncio.run(over_socket(recordingid))}
    for role in ROLES:
        asyncio.run(sign_out(role))
    print(json.dumps(result), flush=True)


main()
