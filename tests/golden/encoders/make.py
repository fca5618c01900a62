"""Makes tiny random encoders and their hidden states, and a decoder whose hidden states encode texts.

    python make.py MINILM_DIR      (torch 2.11, transformers 5.23, sentence-transformers 6.2)

FAMILY/             config.json and model.safetensors of an encoder, as `save_pretrained` writes them
FAMILY/states.json  `ids` of some texts and `states`, their hidden states after the last layer, each text run alone in
                    float64
policy/             a decoder with the tokenizer of ../sentence/tiny
policy/texts.json   `texts`, and for each the `mean` and the `last` of its tokens' hidden states after the last norm
minilm.json         `texts`, and their vectors by sentence-transformers with all-MiniLM-L6-v2 (MINILM_DIR)
"""

import json
import pathlib
import shutil
import sys

import torch
from sentence_transformers import SentenceTransformer
from transformers import (
    AutoModel,
    AutoTokenizer,
    BertConfig,
    DistilBertConfig,
    LlamaConfig,
    RobertaConfig,
)

HERE = pathlib.Path(__file__).parent
VOCAB = 40
SHARED = dict(
    vocab_size=VOCAB, hidden_size=24, num_hidden_layers=2, num_attention_heads=3, intermediate_size=40,
    max_position_embeddings=34, initializer_range=0.4,
)
ENCODERS = {
    "bert": BertConfig(**SHARED, pad_token_id=0),
    "distilbert": DistilBertConfig(
        vocab_size=VOCAB, dim=24, n_layers=2, n_heads=3, hidden_dim=40, max_position_embeddings=34,
        initializer_range=0.4,
    ),
    "roberta": RobertaConfig(**SHARED, type_vocab_size=1, layer_norm_eps=1e-5, pad_token_id=1),
}
TEXTS = ["The cat sat on the mat.", "the dog runs fast", "?", "", "not very good " * 9]
SENTENCES = [
    "How do I cook a T-bone in the oven?",
    "I'm not sure, could you tell me more about what you have in mind?",
    "First you dice the onions.\n\nThen fry them, slowly, in butter; 10–15 minutes will do. " * 12,
]


def rounded(tensor, digits=6):
    return json.loads(json.dumps(tensor.tolist()), parse_float=lambda x: round(float(x), digits))


def stir(model):
    # Fresh norms and biases have no effect: give every parameter random values.
    for parameter in model.parameters():
        parameter.data += 0.2 * torch.randn_like(parameter)
    return model.eval()


def state_of(model, ids):
    with torch.no_grad():
        return model.double()(input_ids=torch.tensor([ids])).last_hidden_state[0]


def encoders():
    for name, config in ENCODERS.items():
        torch.manual_seed(3)
        config._attn_implementation = "eager"
        model = stir(AutoModel.from_config(config))
        shutil.rmtree(HERE / name, ignore_errors=True)
        model.save_pretrained(HERE / name)
        ids = [torch.randint(3, VOCAB, (length,)).tolist() for length in (1, 7, 32)]
        states = [rounded(state_of(model, one)) for one in ids]
        (HERE / name / "states.json").write_text(json.dumps({"ids": ids, "states": states}) + "\n")


def policy():
    torch.manual_seed(5)
    tokenizer = AutoTokenizer.from_pretrained(HERE / ".." / "sentence" / "tiny")
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=24, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=24, initializer_range=0.3,
        attn_implementation="eager",
    )
    model = stir(AutoModel.from_config(config))
    folder = HERE / "policy"
    shutil.rmtree(folder, ignore_errors=True)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    expected = {"texts": TEXTS, "mean": [], "last": []}
    for text in TEXTS:
        states = state_of(model, tokenizer(text, truncation=False)["input_ids"][:24])
        expected["mean"].append(rounded(states.mean(0)))
        expected["last"].append(rounded(states[-1]))
    (folder / "texts.json").write_text(json.dumps(expected) + "\n")


def minilm(folder):
    vectors = SentenceTransformer(folder, device="cpu").encode(SENTENCES)
    (HERE / "minilm.json").write_text(json.dumps({"texts": SENTENCES, "vectors": rounded(vectors)}) + "\n")


if __name__ == "__main__":
    encoders()
    policy()
    minilm(sys.argv[1])
