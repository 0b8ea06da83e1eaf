"""Describes the encoder that serves and the last request for another one, for the command line and for HTTP."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from pawl.classifier.encoders.spec import SPEC_FILE, EncoderSpec
from pawl.domain.encoders import EncoderRequest
from pawl.domain.manifest import ENCODER_FOLDER
from pawl.json_values import Json
from pawl.versions.contradictions import Contradiction, ServedVersion


def describe(served: ServedVersion, digest: str, folder: Path, contradictions: list[Contradiction]) -> Json:
    """Returns plain values; `folder` is the live version's. Reads `encoder.json`; call it from a thread."""
    spec = EncoderSpec.from_file(folder / ENCODER_FOLDER / SPEC_FILE)
    return {
        "version": served.version,
        "encoder_digest": digest,
        "dimension": spec.dimension,
        "max_tokens": spec.max_tokens,
        "pooling": spec.pooling,
        "layers": len(spec.layers),
        "precision": spec.precision,
        "prefix": spec.prompt,
        "made_with": None if served.origin is None else served.origin.to_json(),
        "request": None if served.request is None else describe_request(served.request),
        "contradictions": [str(each) for each in contradictions],
    }


def describe_request(request: EncoderRequest) -> Json:
    """Returns a request and its state as plain values."""
    return asdict(request) | {"state": request.state.value}
