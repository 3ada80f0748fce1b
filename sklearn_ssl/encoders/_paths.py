"""What an output was computed from, as autograd has noted it."""

from typing import Any

from torch import Tensor, nn

__all__ = ["behind", "left_out"]


def behind(output: Tensor) -> set[Any]:
    """All nodes of the graph that ends in ``output``."""
    seen: set[Any] = set()
    ahead = [output.grad_fn]
    while ahead:
        node = ahead.pop()
        if node is not None and node not in seen:
            seen.add(node)
            ahead += [earlier for earlier, _ in node.next_functions]
    return seen


def left_out(module: nn.Module, nodes: set[Any]) -> dict[str, nn.Parameter]:
    """Parameters that could be trained, but have no part in what these nodes compute."""
    used = {id(node.variable) for node in nodes if hasattr(node, "variable")}
    return {
        name: parameter
        for name, parameter in module.named_parameters()
        if parameter.requires_grad and id(parameter) not in used
    }
