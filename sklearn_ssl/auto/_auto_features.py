"""A transformer that finds good features of images within a time budget."""

import contextlib
import functools
import hashlib
import os
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, Self

import numpy as np
import torch
from joblib import Memory
from sklearn import config_context
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.preprocessing import StandardScaler
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn
from tqdm.auto import tqdm

from sklearn_ssl._labeled._mixins import read_rows, rows_for_scales
from sklearn_ssl._labeled._to_torch import as_module
from sklearn_ssl._utils._estimators import (
    COUNT,
    POSITIVE,
    DeclaredArguments,
    all_or_nothing,
    argument,
    fill_docstring,
    plain,
)
from sklearn_ssl._utils._export import write_onnx
from sklearn_ssl._utils._frames import make_frame
from sklearn_ssl._utils._messages import inner_training, warn, warn_of_interruption
from sklearn_ssl._utils._saving import SavedMixin
from sklearn_ssl._utils._storage import expanded, key_of
from sklearn_ssl._utils._torch import draw_seed, n_processes
from sklearn_ssl.auto._fit_cache import cached_fit
from sklearn_ssl.auto._fit_checkpoint import FitCheckpoint
from sklearn_ssl.auto._plan import Speeds, described, measured, planned, width_of
from sklearn_ssl.auto._weighing import Labels, LeaveOneOut
from sklearn_ssl.base import (
    PretextLearner,
    describe,
    described_arguments,
    is_on,
    read_training_images,
)
from sklearn_ssl.exceptions import (
    ImageReadWarning,
    LittleTrainingWarning,
    MemoryWarning,
    TrainingInterrupted,
)
from sklearn_ssl.fixed import PixelFeatures, PretrainedEncoder
from sklearn_ssl.images import READING, count_images, image_digest, opened, pick, refuse_images

_DEVICE = ("precision", "device", "deterministic")
_FLOOR = 0.01  # of the mean variance, added to that of each feature
_JUDGED = (1024, 512, 256, 128)  # labeled images to choose weights by
_SHARE_TO_JUDGE = 0.04  # of the time, at most
_COMPARED = 64  # images by which a checkpoint is recognized
_ROWS_AT_ONCE = 1024
_RESERVE = 0.02  # of the time, for what is not measured


@dataclass
class _Fit:
    """Input of one call of ``fit`` or ``fit_transform``, and what it goes on with."""

    X: Any
    X_unlabeled: Any
    labels: Labels
    asked: np.ndarray  # rows whose features are returned
    began: float  # on the monotonic clock
    bar: "_Bar"
    checkpoint: FitCheckpoint | None

    def rows(self, places: np.ndarray) -> np.ndarray:
        """Return the rows to encode: those asked for, for scales, and of labels at some places."""
        scales = rows_for_scales(np.arange(count_images(self.X)))
        return np.unique(np.concatenate([self.asked, scales, self.labels.rows[places]]))


class AutoFeatures(
    TransformerMixin,
    SavedMixin,
    DeclaredArguments,
    BaseEstimator,
    like=PretextLearner,
    only={*READING, *_DEVICE, "random_state"},
):
    """Features of images, as good as a given time allows.

    A fit measures the speed of this machine with a few of the images, plans which parts fit into
    the time, and fits them: a :class:`PatchDictionary`, which captures textures and parts, a
    :class:`SimCLR` learner, which captures what images show, pretrained weights if given, a
    :class:`ColorHistogram`, and, if there are labels to choose by, :class:`PixelFeatures`.
    Features are those of all parts, standardized and weighted. With labels, weights are chosen by
    leave-one-out predictions, unless the usual ones are about as good; a part that does not help
    gets none. Whether images may be mirrored is tested, too: in text, digits or hands, left and
    right matter.

    The time includes everything but imports: reading and measuring, all parts, the weights, and the
    features of all images in :meth:`fit_transform`.

    Parameters
    ----------
    time_budget : float, default=300.0
        Seconds that a fit may take.
    plan : dict or None, default=None
        ``plan_`` of another fit, which is repeated without a clock. With the same images, features
        are the same, bit for bit.
    encoder : str, class or callable, default="resnet18"
        Network of the pretrained weights, as in :class:`PretrainedEncoder`.
    weights : str, path or None, default=None
        Pretrained weights to use, frozen, as one more part: their name or a file, as in
        :class:`PretrainedEncoder`. ``None`` uses none.
    max_features : int or None, default=None
        Most features to return; 388 is the smallest value that is allowed.
    max_seconds_per_image : float or None, default=None
        Most seconds per image for :meth:`transform`, averaged over many images.
    checkpoint : str, path or None, default=None
        Folder for what was planned and learned so far. If a fit was interrupted, the same call
        resumes it, with the time that was left.
    memory : str, path, joblib.Memory or None, default=None
        Folder for a cache of fits, shared by all processes: the same images, labels, arguments and
        ``random_state`` give the same fitted parts, without a fit, and ``fit_transform`` the same
        features.
    verbose : int, default=0
        1 shows a progress bar over the time, and what is planned.
    <shared parameters>

    Attributes
    ----------
    parts_ : dict of str to transformer
        Fitted parts that have a weight.
    scalers_ : dict of str to StandardScaler
        Scaling of the features of each part, with its weight.
    weights_ : dict of str to float
        Share of each part in the squared distances between images.
    plan_ : dict
        Everything that was decided: the parts with their arguments, the steps of the learner, the
        weights and the seed.
    n_epochs_ : int
        Number of epochs that the learner was trained, or 0 without one.
    n_features_in_ : int
        Number of values per image.
    feature_names_in_ : ndarray of shape (``n_features_in_``,)
        Column names, if ``X`` was a data frame of pixels.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_ssl import AutoFeatures
    >>> X = load_digits().images
    >>> auto = AutoFeatures(time_budget=2, random_state=0)
    >>> len(auto.fit_transform(X))
    1797
    >>> again = AutoFeatures(plan=auto.plan_).fit_transform(X)
    >>> bool((again == auto.transform(X)).all())
    True
    """

    time_budget: float = argument(POSITIVE, default=300.0, kw_only=False)
    plan: dict | None = argument(dict, None, default=None)
    encoder: Any = argument(str, callable, default="resnet18")
    weights: str | os.PathLike | None = argument(str, os.PathLike, None, default=None)
    max_features: int | None = argument(COUNT, None, default=None)
    max_seconds_per_image: float | None = argument(POSITIVE, None, default=None)
    checkpoint: str | os.PathLike | None = argument(
        str, os.PathLike, None, default=None, writes=True
    )
    memory: str | os.PathLike | Memory | None = argument(
        str, os.PathLike, Memory, None, default=None, writes=True
    )
    verbose: int = argument("verbose", default=0)

    @all_or_nothing
    def fit(self, X: Any, y: Any = None, *, X_unlabeled: Any = None) -> Self:
        """Learn from images, within the time budget.

        Parameters
        ----------
        X : array-like, or images in files
            Images, as for :meth:`PretextLearner.fit <sklearn_ssl.base.PretextLearner.fit>`.
        y : array-like of shape (n,) or (n, k), optional
            Labels or targets by which the weights of the parts are chosen. None, NaN, NA and, for
            labels, -1 mark an image as unlabeled. Numbers are targets if some are not whole, or if
            more than a fifth of them (and a hundred) are different; otherwise, they are classes.
        X_unlabeled : array-like, optional
            More images, without labels.

        Returns
        -------
        self

        Raises
        ------
        ValueError, TypeError
            If an argument, the images or the labels are invalid; the message says what is valid.
        RuntimeError
            If several processes were started together and there is no ``plan``.
        TrainingInterrupted
            After Ctrl-C; it is a KeyboardInterrupt. If the learner was training, the features are
            those that it has learned so far.
        """
        self._fit(X, y, X_unlabeled, wanted="none")
        return self

    @all_or_nothing
    def fit_transform(self, X: Any, y: Any = None, *, X_unlabeled: Any = None) -> np.ndarray:
        """Learn from images, and compute their features, within the time budget.

        Parameters
        ----------
        X : array-like, or images in files
            Images, as for :meth:`fit`.
        y : array-like of shape (n,) or (n, k), optional
            Labels or targets, as for :meth:`fit`.
        X_unlabeled : array-like, optional
            More images, without labels.

        Returns
        -------
        ndarray of shape (n, n_features_out), float32
        """
        return self._fit(X, y, X_unlabeled, wanted="all")

    def _fit(
        self,
        X: Any,
        y: Any,
        X_unlabeled: Any,
        *,
        wanted: str,
        are_numbers: bool | None = None,
        head: Callable[[Speeds, int], tuple[float, float, int | None]] | None = None,
    ) -> np.ndarray:
        """Fit, and return the features of none, all or labeled images.

        Parameters
        ----------
        X, y, X_unlabeled
            As for :meth:`fit`.
        wanted : {"none", "all", "labeled"}
            Images whose features are returned.
        are_numbers : bool, optional
            Whether ``y`` has numeric targets; see Labels.
        head : callable, optional
            Function of the speed of this machine and the number of labels: the seconds that a head
            on the features needs, at least and for each feature, and its largest number of them.
        """
        self._validate_params()
        if self.plan is None and n_processes() > 1:
            raise RuntimeError(
                f"AutoFeatures plans by the clock of one process, but {n_processes()} were started "
                "together; fit it in one process, and give plan=auto.plan_ here"
            )
        began = PretextLearner._start_clock("small_convnet", self.encoder)
        refuse_images(y, X)
        X = opened(X)
        labels, rows = Labels(y, count_images(X), are_numbers), np.arange(count_images(X))
        asked = {"none": rows[:0], "all": rows, "labeled": labels.rows}[wanted]
        with (
            config_context(transform_output="default"),
            contextlib.closing(_Bar(self.time_budget, self.verbose)) as bar,
        ):
            checkpoint = None
            if self.checkpoint is not None:
                path = expanded(self.checkpoint, "checkpoint")
                checkpoint = FitCheckpoint(path, self._identity(X, X_unlabeled, labels), began)
            fit = _Fit(X, X_unlabeled, labels, asked, began, bar, checkpoint)
            if not self._caches_fits():
                return self._fit_now(fit, head)
            reader = PixelFeatures(**self._common())
            images = read_training_images(reader, X, X_unlabeled, continued=False)
            what = {
                "class": type(self).__name__,
                "version": version("sklearn-ssl"),
                "digest": image_digest(images),
                "names": [str(name) for name in getattr(reader, "feature_names_in_", ())],
                "wanted": [wanted, head is not None, are_numbers],
                **{name: str(getattr(self, name)) for name in _DEVICE},
                **self._identity(X, X_unlabeled, labels),
            }
            return cached_fit(
                self,
                self.memory,
                what,
                functools.partial(self._fit_now, fit, head),
                lambda: self.transform(pick(X, asked)),
            )

    def _caches_fits(self) -> bool:
        """Return whether fits are cached; warn if they are not for lack of a seed."""
        is_seeded = self.plan is not None or isinstance(plain(self.random_state), int)
        if is_on(self.memory) and not is_seeded:
            warn(
                "memory= caches nothing, because without an integer as random_state every fit is "
                "a new one; give one to fit only once",
                MemoryWarning,
            )
        return is_on(self.memory) and is_seeded

    def _fit_now(
        self, fit: _Fit, head: Callable[[Speeds, int], tuple[float, float, int | None]] | None
    ) -> np.ndarray:
        """Plan, fit the parts, choose their weights, and return the features that are asked for."""
        plan, deadline, places = self._plan(fit, head)
        rows, asked = fit.rows(places), fit.asked
        try:
            fitted, features, report, interrupted = self._fit_parts(fit, plan, deadline, rows)
        except KeyboardInterrupt:  # not of the learner, which has a checkpoint of its own
            if fit.checkpoint is not None:
                fit.checkpoint.write(plan, deadline)
            raise
        fit.bar.at("weights")
        self._set_fitted(fit, plan, places, rows, fitted, features, report)
        if interrupted is not None:
            warn_of_interruption(self)
            raise interrupted
        if len(asked) < len(rows):
            at = np.searchsorted(rows, asked)
            features = {name: features[name][at] for name in self.weights_}
        return self._joined({name: features.pop(name) for name in self.weights_})

    def _plan(
        self, fit: _Fit, head: Callable[[Speeds, int], tuple[float, float, int | None]] | None
    ) -> tuple[dict[str, Any], float | None, np.ndarray]:
        """Resume a plan, repeat a given one, or make one.

        Returns
        -------
        plan : dict
        deadline : float or None
            Time of the monotonic clock when the learner has to end, if that is not in the plan.
        places : ndarray of int
            Places of the labels to choose weights by.
        """
        labels, checkpoint = fit.labels, fit.checkpoint
        if checkpoint is not None and checkpoint.exists:
            return *checkpoint.read(), labels.some(_JUDGED[0])
        deadline: float | None = None
        if self.plan is not None:
            plan, places = _copied(self.plan), labels.some(_JUDGED[0])
        else:
            fit.bar.at("measuring")
            speeds, mirror = self._measured(fit.X)
            limit = _SHARE_TO_JUDGE * self.time_budget
            few_enough = (n for n in _JUDGED if speeds.of_judging(n) <= limit)
            places = labels.some(next(few_enough, _JUDGED[-1]))
            end = fit.began + float(self.time_budget) * (1 - _RESERVE)
            end -= speeds.of_judging(len(places))
            most = plain(self.max_features)
            a_feature = 0.0
            if head is not None:
                seconds, a_feature, most_of_head = head(speeds, len(labels.rows))
                end -= seconds
                most = min((m for m in (most, most_of_head) if m is not None), default=None)
            n_training, n_rows = count_images(fit.X), len(fit.rows(places))
            if fit.X_unlabeled is not None:
                n_training += count_images(opened(fit.X_unlabeled))
            parts = planned(
                speeds, mirror, end - time.monotonic(), n_training, n_rows, len(places) > 0,
                self._frozen(), most, plain(self.max_seconds_per_image), a_feature,
            )  # fmt: skip
            fit.bar.say(described(parts, speeds, n_training, n_rows))
            plan = {"parts": parts, "seed": draw_seed(self.random_state)}
            deadline = end - a_feature * width_of(parts, speeds)
            if "learner" in parts:
                deadline -= n_rows * speeds.encoding[parts["learner"].encoder] * (1 + mirror)
        if checkpoint is not None:
            checkpoint.write(plan, deadline)
        return plan, deadline, places

    def _measured(self, X: Any) -> tuple[Speeds, bool]:
        """Measure the speed of this machine, and whether images may be mirrored."""
        try:
            with warnings.catch_warnings(action="ignore"):
                return measured(X, self._common(), float(self.time_budget), self._frozen())
        except TrainingInterrupted as error:  # nothing was learned that could be kept
            raise KeyboardInterrupt("interrupted while the speed was measured") from error

    def _identity(self, X: Any, X_unlabeled: Any, labels: Labels) -> dict[str, str]:
        """Return what identifies a fit: arguments, and hashes of some images and of the labels."""
        free = {"checkpoint", "memory", "verbose", "n_jobs", "decoded_cache", "random_state"}
        free |= set(_DEVICE)
        fit = {
            name: str(value)
            for name, value in described_arguments(self).items()
            if name not in free
        }
        fit["time_budget"] = repr(float(self.time_budget))
        if isinstance(seed := plain(self.random_state), int):
            fit["random_state"] = repr(seed)
        if self.plan is not None:
            parts = _copied(self.plan)["parts"].items()
            parts = {name: described_arguments(part) for name, part in parts}
            fit["plan"] = key_of({**describe(self.plan), "parts": parts})
        for name, given in (("X", X), ("X_unlabeled", X_unlabeled)):
            if given is not None:
                n = count_images(given := opened(given))
                some = pick(given, np.unique(np.linspace(0, n - 1, min(n, _COMPARED)).astype(int)))
                pixels = PixelFeatures(**self._common()).fit_transform(some)
                fit[name] = f"{n} images {hashlib.sha256(pixels.tobytes()).hexdigest()[:16]}"
        values = labels.kind, labels.rows.tolist(), labels.values.tolist()
        fit["y"] = hashlib.sha256(repr(values).encode()).hexdigest()[:16]
        return fit

    def _frozen(self) -> PretrainedEncoder | None:
        if self.weights is None:
            return None
        return PretrainedEncoder(encoder=self.encoder, weights=self.weights)

    def _common(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in (*READING, *_DEVICE)}

    def _fit_parts(
        self, fit: _Fit, plan: dict[str, Any], deadline: float | None, rows: np.ndarray
    ) -> tuple[dict[str, Any], dict[str, np.ndarray], list[dict], TrainingInterrupted | None]:
        """Fit the parts of a plan, and encode some rows; complete the plan.

        Returns
        -------
        fitted : dict of str to transformer
        features : dict of str to ndarray of shape (n, d)
        report : list of dict
        interrupted : TrainingInterrupted or None
            Error of a learner that was interrupted.
        """
        images = fit.X if len(rows) == count_images(fit.X) else pick(fit.X, rows)
        fitted: dict[str, Any] = {}
        features, report, interrupted = {}, [], None
        for name, part in plan["parts"].items():
            fit.bar.at(name)
            started = time.monotonic()
            part = clone(part).set_params(**self._common(), random_state=plan["seed"])
            with _told_once(fitted):
                if isinstance(part, PretextLearner):
                    if deadline is not None:
                        part.time_budget = max(deadline - time.monotonic(), 0.1)
                        plan["parts"][name] = clone(part)
                    interrupted = _train(part, plan, fit)
                elif fit.checkpoint is None or not fit.checkpoint.restore_part(part, name):
                    part.fit(fit.X, X_unlabeled=fit.X_unlabeled)
                    if fit.checkpoint is not None:
                        fit.checkpoint.save_part(part, name)
                        fit.checkpoint.write(plan, deadline)
                features[name] = part.transform(images)
            fitted[name] = part
            seconds = time.monotonic() - started
            report.append({"part": name, "seconds": seconds, "width": features[name].shape[1]})
        return fitted, features, report, interrupted

    def _set_fitted(
        self,
        fit: _Fit,
        plan: dict[str, Any],
        places: np.ndarray,
        rows: np.ndarray,
        fitted: dict[str, Any],
        features: dict[str, np.ndarray],
        report: list[dict],
    ) -> None:
        """Choose the weights of the parts, unless the plan has them, and set what was fitted."""
        read = np.logical_and.reduce([read_rows(found) for found in features.values()])

        def those_read(some: np.ndarray) -> np.ndarray:
            at = np.searchsorted(rows, some)
            return at[read[at]]

        scales = those_read(rows_for_scales(np.arange(count_images(fit.X))))
        scalers = {name: StandardScaler().fit(found[scales]) for name, found in features.items()}
        places = places[read[np.searchsorted(rows, fit.labels.rows[places])]]
        judged, parts = those_read(fit.labels.rows[places]), {}
        if len(judged):
            parts = {name: scalers[name].transform(f[judged]) for name, f in features.items()}
        judge = LeaveOneOut(parts, fit.labels, fit.labels.targets(places))
        if "weights" not in plan:
            plan["weights"] = judge.choose(fitted)
        weights = {name: w for name, w in plan["weights"].items() if w > 0}
        width = sum(features[name].shape[1] for name in weights)
        for name, weight in weights.items():
            _weigh(scalers[name], weight, width)
        self.plan_, self.weights_ = plan, weights
        self.parts_ = {name: fitted[name] for name in weights}
        self.scalers_ = {name: scalers[name] for name in weights}
        self.n_epochs_ = fitted["learner"].n_epochs_ if "learner" in fitted else 0
        self._report = [
            {**row, "weight": weights.get(row["part"], 0.0), "score": judge.score(row["part"])}
            for row in report
        ]
        first = next(iter(fitted.values()))
        for name in ("n_features_in_", "feature_names_in_"):
            if hasattr(first, name):
                setattr(self, name, getattr(first, name))
            else:
                self.__dict__.pop(name, None)

    def transform(self, X: Any) -> np.ndarray:
        """Compute the features of images.

        Parameters
        ----------
        X : array-like, or images in files
            Images, as for :meth:`fit`.

        Returns
        -------
        ndarray of shape (n, n_features_out), float32
            NaN for files that cannot be read, with ``on_error="skip"``.
        """
        check_is_fitted(self)
        X, found = opened(X), dict[str, np.ndarray]()
        with config_context(transform_output="default"):
            for name, part in self.parts_.items():
                with _told_once(found):
                    found[name] = part.transform(X)
            return self._joined(found)

    def _joined(self, features: dict[str, np.ndarray]) -> np.ndarray:
        ends = np.cumsum([found.shape[1] for found in features.values()])
        joined = np.empty((len(next(iter(features.values()))), ends[-1]), np.float32)
        for (name, found), end in zip(features.items(), ends, strict=True):
            for start in range(0, len(found), _ROWS_AT_ONCE):  # a scaled copy takes little memory
                rows = slice(start, start + _ROWS_AT_ONCE)
                scaled = self.scalers_[name].transform(found[rows])
                joined[rows, end - found.shape[1] : end] = scaled
        if len(features) > 1:
            joined[np.isnan(joined).any(1)] = np.nan
        return joined

    @property
    def report_(self) -> Any:
        """Data frame with a row for each part: its seconds, width, weight and score.

        The score is the leave-one-out accuracy (for targets, the coefficient of determination) of
        the part alone, or NaN without labels.
        """
        check_is_fitted(self)
        return make_frame(self._report, "pandas")

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Return the feature names: ``dictionary0``, ``learner0`` and so on.

        Parameters
        ----------
        input_features : array-like of str, optional
            Not used.

        Returns
        -------
        ndarray of str, as objects
        """
        check_is_fitted(self)
        widths = {name: scaler.n_features_in_ for name, scaler in self.scalers_.items()}
        return np.asarray([f"{n}{i}" for n, width in widths.items() for i in range(width)], object)

    def to_torch(self) -> nn.Module:
        """Return a pure torch module that computes the features.

        Returns
        -------
        nn.Module
            Module that takes pixels (n, channels, height, width) of any dtype, in the range seen in
            the fit, and returns features (n, n_features_out), float32.
        """
        check_is_fitted(self)
        return _Beside(
            nn.Sequential(as_module(part), as_module(self.scalers_[name]))
            for name, part in self.parts_.items()
        ).eval()

    def export_onnx(self, path: Any) -> None:
        """Write the module from :meth:`to_torch` as an ONNX model, for any number of images.

        Parameters
        ----------
        path : str or path
            File to write; its folder is created if needed.

        Raises
        ------
        ImportError
            If ONNX is not installed: ``pip install 'sklearn-ssl[onnx]'``.
        """
        check_is_fitted(self)
        write_onnx(self.to_torch(), path, self._example(), "pixels", "features")

    def _example(self) -> Any:
        return next(iter(self.parts_.values()))._example()

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "parts_")

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.non_deterministic = self.plan is None  # the number of steps depends on the clock
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags


fill_docstring(AutoFeatures)


class _Beside(nn.Module):
    """Module that joins the features of several modules."""

    def __init__(self, modules: Any):
        super().__init__()
        self.each = nn.ModuleList(modules)

    def forward(self, images: Tensor) -> Tensor:
        return torch.cat([one(images) for one in self.each], 1)


class _Bar:
    """Progress bar over the time, which says which part it is at."""

    def __init__(self, seconds: float, verbose: int):
        self.began = time.monotonic()
        form = "{desc} {percentage:3.0f}%|{bar}| {elapsed} of {total_fmt} s"
        self.bar = tqdm(total=round(seconds), bar_format=form, disable=not verbose)

    def at(self, part: str) -> None:
        """Say which part begins."""
        self.bar.set_description(f"AutoFeatures: {part}")
        self.go_on()

    def say(self, line: str) -> None:
        """Print a line above the bar."""
        if not self.bar.disable:
            self.bar.write(line)

    def go_on(self) -> None:
        """Move on to the present."""
        seconds = min(time.monotonic() - self.began, self.bar.total or 0)
        self.bar.update(seconds - self.bar.n)

    def close(self) -> None:
        """Close the bar, leaving its last line on the screen."""
        self.go_on()
        self.bar.close()


def _train(learner: Any, plan: dict[str, Any], fit: _Fit) -> TrainingInterrupted | None:
    """Train the learner of a plan, and record its steps; return the error if it is interrupted."""
    interrupted = None
    if learner.time_budget is None and "timetable" not in plan:
        raise ValueError(
            "the learner of the plan needs a time_budget, or the plan a timetable; give plan_ of a "
            "fitted AutoFeatures"
        )
    if fit.checkpoint is not None:
        fit.checkpoint.write(plan, None)
        learner.checkpoint = fit.checkpoint.of_learner()
    try:
        with inner_training():
            learner._fit(
                fit.X, fit.X_unlabeled, epochs=0, continued=False,
                timetable=plan.get("timetable", ()), after_step=fit.bar.go_on,
            )  # fmt: skip
    except TrainingInterrupted as error:
        interrupted = error
    learner.checkpoint = None
    progress = learner.net_.progress_
    plan["timetable"] = [tuple(leg) for leg in progress.timetable if leg[0] < progress.done]
    plan["timetable"].append((progress.done, progress.share if interrupted else 1.0))
    return interrupted


@contextlib.contextmanager
def _told_once(before: Any) -> Iterator[None]:
    """Leave out warnings about files that earlier parts reported, and that training was short."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LittleTrainingWarning)
        if before:
            warnings.simplefilter("ignore", ImageReadWarning)
        yield


def _copied(plan: dict[str, Any]) -> dict[str, Any]:
    """Return a copy of a plan, after a check of what it is made of."""
    known = {"parts", "seed", "weights", "timetable"}
    if not {"parts", "seed"} <= plan.keys() <= known or not isinstance(plan["parts"], dict):
        raise ValueError(
            f"plan has the keys {sorted(map(str, plan))}; give plan_ of a fitted AutoFeatures"
        )
    return {**plan, "parts": dict(plan["parts"])}


def _weigh(scaler: StandardScaler, weight: float, width: int) -> None:
    """Scale features such that a part has a weight, and all features together a mean variance of 1.

    A little is added to each variance, so that features that hardly vary do not dominate.
    """
    variances = scaler.var_ + _FLOOR * scaler.var_.mean()
    variances[variances == 0] = 1
    total = (scaler.var_ / variances).sum() or 1.0
    scaler.scale_ = np.sqrt(variances * total / (weight * width))
