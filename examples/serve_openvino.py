"""`cgd export RUN -o model.xml`, served without cgd or PyTorch: pip install openvino pillow

serve_openvino.py MODEL PICTURE           prints its embedding
serve_openvino.py MODEL PICTURE PICTURE   prints their similarity, 1 for equal ones
"""

import json
import sys

import numpy as np
import openvino
from PIL import Image, ImageOps

graph = openvino.Core().read_model(sys.argv[1])
size = int(graph.get_rt_info(["cgd", "image_size"]).astype(str))
# Left to itself OpenVINO computes in bfloat16 where the processor can.
run = openvino.compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})


def pixels(name):
    picture = Image.open(name)
    picture.draft(None, (2 * size, 2 * size))  # a large JPEG as `cgd embed` decodes it
    return ImageOps.exif_transpose(picture).convert("RGB").resize((size, size), Image.BILINEAR)


rows = run({"pixels": np.stack([pixels(name) for name in sys.argv[2:]])})["embedding"]
print(json.dumps(rows[0].tolist()) if len(rows) == 1 else rows[0] @ rows[1])
