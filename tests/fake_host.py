"""A small fake of ComfyUI's API: only what the pack uses, recording what the pack does with it.

It accepts the arguments of ComfyUI 0.3.64 and no others: an unknown one would keep the whole pack from loading there.
With `FakeHost.newer` it also has what hosts from 0.28 on have.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field, make_dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import torch

HOST_MODULES = ("comfy", "comfy.model_management", "comfy.utils", "comfy.model_patcher", "folder_paths", "comfy_api")
HOST_MODULES += ("server",)


class InterruptProcessingException(Exception):
    """The exception that the host raises once the user has interrupted."""


class _Locked(type):
    """A class that cannot be changed, as the host runs nodes on one."""

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
class _WidgetInput:
    id: str
    display_name: str | None = None
    optional: bool = False
    tooltip: str | None = None
    lazy: bool | None = None
    socketless: bool | None = None


@dataclass
class _ComboInput(_WidgetInput):
    options: list | None = None
    default: str | int | None = None


@dataclass
class _BooleanInput(_WidgetInput):
    default: bool | None = None
    label_on: str | None = None
    label_off: str | None = None
    force_input: bool | None = None


@dataclass
class _FloatInput(_WidgetInput):
    default: float | None = None
    min: float | None = None
    max: float | None = None
    step: float | None = None
    round: float | None = None
    display_mode: str | None = None
    force_input: bool | None = None


@dataclass
class _IntInput(_WidgetInput):
    default: int | None = None
    min: int | None = None
    max: int | None = None
    step: int | None = None
    control_after_generate: bool | None = None
    display_mode: str | None = None
    force_input: bool | None = None


@dataclass
class _StringInput(_WidgetInput):
    multiline: bool = False
    placeholder: str | None = None
    default: str | None = None
    dynamic_prompts: bool | None = None
    force_input: bool | None = None


@dataclass
class PreviewImage:
    """A picture that a node shows below itself. The host writes a file for it."""

    image: torch.Tensor
    animated: bool = False
    cls: type | None = None


class VideoFromFile:
    """A VIDEO that is a file."""

    def __init__(self, file: str):
        self.file = file

    def get_stream_source(self) -> str:
        return self.file


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
        model.device = offload_device  # the host sets its own attributes on the module
        self.model, self.load_device, self.offload_device = model, load_device, offload_device

    def is_dynamic(self):
        return False


class DynamicPatcher(ModelPatcher):
    """The class of the newer host's own loaders, which calls it CoreModelPatcher."""

    def is_dynamic(self):
        return True


@dataclass
class NewerSchema(Schema):
    search_aliases: list[str] = field(default_factory=list)
    essentials_category: str | None = None
    has_intermediate_output: bool = False


def _newer_input(base: type) -> type:
    return make_dataclass(f"Newer{base.__name__}", [("advanced", "bool | None", None)], bases=(base,))


@dataclass
class FakeHost:
    """The fake host.

    Attributes:
        models: The folder of models.
        device: The device that networks are brought to.
        intermediate_device: The device of images between nodes.
        intermediate_dtype: The dtype of images between nodes, or None for a host without such a setting.
        newer: Whether schemas and inputs accept more arguments, and the host's own loaders have their own patcher. Set it
            before the pack is loaded.
        interrupt_at: The check, counted from 1, at which the user has interrupted.
        checks: The number of checks for an interruption.
        interruption: The exception that was raised.
        loads: Networks that were brought to the device, with the memory that was asked for.
        bars: Values and totals of each progress bar.
        previews: Previews as the host takes them.
        freed: What was asked to give memory back, in order.
        texts: Texts that nodes show, with the ids of the nodes.
        folders: Paths and suffixes of each folder of models.
    """

    models: Path
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    intermediate_device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    intermediate_dtype: torch.dtype | None = None
    newer: bool = False
    interrupt_at: int | None = None
    checks: int = 0
    interruption: Exception | None = None
    loads: list[tuple[list[ModelPatcher], int]] = field(default_factory=list)
    bars: list[list[tuple[int, int]]] = field(default_factory=list)
    previews: list[tuple[str, Any, int]] = field(default_factory=list)
    freed: list[str] = field(default_factory=list)
    texts: list[tuple[str, str]] = field(default_factory=list)
    folders: dict[str, tuple[list[str], set[str]]] = field(default_factory=dict)

    def reset(self, models: Path) -> None:
        """Forget all settings and records, and move to another folder of models."""
        self.folders.clear()
        vars(self).update(vars(FakeHost(models)), folders=self.folders)  # loaded modules hold this dictionary

    @property
    def styles(self) -> Path:
        """models/fast_style, created on access."""
        return self._folder("fast_style")

    @property
    def upscalers(self) -> Path:
        """models/perceptual_upscale, created on access."""
        return self._folder("perceptual_upscale")

    @property
    def loss_networks(self) -> Path:
        """models/loss_networks, created on access."""
        return self._folder("loss_networks")

    @property
    def input(self) -> Path:
        """The input folder, created on access."""
        return self._folder("../input")

    @property
    def temp(self) -> Path:
        """The folder of temporary files, which the host does not always create."""
        return self.models.parent / "temp"

    def _folder(self, name: str) -> Path:
        folder = self.models / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def modules(self) -> dict[str, ModuleType]:
        """Return the host's modules, to go into sys.modules."""
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
        if self.newer:
            contents["comfy.model_patcher"]["CoreModelPatcher"] = DynamicPatcher
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
        schema, widget = (NewerSchema, _newer_input) if self.newer else (Schema, lambda base: base)
        io = {"ComfyNode": ComfyNode, "NodeOutput": NodeOutput, "Schema": schema, "Custom": _io_type}
        io |= {"Image": _io_type("IMAGE"), "Combo": _io_type("COMBO", widget(_ComboInput))}
        io |= {"Boolean": _io_type("BOOLEAN", widget(_BooleanInput)), "Float": _io_type("FLOAT", widget(_FloatInput))}
        io |= {"Mask": _io_type("MASK"), "UpscaleModel": _io_type("UPSCALE_MODEL")}
        io |= {"Int": _io_type("INT", widget(_IntInput)), "String": _io_type("STRING", _StringInput)}
        io |= {"LossMap": _io_type("LOSS_MAP"), "Hidden": SimpleNamespace(unique_id="UNIQUE_ID")}
        io |= {"Video": _io_type("VIDEO")}
        io |= {"NumberDisplay": SimpleNamespace(number="number", slider="slider")}
        ui = SimpleNamespace(PreviewImage=PreviewImage)
        contents["comfy_api.latest"] = {"io": SimpleNamespace(**io), "ui": ui, "ComfyExtension": ComfyExtension}
        contents["comfy_api.latest"]["InputImpl"] = SimpleNamespace(VideoFromFile=VideoFromFile)
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
