// The orders of whoever is signed in: the list, and one with its life and trace.
import { call, events, Failure } from './api.js';
import { signedIn } from './account.js';
import { openCart } from './cart.js';
import { el, money, times, toast, when } from './dom.js';
import { showTrace } from './trace.js';

// What each state means to people.
const STATES = {
  PENDING: ['Placed', 'We are checking the stock and your card.'],
  CONFIRMED: ['Confirmed', 'The goods are set aside and the card has agreed.'],
  COMPLETED: ['Completed', 'Paid, and on its way.'],
  REJECTED: ['Refused', 'Nothing was charged, and nothing is set aside.'],
  CANCELLING: ['Being cancelled', 'We are taking everything back.'],
  CANCELLED: ['Cancelled', 'Everything has been taken back.'],
};
const FINAL = ['COMPLETED', 'REJECTED', 'CANCELLED'];
const CANCELLABLE = ['PENDING', 'CONFIRMED', 'COMPLETED'];

const badge = (state) => el('span', { class: `state ${state.toLowerCase()}`, test: 'state', 'data-state': state }, STATES[state]?.[0] || state);

export async function showOrders(main, signal) {
  if (!(await signedIn('Sign in to see your orders.'))) {
    location.hash = '#/';
    return;
  }
  const list = el('ul', { class: 'orders', test: 'orders' });
  const more = el('button', { class: 'more', hidden: true }, 'Show more');
  main.replaceChildren(el('h1', {}, 'Your orders'), list, more);
  const page = async (token) => {
    const { orders, next_page_token: next } = await call('GET', `/v1/orders?${new URLSearchParams({ page_size: 20, page_token: token })}`);
    if (signal.aborted) return;
    list.append(...orders.map(summary));
    if (!list.children.length) {
      list.replaceWith(el('p', { class: 'empty' }, el('span', { class: 'big', 'aria-hidden': 'true' }, '📦'), 'No orders yet.',
        el('a', { href: '#/' }, 'Find something nice')));
    }
    more.hidden = !next;
    more.onclick = () => page(next).catch((e) => toast(e.message, 'error'));
  };
  await page('');
}

function summary(order) {
  const names = order.items.map((i) => (i.quantity > 1 ? `${i.quantity} × ${i.name}` : i.name)).join(', ');
  const state = el('span', {}, badge(order.state));
  return el('li', { class: 'panel order', test: 'order', 'data-id': order.id },
    el('a', { class: 'what', href: `#/orders/${order.id}` }, el('strong', {}, names || 'Order'), el('small', {}, when(order.create_time))),
    state,
    el('span', { class: 'price' }, money(order.total)),
    cancelButton(order, (o) => { state.replaceChildren(badge(o.state)); }));
}

// cancelButton asks before it cancels: the second press does it.
function cancelButton(order, done, text = 'Cancel') {
  const button = el('button', { test: 'cancel', hidden: !CANCELLABLE.includes(order.state) }, text);
  let sure = false;
  button.addEventListener('click', async () => {
    if (!sure) {
      sure = true;
      button.textContent = 'Really cancel?';
      setTimeout(() => { sure = false; button.textContent = text; }, 4000);
      return;
    }
    button.disabled = true;
    try {
      const after = await call('POST', `/v1/orders/${order.id}:cancel`, {});
      button.hidden = !CANCELLABLE.includes(after.state);
      done(after);
    } catch (e) {
      toast(e.message, 'error');
    } finally {
      button.disabled = false;
    }
  });
  return button;
}

export async function showOrder(main, signal, id) {
  if (!(await signedIn('Sign in to see your order.'))) {
    location.hash = '#/';
    return;
  }
  const parts = {
    state: el('p', { class: 'now', role: 'status', 'aria-live': 'polite', test: 'order-state' }),
    steps: el('ol', { class: 'steps', test: 'steps' }),
    actions: el('div', { class: 'row' }),
    items: el('ul', { class: 'lines' }),
    facts: el('dl', { class: 'facts' }),
    trace: el('section', { class: 'panel trace', 'aria-label': 'Trace', test: 'trace' }),
  };
  main.replaceChildren(
    el('a', { class: 'back', href: '#/orders' }, '← All orders'),
    el('h1', {}, 'Your order'),
    el('div', { class: 'two' },
      el('section', { class: 'panel', 'aria-label': 'State' }, parts.state, parts.steps, parts.actions),
      el('section', { class: 'panel', 'aria-label': 'Items' }, parts.items, parts.facts)),
    parts.trace);
  const seen = []; // the changes, as they came
  const draw = (order) => drawOrder(parts, order, seen, () => watch());
  const watch = async () => {
    for await (const { change, order } of events(`/v1/orders/${id}:watch?after_version=${seen.at(-1)?.version || 0}`, { signal })) {
      if (!seen.some((c) => c.version === change.version)) seen.push(change);
      draw({ ...order, state: change.state, reason: change.reason || order.reason });
    }
    if (!signal.aborted) draw(await call('GET', `/v1/orders/${id}`));
  };
  try {
    const order = await call('GET', `/v1/orders/${id}`);
    if (signal.aborted) return;
    draw(order);
    showTrace(parts.trace, order.trace_id, signal, () => FINAL.includes(parts.state.dataset.state));
    await watch();
  } catch (e) {
    if (!(e instanceof Failure)) throw e;
    main.replaceChildren(el('p', { class: 'empty', role: 'alert' }, el('span', { class: 'big', 'aria-hidden': 'true' }, '🔎'),
      e.status === 404 || e.status === 400 ? 'There is no such order.' : e.message, el('a', { href: '#/orders' }, 'All orders')));
  }
}

function drawOrder(parts, order, seen, again) {
  const [title, text] = STATES[order.state] || [order.state, ''];
  if (parts.state.dataset.state !== order.state) {
    parts.state.dataset.state = order.state;
    parts.state.replaceChildren(badge(order.state), el('span', { test: 'order-message' }, (order.state === 'REJECTED' && order.message) || text));
    parts.state.title = title;
  }
  parts.steps.replaceChildren(...steps(order.state, seen));
  parts.actions.replaceChildren(...[
    order.state === 'REJECTED' && el('button', { class: 'primary', test: 'try-again', on: { click: openCart } }, 'Try another card'),
    CANCELLABLE.includes(order.state) && cancelButton(order, again, 'Cancel this order'),
  ].filter(Boolean));
  parts.items.replaceChildren(...order.items.map((i) => el('li', {},
    el('span', { class: 'what' }, el('strong', {}, i.name), el('small', {}, `${i.quantity} × ${money(i.unit_price)}`)),
    el('span', { class: 'price' }, money(times(i.unit_price, i.quantity))))));
  const fact = (name, value) => (value ? [el('dt', {}, name), el('dd', {}, value)] : []);
  parts.facts.replaceChildren(
    ...fact('Total', money(order.total)), ...fact('Placed', when(order.create_time)),
    ...fact('Reason', order.reason), ...fact('Order', order.id), ...fact('Trace', order.trace_id));
}

// steps is the way of the order: what it has passed, where it is, and as long
// as all goes well what is still to come.
function steps(state, seen) {
  const way = seen.length ? seen.map((c) => c.state) : [state];
  const passed = way.length;
  const happy = ['PENDING', 'CONFIRMED', 'COMPLETED'];
  const at = happy.indexOf(way.at(-1));
  if (at >= 0) way.push(...happy.slice(at + 1));
  else if (way.at(-1) === 'CANCELLING') way.push('CANCELLED');
  return way.map((s, i) => el('li', {
    class: `${i < passed ? 'done' : ''} ${s.toLowerCase()}`, 'aria-current': i === passed - 1 ? 'step' : null, 'data-state': s,
  }, el('span', {}, STATES[s]?.[0] || s),
  el('small', {}, seen[i] ? new Date(seen[i].time).toLocaleTimeString(undefined, { hour: '2-digit', minute: '2-digit', second: '2-digit', fractionalSecondDigits: 3, hourCycle: 'h23' }) : ' ')));
}
