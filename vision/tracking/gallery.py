"""The appearance memory of all tracks: a ring buffer of embeddings for each (Wojke 2017, section 2.2).

Rows run parallel to the rows of ``TrackTable``. Embeddings are stored with unit norm, so a cosine distance is 1 - dot.
"""

from __future__ import annotations

from typing import Self

import numpy as np
import numpy.typing as npt

from vision.errors import InvalidInputError
from vision.types import FloatArray

Rows = npt.NDArray[np.intp]

# Detections of one track that share one pass over its gallery. Wider passes waste work on padding, narrower ones read
# the gallery more often: 4 was fastest at 200 and at 500 tracks with galleries of 100 x 128.
PASS_WIDTH = 4


def unit_rows(embeddings: FloatArray) -> FloatArray:
    """Return embeddings [N, D] scaled to unit norm; raises InvalidInputError for a zero row, which has no direction."""
    norms = np.sqrt(np.einsum("ij,ij->i", embeddings, embeddings, dtype=np.float64))
    if (norms == 0).any():
        row = int(np.flatnonzero(norms == 0)[0])
        raise InvalidInputError(
            f"embeddings must have a norm above 0, got a zero vector in row {row}; drop the row or check the embedder",
            expected="unit norm",
            actual="norm 0",
        )
    return np.asarray(embeddings / norms[:, None], np.float32)


class Gallery:
    """The last B embeddings of each of C tracks, or with ``ema`` their running mean.

    Args:
        size: embeddings kept for each track, B; 1 with ``ema``.
        width: dimensions of an embedding, D.
        capacity: tracks to make room for.
        ema: weight of the past in the mean, in [0, 1); 0 keeps the embeddings themselves.

    Attributes:
        embeddings: float32 [C, B, D] unit norm; slots that were never written are zero or stale.
        written: int64 [C], embeddings ever added to a row; the next one goes to slot ``written % B``.
    """

    def __init__(self, size: int, width: int, capacity: int = 0, *, ema: float = 0.0) -> None:
        self.size = 1 if ema else size
        size = self.size
        self.ema = ema
        self.width = width
        # Zero pages are mapped when first written, so a gallery costs memory only as it fills.
        self.embeddings: FloatArray = np.zeros((capacity, size, width), np.float32)
        self.written = np.zeros(capacity, np.int64)

    @classmethod
    def from_arrays(
        cls, embeddings: FloatArray, written: npt.NDArray[np.int64], size: int, *, ema: float = 0.0
    ) -> Self:
        """Return the gallery that ``to_arrays`` gave; raises InvalidInputError when the arrays do not fit."""
        size = 1 if ema else size
        rows, used = embeddings.shape[:2] if embeddings.ndim == 3 else (0, size + 1)
        fits = embeddings.dtype == np.float32 and np.isfinite(embeddings).all() and used <= size
        fits &= written.dtype == np.int64 and written.shape == (rows,)
        if not fits or np.minimum(written, size).max(initial=0) > used:
            raise InvalidInputError(
                f"tracker state needs a finite gallery float32 [M, up to {size}, D] and its counts int64 [M], got "
                f"{embeddings.dtype} {embeddings.shape} and {written.shape}; use the settings it was saved with"
            )
        gallery = cls(size, embeddings.shape[2], rows, ema=ema)
        gallery.embeddings[:, :used] = embeddings
        gallery.written[:] = written
        return gallery

    def to_arrays(self, count: int) -> tuple[FloatArray, npt.NDArray[np.int64]]:
        """Return copies of the slots in use and of ``written`` of the first ``count`` rows.

        What tracks that are gone have left in a row is zeroed: a saved state must not tell who was there.
        """
        written = self.written[:count].copy()
        used = int(min(written.max(initial=0), self.size))
        embeddings = self.embeddings[:count, :used].copy()
        embeddings[np.arange(used) >= written[:, None]] = 0
        return embeddings, written

    def reserve(self, capacity: int) -> None:
        """Make room for ``capacity`` rows, keeping those that exist."""
        rows = len(self.written)
        if capacity <= rows:
            return
        embeddings = np.zeros((capacity, self.size, self.width), np.float32)
        used = int(min(self.written.max(initial=0), self.size))
        embeddings[:rows, :used] = self.embeddings[:, :used]
        self.embeddings = embeddings
        self.written = np.concatenate([self.written, np.zeros(capacity - rows, np.int64)])

    def clear(self, rows: Rows) -> None:
        """Forget the embeddings of ``rows``."""
        self.written[rows] = 0

    def move(self, sources: Rows, targets: Rows) -> None:
        """Copy rows ``sources`` over rows ``targets``; only slots in use are worth their copy."""
        used = int(min(self.written[sources].max(initial=0), self.size))
        self.embeddings[targets, :used] = self.embeddings[sources, :used]
        self.written[targets] = self.written[sources]

    def add(self, rows: Rows, embeddings: FloatArray) -> None:
        """Store one unit-norm embedding [P, D] in each of P different rows, over the oldest where a row is full."""
        if self.ema:
            known = self.written[rows] > 0
            mean = self.ema * self.embeddings[rows, 0] + (1 - self.ema) * embeddings
            # Opposite embeddings may cancel to nothing; then the newest one stands.
            norm = np.sqrt(np.einsum("ij,ij->i", mean, mean))
            known &= norm > 0
            mean /= np.where(known, norm, 1)[:, None]
            embeddings = np.where(known[:, None], mean, embeddings)
        self.embeddings[rows, self.written[rows] % self.size] = embeddings
        self.written[rows] += 1

    def latest_distance(self, rows: Rows, embeddings: FloatArray) -> FloatArray:
        """Return the cosine distance [P] of embedding i [P, D] to the newest one of ``rows[i]``; none may be empty."""
        newest = self.embeddings[rows, (self.written[rows] - 1) % self.size]
        return np.asarray(1 - np.einsum("ij,ij->i", newest, embeddings), np.float32)

    def cosine_distance(self, rows: Rows, embeddings: FloatArray) -> FloatArray:
        """Return the smallest cosine distance [P] of embedding i [P, D] to the gallery of ``rows[i]``, inf if empty.

        ``rows`` must be sorted. Cost: P x B x D multiplications, but each gallery is read once for PASS_WIDTH pairs;
        reading memory is what takes the time.
        """
        nearest = np.full(len(rows), np.inf, np.float32)
        if not len(rows):
            return nearest
        unique, first, degree = np.unique(rows, return_index=True, return_counts=True)
        owner = np.repeat(np.arange(len(unique)), degree)
        rank = np.arange(len(rows)) - first[owner]
        for start in range(0, int(degree.max()), PASS_WIDTH):
            pairs = np.flatnonzero((rank >= start) & (rank < start + PASS_WIDTH))
            members = np.flatnonzero(degree > start)
            width = min(PASS_WIDTH, int(degree.max()) - start)
            padded = np.zeros((len(members), width, self.width), np.float32)
            place = np.searchsorted(members, owner[pairs]), rank[pairs] - start
            padded[place] = embeddings[pairs]
            nearest[pairs] = 1 - self._best_similarity(unique[members], padded)[place]
        return nearest

    def _best_similarity(self, rows: Rows, queries: FloatArray) -> FloatArray:
        """Return the largest dot product [M, K] of queries [M, K, D] with the gallery of each row; -inf if empty."""
        used = int(min(self.written[rows].max(), self.size))
        if used == 0:
            return np.full(queries.shape[:2], -np.inf, np.float32)
        # A run of rows is a view; only scattered rows must be copied together first.
        is_run = rows[-1] - rows[0] + 1 == len(rows)
        galleries = self.embeddings[rows[0] : rows[-1] + 1, :used] if is_run else self.embeddings[rows, :used]
        # Queries on the left: the maximum then runs along contiguous memory, twice as fast as the other way round.
        similarity = queries @ galleries.transpose(0, 2, 1)  # [M, K, used]
        counts = np.minimum(self.written[rows], self.size)
        if counts.min() < used:
            unwritten = np.arange(used) >= counts[:, None]
            similarity = np.where(unwritten[:, None, :], np.float32(-np.inf), similarity)
        return np.asarray(similarity.max(axis=2))
