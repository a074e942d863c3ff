"""LitServe around our default detector: same decoding, same engine, raw body as bytes; started by bench_service.py.

    python benchmarks/service_litserve.py --port 8001 --batch 8

``batch_timeout`` is 0, LitServe's default: like our batcher it takes what is there. No postponed annotations in this
file: LitServe hands the type of ``request`` on to FastAPI.
"""

import argparse
from typing import Annotated, Any

import litserve
from fastapi import Body
from service_peers import decode, load_detector

from vision.types import Frame


class DetectApi(litserve.LitAPI):
    """The default detector."""

    def __init__(self, *, threads: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.threads = threads

    def setup(self, device: str) -> None:
        """Load it in the worker."""
        self.detector = load_detector(self.threads)

    def decode_request(self, request: Annotated[bytes, Body(media_type="image/jpeg")]) -> Frame:
        """Return the picture."""
        return decode(request)

    def batch(self, inputs: list[Frame]) -> list[Frame]:
        """Keep pictures beside each other; the detector makes batches itself."""
        return inputs

    def predict(self, x: Any) -> Any:
        """Detect in one picture, or in a batch."""
        return self.detector.detect([x])[0] if isinstance(x, Frame) else self.detector.detect(x)

    def encode_response(self, output: Any) -> dict[str, Any]:
        """Return the same JSON as the service."""
        from service.convert import detections_json

        return {"detections": detections_json(output, self.detector.class_names)}


def main() -> None:
    """Serve until a signal."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--threads", type=int, default=0)
    args = parser.parse_args()
    api = DetectApi(threads=args.threads, max_batch_size=args.batch, batch_timeout=0.0)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=args.workers)
    server.run(host="127.0.0.1", port=args.port, log_level="warning", generate_client_file=False)


if __name__ == "__main__":
    main()
