"""Near-identical pictures: found after what copies go through, not among different ones."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance

from cgdcli.images import likeness
from cgdcli.images.cropping import Box
from cgdcli.images.likeness import FIELDS, difference_hashes, glance, near_pairs


def picture(number, size=(400, 300)):
    rng = np.random.default_rng(number)
    coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
    return coarse.resize(size, Image.Resampling.BICUBIC)


CHANGES = {
    "recompressed": lambda image: (image, {"quality": 30}),
    "smaller": lambda image: (image.resize((210, 160)), {}),
    "larger": lambda image: (image.resize((900, 700)), {}),
    "brighter": lambda image: (ImageEnhance.Brightness(image).enhance(1.08), {}),
}


@pytest.mark.parametrize("change", CHANGES)
def test_copies_are_found_and_nothing_else(tmp_path, change):
    looks = []
    for number in range(12):
        picture(number).save(tmp_path / "a.jpg", quality=95)
        looks.append(glance(tmp_path / "a.jpg"))
    for number in range(12):
        changed, options = CHANGES[change](picture(number))
        changed.save(tmp_path / "b.jpg", **options)
        looks.append(glance(tmp_path / "b.jpg"))
    fields = np.stack([look.fields for look in looks])
    pairs = [p for i, j in near_pairs(fields, np.arange(24)) for p in zip(i, j, strict=True)]
    assert pairs == [(number, number + 12) for number in range(12)]


def test_blank_in_the_same_places_is_not_alike(tmp_path):
    red, blue = (np.full(FIELDS, 250, np.uint8) for _ in range(2))
    red[90:120:3], blue[92:120:3] = 20, 20  # the same fields, in another colour
    fields = np.stack([red, blue])
    assert np.bitwise_count(difference_hashes(fields)[0] ^ difference_hashes(fields)[1]) <= 4
    assert list(near_pairs(fields, np.arange(2))) == []


def test_the_hash_is_one_bit_for_each_lighter_right_neighbour():
    fields = np.zeros((8, 9, 3), np.uint8)
    fields[2, 5:] = 9  # one step up, in row 2 between columns 4 and 5
    assert difference_hashes(fields.reshape(1, FIELDS)).tolist() == [1 << (63 - (2 * 8 + 4))]


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32), count=st.integers(1, 60), workers=st.sampled_from([1, 3]))
def test_blocks_find_what_a_loop_finds(seed, count, workers):
    rng = np.random.default_rng(seed)
    few = rng.integers(0, 256, (6, FIELDS), dtype=np.uint8)
    noise = rng.integers(0, 9, (count, FIELDS), dtype=np.uint8)
    fields = few[rng.integers(0, 6, count)] // 2 + noise
    groups = rng.integers(0, 4, count)
    hashes = [int(h) for h in difference_hashes(fields)]
    wanted = set()
    for i in range(count):
        for j in range(i + 1, count):
            gap = fields[i].astype(float) - fields[j]
            colour = np.abs(gap - gap.mean()).mean()
            bits = (hashes[i] ^ hashes[j]).bit_count()
            if groups[i] != groups[j] and bits <= likeness.FEW_BITS:
                wanted |= {(i, j)} if colour <= likeness.NEAR_COLOUR else set()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(likeness, "BLOCK_A", 7)
        patch.setattr(likeness, "BLOCK_B", 13)
        patch.setattr(likeness, "PAIRS_AT_ONCE", 5)
        found = [
            pair
            for i, j in near_pairs(fields, groups, workers=workers)
            for pair in zip(i.tolist(), j.tolist(), strict=True)
        ]
    assert len(found) == len(set(found)) and set(found) == wanted


def test_a_glance_tells_broken_files_and_boxes(tmp_path):
    picture(0).save(tmp_path / "p.jpg")
    data = (tmp_path / "p.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(data[: len(data) * 3 // 4])
    assert glance(tmp_path / "p.jpg").reason == ""
    assert "cannot be decoded" in glance(tmp_path / "cut.jpg").reason
    assert "cannot be read" in glance(tmp_path / "gone.jpg").reason
    assert "lies outside" in glance(tmp_path / "p.jpg", Box(400, 0, 410, 9)).reason
    assert glance(tmp_path / "p.jpg", Box(390, 0, 410, 9)).overhang
    assert not glance(tmp_path / "p.jpg", Box(390, 0, 400, 9)).overhang


def test_a_box_is_what_is_looked_at(tmp_path):
    wide = Image.new("RGB", (800, 300))
    wide.paste(picture(0), (0, 0))
    wide.paste(picture(1), (400, 0))
    wide.save(tmp_path / "wide.png")
    picture(1).save(tmp_path / "one.png")
    part = glance(tmp_path / "wide.png", Box(400, 0, 800, 300))
    assert np.array_equal(part.fields, glance(tmp_path / "one.png").fields)
