"""What every command keeps to: streams, exit codes, help, environment, colour, signals."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys

import pytest
import typer
from cli_toys import SMALL, check_failure, draw, draw_classes, environment, process

import cgdcli
from cgdcli.cli import app

COMMANDS = (
    *("train", "embed", "search", "evaluate", "compare", "check", "profile", "inspect"),
    *("convert-weights", "export", "duplicates"),
)
ANSI = re.compile(r"\x1b\[")
ANSI_COLOUR = re.compile(r"\x1b\[[0-9;]*(3[0-7]|38|4[0-7]|48|9[0-7])[0-9;]*m")


# ---- help and usage


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_of_a_command_has_help(cgd, command):
    ran = cgd(command, "--help")
    assert ran.code == 0 and ran.err == ""
    click_command = typer.main.get_command(app).commands[command]
    for parameter in click_command.params:
        assert getattr(parameter, "help", None), f"{command}: {parameter.name} has no help"
    assert len(click_command.help.splitlines()) >= 3, "a sentence, and an explanation or example"


@pytest.mark.parametrize("command", ["--help", "-h"])
def test_the_help_shows_the_four_lines(cgd, command):
    ran = cgd(command)
    assert ran.code == 0
    for line in ("cgd train data/", "cgd embed imgs/ -o feats.npy", "cgd convert-weights old.pth"):
        assert line in ran.out
    assert all(name in ran.out for name in COMMANDS)


def test_version(cgd):
    ran = cgd("--version")
    assert (ran.code, ran.out, ran.err) == (0, f"cgd {cgdcli.__version__}\n", "")


def test_no_command_shows_the_help_and_is_no_error(cgd):
    ran = cgd()
    assert ran.code == 2
    assert "cgd train data/" in ran.out + ran.err
    assert "error:" not in ran.err  # the help is no failure's text


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["embed", "imgs", "-o", "f.npy", "--nope"], "--nope"),
        (["nope"], "nope"),
        (["embed", "imgs"], "--output"),
        (["search", "--index", "f.npy"], "QUERY"),
        (["search", "q.jpg", "--index", "f.npy", "-k", "0"], "0"),
        (["search", "q.jpg", "--index", "f.npy", "-k", "many"], "many"),
        (["embed", "imgs", "-o", "f.npy", "--device", "tpu"], "tpu"),
        (["train", "data", "--backbone", "vgg61"], "vgg61"),
        (["train", "data", "--epochs", "0"], "--epochs 0"),
        (["train", "data", "--learning-rate", "nan"], "nan"),
        (["train", "data", "--batch-size", "4", "--per-class", "8"], "8"),
        (["train", "data", "--image-size", "8"], "8"),
        (["train"], "data"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_wrong_usage_is_2_and_names_the_value(cgd, arguments, word, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    check_failure(cgd(*arguments), 2, word)
    assert not list(tmp_path.iterdir())


# ---- streams


def test_json_of_every_command_is_all_of_stdout(cgd, in_toy, tmp_path, monkeypatch):
    trained = cgd(
        *("train", "data", *SMALL, "--epochs", "1", "--runs", tmp_path / "runs", "--name", "one"),
        "--json",
    )
    assert trained.code == 0 and "epoch 1/1" in trained.err
    report = json.loads(trained.out)
    assert report["run"] == str(tmp_path / "runs" / "one")
    model = report["model"]
    embedded = cgd("embed", "imgs", "-o", tmp_path / "f.npy", "--model", model, "--json")
    assert json.loads(embedded.out)["rows"] == 9 and "9 rows" in embedded.err
    index = tmp_path / "f.npy"
    assert json.loads(cgd("search", "query.jpg", "--index", index, "--json").out)[0]["hits"]
    assert json.loads(cgd("evaluate", "--index", index, "--json").out)["queries"] == 9
    assert json.loads(cgd("inspect", index, "--json").out)["facts"]["rows"] == 9
    assert json.loads(cgd("profile", model, "--repeats", "1", "--json").out)["counts"]["macs"] > 0
    target = tmp_path / "new.safetensors"
    converted = cgd("convert-weights", "old.pth", "-o", target, "--json")
    assert json.loads(converted.out)["written_entries"] == 129
    assert "assumed" in converted.err


def test_quiet_leaves_the_result_and_nothing_else(cgd, in_toy, tmp_path):
    index = tmp_path / "f.npy"
    ran = cgd("embed", "imgs", "-o", index, "--model", in_toy.model, "-q")
    assert (ran.code, ran.out, ran.err) == (0, "", "")
    ran = cgd("search", "query.jpg", "--index", index, "-q", "--paths-only")
    assert ran.err == "" and len(ran.out.splitlines()) == 9


def test_quiet_still_says_why_it_failed(cgd, in_toy):
    check_failure(cgd("search", "gone.jpg", "--index", "feats.npy", "-q"), 1, "gone.jpg")


def test_verbose_is_accepted_and_keeps_stdout_clean(cgd, in_toy):
    ran = cgd("search", "query.jpg", "--index", "feats.npy", "-v", "--json")
    assert ran.code == 0 and json.loads(ran.out)


@pytest.mark.parametrize(
    "arguments",
    [
        ("inspect", "feats.npy", "--rows"),
        ("inspect", "feats.npy"),
        ("inspect", "feats.npy", "--json"),
        ("--help",),
    ],
    ids=" ".join,
)
def test_a_reader_that_leaves_is_no_failure(toy, arguments):
    """`| head -1`, made certain: the reader has gone before anything is written."""
    running = subprocess.Popen(
        [sys.executable, "-m", "cgdcli", *arguments],
        cwd=toy.folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    running.stdout.close()
    err = running.stderr.read().decode()
    running.stderr.close()
    assert running.wait(60) in (0, -signal.SIGPIPE)
    assert err == ""


def test_head(toy):
    line = f"set -o pipefail; {sys.executable} -m cgdcli inspect feats.npy --rows | head -1"
    done = subprocess.run(
        ["bash", "-c", line],
        cwd=toy.folder,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == "" and done.returncode == 0
    assert json.loads(done.stdout)["row"] == 0


def test_a_full_disk_on_stdout_is_no_traceback(toy):
    with open("/dev/full", "wb") as full:  # noqa: PTH123
        done = subprocess.run(
            [sys.executable, "-m", "cgdcli", "inspect", "feats.npy", "--json"],
            cwd=toy.folder,
            env=environment(),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert "Traceback" not in done.stderr
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")


# ---- colour


def test_piped_output_has_no_escape_codes(toy):
    for ran in toy.ran.values():
        assert not ANSI.search(ran.out + ran.err)


def test_no_color_and_clicolor_force(cgd, in_toy, monkeypatch):
    monkeypatch.setenv("CLICOLOR_FORCE", "1")
    assert ANSI.search(
        cgd("inspect", "feats.npy").out + cgd("evaluate", "--index", "feats.npy").out
    )
    ran = cgd("search", "row:0", "--index", "feats.npy", "--json")
    assert json.loads(ran.out)
    monkeypatch.setenv("NO_COLOR", "1")
    ran = cgd("evaluate", "--index", "feats.npy")
    assert not ANSI_COLOUR.search(ran.out + ran.err)


def test_forced_colour_does_not_bring_a_progress_bar_into_a_file(
    cgd, in_toy, tmp_path, monkeypatch
):
    monkeypatch.setenv("CLICOLOR_FORCE", "1")
    ran = cgd("embed", "imgs", "-o", tmp_path / "f.npy", "--model", in_toy.model)
    assert ran.code == 0
    assert "\x1b[?25l" not in ran.err and "\x1b[2K" not in ran.err  # cursor codes are a terminal's


# ---- environment


def test_epochs_from_the_environment(cgd, toy, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CGD_TRAIN_EPOCHS", "2")
    monkeypatch.setenv("CGD_TRAIN_NAME", "by-environment")
    data = draw_classes(tmp_path / "data", "red blue", 2)
    ran = cgd("train", data, *SMALL, "--batch-size", "4", "--per-class", "2")
    assert ran.code == 0, ran.err
    assert "epochs = 2" in (tmp_path / "runs/by-environment/config.toml").read_text()
    monkeypatch.setenv("CGD_TRAIN_EPOCHS", "two")
    check_failure(cgd("train", data, *SMALL), 2, "two")


def test_top_k_from_the_environment_and_the_flag_over_it(cgd, in_toy, monkeypatch):
    monkeypatch.setenv("CGD_SEARCH_TOP_K", "2")
    ask = ("search", "row:0", "--index", "feats.npy", "--json")
    assert len(json.loads(cgd(*ask).out)[0]["hits"]) == 2
    assert len(json.loads(cgd(*ask, "-k", "3").out)[0]["hits"]) == 3


def test_cgd_model(cgd, in_toy, tmp_path, monkeypatch):
    monkeypatch.setenv("CGD_MODEL", "old.safetensors")
    ran = cgd("embed", "imgs/red", "-o", tmp_path / "f.npy", "--json")
    assert ran.code == 0
    assert "old.safetensors" in ran.err and "CGD_MODEL" in ran.err
    assert "assumed" in ran.err  # what the conversion assumed is repeated where it matters
    assert json.loads(ran.out)["embedding_dim"] == 256
    # Search keeps to the index's own model, and --model goes over the variable.
    assert cgd("search", "query.jpg", "--index", "feats.npy").code == 0
    ran = cgd("embed", "imgs/red", "-o", tmp_path / "g.npy", "--json", "--model", in_toy.run)
    assert json.loads(ran.out)["embedding_dim"] == 512


def test_cgd_model_that_is_not_there(cgd, in_toy, tmp_path, monkeypatch):
    monkeypatch.setenv("CGD_MODEL", "gone.safetensors")
    ran = cgd("embed", "imgs", "-o", tmp_path / "f.npy", "-q")
    check_failure(ran, 1, "gone.safetensors")
    assert not list(tmp_path.iterdir())


def test_no_model_at_all(cgd, toy, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ran = cgd("embed", toy.folder / "imgs", "-o", "f.npy")
    check_failure(ran, 1, "CGD_MODEL", "runs")
    assert "cgd train" in ran.err and "--model" in ran.err
    assert not list(tmp_path.iterdir())


def test_an_unfinished_run_is_not_taken(cgd, toy, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(toy.run, tmp_path / "runs/half")
    (tmp_path / "runs/half/result.json").unlink()
    check_failure(cgd("embed", toy.folder / "imgs", "-o", "f.npy"), 1, "no finished run")


# ---- signals


def start_training(folder, *options):
    draw_classes(folder / "data", "red blue", 3)
    command = [sys.executable, "-m", "cgdcli", "train", "data", *SMALL, *options]
    return subprocess.Popen(
        [*command, "--batch-size", "4", "--per-class", "2"],
        cwd=folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell that starts the suite in the background leaves Ctrl-C ignored, and so would we.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
    )


def stop_after(running, words, which):
    """Send a signal once a line with `words` has come; all of stderr."""
    lines = []
    for line in running.stderr:
        lines.append(line)
        if words in line:
            running.send_signal(which)
            break
    lines += running.stderr
    assert running.stdout.read() == ""
    running.stderr.close()
    running.stdout.close()
    running.wait(120)
    return "".join(lines)


@pytest.mark.slow
def test_ctrl_c_says_how_to_go_on_and_that_works(tmp_path):
    running = start_training(tmp_path, "--epochs", "60", "--name", "my run")
    err = stop_after(running, "epoch 1/60", signal.SIGINT)
    assert running.returncode == 130, err
    assert "Traceback" not in err
    assert not list(tmp_path.rglob("*.tmp")) and not list(tmp_path.rglob("*.lock"))
    (line,) = re.findall(r"cgd (train --resume.*)", err)
    ran = process(*shlex.split(line), "--json", cwd=tmp_path)
    assert ran.code == 0, ran.err
    assert json.loads(ran.out)["epochs"] == 60
    lines = (tmp_path / "runs/my run/metrics.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in lines[1:]] == [str(n) for n in range(61)]


def test_sigterm_is_143_and_leaves_no_lock(tmp_path):
    running = start_training(tmp_path, "--epochs", "50", "--name", "one")
    err = stop_after(running, "before training", signal.SIGTERM)
    assert running.returncode == 143, err
    assert "Traceback" not in err and "--resume" in err
    assert not list(tmp_path.rglob("*.tmp")) and not list(tmp_path.rglob("*.lock"))


def test_the_line_to_go_on_names_the_runs_folder(cgd, tmp_path, monkeypatch):
    """Ctrl-C in this process: the line is typed as printed, and finds the run."""
    from cgdcli.training.loop import Trainer

    def interrupted(self, *_):
        raise KeyboardInterrupt
        yield

    monkeypatch.chdir(tmp_path)
    draw_classes(tmp_path / "data", "red blue", 2)
    whole = Trainer._epoch
    monkeypatch.setattr(Trainer, "_epoch", interrupted)
    options = ("--epochs", "1", "--batch-size", "4", "--per-class", "2", "--runs", "elsewhere")
    ran = cgd("train", "data", *SMALL, *options, "--name", "one")
    assert ran.code == 130 and ran.out == ""
    (line,) = re.findall(r"cgd (train --resume.*)", ran.err)
    monkeypatch.setattr(Trainer, "_epoch", whole)
    again = cgd(*shlex.split(line))
    assert again.code == 0, again.err


def test_nothing_to_resume(cgd, in_toy):
    check_failure(cgd("train", "--resume"), 1, "runs")
    check_failure(cgd("train", "--resume", "--name", in_toy.run.name), 1, in_toy.run.name)


# ---- 3 and 4


def test_codes_3_and_4(cgd, in_toy, tmp_path):
    shutil.copytree("imgs", tmp_path / "imgs")
    (tmp_path / "imgs/red/broken.jpg").write_bytes(b"")
    ran = cgd("embed", tmp_path / "imgs", "-o", tmp_path / "f.npy", "--json")
    assert ran.code == 3 and json.loads(ran.out)["rows"] == 9
    ran = cgd("embed", "imgs", "-o", tmp_path / "f.npy")
    check_failure(ran, 4, tmp_path / "f.npy")


def test_train_with_a_broken_picture_is_3(cgd, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    draw_classes(tmp_path / "data", "red blue", 3)
    (tmp_path / "data/red/0.png").write_bytes(b"no picture")
    ran = cgd("train", "data", *SMALL, "--epochs", "1", "--batch-size", "4", "--per-class", "2")
    assert ran.code == 3, ran.err
    assert "data/red/0.png" in ran.err  # counted is not enough: named


# ---- names that are not UTF-8


def test_a_file_name_that_is_not_utf_8(cgd, in_toy, tmp_path):
    """Bytes of an old camera or archive; a UTF-8 terminal's stdout is strict about them."""
    folder = tmp_path / "imgs"
    name = os.fsdecode(b"caf\xe9.png")
    draw(folder / name, "red", 0)
    draw(folder / "plain.png", "blue", 0)
    draw(folder / os.fsdecode(b"broken\xe9.jpg"), "red", 0).write_bytes(b"")
    strict = {"cwd": in_toy.folder, "PYTHONIOENCODING": "utf-8:strict"}
    ran = process("embed", folder, "-o", tmp_path / "f.npy", "--json", **strict)
    assert ran.code == 3 and json.loads(ran.out)["rows"] == 2
    ran = process("search", "row:0", "--index", tmp_path / "f.npy", "--json", **strict)
    assert ran.code == 0 and len(json.loads(ran.out)[0]["hits"]) == 2


def test_a_name_cannot_end_a_line_or_command_the_terminal(cgd, in_toy, tmp_path):
    name = "x\nhint: run this\x1b[2J\x9b1m\r.jpg"
    for ran in (
        cgd("search", name, "--index", "feats.npy"),
        cgd("search", "row:0", "--index", name),
        cgd("search", "row:0", "--index", "feats.npy", "-k", name),
        cgd("convert-weights", tmp_path / name),
    ):
        error, hint = ran.err.splitlines()  # of the error, and of nothing else
        assert error.startswith("error: ") and hint.startswith("hint: ")
        assert not set(ran.err) & {"\x1b", "\x9b", "\r"} and "\\x1b[2J" in error


def test_a_name_in_a_warning_cannot_either(cgd, in_toy, tmp_path):
    broken = tmp_path / "x\x1b[2J\nerror: y.jpg"
    broken.write_bytes(b"no picture")
    ran = cgd("search", broken, "row:0", "--index", "feats.npy", "--json")
    (warning,) = ran.err.splitlines()
    assert ran.code == 3 and warning.startswith("warning: ") and "\\x1b[2J\\nerror: y" in warning


def test_a_class_name_that_is_not_utf_8(cgd, in_toy, tmp_path):
    draw(tmp_path / "imgs" / os.fsdecode(b"caf\xe9") / "1.png", "red", 0)
    draw(tmp_path / "imgs/tea/1.png", "blue", 0)
    ran = cgd("embed", tmp_path / "imgs", "-o", tmp_path / "f.npy", "-q")
    assert ran.code == 0 and "Traceback" not in ran.err
