"""Our own names, as in a `torch.save` of a `CGD`'s `state_dict`."""

from cgdcli.weights.formats import Beside, Format, Names, Rule
from cgdcli.weights.formats.torchvision_others import family_of


def _recognises(names: Names, beside: Beside) -> bool:
    trunk = {n.removeprefix("backbone.") for n in names if n.startswith("backbone.")}
    return "conv1.weight" in trunk or family_of(trunk) is not None


OWN = Format(
    "cgd",
    _recognises,
    rules=(
        Rule(r"(backbone\.(?:conv1|bn1|layer[1-4])\..+)", r"\1"),
        Rule(
            r"(backbone\.(?:features|trunk_output|stem|layers|blocks|encoder|norm|class_token|conv_"
            r"proj|conv\d|stage\d|inception\d\w|Mixed_\w+|Conv2d_\w+)(?:\..+)?)",
            r"\1",
        ),
        Rule(r"(branches\.\d+\.(?:weight|bias))", r"\1"),
        Rule(r"(exponents\.[GW])", r"\1"),
        Rule(r"(classifier\.(?:batch_norm|linear)\.\w+)", r"\1"),
    ),
)
