"""What each choice of the int8 quantization gives: agreement with fp32, and speed.

    python examples/benchmarks/int8_parity.py IMAGES --model M.safetensors [--only "as cgd embed"]

Calibrated on 100 of the pictures, compared on 200 others: cosine of the two rows of each, share
with the same nearest neighbour among the 200 (NN), and of an int8 query among fp32 rows (query NN).
Speed is of the forward pass alone, in passes of 8 by one thread a core, all in alternating turns,
the first not counted: medians of the ratios within each turn. What came out: `int8_parity.md`.
"""

import argparse
import queue
import statistics
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from cgdcli import load_model
from cgdcli.config import EmbedPrecision
from cgdcli.embedding.parity import compare_rows, samples
from cgdcli.engines.openvino_engine import converted, openvino_core, properties
from cgdcli.engines.quantizing import Recipe, quantize
from cgdcli.engines.rounding import with_rounded_weights
from cgdcli.images.finding import find_images
from cgdcli.index.exact import nearest
from cgdcli.launch import cores
from cgdcli.streaming import read_pixels

PLAIN = Recipe(pooling=False, first=False, stages=(), ranges="MEAN_MINMAX")
FLOAT_HEAD = Recipe(first=False, stages=(), ranges="MEAN_MINMAX")
# Name: the recipe, whether weights are rounded well, and the share of pictures that calibrate.
VARIANTS = {
    "plain, preset mixed": (PLAIN, False, 1.0),
    "+ all behind the last ReLU in float": (FLOAT_HEAD, False, 1.0),
    "  the same, a third of the pictures": (FLOAT_HEAD, False, 0.33),
    "  the same, symmetric maps (preset performance)": (
        Recipe(first=False, stages=(), ranges="MEAN_MINMAX", symmetric=True),
        False,
        1.0,
    ),
    "  the same, biases corrected layer by layer": (
        Recipe(first=False, stages=(), ranges="MEAN_MINMAX", accurate=True),
        False,
        1.0,
    ),
    "+ first convolution in float": (Recipe(stages=(), ranges="MEAN_MINMAX"), False, 1.0),
    "  the same, sums of blocks in float": (
        Recipe(stages=(), ranges="MEAN_MINMAX", additions=True),
        False,
        1.0,
    ),
    "  the same, layer4 in float": (
        Recipe(stages=("layer4",), ranges="MEAN_MINMAX"),
        False,
        1.0,
    ),
    "  the same, layer1 in float": (
        Recipe(stages=("layer1",), ranges="MEAN_MINMAX"),
        False,
        1.0,
    ),
    "+ weights rounded so that sums stay": (Recipe(stages=(), ranges="MEAN_MINMAX"), True, 1.0),
    "+ ranges: the largest, not their mean": (Recipe(stages=()), True, 1.0),
    "  the same, first convolution in int8": (Recipe(first=False, stages=()), True, 1.0),
    "+ layer1.0 in float: as cgd embed": (Recipe(), True, 1.0),
    "  the same, all of layer1 in float": (Recipe(stages=("layer1",)), True, 1.0),
}


def embedded(compiled, pixels):
    """Rows of pictures (N, H, W, 3), 8 a pass, a thread for each core."""
    requests = queue.SimpleQueue()
    for _ in range(cores()):
        requests.put(compiled.create_infer_request())

    def embed(start):
        request = requests.get()
        try:
            return np.array(request.infer({0: pixels[start : start + 8]})[0], dtype=np.float32)
        finally:
            requests.put(request)

    embed(0)  # the first inference of a process goes alone
    with ThreadPoolExecutor(cores()) as pool:
        return np.concatenate(list(pool.map(embed, range(0, len(pixels), 8))))


def ratios(compiled, pixels, turns):
    """Times as fast as fp32 and bf16, medians over alternating turns."""
    seconds = {name: [] for name in compiled}
    for turn in range(turns + 1):
        for name in compiled if turn % 2 else reversed(compiled):
            started = time.monotonic()
            embedded(compiled[name], pixels)
            seconds[name].append(time.monotonic() - started)
    base = {name: np.array(taken[1:]) for name, taken in seconds.items()}
    return {
        name: [statistics.median(base[other] / taken) for other in ("fp32", "bf16")]
        for name, taken in base.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("images", type=Path)
    parser.add_argument("--model", required=True)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--only", default="", help="variants with this in their name")
    given = parser.parse_args()
    model = load_model(given.model)
    files = [image.file for image in find_images([given.images]).images]
    compared, calibration = (
        read_pixels(part, model.config, workers=cores()) for part in samples(files, calibrates=True)
    )
    core, graph = openvino_core(), converted(model)
    started = time.monotonic()
    rounded = converted(with_rounded_weights(model, calibration))
    print(f"weights rounded in {time.monotonic() - started:.0f} s", file=sys.stderr)
    compiled = {
        precision.value: core.compile_model(graph, "CPU", properties(precision))
        for precision in (EmbedPrecision.fp32, EmbedPrecision.bf16)
    }
    made = {}
    for name, (recipe, well, share) in VARIANTS.items():
        if given.only not in name:
            continue
        started = time.monotonic()
        some = calibration[:: round(1 / share)]
        quantized = quantize(rounded if well else graph, some, recipe)
        made[name] = time.monotonic() - started
        how = properties(EmbedPrecision.int8)
        compiled[name] = core.compile_model(quantized, "CPU", how)
        print(f"{name}: {made[name]:.0f} s", file=sys.stderr, flush=True)
    speed = ratios(compiled, compared[:64], given.turns)
    exact = embedded(compiled["fp32"], compared)
    own = [{row} for row in range(len(exact))]
    wanted = nearest(exact, exact, 1, exclude=own)[1]
    print("| variant | cosine mean | least | NN | query NN | x fp32 | x bf16 | quantized in |")
    print("| --- " * 8 + "|")
    for name, graph in compiled.items():
        rows = embedded(graph, compared)
        parity = compare_rows(exact, rows)
        query = (nearest(rows, exact, 1, exclude=own)[1] == wanted).mean()
        seconds = f"{made[name]:.0f} s" if name in made else ""
        print(
            f"| {name.strip()} | {parity.cosine_mean:.5f} | {parity.cosine_min:.5f} | "
            f"{parity.neighbours:.3f} | {query:.3f} | {speed[name][0]:.2f} | {speed[name][1]:.2f} "
            f"| {seconds} |"
        )


if __name__ == "__main__":
    main()
