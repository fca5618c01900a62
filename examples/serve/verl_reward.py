"""verl's reward from `pcrm serve`. In verl's config:

    reward.custom_reward_function.path=verl_reward.py reward.custom_reward_function.name=compute_score

PCRM_URL is the address of the server (default http://127.0.0.1:8000), PCRM_API_KEY its token. The prompt must
be in `extra_info`, as `prompt` (messages or a text); verl's own data sets have it there or as `question`.
"""

import os

import requests

URL = os.environ.get("PCRM_URL", "http://127.0.0.1:8000")
KEY = os.environ.get("PCRM_API_KEY")
SESSION = requests.Session()
if KEY:
    SESSION.headers["Authorization"] = f"Bearer {KEY}"


def compute_score(data_source, solution_str, ground_truth, extra_info=None):
    extra_info = extra_info or {}
    prompt = extra_info.get("prompt", extra_info.get("question"))
    if prompt is None:
        raise KeyError(f"extra_info has no prompt (keys: {sorted(extra_info)})")
    turns = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else list(prompt)
    body = {"messages": [*turns, {"role": "assistant", "content": solution_str}], "use_activation": False}
    answer = SESSION.post(f"{URL}/classify", json=body, timeout=180)
    answer.raise_for_status()
    return answer.json()["data"][-1]["probs"][-1]
