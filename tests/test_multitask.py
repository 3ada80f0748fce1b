"""Several tasks on one encoder."""

import copy
import pickle

import numpy as np
import pytest
import torch
from conftest import TinyNet, TinyViT, make_images, random_batch
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from test_tasks import make_task, output_of, run, terms_of, unchanged

from sklearn_ssl import (
    BYOL,
    CPC,
    IJEPA,
    Colorization,
    DeepInfoMax,
    DenoisingAutoencoder,
    Distillation,
    ExemplarCNN,
    InstanceDiscrimination,
    MaskedAutoencoder,
    MoCo,
    MultiTask,
    RotationPrediction,
    SimCLR,
    SplitBrainAutoencoder,
    Views,
)


def two(simclr=1.0, rotation=0.5, **params):
    return [("simclr", SimCLR(**params), simclr), ("rotation", RotationPrediction(), rotation)]


def multi(learners, **params):
    return MultiTask(learners, **{"encoder": TinyNet, "max_epochs": 1, "random_state": 0, **params})


def task_of(learners, **params):
    """A task of 12 x 12 pixels, without batch statistics."""
    return make_task(MultiTask, learners=learners, **params).eval()


# The loss


@pytest.mark.parametrize("weights", [(1.0, 0.5), (0.0, 2.0), (3, 0)])
def test_loss_is_the_weighted_sum(weights):
    images = random_batch(height=12, width=12)
    task = task_of([*two(*weights), ("denoising", DenoisingAutoencoder(), 0.1)])
    terms = run(task, images)
    torch.manual_seed(0)  # each draws its own views, one after the other
    index = torch.arange(6)
    alone = [terms_of(child(images, index)) for child in task.tasks]
    expected = sum(w * child["loss"] for w, child in zip((*weights, 0.1), alone, strict=True))
    torch.testing.assert_close(terms["loss"], expected)
    names = ("simclr", "rotation", "denoising")
    for name, child in zip(names, alone, strict=True):
        for term, value in child.items():
            torch.testing.assert_close(terms[f"{name}__{term}"], value)
    assert terms.keys() == {
        "loss", "simclr__loss", "rotation__loss", "rotation__accuracy", "denoising__loss"
    }  # fmt: skip


def test_children_are_as_they_are_alone():
    learners = [("simclr", SimCLR(temperature=0.7, projection_dim=5), 2.0)]
    images = random_batch(height=12, width=12)
    together = task_of(learners)
    alone = make_task(SimCLR, temperature=0.7, projection_dim=5).eval()
    alone.load_state_dict(together.tasks[0].state_dict())
    expected = run(alone, images)["loss"]
    assert expected.item() > 0
    torch.testing.assert_close(run(together, images)["loss"], 2 * expected)


def test_one_encoder_gets_the_gradients_of_all_once():
    images = random_batch(height=12, width=12)
    task = task_of(two(3.0, 0.5))
    for child in task.tasks:
        assert child.encoder is task.encoder
    parameters = list(task.parameters())
    assert len(parameters) == len({id(p) for p in parameters})
    run(task, images)["loss"].backward()
    encoder = list(task.encoder.parameters())
    torch.manual_seed(0)
    expected = [torch.zeros_like(p) for p in encoder]
    for child, weight in zip(task.tasks, (3.0, 0.5), strict=True):
        loss = child(images, torch.arange(6)).loss
        for total, gradient in zip(expected, torch.autograd.grad(loss, encoder), strict=True):
            total += weight * gradient
    torch.testing.assert_close([p.grad for p in encoder], expected, rtol=1e-4, atol=1e-6)


def test_the_optimizer_has_each_parameter_once():
    learner = multi(two(), optimizer="sgd", max_epochs=0).fit(make_images())
    held = [p for group in learner.net_.optimizer_.param_groups for p in group["params"]]
    assert len(held) == len({id(p) for p in held})
    assert {id(p) for p in learner.encoder_.parameters()} <= {id(p) for p in held}


def test_children_take_their_own_steps():
    """Queues and averages of each move after a step."""
    task = task_of([("byol", BYOL(momentum=0.5), 1.0), ("moco", MoCo(momentum=0.5), 1.0)])
    before = copy.deepcopy(task.state_dict())
    with torch.no_grad():
        for p in task.encoder.parameters():
            p += 1
        task.after_step(output_of(task, random_batch(height=12, width=12)), 0.5)
    changed = [k for k, old in before.items() if not torch.equal(old, task.state_dict()[k])]
    for name in ("tasks.0.target_encoder", "tasks.1.key_encoder", "tasks.1.queue.vectors"):
        assert any(key.startswith(name) for key in changed), name


def test_views_belong_to_children():
    flips, resized = Views(flip=1.0), unchanged(6)
    task = task_of([("a", SimCLR(views=flips), 1.0), ("b", SimCLR(views=resized), 1.0)])
    assert [child.views.views.flip for child in task.tasks] == [1.0, 0]
    assert [child.views.views.size_for((12, 12, 3)) for child in task.tasks] == [(12, 12), (6, 6)]


# Fitting


def test_views_of_all_are_those_of_children_without():
    learners = [("a", SimCLR(), 1.0), ("b", SimCLR(views=Views(size=5)), 1.0)]
    task = task_of(learners, views=Views(size=7))
    assert [child.views.views.size for child in task.tasks] == [7, 5]
    assert learners[0][1].views is None


def test_history_has_the_terms_of_every_child():
    learner = multi(two(1.5, 0.25), max_epochs=2).fit(make_images())
    assert len(learner.history_) == 2
    for row in learner.history_:
        assert row.keys() >= {"simclr__loss", "rotation__loss", "rotation__accuracy"}
        expected = 1.5 * row["simclr__loss"] + 0.25 * row["rotation__loss"]
        assert row["train_loss"] == pytest.approx(expected, rel=1e-4)


def test_transformers_share_an_encoder():
    learners = [("mae", MaskedAutoencoder(), 1.0), ("ijepa", IJEPA(n_targets=2), 1.0)]
    learner = multi(learners, encoder=TinyViT).fit(make_images())
    assert learner.history_[0].keys() >= {"mae__loss", "ijepa__loss"}
    assert learner.transform(make_images()).shape == (48, 16 * 9)
    small_vit = multi(learners, encoder="small_vit", max_epochs=0).fit(make_images(12))
    for child in small_vit.net_.module_.task.tasks:
        assert child.encoder is small_vit.encoder_
    with pytest.raises(ValueError, match=r"MaskedAutoencoder .*encoder='small_vit'"):
        multi(learners).fit(make_images())


def test_pickle_and_warm_start():
    X = make_images()
    learner = multi(two(), warm_start=True).fit(X)
    again = pickle.loads(pickle.dumps(learner))
    assert np.array_equal(again.transform(X), learner.transform(X))
    task = again.net_.module_.task
    assert all(child.encoder is task.encoder for child in task.tasks)
    assert np.array_equal(again.fit(X).transform(X), learner.fit(X).transform(X))
    assert again.n_epochs_ == 2
    again.set_params(simclr__lr=0.5, rotation__verbose=1).fit(X)  # which are not used
    with pytest.raises(ValueError, match="simclr__temperature changed"):
        again.set_params(simclr__temperature=0.1).fit(X)


@pytest.mark.parametrize(
    "child", [ExemplarCNN(loss="softmax"), InstanceDiscrimination()], ids=["exemplar", "instance"]
)
def test_children_that_keep_something_of_images_need_the_same_ones(child):
    learner = multi([*two(), ("child", child, 1.0)], warm_start=True).fit(make_images())
    with pytest.raises(ValueError, match="stores something for each image"):
        learner.fit(make_images(40))


def test_fit_depends_on_random_state_alone():
    X = make_images()
    first, again, other = (
        multi(two(), random_state=seed).fit(X).transform(X) for seed in (0, 0, 1)
    )
    assert np.array_equal(first, again)
    assert not np.allclose(first, other)


def test_children_are_not_fitted_or_changed():
    learners = two(views=Views())
    before = [copy.deepcopy(child.get_params(deep=False)) for _, child, _ in learners]
    multi(learners).fit(make_images())
    for (_, child, _), params in zip(learners, before, strict=True):
        assert not hasattr(child, "net_")
        assert repr(child.get_params(deep=False)) == repr(params)
    assert learners[0][1].views.size is None


# Parameters


def test_params_of_children_and_weights():
    learner = multi(two(temperature=0.3))
    params = learner.get_params()
    assert params["simclr"] is learner.learners[0][1]
    assert params["simclr__temperature"] == 0.3
    assert (params["simclr__weight"], params["rotation__weight"]) == (1.0, 0.5)
    assert not any("__" in name or name == "simclr" for name in learner.get_params(deep=False))

    same = learner.set_params(simclr__temperature=0.1, rotation__weight=2.0, lr=0.5)
    assert same is learner
    assert learner.learners[0][1].temperature == 0.1
    assert [(name, weight) for name, _, weight in learner.learners] == [
        ("simclr", 1.0), ("rotation", 2.0)
    ]  # fmt: skip
    assert learner.lr == 0.5

    learner.set_params(rotation=BYOL(), rotation__momentum=0.7, rotation__weight=4.0)
    name, child, weight = learner.learners[1]
    assert (name, type(child), child.momentum, weight) == ("rotation", BYOL, 0.7, 4.0)
    learner.set_params(learners=[("new", SimCLR(), 1.0)], new__weight=3.0, new__temperature=0.9)
    assert learner.get_params()["new__weight"] == 3.0
    assert learner.get_params()["new__temperature"] == 0.9
    for unknown in ("simclr__weight", "new__nonsense", "nonsense"):
        with pytest.raises(ValueError, match="Invalid parameter"):
            learner.set_params(**{unknown: 1})


def test_clones_share_nothing():
    learner = multi(two(temperature=0.3)).set_params(simclr__weight=4.0)
    copied = clone(learner)
    assert copied.get_params()["simclr__weight"] == 4.0
    assert copied.get_params()["simclr__temperature"] == 0.3
    copied.set_params(simclr__temperature=0.9, simclr__weight=9.0)
    assert learner.get_params()["simclr__weight"] == 4.0
    assert learner.get_params()["simclr__temperature"] == 0.3


def test_grid_search_over_children_and_weights():
    grid = {"simclr__temperature": [0.1, 0.5], "simclr__weight": [0.5, 1.0]}
    search = GridSearchCV(multi(two(2.0)), grid, cv=2).fit(make_images())
    assert len(search.cv_results_["params"]) == 4
    assert len(set(search.cv_results_["mean_test_score"])) == 4  # each makes a difference
    best = search.best_estimator_.get_params()
    assert all(best[name] == value for name, value in search.best_params_.items())


# What is refused


@pytest.mark.parametrize(
    ("learners", "reason"),
    [
        ([("child", CPC(), 1.0)], "CPC .'child'. .* fit it alone"),
        ([("child", Colorization(), 1.0)], "Colorization .'child'. .* fit it alone"),
        ([("child", SplitBrainAutoencoder(), 1.0)], "SplitBrainAutoencoder .* fit it alone"),
        ([("child", Distillation(SimCLR()), 1.0)], "Distillation .'child'. .* fit it alone"),
        ([("a", SimCLR(encoder="resnet18"), 1.0)], "'a' has encoder='resnet18', but one .* shared"),
        ([("a", SimCLR(), 1.0), ("a", BYOL(), 1.0)], "not unique"),
        ([("a", SimCLR(weights="DEFAULT"), 1.0)], "'a' has weights='DEFAULT', but one .* shared"),
        ([("a", DeepInfoMax(local_layer="x"), 1.0)], "'a' cannot take part: .*'x' .* conv, out"),
        ([("a__b", SimCLR(), 1.0)], "__"),
        ([("lr", SimCLR(), 1.0)], "conflict"),
        ([(3, SimCLR(), 1.0)], "name"),
        ([("a", SimCLR(), -0.1), ("b", BYOL(), 1.0)], "not negative"),
        ([("a", SimCLR(), 0.0)], "above 0"),
        ([("a", SimCLR(), "heavy")], "weight"),
        ([("a", SimCLR(), None)], "weight"),
        ([("a", SimCLR(), float("nan"))], "weight"),
        ([("a", SimCLR(), float("inf"))], "weight"),
        ([], "list of .name, learner, weight."),
        ([("a", SimCLR())], "list of .name, learner, weight."),
        ([SimCLR(), BYOL()], "list of .name, learner, weight."),
        ([("a", TinyNet, 1.0)], "list of .name, learner, weight."),
        ("simclr", "'learners' parameter"),
        (None, "'learners' parameter"),
        ({"a": SimCLR()}, "'learners' parameter"),
        ([("a", SimCLR(temperature=-1), 1.0)], "'temperature' parameter"),
        ([("a", SimCLR(views=Views(flip=2)), 1.0)], "'flip' parameter"),
    ],
)
def test_unusable_learners_are_refused_with_a_reason(learners, reason):
    learner = multi(learners)
    with pytest.raises((ValueError, TypeError), match=reason):
        learner.fit(make_images(12))
    assert not hasattr(learner, "net_")


@pytest.mark.parametrize("learners", ["simclr", None, [], [("a", SimCLR())], {"a": SimCLR()}])
def test_unusable_learners_can_be_looked_at(learners):
    assert multi(learners).get_params()["learners"] is learners
    repr(multi(learners))


def test_a_child_may_have_the_same_encoder():
    task = task_of([("simclr", SimCLR(encoder=TinyNet), 1.0)], encoder=TinyNet)
    assert task.tasks[0].encoder is task.encoder
