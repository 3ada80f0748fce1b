"""What surrounds a fit (torch's settings, threads, forks, Ctrl-C) does not matter, nor change."""

import multiprocessing
import os
import re
import signal
import subprocess
import sys
import threading

import joblib
import numpy as np
import pytest
import skorch.callbacks
import torch
from conftest import Constant, TinyNet, make_images, one_of_each_kind, small
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from sklearn_ssl import Distillation, FineTunedClassifier, SelfSupervisedClassifier, SimCLR
from sklearn_ssl._utils._torch import isolated
from sklearn_ssl.exceptions import DivergenceError, InterruptionWarning

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def expected():
    """Features of a fit in peace."""
    return small(SimCLR).fit_transform(make_images())


# Torch's settings


@pytest.fixture
def default_dtype():
    before = torch.get_default_dtype()
    yield torch.set_default_dtype
    torch.set_default_dtype(before)


@pytest.fixture
def default_device():
    yield torch.set_default_device
    torch.set_default_device(None)


@pytest.mark.slow
@one_of_each_kind
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_default_dtype_does_not_matter(Learner, dtype, images, default_dtype):
    learner = small(Learner, encoder="small_resnet")
    alone = learner.fit_transform(images)
    default_dtype(dtype)
    np.testing.assert_array_equal(clone(learner).fit_transform(images), alone)
    np.testing.assert_array_equal(learner.transform(images), alone)
    assert torch.get_default_dtype() == torch.rand(1).dtype == dtype


@one_of_each_kind
def test_default_device_does_not_matter(Learner, images, default_device):
    learner = small(Learner)
    alone = learner.fit_transform(images)
    default_device("meta")
    np.testing.assert_array_equal(clone(learner).fit_transform(images), alone)
    np.testing.assert_array_equal(learner.transform(images), alone)
    assert torch.zeros(1).device.type == "meta"


@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad])
def test_a_fit_within_modes_without_gradients(mode, images, expected):
    with mode():
        learner = small(SimCLR).fit(images)
        np.testing.assert_array_equal(learner.transform(images), expected)
        assert not torch.is_grad_enabled()
    learner.partial_fit(images)
    assert all(not p.is_inference() for p in learner.encoder_.parameters())


def test_the_users_autocast_does_not_change_the_precision(images):
    learner = small(SimCLR, precision="float32")
    alone = learner.fit_transform(images)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        np.testing.assert_array_equal(clone(learner).fit_transform(images), alone)
        np.testing.assert_array_equal(learner.transform(images), alone)
        assert (torch.rand(2, 2) @ torch.rand(2, 2)).dtype == torch.bfloat16


# Random numbers


def test_all_that_draws_is_isolated():
    """Functions of torch that draw: one seed gives the same, and nothing global moves."""
    x = torch.rand(4, 16, 6, 6, generator=torch.Generator().manual_seed(0))

    def draw():
        attention = nn.MultiheadAttention(4, 2, dropout=0.5)
        y = torch.rand(4, 5, 4)
        q = torch.rand(1, 1, 4, 4)
        yield from (torch.rand(3), torch.randn(3), torch.randint(9, (3,)), torch.randperm(9))
        yield from (torch.rand_like(x), torch.randn_like(x), torch.randint_like(x, 9))
        yield torch.randint_like(x, 3, 9)
        yield from (torch.normal(x, 1.0), torch.bernoulli(x), torch.multinomial(torch.ones(9), 3))
        yield from (x.clone().uniform_(), x.clone().normal_(), x.clone().exponential_())
        yield from (x.clone().bernoulli_(0.5), x.clone().random_(), x.bernoulli(), torch.poisson(x))
        yield from (nn.functional.dropout(x), nn.Dropout2d()(x), nn.Dropout3d()(x[None]))
        yield from (nn.functional.alpha_dropout(x, training=True), nn.RReLU()(x - 0.5))
        yield from (nn.functional.gumbel_softmax(x), attention(y, y, y)[0])
        yield nn.functional.scaled_dot_product_attention(q, q, q, dropout_p=0.5)
        lstm, beta = nn.LSTM(4, 9, 2, dropout=0.5), torch.distributions.Beta(torch.tensor(0.4), 0.4)
        yield from (lstm(y)[0], beta.sample((9,)), torch.rand_like(input=x, requires_grad=True))
        yield from (torch.binomial(x * 9, x), nn.functional.dropout1d(x[0, 0]))
        yield torch.dropout_(x.clone(), 0.5, True)
        yield from (nn.Linear(3, 3).weight, nn.Conv2d(3, 3, 3).weight, nn.Embedding(3, 3).weight)
        yield nn.init.trunc_normal_(torch.empty(3, 3))
        yield nn.init.orthogonal_(torch.empty(3, 3))
        yield nn.init.xavier_normal_(torch.empty(3, 3))

    def drawn(seed):
        with isolated(CPU, seed):
            return [value.detach() for value in draw()]

    state = torch.get_rng_state()
    first = drawn(0)
    torch.manual_seed(99)  # of no consequence
    again, other = drawn(0), drawn(1)
    for i, values in enumerate(zip(first, again, other, strict=True)):
        assert torch.equal(values[0], values[1]), i
        assert not torch.equal(values[0], values[2]), i
    torch.manual_seed(99)
    state = torch.get_rng_state()
    drawn(0)
    assert torch.equal(torch.get_rng_state(), state)


def test_attention_without_dropout_leaves_the_global_generator_alone(monkeypatch):
    forked = []
    monkeypatch.setattr(torch.random, "fork_rng", lambda *args, **kwargs: forked.append(args))
    q = torch.rand(1, 2, 4, 4)
    attention = nn.MultiheadAttention(4, 2)
    dropping = nn.MultiheadAttention(4, 2, dropout=0.5).eval()
    with isolated(CPU, seed=0):
        nn.functional.scaled_dot_product_attention(q, q, q)
        attention(q[0], q[0], q[0])
        dropping(q[0], q[0], q[0])
    assert not forked


class AttentiveNet(TinyNet):
    """Has a draw that takes no generator."""

    def __init__(self, in_channels):
        super().__init__(in_channels)
        self.last = nn.RReLU()


def test_a_fit_within_a_fit_draws_in_secret_too(images):
    """A callback that asks for layers waited for a lock that its own thread held."""
    found = []

    class Asks(skorch.callbacks.Callback):
        def on_epoch_end(self, net, **kwargs):
            found.append(small(SimCLR, encoder=AttentiveNet).fit(images).n_epochs_)

    small(SimCLR, encoder=AttentiveNet, callbacks=[Asks()]).fit(images)
    assert found == [1]


def test_dropout_drops_as_torch_does():
    x = torch.ones(64, 8, 6, 6)
    with isolated(CPU, seed=0):
        values, channels = nn.Dropout(0.25)(x), nn.Dropout2d(0.25)(x)
        assert nn.Dropout(0.25).eval()(x) is x
        assert nn.functional.dropout(x, 1.0).eq(0).all()
    assert values.unique().tolist() == pytest.approx([0, 4 / 3])
    assert values.eq(0).float().mean() == pytest.approx(0.25, abs=0.01)
    assert channels.flatten(2).std(2).max() == 0
    for one, sides in ((nn.functional.dropout1d, 1), (nn.functional.dropout3d, 3)):
        with isolated(CPU, seed=0):
            alone = one(torch.ones(64, *(3,) * sides), 0.25)
        assert alone.flatten(1).std(1).max() == 0
        assert 0 < alone.eq(0).float().mean() < 0.5
    assert channels.eq(0).float().mean() == pytest.approx(0.25, abs=0.06)


class NoisyNet(TinyNet):
    """Draws in its forward pass."""

    def __init__(self, in_channels):
        super().__init__(in_channels)
        self.drop = nn.Dropout2d(0.2)


def test_a_thread_that_draws_meanwhile_does_not_matter(images):
    learner = small(SimCLR, encoder=NoisyNet, max_epochs=3)
    alone = learner.fit_transform(images)
    stop = threading.Event()

    def disturb():
        while not stop.is_set():
            torch.manual_seed(0)
            torch.rand(3)

    thread = threading.Thread(target=disturb)
    thread.start()
    try:
        together = clone(learner).fit_transform(images)
    finally:
        stop.set()
        thread.join()
    np.testing.assert_array_equal(together, alone)


def test_a_fit_does_not_change_what_another_thread_draws(images):
    torch.manual_seed(3)
    expected = torch.rand(50)
    torch.manual_seed(3)
    drawn = []

    class Draw(skorch.callbacks.Callback):
        def on_batch_end(self, net, **kwargs):
            thread = threading.Thread(target=lambda: drawn.append(torch.rand(5)))
            thread.start()
            thread.join()

    small(SimCLR, batch_size=12, max_epochs=2, callbacks=[Draw()]).fit(images)
    found = torch.cat(drawn)
    assert len(found) == 40
    assert torch.equal(found, expected[:40])


def test_a_callback_may_wait_for_a_fit_in_another_thread(images, expected):
    """There is no lock that a fit would hold from its first to its last step."""
    found = []

    class FitsAnother(skorch.callbacks.Callback):
        def on_epoch_end(self, net, **kwargs):
            def other():
                found.append(small(SimCLR).fit_transform(images))
                found.append(small(SimCLR).encoder_layers((8, 8, 3)))

            thread = threading.Thread(target=other, daemon=True)
            thread.start()
            thread.join(60)

    learner = small(SimCLR, callbacks=[FitsAnother()])
    np.testing.assert_array_equal(learner.fit_transform(images), expected)
    assert len(found) == 2
    np.testing.assert_array_equal(found[0], expected)


# Other processes

FORKED = """
import multiprocessing, threading, time, sys, numpy as np, torch
torch.set_num_threads(2)
from sklearn_ssl import Distillation, FineTunedClassifier, SelfSupervisedClassifier, SimCLR
X = np.random.default_rng(0).integers(0, 255, (64, 32, 32, 3)).astype(np.uint8)
learner = SimCLR(max_epochs={epochs}, random_state=0)

def work(i):
    return learner.transform(X).sum(), SimCLR(max_epochs=1, random_state=0).fit(X).n_epochs_

if {in_thread}:
    learner.max_epochs = 0
    learner.fit(X)
    long = SimCLR(max_epochs=1000)
    thread = threading.Thread(target=long.fit, args=(X,), daemon=True)
    thread.start()
    time.sleep(1)
else:
    learner.fit(X)
with multiprocessing.get_context("fork").Pool(2) as pool:
    print(len(pool.map_async(work, range(2)).get(timeout=100)))
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows has no os.fork")
@pytest.mark.parametrize("in_thread", [False, True])
def test_a_pool_that_is_forked_after_or_during_a_fit_works(in_thread):
    """It hung for ever: a forked process has none of the threads of OpenMP, and waits for them."""
    code = FORKED.format(epochs=1, in_thread=in_thread)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=150, check=False
    )
    assert done.stdout.strip() == "2", done.stderr


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has glibc's allocator and /proc")
def test_memory_that_was_kept_for_the_training_is_given_back():
    """glibc keeps freed blocks of the training for the next batch; afterwards it does not."""
    code = """
import numpy as np, torch
from sklearn_ssl._utils._torch import freed_memory_reused
def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096 / 2**20
before = resident()
with freed_memory_reused():
    pairs = [(np.ones(30 * 2**17), np.ones(2**17)) for _ in range(14)]  # 30 MiB and 1 MiB
    between = [small for _, small in pairs]  # keeps glibc from giving the large ones back itself
    del pairs
    kept = resident() - before
print(kept, resident() - before)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    kept, after = map(float, done.stdout.split())
    assert after < 100 < kept


# Hashes


def test_a_fitted_learner_can_be_hashed(images):
    learner = small(SimCLR, max_epochs=2).fit(images)
    key = joblib.hash(learner)
    assert joblib.hash(joblib.load(dumped(learner))) == key
    learner.transform(images)
    assert joblib.hash(learner) == key
    assert joblib.hash(small(SimCLR, random_state=1).fit(images)) != key
    assert joblib.hash(learner.partial_fit(images)) != key


def dumped(learner):
    import io

    buffer = io.BytesIO()
    joblib.dump(learner, buffer)
    buffer.seek(0)
    return buffer


def test_a_pipeline_with_memory_over_a_frozen_learner(images, tmp_path):
    labels = np.arange(len(images)) % 2
    learner = small(SimCLR).fit(images)
    steps = FrozenEstimator(learner), LogisticRegression()
    pipe = make_pipeline(*steps, memory=str(tmp_path)).fit(images, labels)
    assert pipe.fit(images, labels).score(images, labels) > 0.4


# Ctrl-C


class PressesCtrlC(skorch.callbacks.Callback):
    def __init__(self, hook, epoch=2):
        self.hook = hook
        self.epoch = epoch

    def __getattribute__(self, name):
        hook = object.__getattribute__(self, "__dict__").get("hook")
        if name == hook:
            return object.__getattribute__(self, "press")
        return object.__getattribute__(self, name)

    def press(self, net, **kwargs):
        if len(net.history) == self.epoch:
            signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize("hook", ["on_batch_end", "on_epoch_begin", "on_epoch_end"])
def test_ctrl_c_reaches_the_user_wherever_it_falls(hook, images):
    """At the end of an epoch it passed for a callback that ends the training."""
    learner = small(SimCLR, max_epochs=3, batch_size=24, callbacks=[PressesCtrlC(hook)])
    said = "after [12] epochs; SimCLR keeps what it has learned"
    told = r"interrupted after \d steps and [12] complete epochs"
    with (
        pytest.warns(InterruptionWarning, match=said),
        pytest.raises(KeyboardInterrupt, match=told),
    ):
        learner.fit(images)
    assert np.isfinite(learner.transform(images)).all()
    assert learner.n_epochs_ == len(learner.history_) == 1 + (hook == "on_epoch_end")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def interrupted():
    return small(SimCLR, max_epochs=3, callbacks=[PressesCtrlC("on_epoch_end")])


@pytest.mark.parametrize("wrap", [FineTunedClassifier, SelfSupervisedClassifier])
def test_ctrl_c_leaves_what_an_estimator_around_a_learner_learned(wrap, images):
    labels = np.arange(48) % 3
    if wrap is SelfSupervisedClassifier:
        estimator = wrap(interrupted())
    else:
        estimator = wrap(encoder=TinyNet, max_epochs=3, callbacks=[PressesCtrlC("on_epoch_end")])
    said = f"after 2 epochs; {wrap.__name__} keeps what it has learned so far$"
    with pytest.warns(InterruptionWarning) as caught, pytest.raises(KeyboardInterrupt):
        estimator.fit(images, labels)
    assert [re.search(said, str(one.message)) is not None for one in caught] == [True]
    assert estimator.learner_.n_epochs_ == 2
    assert estimator.predict(images).shape == (48,)


@pytest.mark.parametrize(
    ("estimator", "within"),
    [
        (FineTunedClassifier(interrupted()), "SimCLR"),
        (small(Distillation, teacher=interrupted()), "SimCLR"),
        (
            SelfSupervisedClassifier(make_pipeline(interrupted(), StandardScaler())),
            "Pipeline",
        ),
    ],
    ids=lambda one: type(one).__name__,
)
def test_a_training_that_only_prepares_another_is_said_to_be_lost(estimator, within, images):
    before = dict(vars(estimator))
    said = f"training of {within} within {type(estimator).__name__} was interrupted"
    with pytest.warns(InterruptionWarning) as caught, pytest.raises(KeyboardInterrupt):
        estimator.fit(images, np.arange(48) % 3)
    assert [said in str(one.message) for one in caught] == [True]
    assert vars(estimator) == before


def test_a_callback_that_ends_the_training_keeps_what_was_learned(images):
    class Stops(skorch.callbacks.Callback):
        def on_epoch_end(self, net, **kwargs):
            raise KeyboardInterrupt  # as skorch's EarlyStopping does

    assert small(SimCLR, max_epochs=3, callbacks=[Stops()]).fit(images).n_epochs_ == 1


# Failures


def test_a_failed_fit_does_not_advance_a_random_state(images):
    generator = np.random.RandomState(0)
    learner = small(SimCLR, random_state=generator, lr=1e30, warmup=0, optimizer="sgd")
    with pytest.raises(DivergenceError):
        learner.fit(images)
    assert generator.randint(1000) == np.random.RandomState(0).randint(1000)


def test_a_teardown_that_fails_leaves_the_learner_as_it_was(images):
    pytest.importorskip("sklearn.callback")

    class Broken:
        def setup(self, estimator, context):
            pass

        def teardown(self, estimator, context):
            raise RuntimeError("no room on the disk")

        def on_fit_task_begin(self, estimator, context, **kwargs):
            pass

        def on_fit_task_end(self, estimator, context, **kwargs):
            return False

    learner = small(SimCLR).fit(images)
    before = learner.transform(images)
    learner.set_params(random_state=1).set_callbacks(Broken())
    with pytest.raises(RuntimeError, match="no room"):
        learner.fit(images)
    np.testing.assert_array_equal(learner.transform(images), before)


@pytest.mark.filterwarnings("error::sklearn_ssl.exceptions.CollapseWarning")
def test_a_warning_that_is_an_error_leaves_the_learner_as_it_was(images):
    learner = small(SimCLR, encoder=Constant)
    with pytest.raises(Warning, match="collapsed"):
        learner.fit(images)
    assert not hasattr(learner, "net_")


@pytest.mark.parametrize("optimizer", ["adamw", "lars", "muon", "sgd", torch.optim.RMSprop])
def test_a_rate_beyond_float32_diverges(optimizer, images):
    with pytest.raises(DivergenceError, match="lr=1e\\+39"):
        small(SimCLR, lr=1e39, optimizer=optimizer).fit(images)


# Modes of the network


def test_features_are_those_of_evaluation_after_a_fine_tuning(images):
    """After encoder_.train() they depended on their neighbors, and moved the batch norm."""
    learner = small(SimCLR).fit(images)
    expected = learner.transform(images)
    learner.encoder_.train()
    np.testing.assert_array_equal(learner.transform(images), expected)
    np.testing.assert_array_equal(learner.transform(images[5:6])[0], expected[5])
    assert learner.encoder_.training
    assert learner.encoder_.backbone.conv[1].training


@pytest.mark.slow
def test_workers_that_are_spawned(images, expected):
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        found = pool.apply(fit_transform, (images,))
    np.testing.assert_allclose(found, expected, atol=1e-2)


def fit_transform(X):
    return small(SimCLR).fit_transform(X)
