"""A real HTTP server on loopback that judges as it is told to, and fails when it is told to."""

import json
import re
import threading
import time
from collections import deque
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from rcsd import config
from rcsd.config.base import parse
from rcsd.graders.judge import ModelJudge
from rcsd.graders.judge.server import ServerChat

USAGE = {"prompt_tokens": 100, "completion_tokens": 20}


def data_of(prompt: str) -> tuple[str, dict[int, str]]:
    """Answer and criteria by number, from between the delimiters of a prompt."""
    mark = re.search(r"<<<([0-9a-f]{16}) answer\n", prompt)
    assert mark is not None
    parts = re.findall(rf"<<<{mark[1]} (\w+) ?(\d*)[^\n]*\n(.*?)\n{mark[1]}>>>", prompt, re.S)
    [answer] = [text for kind, _, text in parts if kind == "answer"]
    return answer, {int(number): text for kind, number, text in parts if kind == "criterion"}


def chat(text: str | None, finish: str = "stop", **more: Any) -> dict[str, Any]:
    """The body of a reply."""
    message = {"role": "assistant", "content": text} | more
    return {"choices": [{"message": message, "finish_reason": finish}], "usage": USAGE}


class JudgeServer:
    """Serves ``/v1/chat/completions``.

    ``faults`` are what the next requests meet in place of a reply: a status with a text (and
    headers), ``"drop"``, ``"hang"``, a body, or a text that the judge says.

    Args:
        meets: Says of a criterion's text and an answer whether it is met; given the request's seed.
    """

    def __init__(self, meets: Callable[[str, str, int], Any] = lambda *_: True) -> None:
        self.meets, self.delay_seconds, self.refused_format = meets, 0.0, ""
        self.faults: deque[Any] = deque()
        self.asked: list[dict[str, Any]] = []
        self.keys: set[str | None] = set()
        self.paths: set[str] = set()
        self.most_at_once, self._at_once, self._lock = 0, 0, threading.Lock()
        handler = type("Handler", (_Handler,), {"served": self})
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,))
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._http.server_port}/v1"

    def close(self) -> None:
        """Serve no more."""
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def counted(self, change: int) -> None:
        """How many requests are answered at present."""
        with self._lock:
            self._at_once += change
            self.most_at_once = max(self.most_at_once, self._at_once)

    def fault(self) -> Any:
        with self._lock:
            return self.faults.popleft() if self.faults else None

    def reply(self, body: dict[str, Any]) -> str:
        """What the judge says."""
        prompt = body["messages"][-1]["content"]
        answer, criteria = data_of(prompt)
        seed = body.get("seed", 0)
        if '"score"' in prompt:
            return json.dumps({"score": self.meets("", answer, seed), "explanation": "As told."})
        rows = [
            {"criterion": number, "explanation": "", "met": self.meets(text, answer, seed)}
            for number, text in criteria.items()
        ]
        return json.dumps({"verdicts": rows} if '"verdicts"' in prompt else rows[0])


class _Handler(BaseHTTPRequestHandler):
    served: JudgeServer
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def do_POST(self) -> None:
        served = self.served
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        served.asked.append(body)
        served.keys.add(self.headers.get("Authorization"))
        served.paths.add(self.path)
        served.counted(1)
        time.sleep(served.delay_seconds)
        status, said, headers = self._answer(body, served.fault())
        served.counted(-1)
        if status == 0:
            self.close_connection = True
            return
        text = (said if isinstance(said, str) else json.dumps(said)).encode()
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(text))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(text)

    def _answer(self, body: Any, fault: Any) -> tuple[int, Any, dict[str, str]]:
        served = self.served
        form = body.get("response_format", {}).get("type", "text")
        if form == served.refused_format:
            return 400, {"error": {"message": f"response_format {form} is not supported"}}, {}
        match fault:
            case "drop":
                return 0, "", {}
            case "hang":
                time.sleep(0.4)
            case (int(status), text, *rest):
                return status, text, rest[0] if rest else {}
            case dict():
                return 200, fault, {}
            case str():
                return 200, chat(fault), {}
        return 200, chat(served.reply(body)), {}


def names(criterion: str, answer: str, seed: int) -> bool:
    """Whether the last word of the criterion stands in the answer."""
    return criterion.split()[-1].rstrip(".").casefold() in answer.casefold()


def model_section(server: JudgeServer, **changes: Any) -> config.ModelJudge:
    tree = {"type": "model", "url": server.url, "model": "m", "patience_seconds": 5}
    section = parse(config.Judging, {"judge": {**tree, **changes}}, "judge.yaml").judge
    assert isinstance(section, config.ModelJudge)
    return section


def judge_at(server: JudgeServer, cache: Path, **changes: Any) -> ModelJudge:
    section = model_section(server, **{"cache": cache, **changes})
    return ModelJudge.from_config(section, ServerChat(section, first_pause=0.01))
