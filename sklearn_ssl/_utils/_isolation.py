"""Torch as if nobody else had touched it: random numbers, defaults and modes of our own.

What torch draws comes from generators that are global to the process, and seeding them changes what
others draw. Modes of this module act in one thread only, on every call of torch in it, also those
within torchvision, timm or a user's module: nothing is handed from function to function, and no
draw can be forgotten.
"""

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from sklearn_ssl._utils._device import full_precision

__all__ = ["isolated"]


@contextlib.contextmanager
def isolated(device: torch.device, seed: int | None = None) -> Iterator[None]:
    """Run torch with defaults of its own and, if there is a seed, with random numbers of its own.

    Default dtype and device, autocast, ``inference_mode`` and gradients switched off around it do
    not matter within, and no global state is read or written.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        stack.enter_context(full_precision(torch.device("cpu")))
        stack.enter_context(full_precision(device))
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        if device.type == "cuda":
            stack.enter_context(torch.cuda.device(device))
        stack.enter_context(_OwnDefaults(device, seed))
        yield


class _OwnDefaults(TorchFunctionMode):
    """float32 where no dtype is given, our generators for every draw, and safe convolutions."""

    def __init__(self, device: torch.device, seed: int | None):
        super().__init__()
        self.of_float32 = torch.get_default_dtype() == torch.float32
        self.handlers: dict[Any, Callable] = dict.fromkeys(_CONVOLUTIONS, _convolve)
        if seed is not None:
            random = _Random(device, seed)
            self.handlers |= dict.fromkeys(_DRAW, random.draw)
            self.handlers |= dict.fromkeys(_DRAW_LIKE, random.draw_like)
            self.handlers |= dict.fromkeys(_DROP, random.drop)
            self.handlers |= dict.fromkeys(_DRAW_IN_SECRET, random.seeded)

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if not self.of_float32 and func in _MAKE_FLOATS and kwargs.get("dtype") is None:
            kwargs = {**kwargs, "dtype": torch.float32}
        handler = self.handlers.get(func)
        out = func(*args, **kwargs) if handler is None else handler(func, args, kwargs)
        if not self.of_float32 and func in _MAY_MAKE_FLOATS and _were_no_floats(args, kwargs):
            out = out.float() if out.is_floating_point() else out
        return out


# What would take the user's default dtype

_MAKE_FLOATS = {
    *(torch.empty, torch.zeros, torch.ones, torch.rand, torch.randn, torch.eye),
    *(torch.linspace, torch.logspace),
}
_MAY_MAKE_FLOATS = {  # of Python's floats, or by dividing integers
    *(torch.full, torch.arange, torch.tensor, torch.normal, torch.div, torch.true_divide),
    *(Tensor.div, Tensor.true_divide, Tensor.__truediv__, Tensor.__rtruediv__, Tensor.__pow__),
    *(Tensor.mul, Tensor.__mul__, Tensor.__rmul__, Tensor.add, Tensor.__add__, Tensor.__radd__),
    *(Tensor.sub, Tensor.__sub__, Tensor.__rsub__),
}


def _were_no_floats(args: tuple, kwargs: dict) -> bool:
    given = [value for value in (*args, *kwargs.values()) if hasattr(value, "dtype")]
    floats = any(getattr(value.dtype, "is_floating_point", True) for value in given)
    return not floats and kwargs.get("dtype") is None


# Random numbers

_DRAW: set[Any] = {
    *(torch.rand, torch.randn, torch.randint, torch.randperm, torch.normal),
    *(torch.bernoulli, torch.multinomial, torch.poisson),
    *(Tensor.uniform_, Tensor.normal_, Tensor.random_, Tensor.bernoulli_, Tensor.bernoulli),
    *(Tensor.exponential_, Tensor.geometric_, Tensor.cauchy_, Tensor.log_normal_),
    *(Tensor.multinomial, nn.init.uniform_, nn.init.normal_, nn.init.kaiming_uniform_),
    *(nn.init.kaiming_normal_, nn.init.xavier_uniform_, nn.init.xavier_normal_),
    nn.init.trunc_normal_,
}
_DRAW_LIKE = {torch.rand_like, torch.randn_like, torch.randint_like}
_DROP = {F.dropout, F.dropout1d, F.dropout2d, F.dropout3d}
_DRAW_IN_SECRET = {  # take no generator, and draw in functions of their own
    *(F.alpha_dropout, F.feature_alpha_dropout, F.rrelu, F.gumbel_softmax, torch.dropout),
    *(F.scaled_dot_product_attention, F.multi_head_attention_forward, torch.rrelu),
    *(torch.feature_dropout, torch.alpha_dropout, F.fractional_max_pool2d),
}


class _Random:
    """Generators of the CPU and of a device, and draws from them."""

    def __init__(self, device: torch.device, seed: int):
        self.device = device
        self.generators = {"cpu": torch.Generator().manual_seed(seed)}
        if device.type not in ("cpu", "meta"):
            self.generators[device.type] = torch.Generator(device).manual_seed(seed)

    def draw(self, func: Callable, args: tuple, kwargs: dict) -> Any:
        """A function that takes a generator."""
        if kwargs.get("generator") is not None:
            return func(*args, **kwargs)
        tensor = next((value for value in (*args, kwargs.get("input")) if _is_tensor(value)), None)
        device = torch.device(kwargs.get("device") or "cpu") if tensor is None else tensor.device
        generator = self.generators.get(device.type)  # there is none for the meta device
        if generator is None:
            return func(*args, **kwargs)
        return func(*args, **{**kwargs, "generator": generator})

    def draw_like(self, func: Callable, args: tuple, kwargs: dict) -> Tensor:
        """rand_like, randn_like and randint_like, which take no generator in all torch versions."""
        like, *bounds = args
        out = torch.empty_like(like, **{k: v for k, v in kwargs.items() if k not in _BOUNDS})
        if func is torch.randint_like:
            bounds = [*bounds, *(kwargs[k] for k in _BOUNDS if k in kwargs)]
            low, high = bounds if len(bounds) == 2 else (0, bounds[0])
            return self.draw(Tensor.random_, (out, low, high), {})
        return self.draw(Tensor.uniform_ if func is torch.rand_like else Tensor.normal_, (out,), {})

    def drop(self, func: Callable, args: tuple, kwargs: dict) -> Tensor:
        """Dropout of values, or of whole channels."""
        return self._dropped(func is not F.dropout, *args, **kwargs)

    def _dropped(
        self,
        channels: bool,
        input: Tensor,
        p: float = 0.5,
        training: bool = True,
        inplace: bool = False,
    ) -> Tensor:
        if not training or not p:
            return input
        shape = (*input.shape[:2], *(1,) * (input.ndim - 2)) if channels else input.shape
        keep = self.draw(Tensor.bernoulli_, (input.new_empty(shape), 1 - p), {})
        keep = keep.div_(1 - p) if p < 1 else keep
        return input.mul_(keep) if inplace else input * keep

    def seeded(self, func: Callable, args: tuple, kwargs: dict) -> Any:
        """What draws without taking a generator: from the global one, which is put back."""
        if func is F.scaled_dot_product_attention and not kwargs.get(
            "dropout_p", args[4:5] != (0,)
        ):
            return func(*args, **kwargs)
        cuda = self.device.type == "cuda"
        seed = int(torch.randint(2**31, (), generator=self.generators["cpu"]))
        with _global_generators, torch.random.fork_rng([self.device] if cuda else []):
            torch.default_generator.manual_seed(seed)
            if cuda:
                torch.cuda.manual_seed(seed)
            return func(*args, **kwargs)


_BOUNDS = ("low", "high")
_global_generators = threading.Lock()


def _is_tensor(value: Any) -> bool:
    return isinstance(value, Tensor)


# Convolutions of maps smaller than their kernel

_CONVOLUTIONS = {torch.conv1d, torch.conv2d, torch.conv3d}


def _convolve(func: Callable, args: tuple, kwargs: dict) -> Tensor:
    """In float32 where a map is smaller than the kernel.

    With bfloat16 on a CPU, torch (seen with 2.14, oneDNN) leaves the gradient of those weights that
    see nothing but padding uninitialized when the stride is 2: any number may be in it.
    """
    given = dict(zip(("input", "weight"), args, strict=False)) | kwargs
    inputs, weight = given["input"], given["weight"]
    sides = zip(inputs.shape[2:], weight.shape[2:], strict=False)
    if inputs.device.type != "cpu" or all(side >= kernel for side, kernel in sides):
        return func(*args, **kwargs)
    with full_precision(inputs.device):
        args = tuple(a.float() if _is_tensor(a) else a for a in args)
        kwargs = {name: a.float() if _is_tensor(a) else a for name, a in kwargs.items()}
        return func(*args, **kwargs)
