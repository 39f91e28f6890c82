// The console: which page is shown, by the part of the address after "#".
import { signedIn, startAccount } from './account.js';
import { startCart } from './cart.js';
import { showCatalog } from './catalog.js';
import { el, $ } from './dom.js';
import { startHealth } from './health.js';
import { showOrder, showOrders } from './orders.js';

let leave = new AbortController();

async function show() {
  leave.abort(); // ends the streams of the page before
  leave = new AbortController();
  const { signal } = leave;
  const [, page, id] = location.hash.split('/');
  for (const a of document.querySelectorAll('.top nav a')) {
    const here = a.getAttribute('href') === (page === 'orders' ? '#/orders' : '#/');
    if (here) a.setAttribute('aria-current', 'page');
    else a.removeAttribute('aria-current');
  }
  // Each page has an element of its own: one that is late does not write into
  // the next.
  const main = el('div', { class: 'page' });
  $('main').replaceChildren(main);
  scrollTo(0, 0);
  try {
    if (page === 'orders' && id) await showOrder(main, signal, decodeURIComponent(id));
    else if (page === 'orders') await showOrders(main, signal);
    else await showCatalog(main, signal);
  } catch (e) {
    if (e.status === 401 && !signal.aborted && await signedIn('Your session has ended: please sign in again.')) return show();
    main.replaceChildren(el('p', { class: 'empty', role: 'alert', test: 'failure' },
      el('span', { class: 'big', 'aria-hidden': 'true' }, '🌧️'), e.message,
      el('button', { on: { click: show } }, 'Try again')));
  }
}

startAccount();
startCart();
startHealth();
addEventListener('hashchange', show);
show();
