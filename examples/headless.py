"""Photos through a graph in a running ComfyUI, without its browser: upload, run, follow, fetch.

    pip install requests websocket-client
    python headless.py photo.jpg -o stylized.png
    python headless.py photo.jpg -o out/ --graph api/stylize_then_upscale.json --set 4.model=perceptual_x2

The graph is in the form for the API: File > Export (API) in ComfyUI. Photos go into its Load Image nodes, in the order of
their numbers; a node that gets none keeps its own. Paths of what was fetched are on stdout, all else is on stderr. Exit
status: 0 done, 2 wrong arguments, bad input or an error of the host (one line for each), 130 cancelled.
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
SECONDS = 60  # that the host has to answer a request
QUIET_SECONDS = 5  # without a message, after which the host is asked whether it is done


class HostError(Exception):
    """What went wrong, one line for each thing."""


class Host:
    """A running ComfyUI, by its HTTP API and its websocket."""

    def __init__(self, url: str) -> None:
        self.url = (url if "://" in url else f"http://{url}").rstrip("/")
        self.client = uuid.uuid4().hex
        self.session = requests.Session()

    def request(self, method: str, path: str, **options: Any) -> requests.Response:
        """Raises HostError when there is no answer; an answer that refuses is returned, too."""
        try:
            return self.session.request(method, self.url + path, timeout=SECONDS, **options)
        except requests.RequestException as error:
            raise HostError(f"cannot reach ComfyUI at {self.url} ({_reason(error)}); is it running?") from None

    def upload(self, photo: Path) -> str:
        """Put a photo into the host's input folder, where it replaces nothing; returns what Load Image calls it."""
        with photo.open("rb") as file:
            answer = self.request("POST", "/upload/image", files={"image": (photo.name, file)})
        if answer.status_code == 413:
            raise HostError(f"{photo} is too large for the host; start it with a larger --max-upload-size")
        found = _json(answer, f"the upload of {photo}")
        return str(PurePosixPath(found.get("subfolder", ""), found["name"]))

    def queue(self, graph: dict[str, Any]) -> str:
        """Queue a graph; returns its id. Raises HostError with a line for each node and input that is wrong."""
        answer = self.request("POST", "/prompt", json={"prompt": graph, "client_id": self.client})
        if answer.status_code == 400:
            raise HostError("\n".join(refusals(answer.json(), graph)))
        found = _json(answer, "the graph")
        for line in refusals(found, graph):  # of outputs that it leaves out; the others it makes
            print(f"headless.py: {line}", file=sys.stderr)
        return found["prompt_id"]

    def follow(self, prompt: str, socket: websocket.WebSocket, report: Callable[[str, float | None], None]) -> None:
        """Wait until a prompt is done; ``report`` is told of the node that runs and of the share of it that is done."""
        node: str = ""
        while True:
            try:
                message = socket.recv()
            except websocket.WebSocketTimeoutException:
                if self.is_done(prompt):
                    return
                continue
            except (websocket.WebSocketException, OSError):  # its end; the host may go on
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
        return prompt in _json(self.request("GET", f"/history/{prompt}"), "the history")

    def result(self, prompt: str) -> dict[str, Any]:
        """The outputs of a prompt that is done. Raises HostError with what its execution failed of."""
        deadline = time.monotonic() + SECONDS
        while not self.is_done(prompt):  # the host notes it a moment after it has said so
            if time.monotonic() > deadline:
                raise HostError(f"the host forgot the prompt {prompt}")
            time.sleep(0.1)
        entry = self.request("GET", f"/history/{prompt}").json()[prompt]
        messages = dict(entry.get("status", {}).get("messages", []))
        if error := messages.get("execution_error"):
            kind = error["exception_type"].rpartition(".")[2]
            text = " ".join(error["exception_message"].split())
            raise HostError(f"node {error['node_id']} ({error['node_type']}): {kind}: {text}")
        if stopped := messages.get("execution_interrupted"):
            raise HostError(f"somebody stopped it at node {stopped['node_id']} ({stopped['node_type']})")
        return entry["outputs"]

    def cancel(self, prompt: str) -> None:
        self.request("POST", "/queue", json={"delete": [prompt]})
        self.request("POST", "/interrupt", json={"prompt_id": prompt})

    def fetch(self, image: dict[str, str]) -> bytes:
        answer = self.request("GET", "/view", params=image)
        if answer.status_code != 200:
            raise HostError(f"the host does not give {image['filename']} (status {answer.status_code})")
        return answer.content

    def connect(self) -> websocket.WebSocket:
        """Before the graph is queued, so that no message is missed."""
        address = f"ws{self.url.removeprefix('http')}/ws?clientId={self.client}"
        try:
            return websocket.create_connection(address, timeout=QUIET_SECONDS)
        except (websocket.WebSocketException, OSError, ValueError) as error:
            raise HostError(f"cannot reach ComfyUI at {self.url} ({_reason(error)}); is it running?") from None


def refusals(answer: dict[str, Any], graph: dict[str, Any]) -> Iterator[str]:
    """One line for each thing that the host's validation says of a graph."""
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
    node = graph.get(number, {})
    return node.get("_meta", {}).get("title") or node.get("class_type", "?")


def read_graph(path: Path) -> dict[str, Any]:
    """A graph for the API. Raises HostError for anything else."""
    try:
        graph = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise HostError(f"cannot read {path}: {_reason(error)}") from None
    if isinstance(graph, dict) and "nodes" in graph:
        raise HostError(f"{path} is a workflow as the browser saves it; export it with File > Export (API)")
    if not isinstance(graph, dict) or not all(
        isinstance(node, dict) and "class_type" in node for node in graph.values()
    ):
        raise HostError(f"{path} is no graph for the API; expected nodes by their numbers")
    return graph


def fill(graph: dict[str, Any], names: list[str], changes: list[str]) -> None:
    """Put photos into the Load Image nodes, and values into inputs. Raises HostError for what does not fit."""
    loaders = sorted((key for key in graph if graph[key]["class_type"] == "LoadImage"), key=lambda key: (len(key), key))
    if len(names) > len(loaders):
        raise HostError(f"there are {len(names)} photos, but the graph has {len(loaders)} Load Image nodes")
    for key, name in zip(loaders, names, strict=False):
        graph[key]["inputs"]["image"] = name
    for change in changes:
        where, mark, text = change.partition("=")
        number, dot, name = where.partition(".")
        if not mark or not dot or number not in graph:
            raise HostError(f"--set {change}: expected NODE.INPUT=VALUE with a node of {', '.join(graph)}")
        try:
            value = json.loads(text)
        except ValueError:
            value = text
        graph[number]["inputs"][name] = value


def save(host: Host, outputs: dict[str, Any], output: Path) -> Iterator[Path]:
    """Fetch all images and write them, a file or a folder of them; yields their paths."""
    images = [image for node in outputs.values() for image in node.get("images", [])]
    images = [
        image for image in images if image.get("type") == "output"
    ] or images  # without previews, if there is more
    if not images:
        raise HostError("the graph has made no image; has it a Save Image node?")
    into_folder = output.is_dir() or not output.suffix
    for index, image in enumerate(images):
        name = Path(image["filename"])  # a name alone: it comes from outside
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
    host, graph = Host(arguments.host), read_graph(arguments.graph)
    if missing := [photo for photo in arguments.photos if not photo.is_file()]:
        raise HostError(f"{missing[0]} is not there; expected an image file")
    fill(graph, [str(photo) for photo in arguments.photos], arguments.set)  # to complain before anything is uploaded
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
    """One line on a terminal: the node that runs and how far it is."""

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
    while error.args and isinstance(error.args[0], Exception):  # the library's errors wrap each other
        error = error.args[0]
    error = getattr(error, "reason", error)
    text = getattr(error, "strerror", None) or str(error)
    return text.splitlines()[0] if text else type(error).__name__


class _Parser(argparse.ArgumentParser):
    """Complains in one line, without the usage."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"headless.py: {message}; see --help\n")


def main(argv: list[str] | None = None) -> int:
    parser = _Parser(
        prog="headless.py", description="Photos through a graph in a running ComfyUI, without its browser."
    )
    parser.add_argument("photos", nargs="*", type=Path, metavar="PHOTO", help="for the graph's Load Image nodes")
    parser.add_argument("-o", "--output", required=True, type=Path, metavar="OUT", help="a file, or a folder")
    parser.add_argument(
        "--graph", type=Path, default=GRAPH, metavar="FILE", help="a graph for the API (default: stylize)"
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="NODE.INPUT=VALUE", help="change an input; can be repeated"
    )
    parser.add_argument("--host", default="http://127.0.0.1:8188", metavar="URL", help="ComfyUI (default: %(default)s)")
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
