"""Joint-embedding learners: make embeddings of views agree, without negatives."""

from sklearn_ssl.joint_embedding._barlow_twins import BarlowTwins
from sklearn_ssl.joint_embedding._byol import BYOL
from sklearn_ssl.joint_embedding._dino import DINO
from sklearn_ssl.joint_embedding._distillation import Distillation
from sklearn_ssl.joint_embedding._emp_ssl import EMPSSL
from sklearn_ssl.joint_embedding._frossl import FroSSL
from sklearn_ssl.joint_embedding._ijepa import IJEPA
from sklearn_ssl.joint_embedding._lejepa import LeJEPA
from sklearn_ssl.joint_embedding._simsiam import SimSiam
from sklearn_ssl.joint_embedding._swav import SwAV
from sklearn_ssl.joint_embedding._vicreg import VICReg
from sklearn_ssl.joint_embedding._visreg import VISReg

__all__ = [
    "BYOL",
    "DINO",
    "Distillation",
    "EMPSSL",
    "IJEPA",
    "BarlowTwins",
    "FroSSL",
    "LeJEPA",
    "SimSiam",
    "SwAV",
    "VICReg",
    "VISReg",
]
