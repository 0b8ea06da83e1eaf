"""What the parent asks for and what it gets: the files of the job's folder."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from pawl.domain.encoders import EncoderChoice
from pawl.domain.errors import InvalidInput
from pawl.files import write_atomic
from pawl.json_values import Json
from pawl.ports import Floats

JOB_FILE = "job.json"
RESULT_FILE = "result.json"
EMBEDDINGS_FILE = "embeddings.safetensors"
IDS_FILE = "ids.json"


@dataclass(frozen=True, slots=True)
class Job:
    """`version` is the live version's number; samples with a larger `seq` than `watermark` are not used.

    `parent` is the pid of the learner that asked. It is in the job because the kernel's answer is wrong for a child
    whose parent was killed before it could ask. A job started by hand names none: then it is whoever started it.
    `encoder` is there where another one is to be taken instead of training the live one.
    """

    version: int
    trigger: str
    watermark: int
    seed: int
    parent: int
    encoder: EncoderChoice | None = None

    @staticmethod
    def read(folder: Path) -> Job:
        """Reads `job.json`; raises `InvalidInput` when it is missing or odd."""
        try:
            value = json.loads((folder / JOB_FILE).read_bytes())
            version, watermark, seed = (int(value[name]) for name in ("version", "watermark", "seed"))
            encoder = EncoderChoice.from_json(value["encoder"]) if value.get("encoder") else None
            return Job(version, str(value["trigger"]), watermark, seed, int(value.get("parent", os.getppid())), encoder)
        except (OSError, KeyError, TypeError, ValueError, AttributeError) as error:
            raise InvalidInput(problem=f"{folder / JOB_FILE} is not a consolidation job: {error!r}") from error


@dataclass(frozen=True, slots=True)
class Result:
    """`result.json`. `trained` are the ids of the samples the encoder was trained on; none: it is unchanged."""

    encoder_digest: str
    trained: tuple[str, ...]
    samples_new: int
    samples_replayed: int
    watermark: int
    metrics: Json

    def write(self, folder: Path) -> None:
        """Writes `result.json` at once: it is there and whole, or it is not there."""
        write_atomic(folder / RESULT_FILE, json.dumps(asdict(self), indent=2, allow_nan=False))


def write_embeddings(folder: Path, ids: Sequence[str], z: Floats) -> None:
    """Writes `embeddings.safetensors` (z, shape (n, d), float32) and `ids.json` in the same order."""
    save_file({"z": np.ascontiguousarray(z, dtype=np.float32)}, folder / EMBEDDINGS_FILE)
    write_atomic(folder / IDS_FILE, json.dumps(list(ids)))
