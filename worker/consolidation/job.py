"""The contract between the learner and its child process: the files of a job's folder, read and written here alone.

The learner writes `job.json`; the child writes an encoder, embeddings and, last, `result.json`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field
from safetensors.numpy import load_file, save_file

from pawl.domain.encoders import EncoderChoice, EncoderOrigin
from pawl.domain.errors import InvalidInput
from pawl.files import write_atomic
from pawl.json_values import Json
from pawl.ports import Floats

FORMAT = 1
"""Of job and result. A learner and a child of two versions of Pawl (an upgrade in between) refuse each other's."""
_EMBEDDINGS_FILE = "embeddings.safetensors"
_IDS_FILE = "ids.json"


class _Document(BaseModel):
    """A file of the job's folder."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    file: ClassVar[str]
    title: ClassVar[str]
    format: int = FORMAT

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Reads the file. Raises `InvalidInput` when it is missing, odd, or of another format."""
        path = folder / cls.file
        try:
            return cls.model_validate(_of_this_format(json.loads(path.read_bytes())))
        except (OSError, LookupError, TypeError, ValueError) as error:
            problem = f"{path} is not a consolidation {cls.title} of format {FORMAT}: {error!r}"
            raise InvalidInput(problem=problem) from error

    def write(self, folder: Path) -> None:
        """Writes the file at once: it is there and whole, or it is not there."""
        write_atomic(folder / self.file, json.dumps(self.model_dump(mode="json"), indent=2, allow_nan=False))

    @classmethod
    def remove(cls, folder: Path) -> None:
        """Removes what an earlier run left."""
        (folder / cls.file).unlink(missing_ok=True)


def _of_this_format(value: Any) -> Any:
    if value["format"] != FORMAT:
        raise ValueError(f"it has format {value['format']!r}; restart the learner after an upgrade")
    return value


class Job(_Document):
    """What the learner asks for.

    `version` is the live version's number; samples with a larger `seq` than `watermark` are not used. `parent` is the
    pid of the learner that asked. It is in the job because the kernel's answer is wrong for a child whose parent was
    killed before it could ask. A job started by hand names none: then it is whoever started it. `encoder` is there
    where another one is to be taken instead of training the live one.
    """

    file: ClassVar[str] = "job.json"
    title: ClassVar[str] = "job"
    version: int
    trigger: str
    watermark: int
    seed: int
    parent: int = Field(default_factory=os.getppid)
    encoder: EncoderChoice | None = None


class Result(_Document):
    """What the child made. `trained` are the ids of the samples the encoder was trained on; none: it is unchanged.

    `origin` is there where the job named an encoder. `metrics` are for people and for the version's record.
    """

    file: ClassVar[str] = "result.json"
    title: ClassVar[str] = "result"
    encoder_digest: str
    trained: tuple[str, ...] = ()
    samples_new: int = 0
    samples_replayed: int = 0
    watermark: int
    origin: EncoderOrigin | None = None
    metrics: Json


def write_embeddings(folder: Path, ids: Sequence[str], z: Floats) -> None:
    """Writes the ids of samples and, in the same order, their embeddings z, shape (n, d), float32."""
    # Need not be atomic: nobody reads it before `result.json`, which is written last.
    save_file({"z": np.ascontiguousarray(z, dtype=np.float32)}, folder / _EMBEDDINGS_FILE)
    write_atomic(folder / _IDS_FILE, json.dumps(list(ids)))


def read_embeddings(folder: Path) -> dict[str, Floats]:
    """The embeddings (d,) by sample id."""
    ids = json.loads((folder / _IDS_FILE).read_bytes())
    return dict(zip(ids, load_file(folder / _EMBEDDINGS_FILE)["z"], strict=True))
