"""TRL's reward from `pcrm serve`: GRPOTrainer(reward_funcs=pcrm_reward, ..), RLOOTrainer(reward_funcs=pcrm_reward, ..).

PCRM_URL is the address of the server (default http://127.0.0.1:8000), PCRM_API_KEY its token. A batch of
texts is one request; conversations take one request per answer. The server computes the answers to a prompt
together either way.
"""

import os
from concurrent.futures import ThreadPoolExecutor

import requests

URL = os.environ.get("PCRM_URL", "http://127.0.0.1:8000")
KEY = os.environ.get("PCRM_API_KEY")
HEADERS = {"Authorization": f"Bearer {KEY}"} if KEY else {}


def post(path, body):
    answer = requests.post(f"{URL}{path}", json=body, headers=HEADERS, timeout=180)
    answer.raise_for_status()
    return answer.json()


def conversation(pair):
    body = {"messages": [*pair[0], *pair[1]], "use_activation": False}
    return post("/classify", body)["data"][0]["probs"][0]


def pcrm_reward(prompts, completions, **kwargs):
    if isinstance(prompts[0], str):
        queries = [prompt + answer for prompt, answer in zip(prompts, completions)]
        return post("/get_reward", {"query": queries})["rewards"]
    with ThreadPoolExecutor(32) as pool:
        return list(pool.map(conversation, zip(prompts, completions)))
