"""Whole Keras models, architecture and weights in one legacy HDF5 file, into checkpoints.

A network of Keras Applications (EfficientNetB0 to B7, ResNet50, VGG16, InceptionV3), an average
pooling and a chain of layers behind it, that `model.save("model.h5")` wrote. What can't be said
with a config here is refused by the layer's name.
"""

from skinjax.keras_import.importing import import_keras

__all__ = ["import_keras"]
