// The strip that shows how the services are: a dot for each, and what is not
// called at the moment because it is out.
import { $, el } from './dom.js';

const EVERY = 3000;

const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

// startHealth keeps the strip as the shop is, as long as somebody looks.
export async function startHealth() {
  for (let shown = ''; ; await sleep(EVERY)) {
    if (document.hidden) continue;
    const services = await conditions();
    const now = JSON.stringify(services);
    if (now !== shown) draw(services); // a reader is told of changes only
    shown = now;
  }
}

// conditions returns nothing if not even the gateway answers.
async function conditions() {
  try {
    const response = await fetch('/console/status', { signal: AbortSignal.timeout(EVERY) });
    return (await response.json()).services || [];
  } catch {
    return [];
  }
}

function draw(services) {
  const out = services.flatMap((s) => s.breakers.filter((b) => b.open).map((b) => ({ from: s.service, to: b.target })));
  const well = services.length > 0 && services.every((s) => s.state === 'up') && !out.length;
  $('health').className = `health ${well ? 'well' : 'trouble'}`;
  if (!services.length) {
    $('health').replaceChildren(el('li', { class: 'down' }, 'The shop can’t be reached.'));
    return;
  }
  $('health').replaceChildren(
    ...services.map((s) => el('li', {
      class: s.state === 'up' ? 'up' : s.state === 'down' ? 'down' : 'waits', title: `${s.service} is ${s.state}`,
      test: 'service', 'data-service': s.service, 'data-state': s.state,
    }, s.service, s.state !== 'up' && el('em', {}, s.state))),
    ...out.map((b) => el('li', {
      class: 'breaker', title: `The circuit breaker is open: ${b.from} does not call ${b.to} for a moment`,
      test: 'breaker', 'data-breaker': `${b.from}/${b.to}`,
    }, `${b.from} → ${b.to}`, el('em', {}, 'paused'))));
}
