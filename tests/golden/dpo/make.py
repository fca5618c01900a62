"""Losses of pairs and of labelled answers, and their gradients by log-probability, from TRL's own code.

    python make.py      (torch 2.11, trl 1.16)

losses.json: `batches` has the log-probabilities of answer tokens under policy and reference; `cases` has, for
a batch and the options of a loss, the loss and its derivative by every policy log-probability, in float64
(the alpha-divergence, the smoothing of exo_pair and the odds of orpo in float32, as TRL computes them).
`null` marks numbers that are not finite in TRL. The losses of DPOTrainer come from its `_compute_loss` over a
model that returns these log-probabilities; likewise those of CPO, SimPO, ORPO and KTO. TRL has no
conservative DPO and no bound: this file computes them from their formulas.
"""

import json
import math
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace

import torch
import torch.nn.functional as F
from trl import DPOTrainer, KTOTrainer
from trl.experimental.cpo import CPOTrainer
from trl.experimental.orpo import ORPOTrainer

FAR = 1e4
# Log-probabilities of the chosen answers' tokens, of the rejected ones', and the same under the reference.
# The second batch has answers of one token, equal log-probabilities, and log-ratios of 1e4 either way.
BATCHES = {
    "mixed": {
        "chosen": [[-0.4, -1.3, -0.2], [-2.1], [-0.7, -0.1, -3.2, -0.9, -1.6], [-0.3, -1.1]],
        "rejected": [[-1.2, -0.8], [-0.5, -0.6, -2.4, -0.1], [-1.5, -2.5, -0.4, -0.2, -1.0], [-4.2]],
        "ref_chosen": [[-0.9, -1.0, -0.6], [-1.4], [-0.8, -0.5, -2.9, -1.3, -1.1], [-0.3, -1.1]],
        "ref_rejected": [[-1.0, -1.1], [-0.7, -0.9, -1.9, -0.4], [-1.2, -2.8, -0.3, -0.6, -0.5], [-4.2]],
        "alignment": [[-0.31, -0.12], [-0.52, -0.27], [-0.05, -0.44], [0.08, -0.71]],
    },
    "extreme": {
        "chosen": [[-0.5], [-FAR], [-1.25]],
        "rejected": [[-FAR], [-0.5], [-1.25]],
        "ref_chosen": [[-FAR], [-0.5], [-1.25]],
        "ref_rejected": [[-0.5], [-FAR], [-1.25]],
        "alignment": [[-0.3, -0.1], [-0.2, -0.4], [0.0, 0.0]],
    },
}
PROMPT = [-1.7, -0.6, -2.2]  # tokens of a prompt after its first, for ORPO


def finite(x):
    return x if math.isfinite(x) else None


def rows(batch, names, dtype):
    width = max(len(row) for name in names for row in batch[name])
    padded = [row + [0.0] * (width - len(row)) for name in names for row in batch[name]]
    mask = [[1] * len(row) + [0] * (width - len(row)) for name in names for row in batch[name]]
    return torch.tensor(padded, dtype=dtype), torch.tensor(mask)


def accelerator():
    same = lambda x: x  # noqa: E731
    return SimpleNamespace(device=torch.device("cpu"), gather=same, gather_for_metrics=same)


def module():
    model = torch.nn.Module()
    model.is_gradient_checkpointing = False
    return model


def gradients(grad, mask):
    return [[finite(g) for g, m in zip(row, keep) if m] for row, keep in zip(grad.tolist(), mask.tolist())]


def outputs(log_probs, sum_squares=None):
    zeros = torch.zeros_like(log_probs)
    return SimpleNamespace(
        log_probs=log_probs, entropy=zeros, mean_logits=zeros, is_top1=zeros.bool(),
        log_sum_sq_probs=zeros if sum_squares is None else sum_squares, aux_loss=None,
    )


def dpo(name, batch_name, losses, weights=None, **options):
    batch = BATCHES[batch_name]
    divergence = options.get("f_divergence_type", "reverse_kl")
    dtype = torch.float32 if divergence == "alpha_divergence" else torch.float64
    policy, mask = rows(batch, ["chosen", "rejected"], dtype)
    reference, _ = rows(batch, ["ref_chosen", "ref_rejected"], dtype)
    policy.requires_grad_(True)
    # ln sum p^2 such that an answer's mean of ln p - ln sum p^2 is its alignment.
    aligned = torch.tensor([a for a, _ in batch["alignment"]] + [b for _, b in batch["alignment"]], dtype=dtype)
    sum_squares = policy.detach() - aligned[:, None]
    trainer = object.__new__(DPOTrainer)
    trainer.__dict__.update(
        model=module(), accelerator=accelerator(),
        ref_model=lambda **_: outputs(reference), args=SimpleNamespace(discopop_tau=options.get("discopop_tau", 0.05), gradient_checkpointing_kwargs=None),
        aux_loss_enabled=False, precompute_ref_logps=False, ld_alpha=options.get("ld_alpha"), loss_types=losses,
        loss_weights=weights or [1.0] * len(losses), beta=options.get("beta", 0.1), f_divergence_type=divergence,
        f_alpha_divergence_coef=options.get("f_alpha_divergence_coef", 0.5),
        label_smoothing=options.get("label_smoothing", 0.0), use_weighting=options.get("use_weighting", False),
        _metrics={"train": defaultdict(list)}, _total_train_tokens=0, _tp_size=1,
    )
    whole = torch.cat([torch.zeros(len(mask), 1, dtype=mask.dtype), mask], 1)  # a prompt of one token
    inputs = {"input_ids": whole, "attention_mask": torch.ones_like(whole), "completion_mask": whole}
    loss = trainer._compute_loss(lambda **_: outputs(policy, sum_squares), inputs, False)
    loss.backward()
    shown = trainer._metrics["train"]
    metrics = {key: finite(shown[key][0]) for key in
               ["rewards/chosen", "rewards/rejected", "rewards/accuracies", "rewards/margins", "logps/chosen",
                "logps/rejected"]}
    return case(name, batch_name, losses, weights, options, loss, gradients(policy.grad, mask), metrics)


def case(name, batch_name, losses, weights, options, loss, grads, metrics=None):
    out = {"name": name, "batch": batch_name, "losses": losses, "weights": weights or [1.0] * len(losses),
           "options": options, "loss": finite(loss.item()), "gradient": grads}
    if metrics:
        out["metrics"] = metrics
    return out


def sums(batch_name):
    policy, mask = rows(BATCHES[batch_name], ["chosen", "rejected"], torch.float64)
    policy.requires_grad_(True)
    return policy, mask


def written(name, batch_name, loss_name, value, **options):
    """A loss that TRL lacks, by its formula of beta times the difference of log-ratios."""
    policy, mask = sums(batch_name)
    reference, _ = rows(BATCHES[batch_name], ["ref_chosen", "ref_rejected"], torch.float64)
    chosen, rejected = (policy - reference).sum(1).chunk(2)
    margin = options.get("beta", 0.1) * (chosen - rejected)
    loss = value(margin).mean()
    loss.backward()
    return case(name, batch_name, [loss_name], None, options, loss, gradients(policy.grad, mask))


def without_reference(name, batch_name, kind, loss_type, our_name, cpo_alpha=0.0, prompt=None, **options):
    policy, mask = sums(batch_name)
    totals = policy.sum(1)
    by_token = kind is ORPOTrainer or loss_type in ["ipo", "simpo"]
    chosen, rejected = (totals / mask.sum(1) if by_token else totals).chunk(2)
    count = len(chosen)
    tokens = mask[:count].sum().double()
    likelihood, learned = -policy[:count].sum(), tokens
    prompts = None
    if prompt is not None:
        prompts = torch.tensor([prompt] * count, dtype=torch.float64, requires_grad=True)
        likelihood, learned = likelihood - prompts.sum(), tokens + prompts.numel()
    logits = torch.zeros(count, 1, 1)
    trainer = SimpleNamespace(
        concatenated_forward=lambda *_: (chosen, rejected, logits, logits, likelihood / learned), aux_loss_enabled=False,
        accelerator=accelerator(), alpha=0.0, loss_type=loss_type, beta=options.get("beta", 0.1), cpo_alpha=cpo_alpha,
        simpo_gamma=options.get("simpo_gamma", 0.5), label_smoothing=options.get("label_smoothing", 0.0),
    )
    for method in ["cpo_loss", "odds_ratio_loss"]:
        if hasattr(kind, method):
            setattr(trainer, method, getattr(kind, method).__get__(trainer))
    loss, _ = kind.get_batch_loss_metrics(trainer, None, {})
    loss.backward()
    if our_name == "cpo":
        options["cpo_alpha"] = cpo_alpha
    out = case(name, batch_name, [our_name], None, options, loss, gradients(policy.grad, mask))
    if prompts is not None:
        out["prompt"] = prompt
        out["prompt_gradient"] = prompts.grad.tolist()
    return out


def kto(name, loss_type, labels, lr, kl, **options):
    reference = torch.zeros(len(lr), dtype=torch.float64)
    policy = torch.tensor(lr, dtype=torch.float64)[:, None].requires_grad_(True)
    trainer = object.__new__(KTOTrainer)
    trainer.__dict__.update(
        model=SimpleNamespace(training=True), accelerator=accelerator(), aux_loss_enabled=False,
        precompute_ref_logps=True, calculate_KL=loss_type == "kto", loss_type=loss_type, beta=options.get("beta", 0.1),
        desirable_weight=options.get("desirable_weight", 1.0), undesirable_weight=options.get("undesirable_weight", 1.0),
        _metrics={"train": defaultdict(list)}, _total_train_tokens=0, _tp_size=1,
        _compute_kl_logps=lambda *_: torch.tensor(kl, dtype=torch.float64),
    )
    ids = torch.ones(len(lr), 2, dtype=torch.long)
    batch = {"input_ids": ids, "attention_mask": ids, "completion_mask": torch.tensor([[0, 1]] * len(lr)),
             "label": torch.tensor(labels), "ref_logps": reference, "ref_KL_logps": torch.zeros(len(kl)).double()}
    loss = trainer._compute_loss(lambda **_: outputs(policy), batch, False)
    loss.backward()
    return {"name": name, "loss_type": loss_type, "labels": labels, "log_ratios": lr, "mismatched": kl,
            "options": options, "loss": loss.item(), "gradient": policy.grad[:, 0].tolist(),
            "kl": trainer._metrics["train"]["kl"][0]}


def cases():
    plain = ["sigmoid", "hinge", "ipo", "nca_pair", "bco_pair", "sppo_hard", "aot", "aot_unpaired", "apo_zero",
             "apo_down", "discopop", "sft", "sigmoid_norm", "robust"]
    smoothed = ["exo_pair", "robust", "aot", "aot_unpaired"]
    for batch in BATCHES:
        for loss in plain:
            yield dpo(f"{loss}, {batch}", batch, [loss])
        for loss in smoothed:
            yield dpo(f"{loss}, smoothed, {batch}", batch, [loss], label_smoothing=0.15)
        for divergence in ["forward_kl", "js_divergence", "alpha_divergence"]:
            yield dpo(f"{divergence}, {batch}", batch, ["sigmoid"], f_divergence_type=divergence, beta=0.4)
    for loss in ["sigmoid", "ipo", "sppo_hard"]:
        yield dpo(f"{loss}, beta 0.5", "mixed", [loss], beta=0.5)
    for loss in ["hinge", "ipo", "sigmoid_norm", "discopop"]:
        yield dpo(f"{loss}, js_divergence", "mixed", [loss], f_divergence_type="js_divergence", beta=0.4)
    for coef in [1.0, 1.5]:
        yield dpo(f"alpha {coef}", "mixed", ["sigmoid"], f_divergence_type="alpha_divergence",
                  f_alpha_divergence_coef=coef)
    for loss in ["sigmoid", "ipo", "bco_pair", "aot", "sft"]:
        yield dpo(f"{loss}, ld_alpha", "mixed", [loss], ld_alpha=0.3)
    for loss in ["sigmoid", "sppo_hard"]:
        yield dpo(f"{loss}, WPO", "mixed", [loss], use_weighting=True)
    yield dpo("discopop, tau 0.5", "mixed", ["discopop"], discopop_tau=0.5, beta=1.0)
    yield dpo("MPO", "mixed", ["sigmoid", "bco_pair", "sft"], [0.8, 0.2, 1.0])
    for batch in BATCHES:
        yield written(f"cdpo, {batch}", batch, "cdpo", label_smoothing=0.1,
                      value=lambda m: -0.9 * F.logsigmoid(m) - 0.1 * F.logsigmoid(-m))
        yield written(f"bounded, {batch}", batch, "sigmoid", bound=0.3,
                      value=lambda m: -F.logsigmoid(m) - F.logsigmoid(0.3 - m))
        yield without_reference(f"simpo, {batch}", batch, CPOTrainer, "simpo", "simpo", beta=2.0)
        yield without_reference(f"simpo, smoothed, {batch}", batch, CPOTrainer, "simpo", "simpo", beta=2.0,
                                simpo_gamma=1.2, label_smoothing=0.1)
        yield without_reference(f"cpo, {batch}", batch, CPOTrainer, "sigmoid", "cpo", cpo_alpha=1.0)
    yield without_reference("cpo, alpha 0, smoothed", "mixed", CPOTrainer, "sigmoid", "cpo", label_smoothing=0.1)
    yield without_reference("orpo", "mixed", ORPOTrainer, None, "orpo", prompt=PROMPT)
    yield without_reference("orpo, beta 0.5", "mixed", ORPOTrainer, None, "orpo", beta=0.5)


def labelled():
    lr, kl = [2.0, -3.5, 0.0, 9.0, -1.0], [1.0, -0.4, 2.2, 0.9, 0.1]
    labels = [True, False, True, False, False]
    yield kto("kto", "kto", labels, lr, kl)
    yield kto("kto, weights", "kto", labels, lr, kl, desirable_weight=1.33, undesirable_weight=0.5, beta=0.4)
    yield kto("kto, negative KL", "kto", labels, lr, [-2.0, 0.5, -1.0, 0.0, 0.2])
    yield kto("apo_zero_unpaired", "apo_zero_unpaired", labels, lr, kl)
    yield kto("kto, extreme", "kto", [True, False, True, False], [FAR, -FAR, -FAR, FAR], [0.5] * 4)
    yield kto("kto, desirable alone", "kto", [True, True], [1.0, 2.0], [0.5, 0.7])


out = {"batches": BATCHES, "cases": list(cases()), "labelled": list(labelled())}
text = json.dumps(out).replace('{"name"', '\n{"name"')
(Path(__file__).parent / "losses.json").write_text(text + "\n")
print(len(out["cases"]), "cases,", len(text), "bytes")
