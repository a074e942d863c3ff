// Videos on their way to the server, one after the other: two at a time would only both be slower.

import { upload } from "./api.js";

export class UploadQueue {
  /**
   * onChange() when an entry came, moved on or went. onDone(status, entry) with the job that an upload became;
   * onFail(error, entry) when it was refused, broke, or was cancelled (an AbortError).
   */
  constructor({ onChange, onDone, onFail }) {
    Object.assign(this, { onChange, onDone, onFail, entries: [], nextId: 1, isRunning: false });
  }

  /** The upload that is on its way, or undefined. */
  get current() {
    return this.entries[0];
  }

  /** Take a file to be uploaded with a query; return its entry {id, file, query, share}. */
  add(file, query) {
    const entry = { id: `upload-${this.nextId}`, file, query, share: 0, control: new AbortController() };
    this.nextId += 1;
    this.entries.push(entry);
    this.onChange();
    if (!this.isRunning) void this._run();
    return entry;
  }

  /** Take an entry back: one that waits is forgotten, one on its way is broken off. */
  cancel(entry) {
    entry.control.abort();
    if (entry === this.current) return;
    this.entries = this.entries.filter((other) => other !== entry);
    this.onChange();
  }

  async _run() {
    this.isRunning = true;
    while (this.current) {
      const entry = this.current;
      const onProgress = (share) => {
        entry.share = share;
        this.onChange();
      };
      let status = null;
      let failure = null;
      try {
        status = await upload("v1/jobs", entry.file, { query: entry.query, signal: entry.control.signal, onProgress });
      } catch (error) {
        failure = error;
      }
      this.entries.shift();
      if (status) this.onDone(status, entry);
      else this.onFail(failure, entry);
      this.onChange();
    }
    this.isRunning = false;
  }
}
