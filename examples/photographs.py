"""Small images to try things on: tiles of photographs that scikit-image and scikit-learn ship."""

import numpy as np
from PIL import Image
from skimage import data
from sklearn.datasets import load_sample_image

NAMES = (
    *("astronaut", "brick", "camera", "cell", "chelsea", "coffee", "coins", "grass", "gravel"),
    *("hubble_deep_field", "immunohistochemistry", "moon", "page", "retina", "rocket", "text"),
)


def load_tiles(side=32, cut=40, most=150):
    """Cut photographs into tiles that do not overlap.

    Parameters
    ----------
    side : int
        Height and width of the images.
    cut : int
        Height and width of the tiles in the photographs, in pixels, before they are resized.
    most : int
        Most tiles of a photograph.

    Returns
    -------
    images : ndarray of shape (n, side, side, 3), uint8
    names : ndarray of shape (n,)
        Photograph that each image was cut from.
    """
    photographs = {name: getattr(data, name)() for name in NAMES}
    photographs["motorcycle"] = data.stereo_motorcycle()[0]
    photographs |= {name: load_sample_image(f"{name}.jpg") for name in ("china", "flower")}
    photographs["retina"] = photographs["retina"][250:1160, 250:1160]  # without its black margin
    images, names = [], []
    for name, pixels in photographs.items():
        photograph = Image.fromarray(pixels).convert("RGB")
        corners = [
            (x, y)
            for y in range(0, photograph.height - cut + 1, cut)
            for x in range(0, photograph.width - cut + 1, cut)
        ]
        for i in np.random.default_rng(0).permutation(len(corners))[:most]:
            x, y = corners[i]
            box = (x, y, x + cut, y + cut)
            tile = photograph.resize((side, side), Image.Resampling.BICUBIC, box)
            images.append(np.asarray(tile))
            names.append(name.split("_")[0])
    return np.stack(images), np.array(names)
