"""Losses and gradients of two and of four real processes are those of one on the joint batch."""

import contextlib
import copy
import hashlib

import pytest
import torch
from gang import gang
from torch import nn

from cgdcli.config import BatchNorm, CGDConfig, Precision, StrideMode, TrainConfig, Transform
from cgdcli.errors import TrainingError
from cgdcli.model.backbones import make_trunk
from cgdcli.model.cgd import CGD
from cgdcli.training import learner as module
from cgdcli.training.distributed import ALONE, joined
from cgdcli.training.joint import join_batch_norm
from cgdcli.training.learner import Learner
from cgdcli.training.objective import FIGURES

LETTERS = "RSMGCW"
NETWORK = CGDConfig(
    descriptors=LETTERS, embedding_dim=12, classes=4, transform=Transform(image_size=32)
)
NO_LOSS = {"class_weight": 0.0, "ranking_weight": 0.0, "proxy_weight": 0.0}
RANKING = NO_LOSS | {"ranking_weight": 1.0}
CASES = {
    "class": NO_LOSS | {"class_weight": 1.0},
    "triplet": RANKING,
    "batch-all": RANKING | {"loss": "batch-all"},
    "proxy-anchor": RANKING | {"loss": "proxy-anchor"},
    "proxy": NO_LOSS | {"proxy_weight": 1.0},
    "all": {},
    "at rest": {},
    "trained statistics": {"batch_norm": BatchNorm.trained},
}
TOLERANCE = {"float64": 1e-9, "float32": 1e-4}
# Pictures of each process in a step, twelve in all; a process may have none that is readable.
SIZES = {2: [(6, 6), (9, 3), (0, 12)], 4: [(3, 3, 3, 3), (2, 5, 4, 1), (0, 7, 0, 5)]}
PARTS = ("backbone.", "branches.", "classifier.", "proxies", "ranking.")


def runs(size):
    """Precision, case and sizes of everything that is tried."""
    for case in CASES:
        thorough = case in ("all", "trained statistics")
        for sizes in SIZES[size] if thorough else SIZES[size][1:2]:
            yield "float64", case, sizes
        yield "float32", case, SIZES[size][1]


def joint_batch():
    generator = torch.Generator().manual_seed(5)
    pixels = torch.randint(0, 256, (12, 32, 32, 3), generator=generator).byte()
    return pixels, torch.tensor([0, 0, 1, 1, 2, 2, 3, 3, 0, 1, 2, 3])


@contextlib.contextmanager
def computing_in(precision):
    """Everything in that dtype, pixels included."""
    dtype = getattr(torch, precision)
    before, normalize = torch.get_default_dtype(), module.normalize_pixels
    torch.set_default_dtype(dtype)
    module.normalize_pixels = lambda *arguments: normalize(*arguments).to(dtype)
    try:
        yield dtype
    finally:
        torch.set_default_dtype(before)
        module.normalize_pixels = normalize


def network():
    """Two layers for a trunk: the sums over processes are the same, and forty times quicker."""
    torch.manual_seed(0)
    model = CGD(NETWORK)
    model.backbone = nn.Sequential(
        nn.Conv2d(3, 16, 3, stride=4, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Conv2d(16, 512, 3, bias=False),
        nn.BatchNorm2d(512),
        nn.ReLU(),
    )
    return model


def one_pass(model, case, processes, pixels, labels):
    """Figures, and by name the gradients and statistics that one backward pass leaves."""
    config = TrainConfig(image_size=32, embedding_dim=12, descriptors=LETTERS, **CASES[case])
    made = Learner(
        copy.deepcopy(model), config, steps=10, precision=Precision.fp32, processes=processes
    )
    made.to_training()
    losses = made.losses(pixels, labels, resting=case == "at rest")
    losses.total.backward()
    named = [*made.model.named_parameters(), *made.objective.named_parameters()]
    return losses.figures(), {n: p.grad for n, p in named}, dict(made.model.named_buffers())


def difference(found, wanted, part=""):
    """Norm of the difference in norms of what is wanted; None where there is and should be none."""
    names = [name for name in wanted if name.startswith(part)]
    assert [n for n in names if found[n] is None] == [n for n in names if wanted[n] is None]
    names = [name for name in names if wanted[name] is not None]
    if not names:
        return None
    one, other = (torch.cat([t[n].flatten().double() for n in names]) for t in (found, wanted))
    return float((one - other).norm() / other.norm()) if other.any() else float(one.norm())


def relative(found, wanted):
    """Of the figures; the mean distance takes the root of what rounding leaves of 1 - 1."""
    rest = [i for i, name in enumerate(FIGURES) if name != "distance"]
    assert torch.allclose(found, wanted, atol=1e-3)
    return float(((found - wanted).abs() / wanted.abs().clamp(min=1e-12))[rest].max())


def fingerprint(figures, gradients, statistics):
    tensors = [figures, *gradients.values(), *statistics.values()]
    data = b"".join(t.numpy().tobytes() for t in tensors if t is not None)
    return hashlib.sha256(data).hexdigest()


def in_a_process(size):
    """What is off against one process, and a hash of what this one found, for each run."""
    small, answers = network(), {}
    with joined() as processes:
        assert processes.size == size
        for precision, case, sizes in runs(size):
            start = sum(sizes[: processes.rank])
            own = [t[start : start + sizes[processes.rank]] for t in joint_batch()]
            with computing_in(precision) as dtype:
                model = copy.deepcopy(small).to(dtype)
                found = one_pass(model, case, processes, *own)
                off = {}
                if processes.first:
                    wanted = one_pass(model, case, ALONE, *joint_batch())
                    off = {part: difference(found[1], wanted[1], part) for part in PARTS}
                    off["figures"] = relative(found[0], wanted[0])
                    off["statistics"] = difference(found[2], wanted[2])
            answers[precision, case, sizes] = off, fingerprint(*found)
    return answers


@pytest.fixture(scope="module", params=list(SIZES))
def many(request, tmp_path_factory):
    return gang(request.param, in_a_process, tmp_path_factory.mktemp("gang"), request.param)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("precision", TOLERANCE)
def test_losses_and_gradients_are_those_of_one_process(many, precision, case):
    tried = [run for run in many[0] if run[:2] == (precision, case)]
    assert tried
    for run in tried:
        off = many[0][run][0]
        assert off.pop("figures") < TOLERANCE[precision]
        assert (off["backbone."] is None) == (case == "at rest")
        ranks = case in ("triplet", "batch-all", "proxy-anchor")
        assert (off["proxies"] is None) == (ranks or case == "class")
        assert (off["classifier."] is None) == (ranks or case == "proxy")
        assert (off["ranking."] is None) == (case != "proxy-anchor")
        known = {part: value for part, value in off.items() if value is not None}
        assert all(value < TOLERANCE[precision] for value in known.values()), (run, known)


def test_every_process_finds_the_very_same(many):
    for run in many[0]:
        assert len({answers[run][1] for answers in many}) == 1, run


def in_a_timm_process():
    """Map and statistics of this process's part of a batch, with norms that are joined."""
    torch.manual_seed(0)
    trunk = make_trunk("timm:test_efficientnet", StrideMode.standard, 32).double().train()
    images = torch.randn(8, 3, 32, 32, dtype=torch.float64)
    with joined() as processes:
        if not processes.alone:
            join_batch_norm(trunk, torch.device("cpu"))
        part = trunk(images[list(processes.part(len(images)))])
    return part.detach(), dict(trunk.named_buffers()), list(trunk.state_dict())


def test_norms_of_timms_own_kind_keep_their_activation(tmp_path):
    """They hold what follows them; a plain norm in their place would leave it out."""
    pytest.importorskip("timm")
    one, other = gang(2, in_a_timm_process, tmp_path)
    wanted, statistics, names = in_a_timm_process()
    assert torch.allclose(torch.cat([one[0], other[0]]), wanted, rtol=1e-9, atol=1e-12)
    for found in (one, other):
        assert found[2] == names
        assert all(torch.allclose(found[1][n], t, rtol=1e-9) for n, t in statistics.items())


def test_a_norm_that_cannot_be_joined_is_refused():
    trunk = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    with pytest.raises(TrainingError, match="of 1, a BatchNorm1d") as caught:
        join_batch_norm(trunk, torch.device("cpu"))
    assert "--batch-norm frozen" in caught.value.hint
