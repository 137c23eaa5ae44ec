"""`--ray` with and without an address."""

import pytest

from cgdcli.cli.optional_values import with_ray_address


@pytest.mark.parametrize(
    ("line", "becomes"),
    [
        ("embed imgs --ray", "embed imgs --ray=auto"),
        ("embed --ray imgs -o f.npy", "embed --ray=auto imgs -o f.npy"),
        ("embed imgs --ray -o f.npy", "embed imgs --ray=auto -o f.npy"),
        ("embed imgs --ray local -q", "embed imgs --ray local -q"),
        ("embed --ray head:6379 imgs", "embed --ray head:6379 imgs"),
        ("embed --ray ray://10.0.0.1:10001", "embed --ray ray://10.0.0.1:10001"),
        ("embed --ray=x imgs", "embed --ray=x imgs"),
        ("embed -- --ray", "embed -- --ray"),
        ("search --ray", "search --ray"),
        ("", ""),
    ],
)
def test_an_address_is_what_looks_like_one(line, becomes):
    assert with_ray_address(line.split()) == becomes.split()


def test_the_command_is_told_either_way(cgd, monkeypatch, tmp_path):
    from cgdcli.embedding import sharing
    from cgdcli.errors import DatasetError

    seen = []

    def note(request, **how):
        seen.append((how["ray"], [str(path) for path in request.sources]))
        raise DatasetError("enough", hint="stop")

    monkeypatch.setattr(sharing, "embed_request", note)
    cgd("embed", "imgs", "-o", tmp_path / "f.npy", "--ray")
    cgd("embed", "--ray", "local", "imgs", "-o", tmp_path / "f.npy")
    cgd("embed", "imgs", "-o", tmp_path / "f.npy")
    monkeypatch.setenv("CGD_EMBED_RAY", "head:6379")
    cgd("embed", "imgs", "-o", tmp_path / "f.npy")
    assert [ray for ray, _ in seen] == ["auto", "local", None, "head:6379"]
    assert all(sources == ["imgs"] for _, sources in seen)
