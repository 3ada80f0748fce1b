"""Errors and warnings with a name, so that they can be caught or filtered."""

from sklearn.exceptions import ConvergenceWarning

__all__ = [
    "BusyMachineWarning",
    "CheckpointWarning",
    "CollapseWarning",
    "DivergenceError",
    "EncoderWarning",
    "FileFormatWarning",
    "ImageReadError",
    "ImageReadWarning",
    "ImageShapeWarning",
    "InterruptionWarning",
    "LabelWarning",
    "LittleTrainingWarning",
    "MemoryWarning",
    "PixelRangeWarning",
    "ProcessLostError",
    "StaleFeaturesWarning",
    "TrainingInterrupted",
    "UnavailableDeviceWarning",
]


def __dir__() -> list[str]:
    return __all__


class DivergenceError(ArithmeticError):
    """The pretext loss became NaN or infinite; nothing was learned that is worth keeping."""


class ImageReadError(OSError):
    """An image cannot be read: its file is missing, broken, too large, or of an unknown kind."""


class ProcessLostError(RuntimeError):
    """Another process of a training on several is gone, and the training ends on all of them."""


class TrainingInterrupted(KeyboardInterrupt):
    """Ctrl-C during a training; the learner keeps what it has learned so far."""


class BusyMachineWarning(UserWarning):
    """The machine has far more to do than it has cores for, and a training on it is slow."""


class CheckpointWarning(UserWarning):
    """A checkpoint is damaged, and an earlier one was taken."""


class InterruptionWarning(UserWarning):
    """A training was interrupted; the learner has what it learned until then."""


class CollapseWarning(UserWarning):
    """The encoder gives (nearly) the same features for every image."""


class EncoderWarning(UserWarning):
    """An encoder is not quite what its name or its class says: weights or parts are left out."""


class FileFormatWarning(UserWarning):
    """The name of a file ends like those of another format than the one that it is written in."""


class ImageReadWarning(UserWarning):
    """Images were left out because they cannot be read, or changed while they were read."""


class ImageShapeWarning(UserWarning):
    """The shape of the images had to be guessed, or looks wrong."""


class LabelWarning(UserWarning):
    """Labels may mean something else than they are taken for, or classes have too few of them."""


class LittleTrainingWarning(ConvergenceWarning):
    """A training was too short, or had too few images, for much to be learned."""


class MemoryWarning(UserWarning):
    """Results that ``memory`` or ``decoded_cache`` should keep cannot be written or read again."""


class PixelRangeWarning(UserWarning):
    """Images have another range of values than those of the fit."""


class StaleFeaturesWarning(UserWarning):
    """A learner goes on training after features of it were given to others."""


class UnavailableDeviceWarning(UserWarning):
    """A fitted learner was loaded where the device that it asks for is missing."""
