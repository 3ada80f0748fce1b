"""Self-supervised pretext learners for images, as scikit-learn transformers."""

from sklearn_ssl import exceptions
from sklearn_ssl._discovery import all_estimators
from sklearn_ssl._loading import load
from sklearn_ssl.auto import AutoFeatures
from sklearn_ssl.contrastive import CPC, NNCLR, DeepInfoMax, InstanceDiscrimination, MoCo, SimCLR
from sklearn_ssl.dense import DenseClassifier, PatchCore
from sklearn_ssl.fine_tuning import FineTunedClassifier, FineTunedRegressor
from sklearn_ssl.fixed import ColorHistogram, PatchDictionary, PixelFeatures, PretrainedEncoder
from sklearn_ssl.generative import (
    Autoencoder,
    BiGAN,
    Colorization,
    ContextEncoder,
    DenoisingAutoencoder,
    MaskedAutoencoder,
    SplitBrainAutoencoder,
    VariationalAutoencoder,
)
from sklearn_ssl.images import list_images, load_images
from sklearn_ssl.joint_embedding import (
    BYOL,
    DINO,
    EMPSSL,
    IJEPA,
    BarlowTwins,
    Distillation,
    FroSSL,
    LeJEPA,
    SimSiam,
    SwAV,
    VICReg,
    VISReg,
)
from sklearn_ssl.multitask import MultiTask
from sklearn_ssl.predictive import (
    ExemplarCNN,
    Jigsaw,
    LearningToCount,
    RelativePatchLocation,
    RotationPrediction,
)
from sklearn_ssl.probes import (
    AttentiveProbe,
    KernelProbe,
    KernelRegressor,
    LinearProbe,
    NeighborsProbe,
)
from sklearn_ssl.semi_supervised import SelfSupervisedClassifier, SelfSupervisedRegressor
from sklearn_ssl.training import CheckpointFolder
from sklearn_ssl.views import Views

__version__ = "0.1.0"
__all__ = [
    "AttentiveProbe", "AutoFeatures", "Autoencoder", "BYOL", "BarlowTwins", "BiGAN", "CPC",
    "CheckpointFolder", "ColorHistogram", "Colorization", "ContextEncoder", "DINO", "DeepInfoMax",
    "DenoisingAutoencoder", "DenseClassifier", "Distillation", "EMPSSL", "ExemplarCNN",
    "FineTunedClassifier", "FineTunedRegressor", "FroSSL", "IJEPA", "InstanceDiscrimination",
    "Jigsaw", "KernelProbe", "KernelRegressor", "LeJEPA", "LearningToCount", "LinearProbe",
    "MaskedAutoencoder", "MoCo", "MultiTask", "NNCLR", "NeighborsProbe", "PatchCore",
    "PatchDictionary", "PixelFeatures", "PretrainedEncoder", "RelativePatchLocation",
    "RotationPrediction", "SelfSupervisedClassifier", "SelfSupervisedRegressor", "SimCLR",
    "SimSiam", "SplitBrainAutoencoder", "SwAV", "VICReg", "VISReg", "VariationalAutoencoder",
    "Views", "all_estimators", "exceptions", "list_images", "load", "load_images",
]  # fmt: skip
