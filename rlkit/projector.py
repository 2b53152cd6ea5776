"""Pictures and features for TensorBoard: sheets of views, and the embedding projector's files."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from rlkit.logs import write_image
from rlkit.types import Array, Floats

THUMBNAIL = 48
"""Pixels a side of a picture in the projector."""
SHOWN = 8
"""Pictures in a sheet of views."""


def write_views(folder: Path, tag: str, step: int, views: Sequence[Array]) -> None:
    """Put a sheet into TensorBoard: a row for each picture, a column for each of its views, uint8 [B, C, h, w].

    Raises:
        OSError: the folder cannot be written to.
    """
    height, width = max(view.shape[2] for view in views), max(view.shape[3] for view in views)
    columns = [np.stack([_padded(coloured(picture), height, width) for picture in view[:SHOWN]]) for view in views]
    sheet = np.concatenate([np.concatenate(list(column)) for column in columns], axis=1)
    write_image(folder, tag, step, _png(sheet), sheet.shape[1], sheet.shape[0])


def write_projector(folder: Path, features: Floats, pictures: Array, labels: Mapping[str, Array]) -> None:
    """Write what TensorBoard's projector shows of features [B, D] of uint8 pictures [B, C, H, W].

    Raises:
        OSError: the folder cannot be written to.
    """
    own = folder / "projector"
    own.mkdir(exist_ok=True)
    np.savetxt(own / "features.tsv", features, fmt="%.6g", delimiter="\t")
    number = np.arange(len(features))
    told = dict(labels) or {"number": number}  # of one column alone the projector takes the first line for a row
    head, columns = "\t".join(["picture", *told]), [number, *told.values()]
    rows = ["\t".join(str(value) for value in row) for row in zip(*columns, strict=True)]
    (own / "labels.tsv").write_text("\n".join([head, *rows]) + "\n", encoding="utf-8")
    (own / "pictures.png").write_bytes(_sprite(pictures))
    (folder / "projector_config.pbtxt").write_text(
        'embeddings {\n  tensor_name: "features"\n  tensor_path: "projector/features.tsv"\n'
        '  metadata_path: "projector/labels.tsv"\n  sprite {\n    image_path: "projector/pictures.png"\n'
        f"    single_image_dim: {THUMBNAIL}\n    single_image_dim: {THUMBNAIL}\n  }}\n}}\n",
        encoding="utf-8",
    )


def coloured(picture: Array) -> Array:
    """One picture [C, H, W] as red, green and blue [H, W, 3]: of a stack the last frame, of grey all three alike."""
    channels = 3 if len(picture) % 3 == 0 else 1
    frame = picture[-channels:].transpose(1, 2, 0)
    return np.repeat(frame, 3, axis=2) if channels == 1 else frame


def _padded(picture: Array, height: int, width: int) -> Array:
    found = np.full((height + 1, width + 1, 3), 255, np.uint8)  # a white line between pictures
    found[: picture.shape[0], : picture.shape[1]] = picture
    return found


def _sprite(pictures: Array) -> bytes:
    """All pictures as thumbnails in a square, row after row."""
    from PIL import Image

    side = int(np.ceil(np.sqrt(len(pictures))))
    sheet = Image.new("RGB", (side * THUMBNAIL, side * THUMBNAIL))
    for number, picture in enumerate(pictures):
        thumbnail = Image.fromarray(coloured(picture)).resize((THUMBNAIL, THUMBNAIL))
        sheet.paste(thumbnail, (number % side * THUMBNAIL, number // side * THUMBNAIL))
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG")
    return buffer.getvalue()


def _png(picture: Array) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG")
    return buffer.getvalue()
