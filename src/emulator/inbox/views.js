// The inbox page, part 4: identities, calls and events; the table of views; showing a list and a detail.

/** Rows that hold every word of the search, for lists that the emulator does not search itself. */
function sift(rows) {
  const words = state.query.toLowerCase().split(/\s+/).filter(Boolean);
  if (words.length === 0) return rows;
  return rows.filter((row) => { const text = JSON.stringify(row).toLowerCase(); return words.every((word) => text.includes(word)); });
}

const loadOf = (path, name) => async () => {
  const limit = state.query ? MOST : state.limit;
  const found = (await read(`${path}?${query({ limit })}`))[name] ?? [];
  const rows = sift(found);
  return { rows: rows.slice(0, state.limit), more: rows.length > state.limit || (found.length >= limit && limit < MOST) };
};

const plainRow = (iconName, tone, first, at, second, ...chips) => [
  el('span', { class: `icon ${tone}` }, icon(iconName)),
  el('span', { class: 'line' }, el('span', { class: 'grow who', text: first }), at === null || at === undefined ? '' : when(at)),
  el('span', { class: 'line' }, el('span', { class: 'grow snippet', text: second }), ...chips),
];

const fromRows = (key, title, update) => async (id) => {
  const data = state.rows.find((row) => VIEWS[state.view].id(row) === id);
  if (!data) throw new Error('It is no longer in the list.');
  return { key: `${key} ${id}`, title: title(data), data, update };
};

function showIdentity(root, identity) {
  const cells = (token) => [el('td', { class: 'mono', text: token.masked }), el('td', { text: token.scopes.join(', ') }),
    el('td', {}, when(token.issued_at)), el('td', {}, when(token.expires_at)), el('td', {}, chip(token.state))];
  root.replaceChildren(
    el('div', { class: 'card' }, facts([['Id', [el('span', { class: 'mono', text: identity.id }), ' ', copyButton(identity.id)]], ['Custom id', identity.custom_id, true],
      ['Last token', identity.last_token_issued_at ? when(identity.last_token_issued_at) : 'never issued']])),
    identity.tokens.length === 0 ? el('p', { class: 'note', text: 'No tokens.' })
      : el('div', { class: 'scroll' }, el('table', {}, el('caption', { class: 'sr', text: 'The latest tokens' }),
        el('thead', {}, el('tr', {}, ['Token', 'Scopes', 'Issued', 'Expires', 'State'].map((text) => el('th', { scope: 'col', text })))),
        el('tbody', {}, identity.tokens.map((token) => el('tr', {}, cells(token)))))),
    el('p', { class: 'note' }, icon('lock'), 'Tokens are masked. The latest five are listed.'));
}

const callTone = (call) => (call.status === 0 || call.status >= 500 ? 'bad' : call.status >= 400 ? 'warn' : 'ok');
const callStatus = (call) => chip(call.status === 0 ? 'dropped' : call.status, callTone(call));

function callRow(call) {
  const about = [call.version, call.by && `by ${call.by}`, call.done ? null : 'no effect'].filter(Boolean).join(' · ');
  return plainRow(call.fault ? 'fault' : 'calls', call.fault || callTone(call) === 'bad' ? 'bad' : '', call.operation, new Date(call.at).toISOString(), about,
    call.fault && el('span', { class: 'chip bad', title: call.fault, text: `fault: ${call.fault}` }), call.throttled && chip('throttled', 'warn'), callStatus(call));
}

const showCall = (root, call) => root.replaceChildren(el('div', { class: 'card' }, facts([
  ['Number', call.number], ['Operation', call.operation, true], ['At', when(new Date(call.at).toISOString())], ['Status', callStatus(call)], ['Had effect', call.done ? 'yes' : 'no'],
  ['Version', call.version, true], ['Asked by', call.by], ['Fault', call.fault && chip(call.fault, 'bad')], ['Limit', call.throttled && 'refused by a published limit'],
])));

const worst = (event) => ['failed', 'pending', 'delivered'].find((status) => event.deliveries.some((each) => each.status === status));

function showEvent(root, event) {
  root.replaceChildren(
    el('div', { class: 'card' }, facts([['Kind', event.kind, true], ['Subject', event.subject, true], ['At', when(event.at)], ['Id', event.id, true]])),
    event.deliveries.length === 0 ? el('p', { class: 'note', text: 'No webhook wanted it.' })
      : el('div', { class: 'scroll card' }, el('table', {}, el('thead', {}, el('tr', {}, ['Webhook', 'Status', 'Attempts', 'Last answer'].map((text) => el('th', { scope: 'col', text })))),
        el('tbody', {}, event.deliveries.map((each) => el('tr', {}, el('td', { class: 'mono', text: each.url }), el('td', {}, chip(each.status)), el('td', { text: each.attempts }), el('td', { text: each.last ?? '' })))))),
    el('pre', { text: JSON.stringify(event.data, null, 2) }));
}

const sent = 'Point an SDK at this emulator and send something:\nit appears here by itself.';
const VIEWS = {
  all: { name: 'All messages', key: 'a', noun: 'message', load: () => loadMessages(), id: (row) => row.id, row: messageRow, open: openMessage, empty: sent },
  sms: { name: 'SMS', key: 's', noun: 'message', count: 'sms', load: () => loadMessages('sms'), id: (row) => row.id, row: messageRow, open: openMessage, empty: `No SMS yet.\n${sent}` },
  email: { name: 'E-mail', key: 'e', noun: 'mail', count: 'email', load: () => loadMessages('email'), id: (row) => row.id, row: messageRow, open: openMessage, empty: `No mail yet.\n${sent}` },
  chat: { name: 'Chat threads', key: 'c', noun: 'thread', count: 'threads', load: loadThreads, id: (row) => row.id, row: threadRow, open: (id) => openThread(id), empty: 'No chat threads yet.' },
  identities: {
    name: 'Identities', key: 'i', noun: 'identity', nouns: 'identities', count: 'identities', load: loadOf('identities', 'identities'), id: (row) => row.id,
    row: (row) => plainRow('identities', '', row.custom_id || shortId(row.id), row.last_token_issued_at, row.custom_id ? shortId(row.id) : 'no custom id', el('span', { class: 'chip', text: plural(row.tokens.length, 'token') })),
    open: fromRows('identity', (row) => row.custom_id || shortId(row.id), showIdentity), empty: 'No identities yet.',
  },
  calls: { name: 'Calls', key: 'l', noun: 'call', count: 'calls', load: loadOf('calls/log', 'calls'), id: (row) => String(row.number), row: callRow, open: fromRows('call', (row) => row.operation, showCall), empty: 'No calls yet.' },
  events: {
    name: 'Events', key: 'v', noun: 'event', count: 'events', load: loadOf('events', 'events'), id: (row) => String(row.id ?? row.sequence),
    row: (row) => plainRow('events', worst(row) === 'failed' ? 'bad' : '', row.kind.replace('Microsoft.Communication.', ''), row.at, row.subject, worst(row) && chip(worst(row))),
    open: fromRows('event', (row) => row.kind.replace('Microsoft.Communication.', ''), showEvent), empty: 'No events yet.\nThey appear when messages are delivered, read or received.',
  },
};

const kept = new WeakMap();

/** Brings the list up to date without touching rows that stay as they are, so that focus and selection stay too. */
function showRows(rows, view, first) {
  const list = byId('list');
  const before = new Map([...list.children].map((item) => [item.dataset.key, item]));
  const wanted = new Set(rows.map((row) => view.id(row)));
  for (const [key, item] of before) if (!wanted.has(key)) item.remove();
  let place = list.firstChild;
  for (const row of rows) {
    const key = view.id(row);
    const text = JSON.stringify(row);
    let item = before.get(key);
    if (!item) {
      item = el('li', { 'data-key': key, class: first ? undefined : 'fresh' }, el('button', { type: 'button', class: 'row', tabindex: '-1', onclick: () => go(state.view, key, true) }));
    }
    if (kept.get(item) !== text) {
      item.firstChild.replaceChildren(...view.row(row).filter(Boolean));
      kept.set(item, text);
    }
    if (item === place) place = place.nextSibling;
    else list.insertBefore(item, place);
  }
  markOpen();
}

function markOpen() {
  let tabbable = null;
  const items = [...byId('list').children];
  for (const item of items) {
    const open = item.dataset.key === state.id;
    item.classList.toggle('open', open);
    if (open) { item.firstChild.setAttribute('aria-current', 'true'); tabbable = item; } else item.firstChild.removeAttribute('aria-current');
    item.firstChild.tabIndex = -1;
  }
  tabbable = items.find((item) => item.contains(document.activeElement)) ?? tabbable ?? items[0];
  if (tabbable) tabbable.firstChild.tabIndex = 0;
}

function showNothing() {
  state.shown = null;
  byId('detail').replaceChildren(el('div', { class: 'nothing' }, icon('all'), el('p', { text: 'Choose something from the list to see it whole.' }), el('p', {}, 'Press ', el('kbd', { text: '?' }), ' for the keyboard.')));
}

/** Shows a detail, or brings the one that is shown up to date. */
async function showDetail(focus) {
  const { view, id } = state;
  document.body.classList.toggle('reading', id !== null);
  if (id === null) return showNothing();
  let detail;
  try { detail = await VIEWS[view].open(id); } catch (error) {
    if (state.id !== id || (state.shown && error.status === undefined)) return undefined;
    detail = { key: `problem ${id}`, title: 'Not here', data: error.message, update: (root, text) => root.replaceChildren(el('p', { class: 'note', text })) };
  }
  if (state.id !== id || state.view !== view) return undefined;
  const text = JSON.stringify(detail.data);
  if (state.shown?.key === detail.key) {
    if (state.shown.text !== text) { state.shown.text = text; state.shown.update(state.shown.root, detail.data); }
  } else {
    const root = el('div', { class: detail.framed ? 'framed-root' : undefined });
    const heading = el('h2', { tabindex: '-1', text: detail.title });
    const back = el('button', { type: 'button', class: 'round', id: 'back', 'aria-label': 'Close the details', 'aria-keyshortcuts': 'Escape', onclick: () => close() });
    const [narrow, wide] = [icon('back'), icon('close')];
    narrow.classList.add('narrow');
    wide.classList.add('wide');
    back.append(narrow, wide);
    byId('detail').replaceChildren(el('div', { class: 'detail-head' }, heading, back), root);
    byId('detail').scrollTop = 0;
    state.shown = { ...detail, root, text };
    detail.update(root, detail.data);
    detail.settle?.();
  }
  if (focus) byId('detail').focus();
  return undefined;
}
