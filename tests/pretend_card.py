# SPDX-License-Identifier: Apache-2.0
"""A graphics card that is only pretended: tensors say they lie on cuda:0, and their numbers are in main memory.

Within `pretended_card()` torch behaves as with one CUDA card: `torch.cuda` reports it, factories, `.to` and
`module.to` put tensors on it, and what is computed there is computed by the processor, so that numbers are real. What
CUDA refuses is refused with its words: tensors of two devices in one operation (but for numbers, tensors of no
dimension, in elementwise operations, and indices), `.numpy()`, a processor's generator for noise on the card. Each move
between the two memories, and each time that the processor would have to wait for the card, is written down in
`card.moves`; `card.room` lets allocations fail.

Not pretended: gradients, speed, rounding of a card's kernels, kernels that exist on processors only, generators on the
card, streams, foreach and fused kernels.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import torch
import torch._dynamo  # modes want it, and it must not be read while a card is pretended
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

CARD = torch.device("cuda", 0)
GIB = 2**30
ROOT = f"{Path(__file__).parents[1]}/"
aten = torch.ops.aten

COPIES = {aten._to_copy, aten.copy_, aten.copy}
INDEXED = {aten.index, aten._unsafe_index, aten.index_put, aten.index_put_, aten._index_put_impl_,
           aten._unsafe_index_put}  # fmt: skip
NUMBERS = {aten.where, aten.masked_fill, aten.masked_fill_, aten.fill, aten.fill_, aten.lerp, aten.lerp_,
           aten.clamp, aten.clamp_}  # take a CPU tensor of no dimension, whatever their tags say
WAITS = {aten._local_scalar_dense, aten.nonzero, aten.masked_select, aten.equal, aten.is_nonzero, aten._unique2,
         aten.unique_dim, aten.unique_consecutive, aten.bincount}  # the processor needs the card's answer  # fmt: skip


class OnCard(Tensor):
    """A tensor that says it lies on the card; `held` has its numbers. Views of it hold views."""

    held: Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, held: Tensor) -> OnCard:
        made = torch.Tensor._make_wrapper_subclass(
            cls, held.size(), strides=held.stride(), storage_offset=held.storage_offset(), dtype=held.dtype,
            layout=held.layout, device=CARD, requires_grad=False,
        )  # fmt: skip
        made.held = held
        return made

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return Card().apply(func, args, kwargs or {})

    def __repr__(self, *, tensor_contents=None) -> str:
        return f"OnCard({self.held!r})"


@dataclass(frozen=True)
class Move:
    """kind: "to card", "from card", or "wait" where only the processor waits. where: the engine's innermost line."""

    kind: str
    operation: str
    bytes: int
    where: str


class Card(TorchDispatchMode):
    """The card itself. free: bytes that it says are free. room: bytes that one tensor may take; None: any. crowded: the
    beginning of the paths whose code is held to that.

    moves: what went between the memories so far, in order.
    """

    def __init__(self, free: int = 24 * GIB):
        super().__init__()
        self.free, self.room, self.crowded = free, None, ""
        self.moves: list[Move] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return self.apply(func, args, kwargs or {})

    def apply(self, func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        """One operation, by the processor, with its answer on the device where CUDA would have it."""
        tensors: list[Tensor] = []
        held = changed((args, kwargs), lambda one: tensors.append(one) or inner(one))
        there = [one for one in tensors if isinstance(one, OnCard)]
        wished = kwargs.get("device")
        lands = bool(there) if wished is None else torch.device(wished).type == "cuda"
        if not there and not lands:
            return func(*args, **kwargs)
        kind = func.overloadpacket
        check_generator(kwargs.get("generator"), lands)
        if kind in COPIES:
            lands = self._copied(kind, args, lands)
        elif wished is None:
            self._mixed(func, args, tensors)
        if kind in WAITS or (kind in INDEXED and any(mask(one) for one in args[1])):
            self._told("wait", kind, 0)
        if wished is not None:
            held[1]["device"] = torch.device("cpu")
            held[1].pop("pin_memory", None)
        answer = func(*held[0], **held[1])
        outer = {id(one.held): one for one in there}
        return changed(answer, lambda one: self._answered(one, outer, lands))

    def _answered(self, one: Tensor, outer: dict[int, OnCard], lands: bool) -> Tensor:
        """The answer as the caller sees it: what was changed in place is still the same tensor."""
        if id(one) in outer:
            same = outer[id(one)]
            assert (same.shape, same.stride()) == (one.shape, one.stride()), "shapes changed in place are not pretended"
            return same
        if not lands:
            return one
        if self.room is not None and one.nbytes > self.room and caller().startswith(self.crowded):
            raise torch.OutOfMemoryError(f"CUDA out of memory. Tried to allocate {one.nbytes} bytes.")
        return OnCard(one)

    def _copied(self, kind: Any, args: Sequence[Any], lands: bool) -> bool:
        """Writes down a copy between the memories; whether its answer is on the card."""
        source = args[0] if kind is aten._to_copy else args[1]
        if kind is not aten._to_copy:
            lands = isinstance(args[0], OnCard)
        if lands != isinstance(source, OnCard):
            self._told("to card" if lands else "from card", kind, source.nbytes)
        return lands

    def _mixed(self, func: Any, args: Sequence[Any], tensors: Sequence[Tensor]) -> None:
        """Refuses tensors of two devices as CUDA does."""
        kind = func.overloadpacket
        apart = [one for one in tensors if not isinstance(one, OnCard)]
        if kind in INDEXED and isinstance(args[0], OnCard):
            for index in (one for one in args[1] if one is not None and not isinstance(one, OnCard)):
                self._told("to card", kind, index.nbytes)
            values = args[2] if len(args) > 2 else args[0]
            apart = [values] if not isinstance(values, OnCard) and values.ndim else []
        elif kind in INDEXED and apart and apart[0] is args[0] and any(isinstance(one, OnCard) for one in args[1]):
            raise RuntimeError("indices should be either on cpu or on the same device as the indexed tensor (cpu)")
        elif torch.Tag.pointwise in func.tags or kind in NUMBERS:
            changed = args[0] if func._schema.is_mutable else None
            apart = [one for one in apart if one.ndim or one is changed]
        if apart:
            raise different(apart[0].device, kind)

    def _told(self, kind: str, operation: Any, size: int) -> None:
        self.moves.append(Move(kind, str(operation).removeprefix("aten."), size, caller()))


class Spoken(TorchFunctionMode):
    """What is said before torch looks at it: "cuda" means "cuda:0", and numpy sees nothing that is on the card."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func is Tensor.cuda:
            return args[0].to(CARD)
        if func in (Tensor.numpy, Tensor.__array__) and isinstance(args[0], OnCard):
            raise TypeError(f"can't convert {CARD} device type tensor to numpy. Use Tensor.cpu() to copy the tensor to "
                            "host memory first.")  # fmt: skip
        if func is scaled_dot_product_attention and any(isinstance(one, OnCard) for one in args):
            return attended(args, kwargs or {})
        if func is Tensor.tolist and isinstance(args[0], OnCard):
            return args[0].cpu().tolist()
        if func is torch.device:
            return func(*args, **(kwargs or {}))
        kwargs = {key: numbered(value) for key, value in kwargs.items()} if kwargs else {}
        return func(*map(numbered, args), **kwargs)


def attended(args: Sequence[Any], kwargs: dict[str, Any]) -> OnCard:
    """The processor's fused attention, whose answer lies in memory as a card's does; torch would write it out."""
    if not all(isinstance(one, OnCard) for one in (*args, *kwargs.values()) if isinstance(one, Tensor)):
        raise different("cpu", "scaled_dot_product_attention")
    args, kwargs = changed((args, kwargs), inner)
    with torch.no_grad(), _disable_current_modes():
        return OnCard(scaled_dot_product_attention(*args, **kwargs))


def different(other: object, operation: object) -> RuntimeError:
    return RuntimeError("Expected all tensors to be on the same device, but found at least two devices, "
                        f"{CARD} and {other}! (in {operation})")  # fmt: skip


def numbered(value: Any) -> Any:
    return CARD if type(value) in (str, torch.device) and str(value) == "cuda" else value


@contextmanager
def guarded() -> Iterator[None]:
    """torch asks a guard to make the card current around many operations. A build without CUDA has none; it is lent the
    processor's, which does nothing. There is no other way to it than the table of guards itself."""
    library = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libc10.so"))
    guards = (ctypes.c_void_p * 2).in_dll(library, "_ZN3c104impl26device_guard_impl_registryE")  # CPU, CUDA
    before, guards[1] = guards[1], guards[1] or guards[0]
    try:
        yield
    finally:
        guards[1] = before


def changed(value: Any, change: Callable[[Tensor], Any]) -> Any:
    """The same with every tensor in it changed."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, tuple | list):
        return type(value)([changed(one, change) for one in value])
    if isinstance(value, dict):
        return {key: changed(one, change) for key, one in value.items()}
    return value


def inner(tensor: Tensor) -> Tensor:
    return tensor.held if isinstance(tensor, OnCard) else tensor


def mask(index: Tensor | None) -> bool:
    return index is not None and index.dtype in (torch.bool, torch.uint8)


def check_generator(generator: torch.Generator | None, lands: bool) -> None:
    if generator is not None and (generator.device.type == "cuda") != lands:
        kinds = ("cuda", "cpu") if lands else ("cpu", "cuda")
        raise RuntimeError("Expected a '{}' device type for generator but found '{}'".format(*kinds))


def caller() -> str:
    """The innermost line of the engine, or else of a test, that led here: "engine/run.py:80"."""
    frame, found = sys._getframe(1), ""
    while frame is not None:
        path = frame.f_code.co_filename
        if path.startswith(ROOT) and path != __file__ and "/.venv" not in path:
            name = f"{path.removeprefix(ROOT)}:{frame.f_lineno}"
            if name.startswith("engine"):
                return name
            found = found or name
        frame = frame.f_back
    return found


@contextmanager
def pretended_card(free: int = 24 * GIB) -> Iterator[Card]:
    """While this lasts there is one CUDA card, with `free` bytes free. Tensors on it stay usable afterwards."""
    card = Card(free)
    properties = SimpleNamespace(name="Pretended card", total_memory=free, uuid="pretended", major=8, minor=6,
                                 multi_processor_count=1)  # fmt: skip
    answers = {
        "is_available": True, "device_count": 1, "current_device": 0, "is_initialized": True, "_lazy_init": None,
        "_is_compiled": True, "memory_reserved": 0, "memory_allocated": 0, "max_memory_reserved": GIB,
        "max_memory_allocated": GIB, "reset_peak_memory_stats": None, "empty_cache": None, "synchronize": None,
        "get_device_properties": properties, "get_device_name": properties.name, "get_device_capability": (8, 6),
        "is_bf16_supported": True, "manual_seed_all": None, "manual_seed": None,
    }  # fmt: skip
    with ExitStack() as stack:
        for name, answer in answers.items():
            stack.enter_context(patch.object(torch.cuda, name, lambda *_, answer=answer, **__: answer))
        stack.enter_context(patch.object(torch.cuda, "mem_get_info", lambda *_: (card.free, free)))
        stack.enter_context(patch.object(torch.version, "cuda", "12.8"))
        stack.enter_context(guarded())
        replaces = torch.__future__.get_overwrite_module_params_on_conversion()
        torch.__future__.set_overwrite_module_params_on_conversion(True)  # a parameter's storage cannot be a wrapper
        stack.callback(torch.__future__.set_overwrite_module_params_on_conversion, replaces)
        lifted = torch._C._only_lift_cpu_tensors()
        torch._C._set_only_lift_cpu_tensors(True)  # torch.tensor(..., device="cuda"): made here, then moved
        stack.callback(torch._C._set_only_lift_cpu_tensors, lifted)
        stack.enter_context(Spoken())
        stack.enter_context(card)
        yield card
