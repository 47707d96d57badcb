"""A real HTTP server on loopback that answers as a vLLM server would, and fails when told to.

Its models are read from the folders that it is given, so its samples can be compared with ours.
"""

import threading
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from tests.support.faulty_server import FaultyServer
from transformers import AutoModelForCausalLM

NAME = "base"


class ScriptedServer(FaultyServer):
    """Serves a model's folder; under ``is_dev`` weights may be replaced."""

    def __init__(self, folder: str, is_dev: bool = False) -> None:
        self.folder, self.is_dev = folder, is_dev
        self.mode, self.max_model_len = "processed_logprobs", 1024
        self._models_lock = threading.Lock()
        self.restart()
        super().__init__()
        self.asked = self.requests

    def restart(self) -> None:
        """Forget all that was loaded."""
        self.base: Any = AutoModelForCausalLM.from_pretrained(self.folder).eval()
        self.adapters: dict[str, Any] = {}
        self.weight_version = "default"

    def bodies(self, path: str) -> list[Any]:
        return [body for asked, body, _ in self.asked if asked == path]

    def answer(self, path: str, body: Any) -> tuple[int, Any]:
        """Status and body, as vLLM 0.32 has them."""
        with self._models_lock:
            match path:
                case "/v1/models":
                    base = {"id": NAME, "parent": None, "max_model_len": self.max_model_len}
                    others = [{"id": name, "parent": NAME} for name in self.adapters]
                    return 200, {"data": [base, *others]}
                case "/v1/completions":
                    return self._completion(body)
                case "/v1/load_lora_adapter" | "/v1/unload_lora_adapter":
                    return self._adapter(path, body)
                case _ if self.is_dev:
                    return self._weights(path, body)
            return 404, {"detail": "Not Found"}

    def _adapter(self, path: str, body: Any) -> tuple[int, Any]:
        name = body["lora_name"]
        if path == "/v1/unload_lora_adapter":
            return (404, "not found") if self.adapters.pop(name, None) is None else (200, "removed")
        if name in self.adapters:
            return 400, f"The lora adapter '{name}' has already been loaded."
        if not Path(body["lora_path"]).is_dir():
            return 404, f"No adapter found for {body['lora_path']}"
        base: Any = AutoModelForCausalLM.from_pretrained(self.folder)
        self.adapters[name] = PeftModel.from_pretrained(base, body["lora_path"]).eval()
        return 200, f"Success: LoRA adapter '{name}' added successfully."

    def _weights(self, path: str, body: Any) -> tuple[int, Any]:
        match path:
            case "/collective_rpc":
                read = AutoModelForCausalLM.from_pretrained(body["kwargs"]["weights_path"])
                self.base.load_state_dict(read.state_dict())
            case "/update_weight_version":
                self.weight_version = body["new_version"]
            case "/weight_info":
                return 200, {"weight_version": self.weight_version}
        return 200, {"success": True}

    def _completion(self, body: Any) -> tuple[int, Any]:
        name = body["model"]
        if name != NAME and name not in self.adapters:
            return 404, {"error": {"message": f"The model `{name}` does not exist."}}
        model = self.adapters.get(name, self.base)
        ids, log_probs = self._sampled(model, body)
        choice: dict[str, Any] = {"index": 0, "token_ids": ids}
        choice["logprobs"] = {"token_logprobs": log_probs} if "logprobs" in body else None
        return 200, {"model": name, "choices": [choice]}

    @torch.no_grad()
    def _sampled(self, model: Any, body: Any) -> tuple[list[int], list[float]]:
        prompt, ids, said = body["prompt"], [], []
        room = self.max_model_len - len(prompt)
        generator = torch.Generator().manual_seed(body.get("seed", 0))
        while len(ids) < min(body["max_tokens"], room):
            logits_V = model(input_ids=torch.tensor([prompt + ids])).logits[0, -1]
            warm_V = logits_V / (body["temperature"] or 1.0)
            drawn = torch.multinomial(warm_V.softmax(-1), 1, generator=generator)
            drawn = drawn if body["temperature"] else logits_V.argmax()[None]
            told_V = warm_V if self.mode == "processed_logprobs" else logits_V
            ids.append(int(drawn))
            said.append(float(told_V.log_softmax(-1)[drawn]))
            if ids[-1] in body.get("stop_token_ids", []):
                break
        return ids, said
