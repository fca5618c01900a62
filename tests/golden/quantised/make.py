"""Makes quantised matrices and small quantised checkpoints with bitsandbytes, and their results.

    python make.py OUT_DIR

needs torch, transformers (5.x), bitsandbytes, peft, accelerate and safetensors; the committed files came from
bitsandbytes 0.50.2, peft 0.21.2 and transformers 5.24, on a CPU. OUT_DIR gets

  values.safetensors   for each matrix NAME: NAME.weight, and NAME.METHOD.PART with METHOD nf4, nf4-double or int8
                       and PART codes, absmax, nested_absmax, offset, dense (the dequantised matrix)
  FAMILY-METHOD/       a checkpoint of ../models/FAMILY as `transformers` quantises and saves it,
                       adapter/ on it, saved by peft, and expected.safetensors: input_ids [n] (I32), logits
                       [n, vocab] of the base and `adapted` of the adapter, and `gradient.NAME` of every A and B for
                       the sum of the tokens' log-probabilities. All are computed in float64, with dequantised
                       weights, without casts in norms
"""

import json
import sys
import zlib
from pathlib import Path

import bitsandbytes as bnb
import torch
from bitsandbytes import functional as F
from bitsandbytes.backends.default.ops import _dequantize_4bit_compute
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, logging
from transformers.pytorch_utils import Conv1D

here = Path(__file__).resolve().parent
sys.path.insert(0, str(here.parent / "models"))
import make as models  # noqa: E402  (removes the casts in norms)
import make_compact as compact  # noqa: E402

# Whole blocks; a partial one; an odd number of elements; more than one block of nested scales; a row of zeros.
SHAPES = {"whole": (6, 64), "partial": (5, 24), "odd": (3, 7), "large": (97, 192)}

METHODS = {
    "nf4": dict(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.float32),
    "nf4-double": dict(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.float32,
    ),
    "int8": dict(load_in_8bit=True),
}

CHECKPOINTS = [("llama", "nf4"), ("llama", "int8"), ("qwen2", "nf4-double"), ("gpt2", "nf4"), ("gpt2", "int8")]


def dense4(codes, state):
    """Dequantises by the reference implementation: that of bitsandbytes for CPUs is wrong if rows are shorter than
    a block (0.50.2)."""
    scales = state.absmax
    if state.nested:
        scales = F.dequantize_blockwise(scales, state.state2) + state.offset
    weight = _dequantize_4bit_compute(
        codes.flatten(), scales, state.code, state.blocksize, state.shape, torch.float32
    )
    if state.shape[1] % state.blocksize == 0:
        assert weight.equal(F.dequantize_4bit(codes, state))
    return weight


def values():
    dumped = {}
    for name, shape in SHAPES.items():
        rng = torch.Generator().manual_seed(zlib.crc32(name.encode()))
        weight = 0.05 * torch.randn(shape, generator=rng)
        if name == "whole":
            weight[2] = 0
        dumped[f"{name}.weight"] = weight
        for method in METHODS:
            part = f"{name}.{method}"
            if method == "int8":
                codes, scales, _ = F.int8_vectorwise_quant(weight.half())
                codes[weight.abs().amax(1) == 0] = 0  # 0/0, which differs between devices
                parts = {"codes": codes.view(torch.uint8), "absmax": scales}
                parts["dense"] = F.int8_vectorwise_dequant(codes, scales)
            else:
                codes, state = F.quantize_4bit(weight, compress_statistics=method == "nf4-double", quant_type="nf4")
                parts = {"codes": codes.flatten(), "absmax": state.absmax}
                if state.nested:
                    parts |= {"nested_absmax": state.state2.absmax, "offset": state.offset.reshape(1)}
                parts["dense"] = dense4(codes, state)
            dumped |= {f"{part}.{key}": value.contiguous() for key, value in parts.items()}
    return dumped


def dense(layer):
    """The dequantised weight of a layer, [out, in]."""
    if isinstance(layer, bnb.nn.Linear4bit):
        return dense4(layer.weight.data, layer.weight.quant_state)
    scales = layer.state.SCB if layer.weight.SCB is None else layer.weight.SCB
    return F.int8_vectorwise_dequant(layer.weight.data, scales)


def checkpoint(family, method, out):
    out = out / f"{family}-{method}"
    rng = torch.Generator().manual_seed(zlib.crc32(out.name.encode()))
    folder = here.parent / "models" / family
    config = BitsAndBytesConfig(**METHODS[method])
    quantised = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, quantization_config=config, device_map="cpu"
    )
    quantised.save_pretrained(out)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    changed = 0
    for name, layer in quantised.named_modules():
        if isinstance(layer, (bnb.nn.Linear4bit, bnb.nn.Linear8bitLt)):
            own = model.get_submodule(name)
            weight = dense(layer)
            own.weight.data = weight.T.contiguous() if isinstance(own, Conv1D) else weight
            changed += 1
    assert changed > 0
    lora = LoraConfig(task_type="CAUSAL_LM", r=3, lora_alpha=5, target_modules="all-linear")
    model = get_peft_model(model, lora)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.copy_(0.1 * torch.randn(parameter.shape, generator=rng))
    model.peft_config["default"].base_model_name_or_path = ".."
    model.save_pretrained(out / "adapter", save_embedding_layers=False)
    (out / "adapter" / "README.md").unlink(missing_ok=True)
    path = out / "adapter" / "adapter_config.json"
    saved = json.loads(path.read_text())
    saved["target_modules"].sort()  # a set, in any order
    path.write_text(json.dumps(saved, indent=2, sort_keys=True))

    model = model.double().eval()
    compact.without_casts(model)
    tokens = models.ids(24, rng)
    row = torch.tensor([tokens])
    with model.disable_adapter(), torch.no_grad():
        logits = model(input_ids=row, use_cache=False).logits[0]
    adapted = model(input_ids=row, use_cache=False).logits[0]
    log_probs = adapted[:-1].log_softmax(-1).gather(1, row[0, 1:, None]).sum()
    assert log_probs.dtype == torch.float64
    log_probs.backward()
    expected = {"logits": logits, "adapted": adapted.detach()}
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            expected["gradient." + name.replace("base_model.model.", "").replace(".default.", ".")] = parameter.grad
    expected = {key: value.float().contiguous() for key, value in expected.items()}
    expected["input_ids"] = torch.tensor(tokens, dtype=torch.int32)
    save_file(expected, out / "expected.safetensors")
    print(out.name, changed, "layers", file=sys.stderr)


def main():
    if len(sys.argv) != 2:
        sys.exit("usage: python make.py OUT_DIR")
    torch.set_num_threads(1)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    out = Path(sys.argv[1])
    save_file(values(), out / "values.safetensors")
    for family, method in CHECKPOINTS:
        checkpoint(family, method, out)


if __name__ == "__main__":
    main()
