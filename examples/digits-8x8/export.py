"""Exports scikit-learn's `digits` (8 x 8 pixels) to digits.npz.

    pip install scikit-learn && python export.py

A pixel of the original is the number of ink dots in a block of 4 x 4, from 0 to 16; here it is a
byte, 16 being 255. The first 1,437 images are for training and the last 360 for testing.
"""

import numpy
from sklearn.datasets import load_digits

TRAIN = 1437

digits = load_digits()
x = (digits.images * 255 / 16).round().astype("uint8")
y = digits.target.astype("uint8")
numpy.savez_compressed(
    "digits.npz",
    x_train=x[:TRAIN],
    y_train=y[:TRAIN],
    x_test=x[TRAIN:],
    y_test=y[TRAIN:],
)
