// The inbox page, part 6: where we are, what changed, and the keyboard. It runs when all parts are there.

/** Goes to a view and perhaps one thing in it; the address keeps it, so that back and reload work. */
function go(view, id = null, focus = false) {
  const hash = `#/${view}${id === null ? '' : `/${encodeURIComponent(id)}`}`;
  state.focusDetail = focus;
  if (location.hash === hash) arrive(); else location.hash = hash;
}

function close() {
  const { id } = state;
  go(state.view);
  [...byId('list').children].find((item) => item.dataset.key === id)?.firstChild.focus();
}

function arrive() {
  const [, view, id] = /^#\/([a-z]+)(?:\/(.+))?$/.exec(location.hash) ?? [];
  const next = Object.hasOwn(VIEWS, view ?? '') ? view : 'all';
  let nextId = null;
  try { nextId = id === undefined ? null : decodeURIComponent(id); } catch { /* A broken address opens the list. */ }
  const focus = state.focusDetail;
  state.focusDetail = false;
  if (next !== state.view || !state.arrived) {
    Object.assign(state, { view: next, id: nextId, limit: PAGE, rows: [], loads: state.loads + 1, arrived: true, first: true });
    byId('list').replaceChildren();
    byId('list-pane').scrollTop = 0;
    showViews();
    showNothing();
    document.body.classList.toggle('reading', nextId !== null);
    refresh(focus);
  } else {
    state.id = nextId;
    markOpen();
    showDetail(focus);
  }
}

function showViews() {
  const counts = state.status?.counts ?? {};
  const total = (counts.sms ?? 0) + (counts.email ?? 0) + (counts.chat ?? 0);
  if (byId('views').children.length === 0) {
    for (const [name, view] of Object.entries(VIEWS)) {
      if (name === 'identities') byId('views').append(el('li', { class: 'gap', 'aria-hidden': 'true' }));
      byId('views').append(el('li', {}, el('button', { type: 'button', 'data-view': name, 'aria-keyshortcuts': `g ${view.key}`, onclick: () => go(name) },
        icon(name), el('span', { text: view.name }), el('span', { class: 'count' }))));
    }
  }
  for (const button of byId('views').querySelectorAll('button')) {
    const name = button.dataset.view;
    const count = name === 'all' ? total : counts[VIEWS[name].count];
    button.querySelector('.count').textContent = count === undefined ? '' : Number(count).toLocaleString('en');
    if (name === state.view) button.setAttribute('aria-current', 'page'); else button.removeAttribute('aria-current');
  }
  byId('view-title').textContent = VIEWS[state.view].name;
  document.title = `${total ? `(${total}) ` : ''}${VIEWS[state.view].name} · acs-broker emulator`;
}

async function load(focus) {
  const { loads } = state;
  const view = VIEWS[state.view];
  const [status, found] = await Promise.all([read('status'), view.load()]);
  if (loads !== state.loads) return;
  Object.assign(state, { status, now: Date.parse(status.now) || Date.now(), ahead: status.ahead_ms ?? 0, rows: found.rows });
  showViews();
  showRows(found.rows, view, state.first);
  state.first = false;
  const none = found.rows.length === 0;
  byId('empty').hidden = !none;
  byId('empty').textContent = state.query ? `Nothing matches “${state.query}”.` : view.empty;
  const most = found.rows.length >= MOST;
  byId('more').hidden = !found.more || most;
  byId('list-count').textContent = none ? '' : `${plural(found.rows.length, view.noun, view.nouns)}${found.more ? (most ? '; search for older ones' : ', and more') : ''}`;
  byId('ahead').hidden = state.ahead <= 0;
  byId('ahead').textContent = `${spanText(state.ahead)} ahead`;
  byId('ahead').title = `The emulator's clock says ${status.now}.`;
  await Promise.all([showFaults(), showDetail(focus)]);
}

let running = false;
let again = false;
let wantsFocus = false;
/** Looks again; while it looks, however often it is asked, once more. */
async function refresh(focus = false) {
  wantsFocus ||= focus;
  if (running) { again = true; return; }
  running = true;
  try {
    do {
      again = false;
      const focusNow = wantsFocus;
      wantsFocus = false;
      try { await load(focusNow); } catch (error) { if (error instanceof Refused && error.status !== 401) toast(error.message); }
    } while (again);
  } finally { running = false; }
}

function setLive(name, text) {
  byId('live').dataset.live = name;
  byId('live-text').textContent = text;
}

const sleep = (ms) => new Promise((done) => { setTimeout(done, ms); });
let stream = new AbortController();
let wake = () => {};
const reconnect = () => { stream.abort(); wake(); refresh(); };

/** Looks again at each bell of the stream. Silence of 40 s is taken for the end: the emulator says something every 15. */
async function listen() {
  stream = new AbortController();
  const { signal } = stream;
  const response = await request('stream', { signal });
  const reader = response.body.getReader();
  const decoder = new TextDecoder();
  let rest = '';
  for (;;) {
    const silence = setTimeout(() => stream.abort(), 40000);
    let part;
    try { part = await reader.read(); } finally { clearTimeout(silence); }
    if (part.done) return;
    setLive('live', 'Live');
    const lines = (rest + decoder.decode(part.value, { stream: true })).split('\n');
    rest = lines.pop().slice(-1000);
    if (lines.some((line) => line.startsWith('data:'))) changed();
  }
}

function changed() {
  if (document.hidden) state.stale = true; else refresh();
}

async function follow() {
  let pause = 250;
  for (;;) {
    try {
      const begun = Date.now();
      await listen();
      if (Date.now() - begun > 2000) pause = 250;
    } catch (error) {
      if (error instanceof Refused && error.status === 401) {
        setLive('gone', 'A token is needed');
        await new Promise((done) => { wake = done; });
      } else if (error instanceof Refused && error.status === 403) {
        setLive('gone', 'Not allowed from here');
        await sleep(5000);
      } else if (error instanceof Refused) {
        // No stream here, as behind a proxy that does not know it: ask every second instead.
        setLive('polling', 'Asking every second');
        changed();
        await sleep(1000);
      } else if (error.name !== 'AbortError') setLive('gone', 'The emulator is gone; trying again');
    }
    await sleep(pause);
    pause = Math.min(pause * 2, 3000);
  }
}

function step(by) {
  const items = [...byId('list').children];
  if (items.length === 0) return;
  let at = items.findIndex((item) => item.contains(document.activeElement));
  if (at < 0) at = items.findIndex((item) => item.dataset.key === state.id);
  const next = items[at < 0 ? 0 : Math.max(0, Math.min(items.length - 1, at + by))];
  next.firstChild.focus();
  next.scrollIntoView({ block: 'nearest' });
  // With a detail open beside the list, it follows.
  if (state.id !== null && matchMedia('(min-width: 761px)').matches && next.dataset.key !== state.id) {
    history.replaceState(null, '', `#/${state.view}/${encodeURIComponent(next.dataset.key)}`);
    state.id = next.dataset.key;
    showDetail(false);
  }
  markOpen();
}

let prefix = 0;
document.addEventListener('keydown', (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || byId('dialog').open) return;
  const typing = event.target instanceof Element && event.target.matches('input, textarea, select');
  if (event.key === 'Escape') {
    if (event.target === byId('search')) {
      if (byId('search').value) { byId('search').value = ''; search(); } else byId('search').blur();
    } else if (state.id !== null) close();
    else if (state.query) { byId('search').value = ''; search(); }
    event.preventDefault();
    return;
  }
  if (typing) {
    if (event.target === byId('search') && (event.key === 'ArrowDown' || event.key === 'Enter')) { event.preventDefault(); step(0); }
    return;
  }
  if (prefix && Date.now() - prefix < 1500) {
    prefix = 0;
    const [name] = Object.entries(VIEWS).find(([, view]) => view.key === event.key) ?? [];
    if (name) { event.preventDefault(); go(name); byId('view-title').focus(); return; }
  }
  const inDetail = byId('detail').contains(event.target);
  const keys = {
    '/': () => { byId('search').focus(); byId('search').select(); },
    '?': helpDialog,
    g: () => { prefix = Date.now(); },
    j: () => step(1),
    k: () => step(-1),
    ArrowDown: inDetail ? null : () => step(1),
    ArrowUp: inDetail ? null : () => step(-1),
  };
  const action = Object.hasOwn(keys, event.key) ? keys[event.key] : null;
  if (action) { event.preventDefault(); action(); }
});

let typed = 0;
function search() {
  clearTimeout(typed);
  typed = setTimeout(() => {
    state.query = byId('search').value.trim();
    Object.assign(state, { limit: PAGE, loads: state.loads + 1, first: true });
    refresh();
  }, 120);
}

byId('search').addEventListener('input', search);
byId('search-form').addEventListener('submit', (event) => event.preventDefault());
byId('more').addEventListener('click', () => {
  state.limit = Math.min(MOST, state.limit + (state.limit < 300 ? 200 : 350));
  state.first = true;
  refresh();
});
byId('skip').addEventListener('click', () => step(0));
byId('receive').addEventListener('click', () => receiveDialog());
byId('move-clock').addEventListener('click', clockDialog);
byId('ahead').addEventListener('click', clockDialog);
byId('add-fault').addEventListener('click', faultDialog);
byId('reset').addEventListener('click', resetDialog);
byId('help').addEventListener('click', helpDialog);
window.addEventListener('hashchange', arrive);
document.addEventListener('visibilitychange', () => { if (!document.hidden && state.stale) { state.stale = false; refresh(); } });

showViews();
arrive();
follow();
