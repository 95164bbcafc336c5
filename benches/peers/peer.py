"""The same benchmarks in PyTorch, SciPy and NumPy, on the CPU.

A worker process of `run.py`. It reads one request per line from standard input, {"do": NAME, ...},
and writes one JSON value for each.
"""

import gzip
import json
import os
import sys
import time

import numpy as np
import scipy.linalg
import scipy.optimize
import torch
from torch import nn
from torch.nn import functional

INPUTS, CLASSES, BATCH = 784, 10, 128
RATE, MOMENTUM = 0.01, 0.9
BLOCK = 1024  # images of a block of the Gram matrix: f32 inside, f64 across


def read(name, header):
    """The bytes of an IDX file after its header, compressed or not."""
    path = os.path.join(os.environ["REPRO_DATA"], name)
    with open(path, "rb") if os.path.exists(path) else gzip.open(path + ".gz") as file:
        return np.frombuffer(file.read(), np.uint8, offset=header)


def images(split):
    """Images [n, 784] in [0, 1] and labels [n]."""
    pixels = read(f"{split}-images-idx3-ubyte", 16).reshape(-1, INPUTS)
    x = torch.from_numpy(pixels.astype(np.float32) / 255)
    return x, torch.from_numpy(read(f"{split}-labels-idx1-ubyte", 8).astype(np.int64))


TRAIN, TEST = images("train"), images("t10k")


def model(hidden):
    """A net with these hidden layers: `50`, `512x256`, or `512x256+bias`.

    PyTorch's default init is ours: uniform within +- 1/sqrt(fan-in).
    """
    widths, plus, _ = str(hidden).partition("+bias")
    sizes = [INPUTS, *map(int, widths.split("x")), CLASSES]
    layers = [nn.Linear(a, b, bias=bool(plus)) for a, b in zip(sizes, sizes[1:])]
    return nn.Sequential(*(part for layer in layers for part in (layer, nn.ReLU())))[:-1]


# Training: a step by variant. Each returns a function of the chosen images.


def autograd(hidden, variant):
    """Modules, autograd, optim.SGD. The images are in memory as f32, and no loss is read."""
    net = model(hidden)
    forward = torch.compile(net) if variant == "compile" else net
    fused = {"fused": True}
    options = {"foreach": {"foreach": True}, "fused": fused, "compile": fused}.get(variant, {})
    sgd = torch.optim.SGD(net.parameters(), lr=RATE, momentum=MOMENTUM, **options)
    x, y = TRAIN

    def step(chosen):
        sgd.zero_grad(set_to_none=True)
        functional.cross_entropy(forward(x[chosen]), y[chosen]).backward()
        sgd.step()

    return step


class Curve(nn.Module):
    """A quadratic Bezier curve as dnn-mode-connectivity has it: each layer forms its weights at t.

    Its bend starts in the middle of the two fixed ends.
    """

    def __init__(self, hidden):
        super().__init__()
        self.a, self.b = ([p.detach() for p in model(hidden).parameters()] for _ in range(2))
        self.bend = nn.ParameterList(nn.Parameter((a + b) / 2) for a, b in zip(self.a, self.b))

    def forward(self, x, t):
        last = len(self.bend) - 1
        for k, weights in enumerate(zip(self.a, self.bend, self.b)):
            coefficients = (1 - t) ** 2, 2 * t * (1 - t), t**2
            x = functional.linear(x, sum(c * w for c, w in zip(coefficients, weights)))
            x = x if k == last else functional.relu(x)
        return x


def bezier(hidden, variant):
    """Learns the bend of a curve: autograd, optim.SGD, a t for each batch."""
    curve = Curve(hidden)
    options = {"foreach": {"foreach": True}, "fused": {"fused": True}}.get(variant, {})
    sgd = torch.optim.SGD(curve.parameters(), lr=RATE, momentum=MOMENTUM, **options)
    x, y = TRAIN

    def step(chosen):
        t = np.random.uniform()
        sgd.zero_grad(set_to_none=True)
        functional.cross_entropy(curve(x[chosen], t), y[chosen]).backward()
        sgd.step()

    return step


def by_hand(hidden):
    """Explicit gradients, in place, without autograd: only PyTorch's kernels."""
    w1, w2 = (p.detach() for p in model(hidden).parameters())
    v1, v2 = torch.zeros_like(w1), torch.zeros_like(w2)
    (x, y), rows = TRAIN, torch.arange(BATCH)

    @torch.no_grad()
    def step(chosen):
        x_, y_ = x.index_select(0, chosen), y[chosen]
        a = (x_ @ w1.t()).relu_()
        p = torch.softmax(a @ w2.t(), 1)
        p[rows, y_] -= 1
        p /= BATCH
        g2, z = p.t() @ a, (p @ w2).mul_(a > 0)
        v1.mul_(MOMENTUM).addmm_(z.t(), x_)
        v2.mul_(MOMENTUM).add_(g2)
        w1.add_(v1, alpha=-RATE)
        w2.add_(v2, alpha=-RATE)

    return step


def in_numpy(hidden):
    """The same by hand in NumPy, as scikit-learn's MLPClassifier does it."""
    w1, w2 = (p.detach().numpy() for p in model(hidden).parameters())
    v1, v2 = np.zeros_like(w1), np.zeros_like(w2)
    x, y = (t.numpy() for t in TRAIN)
    rows = np.arange(BATCH)

    def step(chosen):
        chosen = chosen.numpy()
        x_, y_ = x[chosen], y[chosen]
        a = np.maximum(x_ @ w1.T, 0)
        f = a @ w2.T
        p = np.exp(f - f.max(1, keepdims=True))
        p /= p.sum(1, keepdims=True)
        p[rows, y_] -= 1
        p /= BATCH
        g2, z = p.T @ a, (p @ w2) * (a > 0)
        np.multiply(v1, MOMENTUM, out=v1)
        np.add(v1, z.T @ x_, out=v1)
        np.add(MOMENTUM * v2, g2, out=v2)
        np.subtract(w1, RATE * v1, out=w1)
        np.subtract(w2, RATE * v2, out=w2)

    return step


steps = {}


def prepare(hidden, variant, threads):
    """Creates the net of a variant, warms it up, and returns the approximate time of a step."""
    torch.set_num_threads(threads)
    makers = {"by hand": by_hand, "numpy": in_numpy}
    what, _, of_curve = variant.partition(", ")
    if what == "bezier":
        step = bezier(hidden, of_curve)
    else:
        step = makers[variant](hidden) if variant in makers else autograd(hidden, variant)
    steps[hidden, variant] = step
    return min(train(hidden, variant, threads, 10) for _ in range(3)) / 10


def train(hidden, variant, threads, count):
    """Seconds of `count` steps."""
    torch.set_num_threads(threads)
    step = steps[hidden, variant]
    batches = torch.randperm(len(TRAIN[0])).split(BATCH)[:-1]
    start = time.perf_counter()
    for k in range(count):
        step(batches[k % len(batches)])
    return time.perf_counter() - start


# Curves: point by point.


def ends(hidden):
    """Two nets: [W1, W2] of each."""
    torch.manual_seed(0)
    return [[p.detach() for p in model(hidden).parameters()] for _ in range(2)]


def between(a, b, t):
    return [torch.lerp(x, y, t) for x, y in zip(a, b)]


@torch.no_grad()
def curve(hidden, library, threads, count):
    """Seconds per point: error and loss of the net there, on training and test images."""
    torch.set_num_threads(threads)
    a, b = ends(hidden)
    start = time.perf_counter()
    for k in range(count):
        w1, w2 = between(a, b, (k + 0.5) / count)
        for x, y in (TRAIN, TEST):
            quality((features(x, w1, library) @ w2.T), y)
    return (time.perf_counter() - start) / count


def features(x, w1, library):
    if library == "numpy":
        z = x.numpy() @ w1.numpy().T
        return torch.from_numpy(np.maximum(z, 0, out=z))
    return (x @ w1.T).relu_()


def quality(outputs, y):
    loss = functional.cross_entropy(outputs, y).item()
    return loss, (outputs.argmax(1) != y).float().mean().item()


@torch.no_grad()
def refit(hidden, library, threads, count):
    """Seconds of a refitted point, and of a point on the straight segment to B's W2 after it.

    A refit: features of all training images, their Gram matrix in f32 by blocks that are added up
    in f64, Cholesky in f64 with a ridge, then error and loss on training images (from the same
    features) and on test images. On the straight segment the features do not change, and are not
    computed again.
    """
    torch.set_num_threads(threads)
    a, b = ends(hidden)
    (x, y), (x_test, y_test) = TRAIN, TEST
    targets = features(x, a[0], library) @ a[1].T
    start = time.perf_counter()
    for k in range(count):
        w1 = between(a, b, (k + 0.5) / count)[0]
        f, f_test = features(x, w1, library), features(x_test, w1, library)
        gram = torch.zeros(hidden, hidden, dtype=torch.float64)
        right = torch.zeros(hidden, CLASSES, dtype=torch.float64)
        for block, target in zip(f.split(BLOCK), targets.split(BLOCK)):
            if library == "numpy":
                gram += torch.from_numpy(block.numpy().T @ block.numpy())
            else:
                gram += block.T @ block
            right += block.T @ target
        gram.diagonal().add_(1e-8 * gram.trace() / hidden)
        if library == "numpy":
            factor = scipy.linalg.cho_factor(gram.numpy())
            w2 = torch.from_numpy(scipy.linalg.cho_solve(factor, right.numpy())).float().T
        else:
            w2 = torch.cholesky_solve(right, torch.linalg.cholesky(gram)).float().T
        quality(f @ w2.T, y)
        quality(f_test @ w2.T, y_test)
    refitted = (time.perf_counter() - start) / count
    start = time.perf_counter()
    for k in range(count):
        last = torch.lerp(w2, b[1], (k + 1) / count)
        quality(f @ last.T, y)
        quality(f_test @ last.T, y_test)
    return [refitted, (time.perf_counter() - start) / count]


# Assignment.


def uniform(salt, shape):
    """Outputs of splitmix64 from state `salt`, in [0, 1), as in benches/speed/curves.rs."""
    i = np.arange(1, np.prod(shape) + 1, dtype=np.uint64)
    x = np.uint64(salt) + i * np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((x ^ (x >> np.uint64(31))) >> np.uint64(11)).astype(np.float64).reshape(shape) / 2.0**53


def costs(kind, n):
    if kind == "random":
        return uniform(0, (n, n))
    a = uniform(1, (n, 16))
    b = a[(7 * np.arange(n) + 3) % n] + 0.05 * uniform(2, (n, 16))
    total = np.zeros((n, n))
    for k in range(16):
        total += (a[:, None, k] - b[None, :, k]) ** 2
    return total


matrices = {}


def assign(kind, n):
    """Seconds, and the total cost."""
    if (kind, n) not in matrices:
        matrices[kind, n] = costs(kind, n)
    cost = matrices[kind, n]
    start = time.perf_counter()
    rows, columns = scipy.optimize.linear_sum_assignment(cost)
    seconds = time.perf_counter() - start
    return [seconds, cost[rows, columns].sum()]


def versions():
    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    blas = f"{blas['name']} {blas['version']}"
    libraries = {"PyTorch": torch, "SciPy": scipy, "NumPy": np}
    return ", ".join(f"{name} {l.__version__}" for name, l in libraries.items()) + f" ({blas})"


if __name__ == "__main__":
    requests = {f.__name__: f for f in (prepare, train, curve, refit, assign, versions)}
    for line in sys.stdin:
        request = json.loads(line)
        try:
            response = {"result": requests[request.pop("do")](**request)}
        except Exception as error:  # a variant may not work here; `run.py` skips it
            response = {"error": f"{type(error).__name__}: {error}"[:300]}
        print(json.dumps(response), flush=True)
