"""Exports the transformer of a sentence-transformers folder to `model.onnx` beside its weights.

    python export-encoder.py FOLDER      needs torch, transformers and onnx

The graph takes input_ids, attention_mask and, if the model has them, token_type_ids, of any number of texts
and tokens, and gives last_hidden_state. The reader of the folder does the pooling and normalisation.
"""

import inspect
import json
import os
import pathlib
import sys
import warnings

try:
    import onnx
    import torch
    from transformers import AutoModel
except ImportError as error:
    sys.exit(f"{error.name} is needed to export the graph: {sys.executable} -m pip install torch transformers onnx")


def transformer_folder(root):
    modules = root / "modules.json"
    if not modules.is_file():
        return root
    listed = json.loads(modules.read_text())
    return next((root / module["path"] for module in listed if module["type"].endswith("Transformer")), root)


class LastHiddenState(torch.nn.Module):
    def __init__(self, model, names):
        super().__init__()
        self.model, self.names = model, names

    def forward(self, *inputs):
        return self.model(**dict(zip(self.names, inputs))).last_hidden_state


def main():
    if len(sys.argv) != 2 or not pathlib.Path(sys.argv[1]).is_dir():
        sys.exit("usage: python export-encoder.py FOLDER (written by sentence-transformers)")
    folder = transformer_folder(pathlib.Path(sys.argv[1]))
    # Attention as plain products and softmax: the fused operator has no ONNX form of this opset.
    model = AutoModel.from_pretrained(folder, attn_implementation="eager", dtype=torch.float32).eval()
    taken = inspect.signature(model.forward).parameters
    names = ["input_ids", "attention_mask"]
    if "token_type_ids" in taken and getattr(model.config, "type_vocab_size", 0) > 1:
        names.append("token_type_ids")
    ids = torch.ones(2, 7, dtype=torch.int64)
    inputs = tuple(torch.zeros_like(ids) if name == "token_type_ids" else ids for name in names)
    axes = {0: "batch", 1: "sequence"}
    path, new = folder / "model.onnx", folder / f"model.onnx.new.{os.getpid()}"
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            LastHiddenState(model, names), inputs, str(new), dynamo=False, opset_version=17, input_names=names,
            output_names=["last_hidden_state"], dynamic_axes={name: axes for name in [*names, "last_hidden_state"]},
        )
    onnx.checker.check_model(str(new))
    os.replace(new, path)
    print(f"{path}: {path.stat().st_size >> 20} MiB")


if __name__ == "__main__":
    main()
