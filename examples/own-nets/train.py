"""Trains three nets with PyTorch, and saves them as nets/1.safetensors and so on.

usage: train.py FOLDER, a folder with the images in IDX files, as `repro export data FOLDER` writes.
"""

import pathlib
import sys

import torch
from safetensors.torch import save_file
from torch import nn

WIDTHS = [784, 128, 64, 10]
EPOCHS = 5


def read(split):
    """Returns the images of a split as numbers in [0, 1], [n, 784], and its labels, [n]."""
    folder = pathlib.Path(sys.argv[1])
    images = bytearray((folder / f"{split}-images-idx3-ubyte").read_bytes())
    labels = bytearray((folder / f"{split}-labels-idx1-ubyte").read_bytes())
    images = torch.frombuffer(images, dtype=torch.uint8, offset=16).view(-1, WIDTHS[0]) / 255
    return images, torch.frombuffer(labels, dtype=torch.uint8, offset=8).long()


def train(seed, images, labels):
    """Returns a net that was trained with its own init and shuffles."""
    torch.manual_seed(seed)
    layers = []
    for inputs, outputs in zip(WIDTHS, WIDTHS[1:]):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    net = nn.Sequential(*layers[:-1])
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(images)).split(128):
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(images[batch]), labels[batch]).backward()
            optimizer.step()
    return net


if len(sys.argv) != 2:
    sys.exit(__doc__)
train_images, train_labels = read("train")
test_images, test_labels = read("test")
pathlib.Path("nets").mkdir(exist_ok=True)
for seed in [1, 2, 3]:
    net = train(seed, train_images, train_labels)
    with torch.no_grad():
        wrong = (net(test_images).argmax(1) != test_labels).float().mean().item()
    save_file(net.state_dict(), f"nets/{seed}.safetensors")
    print(f"nets/{seed}.safetensors: test error {100 * wrong:.2f} %")
