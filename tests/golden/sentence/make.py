"""Makes `tiny/`, a sentence encoder of random weights in the layout of sentence-transformers, its ONNX graph,
`expected.json`, the vectors that sentence-transformers computes with it, and `graphs/`: faulty graphs of one
operation, and one that pools.

    python make.py      (sentence-transformers 6.2, torch 2.11, onnx 1.23)
"""

import json
import pathlib
import shutil

import onnx
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.models import Normalize, Pooling, Transformer
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

HERE = pathlib.Path(__file__).parent
FOLDER = HERE / "tiny"
WORDS = "the a an cat dog mouse sat on mat runs fast slow is not very good bad and or of ##s ##ing ##ed".split()
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789.,?!'"
TEXTS = [
    "The cat sat on the mat.",
    "the dog runs fast and the mouse is slow",
    "",
    "?",
    "not very good",
    "Bad dogs and good cats: 漢字 Ünïcode [SEP] in the text",
    "the cat " * 40,
    "a " * 21 + "dog",
]


def tokenizer():
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokens = specials + WORDS + [c for c in LETTERS if c not in WORDS] + ["##" + c for c in LETTERS[:26]]
    tok = Tokenizer(models.WordPiece({token: i for i, token in enumerate(tokens)}, unk_token="[UNK]"))
    tok.normalizer = normalizers.BertNormalizer(lowercase=True)
    tok.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tok.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    # Padding and truncation in the file, as in published ones, must be ignored.
    tok.enable_padding(length=12)
    tok.enable_truncation(9)
    names = ["pad_token", "unk_token", "cls_token", "sep_token", "mask_token"]
    return PreTrainedTokenizerFast(tokenizer_object=tok, model_max_length=512, **dict(zip(names, specials)))


def export(model, path):
    class Graph(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, input_ids, attention_mask, token_type_ids):
            inputs = {"attention_mask": attention_mask, "token_type_ids": token_type_ids}
            return self.model(input_ids=input_ids, **inputs).last_hidden_state

    ids = torch.ones(2, 7, dtype=torch.int64)
    inputs, axes = ["input_ids", "attention_mask", "token_type_ids"], {0: "batch", 1: "sequence"}
    torch.onnx.export(
        Graph(), (ids, ids, torch.zeros_like(ids)), path, dynamo=False, opset_version=17, input_names=inputs,
        output_names=["last_hidden_state"], dynamic_axes={name: axes for name in [*inputs, "last_hidden_state"]},
    )


def small_graph(name, inputs, output, nodes, rank):
    """A graph of int64 inputs [batch, sequence] and one float output; a third dimension has size 2."""
    shapes = {1: ["batch"], 2: ["batch", "sequence"], 3: ["batch", "sequence", 2]}
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node(op, taken, [given], **attributes) for op, taken, given, attributes in nodes],
        name,
        [value(one, onnx.TensorProto.INT64, shapes[2]) for one in inputs],
        [value(output, onnx.TensorProto.FLOAT, shapes[rank])],
        [onnx.helper.make_tensor("last", onnx.TensorProto.INT64, [1], [-1])],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, HERE / "graphs" / f"{name}.onnx")


def small_graphs():
    (HERE / "graphs").mkdir(exist_ok=True)
    cast = lambda given="x": ("Cast", ["input_ids"], given, {"to": onnx.TensorProto.FLOAT})
    wide = lambda taken, given: [
        ("Unsqueeze", [taken, "last"], "column", {}), ("Concat", ["column", "column"], given, {"axis": 2})
    ]
    # √(0 − id) is NaN for every id but that of [PAD].
    nan = [cast(), ("Neg", ["x"], "minus", {}), ("Sqrt", ["minus"], "root", {}), *wide("root", "last_hidden_state")]
    small_graph("nan", ["input_ids"], "last_hidden_state", nan, 3)
    small_graph("inputs", ["input_ids", "pixels"], "last_hidden_state", [cast(), *wide("x", "last_hidden_state")], 3)
    small_graph("outputs", ["input_ids"], "logits", [cast(), *wide("x", "logits")], 3)
    small_graph("shape", ["input_ids"], "last_hidden_state", [cast("last_hidden_state")], 2)
    # Does its own pooling: the greatest id and the number of tokens other than [PAD].
    pooled = [
        cast(), ("ReduceMax", ["x"], "greatest", {"axes": [1], "keepdims": 1}),
        ("Sign", ["x"], "sign", {}), ("ReduceL1", ["sign"], "count", {"axes": [1], "keepdims": 1}),
        ("Concat", ["greatest", "count"], "sentence_embedding", {"axis": 1}),
    ]
    small_graph("pooled", ["input_ids"], "sentence_embedding", pooled, 2)


def main():
    torch.manual_seed(7)
    tok = tokenizer()
    config = BertConfig(
        vocab_size=len(tok), hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=32, initializer_range=0.5, attn_implementation="eager",
    )
    model = BertModel(config, add_pooling_layer=False).eval()
    # Fresh norms and biases have no effect: give every parameter random values.
    for parameter in model.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    shutil.rmtree(FOLDER, ignore_errors=True)
    bare = FOLDER / "bare"
    model.save_pretrained(bare)
    tok.save_pretrained(bare)
    transformer = Transformer(str(bare), max_seq_length=24, model_args={"attn_implementation": "eager"})
    whole = SentenceTransformer(modules=[transformer, Pooling(16, "mean"), Normalize()], device="cpu")
    whole.save(str(FOLDER), create_model_card=False)
    shutil.rmtree(bare)
    export(model, FOLDER / "model.onnx")
    expected = {"texts": TEXTS, "ids": [], "mean, normalized": [], "cls": [], "max": [], "lasttoken": []}
    for text in TEXTS:
        expected["ids"].append(tok(text, truncation=True, max_length=24, padding=False)["input_ids"])
        expected["mean, normalized"].append(whole.encode(text).tolist())
        for mode in ["cls", "max", "lasttoken"]:
            one = SentenceTransformer(modules=[transformer, Pooling(16, mode)], device="cpu")
            expected[mode].append(one.encode(text).tolist())
    small_graphs()
    (HERE / "expected.json").write_text(json.dumps(expected, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
