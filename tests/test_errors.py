"""Expected failures: one base, a hint each, an exit code each; they survive a worker's pickling."""

import pickle

import pytest

from cgdcli import errors
from cgdcli.errors import CGDError, ConfigError, ImageError, MismatchError

KINDS = [k for k in vars(errors).values() if isinstance(k, type) and issubclass(k, CGDError)]


@pytest.mark.parametrize("kind", KINDS, ids=lambda k: k.__name__)
def test_error_survives_pickling(kind):
    again = pickle.loads(pickle.dumps(kind("what", hint="do this")))
    assert type(again) is kind
    assert (again.what, again.hint, str(again)) == ("what", "do this", "what (hint: do this)")


def test_exit_codes_are_those_of_the_contract():
    codes = {kind: kind.exit_code for kind in KINDS}
    assert codes.pop(ConfigError) == 2 and codes.pop(MismatchError) == 4
    assert set(codes.values()) == {1}


def test_hint_is_never_forgotten():
    for kind in set(KINDS) - {ImageError}:
        with pytest.raises(TypeError, match="hint"):
            kind("what")
    assert ImageError("what").hint
