"""Sets as tfds leaves them after a download, written without TensorFlow."""

from collections.abc import Iterable, Sequence
import io
import json
import pathlib

from array_record.python.array_record_module import ArrayRecordWriter
import numpy as np
from PIL import Image
import tensorflow_datasets as tfds
from tensorflow_datasets.proto import tf_example_pb2


def encoded(image: Image.Image, kind: str) -> bytes:
  """The file of an image, as "PNG" or "JPEG"."""
  file = io.BytesIO()
  image.save(file, kind)
  return file.getvalue()


def example(**features: bytes | int | Sequence[int]) -> bytes:
  """One record of features that are bytes or integers."""
  record = tf_example_pb2.Example()
  for name, value in features.items():
    feature = record.features.feature[name]
    if isinstance(value, bytes):
      feature.bytes_list.value.append(value)
    else:
      feature.int64_list.value.extend(np.ravel(value).tolist())
  return record.SerializeToString()


def write_records(path: pathlib.Path, records: Iterable[bytes]) -> None:
  writer = ArrayRecordWriter(str(path), "group_size:1")
  for record in records:
    writer.write(record)
  writer.close()


def write_images(
  folder: pathlib.Path,
  name: str,
  part: str,
  image: tfds.features.Image,
  files: Sequence[bytes],
  labels: Sequence[int],
) -> pathlib.Path:
  """One part of a set with images of ten classes, in the folder of its version, which is new."""
  folder.mkdir(parents=True)
  label = tfds.features.ClassLabel(num_classes=10)
  tfds.features.FeaturesDict({"image": image, "label": label}).save_config(str(folder))
  records = [example(image=file, label=y) for file, y in zip(files, labels, strict=True)]
  write_records(folder / f"{name}-{part}.array_record-00000-of-00001", records)
  pattern = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
  split = {"name": part, "shardLengths": [str(len(records))], "filepathTemplate": pattern}
  info = {"name": name, "version": folder.name, "fileFormat": "array_record", "splits": [split]}
  (folder / "dataset_info.json").write_text(json.dumps(info))
  return folder
