"""
Features of a million files
===========================

Features of many files need not fit into memory: write them to disk in chunks, and open them as an
array. Here there are 500 files; nothing depends on the number.
"""

import tempfile
from pathlib import Path

import numpy as np
from PIL import Image
from skimage import data
from skimage.util import view_as_windows
from sklearn.cluster import MiniBatchKMeans

from sklearn_ssl import PatchDictionary, list_images

# %%
# A folder of JPEG files, and one file that is damaged.

folder = Path(tempfile.mkdtemp())
crops = view_as_windows(data.astronaut(), (96, 96, 3), 18).reshape(-1, 96, 96, 3)[:500]
for i, crop in enumerate(crops):
    Image.fromarray(crop).save(folder / f"{i:04}.jpg")
(folder / "0123.jpg").write_bytes(b"not an image")

# %%
# Learn from some of the files. ``on_error="skip"`` returns NaN for files that cannot be read,
# instead of stopping after hours.

files = list_images(folder)
few = np.random.default_rng(0).choice(len(files), min(len(files), 200), replace=False)
dictionary = PatchDictionary(n_atoms=200, input_size=48, on_error="skip", random_state=0)
dictionary.fit([files[i] for i in few])

# %%
# Encode in chunks. The same code continues after an interruption, if the dictionary was saved:
# chunks that are done have at least one value that is not zero.

size = 100
width = len(dictionary.get_feature_names_out())
path = folder / "features.npy"
if not path.exists():
    np.lib.format.open_memmap(path, mode="w+", dtype=np.float16, shape=(len(files), width))
features = np.lib.format.open_memmap(path, mode="r+")
for start in range(0, len(files), size):
    if not np.any(features[start : start + size]):
        features[start : start + size] = dictionary.transform(files[start : start + size])
        features.flush()
is_read = np.isfinite(features[:, 0])
print(f"{features.shape}, {features.nbytes / 2**20:.0f} MB, {np.sum(~is_read)} file not read")

# %%
# Models with ``partial_fit`` read the array from disk in chunks, too.

clusters = MiniBatchKMeans(10, random_state=0)
for start in range(0, len(files), size):
    chunk = np.asarray(features[start : start + size], dtype=np.float32)
    clusters.partial_fit(chunk[is_read[start : start + size]])
