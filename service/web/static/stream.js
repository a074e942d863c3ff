// Frames over the WebSocket of a session: numbered, never more on the way than the server gave credit for.

import { ApiError, socketAddress, socketProtocols } from "./api.js";

// More on the way would only make each result later; two keep the server busy while one frame is encoded.
const MOST_ON_THE_WAY = 2;
// A camera that wakes up or changes its size gives no frame for a moment; one that gives none for so long is stuck.
const MISS_PAUSE_MS = 100;
const MOST_MISSES = 50;
const REASONS = {
  1001: "the server is shutting down; start again when it is back",
  1008: "the server refused the order of frames; start again",
  1009: "a frame was too large for the server; choose a smaller side",
  4401: "the server wants another key; give it by the key above, then start again",
  4404: "the session is gone; start again",
};

export class FrameStream {
  /**
   * next: returns {blob, picture} of a new frame, or null for none. onResult(result, picture, latencyMs) for each answer.
   * onEnd(error) once, when the connection ends without `close`.
   */
  constructor(sessionId, { next, onResult, onEnd }) {
    Object.assign(this, { sessionId, next, onResult, onEnd, window: 0, sequence: 0, sent: new Map(), misses: 0, grabbing: false, closed: false });
  }

  /** Connect; frames begin to flow when the server is ready. */
  open() {
    this.startedAt = performance.now();
    this.socket = new WebSocket(socketAddress(`v1/sessions/${this.sessionId}/stream`), socketProtocols());
    this.socket.addEventListener("message", (event) => this._take(JSON.parse(event.data)));
    this.socket.addEventListener("close", (event) => this._end(event));
  }

  /** End the connection; nothing more is called. */
  close() {
    this.closed = true;
    this.socket?.close(1000);
  }

  _take(message) {
    if (this.closed) return;
    if (message.type === "ready") {
      this.window = message.credit;
      this.sequence = message.next_sequence;
    } else if (message.type === "result") {
      const frame = this.sent.get(message.sequence);
      this.sent.delete(message.sequence);
      // What was refused before is over, and not why the connection may end later.
      this.refused = null;
      if (frame) this.onResult(message, frame.picture, performance.now() - frame.sentAt);
    } else if (message.type === "error") {
      this.sent.delete(message.sequence);
      this.refused = message.error;
    }
    void this._send();
  }

  /** Send frames while the server takes them. */
  async _send() {
    if (this.grabbing) return;
    this.grabbing = true;
    try {
      while (!this.closed && this.sent.size < Math.min(this.window, MOST_ON_THE_WAY)) {
        const frame = await this.next();
        if (this.closed || this.socket.readyState !== WebSocket.OPEN) return;
        if (!frame) {
          // With nothing on the way no answer comes that would ask for the next frame, so it is asked for here.
          if (!(await this._miss())) return;
          continue;
        }
        this.misses = 0;
        const sentAt = performance.now();
        const header = { type: "frame", sequence: this.sequence, timestamp_s: (sentAt - this.startedAt) / 1000 };
        this.sent.set(this.sequence, { picture: frame.picture, sentAt });
        this.sequence += 1;
        this.socket.send(JSON.stringify(header));
        this.socket.send(frame.blob);
      }
    } finally {
      this.grabbing = false;
    }
  }

  /** Wait a moment for a camera without a frame; return whether to go on, for after too many the stream ends. */
  async _miss() {
    this.misses += 1;
    if (this.misses < MOST_MISSES) {
      await new Promise((resolve) => setTimeout(resolve, MISS_PAUSE_MS));
      return true;
    }
    this.close();
    this.onEnd(new Error("The camera must give frames, but none came for a while; check it, then start again."));
    return false;
  }

  _end({ code }) {
    if (this.closed) return;
    this.closed = true;
    const reason = this.refused?.message ?? REASONS[code] ?? "check that it runs, then start again";
    this.onEnd(new ApiError(`The connection to the server must stay open, but it ended (${code}): ${reason}.`, { code: this.refused?.code ?? `ws_${code}` }));
  }
}
