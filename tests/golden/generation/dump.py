"""Writes greedy.json: greedy continuations of prompts by transformers.generate in float64.

  python dump.py [FAMILY ..]   (torch and transformers; reads ../models)

Every golden model continues prompts of several lengths, one at a time (with left padding, eager attention in
float64 gives NaN for fully masked rows), with the repetition penalty off and on, and with two end tokens. A
prompt is kept if the two most likely tokens of every step differ by at least 1e-4, so that f32 finds the same
tokens. Families that are named replace only their own runs.
"""
import json, pathlib, sys, torch, transformers

torch.manual_seed(0)
here = pathlib.Path(__file__).parent
models = here.parent / "models"
NEW = 20
families = ["gemma3", "gemma3-linear", "gpt2", "gpt_neox", "gpt_neox-yarn", "llama", "llama-head-dim", "llama-tied-linear",
            "llama-yarn", "llama3", "mistral", "mistral-window", "qwen2", "qwen2-window", "qwen2_moe-window", "qwen3",
            "qwen3-yarn", "qwen3_moe-window", "smollm3-window"]


def prompts(most):
    lengths = [1, 2, 3, 5, 8, 9, 16, 17, 30, 31, 40, 63, 64, 65, 70, 100]
    out = []
    for number, length in enumerate(lengths):
        if length + NEW <= most:
            out.append([(at * 31 + number * 7) % 60 + 5 for at in range(length)])
    return out


def run(model, rows, ends, penalty):
    for row in rows:
        ids = torch.tensor([row])
        with torch.inference_mode():
            out = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=NEW, do_sample=False,
                                 eos_token_id=ends, pad_token_id=0, repetition_penalty=penalty, output_scores=True,
                                 return_dict_in_generate=True)
        new, near = [], 9.0
        for step, token in enumerate(out.sequences[0, len(row):].tolist()):
            top = out.scores[step][0].topk(2).values
            near = min(near, float(top[0] - top[1]))
            new.append(token)
            if token in ends:
                break
        if near > 1e-4:
            yield {"prompt": row, "new": new}


golden = []
for family in sys.argv[1:] or families:
    folder = models / family
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64, attn_implementation="eager",
                                                              experts_implementation="eager").eval()
    config = model.config.get_text_config()
    most = getattr(config, "n_positions", None) if family == "gpt2" else config.max_position_embeddings
    rows = prompts(most)
    first = list(run(model, rows, [2], 1.0))
    # Tokens that occur in answers: two of them end answers in the second run.
    counts = {}
    for case in first:
        for token in case["new"][3:]:
            counts[token] = counts.get(token, 0) + 1
    ends = sorted(sorted(counts, key=lambda token: (-counts[token], token))[1:3])
    for ends, penalty in [([2], 1.0), (ends, 1.0), ([2], 1.3)]:
        cases = first if (ends, penalty) == ([2], 1.0) else list(run(model, rows, ends, penalty))
        golden.append({"family": family, "ends": ends, "penalty": penalty, "cases": cases})
        print(family, ends, penalty, len(cases), "of", len(rows))
if sys.argv[1:]:
    others = json.loads((here / "greedy.json").read_text())["runs"]
    golden += [run for run in others if run["family"] not in sys.argv[1:]]
    golden.sort(key=lambda run: families.index(run["family"]))
(here / "greedy.json").write_text(json.dumps({"transformers": transformers.__version__, "runs": golden}, separators=(",", ":")) + "\n")
