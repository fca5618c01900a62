"""Losses, gradients and advantages of GRPO, RLOO and PPO from TRL's own code, in float64.

    pip download "trl==1.10.0" --no-deps && unzip trl-1.10.0-py3-none-any.whl -d trl-1.10
    python make.py trl-1.10      (torch 2.11, trl 1.16 installed; PPO is no longer in 1.16)

losses.json: `batches` has the numbers of sampled answers; `cases` has, for a batch and the options of a loss,
the loss, its derivative by every log-probability and entropy, and the metrics that TRL logs. `advantages` has
rewards and the advantages of GRPO and RLOO, `ppo` the advantages, returns and losses of PPO, `pairs` the
pairs of online DPO and `online` its loss. `null` marks numbers that are not finite in TRL, and missing
rewards. TRL has neither a dual clip nor KL terms in PPO's loss: `written` has them, computed here from their
formulas.

Losses are those of `GRPOTrainer._compute_loss` and `RLOOTrainer._compute_loss`, over a model that returns
these log-probabilities. Advantages and importance weights are computed inside long methods: `lines` takes
their lines from the source between two comments, and they run unchanged. So do those of PPO; each answer goes
through advantage estimation without padding (with padding, TRL adds the score one token late and bootstraps
from the value of a padded state).
"""

import inspect
import json
import math
import sys
import textwrap
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace

import torch
from trl import GRPOTrainer, RLOOTrainer
from trl.experimental.online_dpo import OnlineDPOTrainer
from trl.trainer import grpo_trainer

torch.set_default_dtype(torch.float64)  # quotients of counts would be float32 by default
FAR = 1e4
T = lambda x: torch.tensor(x, dtype=torch.float64)  # noqa: E731

# Ratios are inside and outside of the clips; entropies are exact in float32, the type of TRL's quantile.
BATCHES = {
    "mixed": {
        "log_probs": [[-0.7, -1.9, -0.2, -1.1], [-2.4], [-0.9, -0.4, -1.1, -3.0, -0.3], [-1.3, -0.6, -2.2]],
        "old": [[-0.75, -2.35, 0.15 - 0.2, -1.1], [-2.55], [-0.4, -0.5, -1.65, -2.92, -0.31], [-1.32, -0.54, -1.7]],
        "reference": [[-1.0, -1.5, -0.3, -1.0], [-3.0], [-0.7, -0.4, -2.0, -3.3, -0.1], [-1.7, -0.8, -1.6]],
        "sampling": [[-0.8, -2.3, -0.1, -1.15], [-1.2], [-0.45, None, -1.6, -2.9, -1.9], [-1.3, -0.55, -1.75]],
        "entropy": [[1.5, 2.25, 0.5, 1.75], [3.0], [1.0, 0.125, 2.5, 3.5, 0.25], [0.75, 1.25, 2.0]],
        "advantages": [1.2, -0.8, -0.5, 0.6],
        "truncated": [False, False, True, False],
    },
    "one token": {
        "log_probs": [[-0.5], [-1.25]],
        "old": [[-0.5], [-1.25]],
        "reference": [[-0.5], [-1.25]],
        "sampling": [[-0.5], [-1.25]],
        "entropy": [[0.5], [1.0]],
        "advantages": [1.0, -1.0],
        "truncated": [False, True],
    },
    "extreme": {
        "log_probs": [[-0.5, -0.25], [-FAR, -0.5], [-0.5, -0.5], [-FAR, -0.25]],
        "old": [[-FAR, -0.25], [-0.5, -0.5], [-FAR, -0.5], [-0.5, -0.25]],
        "reference": [[-FAR, -0.25], [-0.5, -0.5], [-FAR, -0.5], [-0.5, -0.25]],
        "sampling": [[-FAR, -0.25], [-0.5, -0.5], [-FAR, -0.5], [-0.5, -0.25]],
        "entropy": [[0.5, 0.25], [0.125, 1.0], [1.5, 2.0], [0.0, 0.75]],
        "advantages": [1.0, 1.0, -1.0, -1.0],
        "truncated": [False, False, False, False],
    },
}
LONGEST = 8


def finite(x):
    return x if math.isfinite(x) else None


def padded(rows):
    width = max(map(len, rows))
    values = [[math.nan if x is None else x for x in row] + [0.0] * (width - len(row)) for row in rows]
    return T(values), torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])


def unpadded(values, lengths):
    return [[finite(x) for x in row[:length]] for row, length in zip(values.tolist(), lengths)]


def lines(method, begin, end):
    """The source lines of a method from the one with `begin` to the one before `end`, without their indent."""
    source = method if isinstance(method, str) else inspect.getsource(method)
    found = source.splitlines()
    first = next(at for at, line in enumerate(found) if begin in line)
    last = next(at for at, line in enumerate(found) if at > first and end in line)
    return textwrap.dedent("\n".join(found[first:last]))


def accelerator():
    same = lambda x, **_: x  # noqa: E731
    return SimpleNamespace(device=torch.device("cpu"), gather=same, gather_for_metrics=same, reduce=same, num_processes=1,
                           pad_across_processes=same, sync_gradients=True, process_index=0)


def shown(metrics):
    return {name: finite(values[0]) for name, values in metrics["train"].items()}


def inputs_of(batch, masked):
    log_probs, mask = padded(batch["log_probs"])
    for row, truncated in enumerate(batch["truncated"]):
        if masked and truncated:
            mask[row] = 0
    ids = torch.zeros_like(mask)
    return log_probs.requires_grad_(True), mask, {
        "prompt_ids": ids[:, :1], "prompt_mask": torch.ones_like(ids[:, :1]), "completion_ids": ids,
        "completion_mask": mask, "advantages": T(batch["advantages"]), "num_items_in_batch": mask.sum(),
        "old_per_token_logps": padded(batch["old"])[0], "ref_per_token_logps": padded(batch["reference"])[0],
    }


GRPO_DEFAULTS = {
    "loss_type": "dapo", "beta": 0.0, "epsilon": 0.2, "epsilon_high": None, "delta": None,
    "importance_sampling_level": "token", "use_bias_correction_kl": True, "sapo_temperature_pos": 1.0,
    "sapo_temperature_neg": 1.05, "vespo_k_pos": 2.0, "vespo_lambda_pos": 3.0, "vespo_k_neg": 3.0, "vespo_lambda_neg": 2.0,
    "mask_truncated_completions": False, "top_entropy_quantile": 1.0, "entropy_coef": 0.0,
    "off_policy_mask_threshold": None, "importance_sampling_mode": None, "importance_sampling_clip_max": 3.0,
    "importance_sampling_clip_min": None, "rollout_tokens": None, "old": True,
}


def importance_weights(trainer, old, sampling, mask):
    space = {"self": trainer, "completion_mask": mask, "tool_mask": None, "old_per_token_logps": old,
             "sampling_per_token_logps": sampling, "torch": torch, "math": math}
    exec(lines(GRPOTrainer._generate_and_score_completions,
               "# Compute the importance sampling ratio when using vLLM",
               "# Compute the per-token log probabilities for the reference model"), space)
    return space["vllm_importance_sampling_ratio"]


def grpo(name, batch_name, **options):
    of = {**GRPO_DEFAULTS, **options}
    batch = BATCHES[batch_name]
    log_probs, mask, inputs = inputs_of(batch, of["mask_truncated_completions"])
    entropies = padded(batch["entropy"])[0].requires_grad_(True)
    args = SimpleNamespace(steps_per_generation=1, **{key: of[key] for key in of if key not in ["rollout_tokens", "old"]})
    trainer = object.__new__(GRPOTrainer)
    trainer.__dict__.update(
        model=SimpleNamespace(training=True), accelerator=accelerator(), args=args, aux_loss_enabled=False,
        use_vllm=of["importance_sampling_mode"] is not None, vllm_importance_sampling_correction=True,
        vllm_importance_sampling_mode=of["importance_sampling_mode"],
        vllm_importance_sampling_clip_max=of["importance_sampling_clip_max"],
        vllm_importance_sampling_clip_min=of["importance_sampling_clip_min"],
        epsilon_low=of["epsilon"], epsilon_high=of["epsilon"] if of["epsilon_high"] is None else of["epsilon_high"],
        use_adaptive_entropy=False, _entropy_bonus_enabled=of["entropy_coef"] != 0.0, max_completion_length=LONGEST,
        current_gradient_accumulation_steps=1, _metrics={"train": defaultdict(list)},
        _get_per_token_logps_and_entropies=lambda *_, **__: (log_probs, entropies, None),
        **{key: of[key] for key in ["loss_type", "beta", "importance_sampling_level", "top_entropy_quantile",
                                    "entropy_coef", "off_policy_mask_threshold"]},
    )
    if trainer.use_vllm:
        inputs["sampling_per_token_logps"] = padded(batch["sampling"])[0]
        inputs["importance_sampling_ratio"] = importance_weights(
            trainer, inputs["old_per_token_logps"], inputs["sampling_per_token_logps"], mask)
    if not of["old"]:
        del inputs["old_per_token_logps"]
    if of["rollout_tokens"] is not None:
        inputs["num_items_in_batch"] = torch.tensor(of["rollout_tokens"][0])
        args.steps_per_generation = of["rollout_tokens"][1]
    loss = trainer._compute_loss(None, inputs)
    loss.backward()
    lengths = [len(row) for row in batch["log_probs"]]
    out = {"name": name, "trainer": "grpo", "batch": batch_name, "options": options, "loss": finite(loss.item()),
           "gradient": unpadded(log_probs.grad, lengths), "metrics": shown(trainer._metrics)}
    if of["entropy_coef"] != 0.0:
        out["entropy_gradient"] = unpadded(entropies.grad, lengths)
    if trainer.use_vllm:
        weights = inputs["importance_sampling_ratio"].expand_as(mask)
        out["weights"] = unpadded(weights, lengths)
    return out


def rloo(name, batch_name, **options):
    batch = BATCHES[batch_name]
    log_probs, mask, inputs = inputs_of(batch, options.get("mask_truncated_completions", False))
    inputs["old_logps"] = (inputs["old_per_token_logps"] * mask).sum(1)
    entropies = padded(batch["entropy"])[0]
    low, high = options.get("epsilon", 0.2), options.get("epsilon_high")
    trainer = object.__new__(RLOOTrainer)
    trainer.__dict__.update(
        model=SimpleNamespace(training=True), accelerator=accelerator(), aux_loss_enabled=False, epsilon_low=low,
        epsilon_high=low if high is None else high, _metrics={"train": defaultdict(list)},
        _get_per_token_logps_and_entropies=lambda *_, **__: (log_probs, entropies, None),
    )
    loss = trainer._compute_loss(None, inputs)
    loss.backward()
    lengths = [len(row) for row in batch["log_probs"]]
    return {"name": name, "trainer": "rloo", "batch": batch_name, "options": options, "loss": finite(loss.item()),
            "gradient": unpadded(log_probs.grad, lengths), "metrics": shown(trainer._metrics)}


def losses():
    names = ["grpo", "bnpo", "dr_grpo", "dapo", "cispo", "sapo", "luspo", "vespo"]
    for loss in names:
        high = {"epsilon_high": 1.3} if loss == "cispo" else {}
        for batch in BATCHES:
            yield grpo(f"{loss}, {batch}", batch, loss_type=loss, **high)
        yield grpo(f"{loss}, KL", "mixed", loss_type=loss, beta=0.3, **high)
        yield grpo(f"{loss}, masked, KL", "mixed", loss_type=loss, beta=0.3, mask_truncated_completions=True, **high)
        yield grpo(f"{loss}, token_truncate", "mixed", loss_type=loss, importance_sampling_mode="token_truncate", **high)
        if loss != "vespo":
            yield grpo(f"{loss}, sequence, KL", "mixed", loss_type=loss, importance_sampling_level="sequence", beta=0.2,
                       **high)
    yield grpo("first update", "mixed", loss_type="grpo", old=False, beta=0.1)
    yield grpo("KL, not corrected", "mixed", loss_type="grpo", beta=0.3, use_bias_correction_kl=False)
    yield grpo("KL, equal", "one token", loss_type="grpo", beta=0.3)
    yield grpo("KL, extreme", "extreme", loss_type="grpo", beta=0.3)
    yield grpo("epsilon_high, delta", "mixed", epsilon=0.1, epsilon_high=0.28, delta=1.4)
    yield grpo("GSPO", "mixed", loss_type="grpo", importance_sampling_level="sequence", epsilon=3e-4, epsilon_high=4e-4)
    yield grpo("masked", "mixed", mask_truncated_completions=True)
    yield grpo("two steps of a rollout", "mixed", rollout_tokens=[31, 2])
    yield grpo("two steps of a rollout, cispo", "mixed", loss_type="cispo", epsilon_high=5.0, rollout_tokens=[31, 2])
    for share in [0.2, 0.55]:
        yield grpo(f"top_entropy_quantile {share}", "mixed", top_entropy_quantile=share, beta=0.1)
    yield grpo("entropy bonus", "mixed", entropy_coef=0.02)
    yield grpo("entropy bonus, quantile", "mixed", loss_type="grpo", entropy_coef=0.02, top_entropy_quantile=0.5)
    yield grpo("entropy bonus, masked", "mixed", entropy_coef=0.02, mask_truncated_completions=True)
    for threshold in [0.01, 0.06, 0.3]:
        yield grpo(f"off policy {threshold}", "mixed", off_policy_mask_threshold=threshold)
    yield grpo("off policy, other engine", "mixed", off_policy_mask_threshold=0.05,
               importance_sampling_mode="token_mask")
    for mode in ["token_mask", "sequence_truncate", "sequence_mask"]:
        yield grpo(mode, "mixed", loss_type="grpo", importance_sampling_mode=mode, beta=0.1)
        yield grpo(f"{mode}, bounds", "mixed", loss_type="grpo", importance_sampling_mode=mode,
                   importance_sampling_clip_min=0.9, importance_sampling_clip_max=1.5)
    yield grpo("vespo, token_mask", "mixed", loss_type="vespo", importance_sampling_mode="token_mask",
               importance_sampling_clip_max=1.2)
    yield grpo("vespo, other shape", "mixed", loss_type="vespo", vespo_k_pos=1.5, vespo_lambda_pos=2.0, vespo_k_neg=0.7,
               vespo_lambda_neg=1.1)
    yield grpo("sapo, other temperatures", "mixed", loss_type="sapo", sapo_temperature_pos=2.0, sapo_temperature_neg=0.4)
    for batch in BATCHES:
        yield rloo(f"rloo, {batch}", batch)
    yield rloo("rloo, epsilon", "mixed", epsilon=0.05, epsilon_high=0.6)


REWARDS = {
    "one function": [[1.0], [0.5], [2.0], [1.5], [-3.0], [4.0], [0.25], [0.0]],
    "three functions": [[1.0, None, 2.0], [0.5, 3.0, 2.0], [None, None, None], [1.5, -1.0, 2.0],
                        [-3.0, None, 0.0], [None, 0.5, 1.0], [0.25, None, None], [0.0, None, 4.0]],
    "no signal": [[1.0], [1.0], [1.0], [1.0], [None], [None], [None], [2.0]],
    "none": [[None], [None], [None], [None]],
}
WEIGHTS = {"three functions": [1.0, 0.5, 2.0]}


def group_advantages(rewards_name, **options):
    table = torch.tensor([[math.nan if x is None else x for x in row] for row in REWARDS[rewards_name]],
                         dtype=torch.float64)
    functions = table.shape[1]
    weights = T(WEIGHTS.get(rewards_name, [1.0] * functions))
    trainer_name = options.pop("trainer")
    kind = GRPOTrainer if trainer_name == "grpo" else RLOOTrainer
    metrics = {"train": defaultdict(list)}
    trainer = SimpleNamespace(
        scale_rewards=options.get("scale_rewards", "group"), reward_weights=weights, reward_funcs=[None] * functions,
        multi_objective_aggregation=options.get("multi_objective_aggregation", "sum_then_normalize"),
        reward_clip_range=options.get("reward_clip_range"), beta=options.get("beta", 0.0),
        normalize_advantages=options.get("normalize_advantages", False), accelerator=accelerator(), _metrics=metrics,
        reward_func_names=[f"f{at}" for at in range(functions)],
    )
    space = {**vars(grpo_trainer), "self": trainer, "torch": torch, "rewards_per_func": table, "mode": "train",
             "num_generations": 4, "device": "cpu", "prompts": [None] * len(table), "gather": lambda x: x}
    if trainer.beta:
        policy, mask = padded(RLOO_ANSWERS["log_probs"])
        space.update(old_per_token_logps=policy, ref_per_token_logps=padded(RLOO_ANSWERS["reference"])[0],
                     completion_mask=mask)
    exec(lines(kind._generate_and_score_completions, "# A completion for which every reward function returned None",
               "# Log prompts and completions"), space)
    return {"name": f"{trainer_name}, {rewards_name}, {options}", "trainer": trainer_name, "rewards": rewards_name,
            "options": options, "advantages": space["advantages"].tolist(), "metrics": shown(metrics)}


RLOO_ANSWERS = {
    "log_probs": [[-0.7, -1.9], [-2.4], [-0.9, -0.4, -1.1], [-1.3], [-0.2, -0.6], [-1.0], [-0.5, -0.5], [-2.0]],
    "reference": [[-1.0, -1.5], [-3.0], [-0.7, -0.4, -2.0], [-1.7], [-0.2, -0.6], [-0.4], [-1.5, -0.7], [-2.5]],
}


def advantages():
    for rewards in REWARDS:
        for scale in ["group", "batch", "none"]:
            yield group_advantages(rewards, trainer="grpo", scale_rewards=scale)
        yield group_advantages(rewards, trainer="grpo", multi_objective_aggregation="normalize_then_sum")
        for normalize in [False, True]:
            yield group_advantages(rewards, trainer="rloo", normalize_advantages=normalize)
    yield group_advantages("three functions", trainer="rloo", beta=0.3, reward_clip_range=[-2.0, 2.5])


PPO_ANSWERS = {
    "log_probs": [[-0.7, -1.9, -0.2, -1.1], [-2.4], [-0.9, -0.4, -1.1], [-1.3, -0.6]],
    "reference": [[-1.0, -1.5, -0.3, -1.0], [-3.0], [-0.7, -0.4, -2.0], [-1.7, -0.8]],
    "values": [[0.4, 0.1, -0.3, 0.9], [1.5], [-0.2, 0.3, 0.0], [0.7, -1.1]],
    "scores": [1.5, -0.7, 3.0, 0.2],
    "ended": [True, False, True, True],
    "new_log_probs": [[-0.5, -1.6, -0.6, -1.1], [-2.1], [-1.4, -0.35, -1.0], [-1.2, -0.9]],
    "new_values": [[0.7, 0.05, -0.3, 0.4], [1.6], [0.4, 0.2, -0.1], [0.1, -0.9]],
}


def ppo(source, name, **options):
    of = {"kl_coef": 0.05, "kl_estimator": "k1", "cliprange": 0.2, "cliprange_value": 0.2, "vf_coef": 0.1, "gamma": 1.0,
          "lam": 0.95, "whiten_rewards": False, "missing_eos_penalty": None, **options}
    args = SimpleNamespace(**of)
    space = {"torch": torch, "args": args, "accelerator": accelerator(), "INVALID_LOGPROB": 1.0}
    exec(lines(source, "def masked_mean", "# taken from https://github.com/OpenLMLab/MOSS-RLHF"), space)
    scores = T(PPO_ANSWERS["scores"])
    if of["missing_eos_penalty"] is not None:
        space.update(self=SimpleNamespace(args=args), scores=scores, contain_eos_token=torch.tensor(PPO_ANSWERS["ended"]))
        exec(lines(source, "if self.args.missing_eos_penalty is not None", "# accelerator.print(f\"{scores=}"), space)
    lengths = [len(row) for row in PPO_ANSWERS["log_probs"]]
    reward_lines = lines(source, "# 4. compute rewards", "# 5. whiten rewards")
    estimate = lines(source, "# 6. compute advantages and returns", "advantages = masked_whiten(")
    rewards, kls, raw, returns = [], [], [], []
    for row, length in enumerate(lengths):  # a row of its own length: no padded state
        last = torch.tensor([length - 1])
        space.update(logprobs=T([PPO_ANSWERS["log_probs"][row]]), ref_logprobs=T([PPO_ANSWERS["reference"][row]]),
                     scores=scores[row : row + 1], sequence_lengths=last, sequence_lengths_p1=last + 1)
        exec(reward_lines, space)
        rewards.append(space["rewards"][0].tolist())
        kls.append(space["kl"].sum().item())
    if of["whiten_rewards"]:
        values, mask = padded(rewards)
        space.update(rewards=values, padding_mask_p1=mask == 0)
        exec(lines(source, "# 5. whiten rewards", "# 6. compute advantages and returns"), space)
        rewards = unpadded(space["rewards"], lengths)
    for row, length in enumerate(lengths):
        space.update(rewards=T([rewards[row]]), values=T([PPO_ANSWERS["values"][row]]), responses=torch.zeros(1, length))
        exec(estimate, space)
        raw.append(space["advantages"][0].tolist())
        returns.append(space["returns"][0].tolist())
    values, mask = padded(raw)
    space.update(advantages=values, padding_mask=mask == 0)
    exec(lines(source, "advantages = masked_whiten(", "empty_cache()"), space)
    advantages = space["advantages"]
    log_probs, mask = padded(PPO_ANSWERS["new_log_probs"])
    new_values = padded(PPO_ANSWERS["new_values"])[0].requires_grad_(True)
    log_probs.requires_grad_(True)
    every = torch.arange(len(lengths))
    space.update(new_logprobs=log_probs, mb_logprobs=padded(PPO_ANSWERS["log_probs"])[0], vpred=new_values,
                 mb_values=padded(PPO_ANSWERS["values"])[0], mb_return=padded(returns)[0], mb_advantage=advantages,
                 padding_mask=mask == 0, padding_mask_p1=mask == 0, micro_batch_inds=every)
    exec(lines(source, "vpredclipped = torch.clamp(", "accelerator.backward(loss)"), space)
    exec(lines(source, "pg_clipfrac = masked_mean(", "prob_dist = "), space)
    space["loss"].backward()
    return {"name": name, "options": options, "kl": sum(kls) / len(kls), "advantages": unpadded(advantages, lengths),
            "returns": returns, "loss": space["loss"].item(), "policy_loss": space["pg_loss"].item(),
            "value_loss": space["vf_loss"].item(), "policy_clipfrac": space["pg_clipfrac"].item(),
            "value_clipfrac": space["vf_clipfrac"].item(), "gradient": unpadded(log_probs.grad, lengths),
            "value_gradient": unpadded(new_values.grad, lengths)}


def ppo_cases(folder):
    source = (Path(folder) / "trl/experimental/ppo/ppo_trainer.py").read_text()
    yield ppo(source, "defaults")
    yield ppo(source, "k3, whitened rewards", kl_estimator="k3", whiten_rewards=True, kl_coef=0.3)
    yield ppo(source, "gamma, lambda, ranges", gamma=0.9, lam=0.6, cliprange=0.1, cliprange_value=0.5, vf_coef=0.7)
    yield ppo(source, "missing end", missing_eos_penalty=1.0, lam=1.0)


def written(name, **options):
    """PPO's policy loss with options that TRL lacks, from their formulas: the dual clip and a KL term."""
    of = {"cliprange": 0.2, "dual_clip": None, "kl_in": "reward", "kl_estimator": "k1", "kl_coef": 0.05, **options}
    batch = BATCHES["mixed"]
    log_probs, mask = padded(batch["log_probs"])
    log_probs.requires_grad_(True)
    advantages = T(batch["advantages"])[:, None]
    ratio = (log_probs - padded(batch["old"])[0]).exp()
    clipped = ratio.clamp(1 - of["cliprange"], 1 + of["cliprange"])
    loss = torch.max(-advantages * ratio, -advantages * clipped)
    if of["dual_clip"] is not None:
        loss = torch.where(advantages < 0, torch.min(loss, -advantages * of["dual_clip"]), loss)
    if of["kl_in"] == "loss":
        apart = padded(batch["reference"])[0] - log_probs
        kl = 0.5 * apart**2 if of["kl_estimator"] == "k2" else ratio * (apart.exp() - apart - 1)
        loss = loss + of["kl_coef"] * kl
    loss = (loss * mask).sum() / mask.sum()
    loss.backward()
    lengths = [len(row) for row in batch["log_probs"]]
    return {"name": name, "options": options, "loss": loss.item(), "gradient": unpadded(log_probs.grad, lengths)}


def written_cases():
    yield written("dual clip", dual_clip=1.4, cliprange=0.1)
    yield written("k2 in the loss", kl_in="loss", kl_estimator="k2", kl_coef=0.3)
    yield written("k3 in the loss", kl_in="loss", kl_estimator="k3", kl_coef=0.3, dual_clip=1.4)


def adaptive_entropy():
    """The coefficients of GRPOTrainer's adaptive entropy bonus, over steps of these mean entropies."""
    options = {"entropy_coef": 0.01, "entropy_coef_min": 0.004, "entropy_coef_max": 0.014, "entropy_coef_delta": 0.003,
               "entropy_target": 0.3}
    entropies = [0.5, 0.2, 0.1, 0.3, 0.9, 0.9, 0.9, 0.9]
    state = SimpleNamespace(entropy_coef=options["entropy_coef"], use_adaptive_entropy=True, args=SimpleNamespace(**options),
                            _last_world_entropy=float("inf"), _entropy_window_stats=None, accelerator=accelerator())
    apply = lines(GRPOTrainer._compute_loss, "if self.use_adaptive_entropy:", "loss = loss - apply_coef * entropy_loss")
    update = lines(GRPOTrainer._compute_loss, "# Adaptive update. Gated on train mode", "# Log entropy_coef on train")
    applied, after = [], []
    for entropy in entropies:
        space = {"self": state, "mode": "train", "torch": torch, "entropies": T([entropy]), "effective_mask": T([1.0])}
        exec(apply, space)
        exec(update, space)
        applied.append(space["apply_coef"])
        after.append(state.entropy_coef)
    return {"options": options, "entropies": entropies, "applied": applied, "after": after}


def pairs():
    first, second = [1.0, -2.0, 0.5, 3.0], [0.5, 1.0, 0.5, 3.5]
    space = {"torch": torch, "rewards": T(first + second), "batch_size": 4, "device": "cpu"}
    exec(lines(OnlineDPOTrainer.training_step, "# Split rewards into chosen/rejected pairs",
               "# Build tensor so that the first half is the chosen"), space)
    place = lambda x: [2 * (at % 4) + at // 4 for at in x.tolist()]  # noqa: E731  answers to a prompt are adjacent
    return {"rewards": [x for two in zip(first, second) for x in two], "chosen": place(space["chosen_indices"]),
            "rejected": place(space["rejected_indices"])}


ONLINE_ANSWERS = {  # two to each prompt, adjacent
    "log_probs": [[-0.7, -1.9], [-2.4], [-0.9, -0.4, -1.1], [-1.3], [-0.2, -0.6], [-1.0, -0.1]],
    "reference": [[-1.0, -1.5], [-3.0], [-0.7, -0.4, -2.0], [-1.7], [-0.3, -0.6], [-0.4, -0.2]],
    "rewards": [1.0, 0.5, -2.0, 1.0, 0.75, 0.75],
    "ended": [True, True, True, False, True, True],
}


def online_dpo(loss_type, beta, penalty):
    order = [0, 2, 4, 1, 3, 5]  # TRL has the first answers of all prompts, then the second ones
    batch = {key: [ONLINE_ANSWERS[key][at] for at in order] for key in ONLINE_ANSWERS}
    log_probs, mask = padded(batch["log_probs"])
    reference, _ = padded(batch["reference"])
    log_probs.requires_grad_(True)
    args = SimpleNamespace(loss_type=loss_type, missing_eos_penalty=penalty)
    trainer = SimpleNamespace(args=args, beta=beta, accelerator=accelerator(), stats=defaultdict(list), reward_funcs=[None])
    space = {"torch": torch, "F": torch.nn.functional, "self": trainer, "batch_size": 3, "device": "cpu",
             "rewards": T(batch["rewards"]), "contain_eos_token": torch.tensor(batch["ended"]), "logprobs": log_probs,
             "ref_logprobs": reference, "completion_mask": mask}
    exec(lines(OnlineDPOTrainer.training_step, "# Apply missing EOS penalty if configured",
               "self.args.torch_empty_cache_steps is not None").rsplit("if (", 1)[0], space)
    space["loss"].backward()
    gradient = unpadded(log_probs.grad, [len(row) for row in batch["log_probs"]])
    return {"name": f"online DPO, {loss_type}, {beta}", "loss_type": loss_type, "beta": beta, "missing_eos_penalty": penalty,
            "loss": space["loss"].item(), "gradient": [gradient[order.index(at)] for at in range(6)],
            "metrics": {name: values[0] for name, values in trainer.stats.items()}}


def online_cases():
    yield online_dpo("sigmoid", 0.1, None)
    yield online_dpo("ipo", 0.3, None)
    yield online_dpo("sigmoid", 0.5, 2.5)


def completions(lengths, ended):
    metrics = {"train": defaultdict(list)}
    space = {"torch": torch, "self": SimpleNamespace(_metrics=metrics, eos_token_ids=[0], accelerator=accelerator(),
                                                     _tokenizer=SimpleNamespace(pad_token_id=1)),
             "mode": "train", "device": "cpu", "agg_completion_lengths": torch.tensor(lengths),
             "completion_ids": [[2] * (length - 1) + [0 if end else 2] for length, end in zip(lengths, ended)]}
    exec(lines(GRPOTrainer._generate, "# Log completion lengths, mean, min, max", "if self.tools:"), space)
    return {"lengths": lengths, "ended": ended, "metrics": shown(metrics)}


out = {"longest": LONGEST, "batches": BATCHES, "cases": list(losses()), "rewards": REWARDS, "weights": WEIGHTS,
       "rloo_answers": RLOO_ANSWERS, "advantages": list(advantages()), "ppo_answers": PPO_ANSWERS,
       "ppo": list(ppo_cases(sys.argv[1])), "pairs": pairs(),
       "online_answers": ONLINE_ANSWERS, "online": list(online_cases()),
       "written": list(written_cases()), "adaptive_entropy": adaptive_entropy(),
       "completions": completions([4, 8, 2, 6], [True, False, True, True])}
text = json.dumps(out, allow_nan=False).replace('{"name"', '\n{"name"')
(Path(__file__).parent / "losses.json").write_text(text + "\n")
print(len(out["cases"]), "losses,", len(out["advantages"]), "advantages,", len(text), "bytes")
