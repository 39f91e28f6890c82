// Small helpers to build the page. Data becomes text, and never markup.

// el makes an element. Properties: "class", "on" (an object of listeners),
// "data", "aria-*" and other attributes; null and false leave one out.
export function el(tag, props = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === 'on') for (const [type, fn] of Object.entries(value)) node.addEventListener(type, fn);
    else if (name === 'vars') for (const [key, v] of Object.entries(value)) node.style.setProperty(key, v);
    else if (name === 'test') node.dataset.testid = value;
    else if (name === 'value') node.value = value;
    else node.setAttribute(name, value === true ? '' : value);
  }
  node.append(...children.flat().filter((c) => c !== null && c !== undefined && c !== false));
  return node;
}

export const $ = (id) => document.getElementById(id);

// toast tells something in passing.
export function toast(text, kind = 'info') {
  const node = el('div', { class: `toast ${kind}`, test: 'toast' }, text);
  $('toasts').append(node);
  while ($('toasts').children.length > 2) $('toasts').firstChild.remove();
  setTimeout(() => node.remove(), kind === 'error' ? 8000 : 4000);
}

// money writes a google.type.Money.
export function money(m) {
  if (!m || !m.currency_code) return '–';
  const amount = Number(m.units || 0) + (m.nanos || 0) / 1e9;
  return new Intl.NumberFormat(undefined, { style: 'currency', currency: m.currency_code }).format(amount);
}

// times multiplies and add adds Money in billionths, so that no cent is lost.
const nanos = (m) => BigInt(m.units || 0) * 1_000_000_000n + BigInt(m.nanos || 0);
const fromNanos = (n, currency) => ({ currency_code: currency, units: String(n / 1_000_000_000n), nanos: Number(n % 1_000_000_000n) });
export const times = (m, n) => fromNanos(nanos(m) * BigInt(n), m.currency_code);
export const add = (a, b) => (a ? fromNanos(nanos(a) + nanos(b), b.currency_code) : b);

export const when = (iso) => (iso ? new Date(iso).toLocaleString(undefined, { dateStyle: 'medium', timeStyle: 'short' }) : '');

// uuid is a UUIDv4. crypto.randomUUID is missing where the page comes over
// plain HTTP from another machine.
export function uuid() {
  const b = crypto.getRandomValues(new Uint8Array(16));
  b[6] = (b[6] & 0x0f) | 0x40;
  b[8] = (b[8] & 0x3f) | 0x80;
  const hex = Array.from(b, (x) => x.toString(16).padStart(2, '0')).join('');
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5');
}
