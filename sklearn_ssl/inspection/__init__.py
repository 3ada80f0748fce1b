"""Inspection of learners: reports, comparisons, pictures, and training monitors."""

from sklearn_ssl.inspection._compare import compare, verdict
from sklearn_ssl.inspection._curves import (
    LabelsDisplay,
    LayersDisplay,
    PartsDisplay,
    TrainingDisplay,
)
from sklearn_ssl.inspection._galleries import (
    FeatureMapDisplay,
    NeighborsDisplay,
    ReconstructionDisplay,
    ViewsDisplay,
)
from sklearn_ssl.inspection._report import layer_report

__all__ = [
    "FeatureMapDisplay",
    "LabelsDisplay",
    "LayersDisplay",
    "MeasureMonitor",
    "NeighborsDisplay",
    "PartsDisplay",
    "ProbeMonitor",
    "ReconstructionDisplay",
    "TrainingDisplay",
    "ViewsDisplay",
    "compare",
    "layer_report",
    "verdict",
]


def __dir__() -> list[str]:
    return [*globals(), "MeasureMonitor", "ProbeMonitor"]


def __getattr__(name: str) -> object:
    """Import monitors lazily: they are callbacks of skorch, which is slow to import."""
    if name in ("MeasureMonitor", "ProbeMonitor"):
        from sklearn_ssl.inspection import _monitors

        return getattr(_monitors, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
