// The trace of an order as a waterfall: a bar for each span, in the colour of
// its service, below the span that caused it.
import { call, Failure } from './api.js';
import { el } from './dom.js';

const HUES = { gateway: 255, order: 285, product: 75, inventory: 150, payment: 15, user: 220, greeter: 320 };

const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

// showTrace draws the trace into a section, and again as spans come in: the
// last ones come from events, after the order itself has been decided.
export async function showTrace(section, id, signal, settled) {
  section.replaceChildren(el('h2', {}, 'How it went through the shop'), el('p', { class: 'muted' }, 'Waiting for the trace…'));
  if (!id) return;
  for (let calm = 0, last = -1; calm < 4 && !signal.aborted; await sleep(600)) {
    try {
      const trace = await call('GET', `/console/traces/${id}`);
      if (trace.spans.length !== last) {
        last = trace.spans.length;
        calm = 0;
        draw(section, trace);
      }
    } catch (e) {
      if (!(e instanceof Failure)) throw e;
      if (calm > 1) missing(section, e);
    }
    if (settled()) calm++;
  }
}

function missing(section, e) {
  const url = e.metadata.url;
  section.replaceChildren(el('h2', {}, 'How it went through the shop'),
    el('p', { class: 'muted', test: 'trace-missing' }, `No trace here: ${e.message}. `, url && el('a', { href: url, rel: 'noreferrer' }, 'Look there')));
}

function draw(section, trace) {
  const open = new Set([...section.querySelectorAll('[aria-expanded="true"]')].map((n) => n.dataset.span));
  const spans = trace.spans.map((s) => ({ ...s, start: BigInt(s.start_unix_nanos), took: Number(s.duration_nanos) }));
  const begin = spans.reduce((min, s) => (s.start < min ? s.start : min), spans[0].start);
  for (const s of spans) s.at = Number(s.start - begin);
  const all = Math.max(...spans.map((s) => s.at + s.took), 1);
  const services = [...new Set(spans.map((s) => s.service))];
  section.replaceChildren(
    el('h2', {}, 'How it went through the shop'),
    el('p', { class: 'muted' }, `${spans.length} spans in ${services.length} services, ${duration(all)}`),
    el('ul', { class: 'legend', 'aria-label': 'Services' }, services.map((s) => el('li', { vars: { '--hue': hue(s) } }, s))),
    el('ol', { class: 'waterfall' }, inOrder(spans).map((s) => row(s, all, open.has(s.span_id)))),
    trace.url && el('p', {}, el('a', { href: trace.url, rel: 'noreferrer', test: 'jaeger' }, 'The same in Jaeger')));
}

const hue = (service) => HUES[service] ?? [...service].reduce((sum, c) => sum + c.charCodeAt(0) * 17, 0) % 360;

// inOrder puts every span after the one that caused it, and gives its depth.
function inOrder(spans) {
  const ids = new Set(spans.map((s) => s.span_id));
  const children = Map.groupBy(spans, (s) => (ids.has(s.parent_id) ? s.parent_id : ''));
  const out = [];
  const walk = (id, depth) => {
    for (const s of (children.get(id) || []).sort((a, b) => a.at - b.at)) {
      out.push({ ...s, depth });
      walk(s.span_id, depth + 1);
    }
  };
  walk('', 0);
  return out;
}

function row(s, all, open) {
  const details = el('dl', { class: 'attributes', hidden: !open },
    ...[['kind', s.kind], ['status', s.status], ['starts at', duration(s.at)], ...Object.entries(s.attributes || {}).sort()]
      .flatMap(([k, v]) => [el('dt', {}, k), el('dd', {}, String(v))]));
  const button = el('button', {
    class: `span ${s.status === 'Error' ? 'failed' : ''}`, 'aria-expanded': String(open), 'data-span': s.span_id,
    title: `${s.service}: ${s.name}, ${duration(s.took)}`, test: 'span', 'data-service': s.service,
    on: {
      click: () => {
        details.hidden = !details.hidden;
        button.setAttribute('aria-expanded', String(!details.hidden));
      },
    },
  },
  el('span', { class: 'name' }, el('i', {}), el('span', {}, s.kind === 'client' ? `→ ${short(s.name)}` : short(s.name))),
  el('span', { class: 'bar' }, el('i', {}), el('b', {}, duration(s.took))));
  // The duration stands behind the bar, or before it, or on it.
  const place = (s.at + s.took) / all < 0.85 ? '' : s.at / all > 0.15 ? 'before' : 'inside';
  return el('li', {
    vars: {
      '--hue': hue(s.service), '--depth': Math.min(s.depth, 12),
      '--left': `${(100 * s.at) / all}%`, '--width': `${(100 * s.took) / all}%`,
    },
    class: place,
  }, button, details);
}

// short leaves the package out of an RPC's name.
const short = (name) => name.replace(/^[a-z]+\.v1\./, '');

function duration(nanos) {
  if (nanos < 1e6) return `${(nanos / 1e3).toFixed(0)} µs`;
  if (nanos < 1e9) return `${(nanos / 1e6).toFixed(nanos < 1e7 ? 1 : 0)} ms`;
  return `${(nanos / 1e9).toFixed(2)} s`;
}
