"""Makes tiny scoring encoders with tokenizers, and reference outputs of transformers for questions and answers.

    python make.py      (torch 2.11, transformers 5.24, tokenizers 0.23; writes into its own folder)

NAME/               a folder of AutoModelForSequenceClassification with one label: config.json, tokenizer and
                    model.safetensors (bfloat16), as `save_pretrained` writes them
NAME/cases.json     `pairs`: `question`, `answer`, `ids` and `types` of tokenizer(question, answer), and `score`,
                    the logit of the pair alone in float64; `alone`: the same for a text without a question
buckets.json        DeBERTa's buckets of the distances 0, 1, .. for each (position_buckets, max_relative_positions)

Every option is used by at least one model: token types and absolute positions together with relative ones,
shared and separate projections of distances, normalised embeddings of distances, narrow embeddings, biases, both
poolings, and local layers whose window is shorter than the texts.
"""

import json
import pathlib
import shutil

import torch
import transformers as hf
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers.models.deberta_v2.modeling_deberta_v2 import make_log_bucket_position

HERE = pathlib.Path(__file__).parent
LETTERS = "abcdefghijklmnopqrstuvwxyz.,?!'"
PAIRS = [
    ["what is the sea?", "the sea is wide."],
    ["what is the sea?", "i do not know"],
    ["", "an answer to nothing"],
    ["how do i boil an egg, please?", "put it into boiling water, and wait. then eat it!" * 2],
    ["a", "b"],
]
ALONE = "a text of its own"
SHARED = dict(num_hidden_layers=2, num_attention_heads=2, hidden_size=16, intermediate_size=20, num_labels=1,
              initializer_range=0.4)


def word_piece():
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocab = special + list(LETTERS) + [f"##{letter}" for letter in LETTERS]
    return hf.BertTokenizer(vocab={token: at for at, token in enumerate(vocab)})


def bytes_bpe(special):
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    kept = [letter for letter in alphabet if letter in LETTERS] + ["Ġ"]
    return {token: at for at, token in enumerate(special + kept)}


def roberta():
    return hf.RobertaTokenizer(vocab=bytes_bpe(["<s>", "<pad>", "</s>", "<unk>", "<mask>"]), merges=[])


def unigram():
    special = ["[PAD]", "[CLS]", "[SEP]", "[UNK]"]
    vocab = [(token, 0.0) for token in special] + [("▁", -2.0)] + [(letter, -3.0) for letter in LETTERS]
    vocab += [("▁the", -1.0), ("▁sea", -1.5), ("[MASK]", 0.0)]
    return hf.DebertaV2Tokenizer(vocab=vocab, unk_id=3)


def xlm():
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    vocab = [(token, 0.0) for token in special] + [("▁", -2.0)] + [(letter, -3.0) for letter in LETTERS]
    return hf.XLMRobertaTokenizer(vocab=vocab + [("<mask>", 0.0)])


def modernbert():
    special = ["[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]"]
    backend = Tokenizer(models.BPE(vocab=bytes_bpe(special), merges=[], unk_token="[UNK]"))
    backend.normalizer = normalizers.NFC()
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0",
        pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 1), ("[SEP]", 2)],
    )
    return hf.PreTrainedTokenizerFast(
        tokenizer_object=backend, unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]", pad_token="[PAD]",
        mask_token="[MASK]", model_input_names=["input_ids", "attention_mask"],
    )


DEBERTA = dict(
    **SHARED, max_position_embeddings=160, relative_attention=True, pos_att_type=["p2c", "c2p"], position_buckets=16,
    norm_rel_ebd="layer_norm", max_relative_positions=-1,
)
MODELS = {
    "bert": (word_piece, hf.BertConfig(**SHARED, max_position_embeddings=160, pad_token_id=0)),
    "distilbert": (
        word_piece,
        hf.DistilBertConfig(
            dim=16, n_layers=2, n_heads=2, hidden_dim=20, max_position_embeddings=160, num_labels=1,
            initializer_range=0.4,
        ),
    ),
    "roberta": (
        roberta,
        hf.RobertaConfig(**SHARED, type_vocab_size=1, max_position_embeddings=160, pad_token_id=1),
    ),
    "xlm-roberta": (
        xlm,
        hf.XLMRobertaConfig(**SHARED, type_vocab_size=1, max_position_embeddings=160, pad_token_id=1),
    ),
    # As in deberta-v3 and OpenAssistant's reward model.
    "deberta-v3": (
        unigram,
        hf.DebertaV2Config(**DEBERTA, share_att_key=True, position_biased_input=False, type_vocab_size=0),
    ),
    "deberta-own": (
        unigram,
        hf.DebertaV2Config(
            **{**DEBERTA, "pos_att_type": "c2p|p2c", "position_buckets": -1, "norm_rel_ebd": "none"},
            share_att_key=False, position_biased_input=True, type_vocab_size=2, embedding_size=12,
            pooler_hidden_act="tanh",
        ),
    ),
    "deberta-plain": (
        unigram,
        hf.DebertaV2Config(**{**DEBERTA, "pos_att_type": ["c2p"], "relative_attention": False}),
    ),
    "modernbert": (
        modernbert,
        hf.ModernBertConfig(**{**SHARED, "num_hidden_layers": 4}, local_attention=6, max_position_embeddings=256),
    ),
    "modernbert-mean": (
        modernbert,
        hf.ModernBertConfig(
            **SHARED, local_attention=8, classifier_pooling="mean", norm_bias=True, attention_bias=True, mlp_bias=True,
            classifier_bias=True, classifier_activation="silu", max_position_embeddings=256,
            layer_types=["sliding_attention", "full_attention"],
            rope_parameters={"full_attention": {"rope_type": "default", "rope_theta": 500.0},
                             "sliding_attention": {"rope_type": "default", "rope_theta": 50.0}},
        ),
    ),
}


def stirred(model):
    # Fresh norms and biases have no effect; noise makes every parameter count.
    for parameter in model.parameters():
        parameter.data += 0.2 * torch.randn_like(parameter)
        parameter.data = parameter.data.bfloat16().float()
    return model.eval()


def scored(model, tokenizer, texts):
    encoded = tokenizer(*texts)
    types = encoded.get("token_type_ids", [0] * len(encoded["input_ids"]))
    with torch.no_grad():
        logits = model(**{key: torch.tensor([value]) for key, value in encoded.items()}).logits
    return {"ids": encoded["input_ids"], "types": types, "score": round(logits.item(), 7)}


def main():
    for name, (tokenizer, config) in MODELS.items():
        torch.manual_seed(7)
        tokenizer = tokenizer()
        config.vocab_size = len(tokenizer)
        for key in ["bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id"]:
            if getattr(config, key, None) is not None:
                setattr(config, key, None)
        config.pad_token_id = tokenizer.pad_token_id
        config._attn_implementation = "eager"
        model = stirred(hf.AutoModelForSequenceClassification.from_config(config))
        folder = HERE / name
        shutil.rmtree(folder, ignore_errors=True)
        model.bfloat16().save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        # The class that config.json and the files select, as for users.
        tokenizer = hf.AutoTokenizer.from_pretrained(folder)
        model = hf.AutoModelForSequenceClassification.from_pretrained(
            folder, dtype=torch.float64, attn_implementation="eager"
        ).eval()
        pairs = [dict(question=q, answer=a, **scored(model, tokenizer, [q, a])) for q, a in PAIRS]
        alone = dict(text=ALONE, **scored(model, tokenizer, [ALONE]))
        (folder / "cases.json").write_text(json.dumps({"pairs": pairs, "alone": alone}) + "\n")
        print(name, [pair["score"] for pair in pairs])
    buckets = []
    for size, most in [(256, 512), (32, 128), (16, 160), (64, 512)]:
        distances = torch.arange(0, most)
        got = make_log_bucket_position(distances, size, most).long()
        buckets.append({"buckets": size, "most": most, "rows": got.tolist()})
    (HERE / "buckets.json").write_text(json.dumps(buckets) + "\n")


if __name__ == "__main__":
    main()
