// The shop's API as the page uses it: JSON calls, the session with its tokens,
// and event streams that go on where they broke.
import { uuid } from './dom.js';

const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

// Failure is an answer that is not what was asked for: a google.rpc.Status. The
// status 0 means that no answer came at all.
export class Failure extends Error {
  constructor(status, body = {}, retryAfter = 0) {
    super(body.message || 'The shop can’t be reached.');
    this.status = status;
    this.retryAfter = retryAfter;
    const details = body.details || [];
    this.reason = details.find((d) => d.reason)?.reason || '';
    this.metadata = details.find((d) => d.metadata)?.metadata || {};
    this.fields = details.flatMap((d) => d.field_violations || []);
  }

  // passing says that the same request may succeed later.
  get passing() {
    return this.status === 0 || [429, 502, 503, 504].includes(this.status);
  }

  // out says that a part of the shop is known to be out: the answer comes at
  // once, and asking again at once brings the same.
  get out() {
    return this.status === 503 && this.reason.endsWith('_UNAVAILABLE');
  }
}

// session holds the tokens for as long as the tab is open.
export const session = {
  changed: new EventTarget(),
  get() {
    return JSON.parse(sessionStorage.getItem('session') || 'null');
  },
  set(value) {
    if (value) sessionStorage.setItem('session', JSON.stringify(value));
    else sessionStorage.removeItem('session');
    this.changed.dispatchEvent(new Event('change'));
  },
};

// request makes one request, on behalf of whoever is signed in or of nobody: a
// token that is not valid is refused even where none is needed.
async function request(method, path, { body, signal, headers = {}, anonymous = false } = {}) {
  const token = session.get()?.access_token;
  if (token && !anonymous) headers.Authorization = `Bearer ${token}`;
  if (body !== undefined) headers['Content-Type'] = 'application/json';
  let response;
  try {
    response = await fetch(path, { method, signal, headers, body: body === undefined ? undefined : JSON.stringify(body) });
  } catch (e) {
    if (signal?.aborted) throw e;
    throw new Failure(0);
  }
  if (response.ok) return response;
  const status = await response.json().catch(() => ({}));
  throw new Failure(response.status, status, Number(response.headers.get('Retry-After') || 0));
}

// authorized makes a request and, if the access token has run out, refreshes it
// and makes the request once more.
async function authorized(method, path, options = {}) {
  const before = session.get();
  try {
    return await request(method, path, options);
  } catch (e) {
    if (e.status !== 401 || !before) throw e;
    await refresh(before);
    return request(method, path, options);
  }
}

let refreshing = null; // one at a time: a refresh token is good for one use

function refresh(old) {
  if (session.get()?.refresh_token !== old.refresh_token) return refreshing ?? Promise.resolve();
  refreshing ??= exchange(old).finally(() => { refreshing = null; });
  return refreshing;
}

// The same request_id with each attempt: if only the answer was lost, it is
// given again, and the token does not count as stolen.
async function exchange(old) {
  const body = { refresh_token: old.refresh_token, request_id: uuid() };
  try {
    const tokens = await retried(() => request('POST', '/v1/auth:refresh', { body, anonymous: true }));
    session.set({ ...old, ...(await tokens.json()) });
  } catch (e) {
    if (e.status >= 400 && e.status < 500 && e.status !== 429) session.set(null);
    throw e;
  }
}

// retried repeats what may succeed a little later.
async function retried(fn, attempts = 4) {
  for (let n = 1; ; n++) {
    try {
      return await fn();
    } catch (e) {
      if (!e.passing || e.out || n === attempts) throw e;
      await sleep(Math.max(e.retryAfter * 1000, 250 * 2 ** n));
    }
  }
}

// call makes a call that can be repeated: a read, or a change with a key.
export async function call(method, path, body) {
  return (await retried(() => authorized(method, path, { body }))).json();
}

export async function signIn(email, password) {
  session.set(null);
  const tokens = await (await request('POST', '/v1/auth:login', { body: { email, password } })).json();
  session.set({ email, ...tokens });
}

export async function signOut() {
  const old = session.get();
  session.set(null);
  if (old) await request('POST', '/v1/auth:logout', { body: { refresh_token: old.refresh_token } }).catch(() => {});
}

// events yields what a stream of server-sent events says, as parsed JSON, until
// the stream has ended or the signal says stop. It connects again when the
// connection breaks, and goes on after the last event received. EventSource
// would do that too, but can't send the access token in a header.
export async function* events(path, { signal, onBreak = () => {} } = {}) {
  let last = '';
  for (let wait = 500; ; wait = Math.min(wait * 2, 10_000)) {
    try {
      const headers = { Accept: 'text/event-stream', ...(last && { 'Last-Event-ID': last }) };
      const response = await authorized('GET', path, { signal, headers });
      for await (const event of parse(response.body)) {
        wait = 500;
        if (event.id) last = event.id;
        if (event.type === 'end') return;
        if (event.type === 'error') throw new Failure(event.data.code === 14 ? 503 : 400, event.data);
        yield event.data;
      }
    } catch (e) {
      if (signal?.aborted) return;
      if (e instanceof Failure && !e.passing) throw e;
    }
    if (signal?.aborted) return;
    onBreak();
    await sleep(wait);
  }
}

async function* parse(body) {
  let event = { type: 'message', id: '', data: '' };
  for await (const line of linesOf(body)) {
    if (line === '') {
      if (event.data) yield { ...event, data: JSON.parse(event.data) };
      event = { type: 'message', id: '', data: '' };
    } else if (!line.startsWith(':')) {
      const [, name, value] = /^([^:]*):? ?(.*)$/.exec(line);
      if (name === 'data') event.data += value;
      else if (name === 'event') event.type = value;
      else if (name === 'id') event.id = value;
    }
  }
}

async function* linesOf(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = '';
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      const lines = (rest + value).split('\n');
      rest = lines.pop();
      yield* lines;
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}
