"""The competitor: the same weights behind LitServe, Monte Carlo dropout as its users write it.

Runs in `.venv-peers`, which `make bench-serving` sets up. Only dropout layers are in training mode.
The requests of a batch go through the network together, in a loop over samples or with rows
repeated.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import litserve as ls
import torch
from torch import Tensor, nn

from benchmarks.serving import nets
from benchmarks.serving.setting import Setting

_DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout)


class MonteCarlo(ls.LitAPI):  # type: ignore[misc]
    """Mean, variance, entropy, expected entropy and mutual information of each row."""

    def __init__(self, net: str, models: Path, setting: Setting) -> None:
        super().__init__(max_batch_size=setting.max_batch_size, batch_timeout=setting.batch_timeout)
        self._net = net
        self._models = models
        self._setting = setting

    def setup(self, device: str) -> None:
        """Load the model, and switch dropout on."""
        torch.set_num_threads(self._setting.threads)
        net = nets.build(self._net, self._models)
        self._samples, self._temperature = net.samples, net.temperature
        self._module = net.module.to(device).eval()
        for layer in self._module.modules():
            if isinstance(layer, _DROPOUTS):
                layer.train()

    # LitServe would have FastAPI check messages against these two's annotations, at a cost
    def decode_request(self, request):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
        """One row."""
        return torch.tensor(request["inputs"][0])

    def predict(self, x: Tensor) -> list[dict[str, Any]]:
        """Answers of rows `[B, ...]`."""
        with torch.inference_mode():
            logits = self._logits(x)  # [S, B, C]
            probs = torch.softmax(logits / self._temperature, -1)
            mean, variance = probs.mean(0), probs.var(0)
            entropy = torch.special.entr(mean).sum(-1)
            expected = torch.special.entr(probs).sum(-1).mean(0)
            fields = {
                "mean": mean,
                "variance": variance,
                "entropy": entropy,
                "expected_entropy": expected,
                "mutual_information": entropy - expected,
            }
            lists = {name: value.tolist() for name, value in fields.items()}
        return [{name: [values[row]] for name, values in lists.items()} for row in range(len(x))]

    def encode_response(self, output):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
        """One row's answer."""
        return {"samples": [self._samples], "outputs": output}

    def _logits(self, x: Tensor) -> Tensor:
        if self._setting.way == "loop":
            return torch.stack([self._module(x) for _ in range(self._samples)])
        parts, rest = [], self._samples
        each = min(max(1, self._setting.rows_at_once // len(x)), rest)  # samples in a pass
        repeated = x.repeat(each, *(1,) * (x.ndim - 1))
        while rest > 0:
            count = min(each, rest)
            parts.append(self._module(repeated[: count * len(x)]).unflatten(0, (count, len(x))))
            rest -= count
        return torch.cat(parts)


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve until told to stop."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--net", choices=nets.NAMES, required=True)
    parser.add_argument("--models", type=Path, required=True)
    parser.add_argument("--setting", type=Setting.from_json, required=True)
    parser.add_argument("--port", type=int, required=True)
    options = parser.parse_args(arguments)
    setting: Setting = options.setting
    server = ls.LitServer(
        MonteCarlo(options.net, options.models, setting),
        accelerator="cpu",
        workers_per_device=setting.workers,
        fast_queue=setting.fast_queue,
        timeout=60,
    )
    server.run(
        host="127.0.0.1",
        port=options.port,
        num_api_servers=setting.api_servers,
        log_level="warning",
        generate_client_file=False,
    )


if __name__ == "__main__":
    main()
