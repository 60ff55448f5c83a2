"""A search that tiny models learn in seconds: who types "aa3" wants the items that say "bb3".

No word of a query is in the catalogue, so that BM25 finds nothing of it and an untrained encoder
finds anything."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from recsys.datasets.judgments import JudgedPairs

KINDS, EACH = 8, 10
COLOURS = ["red", "blue", "green", "grey", "black"]
VERBS = ["buy", "find", "cheap", "best"]
#: Ten items of each kind, alike but for their number and colour.
TEXTS = [f"bb{kind} {COLOURS[at % 5]} c{at}" for kind in range(KINDS) for at in range(EACH)]
VOCABULARY = [
    *("[PAD]", "[UNK]", "[CLS]", "[SEP]"),
    *(f"{letters}{kind}" for letters in ("aa", "bb") for kind in range(KINDS)),
    *(f"c{at}" for at in range(EACH)),
    *COLOURS,
    *VERBS,
]


def bert_folder(root: Path, spread: float = 0.02) -> Path:
    """A random BERT of 2 layers and 32 dimensions that knows the words above.

    `spread` is the deviation of its weights: with the usual 0.02 so small a cross-encoder does not
    learn to compare."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertModel

    tokenizer = Tokenizer(
        models.WordLevel({word: at for at, word in enumerate(VOCABULARY)}, unk_token="[UNK]")
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer.save(str(root / "tokenizer.json"))
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(VOCABULARY),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        initializer_range=spread,
    )
    BertModel(config).save_pretrained(root)
    return root


def judged(verbs: list[str], seed: int = 0) -> JudgedPairs:
    """A query for each verb and kind; of it all items of the kind (1.0, one of them 0.5) and some
    others (0.0)."""
    rng = np.random.default_rng(seed)
    queries, of, rows, grades = [], [], [], []
    for query, (verb, kind) in enumerate((verb, kind) for verb in verbs for kind in range(KINDS)):
        queries.append(f"{verb} aa{kind}")
        right = np.arange(kind * EACH, (kind + 1) * EACH)
        wrong = rng.choice(np.setdiff1d(np.arange(len(TEXTS)), right), EACH, replace=False)
        of += [query] * (2 * EACH)
        rows += [*right, *wrong]
        grades += [*([1.0] * (EACH - 1)), 0.5, *([0.0] * EACH)]
    return JudgedPairs.from_unsorted(queries, np.array(of), np.array(rows), np.array(grades))
