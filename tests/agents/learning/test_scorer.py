from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from maskgym.agents.learning.packing import micro_batches
from maskgym.agents.learning.sample import Sample
from maskgym.agents.learning.scorer import TokenScorer
from maskgym.agents.rollouts.trajectory import TokenSequence

VOCABULARY = 60
KINDS: dict[str, tuple[Any, Any]] = {
    "qwen2": (Qwen2Config, Qwen2ForCausalLM),
    "qwen3": (Qwen3Config, Qwen3ForCausalLM),
    "llama": (LlamaConfig, LlamaForCausalLM),
}


def tiny(kind: str, **options: object) -> Any:
    """Two layers, four query heads over two key-value heads, wide weights so that logits differ."""
    config, model = KINDS[kind]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return model(
            config(
                vocab_size=VOCABULARY,
                hidden_size=32,
                intermediate_size=48,
                num_hidden_layers=2,
                num_attention_heads=4,
                num_key_value_heads=2,
                head_dim=8,
                max_position_embeddings=128,
                initializer_range=0.3,
                **{"tie_word_embeddings": True, **options},
            )
        )


def samples() -> list[Sample]:
    """Two groups of four that share a prompt of 12 tokens, and one sequence alone; two turns each."""
    draw = torch.Generator().manual_seed(0)
    found = []
    for group in range(3):
        prompt = torch.randint(VOCABULARY, (12,), generator=draw).tolist()
        for i in range(4 if group < 2 else 1):
            rest = torch.randint(VOCABULARY, (9 + 5 * i,), generator=draw).tolist()
            mask = [0] * 12 + [1, 1, 1, 0, 0] + [1] * (len(rest) - 5)
            sequence = TokenSequence(
                ids=(*prompt, *rest), loss_mask=tuple(mask), logprobs=(0.0,) * len(mask)
            )
            found.append(Sample(sequence=sequence, group=str(group)))
    return found


def plain(model: Any, chosen: list[Sample], temperature: float) -> list[tuple[Tensor, Tensor]]:
    """Sequence by sequence through the model as Transformers ships it, with all logits."""
    found = []
    for sample in chosen:
        ids = torch.tensor([sample.sequence.ids])
        logs = torch.log_softmax(model(input_ids=ids).logits[0] / temperature, dim=-1)
        trained = torch.tensor(sample.sequence.loss_mask).nonzero().squeeze(1)
        entropy = -(logs.exp() * logs).sum(-1)
        found.append((logs[trained - 1, ids[0, trained]], entropy[trained - 1]))
    return found


def loss_of(logprobs: Tensor, entropy: Tensor, index: int) -> Tensor:
    """A loss in which each sequence and each place weighs differently."""
    place = torch.arange(len(logprobs), dtype=logprobs.dtype)
    return ((1 + index + 0.1 * place) * (logprobs - 0.2 * entropy)).sum()


def plain_gradients(model: Any, results: list[tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
    """The gradients of `loss_of`, summed over the results."""
    model.zero_grad(set_to_none=True)
    for i, both in enumerate(results):
        loss_of(*both, i).backward()  # type: ignore[no-untyped-call]
    return gradients(model)


def gradients(model: torch.nn.Module) -> dict[str, Tensor]:
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def scored(
    scorer: TokenScorer, chosen: list[Sample], **options: Any
) -> tuple[dict[int, tuple[Tensor, Tensor]], dict[str, Tensor]]:
    """Results by sample, and the gradients of `loss_of` summed."""
    scorer.zero_grad(set_to_none=True)
    found = {}
    for batch in micro_batches(chosen, **{"max_tokens": 90, **options}):
        logprobs, entropy = scorer(batch, with_entropy=True)
        total = torch.zeros(())
        for n, index in enumerate(batch.sample_N):
            mine = batch.sequence_M == n
            found[index] = (logprobs[mine], entropy[mine])
            total = total + loss_of(*found[index], index)
        total.backward()  # type: ignore[no-untyped-call]
    return found, gradients(scorer.model)


def same(ours: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    """Asserts equal gradients to 1e-5 of the largest one."""
    assert ours.keys() == other.keys() and ours
    scale = max(float(grad.abs().max()) for grad in other.values())
    for name, grad in ours.items():
        assert torch.allclose(grad, other[name], atol=1e-5 * scale), name


@pytest.mark.parametrize("kind", KINDS)
def test_packed_and_padded_and_one_by_one_agree_and_so_do_their_gradients(kind: str) -> None:
    model, chosen = tiny(kind), samples()
    wanted = plain(model, chosen, 0.8)
    exact = plain_gradients(model, wanted)
    scorer = TokenScorer(model, temperature=0.8, head_chunk_tokens=32)
    ways: list[dict[str, Any]] = [
        {},
        {"share_prompts": False},
        {"packing": "padded"},
        {"max_tokens": 1000},
    ]
    for options in ways:
        found, grads = scored(scorer, chosen, **options)
        assert len(found) == len(chosen)
        for i, both in found.items():
            for ours, dense in zip(both, wanted[i], strict=True):
                assert ours.dtype == torch.float32
                assert torch.allclose(ours, dense, atol=1e-5)
        same(grads, exact)


def test_a_model_that_packs_still_reads_plain_batches_as_before() -> None:
    model, chosen = tiny("qwen3"), samples()
    with torch.no_grad():
        before = plain(model, chosen, 1.0)
        TokenScorer(model)(micro_batches(chosen, max_tokens=1000)[0])
        after = plain(model, chosen, 1.0)
    for (a, _), (b, _) in zip(before, after, strict=True):
        assert torch.allclose(a, b, atol=1e-6)
    # Generation with a cache goes through the same attention.
    ids = torch.tensor([chosen[0].sequence.ids])
    options = {"max_new_tokens": 5, "do_sample": False, "pad_token_id": 0}
    assert torch.equal(model.generate(ids, **options), tiny("qwen3").generate(ids, **options))


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_gradient_checkpointing_changes_nothing(use_reentrant: bool) -> None:
    chosen = samples()
    plainly = scored(TokenScorer(tiny("qwen3").train()), chosen)
    model = tiny("qwen3").train()
    model.gradient_checkpointing_enable({"use_reentrant": use_reentrant})
    again = scored(TokenScorer(model), chosen)
    assert all(torch.equal(plainly[0][i][0], again[0][i][0]) for i in plainly[0])
    same(again[1], plainly[1])


@pytest.mark.parametrize("tied", [True, False])
def test_tied_and_untied_heads_get_the_gradient_that_the_model_alone_gives_them(tied: bool) -> None:
    model, chosen = tiny("llama", tie_word_embeddings=tied), samples()
    exact = plain_gradients(model, plain(model, chosen, 1.0))
    assert ("lm_head.weight" in exact) is not tied
    same(scored(TokenScorer(model), chosen)[1], exact)


@pytest.mark.parametrize("targets", [["q_proj", "v_proj"], ["q_proj", "lm_head"]])
def test_adapters_of_peft_are_trained_also_on_the_head(targets: list[str]) -> None:
    from peft import LoraConfig, get_peft_model

    base = tiny("qwen3", tie_word_embeddings=False)
    config = LoraConfig(r=4, lora_alpha=8, target_modules=targets, init_lora_weights=False)
    model, chosen = get_peft_model(base, config), samples()
    wanted = plain(model, chosen, 0.9)
    exact = plain_gradients(model, wanted)
    scorer = TokenScorer(model, temperature=0.9, head_chunk_tokens=20)
    found, grads = scored(scorer, chosen)
    assert all("lora_" in name for name in grads)
    assert all(torch.allclose(found[i][0], wanted[i][0], atol=1e-5) for i in found)
    same(grads, exact)


def test_bfloat16_weights_score_close_to_float32() -> None:
    chosen = samples()
    exact = plain(tiny("qwen3").bfloat16().float(), chosen, 1.0)
    found, grads = scored(TokenScorer(tiny("qwen3").bfloat16()), chosen)
    assert all(grad.dtype == torch.bfloat16 and grad.isfinite().all() for grad in grads.values())
    assert found[0][0].dtype == torch.float32
    gaps = torch.cat([(found[i][0] - exact[i][0]).abs() for i in found])
    assert gaps.mean().item() < 0.1


def test_soft_capped_logits_are_capped() -> None:
    model, chosen = tiny("llama"), samples()
    model.config.final_logit_softcapping = 2.0
    scorer = TokenScorer(model, head_chunk_tokens=16)
    (batch,) = micro_batches(chosen[:1], max_tokens=100)
    logits = model(input_ids=batch.ids_RT).logits[0, batch.predictors_M]
    wanted = torch.log_softmax(2.0 * torch.tanh(logits / 2.0), dim=-1)
    picked = wanted.gather(1, batch.targets_M[:, None])[:, 0]
    assert torch.allclose(scorer(batch)[0], picked, atol=1e-5)


def test_scaled_logits_are_refused() -> None:
    model = tiny("llama")
    model.config.logits_scaling = 8.0
    with pytest.raises(ValueError, match="multiplies its logits by logits_scaling"):
        TokenScorer(model)


def test_a_temperature_of_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="temperature"):
        TokenScorer(tiny("llama"), temperature=0.0)
