"""FastAPI and `transformers.pipeline`, one text in a call: what a first version of such a service looks like."""

from __future__ import annotations

import os
import sys

import uvicorn
from fastapi import FastAPI
from model import CLASSES
from pydantic import BaseModel
from transformers import AutoModelForSequenceClassification, PreTrainedTokenizerFast, pipeline

app = FastAPI()
folder = os.environ["PEER_ENCODER"]
classify = pipeline(
    "text-classification",
    model=AutoModelForSequenceClassification.from_pretrained(folder, num_labels=CLASSES),
    tokenizer=PreTrainedTokenizerFast(
        tokenizer_file=f"{folder}/tokenizer.json", pad_token="[PAD]", model_max_length=256
    ),
)


class Request(BaseModel):
    """One text."""

    text: str


@app.post("/predict")
def predict(request: Request) -> dict[str, object]:
    """Runs in FastAPI's thread pool."""
    found = classify(request.text, truncation=True)[0]
    return {"label": found["label"], "score": found["score"]}


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning")
