"""Pictures and indexes at addresses, against a real S3 server."""

import json

from cli_toys import draw, draw_classes


def embed(cgd, toy, source, output, *more):
    ran = cgd("embed", source, "-o", output, "--model", toy.model, "--json", *more)
    return ran, json.loads(ran.out) if ran.out else {}


def requests(monkeypatch):
    """Objects that are fetched from now on."""
    from s3fs import S3FileSystem

    fetched, get = [], S3FileSystem._get_file

    async def noted(self, path, *args, **kwargs):
        fetched.append(path.partition("/")[2])
        return await get(self, path, *args, **kwargs)

    monkeypatch.setattr(S3FileSystem, "_get_file", noted)
    S3FileSystem.clear_instance_cache()  # one that is open has the method already
    return fetched


def test_a_bucket_is_embedded_and_refreshed_as_a_folder_is(cgd, toy, bucket, tmp_path, monkeypatch):
    draw_classes(tmp_path / "imgs", "red green blue", 3, first=10)
    bucket.put_folder("shop/imgs", tmp_path / "imgs")
    fetched = requests(monkeypatch)
    source, index = f"s3://{bucket.name}/shop/imgs", tmp_path / "f.npy"
    ran, report = embed(cgd, toy, source, index)
    assert (ran.code, report["rows"], report["labels"]) == (0, 9, 3)
    assert sorted(fetched) == bucket.listed()

    # Changed, gone and new: what has not changed is neither fetched nor embedded.
    fetched.clear()
    bucket.put("shop/imgs/red/10.png", draw(tmp_path / "x.png", "red", 77))
    bucket.put("shop/imgs/green/99.png", draw(tmp_path / "x.png", "green", 99))
    bucket.delete("shop/imgs/blue/10.png")
    ran, report = embed(cgd, toy, source, index)
    assert (ran.code, report["rows"], report["embedded"], report["dropped"]) == (0, 9, 2, 2)
    assert sorted(fetched) == ["shop/imgs/green/99.png", "shop/imgs/red/10.png"]

    # On a machine without any copy, too; and nothing of this machine is in the table.
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "another"))
    fetched.clear()
    ran, report = embed(cgd, toy, source, index)
    assert (ran.code, report["embedded"], fetched) == (0, 0, [])
    assert b"cache" not in index.with_suffix(".sqlite").read_bytes()

    ran = cgd("search", tmp_path / "x.png", "--index", index, "--model", toy.model, "-k", "1",
              "--json", "--sheet", tmp_path / "s.png")  # fmt: skip
    (hit,) = json.loads(ran.out)[0]["hits"]
    assert hit["path"] == f"{source}/green/99.png" and hit["label"] == "green"
    assert fetched == ["shop/imgs/green/99.png"]  # for the sheet


def test_one_object_hidden_broken_and_odd_ones(cgd, toy, bucket, tmp_path):
    file = draw(tmp_path / "a.png", "red", 1)
    for key in ("p/a.png", "p/.hidden.png", "p/x//y.png", "p/../../../up.png", "p/notes.txt"):
        bucket.put(key, file)
    bucket.s3.put_object(Bucket=bucket.name, Key="p/broken.png", Body=b"no picture")
    ran, report = embed(cgd, toy, f"s3://{bucket.name}/p/a.png", tmp_path / "one.npy")
    assert (ran.code, report["rows"]) == (0, 1)
    for _ in range(2):
        ran, report = embed(cgd, toy, f"s3://{bucket.name}/p", tmp_path / "all.npy")
        assert (ran.code, report["rows"]) == (3, 1)
        skipped = {skip["path"] for skip in report["skipped"]}
        assert {path.partition("/p/")[2] for path in skipped} == {
            *("broken.png", "x//y.png", "../../../up.png")
        }
    assert report["embedded"] == 0 and not list(tmp_path.rglob("up.png"))


def test_what_cannot_be_reached_is_no_skipped_picture(cgd, toy, bucket, tmp_path, monkeypatch):
    ran, _ = embed(cgd, toy, f"s3://{bucket.name}/nothing", tmp_path / "f.npy")
    assert ran.code == 1 and f"nothing is at `s3://{bucket.name}/nothing`" in ran.err
    ran, _ = embed(cgd, toy, "s3://no-such-bucket-there/x", tmp_path / "f.npy")
    assert ran.code == 1 and "hint:" in ran.err
    ran, _ = embed(cgd, toy, "gs://bucket/x", tmp_path / "f.npy")
    assert ran.code == 2 and "pip install gcsfs" in ran.err
    assert not list(tmp_path.glob("*.npy"))


def test_an_index_at_an_address(cgd, toy, bucket, tmp_path, monkeypatch):
    draw_classes(tmp_path / "imgs", "red green", 3, first=10)
    target, query = f"s3://{bucket.name}/idx/feats.npy", tmp_path / "imgs/red/10.png"
    ran, report = embed(cgd, toy, tmp_path / "imgs", target)
    assert (ran.code, report["rows"], report["index"]) == (0, 6, target)
    assert f"--index {target}" in ran.err
    assert bucket.listed() == ["idx/feats.npy", "idx/feats.sqlite"]
    modified = bucket.modified("idx/feats.npy")
    ran, report = embed(cgd, toy, tmp_path / "imgs", target)
    assert (report["embedded"], bucket.modified("idx/feats.npy")) == (0, modified)  # not sent again

    # Another machine searches, evaluates, inspects, copying once, and refreshes.
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "another"))
    fetched = requests(monkeypatch)
    for line in (
        ("search", query, "--index", target, "--model", toy.model, "--json"),
        ("evaluate", "--index", target),
        ("inspect", target),
        ("inspect", target, "--rows"),
    ):
        ran = cgd(*line)
        assert ran.code == 0, ran.err
        if line[0] == "evaluate":
            assert ran.out.startswith(f"{target}: ")  # and not where its copy is
    assert sorted(fetched) == ["idx/feats.npy", "idx/feats.sqlite"]
    draw(tmp_path / "imgs/green/99.png", "green", 99)
    ran, report = embed(cgd, toy, tmp_path / "imgs", target)
    assert (report["rows"], report["embedded"]) == (7, 1)

    # The first one sees that another index is there now.
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    ran = cgd("search", "row:6", "--index", target, "-k", "1", "--json")
    assert json.loads(ran.out)[0]["hits"][0]["path"].endswith("99.png")


def test_halves_of_two_indexes_are_no_index(cgd, toy, bucket, tmp_path, monkeypatch):
    draw_classes(tmp_path / "imgs", "red green", 3, first=10)
    target = f"s3://{bucket.name}/feats.npy"
    embed(cgd, toy, tmp_path / "imgs", target)
    draw(tmp_path / "imgs/red/10.png", "red", 55)

    # A run that is stopped between its rows and its table.
    from cgdcli.index import remote as sending
    from cgdcli.remote import upload

    def only_rows(file, left):
        if file.suffix == ".sqlite":
            raise KeyboardInterrupt
        upload(file, left)

    with monkeypatch.context() as patched:
        patched.setattr(sending, "upload", only_rows)
        assert cgd("embed", tmp_path / "imgs", "-o", target, "--model", toy.model).code == 130
    with monkeypatch.context() as elsewhere:
        elsewhere.setenv("XDG_CACHE_HOME", str(tmp_path / "another"))
        ran = cgd("search", "row:0", "--index", target)
        assert ran.code == 4 and "not of one index" in ran.err
        assert not list((tmp_path / "another").rglob("*.npy"))
    ran, report = embed(cgd, toy, tmp_path / "imgs", target)
    assert (ran.code, report["embedded"]) == (0, 0)  # sent, and nothing was lost
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "another"))
    assert cgd("search", "row:0", "--index", target).code == 0


def test_what_is_no_index_is_not_written_over(cgd, toy, bucket, tmp_path):
    draw_classes(tmp_path / "imgs", "red", 3)
    (tmp_path / "mine.npy").write_bytes(b"mine")
    bucket.put("mine.npy", tmp_path / "mine.npy")
    target = f"s3://{bucket.name}/mine.npy"
    ran, _ = embed(cgd, toy, tmp_path / "imgs", target)
    assert ran.code == 4 and "nothing is written over it" in ran.err
    assert bucket.bytes("mine.npy") == b"mine" and bucket.listed() == ["mine.npy"]
    ran = cgd("search", "row:0", "--index", f"s3://{bucket.name}/none.npy")
    assert ran.code == 1 and f"no index is at `s3://{bucket.name}/none.npy`" in ran.err


def test_parts_at_an_address_of_pictures_at_one(cgd, toy, bucket, tmp_path, monkeypatch):
    draw_classes(tmp_path / "imgs", "red green", 3, first=10)
    bucket.put_folder("in", tmp_path / "imgs")
    source, target = f"s3://{bucket.name}/in", f"s3://{bucket.name}/out/feats.npy"
    fetched = requests(monkeypatch)
    ran, first = embed(cgd, toy, source, target, "--shard", "0/2")
    assert len(fetched) == first["rows"] < 6 and ran.code == 0
    assert embed(cgd, toy, source, target, "--shard", "1/2")[0].code == 0
    assert sorted(fetched) == [key for key in bucket.listed() if key.startswith("in/")]
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "another"))
    ran = cgd("search", tmp_path / "imgs/red/10.png", "--index", target, "--model", toy.model,
              "-k", "6", "--json")  # fmt: skip
    hits = json.loads(ran.out)[0]["hits"]
    assert len(hits) == 6 and hits[0]["path"] == f"{source}/red/10.png"
    ran = cgd("inspect", target)
    assert ran.code == 0 and "gone" not in ran.out
