"""Profile the ten operators that take the most time in a training step of SimCLR.

    python examples/benchmarks/profile_step.py --data cifar10/
    python examples/benchmarks/profile_step.py --encoder resnet18 --batch-size 128 --view-size 32

For each operator, the table shows its share of the step and how close it is to its limits: the
speed of its multiplications relative to a large bfloat16 matrix product, and of its inputs and
outputs relative to a large copy, on this machine and in the same run.
"""

import argparse
import math
import time
from collections import defaultdict

import numpy as np
import torch
from data import load_images, machine
from skorch.callbacks import Callback
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from sklearn_ssl import SimCLR, Views


class Profiled(Callback):
    """Callback that counts the multiplications of one step, then profiles some steps."""

    def __init__(self, n_steps=8):
        self.n_steps = n_steps

    def on_train_begin(self, net, **kwargs):
        self.step_ = 0
        self.counter_ = FlopCounterMode(display=False)
        self.profile_ = profile(activities=[ProfilerActivity.CPU], record_shapes=True)

    def on_batch_end(self, net, training=True, **kwargs):
        self.step_ += 1
        if self.step_ == 2:  # the first step is slower
            self.counter_.__enter__()
        if self.step_ == 3:
            self.counter_.__exit__(None, None, None)
        if self.step_ == 4:
            self.profile_.start()
            self.began_ = time.perf_counter()
        if self.step_ == 4 + self.n_steps:
            self.seconds_ = (time.perf_counter() - self.began_) / self.n_steps
            self.profile_.stop()


def best_of(function, rounds=7):
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        function()
        times.append(time.perf_counter() - began)
    return min(times)


def peaks():
    """Measure the multiplications and additions, and the bytes, per second."""
    matrix = torch.randn(4096, 4096, dtype=torch.bfloat16)
    values, copy = torch.zeros(2**26), torch.empty(2**26)
    flops = 2 * 4096**3 / best_of(lambda: matrix @ matrix)
    return flops, 2 * 4 * 2**26 / best_of(lambda: copy.copy_(values))


def hottest(profiled):
    """Return the seconds, calls and bytes per step of each operator, slowest first."""
    found = defaultdict(lambda: np.zeros(3))
    for event in profiled.profile_.key_averages(group_by_input_shape=True):
        values = [math.prod(shape) for shape in event.input_shapes if shape]
        low = "conv" in event.key or event.key.endswith("mm")
        moved = (2 if low else 4) * (sum(values) + max(values, default=0))  # output: largest input
        took = event.self_cpu_time_total / 1e6
        found[event.key] += np.array([took, event.count, event.count * moved]) / profiled.n_steps
    return sorted(found.items(), key=lambda item: -item[1][0])


def multiplied(profiled):
    """Return the multiplications and additions per step of each operator."""
    counted = profiled.counter_.get_flop_counts()["Global"]
    found = {f"aten::{str(op).removeprefix('aten.')}": n for op, n in counted.items()}
    if "aten::convolution" in found:
        found["aten::mkldnn_convolution"] = found.pop("aten::convolution")
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", help="a zip or folder of class/name images")
    parser.add_argument("--encoder", default="small_resnet")
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--view-size", type=int)
    options = parser.parse_args()
    print(machine())
    images, _ = load_images(options.data)
    flops, bandwidth = peaks()
    profiled = Profiled()
    SimCLR(
        encoder=options.encoder,
        batch_size=options.batch_size,
        views=Views(size=options.view_size),
        max_epochs=1,
        callbacks=[profiled],
        random_state=0,
    ).fit(np.random.default_rng(0).permutation(images)[:4096])
    operators, counted = hottest(profiled), multiplied(profiled)
    total = sum(took for _, (took, _, _) in operators)
    print(
        "| operator | calls per step | share of time, % | speed, % of the product "
        "| speed, % of the copy |"
    )
    print("|---|---|---|---|---|")
    for name, (took, calls, moved) in operators[:10]:
        speed = f"{100 * counted[name] / took / flops:.0f}" if name in counted else ""
        copied = f"{100 * moved / took / bandwidth:.0f}"
        print(f"| {name} | {calls:.0f} | {100 * took / total:.1f} | {speed} | {copied} |")
    whole = 100 * sum(counted.values()) / profiled.seconds_ / flops
    print(f"\nWhole step: {whole:.0f} % of the speed of the product. Counted: {counted}")


if __name__ == "__main__":
    main()
