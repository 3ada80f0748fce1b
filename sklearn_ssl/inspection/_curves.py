"""Displays of curves and bars, in the style of scikit-learn."""

import textwrap
from abc import ABC, abstractmethod
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from sklearn_ssl._utils._messages import did_you_mean
from sklearn_ssl.inspection._compare import verdict
from sklearn_ssl.inspection._given import check_axes, check_columns, check_history
from sklearn_ssl.inspection._report import layer_report

_NOT_TERMS = ("epoch", "seconds", "images", "images_per_second")


def pyplot() -> Any:
    """Import matplotlib's pyplot; the error says how to install it."""
    try:
        import matplotlib.pyplot
    except ImportError:
        raise ImportError("pictures need matplotlib: pip install matplotlib") from None
    return matplotlib.pyplot


class Display(ABC):
    """Base of displays on a single pair of axes."""

    def plot(self, ax: Any = None) -> Self:
        """Draw the display.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Axes to draw on; by default those of a new figure.

        Returns
        -------
        self
        """
        self._check()
        if ax is None:
            _, ax = pyplot().subplots(figsize=self._size(), layout="constrained")
        check_axes(ax)
        self._draw(ax)
        self.ax_, self.figure_ = ax, ax.figure
        return self

    @abstractmethod
    def _check(self) -> None:
        """Raise ValueError or TypeError if the arguments cannot be drawn."""

    def _size(self) -> tuple[float, float]:
        """Return the figure size in inches."""
        return 5.5, 3.5

    @abstractmethod
    def _draw(self, ax: Any) -> None:
        """Draw on these axes."""


class TrainingDisplay:
    """Training curves: loss terms, learning rate, feature spread, monitored values.

    Parameters
    ----------
    history : list of dict
        A learner's ``history_``.

    Attributes
    ----------
    ax_ : ndarray of matplotlib Axes
    figure_ : matplotlib Figure

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_ssl import SimCLR
    >>> from sklearn_ssl.inspection import TrainingDisplay
    >>> ssl = SimCLR(max_epochs=2, random_state=0).fit(load_digits().images[:128])
    >>> TrainingDisplay.from_estimator(ssl).ax_.shape
    (3,)
    """

    def __init__(self, history: list[dict[str, Any]]):
        self.history = history

    @classmethod
    def from_estimator(cls, estimator: Any, *, ax: Any = None) -> Self:
        """Draw the curves of a fitted learner.

        Parameters
        ----------
        estimator : PretextLearner
            Fitted learner.
        ax : ndarray of matplotlib Axes, optional
            Axes for each curve; by default those of a new figure.

        Returns
        -------
        TrainingDisplay
        """
        return cls(check_history(estimator)).plot(ax)

    def plot(self, ax: Any = None) -> Self:
        """Draw the display.

        Parameters
        ----------
        ax : ndarray of matplotlib Axes, optional
            Axes for each curve; by default those of a new figure.

        Returns
        -------
        self
        """
        rows = self.history if isinstance(self.history, (list, tuple)) else [None]
        if not all(isinstance(row, dict) for row in rows):
            raise TypeError("history must be a list of one dict per epoch, such as history_")
        names = list(dict.fromkeys(k for row in rows for k in row))
        names = [n for n in names if n not in _NOT_TERMS]
        if not names:
            raise ValueError(f"history has nothing to draw after {len(rows)} epochs")
        names.sort(key=lambda n: n != "train_loss")  # the loss comes first
        if ax is None:
            _, ax = pyplot().subplots(
                1, len(names), figsize=(2.6 * len(names), 2.4), layout="constrained"
            )
        self.ax_ = np.atleast_1d(np.asarray(ax, dtype=object))
        for axes in self.ax_.ravel():
            check_axes(axes)
        if self.ax_.shape != (len(names),):
            raise ValueError(
                f"ax has shape {self.ax_.shape}; give a row of axes for {len(names)} curves"
            )
        for axes, name in zip(self.ax_, names, strict=True):
            points = [(i + 1, row[name]) for i, row in enumerate(self.history) if name in row]
            axes.plot(*zip(*points, strict=True), marker="." if len(points) < 30 else None)
            axes.set(xlabel="epoch", title=name.replace("_", " "))
            axes.spines[["top", "right"]].set_visible(False)
        self.figure_ = self.ax_[0].figure
        return self


class LayersDisplay(Display):
    """Accuracy of a probe by layer and pooling.

    Parameters
    ----------
    report : DataFrame
        Result of :func:`layer_report`.
    value : str, default="accuracy"
        Column to draw.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    """

    def __init__(self, report: Any, value: str = "accuracy"):
        self.report = report
        self.value = value

    @classmethod
    def from_estimator(
        cls, estimator: Any, X: Any, y: Any = None, *, ax: Any = None, **options: Any
    ) -> Self:
        """Make a layer report of a fitted learner, and draw it.

        Parameters
        ----------
        estimator : PretextLearner
            Fitted learner.
        X : array-like
            Images.
        y : array-like of shape (n,), optional
            Labels; without them, RankMe is drawn.
        ax : matplotlib Axes, optional
            Axes to draw on; by default those of a new figure.
        **options
            Arguments of :func:`layer_report`.

        Returns
        -------
        LayersDisplay
        """
        report = layer_report(estimator, X, y, **options)
        return cls(report, "rank_me" if y is None else "accuracy").plot(ax)

    def _check(self) -> None:
        if not isinstance(self.value, str):
            raise TypeError(f"value={self.value!r} must be the name of a column of the report")
        error = ["error"] if self.value == "accuracy" else []
        check_columns(self.report, "report", ["layer", "pool", *error])
        if self.value not in self.report.columns:
            has = list(map(str, self.report.columns))
            raise ValueError(
                f"value={self.value!r} must be a column of the report, which has {', '.join(has)}."
                f"{did_you_mean(self.value, has)}"
            )

    def _draw(self, ax: Any) -> None:
        columns = {name: list(self.report[name]) for name in self.report.columns}
        layers = list(dict.fromkeys(columns["layer"]))
        pools = list(dict.fromkeys(columns["pool"]))
        height = 0.8 / len(pools)
        for i, pool in enumerate(pools):
            rows = [r for r, p in enumerate(columns["pool"]) if p == pool]
            places = [layers.index(columns["layer"][r]) + (i + 0.5) * height - 0.4 for r in rows]
            error = [columns["error"][r] for r in rows] if self.value == "accuracy" else None
            label = f"{pool} x {pool} grid" if isinstance(pool, (int, np.integer)) else str(pool)
            values = [columns[self.value][r] for r in rows]
            ax.barh(places, values, height * 0.9, xerr=error, label=label)
        ax.set(yticks=range(len(layers)), yticklabels=layers, xlabel=self.value.replace("_", " "))
        ax.invert_yaxis()
        ax.spines[["top", "right"]].set_visible(False)
        ax.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))


class LabelsDisplay(Display):
    """Accuracy against the number of labels, and the verdict.

    Error bars are standard errors, over draws of labels, fits and test images together. Learners
    have solid lines, rivals dashed ones.

    Parameters
    ----------
    table : DataFrame
        Result of :func:`compare`.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    """

    def __init__(self, table: Any):
        self.table = table

    @classmethod
    def from_table(cls, table: Any, *, ax: Any = None) -> Self:
        """Draw the result of :func:`compare`.

        Parameters
        ----------
        table : DataFrame
            Result of :func:`compare`.
        ax : matplotlib Axes, optional
            Axes to draw on; by default those of a new figure.

        Returns
        -------
        LabelsDisplay
        """
        return cls(table).plot(ax)

    def _size(self) -> tuple[float, float]:
        return 7.5, 4.5

    def _check(self) -> None:
        check_columns(self.table, "table", ["method", "kind", "n_labels", "accuracy", "error"])
        self.verdict = verdict(self.table)

    def _draw(self, ax: Any) -> None:
        columns = {name: np.asarray(self.table[name]) for name in self.table.columns}
        for method in dict.fromkeys(columns["method"].tolist()):
            mine = columns["method"] == method
            n, accuracy = columns["n_labels"][mine], 100 * columns["accuracy"][mine]
            style = "-" if columns["kind"][mine][0] == "learner" else "--"
            error = 100 * columns["error"][mine]
            ax.errorbar(n, accuracy, error, marker="o", ms=4, ls=style, label=method)
        ticks = sorted(set(columns["n_labels"].tolist()))
        ax.set(xscale="log", xlabel="labels", ylabel="accuracy (%)")
        ax.set_xticks(ticks, [f"{n:,}" for n in ticks])
        ax.minorticks_off()
        ax.spines[["top", "right"]].set_visible(False)
        ax.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
        lines = [textwrap.fill(line, 75) for line in self.verdict.splitlines()]
        ax.set_title("\n".join(lines), loc="left", fontsize="small")


class PartsDisplay(Display):
    """Parts of :class:`AutoFeatures`: the seconds that each took, its weight and its score.

    Parameters
    ----------
    report : DataFrame
        ``report_`` of a fitted :class:`AutoFeatures`.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    """

    def __init__(self, report: Any):
        self.report = report

    @classmethod
    def from_estimator(cls, estimator: Any, *, ax: Any = None) -> Self:
        """Draw the parts of a fitted estimator.

        Parameters
        ----------
        estimator : AutoFeatures, or an estimator that has one as ``learner_``
            Fitted estimator.
        ax : matplotlib Axes, optional
            Axes to draw on; by default those of a new figure.

        Returns
        -------
        PartsDisplay
        """
        if isinstance(estimator, BaseEstimator):
            check_is_fitted(estimator)
        holder = getattr(estimator, "learner_", estimator)
        if isinstance(estimator, type) or not hasattr(holder, "report_"):
            raise TypeError(
                f"estimator={estimator!r} has no report_; give a fitted AutoFeatures, or "
                "SelfSupervisedClassifier(time_budget=...)"
            )
        return cls(holder.report_).plot(ax)

    def _check(self) -> None:
        check_columns(self.report, "report", ["part", "seconds", "width", "weight", "score"])

    def _draw(self, ax: Any) -> None:
        columns = {name: list(self.report[name]) for name in self.report.columns}
        places = np.arange(len(columns["part"]))
        ax.barh(places, columns["seconds"], color="tab:blue")
        for place, width, weight, score in zip(
            places, columns["width"], columns["weight"], columns["score"], strict=True
        ):
            said = [f"{width:,} features", f"weight {weight:.2f}" if weight else "not used"]
            if not np.isnan(score):
                said.append(f"score {score:.2f} alone")
            at = columns["seconds"][place]
            ax.annotate(
                ", ".join(said), (at, place), (4, 0), textcoords="offset points", va="center"
            )
        ax.set(yticks=places, yticklabels=columns["part"], xlabel="seconds")
        ax.set_xlim(0, 2.2 * max(columns["seconds"]))
        ax.invert_yaxis()
        ax.spines[["top", "right"]].set_visible(False)
