"""Settings from several places, the highest first: typed, the environment, a file.

What none of them says is the recipe's, which one of them may name.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cgdcli.errors import ConfigError

Said = Mapping[str, Any]
"""Settings by name."""
OfRecipe = Callable[[Any], Said]
"""All settings as a recipe has them."""
_LENGTHS = {"epochs", "minutes"}  # `of_one_length` takes one out of what was whole


@dataclass(frozen=True)
class Place:
    """Where settings stand.

    Attributes:
        name: in an error's words.
    """

    name: str
    said: Said


def merged(layers: Sequence[Said], of_recipe: OfRecipe) -> dict[str, Any]:
    """Each setting as the first layer has it that says it.

    A recipe holds against a lower layer with another one that is whole: of that, what differs from
    its own recipe stays, the rest was the recipe's word. What is not whole was written by somebody.

    Raises:
        ConfigError: a lower layer names an unknown recipe.
    """
    recipe = next((layer["recipe"] for layer in layers if "recipe" in layer), None)
    said: dict[str, Any] = {}
    for layer in reversed(layers):
        own = layer.get("recipe", recipe)
        said |= layer if own == recipe else _chosen(layer, of_recipe(own))
    return said


def of_one_length(places: Sequence[Place], of_recipe: OfRecipe) -> list[dict[str, Any]]:
    """The same layers with one of `minutes` and `epochs`: whichever the higher place says.

    Raises:
        ConfigError: one place says both.
    """
    layers = [dict(place.said) for place in places]
    for number, (place, said) in enumerate(zip(places, layers, strict=True)):
        is_timed, has_epochs = said.get("minutes", 0) != 0, _says_epochs(said, of_recipe)
        if is_timed and has_epochs:
            raise ConfigError(
                f"{place.name}: both minutes {said['minutes']} and epochs {said['epochs']}; a run "
                "goes by one of them",
                hint="leave one out: --minutes for a time, --epochs for passes over the pictures",
            )
        idle = ["epochs"] if is_timed else []
        idle += ["minutes"] if has_epochs or "minutes" in said else []  # minutes 0: by epochs
        for lower in layers[number + 1 :]:
            for name in idle:
                lower.pop(name, None)
    return layers


def _says_epochs(said: Said, of_recipe: OfRecipe) -> bool:
    if "epochs" not in said:
        return False
    return "recipe" not in said or "epochs" in _chosen(said, of_recipe(said["recipe"]))


def _chosen(layer: Said, recipe: Said) -> Said:
    """What somebody chose of a layer. One that says all there is, as a run's `config.toml`, has
    most of it by its own recipe; of any other each line was written."""
    if not recipe.keys() - _LENGTHS <= layer.keys():
        return layer
    return {name: value for name, value in layer.items() if value != recipe[name]}
