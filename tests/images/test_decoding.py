"""Every kind of picture becomes upright RGB, and what is no picture says why."""

import hashlib
import io
import struct
import sys
import zlib
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from cgdcli.errors import ImageError
from cgdcli.images import decoding
from cgdcli.images.decoding import decode_image, pixel_limit, read_image, to_rgb

RNG = np.random.default_rng(0)
COLOURS = RNG.integers(0, 256, (6, 9, 3), dtype=np.uint8)
RGB = Image.fromarray(COLOURS)


def saved(image, kind="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def decoded(data):
    image = decode_image(data)
    assert image.mode == "RGB"
    return np.asarray(image)


def grey(values):
    return np.repeat(np.asarray(values, dtype=np.uint8)[..., None], 3, axis=2)


def test_rgb_comes_through_untouched():
    assert np.array_equal(decoded(saved(RGB)), COLOURS)


def test_grey_is_repeated():
    assert np.array_equal(decoded(saved(RGB.convert("L"))), grey(RGB.convert("L")))


def test_one_bit_is_black_and_white():
    bits = COLOURS[..., 0] > 127
    assert np.array_equal(decoded(saved(Image.fromarray(bits))), grey(bits * 255))


def test_cmyk_jpeg_is_read_near_its_rgb():
    smooth = np.zeros((16, 16, 3), np.uint8)
    smooth[..., 0], smooth[..., 1] = 200, 60
    data = saved(Image.fromarray(smooth).convert("CMYK"), "JPEG", quality=95)
    assert Image.open(io.BytesIO(data)).mode == "CMYK"
    assert np.abs(decoded(data).astype(int) - smooth).max() < 8


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_are_scaled_not_clipped(kind):
    values = np.array([[0, 257, 32768, 65535], [128, 255, 256, 40000]], dtype=np.uint16)
    found = decoded(saved(Image.fromarray(values), kind))
    assert np.abs(found - grey(np.rint(values / 257))).max() == 0


def test_integers_are_read_by_their_range():
    for values, expected in (
        ([[0, 100, 255]], [[0, 100, 255]]),
        ([[0, 25700, 65535]], [[0, 100, 255]]),
        ([[-5, 0, 5]], [[0, 128, 255]]),
    ):
        found = np.asarray(to_rgb(Image.fromarray(np.array(values, dtype=np.int32))))
        assert np.abs(found.astype(int) - grey(expected)).max() <= 1


def test_floats_are_read_by_their_range():
    for values, expected in (
        ([[0.0, 0.5, 1.0]], [[0, 128, 255]]),
        ([[0.0, 100.0, 255.0]], [[0, 100, 255]]),
        ([[-1.0, 0.0, 1.0]], [[0, 128, 255]]),
    ):
        found = np.asarray(to_rgb(Image.fromarray(np.array(values, dtype=np.float32))))
        assert np.abs(found.astype(int) - grey(expected)).max() <= 1


def test_float_tiff_with_nan_and_infinity_is_read():
    values = np.array([[0.0, 1.0, np.nan, np.inf]], dtype=np.float32)
    assert decoded(saved(Image.fromarray(values), "TIFF"))[0, :2, 0].tolist() == [0, 255]


def test_palette_gives_its_colours():
    image = RGB.quantize(16)
    assert np.array_equal(decoded(saved(image)), np.asarray(image.convert("RGB")))


def test_palette_with_transparency_is_laid_on_white():
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putdata([0, 1])
    assert decoded(saved(image, transparency=0)).tolist() == [[[255] * 3, [200, 100, 50]]]


def test_rgb_with_a_transparent_colour_is_laid_on_white():
    image = Image.new("RGB", (2, 1), (1, 2, 3))
    image.putpixel((1, 0), (9, 9, 9))
    assert decoded(saved(image, transparency=(1, 2, 3))).tolist() == [[[255] * 3, [9, 9, 9]]]


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_alpha_is_laid_on_white(mode):
    pixels = [(0,) * (len(mode) - 1) + (alpha,) for alpha in (0, 128, 255)]
    image = Image.new(mode, (3, 1))
    image.putdata(pixels)
    found = decoded(saved(image))[0, :, 0].astype(int)
    assert np.abs(found - [255, 127, 0]).max() <= 1


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_first_frame_of_an_animation_is_taken(kind):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "lime", "blue")]
    options = {"save_all": True, "append_images": frames[1:], "duration": 50}
    data = saved(frames[0], kind, **options | ({"lossless": True} if kind == "WEBP" else {}))
    assert Image.open(io.BytesIO(data)).n_frames == 3
    assert np.array_equal(decoded(data), np.asarray(frames[0]))


# EXIF 2.3, tag 274: where row 0 and column 0 of the stored picture are when seen upright.
UPRIGHT = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: np.rot90(a, 1),
}


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_exif_orientation_is_applied(kind, orientation):
    exif = Image.Exif()
    exif[274] = orientation
    data = saved(RGB, kind, exif=exif, **({"lossless": True} if kind == "WEBP" else {}))
    assert np.array_equal(decoded(data), UPRIGHT[orientation](COLOURS))


def test_exif_orientation_of_a_jpeg_is_applied_to_its_size():
    exif = Image.Exif()
    exif[274] = 6
    assert decode_image(saved(RGB, "JPEG", exif=exif)).size == (6, 9)


@pytest.mark.parametrize("value", [0, 9, 200])
def test_nonsense_orientation_is_ignored(value):
    exif = Image.Exif()
    exif[274] = value
    assert np.array_equal(decoded(saved(RGB, exif=exif)), COLOURS)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"])
def test_one_pixel_is_a_picture(kind):
    assert decoded(saved(Image.new("RGB", (1, 1), "red"), kind)).shape == (1, 1, 3)


def failure(data, name="x.jpg"):
    with pytest.raises(ImageError) as caught:
        decode_image(data, name)
    assert f"`{name}`" in caught.value.what and caught.value.hint
    return caught.value.what


def test_zero_bytes_are_an_empty_file():
    assert "0 bytes" in failure(b"")


@pytest.mark.parametrize("data", [b"just a text\n", b"\x00" * 100, b"<svg></svg>", b"%PDF-1.4"])
def test_what_is_no_picture_is_refused(data):
    assert "not a picture" in failure(data)


def test_truncated_jpeg_is_refused():
    noise = Image.fromarray(RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8))
    data = saved(noise, "JPEG")
    assert "cannot be decoded" in failure(data[: len(data) // 2])


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP"])
def test_any_cut_is_an_image_error_or_a_picture(kind):
    data = saved(Image.fromarray(RNG.integers(0, 256, (32, 32, 3), dtype=np.uint8)), kind)
    refused = 0
    for stop in range(1, len(data), max(1, len(data) // 40)):
        try:
            assert decode_image(data[:stop]).mode == "RGB"
        except ImageError:
            refused += 1
    assert refused > 20


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP"])
def test_any_flipped_bytes_are_an_image_error_or_a_picture(kind):
    data = saved(Image.fromarray(COLOURS), kind)
    rng = np.random.default_rng(1)
    for _ in range(60):
        damaged = bytearray(data)
        for place in rng.integers(0, len(data), 4):
            damaged[place] = int(rng.integers(0, 256))
        try:
            assert decode_image(bytes(damaged)).mode == "RGB"
        except ImageError as error:
            assert "`picture`" in error.what


def chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def test_a_bomb_is_refused_unread():
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")
    said = failure(data)
    assert "3,600 megapixels, more than 179" in said and "--max-megapixels" in said


def test_the_limit_of_pixels_is_set_for_a_while():
    data = saved(Image.fromarray(np.zeros((40, 50, 3), np.uint8)))
    with pixel_limit(0.001):
        assert "0.002 megapixels" in failure(data)
    with pixel_limit(0.002):
        assert decoded(data).shape == (40, 50, 3)
    assert decoded(data).shape == (40, 50, 3)


@pytest.mark.parametrize(("suffix", "package"), [("heic", "pillow-heif"), ("jxl", "pillow-jxl")])
def test_a_kind_that_wants_a_package_names_it(suffix, package, monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    monkeypatch.setitem(sys.modules, "pillow_jxl", None)
    decoding._register.cache_clear()
    with pytest.raises(ImageError, match=f"pip install {package}"):
        decode_image(b"something", f"x.{suffix}")
    decoding._register.cache_clear()


def test_a_kind_that_wants_a_package_is_read_where_it_is_there(monkeypatch):
    registered = []
    plugin = SimpleNamespace(register_heif_opener=lambda: registered.append(True))
    monkeypatch.setitem(sys.modules, "pillow_heif", plugin)
    decoding._register.cache_clear()
    assert decode_image(saved(RGB), "x.heic").size == RGB.size
    decode_image(saved(RGB), "y.heic")
    decoding._register.cache_clear()
    assert registered == [True]


def test_file_gives_its_picture_and_the_hash_of_its_bytes(tmp_path):
    file = tmp_path / "x.png"
    file.write_bytes(saved(RGB))
    image, digest = read_image(file)
    assert np.array_equal(np.asarray(image), COLOURS)
    assert digest == hashlib.sha256(file.read_bytes()).hexdigest()


def test_content_counts_not_the_suffix(tmp_path):
    file = tmp_path / "x.jpg"
    file.write_bytes(saved(RGB, "PNG"))
    assert np.array_equal(np.asarray(read_image(file)[0]), COLOURS)


def test_missing_file_and_folder_are_image_errors(tmp_path):
    for path in (tmp_path / "gone.jpg", tmp_path):
        with pytest.raises(ImageError, match="cannot be read") as caught:
            read_image(path)
        assert str(path) in caught.value.what
