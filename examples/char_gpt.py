"""A small GPT learns to write like Jane Austen, a character at a time; then it writes.

    python -m examples.char_gpt                       # two novels that come with the package
    python -m examples.char_gpt --text my_book.txt
    python -m examples.char_gpt --resume --epochs 0 --prompt "It is a truth"      # only write

It saves checkpoints, from which `--resume` goes on, prints the loss on text that it was not trained on (in nats a
character; 1.6 after a few minutes, below 1.4 with the default budget), and writes with a cache of keys and values, so
that each character costs one step of the network.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import asgfn
import asgfn.numpy as jnp
import nn_fn
from asgfn import lax, random
from examples.arguments import parser, run_folder
from nn_fn import functional as F
from nn_fn import initializers, metrics, optimisers, schedules
from nn_fn.data import CharTokenizer, DataLoader, RandomSampler, SubsetDataset, TextDataset, load_austen, load_text


def network(vocabulary: int, features: int, heads: int, blocks: int, dropout: float) -> nn_fn.Layer:
    """A decoder-only transformer: pre-norm blocks with rotary positions."""
    block = nn_fn.transformer_encoder_block(
        features, heads, dropout=dropout, activation="gelu", causal=True, rope=True, bias=False, norm="rms_norm"
    )
    return nn_fn.sequential(
        embed=nn_fn.embedding(vocabulary, features, weight_init=initializers.normal(stddev=0.02)),
        blocks=nn_fn.repeat(block, blocks),
        norm=nn_fn.rms_norm(features),
        head=nn_fn.linear(features, vocabulary, bias=False, weight_init=initializers.normal(stddev=0.02)),
    )


def write(model: nn_fn.Layer, params: Any, prompt: np.ndarray, count: int, key: Any, temperature: float = 0.8) -> Any:
    """Draws `count` tokens after a prompt, int32 [n]: each from the model's distribution, given all before."""

    @asgfn.jit(static_argnums=3)
    def run(params: Any, prompt: Any, key: Any, count: int) -> Any:
        cache = model.init_cache(1, prompt.shape[0] + count)
        logits, cache = model(params, cache, prompt[None])

        def step(carry: Any, key: Any) -> tuple[Any, Any]:
            logits, cache = carry
            token = random.categorical(key, logits / temperature).astype(jnp.int32)
            logits, cache = model(params, cache, token[:, None])
            return (logits[:, -1], cache), token[0]

        _, tokens = lax.scan(step, (logits[:, -1], cache), random.split(key, count))
        return tokens

    return run(params, jnp.asarray(prompt, jnp.int32), key, count)


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Runs the example; returns the validation loss and what was written."""
    arguments = parser("Train a GPT on the characters of a text.", "runs/char_gpt", epochs=8, batch_size=16)
    arguments.add_argument("--text", type=Path, help="a text file; by default two novels of Jane Austen")
    arguments.add_argument("--steps-per-epoch", type=int, default=500)
    arguments.add_argument("--context", type=int, default=64, help="characters that a training example holds")
    arguments.add_argument("--features", type=int, default=128)
    arguments.add_argument("--heads", type=int, default=4)
    arguments.add_argument("--blocks", type=int, default=4)
    arguments.add_argument("--dropout", type=float, default=0.0)
    arguments.add_argument("--prompt", default="It was ")
    arguments.add_argument("--length", type=int, default=400, help="how many characters to write")
    options = arguments.parse_args(argv)

    if options.text is None:
        train_text, validation_text = load_austen("train"), load_austen("validation")
    else:
        text = load_text(options.text)
        train_text, validation_text = text[: len(text) * 9 // 10], text[len(text) * 9 // 10 :]
    tokenizer = CharTokenizer.from_text(train_text + validation_text + options.prompt)
    train = TextDataset(tokenizer.encode(train_text), options.context)
    validation = TextDataset(tokenizer.encode(validation_text), options.context, stride=options.context)
    # windows overlap, so an epoch is a number of random ones, not all of them
    sampler = RandomSampler(len(train), num_samples=options.steps_per_epoch * options.batch_size, seed=options.seed)
    batches = DataLoader(train, options.batch_size, sampler=sampler, seed=options.seed)

    model = network(tokenizer.vocabulary_size, options.features, options.heads, options.blocks, options.dropout)
    print(nn_fn.summary(model, asgfn.ShapeDtypeStruct((options.batch_size, options.context), jnp.int32)))
    total = max(options.epochs * options.steps_per_epoch, 1)
    rate = schedules.warmup_cosine_decay_schedule(0.0, 3e-3, min(100, total // 2), total, end_value=1e-4)
    optimiser = optimisers.chain(
        optimisers.clip_by_global_norm(1.0), optimisers.adamw(rate, b2=0.99, weight_decay=0.1, mask=is_matrix)
    )

    def loss(logits: Any, targets: Any) -> Any:
        return F.cross_entropy(logits, targets, axis=-1)

    step = nn_fn.train_step(nn_fn.supervised(model, loss), optimiser, backend=options.backend)
    state = nn_fn.init_train_state(model, optimiser, random.key(options.seed))
    some = SubsetDataset(validation, np.arange(0, len(validation), max(1, len(validation) // 1000)))
    scores = metrics.collection(loss=metrics.log_loss(from_logits=True), perplexity=metrics.perplexity())
    evaluate = nn_fn.evaluator(model, scores, DataLoader(some, 50, drop_last=len(some) > 50), backend=options.backend)

    logger, checkpoints = run_folder(options, best_metric="val_loss")
    started = time.perf_counter()
    result = nn_fn.fit(
        step,
        state,
        batches,
        epochs=options.epochs,
        evaluate=evaluate,
        logger=logger,
        checkpoints=checkpoints,
        checkpoint_every=100,
        plot=options.out / "loss.png",
    )
    print(f"{int(result.state.step)} steps, {time.perf_counter() - started:.1f} s in this run")
    print(result.logger.format_line())
    validation_loss = result.logger.last("val_loss") if result.logger.rows else float("nan")

    key = random.fold_in(random.key(options.seed), 1)
    tokens = write(model, result.state.params, tokenizer.encode(options.prompt), options.length, key)
    written = options.prompt + tokenizer.decode(np.asarray(tokens))
    print(f"\n{written}\n")
    print(f"validation loss: {validation_loss:.4f} nats a character")
    return {"loss": validation_loss, "written": written}


def is_matrix(params: Any) -> Any:
    """Which parameters decay: matrices, but not scales and biases (those of repeated blocks have one axis more)."""
    named = nn_fn.named_parameters(params)
    decays = {name: name.endswith("weight") and "norm" not in name for name in named}
    return nn_fn.nested_parameters(decays, params)


if __name__ == "__main__":
    main()
