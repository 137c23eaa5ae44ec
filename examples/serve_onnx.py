"""`cgd export RUN -o model.onnx`, served without cgd or PyTorch: pip install onnxruntime pillow

serve_onnx.py MODEL PICTURE           prints its embedding
serve_onnx.py MODEL PICTURE PICTURE   prints their similarity, 1 for equal ones
"""

import json
import sys

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

session = onnxruntime.InferenceSession(sys.argv[1])
size = int(session.get_modelmeta().custom_metadata_map["image_size"])


def pixels(name):
    picture = Image.open(name)
    picture.draft(None, (2 * size, 2 * size))  # a large JPEG as `cgd embed` decodes it
    return ImageOps.exif_transpose(picture).convert("RGB").resize((size, size), Image.BILINEAR)


(rows,) = session.run(["embedding"], {"pixels": np.stack([pixels(name) for name in sys.argv[2:]])})
print(json.dumps(rows[0].tolist()) if len(rows) == 1 else rows[0] @ rows[1])
