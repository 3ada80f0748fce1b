"""Named errors and warnings, to be caught or filtered."""

from sklearn.exceptions import ConvergenceWarning

__all__ = [
    "BusyMachineWarning",
    "CheckpointWarning",
    "CollapseWarning",
    "CrossValidationWarning",
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
    """Error for a pretext loss that became NaN or infinite; nothing useful was learned."""


class ImageReadError(OSError):
    """Error for an unreadable image: its file is missing, broken, too large or of unknown type."""


class ProcessLostError(RuntimeError):
    """Error for a lost process in distributed training, which then ends on all processes."""


class TrainingInterrupted(KeyboardInterrupt):
    """Interruption of training by Ctrl-C; the learner keeps what it has learned so far."""


class BusyMachineWarning(UserWarning):
    """Warning that the machine is overloaded for its number of cores, so training is slow."""


class CheckpointWarning(UserWarning):
    """Warning that a checkpoint is damaged and an earlier one was used."""


class InterruptionWarning(UserWarning):
    """Warning that training was interrupted; the learner keeps what it learned until then."""


class CollapseWarning(UserWarning):
    """Warning that the encoder returns (nearly) the same features for every image."""


class CrossValidationWarning(UserWarning):
    """Warning that a cross-validation may do something other than intended."""


class EncoderWarning(UserWarning):
    """Warning that an encoder differs from its name or class: weights or parts are left out."""


class FileFormatWarning(UserWarning):
    """Warning that a file name has the extension of another format than the one written."""


class ImageReadWarning(UserWarning):
    """Warning that images were left out as unreadable, or changed while they were read."""


class ImageShapeWarning(UserWarning):
    """Warning that the shape of the images had to be guessed or looks wrong."""


class LabelWarning(UserWarning):
    """Warning that labels may be misinterpreted, or that classes have too few of them."""


class LittleTrainingWarning(ConvergenceWarning):
    """Warning that training was too short, or had too few images, to learn much."""


class MemoryWarning(UserWarning):
    """Warning that results cached by ``memory`` or ``decoded_cache`` cannot be written or read."""


class PixelRangeWarning(UserWarning):
    """Warning that images have another range of values than those of the fit."""


class StaleFeaturesWarning(UserWarning):
    """Warning that a learner continues training, so features it returned before are stale."""


class UnavailableDeviceWarning(UserWarning):
    """Warning that a fitted learner was loaded where its requested device is missing."""
