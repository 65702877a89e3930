"""A pretended GPU: a device called "pretend" that computes on the CPU with real numbers, and refuses to meet CPU tensors.

It runs what core does on devices other than the CPU. Use it in a process of its own: it registers a back end with torch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

_setup_privateuseone_for_python_backend("pretend")

DEVICE = torch.device("pretend:0")


class OnDevice(Tensor):
    """A tensor on the pretended device. ``held`` has its numbers, on the CPU."""

    @staticmethod
    def __new__(cls, held: Tensor) -> OnDevice:
        return Tensor._make_wrapper_subclass(
            cls,
            held.shape,
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=DEVICE,
        )

    def __init__(self, held: Tensor) -> None:
        self.held = held

    def __repr__(self) -> str:
        return f"OnDevice({self.held!r})"

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {}, None)


class Pretended(TorchDispatchMode):
    """Makes the device known within a block.

    Args:
        has_float64: whether the device has float64
        tf32: whether its float32 convolutions follow torch's switch for TF32, which is emulated by rounding to 10 bits

    Attributes:
        unguarded: number of copies from the CPU that were not waited for
        convolutions: number formats of the inputs of convolutions, in order
    """

    def __init__(self, has_float64: bool = True, tf32: bool = False) -> None:
        super().__init__()
        self.has_float64, self.tf32 = has_float64, tf32
        self.unguarded = 0
        self.convolutions: list[torch.dtype] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {}, self)


def _run(func: Any, args: Any, kwargs: dict[str, Any], device: Pretended | None) -> Any:
    name = func.overloadpacket.__name__
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    here = [tensor for tensor in tensors if isinstance(tensor, OnDevice)]
    copies = name in ("_to_copy", "copy_")
    if here and not copies:
        strangers = [each for each in tensors if not isinstance(each, OnDevice) and each.dim()]
        assert not strangers, f"expected all tensors on one device, but {func} got one of the CPU {strangers[0].shape}"
    to_device = _is_on_device(name, args, kwargs, here)
    if device is not None and to_device:
        device.unguarded += copies and _is_unguarded(args, kwargs)
    options = dict(kwargs)
    if options.get("device") is not None:
        options["device"] = "cpu"
    held_args, held_options = tree_map(_held, args), tree_map(_held, options)
    if name == "convolution" and here and device is not None:
        device.convolutions.append(held_args[0].dtype)
        if device.tf32 and held_args[0].dtype == torch.float32 and _switch_is_on():
            held_args = (_rounded(held_args[0]), _rounded(held_args[1]), *held_args[2:])
    result = func(*held_args, **held_options)
    if name == "_to_copy" and any(result is _held(tensor) for tensor in tensors):
        result = result.clone()  # to another device is a copy, even in the same number format
    if to_device and device is not None and not device.has_float64:
        wide = [each for each in tree_leaves(result) if isinstance(each, Tensor) and each.dtype == torch.float64]
        if wide:
            raise RuntimeError("Required aspect fp64 is not supported on the device")
    return tree_map(_wrapper(tensors, to_device), result)


def _is_on_device(name: str, args: Any, kwargs: dict[str, Any], here: list[OnDevice]) -> bool:
    if kwargs.get("device") is not None:
        return torch.device(kwargs["device"]).type == DEVICE.type
    return isinstance(args[0], OnDevice) if name == "copy_" else bool(here)


def _is_unguarded(args: Any, kwargs: dict[str, Any]) -> bool:
    """Return whether a copy comes from the CPU, and is not waited for."""
    source = next(tensor for tensor in reversed(args) if isinstance(tensor, Tensor))
    waits = not (kwargs.get("non_blocking") or (len(args) > 2 and args[2] is True))
    return not isinstance(source, OnDevice) and not waits and source.dim() > 0


def _wrapper(tensors: list[Tensor], to_device: bool) -> Callable[[Any], Any]:
    def wrapped(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        known = next((each for each in tensors if _held(each) is value), None)  # of operations in place
        if known is not None:
            return known
        return OnDevice(value) if to_device else value

    return wrapped


def _held(value: Any) -> Any:
    return value.held if isinstance(value, OnDevice) else value


def _switch_is_on() -> bool:
    cudnn = torch.backends.cudnn
    return cudnn.conv.fp32_precision != "ieee" if hasattr(cudnn, "conv") else cudnn.allow_tf32


def _rounded(values: Tensor) -> Tensor:
    """Return float32 values rounded to the 10 bits of mantissa that TF32 has."""
    bits = values.contiguous().view(torch.int32)
    return ((bits + 0x1000) & ~0x1FFF).view(torch.float32).view(values.shape)


def put(network: nn.Module) -> nn.Module:
    """Move the parameters and buffers of a network to the device, and return it."""
    for module in network.modules():
        for tensors in (module._parameters, module._buffers):
            for name, tensor in tensors.items():
                if tensor is not None:
                    there = OnDevice(tensor.detach().clone())
                    is_parameter = isinstance(tensor, nn.Parameter)
                    tensors[name] = nn.Parameter(there, requires_grad=False) if is_parameter else there
    return network


_to = nn.Module.to


def stays(module: nn.Module, *arguments: Any, **options: Any) -> nn.Module:
    """Take the place of ``nn.Module.to``: modules on the device stay there."""
    here = any(isinstance(parameter, OnDevice) for parameter in module.parameters())
    return module if here else _to(module, *arguments, **options)


def on_device(tensor: Tensor) -> OnDevice:
    """Return a copy of a CPU tensor on the device."""
    return OnDevice(tensor.detach().clone())
