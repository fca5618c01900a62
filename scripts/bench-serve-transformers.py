"""OpenRLHF's reward server (openrlhf/cli/serve_rm.py) on a CPU, a peer for `scripts/load-serve --peer`.

  python scripts/bench-serve-transformers.py --model runs/rm --port 5000 [--threads 2] [--dtype bfloat16]

The handler, the tokenising and the batch of a request are as in OpenRLHF 0.11; the model is transformers'
AutoModelForSequenceClassification. A text gets the EOS, so that both servers compute the same tokens.
"""

import argparse

import torch
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from transformers import AutoModelForSequenceClassification, AutoTokenizer

cli = argparse.ArgumentParser()
cli.add_argument("--model", required=True)
cli.add_argument("--port", type=int, default=5000)
cli.add_argument("--threads", type=int, default=2)
cli.add_argument("--dtype", default="float32")
args = cli.parse_args()
torch.set_num_threads(args.threads)
dtype = getattr(torch, args.dtype)
model = AutoModelForSequenceClassification.from_pretrained(args.model, dtype=dtype, num_labels=1).eval()
tokenizer = AutoTokenizer.from_pretrained(args.model, padding_side="left")
app = FastAPI()


@app.post("/get_reward")
async def get_reward(request: Request):
    queries = [query + tokenizer.eos_token for query in (await request.json())["query"]]
    with torch.no_grad():
        inputs = tokenizer(
            queries, return_tensors="pt", add_special_tokens=False, max_length=2048, padding=True, truncation=True
        )
        rewards = model(**inputs).logits[:, 0].float().tolist()
    return JSONResponse({"rewards": rewards, "scores": rewards, "extra_logs": {"dummy_scores": rewards}})


uvicorn.run(app, host="127.0.0.1", port=args.port, log_level="warning")
