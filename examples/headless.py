"""Run photos through a graph in a running ComfyUI, without the browser: upload, run, follow, download.

    pip install requests websocket-client
    python headless.py photo.jpg -o stylized.png
    python headless.py photo.jpg -o out/ --graph api/stylize_then_upscale.json --set 4.model=perceptual_x2

The graph must be in ComfyUI's API format: File > Export (API). Photos go into its Load Image nodes, in the order of the
nodes' numbers. A node without a photo keeps its own. Paths of the downloaded images go to stdout, everything else to
stderr. Exit status: 0 success, 2 wrong arguments, bad input or an error of the host (one line each), 130 cancelled.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any, NoReturn

try:
    import requests
    import websocket
except ImportError as error:
    sys.exit(print(f"headless.py: {error}; pip install requests websocket-client", file=sys.stderr) or 2)

GRAPH = Path(__file__).parent / "api" / "stylize.json"
SECONDS = 60  # time that the host has to answer a request
QUIET_SECONDS = 5  # time without a message after which the host is asked whether it is done


class HostError(Exception):
    """An error of the host or of the input, with one line for each problem."""


class Host:
    """A running ComfyUI, by its HTTP API and its websocket."""

    def __init__(self, url: str) -> None:
        self.url = (url if "://" in url else f"http://{url}").rstrip("/")
        self.client = uuid.uuid4().hex
        self.session = requests.Session()

    def request(self, method: str, path: str, **options: Any) -> requests.Response:
        """Return the answer, whatever its status. Raises HostError if there is none."""
        try:
            return self.session.request(method, self.url + path, timeout=SECONDS, **options)
        except requests.RequestException as error:
            raise HostError(f"cannot reach ComfyUI at {self.url} ({_reason(error)}); is it running?") from None

    def upload(self, photo: Path) -> str:
        """Copy a photo into the host's input folder, replacing nothing, and return its name for Load Image."""
        with photo.open("rb") as file:
            answer = self.request("POST", "/upload/image", files={"image": (photo.name, file)})
        if answer.status_code == 413:
            raise HostError(f"{photo} is too large for the host; start it with a larger --max-upload-size")
        found = _json(answer, f"the upload of {photo}")
        return str(PurePosixPath(found.get("subfolder", ""), found["name"]))

    def queue(self, graph: dict[str, Any]) -> str:
        """Queue a graph and return its id. Raises HostError with a line for each wrong node or input."""
        answer = self.request("POST", "/prompt", json={"prompt": graph, "client_id": self.client})
        if answer.status_code == 400:
            raise HostError("\n".join(refusals(answer.json(), graph)))
        found = _json(answer, "the graph")
        for line in refusals(found, graph):  # about outputs that the host skips
            print(f"headless.py: {line}", file=sys.stderr)
        return found["prompt_id"]

    def follow(self, prompt: str, socket: websocket.WebSocket, report: Callable[[str, float | None], None]) -> None:
        """Wait until a prompt is done; call ``report`` with the running node and its progress from 0 to 1, or None."""
        node: str = ""
        while True:
            try:
                message = socket.recv()
            except websocket.WebSocketTimeoutException:
                if self.is_done(prompt):
                    return
                continue
            except (websocket.WebSocketException, OSError):  # connection lost; the host may continue
                while not self.is_done(prompt):
                    time.sleep(1)
                return
            if not isinstance(message, str) or not message:  # a preview
                continue
            message = json.loads(message)
            kind, data = message["type"], message.get("data") or {}
            if data.get("prompt_id") != prompt:
                continue
            if kind in ("execution_success", "execution_error", "execution_interrupted"):
                return
            if kind == "executing" and data.get("node"):
                node = data["node"]
                report(node, None)
            elif kind == "progress":
                report(data.get("node") or node, data["value"] / max(data["max"], 1))

    def is_done(self, prompt: str) -> bool:
        """Return whether the host has finished a prompt."""
        return prompt in _json(self.request("GET", f"/history/{prompt}"), "the history")

    def result(self, prompt: str) -> dict[str, Any]:
        """Return the outputs of a prompt that is done. Raises HostError if its execution failed."""
        deadline = time.monotonic() + SECONDS
        while not self.is_done(prompt):  # the history follows a moment after the message
            if time.monotonic() > deadline:
                raise HostError(f"the host has no result for the prompt {prompt}")
            time.sleep(0.1)
        entry = self.request("GET", f"/history/{prompt}").json()[prompt]
        messages = dict(entry.get("status", {}).get("messages", []))
        if error := messages.get("execution_error"):
            kind = error["exception_type"].rpartition(".")[2]
            text = " ".join(error["exception_message"].split())
            raise HostError(f"node {error['node_id']} ({error['node_type']}): {kind}: {text}")
        if stopped := messages.get("execution_interrupted"):
            raise HostError(f"the run was interrupted at node {stopped['node_id']} ({stopped['node_type']})")
        return entry["outputs"]

    def cancel(self, prompt: str) -> None:
        """Remove a prompt from the queue, or interrupt it."""
        self.request("POST", "/queue", json={"delete": [prompt]})
        self.request("POST", "/interrupt", json={"prompt_id": prompt})

    def fetch(self, image: dict[str, str]) -> bytes:
        """Return the content of an image file. Raises HostError."""
        answer = self.request("GET", "/view", params=image)
        if answer.status_code != 200:
            raise HostError(f"the host did not return {image['filename']} (status {answer.status_code})")
        return answer.content

    def connect(self) -> websocket.WebSocket:
        """Open the websocket; call it before the graph is queued, so that no message is missed."""
        address = f"ws{self.url.removeprefix('http')}/ws?clientId={self.client}"
        try:
            return websocket.create_connection(address, timeout=QUIET_SECONDS)
        except (websocket.WebSocketException, OSError, ValueError) as error:
            raise HostError(f"cannot reach ComfyUI at {self.url} ({_reason(error)}); is it running?") from None


def refusals(answer: dict[str, Any], graph: dict[str, Any]) -> Iterator[str]:
    """Yield one line for each problem that the host's validation found in a graph."""
    for number, node in (answer.get("node_errors") or {}).items():
        for error in node["errors"]:
            name = error.get("extra_info", {}).get("input_name")
            details = error.get("details", "")
            details = details.removeprefix(name or "").lstrip(" -,")
            where = f"node {number} ({title(graph, number)})" + (f", input {name}" if name else "")
            yield f"{where}: {error['message']}" + (f": {details}" if details else "")
    error = answer.get("error")
    if error and not answer.get("node_errors"):
        if isinstance(error, str):
            yield error
        else:
            yield error["message"] + (f" ({error['details']})" if error.get("details") else "")


def title(graph: dict[str, Any], number: str) -> str:
    """Return the title of a node, or its class."""
    node = graph.get(number, {})
    return node.get("_meta", {}).get("title") or node.get("class_type", "?")


def read_graph(path: Path) -> dict[str, Any]:
    """Read a graph in the API format. Raises HostError for anything else."""
    try:
        graph = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise HostError(f"cannot read {path}: {_reason(error)}") from None
    if isinstance(graph, dict) and "nodes" in graph:
        raise HostError(f"{path} is a workflow in the browser's format; export it with File > Export (API)")
    if not isinstance(graph, dict) or not all(
        isinstance(node, dict) and "class_type" in node for node in graph.values()
    ):
        raise HostError(f"{path} is not a graph in the API format; expected nodes by number")
    return graph


def fill(graph: dict[str, Any], names: list[str], changes: list[str]) -> None:
    """Put photos into the Load Image nodes and values into inputs. Raises HostError if something does not fit."""
    loaders = sorted((key for key in graph if graph[key]["class_type"] == "LoadImage"), key=lambda key: (len(key), key))
    if len(names) > len(loaders):
        raise HostError(f"there are {len(names)} photos, but the graph has {len(loaders)} Load Image nodes")
    for key, name in zip(loaders, names, strict=False):
        graph[key]["inputs"]["image"] = name
    for change in changes:
        where, mark, text = change.partition("=")
        number, dot, name = where.partition(".")
        if not mark or not dot or number not in graph:
            raise HostError(f"--set {change}: expected NODE.INPUT=VALUE, where NODE is one of {', '.join(graph)}")
        try:
            value = json.loads(text)
        except ValueError:
            value = text
        if value is None:
            graph[number]["inputs"].pop(name, None)
        else:
            graph[number]["inputs"][name] = value


def save(host: Host, outputs: dict[str, Any], output: Path) -> Iterator[Path]:
    """Download all images into a file or a folder, and yield their paths."""
    images = [image for node in outputs.values() for image in node.get("images", [])]
    images = [
        image for image in images if image.get("type") == "output"
    ] or images  # previews only if there is nothing else
    if not images:
        raise HostError("the graph made no image; does it have a Save Image node?")
    into_folder = output.is_dir() or not output.suffix
    for index, image in enumerate(images):
        name = Path(image["filename"])  # only its name is used, because the host is not trusted
        stem = output.stem + (f"_{index + 1}" if index else "")
        target = output / name.name if into_folder else output.with_name(stem + name.suffix)
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f".{target.name}.part")
        try:
            partial.write_bytes(host.fetch(image))
            os.replace(partial, target)
        finally:
            partial.unlink(missing_ok=True)
        yield target


def run(arguments: argparse.Namespace) -> None:
    """Carry out the command. Raises HostError, or OSError for files."""
    host, graph = Host(arguments.host), read_graph(arguments.graph)
    if missing := [photo for photo in arguments.photos if not photo.is_file()]:
        raise HostError(f"{missing[0]} does not exist; expected an image file")
    fill(graph, [str(photo) for photo in arguments.photos], arguments.set)  # finds errors before anything is uploaded
    socket = host.connect()
    fill(graph, [host.upload(photo) for photo in arguments.photos], arguments.set)
    prompt = host.queue(graph)
    bar = _Bar(graph)
    try:
        host.follow(prompt, socket, bar)
        outputs = host.result(prompt)
    except KeyboardInterrupt:
        host.cancel(prompt)
        raise
    finally:
        bar.close()
        socket.close()
    for path in save(host, outputs, arguments.output):
        print(path)


class _Bar:
    """A line on the terminal with the running node and its progress."""

    def __init__(self, graph: dict[str, Any]) -> None:
        self.graph, self.is_shown = graph, sys.stderr.isatty()

    def __call__(self, node: str, share: float | None) -> None:
        if self.is_shown:
            percent = "" if share is None else f" {share:4.0%}"
            print(f"\r\033[K{title(self.graph, node)}{percent}", end="", file=sys.stderr, flush=True)

    def close(self) -> None:
        if self.is_shown:
            print("\r\033[K", end="", file=sys.stderr, flush=True)


def _json(answer: requests.Response, what: str) -> dict[str, Any]:
    try:
        if answer.status_code == 200:
            return answer.json()
    except ValueError:
        pass
    text = " ".join(answer.text.split())[:200]
    raise HostError(f"the host refused {what} (status {answer.status_code}): {text}")


def _reason(error: Exception) -> str:
    while error.args and isinstance(error.args[0], Exception):  # the library nests its errors
        error = error.args[0]
    error = getattr(error, "reason", error)
    text = getattr(error, "strerror", None) or str(error)
    return text.splitlines()[0] if text else type(error).__name__


class _Parser(argparse.ArgumentParser):
    """A parser that reports errors in one line, without the usage."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"headless.py: {message}; see --help\n")


def main(argv: list[str] | None = None) -> int:
    parser = _Parser(
        prog="headless.py", description="Run photos through a graph in a running ComfyUI, without the browser."
    )
    parser.add_argument("photos", nargs="*", type=Path, metavar="PHOTO", help="photos for the graph's Load Image nodes")
    parser.add_argument("-o", "--output", required=True, type=Path, metavar="OUT", help="file or folder for the result")
    parser.add_argument(
        "--graph", type=Path, default=GRAPH, metavar="FILE", help="graph in the API format (default: stylize)"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NODE.INPUT=VALUE",
        help="change an input, or remove it with null; repeatable",
    )
    parser.add_argument(
        "--host", default="http://127.0.0.1:8188", metavar="URL", help="address of ComfyUI (default: %(default)s)"
    )
    arguments = parser.parse_args(argv)
    try:
        run(arguments)
        return 0
    except (HostError, OSError) as error:
        text = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) and error.filename else str(error)
        for line in text.splitlines():
            print(f"headless.py: {line}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("cancelled", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
