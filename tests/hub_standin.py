"""A stand-in for the Hugging Face Hub on 127.0.0.1.

It serves files and takes uploads as the Hub does, or misbehaves on request.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class HubStandIn:
    """A server of files, with attributes that make it misbehave.

    Attributes:
        files: Content by path (repo/resolve/revision/name).
        etags: ETag by path, instead of the SHA-256.
        cuts: How many answers break off.
        cut_at: Share of the file's bytes after which they do.
        status: If it is not 200, the status of every answer.
        error_code: The Hub's own error code, sent with ``status``.
        ranges: Whether byte ranges are supported.
        delay: Seconds before each 64 KiB.
        body: If it is not None, sent instead of the file.
        busy: Retry-After headers of the first answers, which have status 429. None sends no such header.
        hidden: Names of headers that are not sent.
        location: If it is not None, every answer redirects there.
        requests: Requests so far, as (method, path, range).
        tokens: Values of the Authorization headers so far.
        sent: Bytes of bodies sent so far.
        repositories: Whether it is private, by repository that was created.
        commits: Messages of the commits so far.
    """

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.etags: dict[str, str] = {}
        self.cuts, self.cut_at, self.status, self.error_code = 0, 0.5, 200, ""
        self.ranges, self.delay, self.body = True, 0.0, None
        self.busy: list[str | None] = []
        self.hidden: set[str] = set()
        self.location: str | None = None
        self.requests: list[tuple[str, str, str]] = []
        self.tokens: set[str] = set()
        self.sent = 0
        self.repositories: dict[str, bool] = {}
        self.commits: list[str] = []
        self.uploaded: dict[str, bytes] = {}  # large files by SHA-256, before the commit that names them
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": self}))
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def put(self, repo: str, revision: str, filename: str, data: bytes) -> None:
        self.files[f"{repo}/resolve/{revision}/{filename}"] = data

    def gets(self) -> list[tuple[str, str, str]]:
        """Return the requests for files. huggingface_hub may ask for other things, too."""
        return [request for request in self.requests if request[0] == "GET" and request[1] in self.files]

    def take_cut(self) -> bool:
        with self._lock:
            self.cuts -= 1
            return self.cuts >= 0


class _Handler(BaseHTTPRequestHandler):
    hub: HubStandIn
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        match = re.match(r"/api/models/(\S+)/revision/main\b", self.path)
        if match and match[1] in self.hub.repositories:  # older versions ask this before a commit
            return self._reply({"id": match[1], "xetEnabled": False})
        self._answer(body=True)

    def do_POST(self) -> None:
        hub, path = self.hub, self.path.lstrip("/").split("?")[0]
        body = self._body()
        hub.requests.append((self.command, path, ""))
        hub.tokens.add(self.headers.get("Authorization", ""))
        if hub.status != 200:
            return self._fail(hub.status, hub.error_code)
        if path == "api/validate-yaml":
            return self._reply({"errors": [], "warnings": []})
        if path == "api/repos/create":
            return self._create(json.loads(body))
        if match := re.fullmatch(r"api/models/(\S+)/preupload/main", path):
            if match[1] not in hub.repositories:
                return self._fail(404, "RepoNotFound")
            modes = {True: "lfs", False: "regular"}
            return self._reply(
                {"files": [
                    {"path": each["path"], "uploadMode": modes[each["path"].endswith(".safetensors")], "shouldIgnore": False}
                    for each in json.loads(body)["files"]
                ]}
            )  # fmt: skip
        if re.fullmatch(r"\S+\.git/info/lfs/objects/batch", path):
            objects = json.loads(body)["objects"]
            return self._reply(
                {"transfer": "basic", "objects": [
                    {**each, "actions": {"upload": {"href": f"{hub.endpoint}/upload/{each['oid']}"}}} for each in objects
                ]}
            )  # fmt: skip
        if match := re.fullmatch(r"api/models/(\S+)/commit/main", path):
            return self._commit(match[1], [json.loads(line) for line in body.splitlines()])
        return self._fail(404, "EntryNotFound")

    def do_PUT(self) -> None:
        body = self._body()
        self.hub.uploaded[hashlib.sha256(body).hexdigest()] = body
        self._reply({})

    def _body(self) -> bytes:
        """Return the body of a request, which may come in chunks."""
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _create(self, wanted: dict) -> None:
        name = "/".join(filter(None, (wanted.get("organization"), wanted["name"])))
        if name in self.hub.repositories:
            return self._fail(409, "")
        self.hub.repositories[name] = bool(wanted.get("private")) or wanted.get("visibility") == "private"
        return self._reply({"url": f"{self.hub.endpoint}/{name}", "id": name, "name": name})

    def _commit(self, repository: str, lines: list[dict]) -> None:
        for line in lines:
            value = line["value"]
            if line["key"] == "header":
                self.hub.commits.append(value["summary"])
                continue
            content = (
                self.hub.uploaded[value["oid"]] if line["key"] == "lfsFile" else base64.b64decode(value["content"])
            )
            self.hub.put(repository, "main", value["path"], content)
        url = f"{self.hub.endpoint}/{repository}/commit/{'1' * 40}"
        self._reply({"success": True, "commitOid": "1" * 40, "commitUrl": url, "hookOutput": ""})

    def _reply(self, answer: dict) -> None:
        content = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _answer(self, body: bool) -> None:
        hub, path = self.hub, self.path.lstrip("/").split("?")[0]
        wanted = self.headers.get("Range", "")
        hub.requests.append((self.command, path, wanted))
        hub.tokens.add(self.headers.get("Authorization", ""))
        if hub.busy:
            return self._fail(429, "RateLimited", {"Retry-After": hub.busy.pop(0)})
        if hub.location is not None:
            return self._fail(302, "", {"Location": hub.location})
        if hub.status != 200 or path not in hub.files:
            return self._fail(hub.status if hub.status != 200 else 404, hub.error_code or "EntryNotFound")
        data = hub.files[path]
        etag = hub.etags.get(path) or hashlib.sha256(data).hexdigest()
        data = data if hub.body is None else hub.body
        match = re.fullmatch(r"bytes=(\d+)-(\d*)", wanted) if hub.ranges else None
        start = int(match[1]) if match else 0
        end = min(int(match[2]) + 1 if match and match[2] else len(data), len(data))
        self.send_response(206 if match else 200)
        if match:
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{len(data)}")
        self.send_header("Content-Length", str(end - start))
        self.send_header("ETag", f'"{etag}"')
        self.send_header("X-Repo-Commit", path.split("/resolve/")[1].split("/")[0].replace("main", "0" * 40))
        self.send_header("Accept-Ranges", "bytes" if hub.ranges else "none")
        self.end_headers()
        if not body:
            return None
        cut = None
        if end - start > len(data) * 0.1 and hub.take_cut():
            cut = max(start, int(len(data) * hub.cut_at))
        self._send(data[start : end if cut is None else min(cut, end)])
        if cut is not None:
            self.close_connection = True
        return None

    def _send(self, data: bytes) -> None:
        for begin in range(0, len(data), 2**16):
            time.sleep(self.hub.delay)
            part = data[begin : begin + 2**16]
            self.hub.sent += len(part)  # counted first: the client may compare as soon as it has them
            try:
                self.wfile.write(part)
            except OSError:
                self.hub.sent -= len(part)
                self.close_connection = True
                return

    def send_header(self, keyword: str, value: str) -> None:
        if keyword not in self.hub.hidden:
            super().send_header(keyword, value)

    def _fail(self, status: int, code: str, headers: dict[str, str | None] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            if value is not None:
                self.send_header(name, value)
        self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()
