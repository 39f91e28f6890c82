// The cart, and placing an order from it.
import { call, Failure } from './api.js';
import { signedIn } from './account.js';
import { $, add, el, money, times, toast, uuid } from './dom.js';

// What each test card of the payment simulator does, in plain words.
const CARDS = [
  ['tok_visa', 'Visa: works'],
  ['tok_mastercard', 'Mastercard: works'],
  ['tok_chargeDeclined', 'Declined by the bank'],
  ['tok_chargeDeclinedInsufficientFunds', 'Not enough money on it'],
  ['tok_chargeDeclinedExpiredCard', 'Expired'],
  ['tok_chargeDeclinedIncorrectCvc', 'Wrong security code'],
  ['tok_chargeDeclinedProcessingError', 'Fails while it is processed'],
  ['tok_chargeDeclinedFraudulent', 'Taken for fraud'],
  ['tok_chargeCustomerFail', 'Saved, then refused when charged'],
];

const stored = (key, fallback) => JSON.parse(sessionStorage.getItem(key) || fallback);
const keep = (key, value) => sessionStorage.setItem(key, JSON.stringify(value));

let lines = stored('cart', '[]'); // { product, quantity }
let card = 'tok_visa';
let busy = false;
let problem = '';

export function startCart() {
  $('cart-button').addEventListener('click', openCart);
  count();
}

export function addToCart(product) {
  const line = lines.find((l) => l.product.id === product.id);
  if (line) line.quantity++;
  else lines.push({ product, quantity: 1 });
  changed();
  toast(`${product.name} is in your cart.`);
}

export const inCart = (id) => lines.find((l) => l.product.id === id)?.quantity || 0;

export function openCart() {
  problem = '';
  draw();
  if (!$('cart').open) $('cart').showModal();
}

function changed() {
  lines = lines.filter((l) => l.quantity > 0);
  keep('cart', lines);
  count();
}

function count() {
  const n = lines.reduce((sum, l) => sum + l.quantity, 0);
  $('cart-count').textContent = n;
  $('cart-button').setAttribute('aria-label', `Cart, ${n} ${n === 1 ? 'item' : 'items'}`);
}

function draw() {
  const dialog = $('cart');
  const currencies = new Set(lines.map((l) => l.product.price.currency_code));
  const total = lines.reduce((sum, l) => add(sum, times(l.product.price, l.quantity)), null);
  dialog.replaceChildren(
    el('header', {},
      el('h2', { id: 'cart-title' }, 'Your cart'),
      el('button', { class: 'close', 'aria-label': 'Close', test: 'cart-close', on: { click: () => dialog.close() } }, '✕')),
    lines.length
      ? el('ul', { class: 'lines' }, lines.map(row))
      : el('p', { class: 'empty' }, el('span', { class: 'big', 'aria-hidden': 'true' }, '🧺'), 'Nothing in it yet.'),
    lines.length > 0 && el('form', { class: 'stack checkout', on: { submit: checkout } },
      el('label', {}, 'Test card',
        el('select', { test: 'card', on: { change: (e) => { card = e.target.value; } } },
          CARDS.map(([token, text]) => el('option', { value: token, selected: token === card }, text)))),
      el('p', { class: 'total' }, 'Total', el('strong', { test: 'cart-total' }, currencies.size > 1 ? '–' : money(total))),
      currencies.size > 1 && el('p', { class: 'form-error' }, 'An order has one currency: please order these separately.'),
      el('p', { class: 'form-error', role: 'alert', test: 'checkout-error' }, problem),
      el('button', { class: 'primary', disabled: busy || currencies.size > 1, test: 'place-order' }, busy ? 'Placing your order…' : 'Place order')));
}

function row(line) {
  const p = line.product;
  const change = (by) => () => {
    line.quantity += by;
    changed();
    draw();
    // The button that was pressed is a new one now.
    document.querySelector(`[data-line="${p.id}"] [data-by="${by}"]`)?.focus();
  };
  return el('li', { 'data-line': p.id, test: 'cart-line' },
    el('span', { class: 'thumb', 'aria-hidden': 'true' }, p.picture),
    el('span', { class: 'what' }, el('strong', {}, p.name), el('small', {}, `${money(p.price)} each`)),
    el('span', { class: 'stepper' },
      el('button', { 'aria-label': `One ${p.name} less`, 'data-by': '-1', on: { click: change(-1) } }, '−'),
      el('output', { 'aria-label': 'Quantity' }, line.quantity),
      el('button', { 'aria-label': `One ${p.name} more`, 'data-by': '1', disabled: line.quantity >= 1000, on: { click: change(1) } }, '+')),
    el('span', { class: 'price' }, money(times(p.price, line.quantity))));
}

// attempt returns the request_id of this checkout. It stays the same as long as
// the same is ordered and no answer has come, even if the page is loaded anew:
// so an order is placed once, however often it has to be sent.
function attempt(body) {
  const now = JSON.stringify(body);
  const last = stored('attempt', 'null');
  if (last?.body === now) return last.id;
  const id = uuid();
  keep('attempt', { id, body: now });
  return id;
}

async function checkout(e) {
  e.preventDefault();
  if (busy || !(await signedIn('Sign in to place your order.'))) return;
  const body = {
    items: lines.map((l) => ({ product_id: l.product.id, quantity: l.quantity })),
    payment_token: card,
  };
  busy = true;
  problem = '';
  draw();
  try {
    const order = await call('POST', '/v1/orders', { request_id: attempt(body), ...body });
    sessionStorage.removeItem('attempt');
    if (order.state !== 'REJECTED') {
      lines = []; // after a refusal they may want to try another card
      changed();
    }
    $('cart').close();
    location.hash = `#/orders/${order.id}`;
  } catch (err) {
    if (!(err instanceof Failure)) throw err;
    if (!err.passing) sessionStorage.removeItem('attempt');
    problem = err.passing && !err.out ? `${err.message} Press again: the order is placed once only.` : explain(err);
  } finally {
    busy = false;
    draw();
  }
}

function explain(err) {
  if (err.status === 401) return 'Your session has ended. Sign in and press again.';
  if (err.out) return `${err.message.replace(/^./, (x) => x.toUpperCase())}. Your cart is kept.`;
  return err.message;
}
