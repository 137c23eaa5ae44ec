"""Checkpoints shaped as other tools save them, and what their own networks make of a picture.

Names, wrappers and the order of operations were read in each tool's source (the commits are in
`cgdcli/weights/formats`); nothing here uses the product's tables.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torchvision import models

MEAN, STD = [0.41, 0.42, 0.43], [0.21, 0.22, 0.23]
DIM = 24


@dataclass
class Source:
    """What is saved, and the network that saved it: images (B, 3, H, W) to rows (B, D)."""

    content: Any
    embed: Callable[[torch.Tensor], torch.Tensor]


def resnet18() -> nn.Module:
    """A ResNet-18 with statistics of its own."""
    torch.manual_seed(7)
    network = models.resnet18(weights=None)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.weight.data.uniform_(0.5, 1.5)
            module.bias.data.uniform_(-0.3, 0.3)
            module.running_mean.uniform_(-0.1, 0.1)
            module.running_var.uniform_(0.8, 1.2)
    return network.eval()


def trunk_map(network: nn.Module, images: torch.Tensor) -> torch.Tensor:
    return nn.Sequential(*list(network.children())[:-2])(images)


def gem(x: torch.Tensor, p: float) -> torch.Tensor:
    return F.avg_pool2d(x.clamp(min=1e-6).pow(p), x.shape[2:]).pow(1 / p).flatten(1)


def l2n(x: torch.Tensor) -> torch.Tensor:
    return x / (torch.norm(x, p=2, dim=1, keepdim=True) + 1e-6)


def cnnimageretrieval(pooling: str = "gem", *, whitening: bool = True, p: float = 2.71) -> Source:
    """`{meta, state_dict}`, as its published networks are."""
    network = resnet18()
    features = nn.Sequential(*list(network.children())[:-2])
    state = OrderedDict((f"features.{n}", t) for n, t in features.state_dict().items())
    if pooling == "gem":
        state["pool.p"] = torch.ones(1) * p
    whiten = nn.Linear(512, 512)
    if whitening:
        state |= {f"whiten.{n}": t for n, t in whiten.state_dict().items()}
    meta = {
        "architecture": "resnet18",
        "local_whitening": False,
        "pooling": pooling,
        "regional": False,
        "whitening": whitening,
        "mean": MEAN,
        "std": STD,
        "outputdim": 512,
    }

    def embed(images: torch.Tensor) -> torch.Tensor:
        x = features(images)
        pools = {"mac": lambda: x.amax((2, 3)), "spoc": lambda: x.mean((2, 3))}
        o = l2n(gem(x, p) if pooling == "gem" else pools[pooling]())
        return l2n(whiten(o)) if whitening else o

    return Source({"meta": meta, "state_dict": state}, embed)


def deep_image_retrieval(
    pooling: str = "gem",
    *,
    norm_features: bool = False,
    without_fc: bool = False,
    module: bool = True,
    center_bias: float = 0,
) -> Source:
    """`{state_dict, model_options, preprocess}` with the names of DataParallel."""
    network, p = resnet18(), 2.92
    fc = nn.Linear(512, DIM)
    state = OrderedDict((n, t) for n, t in network.state_dict().items() if n[:3] != "fc.")
    if pooling == "gem":
        state["adpool.p"] = torch.ones(1) * p
    state |= {f"fc.{n}": t for n, t in fc.state_dict().items()}
    if module:
        state = OrderedDict((f"module.{n}", t) for n, t in state.items())
    options = {
        "arch": "resnet18_rmac",
        "out_dim": DIM,
        "pooling": pooling,
        "gemp": 3,
        "norm_features": norm_features,
        "without_fc": without_fc,
        "center_bias": center_bias,
    }
    preprocess = {"mean": MEAN, "std": STD, "input_size": 224}

    def embed(images: torch.Tensor) -> torch.Tensor:
        x = trunk_map(network, images)
        pools = {"max": lambda: x.amax((2, 3)), "avg": lambda: x.mean((2, 3))}
        o = gem(x, p) if pooling == "gem" else pools[pooling]()
        o = F.normalize(o) if norm_features else o
        return F.normalize(o if without_fc else fc(o))

    content = {"state_dict": state, "model_options": options, "preprocess": preprocess}
    return Source(content, embed)


class MLP(nn.Module):
    """The embedder of pytorch-metric-learning's examples: its last layer has two names."""

    def __init__(self, sizes: list[int]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for i in range(len(sizes) - 1):
            if i < len(sizes) - 2:
                layers.append(nn.ReLU())
            layers.append(nn.Linear(sizes[i], sizes[i + 1]))
        self.net = nn.Sequential(*layers)
        self.last_linear = self.net[-1]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(x)


EMBEDDERS = {
    "MLP": lambda: MLP([512, DIM]),
    "Linear": lambda: nn.Linear(512, DIM),
    "Linear without bias": lambda: nn.Linear(512, DIM, bias=False),
    "Sequential": lambda: nn.Sequential(nn.Linear(512, DIM)),
}


def pml(embedder: nn.Module) -> tuple[dict, dict, Callable[[torch.Tensor], torch.Tensor]]:
    """State dicts of a trunk and an embedder, and what they make of pictures."""
    trunk = resnet18()
    trunk.fc = nn.Identity()
    embedder = embedder.eval()
    return (
        trunk.state_dict(),
        embedder.state_dict(),
        lambda images: F.normalize(embedder(trunk(images))),
    )


def lightning(*, fc: bool, criterion: bool = True) -> Source:
    """open-metric-learning's `ExtractorModule` in a Lightning checkpoint."""
    network = resnet18()
    network.fc = nn.Linear(512, DIM) if fc else nn.Identity()
    state = OrderedDict((f"model.model.{n}", t) for n, t in network.state_dict().items())
    if criterion:
        state["criterion.weight"] = torch.randn(5, DIM)
    content = {
        "epoch": 3,
        "global_step": 120,
        "pytorch-lightning_version": "2.5.0",
        "state_dict": state,
        "loops": {"fit_loop": {"state_dict": {}}},
        "callbacks": {"ModelCheckpoint{'monitor': 'cmc'}": {"best_model_score": torch.tensor(0.5)}},
        "optimizer_states": [{"state": {0: {"exp_avg": torch.zeros(3)}}, "param_groups": []}],
        "lr_schedulers": [],
        "hparams_name": "kwargs",
        "hyper_parameters": {"lr": 1e-4},
    }
    return Source(content, lambda images: F.normalize(network(images)))


def torchvision_backbone() -> Source:
    """A plain state_dict; its descriptors are ours, so only the map is compared."""
    network = resnet18()
    return Source(network.state_dict(), lambda images: trunk_map(network, images))
