"""A small fake of ComfyUI's API: as much of it as the pack uses, recording what the pack does with it.

It takes the arguments that ComfyUI 0.3.64 takes and no others, since an unknown one would keep the whole pack from
loading there. The pack is loaded from its folder, under a name made of a path, as the host does.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
PACK_NAME = "/anywhere/perceptual_x_y"
HOST_MODULES = ("comfy", "comfy.model_management", "comfy.utils", "comfy.model_patcher", "folder_paths", "comfy_api")
HOST_MODULES += ("server",)
TINY_ARCH = "c9s1-4,d8,d8,R8x1,n2,c3s1-8,n2,c3s1-4,c9s1-3 norm=instance padding=reflect output=tanh"


class InterruptProcessingException(Exception):
    """What the host raises once the user has interrupted."""


class _Locked(type):
    """The host runs nodes on a class that cannot be changed."""

    def __setattr__(cls, name: str, value: object) -> None:
        raise AttributeError(f"Cannot modify class attribute {name!r} on locked class")


class ComfyNode(metaclass=_Locked):
    hidden = SimpleNamespace(unique_id="7")


class ComfyExtension:
    pass


class NodeOutput:
    def __init__(self, *args: Any, ui: Any = None, expand: dict | None = None, block_execution: str | None = None):
        self.args, self.ui, self.expand, self.block_execution = args, ui, expand, block_execution


@dataclass
class Schema:
    node_id: str
    display_name: str | None = None
    category: str = "sd"
    inputs: list | None = None
    outputs: list | None = None
    hidden: list | None = None
    description: str = ""
    is_input_list: bool = False
    is_output_node: bool = False
    is_deprecated: bool = False
    is_experimental: bool = False
    is_api_node: bool = False
    not_idempotent: bool = False
    enable_expand: bool = False


@dataclass
class _Input:
    id: str
    display_name: str | None = None
    optional: bool = False
    tooltip: str | None = None
    lazy: bool | None = None
    extra_dict: dict | None = None


@dataclass
class _ComboInput:
    id: str
    options: list | None = None
    display_name: str | None = None
    optional: bool = False
    tooltip: str | None = None
    lazy: bool | None = None
    default: str | int | None = None
    socketless: bool | None = None


@dataclass
class _BooleanInput:
    id: str
    display_name: str | None = None
    optional: bool = False
    tooltip: str | None = None
    lazy: bool | None = None
    default: bool | None = None
    label_on: str | None = None
    label_off: str | None = None
    socketless: bool | None = None
    force_input: bool | None = None


@dataclass
class _FloatInput:
    id: str
    display_name: str | None = None
    optional: bool = False
    tooltip: str | None = None
    lazy: bool | None = None
    default: float | None = None
    min: float | None = None
    max: float | None = None
    step: float | None = None
    round: float | None = None
    display_mode: str | None = None
    socketless: bool | None = None
    force_input: bool | None = None


@dataclass
class _IntInput:
    id: str
    display_name: str | None = None
    optional: bool = False
    tooltip: str | None = None
    lazy: bool | None = None
    default: int | None = None
    min: int | None = None
    max: int | None = None
    step: int | None = None
    control_after_generate: bool | None = None
    display_mode: str | None = None
    socketless: bool | None = None
    force_input: bool | None = None


@dataclass
class _StringInput:
    id: str
    display_name: str | None = None
    optional: bool = False
    tooltip: str | None = None
    lazy: bool | None = None
    multiline: bool = False
    placeholder: str | None = None
    default: str | None = None
    dynamic_prompts: bool | None = None
    socketless: bool | None = None
    force_input: bool | None = None


@dataclass
class PreviewImage:
    """What a node shows of itself, for which the host writes a file."""

    image: torch.Tensor
    animated: bool = False
    cls: type | None = None


@dataclass
class _Output:
    id: str | None = None
    display_name: str | None = None
    tooltip: str | None = None
    is_output_list: bool = False


def _io_type(name: str, base: type = _Input) -> SimpleNamespace:
    return SimpleNamespace(
        io_type=name,
        Input=type("Input", (base,), {"io_type": name}),
        Output=type("Output", (_Output,), {"io_type": name}),
    )


class ModelPatcher:
    def __init__(self, model, load_device, offload_device, size=0, weight_inplace_update=False):
        model.device = offload_device  # the host sets attributes of its own on the module
        self.model, self.load_device, self.offload_device = model, load_device, offload_device


@dataclass
class FakeHost:
    """The settings of the fake, and what was recorded."""

    models: Path
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    intermediate_device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    intermediate_dtype: torch.dtype | None = None  # None: a host from before there was such a setting
    combo: type = _ComboInput  # newer hosts' takes more
    schema: type = Schema  # likewise
    interrupt_at: int | None = None  # the check, counted from 1, at which the user has interrupted
    checks: int = 0
    interruption: Exception | None = None
    loads: list[tuple[list[ModelPatcher], int]] = field(default_factory=list)
    bars: list[list[tuple[int, int]]] = field(default_factory=list)
    previews: list[tuple[str, Any, int]] = field(default_factory=list)
    freed: list[str] = field(default_factory=list)  # what was asked to give memory back, in order
    texts: list[tuple[str, str]] = field(default_factory=list)  # what a node says below itself, and its id
    folders: dict[str, tuple[list[str], set[str]]] = field(default_factory=dict)

    @property
    def styles(self) -> Path:
        """models/fast_style, made when asked for."""
        return self._folder("fast_style")

    @property
    def upscalers(self) -> Path:
        """models/perceptual_upscale, made when asked for."""
        return self._folder("perceptual_upscale")

    @property
    def loss_networks(self) -> Path:
        """models/loss_networks, made when asked for."""
        return self._folder("loss_networks")

    @property
    def input(self) -> Path:
        """The input folder, made when asked for."""
        return self._folder("../input")

    @property
    def temp(self) -> Path:
        """The folder of temporary files, which the host does not always make."""
        return self.models.parent / "temp"

    def _folder(self, name: str) -> Path:
        folder = self.models / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def modules(self) -> dict[str, ModuleType]:
        """What goes into sys.modules."""
        contents: dict[str, dict[str, Any]] = {name: {} for name in HOST_MODULES}
        contents["comfy.model_management"] = {
            "InterruptProcessingException": InterruptProcessingException,
            "get_torch_device": lambda: self.device,
            "unet_offload_device": lambda: torch.device("cpu"),
            "intermediate_device": lambda: self.intermediate_device,
            "load_models_gpu": self._load_models_gpu,
            "throw_exception_if_processing_interrupted": self._throw_if_interrupted,
            "unload_all_models": lambda: self.freed.append("models"),
            "soft_empty_cache": lambda force=False: self.freed.append("cache"),
        }
        if self.intermediate_dtype is not None:
            contents["comfy.model_management"]["intermediate_dtype"] = lambda: self.intermediate_dtype
        contents["comfy.utils"] = {"ProgressBar": self._bar}
        contents["comfy.model_patcher"] = {"ModelPatcher": ModelPatcher}
        contents["folder_paths"] = {
            "models_dir": str(self.models),
            "folder_names_and_paths": self.folders,
            "add_model_folder_path": self._add_model_folder_path,
            "get_filename_list": self._filenames,
            "get_full_path": self._full_path,
            "get_input_directory": lambda: str(self.input),
            "get_temp_directory": lambda: str(self.temp),
            "get_input_subfolders": self._input_folders,
        }
        contents["server"] = {"PromptServer": SimpleNamespace(instance=SimpleNamespace(send_progress_text=self._text))}
        io = {"ComfyNode": ComfyNode, "NodeOutput": NodeOutput, "Schema": self.schema, "Custom": _io_type}
        io |= {"Image": _io_type("IMAGE"), "Combo": _io_type("COMBO", self.combo)}
        io |= {"Boolean": _io_type("BOOLEAN", _BooleanInput), "Float": _io_type("FLOAT", _FloatInput)}
        io |= {"Int": _io_type("INT", _IntInput)}
        io |= {"Mask": _io_type("MASK"), "UpscaleModel": _io_type("UPSCALE_MODEL")}
        io |= {"Int": _io_type("INT", _IntInput), "String": _io_type("STRING", _StringInput)}
        io |= {"LossMap": _io_type("LOSS_MAP"), "Hidden": SimpleNamespace(unique_id="UNIQUE_ID")}
        io |= {"NumberDisplay": SimpleNamespace(number="number", slider="slider")}
        ui = SimpleNamespace(PreviewImage=PreviewImage)
        contents["comfy_api.latest"] = {"io": SimpleNamespace(**io), "ui": ui, "ComfyExtension": ComfyExtension}
        modules = {name: ModuleType(name) for name in contents}
        for name, module in modules.items():
            vars(module).update(contents[name])
            parent, _, child = name.rpartition(".")
            if parent:
                setattr(modules[parent], child, module)
        return modules

    def _load_models_gpu(self, models, memory_required=0, force_patch_weights=False, minimum_memory_required=None,
                         force_full_load=False):  # fmt: skip
        self.loads.append((list(models), memory_required))

    def _throw_if_interrupted(self) -> None:
        self.checks += 1
        if self.checks == self.interrupt_at:
            self.interruption = InterruptProcessingException()
            raise self.interruption

    def _bar(self, total: int, node_id: str | None = None) -> SimpleNamespace:
        steps: list[tuple[int, int]] = []
        self.bars.append(steps)

        def update_absolute(value: int, total: int | None = total, preview: tuple | None = None) -> None:
            steps.append((value, total))
            self.previews += [preview] if preview is not None else []

        return SimpleNamespace(update_absolute=update_absolute)

    def _text(self, text: str, node_id: str, sid: str | None = None) -> None:
        self.texts.append((text, node_id))

    def _input_folders(self) -> list[str]:
        return [str(path.relative_to(self.input)) for path in self.input.rglob("*") if path.is_dir()]

    def _add_model_folder_path(self, folder_name: str, full_folder_path: str, is_default: bool = False) -> None:
        paths, _ = self.folders.setdefault(folder_name, ([], set()))
        if full_folder_path not in paths:
            paths.insert(0 if is_default else len(paths), full_folder_path)

    def _filenames(self, folder_name: str) -> list[str]:
        paths, suffixes = self.folders[folder_name]
        found = {(file, Path(path)) for path in paths for file in Path(path).rglob("*") if file.is_file()}
        return sorted(
            {str(file.relative_to(p)) for file, p in found if not suffixes or file.suffix.lower() in suffixes}
        )

    def _full_path(self, folder_name: str, filename: str) -> str | None:
        filename = os.path.relpath(os.path.join("/", filename), "/")
        candidates = [os.path.join(path, filename) for path in self.folders[folder_name][0]]
        return next((path for path in candidates if os.path.isfile(path)), None)


@dataclass
class Pack:
    """The loaded pack: its root module and its nodes by id."""

    root: ModuleType
    nodes: dict[str, type]

    def module(self, name: str) -> Any:
        """A module of the pack, such as core.models."""
        return importlib.import_module(f"{PACK_NAME}.{name}")

    def schema(self, node: str) -> Any:
        return self.nodes[node].define_schema()

    def run(self, node: str, **inputs: Any) -> Any:
        """Execute a node as the host does and return its output, or its outputs."""
        with torch.inference_mode():
            outputs = self.nodes[node].execute(**inputs).args
        return outputs if len(outputs) > 1 else outputs[0]

    def style(self, path: Path, *, arch: str = TINY_ARCH, seed: int = 0, task: str = "style", **facts: Any) -> Path:
        """Write an untrained style."""
        torch.manual_seed(seed)
        network = self.module("core.network.transform_net").build_network(arch)
        self.module("core.checkpoints.own_format").save_network(
            path, network, {"task": task, "name": path.stem, **facts}
        )
        return path

    def upscaler(self, path: Path, scale: int = 2, *, seed: int = 0, **facts: Any) -> Path:
        """Write an untrained upscaler."""
        arch = f"c3s1-4,R4,p{scale}-3 norm=none padding=replicate output=linear base=bicubic"
        return self.style(path, arch=arch, seed=seed, task="upscale", **facts)


def _load_root() -> ModuleType:
    """Execute the pack's __init__.py as the host does."""
    spec = importlib.util.spec_from_file_location(
        PACK_NAME, ROOT / "__init__.py", submodule_search_locations=[str(ROOT)]
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules[PACK_NAME] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def clean_modules() -> Iterator[None]:
    """Whatever a test does to sys.modules in the pack's and the host's names is undone."""

    def ours(name: str) -> bool:
        return name in (PACK_NAME, *HOST_MODULES) or name.startswith((f"{PACK_NAME}.", "comfy.", "comfy_api."))

    before = {name: module for name, module in sys.modules.items() if ours(name)}
    yield
    for name in [name for name in sys.modules if ours(name)]:
        del sys.modules[name]
    sys.modules.update(before)


@pytest.fixture
def load_root(clean_modules: None):
    """Load the pack's root alone, without a host."""
    return _load_root


@pytest.fixture
def host(tmp_path: Path) -> FakeHost:
    """The fake host, to be set up before the pack is loaded."""
    return FakeHost(tmp_path / "models")


@pytest.fixture
def load_pack(host: FakeHost, clean_modules: None, monkeypatch: pytest.MonkeyPatch):
    """Load the pack into the fake host."""

    def load() -> Pack:
        for name, module in host.modules().items():
            monkeypatch.setitem(sys.modules, name, module)
        root = _load_root()
        nodes = asyncio.run(asyncio.run(root.comfy_entrypoint()).get_node_list())
        return Pack(root, {node.define_schema().node_id: node for node in nodes})

    return load


@pytest.fixture
def pack(load_pack) -> Pack:
    return load_pack()


@pytest.fixture
def tiny(pack: Pack, host: FakeHost) -> Any:
    """The output of LoadStyleModel for a small untrained network."""
    pack.style(host.styles / "tiny.safetensors")
    return pack.run("LoadStyleModel", style="tiny.safetensors")
