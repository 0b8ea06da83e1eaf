"""A random two-layer BERT that is made in a moment, so that tests run the real way of an encoder without its cost.

Usable wherever an encoder's source is (`PAWL_ENCODER=<folder>`). Words of the vocabulary have vectors of their own;
any other word is spelt in characters.
"""

from __future__ import annotations

import json
import string
from pathlib import Path

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from pawl.classifier.encoders.export import export_encoder
from pawl.classifier.encoders.home_encoder import export_into_home
from pawl.classifier.encoders.spec import encoder_digest
from pawl.settings import Settings
from tests.shared import shared

_TEXT = """
a about account activate add address after again age agree all am amount an and any app apply are arrive arrived as
ask at atm bad balance bank be because been before best better bill block blocked book booking but buy by call can
cancel card cash change charge charged check city close code company contact cost country could currency customer
cut daily date day debit declined delay delete deliver delivery deposit did different do does done down earn
earnings email error exchange expect expired fail failed fall fee fell file find flight for forecast forgot found
free from get give go good got great grew growth had happy has have he help her here high hotel how i identity if
in increase is issue it its join just keep know last late later less let like limit link list live loan lock long
lose loss lost low make many market me meeting minute mobile money month more morning mortgage move much my need
never new next night no not now number of off offer ok old on one online open option or order other our out over
overdraft own package passport password pay payment pending people per percent phone photo pin place plan please
point poor pound price problem product profit purchase put quarter question rate receive received recipe refund
reject remind report request reset restaurant return reversed right rise rose routing safe salary sales sell send
sent service set share she shares ship should show sign slow some soon spend standard start statement status stock
stolen stop store support switch take tax terrible thank that the their them then there they thing this ticket time
to today tomorrow top total track tracking traffic transaction transfer travel trip true try turn two unable under
up update upgrade us use user verify very virtual visa wait wallet want was way we weather week were what when
where which who why will with withdraw withdrawal work world would wrong year yes yet you your
"""
WORDS = tuple(_TEXT.split())


def write_tiny_encoder(folder: Path, *, seed: int = 0, dimension: int = 32) -> Path:
    """Writes config, safetensors and tokenizer of a random encoder, d = `dimension`; returns `folder`."""
    import torch
    from safetensors.torch import save_file
    from transformers import BertConfig, BertModel

    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = tiny_tokenizer()
    tokenizer.save(str(folder / "tokenizer.json"))
    config = BertConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=dimension,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=2 * dimension,
        max_position_embeddings=256,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = BertModel(config, add_pooling_layer=False)
    with torch.no_grad():  # what a word is should weigh more than where it is
        model.embeddings.position_embeddings.weight.mul_(0.1)
        model.embeddings.token_type_embeddings.weight.zero_()
    save_file(model.state_dict(), folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config.to_dict() | {"architectures": ["BertModel"]}))
    return folder


def exported_tiny_encoder() -> tuple[Path, str]:
    """An exported `encoder/` folder of the tiny encoder and its digest; made once in a run of the tests, read only."""
    folder = shared("tiny-encoder", _export) / "encoder"
    return folder, encoder_digest(folder)


def _export(folder: Path) -> None:
    export_encoder(str(write_tiny_encoder(folder / "source")), folder / "encoder", max_tokens=64)


def exported_home(max_tokens: int) -> Path:
    """A home that has nothing but `encoders/`: the tiny encoder as a learner with these settings exports it."""

    def export(folder: Path) -> None:
        settings = Settings(encoder=str(write_tiny_encoder(folder / "source")), max_tokens=max_tokens)
        export_into_home(settings.encoder_choice, folder)

    return shared(f"exported-home-{max_tokens}", export)


def tiny_tokenizer() -> Tokenizer:
    characters = string.ascii_lowercase + string.digits
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *sorted(set(WORDS) | set(characters) | set(string.punctuation))]
    vocabulary = {piece: number for number, piece in enumerate([*pieces, *(f"##{c}" for c in characters)])}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]", max_input_chars_per_word=100))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"])]
    )
    return tokenizer
