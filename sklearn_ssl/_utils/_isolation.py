"""Isolation of torch: random numbers, defaults and modes as if nobody else had touched them.

Torch draws from generators that are global to the process, and seeding them changes what others
draw. The mode of this module acts in one thread only, on every call of torch in it, also those
within torchvision, timm or a user's module: nothing is handed from function to function, and a draw
cannot be forgotten.

It does not see what is drawn in a backward pass (activation checkpointing that repeats a dropout),
within TorchScript, or by ``torch.ops``.
"""

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from sklearn_ssl._utils._device import float32_by_default, full_precision

__all__ = ["DRAWS", "OwnRandomNumbers", "isolated", "own_settings"]


@contextlib.contextmanager
def own_settings(device: torch.device) -> Iterator[None]:
    """Run torch with settings of its own.

    Default dtype and device, autocast, ``inference_mode`` and gradients switched off around it do
    not matter within. Of the state that threads share it touches the default dtype, which it puts
    back, and nothing else.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        stack.enter_context(float32_by_default())
        stack.enter_context(full_precision(torch.device("cpu")))
        stack.enter_context(full_precision(device))
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        if device.type == "cuda":
            stack.enter_context(torch.cuda.device(device))
        yield


@contextlib.contextmanager
def isolated(device: torch.device, seed: int | None = None) -> Iterator[None]:
    """Run torch with settings and, if there is a seed, random numbers of its own."""
    with own_settings(device), OwnRandomNumbers(device, seed):
        yield


class OwnRandomNumbers(TorchFunctionMode):
    """A mode with generators of its own for every draw, and convolutions that are safe.

    It can be entered as often as there is something to draw, and goes on where it was. Every call
    of torch within it costs a few microseconds more.

    Parameters
    ----------
    device : torch.device
        That of the draws, beside the CPU.
    seed : int, optional
        Without one, draws are left as they are.
    """

    def __init__(self, device: torch.device, seed: int | None = None):
        super().__init__()
        self.handlers: dict[Any, Callable] = dict.fromkeys(_CONVOLUTIONS, _convolve)
        self.generators: dict[str, torch.Generator] = {}
        if seed is not None:
            random = _Random(device, seed)
            self.generators = random.generators
            self.handlers |= dict.fromkeys(_DRAW, random.draw)
            self.handlers |= dict.fromkeys(_DRAW_LIKE, random.draw_like)
            self.handlers |= dict.fromkeys(_DROP, random.drop)
            self.handlers |= dict.fromkeys(_DRAW_IN_SECRET, random.seeded)

    def state(self) -> dict[str, Tensor]:
        """Return the states of the generators."""
        return {name: generator.get_state() for name, generator in self.generators.items()}

    def set_state(self, state: dict[str, Tensor]) -> None:
        """Restore the states of generators; one of another device keeps its own."""
        for name in state.keys() & self.generators.keys():
            self.generators[name].set_state(state[name])

    def __torch_function__(self, func, types, args=(), kwargs=None):
        handler = self.handlers.get(func)
        if handler is None:
            return func(*args, **(kwargs or {}))
        return handler(func, args, kwargs or {})


# Random numbers

_DRAW: set[Any] = {
    *(torch.rand, torch.randn, torch.randint, torch.randperm, torch.normal),
    *(torch.bernoulli, torch.multinomial, torch.poisson, torch.binomial),
    *(torch._standard_gamma, torch._sample_dirichlet),
    *(Tensor.uniform_, Tensor.normal_, Tensor.random_, Tensor.bernoulli_, Tensor.bernoulli),
    *(Tensor.exponential_, Tensor.geometric_, Tensor.cauchy_, Tensor.log_normal_),
    *(Tensor.multinomial, nn.init.uniform_, nn.init.normal_, nn.init.kaiming_uniform_),
    *(nn.init.kaiming_normal_, nn.init.xavier_uniform_, nn.init.xavier_normal_),
    nn.init.trunc_normal_,
}
_DRAW_LIKE = {torch.rand_like, torch.randn_like, torch.randint_like}
_DROP = {F.dropout: 0, F.dropout1d: 1, F.dropout2d: 2, F.dropout3d: 3}  # sides of a channel
_DRAW_IN_SECRET = {  # take no generator, and draw in functions of their own
    *(F.alpha_dropout, F.feature_alpha_dropout, F.rrelu, F.rrelu_, F.gumbel_softmax),
    *(F.fractional_max_pool2d, F.fractional_max_pool3d),
    *(F.scaled_dot_product_attention, F.multi_head_attention_forward),
    *(torch.dropout, torch.dropout_, torch.native_dropout, torch.rrelu, torch.rrelu_),
    *(torch.feature_dropout, torch.feature_dropout_, torch.alpha_dropout, torch.alpha_dropout_),
    *(torch.feature_alpha_dropout, torch.feature_alpha_dropout_),
    *(torch.lstm, torch.gru, torch.rnn_tanh, torch.rnn_relu),
}
DRAWS = {*_DRAW, *_DRAW_LIKE, *_DROP}
_DROPOUT_P = {F.scaled_dot_product_attention: 4, F.multi_head_attention_forward: 10}  # its position


class _Random:
    """Generators of the CPU and of a device, and draws from them."""

    def __init__(self, device: torch.device, seed: int):
        self.device = device
        self.generators = {"cpu": torch.Generator().manual_seed(seed)}
        if device.type not in ("cpu", "meta"):
            self.generators[device.type] = torch.Generator(device).manual_seed(seed)

    def draw(self, func: Callable, args: tuple, kwargs: dict) -> Any:
        """Call a function with the generator of its device."""
        if kwargs.get("generator") is not None:
            return func(*args, **kwargs)
        tensor = next((v for v in (*args, *kwargs.values()) if isinstance(v, Tensor)), None)
        device = torch.device(kwargs.get("device") or "cpu") if tensor is None else tensor.device
        generator = self.generators.get(device.type)  # there is none for the meta device
        if generator is None:
            return func(*args, **kwargs)
        return func(*args, **{**kwargs, "generator": generator})

    def draw_like(self, func: Callable, args: tuple, kwargs: dict) -> Tensor:
        """Draw like rand_like and others, which lack a generator in some versions of torch."""
        options = dict(kwargs)
        like, *bounds = args or (options.pop("input"),)
        bounds += [options.pop(name) for name in ("low", "high") if name in options]
        grad = options.pop("requires_grad", False)
        out = torch.empty_like(like, **options)
        if func is torch.randint_like:
            out = self.draw(Tensor.random_, (out, *([0, *bounds][-2:])), {})
        elif func is torch.rand_like:
            out = self.draw(Tensor.uniform_, (out,), {})
        else:
            out = self.draw(Tensor.normal_, (out,), {})
        return out.requires_grad_() if grad else out

    def drop(self, func: Callable, args: tuple, kwargs: dict) -> Tensor:
        """Drop values, or whole channels."""
        return self._dropped(_DROP[func], *args, **kwargs)

    def _dropped(
        self,
        sides: int,
        input: Tensor,
        p: float = 0.5,
        training: bool = True,
        inplace: bool = False,
    ) -> Tensor:
        if not training or not p:
            return input
        shape = tuple(input.shape)
        if sides == 2 and input.ndim == 3:  # as torch has it: channels of one side
            sides = 1
        if sides:
            shape = (*shape[: input.ndim - sides], *(1,) * sides)
        keep = self.draw(Tensor.bernoulli_, (input.new_empty(shape), 1 - p), {})
        keep = keep.div_(1 - p) if p < 1 else keep
        return input.mul_(keep) if inplace else input * keep

    def seeded(self, func: Callable, args: tuple, kwargs: dict) -> Any:
        """Call a function that draws from global generators, which are seeded and then restored."""
        if not _drops(func, args, kwargs):
            return func(*args, **kwargs)
        seed = int(torch.randint(2**31, (), generator=self.generators["cpu"]))
        on_device = self.device.type in ("cuda", "mps")
        devices, kind = ([self.device.index or 0], self.device.type) if on_device else ([], "cuda")
        with _global_generators, torch.random.fork_rng(devices, device_type=kind):
            torch.default_generator.manual_seed(seed)
            if on_device:
                getattr(torch, kind).manual_seed(seed)
            return func(*args, **kwargs)


def _drops(func: Callable, args: tuple, kwargs: dict) -> bool:
    """Return whether a function draws, as far as its arguments tell."""
    position = _DROPOUT_P.get(func)
    if position is None:
        return True
    p = kwargs.get("dropout_p", args[position] if len(args) > position else 0.0)
    return p > 0 and kwargs.get("training", True)


_global_generators = threading.RLock()
if hasattr(os, "register_at_fork"):  # a child has none of the threads that would release it
    os.register_at_fork(
        before=_global_generators.acquire,
        after_in_parent=_global_generators.release,
        after_in_child=_global_generators.release,
    )


# Convolutions of maps smaller than their kernel

_CONVOLUTIONS = {torch.conv1d, torch.conv2d, torch.conv3d}


def _convolve(func: Callable, args: tuple, kwargs: dict) -> Tensor:
    """Convolve in float32 where a map is smaller than the kernel, and as usual elsewhere.

    With bfloat16 on a CPU, torch (seen with 2.14, oneDNN) leaves the gradient of those weights that
    see nothing but padding uninitialized when the stride is 2: any number may be in it.
    """
    given = dict(zip(("input", "weight"), args, strict=False)) | kwargs
    inputs, weight = given["input"], given["weight"]
    sides = zip(inputs.shape[2:], weight.shape[2:], strict=False)
    if inputs.device.type != "cpu" or all(side >= kernel for side, kernel in sides):
        return func(*args, **kwargs)
    with full_precision(inputs.device):
        wide = {name: _widened(value) for name, value in kwargs.items()}
        return func(*map(_widened, args), **wide)


def _widened(value: Any) -> Any:
    half = isinstance(value, Tensor) and value.dtype in (torch.bfloat16, torch.float16)
    return value.float() if half else value
