"""What serves of an encoder, what was asked for, and what became of it: for the command line and for HTTP alike."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from pawl.classifier.encoders.spec import SPEC_FILE, EncoderSpec
from pawl.domain.encoders import EncoderRequest
from pawl.domain.manifest import ENCODER_FOLDER
from pawl.json_values import Json
from pawl.versions.contradictions import Contradiction, Serving


def describe(found: Serving, digest: str, folder: Path, contradictions: list[Contradiction]) -> Json:
    """All of it as plain values; `folder` is the live version's. Reads `encoder.json`; call it from a thread."""
    spec = EncoderSpec.from_file(folder / ENCODER_FOLDER / SPEC_FILE)
    return {
        "version": found.version,
        "encoder_digest": digest,
        "dimension": spec.dimension,
        "max_tokens": spec.max_tokens,
        "pooling": spec.pooling,
        "layers": len(spec.layers),
        "precision": spec.precision,
        "prefix": spec.prompt,
        "made_with": None if found.origin is None else found.origin.to_json(),
        "request": None if found.request is None else describe_request(found.request),
        "contradictions": [str(each) for each in contradictions],
    }


def describe_request(request: EncoderRequest) -> Json:
    """A request and what became of it."""
    return asdict(request) | {"state": request.state.value}
