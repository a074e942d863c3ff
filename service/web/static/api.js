// Requests to the server: addresses, the key, errors with their request id, uploads with progress, event streams.

const KEY_NAME = "stride32.key";
const base = new URL("./", document.baseURI);

/** What the server, or the way to it, refused. */
export class ApiError extends Error {
  constructor(message, { status = 0, code = "unreachable", requestId = null, retryAfterS = null } = {}) {
    super(message);
    Object.assign(this, { status, code, requestId, retryAfterS });
  }
}

/** Return the API key of this tab, or an empty text. */
export function apiKey() {
  return sessionStorage.getItem(KEY_NAME) ?? "";
}

/** Keep the key for this tab; an empty one is forgotten. */
export function setApiKey(key) {
  if (key) sessionStorage.setItem(KEY_NAME, key);
  else sessionStorage.removeItem(KEY_NAME);
  document.dispatchEvent(new CustomEvent("keychange"));
}

/** Return the address of a path below this page, such as "v1/detect", with the query's set values. */
export function address(path, query = {}) {
  const made = new URL(path, base);
  for (const [name, value] of Object.entries(query)) {
    if (value !== null && value !== undefined && value !== "") made.searchParams.set(name, String(value));
  }
  return made;
}

/** Return the WebSocket address of a path below this page. */
export function socketAddress(path) {
  const made = address(path);
  made.protocol = made.protocol === "https:" ? "wss:" : "ws:";
  return made;
}

/** Return the subprotocols that carry the key, for a browser can send no header with a WebSocket. */
export function socketProtocols() {
  if (!apiKey()) return ["stride32"];
  const bytes = String.fromCharCode(...new TextEncoder().encode(apiKey()));
  const coded = btoa(bytes).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
  return ["stride32", `key.${coded}`];
}

/**
 * Send a request and return the Response; raises ApiError. With `quiet` a refused key does not open the key's dialog,
 * for requests that nobody asked for; with `keepalive` the request outlives the page.
 */
export async function request(method, path, { query, body, headers = {}, signal, quiet = false, keepalive = false } = {}) {
  let response;
  try {
    response = await fetch(address(path, query), { method, body, signal, keepalive, headers: withKey(headers) });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw unreachable();
  }
  if (response.ok) return response;
  throw refusal(response.status, await response.text().catch(() => ""), response.headers, quiet);
}

/** Send a request and return the JSON of its answer. */
export async function requestJson(method, path, options = {}) {
  const sent = { ...options, headers: { Accept: "application/json", ...options.headers } };
  return (await request(method, path, sent)).json();
}

/**
 * Upload a file as the raw body; `onProgress` is told the share sent, 0 to 1. Returns the JSON of the answer. fetch
 * tells nothing while it sends, so this is an XMLHttpRequest.
 */
export function upload(path, file, { query, onProgress, signal }) {
  return new Promise((resolve, reject) => {
    const sender = new XMLHttpRequest();
    sender.open("POST", address(path, query));
    const headers = withKey({ Accept: "application/json", "Content-Type": file.type || "application/octet-stream" });
    for (const [name, value] of Object.entries(headers)) sender.setRequestHeader(name, value);
    sender.upload.addEventListener("progress", (event) => onProgress(event.total ? event.loaded / event.total : 0));
    sender.addEventListener("load", () => {
      if (sender.status >= 200 && sender.status < 300) resolve(JSON.parse(sender.responseText));
      else reject(refusal(sender.status, sender.responseText, { get: (name) => sender.getResponseHeader(name) }, false));
    });
    sender.addEventListener("error", () => reject(unreachable()));
    sender.addEventListener("abort", () => reject(new DOMException("The upload was cancelled.", "AbortError")));
    signal?.addEventListener("abort", () => sender.abort());
    sender.send(file);
  });
}

/**
 * Yield {event, data} of a stream of server-sent events until it ends. EventSource sends no headers, hence no key;
 * this reads the same format from fetch, with or without one.
 */
export async function* serverEvents(path, { signal } = {}) {
  const response = await request("GET", path, { signal, headers: { Accept: "text/event-stream" } });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  let event = "message";
  let data = [];
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const lines = (rest + value).split(/\r\n|\n|\r(?!$)/);
    rest = lines.pop();
    for (const line of lines) {
      if (line === "") {
        if (data.length || event !== "message") yield { event, data: data.join("\n") };
        event = "message";
        data = [];
      } else if (line.startsWith("event:")) event = line.slice(6).trim();
      else if (line.startsWith("data:")) data.push(line.slice(5).replace(/^ /, ""));
    }
  }
}

const withKey = (headers) => (apiKey() ? { ...headers, Authorization: `Bearer ${apiKey()}` } : headers);

const unreachable = () =>
  new ApiError("The server must answer, but the connection failed; check that it runs, then try again.");

/** Return the ApiError of a refused request; a missing or wrong key opens its dialog, unless quiet. */
function refusal(status, text, headers, quiet) {
  let told = {};
  try {
    told = JSON.parse(text).error ?? {};
  } catch {
    // A proxy in between answers with its own page; its text helps nobody.
  }
  if (status === 401 && !quiet) document.dispatchEvent(new CustomEvent("keyneeded"));
  return new ApiError(told.message ?? `The request was refused with status ${status}.`, {
    status,
    code: told.code ?? `http_${status}`,
    requestId: told.request_id ?? headers.get("X-Request-ID"),
    retryAfterS: Number(headers.get("Retry-After")) || null,
  });
}
