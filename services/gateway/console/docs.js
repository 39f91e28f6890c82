// The API's page: what openapi.json says, to read and to try.
import { session } from './api.js';
import { startAccount } from './account.js';
import { $, el } from './dom.js';

const HUES = { get: 220, post: 155, put: 75, patch: 75, delete: 25 };

const api = await (await fetch('/openapi.json')).json();

function draw() {
  const byTag = Map.groupBy(
    Object.entries(api.paths).flatMap(([path, methods]) => Object.entries(methods).map(([method, op]) => ({ path, method, ...op }))),
    (op) => op.tags[0]);
  $('main').replaceChildren(
    el('div', { class: 'hero' }, el('h1', {}, `${api.info.title} API`), el('p', { class: 'muted' }, api.info.description)),
    ...[...byTag].map(([tag, ops]) => el('section', {}, el('h2', {}, tag.replace(/Service$/, '')),
      el('p', { class: 'muted doc' }, prose(api.tags?.find((t) => t.name === tag)?.description)), ops.map(operation))));
}

function operation(op) {
  const details = el('details', { test: 'operation', 'data-operation': op.operationId },
    el('summary', {},
      el('span', { class: 'method', vars: { '--hue': HUES[op.method] } }, op.method.toUpperCase()),
      el('code', { class: 'path' }, op.path),
      el('span', { class: 'brief' }, firstSentence(prose(op.summary, op.description)))));
  // Drawn when it is opened: the examples are the bulk of the page.
  details.addEventListener('toggle', () => details.children.length === 1 && details.append(contents(op)));
  return details;
}

// Comments in contracts are wrapped; a paragraph ends with an empty line.
const prose = (...texts) => texts.filter(Boolean).join('\n\n').replace(/(?<!\n)\n(?!\n)/g, ' ');

const firstSentence = (text) => text.split(/(?<=[.:])\s/)[0];

function contents(op) {
  const params = (op.parameters || []).filter((p) => p.in !== 'body');
  const body = (op.parameters || []).find((p) => p.in === 'body');
  return el('div', { class: 'body' },
    el('p', { class: 'doc' }, prose(op.summary, op.description)),
    params.length > 0 && el('h3', {}, 'Parameters'),
    params.length > 0 && el('table', {}, params.map((p) => el('tr', {},
      el('td', {}, el('code', {}, p.name)), el('td', {}, `${p.in}, ${p.format || p.type}${p.required ? ', required' : ''}`),
      el('td', { class: 'doc' }, prose(p.title, p.description))))),
    body && el('h3', {}, 'Body'),
    body && fields(body.schema),
    el('h3', {}, 'Answer'),
    el('pre', {}, JSON.stringify(example(op.responses['200'].schema), null, 2)),
    trial(op, params, body));
}

// fields lists what a body holds.
function fields(schema) {
  const s = resolve(schema);
  const rows = Object.entries(s.properties || {}).map(([name, p]) => el('tr', {},
    el('td', {}, el('code', {}, name)),
    el('td', {}, kind(p) + (s.required?.includes(name) ? ', required' : '')),
    el('td', { class: 'doc' }, prose(p.title, p.description))));
  return rows.length ? el('table', {}, rows) : el('p', { class: 'muted' }, 'Nothing, or {}.');
}

const resolve = (s) => (s?.$ref ? api.definitions[s.$ref.split('/').pop()] : s) || {};
const kind = (p) => (p.type === 'array' ? `list of ${kind(p.items)}` : p.$ref ? p.$ref.split('.').pop() : p.format || p.type || 'object');

// example is what a value of a schema looks like. A schema within itself ends.
function example(schema, inside = []) {
  const s = resolve(schema);
  if (schema?.$ref) {
    if (inside.includes(schema.$ref)) return {};
    inside = [...inside, schema.$ref];
  }
  if (s.properties) return Object.fromEntries(Object.entries(s.properties).map(([k, p]) => [k, example(p, inside)]));
  if (s.type === 'array') return [example(s.items, inside)];
  if (s.enum) return s.enum.find((v) => !v.endsWith('UNSPECIFIED')) ?? s.enum[0];
  if (s.format === 'date-time') return '2026-01-31T12:00:00Z';
  if (s.format === 'int64' || s.format === 'uint64') return '0';
  return { string: '', integer: 0, number: 0, boolean: false }[s.type] ?? {};
}

// writable is the example without what only the shop sets.
function writable(schema, inside = []) {
  const s = resolve(schema);
  if (!s.properties || inside.includes(schema.$ref)) return example(schema, inside);
  return Object.fromEntries(Object.entries(s.properties).filter(([, p]) => !p.readOnly)
    .map(([k, p]) => [k, p.type === 'array' ? [writable(p.items, [...inside, schema.$ref])] : writable(p, [...inside, schema.$ref])]));
}

function trial(op, params, body) {
  const answer = el('pre', { hidden: true, tabindex: '0', test: 'answer' });
  const form = el('form', { class: 'stack', on: { submit: (e) => { e.preventDefault(); run(op, new FormData(form), answer); } } },
    params.map((p) => el('label', {}, p.name, el('input', { name: p.name, required: p.required && p.in === 'path' }))),
    body && el('label', {}, 'Body', el('textarea', { name: ' body', rows: 6, spellcheck: 'false', value: JSON.stringify(writable(body.schema), null, 2) })),
    el('div', {}, el('button', { class: 'primary', test: 'send' }, 'Send')), answer);
  return el('details', {}, el('summary', {}, 'Try it'), el('div', { class: 'body' }, form));
}

let stop = new AbortController(); // ends the answer before, which may be a stream

async function run(op, data, answer) {
  stop.abort();
  stop = new AbortController();
  const query = new URLSearchParams();
  let path = op.path;
  for (const p of op.parameters || []) {
    const value = data.get(p.name);
    if (p.in === 'path') path = path.replace(`{${p.name}}`, encodeURIComponent(value));
    if (p.in !== 'query' || !value) continue;
    for (const v of p.type === 'array' ? value.split(/[\s,]+/) : [value]) query.append(p.name, v);
  }
  const headers = {};
  if (session.get()) headers.Authorization = `Bearer ${session.get().access_token}`;
  if (data.has(' body')) headers['Content-Type'] = 'application/json';
  answer.hidden = false;
  try {
    const response = await fetch(query.size ? `${path}?${query}` : path, {
      method: op.method.toUpperCase(), headers, body: data.get(' body') ?? undefined, signal: stop.signal,
    });
    answer.textContent = `${response.status} ${response.statusText}\n`;
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    for (let part; !(part = await reader.read()).done;) answer.textContent += part.value;
    answer.textContent = pretty(answer.textContent);
  } catch (e) {
    if (e.name !== 'AbortError') answer.textContent += String(e);
  }
}

function pretty(text) {
  const [status, ...rest] = text.split('\n');
  try {
    return `${status}\n${JSON.stringify(JSON.parse(rest.join('\n')), null, 2)}`;
  } catch {
    return text; // a stream, or nothing
  }
}

startAccount();
draw();
