// Signing up, in and out.
import { call, session, signIn, signOut } from './api.js';
import { $, el, toast, uuid } from './dom.js';

let settle = () => {}; // of the promise that the open dialog belongs to

// signedIn resolves to true once somebody is signed in, asking if need be, and
// to false if they would rather not.
export function signedIn(why = '') {
  if (session.get()) return Promise.resolve(true);
  return new Promise((resolve) => {
    settle = resolve;
    open(why);
  });
}

export function startAccount() {
  const button = $('account');
  const show = () => {
    const email = session.get()?.email;
    button.textContent = email ? 'Sign out' : 'Sign in';
    button.title = email ? `Signed in as ${email}` : '';
  };
  session.changed.addEventListener('change', show);
  show();
  button.addEventListener('click', async () => {
    if (!session.get()) return signedIn();
    await signOut();
    location.hash = '#/';
    toast('You are signed out.');
  });
  $('sign-in').addEventListener('close', () => settle(Boolean(session.get())));
}

function open(why) {
  const dialog = $('sign-in');
  const error = el('p', { class: 'form-error', role: 'alert', test: 'sign-in-error' });
  const form = el('form', { class: 'stack', novalidate: true });
  let creating = false;

  const submit = async (work) => {
    error.textContent = '';
    form.toggleAttribute('inert', true);
    try {
      await work();
      dialog.close();
      toast(`Welcome, ${session.get().email}.`);
    } catch (e) {
      error.textContent = e.fields?.length ? e.fields.map((f) => `${label(f.field)}: ${f.description}`).join('. ') : e.message;
    } finally {
      form.toggleAttribute('inert', false);
    }
  };
  form.addEventListener('submit', (e) => {
    e.preventDefault();
    const { email, password } = Object.fromEntries(new FormData(form));
    submit(() => (creating ? create(email, password) : signIn(email, password)));
  });

  const draw = () => {
    const choose = (to) => () => { creating = to; draw(); };
    form.replaceChildren(
      el('div', { class: 'tabs', role: 'group', 'aria-label': 'What to do' },
        el('button', { type: 'button', 'aria-pressed': String(!creating), on: { click: choose(false) }, test: 'tab-sign-in' }, 'Sign in'),
        el('button', { type: 'button', 'aria-pressed': String(creating), on: { click: choose(true) }, test: 'tab-sign-up' }, 'Create account')),
      el('label', {}, 'Email', el('input', { name: 'email', type: 'email', required: true, autocomplete: 'email', test: 'email' })),
      el('label', {}, 'Password',
        el('input', {
          name: 'password', type: 'password', required: true, test: 'password',
          autocomplete: creating ? 'new-password' : 'current-password',
        }),
        creating && el('small', {}, 'At least 8 characters.')),
      error,
      el('button', { class: 'primary', test: 'submit' }, creating ? 'Create account' : 'Sign in'),
      el('p', { class: 'or' }, 'or'),
      el('button', { type: 'button', test: 'guest', on: { click: () => submit(guest) } }, 'Look around as a guest'));
  };
  draw();
  dialog.replaceChildren(
    el('header', {},
      el('h2', { id: 'sign-in-title' }, 'Your account'),
      el('button', { class: 'close', 'aria-label': 'Close', on: { click: () => dialog.close() } }, '✕')),
    why && el('p', { class: 'muted' }, why),
    form);
  dialog.showModal();
  form.querySelector('input').focus();
}

const label = (field) => ({ email: 'Email', password: 'Password' })[field] || field;

async function create(email, password) {
  await call('POST', '/v1/users', { email, password, request_id: uuid() });
  await signIn(email, password);
}

// guest opens an account that nobody can sign in to again.
const guest = () => create(`guest-${uuid().slice(0, 8)}@example.com`, uuid());
