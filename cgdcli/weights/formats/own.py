"""Our own names, as in a `torch.save` of a `CGD`'s `state_dict`."""

from cgdcli.weights.formats import Beside, Format, Names, Rule


def _recognises(names: Names, beside: Beside) -> bool:
    return "backbone.conv1.weight" in names


OWN = Format(
    "cgd",
    _recognises,
    rules=(
        Rule(r"(backbone\.(?:conv1|bn1|layer[1-4])\..+)", r"\1"),
        Rule(r"(branches\.\d+\.(?:weight|bias))", r"\1"),
        Rule(r"(exponents\.[GW])", r"\1"),
        Rule(r"(classifier\.(?:batch_norm|linear)\.\w+)", r"\1"),
    ),
)
