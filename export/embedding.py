"""How a network parts the classes: features of three depths, t-SNE of them, and two scores beside the picture."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.manifold import TSNE
from sklearn.metrics import balanced_accuracy_score, silhouette_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]
from torch import Tensor

from export.data import normalise
from export.model import ConvCut
from export.recipe import Input

Floats = NDArray[np.float32]
Labels = NDArray[np.int64]

DEPTHS = ("baseline", "truncated", "Conv-cut")
NEIGHBOURS = 5
_SEED = 0
_BATCH = 64


def balanced(labels: Labels, most: int) -> NDArray[np.intp]:
    """Positions of at most ``most`` faces of each class, ascending; the same for the same labels."""
    rng = np.random.default_rng(_SEED)
    chosen = [rng.permutation(np.flatnonzero(labels == k))[:most] for k in np.unique(labels)]
    return np.sort(np.concatenate(chosen))


@torch.inference_mode()
def features(model: ConvCut, faces: Tensor, input: Input) -> dict[str, Floats]:
    """What three depths of a network make of faces, one matrix float32 [N, F] for each of ``DEPTHS``.

    ``baseline``: the pixels, as the network gets them; ``truncated``: the map of the cut trunk, averaged
    over its positions; ``Conv-cut``: what the head sees, behind detail extraction and attention.

    Args:
        model: In evaluation mode.
        faces: uint8 [N, C, S, S].
        input: Of the model's recipe.
    """
    parts: dict[str, list[Tensor]] = {depth: [] for depth in DEPTHS}
    # Attention over the batch would mix the faces that happen to be neighbours.
    size = model.faces_at_once(_BATCH)
    device = next(model.parameters()).device
    for images in normalise(faces.to(device), input).split(size):  # type: ignore[no-untyped-call]
        trunk = model.trunk(images)
        parts["baseline"].append(images.flatten(1))
        parts["truncated"].append(trunk.mean(dim=(2, 3)))
        parts["Conv-cut"].append(model.tail.features(model.detail(trunk)))
    return {depth: torch.cat(tensors).cpu().numpy() for depth, tensors in parts.items()}


def embed(matrix: Floats) -> Floats:
    """Places on a plane float32 [N, 2] by t-SNE (van der Maaten and Hinton, 2008) of standardised features."""
    # Several threads sum in any order, and the picture would never be the same twice.
    with threadpool_limits(1):
        plane: Floats = TSNE(
            perplexity=min(30.0, (len(matrix) - 1) / 3), random_state=_SEED, init="pca"
        ).fit_transform(StandardScaler().fit_transform(matrix))
    return plane


def scores(matrix: Floats, labels: Labels) -> dict[str, float]:
    """How well standardised features [N, F] part their classes: not the picture, which t-SNE may flatter.

    Returns:
        ``silhouette``, -1 ... 1 (Rousseeuw, 1987), and ``neighbours``: the balanced accuracy of the vote of
        each face's five nearest others.
    """
    with threadpool_limits(1):
        scaled = StandardScaler().fit_transform(matrix)
        votes = KNeighborsClassifier(NEIGHBOURS).fit(scaled, labels).predict(None)
        return {
            "silhouette": float(silhouette_score(scaled, labels)),
            "neighbours": float(balanced_accuracy_score(labels, votes)),
        }
