"""What the docstrings of all learners share."""

__all__ = ["fill_docstring"]


_SHARED_PARAMETERS = """
    encoder : str, class or callable, default="<encoder>"
        Network that is pretrained: ``"small_resnet"``, ``"small_vit"``, the name of a torchvision
        classification model (``"resnet18"``), ``"timm/NAME"`` for a model of timm, or a class or
        function that builds a module. It is called with ``in_channels`` and ``image_shape`` if it
        takes arguments of these names.
    weights : str or None, default=None
        Pretrained weights to continue from, by torchvision's names; ``"DEFAULT"`` takes the best
        ones. The first layer is adapted to the number of channels.
    layer : str or None, default=None
        Layer whose features :meth:`transform` gives; see :meth:`encoder_layers`. ``None`` takes the
        last stage but one, which mostly serves other tasks better than the last.
    pool : {"avg", "max"}, int or None, default=3
        How a feature map becomes a vector: its mean or maximum over positions, means over a grid of
        ``pool`` x ``pool`` cells, or all of it. ``layer`` and ``pool`` can be changed on a fitted
        learner.
    image_shape : tuple of int or None, default=None
        Height and width, or height, width and channels, of the images in rows of a 2-D ``X``.
        ``None`` takes squares of one or three channels, else strips of height 1.
    views : Views or None, default=None
        How images are augmented; ``None`` is the recipe of this method.
    max_epochs : int, default=<max_epochs>
        Number of passes over the images. 0 leaves the encoder as it starts, which is the baseline
        to compare with.
    batch_size : int or None, default=None
        Images in a step. ``None`` takes <_usual_batch_size>, but at most a quarter of the images.
    lr : float, default=<lr>
        Largest learning rate. It rises over ``warmup`` and then falls to 0 along half a cosine.
        The default suits ``"adamw"``; ``"sgd"`` wants about ten times and ``"lars"`` a hundred
        times as much.
    weight_decay : float, default=<weight_decay>
        Decay of weights; biases and norms do not decay.
    warmup : float, default=0.1
        Share of the steps in which the learning rate rises.
    optimizer : {"adamw", "sgd", "lars"} or type, default="adamw"
        Optimizer, by name or as a torch optimizer class.
    precision : {"auto", "bfloat16", "float32"}, default="auto"
        Number format of the network's products. ``"auto"`` takes bfloat16 where the hardware
        multiplies it natively.
    device : str or torch.device, default="auto"
        ``"auto"`` takes a GPU when there is one.
    random_state : int, RandomState instance or None, default=None
        Seeds weights, order and views. With an int, fits are reproducible on one machine with one
        number of threads. No global random number generator is touched, also not with ``None``.
    warm_start : bool, default=False
        Whether :meth:`fit` continues from where the last one ended.
    callbacks : list or None, default=None
        Callbacks of skorch, which see the training as ``net_``. The learning rate follows ``lr``
        and ``warmup`` in every step, so a ``LRScheduler`` has no effect.
    verbose : int, default=0
        1 shows a progress bar.
"""


_ATTRIBUTES = """
    net_ : PretextNet
        The trained skorch net; ``net_.module_.task`` is the pretext task with its heads.
    encoder_ : Encoder
        The trained encoder, a torch module that takes images in [0, 1].
    history_ : list of dict
        For each epoch: the terms of the loss, learning rate, seconds, images per second, and the
        feature spread (0 when all features are the same).
    n_epochs_ : int
        Number of epochs that the encoder was trained for.
    image_shape_ : tuple of int
        Height, width and channels of the images.
    device_ : torch.device
        Where the encoder is.
    n_features_in_ : int
        Number of values of an image.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the columns of a data frame.
"""


_DEFAULTS_OF_METHODS = ("encoder", "max_epochs", "lr", "weight_decay", "_usual_batch_size")


def fill_docstring(cls: type) -> None:
    """Put the shared parts in the places of ``<shared parameters>`` and ``<attributes>``."""
    parts = {
        "    <shared parameters>": _SHARED_PARAMETERS.strip("\n"),
        "    <attributes>": _ATTRIBUTES.strip("\n"),
        **{f"<{name}>": str(getattr(cls, name)) for name in _DEFAULTS_OF_METHODS},
    }
    for placeholder, text in parts.items():
        cls.__doc__ = cls.__doc__ and cls.__doc__.replace(placeholder, text)
