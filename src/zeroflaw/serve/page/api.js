// The service's routes. Every answer is JSON or a problem; what went wrong is a `Problem` or `Unreachable`.

const GET_WITHIN = 20_000; // milliseconds; a service that says nothing for so long is as good as gone

/** Tells "answered", "unreachable" and "locked" (a token is wanted). */
export const signals = new EventTarget();

/** The service refused: HTTP status, one sentence, and after how many seconds to ask again (or null). */
export class Problem extends Error {
  constructor(status, detail, retryAfter) {
    super(detail);
    this.status = status;
    this.retryAfter = retryAfter;
  }
}

/** The service did not answer at all. */
export class Unreachable extends Error {
  constructor() {
    super("The service does not answer.");
  }
}

const tell = name => signals.dispatchEvent(new Event(name));

/** Seconds of a Retry-After header, which is a number or a date; null without one. */
export function seconds(header, now = Date.now()) {
  if (!header) return null;
  const number = Number(header);
  const wait = Number.isNaN(number) ? (Date.parse(header) - now) / 1000 : number;
  return Number.isNaN(wait) ? null : Math.max(0, wait);
}

async function problemOf(response) {
  const text = await response.text();
  let said = null;
  if (response.headers.get("content-type")?.includes("json")) said = JSON.parse(text);
  const detail = typeof said?.detail === "string" && said.detail ? said.detail : said?.title;
  return new Problem(
    response.status, detail || `The service answered with HTTP status ${response.status}.`,
    seconds(response.headers.get("retry-after")),
  );
}

async function ask(path, options = {}) {
  let response;
  try {
    response = await fetch(path, { credentials: "same-origin", cache: "no-store", ...options });
  } catch (error) {
    if (options.signal?.aborted && options.signal.reason?.name !== "TimeoutError") throw error;
    tell("unreachable");
    throw new Unreachable();
  }
  tell("answered");
  if (!response.ok) {
    const problem = await problemOf(response);
    if (problem.status === 401 && path !== "/v1/session") tell("locked");
    throw problem;
  }
  return response.status === 204 ? null : response.json();
}

/** Query string of the values that are set. */
export function query(values) {
  const set = Object.entries(values).filter(([, value]) => (value ?? "") !== "");
  const text = new URLSearchParams(set).toString();
  return text && `?${text}`;
}

const get = (path, values = {}) => ask(path + query(values), { signal: AbortSignal.timeout(GET_WITHIN) });
const send = (path, body, method = "POST") => ask(path, {
  method, headers: { "Content-Type": "application/json" }, body: JSON.stringify(body),
});

export const api = {
  detectors: () => get("/v1/detectors"),
  status: () => get("/v1/status"),
  history: filter => get("/v1/history", filter),
  row: id => get(`/v1/history/${encodeURIComponent(id)}`),
  csv: filter => `/v1/history.csv${query(filter)}`,
  feedback: (id, label, note) => send("/v1/feedback", { id, label, note }),
  recalibration: detector => get("/v1/recalibration", { detector }),
  recalibrate: detector => send("/v1/recalibration", { detector }),
  enter: token => send("/v1/session", { token }),
  leave: () => ask("/v1/session", { method: "DELETE" }),
  events: () => new EventSource("/v1/events"),

  /** Judge named files: one row, or name and problem, for each, in their order; sent twice, judged once. */
  detect(files, detector, key, signal) {
    const form = new FormData();
    for (const { file, name } of files) form.append("files", file, name);
    const headers = { "Idempotency-Key": key };
    return ask(`/v1/detect${query({ detector })}`, { method: "POST", body: form, headers, signal });
  },
};
