"""Errors and warnings with a name, so that they can be caught or filtered."""

__all__ = [
    "CheckpointWarning",
    "CollapseWarning",
    "DivergenceError",
    "EncoderWarning",
    "ImageReadError",
    "ImageReadWarning",
    "ImageShapeWarning",
    "InterruptionWarning",
    "LabelWarning",
    "MemoryWarning",
    "PixelRangeWarning",
    "ProcessLostError",
    "StaleFeaturesWarning",
    "TrainingInterrupted",
    "UnavailableDeviceWarning",
]


class DivergenceError(ArithmeticError):
    """The pretext loss became NaN or infinite; nothing was learned that is worth keeping."""


class ImageReadError(OSError):
    """An image cannot be read: its file is missing, broken, too large, or of an unknown kind."""


class ProcessLostError(RuntimeError):
    """Another process of a training on several is gone, and the training ends on all of them."""


class TrainingInterrupted(KeyboardInterrupt):
    """Ctrl-C during a training; the learner keeps what it has learned so far."""


class CheckpointWarning(UserWarning):
    """A checkpoint is damaged, and an earlier one was taken."""


class InterruptionWarning(UserWarning):
    """A training was interrupted; the learner has what it learned until then."""


class CollapseWarning(UserWarning):
    """The encoder gives (nearly) the same features for every image."""


class EncoderWarning(UserWarning):
    """An encoder is not quite what its name or its class says: weights or parts are left out."""


class ImageReadWarning(UserWarning):
    """Images were left out because they cannot be read, or changed while they were read."""


class ImageShapeWarning(UserWarning):
    """The shape of the images had to be guessed, or looks wrong."""


class LabelWarning(UserWarning):
    """Labels may mean something else than they are taken for, or classes have too few of them."""


class MemoryWarning(UserWarning):
    """What ``memory`` should keep cannot be kept or written, or what it kept cannot be read."""


class PixelRangeWarning(UserWarning):
    """Images have another range of values than those of the fit."""


class StaleFeaturesWarning(UserWarning):
    """A learner goes on training after features of it were given to others."""


class UnavailableDeviceWarning(UserWarning):
    """A fitted learner was loaded where the device that it asks for is missing."""
