// The catalog: all there is to buy, with what is in stock.
import { call, events } from './api.js';
import { addToCart } from './cart.js';
import { el, money, toast } from './dom.js';

const PAGE = 200; // a catalog of up to so many is filtered here, a larger one by the shop

let known = new Map(); // id -> product
let stock = new Map(); // id -> available
let complete = false; // all products are known
let categories = [];
const view = { category: '', search: '' };

export async function showCatalog(main, signal) {
  const grid = el('ul', { class: 'grid', test: 'products', 'aria-busy': 'true' }, Array.from({ length: 12 }, skeleton));
  const chips = el('div', { class: 'chips', role: 'group', 'aria-label': 'Category' });
  const found = el('p', { class: 'muted found', role: 'status', test: 'found' }, ' ');
  const more = el('button', { class: 'more', hidden: true, test: 'more' }, 'Show more');
  const list = { grid, chips, found, more, signal };
  main.replaceChildren(
    el('section', { class: 'hero' },
      el('h1', {}, 'Good things, in stock.'),
      el('p', { class: 'muted' }, 'Every order here crosses six services. Watch it happen.')),
    el('div', { class: 'filters' },
      el('input', {
        type: 'search', placeholder: 'Search', 'aria-label': 'Search the catalog', value: view.search, test: 'search',
        on: { input: debounced((e) => { view.search = e.target.value.trim(); fill(list); }) },
      }),
      chips),
    found, grid, more);
  await load();
  drawChips(list);
  await fill(list);
  follow(list).catch(() => {}); // without it the page is as good as when it was loaded
}

function debounced(fn) {
  let timer;
  return (e) => {
    clearTimeout(timer);
    timer = setTimeout(fn, complete ? 0 : 250, e);
  };
}

async function load() {
  if (known.size) return;
  const page = await call('GET', `/v1/products?page_size=${PAGE}`);
  page.products.forEach(know);
  complete = !page.next_page_token;
  categories = [...new Set(page.products.map((p) => p.category))].sort();
}

function know(p) {
  // A picture is an emoji or an address; a page that loads nothing from
  // elsewhere shows the first letter for the latter.
  p.picture = p.image && !p.image.startsWith('http') ? p.image : p.name.slice(0, 1).toUpperCase();
  known.set(p.id, p);
  return p;
}

function drawChips(list) {
  const chip = (value, text) => el('button', {
    class: 'chip', 'aria-pressed': String(view.category === value), test: `category-${value || 'all'}`,
    on: {
      click: () => {
        view.category = value;
        drawChips(list);
        fill(list);
        list.chips.querySelector('[aria-pressed="true"]').focus();
      },
    },
  }, text);
  list.chips.replaceChildren(chip('', 'Everything'), ...categories.map((c) => chip(c, title(c))));
}

const title = (c) => c.replaceAll('-', ' ').replace(/^./, (x) => x.toUpperCase());

// quoted makes a string of an AIP-160 filter.
const quoted = (s) => `"${s.replaceAll('\\', '\\\\').replaceAll('"', '\\"')}"`;

// mixed deals the products of all categories in turn, like a shop window.
function mixed(products) {
  const shelves = [...Map.groupBy(products, (p) => p.category).values()];
  const longest = Math.max(0, ...shelves.map((s) => s.length));
  return Array.from({ length: longest }, (_, i) => shelves.map((s) => s[i])).flat().filter(Boolean);
}

let asked = 0; // only the answer to the last question counts

async function fill(list, token = '') {
  const mine = ++asked;
  let products, next = '', total;
  if (complete) {
    const wanted = view.search.toLowerCase();
    products = mixed([...known.values()].filter((p) => (!view.category || p.category === view.category)
      && (!wanted || `${p.name} ${p.description} ${p.sku}`.toLowerCase().includes(wanted))));
    total = products.length;
  } else {
    const filter = [view.category && `category = ${quoted(view.category)}`, view.search && `name:${quoted(view.search)}`];
    const query = new URLSearchParams({ page_size: 60, page_token: token, filter: filter.filter(Boolean).join(' AND ') });
    const page = await call('GET', `/v1/products?${query}`);
    if (mine !== asked) return;
    products = page.products.map(know);
    next = page.next_page_token;
    total = page.total_size;
  }
  const cards = products.map(card);
  if (token) list.grid.append(...cards);
  else list.grid.replaceChildren(...cards);
  list.grid.setAttribute('aria-busy', 'false');
  const number = !complete && total >= 1000 ? '1,000 or more' : total; // the shop counts no further
  list.found.textContent = total === 0 ? 'Nothing like that here.' : `${number} ${total === 1 ? 'product' : 'products'}`;
  list.more.hidden = !next;
  list.more.onclick = () => fill(list, next).catch((e) => toast(e.message, 'error'));
  await restock(products.map((p) => p.id));
}

function skeleton() {
  return el('li', { class: 'card skeleton', 'aria-hidden': 'true' }, el('div', { class: 'tile' }), el('div', { class: 'text' }));
}

// hue gives each category a tint of its own.
const hue = (category) => (Math.max(categories.indexOf(category), 0) * 47 + 40) % 360;

function card(p) {
  const node = el('li', { class: 'card', 'data-id': p.id, vars: { '--hue': hue(p.category) }, test: 'product' },
    el('div', { class: 'tile', 'aria-hidden': 'true' }, p.picture),
    el('div', { class: 'text' },
      el('p', { class: 'category' }, title(p.category)),
      el('h2', {}, p.name),
      el('p', { class: 'description' }, p.description),
      el('p', { class: 'buy' }, el('strong', { class: 'price', test: 'price' }, money(p.price)), el('span', { class: 'stock', test: 'stock' }, ' ')),
      el('button', { class: 'primary', test: 'add', on: { click: () => addToCart(p) }, 'aria-label': `Add ${p.name} to the cart` }, 'Add to cart')));
  drawStock(node, stock.get(p.id));
  return node;
}

function drawStock(node, available) {
  if (available === undefined) return;
  const badge = node.querySelector('.stock');
  badge.textContent = available === 0 ? 'Sold out' : available <= 5 ? `Only ${available} left` : `${available} in stock`;
  badge.className = `stock ${available === 0 ? 'none' : available <= 5 ? 'low' : ''}`;
  badge.dataset.available = available;
  node.querySelector('button').disabled = available === 0;
}

// restock asks how much there is of some products, a hundred at a time. What
// the inventory has not heard of yet it is asked again for a little later.
async function restock(ids, again = 3) {
  for (let i = 0; i < ids.length; i += 100) {
    const part = ids.slice(i, i + 100);
    const query = new URLSearchParams(part.map((id) => ['product_ids', id]));
    const stocks = await call('GET', `/v1/stock:batchGet?${query}`).then((r) => r.stocks).catch(() => oneByOne(part));
    for (const s of stocks) {
      stock.set(s.product_id, s.available);
      const node = document.querySelector(`.card[data-id="${s.product_id}"]`);
      if (node) drawStock(node, s.available);
    }
  }
  const unknown = ids.filter((id) => !stock.has(id));
  if (unknown.length && again) setTimeout(() => restock(unknown, again - 1), 1000);
}

// oneByOne is for when one of them is not known.
const oneByOne = (ids) => Promise.all(ids.map((id) => call('GET', `/v1/stock/${id}`).catch(() => null))).then((all) => all.filter(Boolean));

// follow keeps the cards as the catalog changes.
async function follow(list) {
  for await (const { change, product } of events('/v1/products:watch', { signal: list.signal })) {
    const node = list.grid.querySelector(`.card[data-id="${product.id}"]`);
    if (change === 'CHANGE_DELETED') {
      known.delete(product.id);
      node?.remove();
      continue;
    }
    know(product);
    if (!categories.includes(product.category)) {
      categories = [...categories, product.category].sort();
      drawChips(list);
    }
    if (node) {
      node.replaceWith(card(product));
      restock([product.id]);
    } else if (complete) {
      fill(list);
    }
  }
}
