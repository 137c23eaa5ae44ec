"""Ranking losses by name: what each is, its published settings, and what it can do.

What is in the core is computed here; the rest by pytorch-metric-learning, the extra `losses`.
"""

from dataclasses import dataclass, field
from math import inf

from cgdcli.config.names import RankingLoss
from cgdcli.errors import ConfigError

# Settings for which 0 means something; all others are above it.
_MAY_BE_ZERO = {"margin", "pos_margin", "neg_margin", "base", "epsilon", "m"}
_WHOLE = {"centers"}


@dataclass(frozen=True)
class LossFacts:
    """One ranking loss.

    Attributes:
        source: where its settings were published.
        settings: by name, with their published values; `--loss-settings` changes them.
        in_core: whether it needs no extra.
        takes_margin: whether `--margin` is its margin.
        has_proxies: whether it compares embeddings with what it learns of the classes, and not
            with each other.
        no_memory: why else embeddings of former batches are of no use to it.
    """

    source: str
    settings: dict[str, float] = field(default_factory=dict)
    in_core: bool = False
    takes_margin: bool = False
    has_proxies: bool = False
    no_memory: str = ""

    @property
    def why_no_memory(self) -> str:
        """Why there is no `--memory` for it; empty where there is."""
        proxies = "compares embeddings with what it learns of the classes, not with each other"
        return proxies if self.has_proxies else self.no_memory


_HERMANS = "Hermans et al. 2017"

LOSSES: dict[RankingLoss, LossFacts] = {
    RankingLoss.batch_hard: LossFacts(_HERMANS, in_core=True, takes_margin=True),
    RankingLoss.batch_all: LossFacts(_HERMANS, in_core=True, takes_margin=True),
    RankingLoss.soft_margin: LossFacts(_HERMANS, in_core=True),
    # epsilon is the miner's; the paper's base 1 is 0.5 in its code.
    RankingLoss.multi_similarity: LossFacts(
        "Wang et al. 2019", {"alpha": 2, "beta": 50, "base": 0.5, "epsilon": 0.1}
    ),
    RankingLoss.contrastive: LossFacts(
        "Hadsell et al. 2006; on unit embeddings, as in XBM",
        {"pos_margin": 0, "neg_margin": 1},
    ),
    # Sampled by distance between the two cutoffs; beta is learned, one a class.
    RankingLoss.margin: LossFacts(
        "Wu et al. 2017", {"margin": 0.2, "beta": 1.2, "cutoff": 0.5, "nonzero_cutoff": 1.4}
    ),
    RankingLoss.circle: LossFacts("Sun et al. 2020", {"m": 0.4, "gamma": 80}),
    RankingLoss.supcon: LossFacts("Khosla et al. 2020", {"temperature": 0.1}),
    RankingLoss.ntxent: LossFacts(
        "Sohn 2016, He et al. 2020",
        {"temperature": 0.07},
        no_memory="takes every positive pair with every negative pair at once, which grows with "
        "the square of the memory (supcon does not)",
    ),
    RankingLoss.proxy_anchor: LossFacts(
        "Kim et al. 2020", {"margin": 0.1, "alpha": 32}, has_proxies=True
    ),
    RankingLoss.arcface: LossFacts(
        "Deng et al. 2019; margin in degrees", {"margin": 28.6, "scale": 64}, has_proxies=True
    ),
    RankingLoss.cosface: LossFacts(
        "Wang et al. 2018", {"margin": 0.35, "scale": 64}, has_proxies=True
    ),
    RankingLoss.soft_triple: LossFacts(
        "Qian et al. 2019",
        {"lambda": 20, "gamma": 0.1, "margin": 0.01, "centers": 10},
        has_proxies=True,
    ),
}


def loss_words() -> str:
    """All of them with their settings, for the help of `--loss`."""
    core = ", ".join(loss for loss, facts in LOSSES.items() if facts.in_core)
    others = ", ".join(
        f"{loss} ({' '.join(f'{k}={v:g}' for k, v in facts.settings.items())})"
        for loss, facts in LOSSES.items()
        if not facts.in_core
    )
    return f"{core} (triplets); with the extra `losses`, at published settings: {others}"


def with_memory() -> list[RankingLoss]:
    """Those that compare with embeddings of former batches."""
    return [loss for loss, facts in LOSSES.items() if not facts.why_no_memory]


def loss_settings(loss: RankingLoss, text: str) -> dict[str, float]:
    """The settings of a loss, those of `text` (`alpha=2,beta=40`) in place of the published.

    Raises:
        ConfigError: no pair of name and number, a name that the loss does not have, or a number
            out of range.
    """
    settings = dict(LOSSES[loss].settings)
    for item in filter(None, (part.strip() for part in text.split(","))):
        name, _, number = (part.strip() for part in item.partition("="))
        try:
            value = float(number)
        except ValueError:
            raise ConfigError(
                f"--loss-settings {text!r}: `{item}` is not NAME=NUMBER",
                hint=f"write them as {_example(loss)}",
            ) from None
        if name not in settings:
            raise ConfigError(
                f"--loss {loss} has no setting {name!r}; {_known(loss)}",
                hint="leave it out of --loss-settings, or choose another --loss",
            )
        _check_number(loss, name, value)
        settings[name] = value
    return settings


def _check_number(loss: RankingLoss, name: str, value: float) -> None:
    if name in _WHOLE:
        fits, rule = value >= 1 and value.is_integer(), "a whole number from 1"
    elif name in _MAY_BE_ZERO:
        fits, rule = 0 <= value < inf, "0 or more"
    else:
        fits, rule = 0 < value < inf, "above 0"
    if not fits:
        raise ConfigError(
            f"--loss-settings {name}={value:g} of {loss} is out of range: {rule}",
            hint=f"published is {LOSSES[loss].settings[name]:g}",
        )


def _known(loss: RankingLoss) -> str:
    settings = LOSSES[loss].settings
    if settings:
        return f"it has {', '.join(settings)}"
    return "its margin is --margin" if LOSSES[loss].takes_margin else "it has none"


def _example(loss: RankingLoss) -> str:
    settings = LOSSES[loss].settings or LOSSES[RankingLoss.multi_similarity].settings
    return ",".join(f"{name}={value:g}" for name, value in list(settings.items())[:2])
