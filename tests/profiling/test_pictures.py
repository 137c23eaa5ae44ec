"""Where the time goes on a folder, and what it means in words."""

import pytest
from cli_toys import draw, draw_classes

from cgdcli import CGDConfig, ProfileConfig, Transform, profile_model
from cgdcli.errors import DatasetError
from cgdcli.profiling import pictures
from cgdcli.reports import FolderReport
from cgdcli.views.profile import folder_lines

TINY = CGDConfig(transform=Transform(image_size=32))


def measured(folder, **options):
    config = ProfileConfig(repeats=1, warmup=0, images=str(folder), **options)
    return profile_model(TINY, config).folder


def test_all_are_found_and_some_are_measured(tmp_path):
    draw_classes(tmp_path, "red green", 6)
    report = measured(tmp_path, pictures=5, batch_sizes=(3,))
    assert (report.found, report.measured, report.batch_size) == (12, 5, 3)
    assert min(report.decode_seconds, report.transform_seconds, report.forward_seconds) > 0
    assert report.expected_seconds == pytest.approx(12 / report.images_per_second)
    assert report.index_bytes == 12 * 512 * 4
    assert report.skipped == ()


def test_broken_pictures_are_named_and_not_in_the_rate(tmp_path):
    draw_classes(tmp_path, "red", 3)
    (tmp_path / "red" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    report = measured(tmp_path)
    assert (report.found, report.measured) == (4, 3)
    assert [s.path for s in report.skipped] == [str(tmp_path / "red" / "broken.png")]
    assert any("broken.png" in line for line in folder_lines(report))


def test_each_part_is_timed_by_itself(tmp_path, monkeypatch):
    """A slow transform shows as the transform's time, not as another's."""
    import time

    draw(tmp_path / "a.png", "red", 0)
    transform = pictures.eval_pixels
    monkeypatch.setattr(pictures, "eval_pixels", lambda *a: (time.sleep(0.2), transform(*a))[1])
    report = measured(tmp_path)
    assert report.transform_seconds > 0.2 > report.decode_seconds + report.forward_seconds - 0.15


@pytest.mark.parametrize("make", [lambda f: None, lambda f: (f / "a.png").write_bytes(b"x")])
def test_nothing_to_measure_is_refused(tmp_path, make):
    make(tmp_path)
    with pytest.raises(DatasetError) as failure:
        measured(tmp_path)
    assert failure.value.hint


def report_of(decode, transform, forward, rate=12.3):
    return FolderReport(
        folder="photos",
        found=48_210,
        measured=64,
        workers=2,
        batch_size=32,
        decode_seconds=decode,
        transform_seconds=transform,
        forward_seconds=forward,
        images_per_second=rate,
        expected_seconds=48_210 / rate,
        index_bytes=48_210 * 1536 * 4,
        skipped=(),
    )


def test_in_words():
    first, second, third = folder_lines(report_of(0.01, 0.005, 0.085))
    assert first == "12.3 pictures/s: your 48 210 pictures take 1 h 05 min and 296.2 MB"
    assert "decoding 10.0 ms (10 %)" in second and "the network 85.0 ms (85 %)" in second
    assert third.startswith("the network limits")
    assert folder_lines(report_of(0.2, 0.01, 0.02))[2].startswith("reading pictures limits")
