// The inbox page, part 2: messages of all kinds in the list, and the details of an SMS and of a chat thread.

const KIND_NAMES = { sms: 'SMS', email: 'E-mail', chat: 'Chat' };

/** Words of the search box: `from:`, `to:`, `tag:`, `status:` narrow; the rest is text. */
function searchTerms(text) {
  const terms = {};
  const words = text.trim().split(/\s+/).filter((word) => {
    const [, name, value] = /^(from|to|tag|status|direction):(.+)$/i.exec(word) ?? [];
    if (name) terms[name.toLowerCase()] = value;
    return !name;
  });
  terms.contains = words.join(' ');
  return terms;
}

async function loadMessages(kind) {
  const terms = searchTerms(state.query);
  const ask = (values) => read(`messages?${query({ kind, limit: state.limit, ...values })}`);
  const found = await ask(terms);
  // A number or an address stands in no text: look for it among senders and recipients too.
  if (/^\+\d{3,}$|^\S+@\S+$|^\d+:\S+$/.test(terms.contains) && !terms.from && !terms.to) {
    const { contains, ...others } = terms;
    const more = await Promise.all([ask({ ...others, from: contains }), ask({ ...others, to: contains })]);
    const all = new Map([found, ...more].flatMap((each) => each.messages).map((message) => [message.sequence, message]));
    const rows = [...all.values()].sort((a, b) => b.sequence - a.sequence);
    return { rows: rows.slice(0, state.limit), more: rows.length > state.limit || [found, ...more].some((each) => each.more) };
  }
  return { rows: found.messages, more: found.more };
}

const nameOf = (message) => message.from_name || shortId(message.from);

/** What went well takes a tick, so that what did not stands out. */
function statusMark(status) {
  const mark = chip(status);
  if (mark.classList.contains('ok')) {
    mark.classList.add('small');
    mark.title = status;
    mark.replaceChildren(el('span', { 'aria-hidden': 'true', text: '✓' }), el('span', { class: 'sr', text: status }));
  }
  return mark;
}

function messageRow(message) {
  const to = message.to.length > 1 ? `${message.to[0]} +${message.to.length - 1}` : (message.to[0] ?? message.subject ?? '');
  const inbound = message.direction === 'inbound';
  const subject = message.kind === 'email' && message.subject;
  const text = message.text.replace(/\s+/g, ' ').slice(0, 200);
  return [
    el('span', { class: `icon ${message.kind}` }, icon(message.kind, KIND_NAMES[message.kind] ?? message.kind)),
    el('span', { class: 'line' },
      el('span', { class: 'grow' }, el('span', { class: 'who', text: nameOf(message) }), el('span', { class: 'arrow', text: '→' }), to),
      when(message.at)),
    el('span', { class: 'line' },
      el('span', { class: 'grow snippet' }, subject ? el('b', { text: subject }) : '', subject && text ? ' – ' : '', text || (subject ? '' : '(no text)')),
      message.attachments > 0 && el('span', { class: 'chip', title: plural(message.attachments, 'attachment') }, icon('file', 'attachments'), String(message.attachments)),
      message.tag && el('span', { class: 'chip', title: 'tag', text: message.tag }),
      inbound && chip('inbound'),
      message.status && !(inbound || (message.kind === 'chat' && /^sent$/i.test(message.status))) && statusMark(message.status)),
  ];
}

const openMessage = async (id) => {
  const message = await read(`messages/${encodeURIComponent(id)}`);
  if (message.kind === 'chat') return openThread(message.thread, message.id);
  return message.kind === 'email' ? emailDetail(message) : smsDetail(message);
};

function smsDetail(message) {
  const { detail } = message;
  const title = message.direction === 'inbound' ? `SMS from ${message.from}` : `SMS to ${message.to.join(', ')}`;
  const update = (root, now) => {
    const { detail: { delivery } } = now;
    root.replaceChildren(
      el('p', { class: `sms-text ${now.direction}`, text: now.text }),
      el('div', { class: 'card' }, facts([
        ['From', now.from, true], ['To', now.to, true], ['At', when(now.at)],
        ['Status', [chip(now.status), delivery?.details ? ` ${delivery.details}` : '']],
        ['Delivery', delivery && [chip(delivery.status), ' ', when(delivery.at)]],
        ['Report asked', now.direction === 'inbound' ? null : (detail.delivery_report ? 'yes' : 'no')],
        ['Tag', now.tag],
        ['Size', `${plural(detail.segments, 'segment')}, ${detail.encoding}, ${plural([...now.text].length, 'character')}`],
        ['Message id', now.id, true], ['Request id', detail.repeatability_request_id, true],
      ])),
      now.direction === 'inbound' ? '' : el('button', { type: 'button', class: 'plain', onclick: () => receiveDialog(now.to[0], now.from) }, icon('in'), 'Answer as the recipient'));
  };
  return { key: `message ${message.id}`, title, data: message, update };
}

async function loadThreads() {
  const { threads } = await read(`threads?${query({ limit: state.limit })}`);
  return { rows: sift(threads), more: threads.length >= state.limit };
}

function threadRow(thread) {
  const names = thread.participants.map((person) => person.display_name || shortId(person.id));
  return [
    el('span', { class: 'icon chat' }, icon('chat')),
    el('span', { class: 'line' }, el('span', { class: 'grow who', text: thread.topic || '(no topic)' }), when(thread.created_at)),
    el('span', { class: 'line' },
      el('span', { class: 'grow snippet', text: names.join(', ') || 'nobody' }),
      el('span', { class: 'chip', text: plural(thread.messages, 'message') }),
      thread.deleted_at && chip('deleted')),
  ];
}

async function openThread(id, foundId) {
  const [{ threads }, { messages, more }] = await Promise.all([
    read('threads?limit=1000'), read(`messages?${query({ kind: 'chat', thread: id, limit: 300 })}`),
  ]);
  const thread = threads.find((each) => each.id === id) ?? { id, topic: messages[0]?.subject, participants: [], created_by: null };
  return {
    key: `thread ${id}`, title: thread.topic || '(no topic)', data: { thread, messages, more, foundId }, update: showThread,
    settle: () => document.querySelector('.talk li.found')?.scrollIntoView({ block: 'center' }),
  };
}

function showThread(root, { thread, messages, more, foundId }) {
  const people = new Map(messages.map((message) => [message.from, message.from_name]));
  for (const one of thread.participants) if (one.display_name) people.set(one.id, one.display_name);
  const nameOfPerson = (id) => people.get(id) || shortId(id ?? 'unknown');
  const talk = el('ol', { class: 'talk', 'aria-label': 'Conversation' });
  let last = null;
  for (const message of [...messages].reverse()) {
    const found = message.id === foundId ? ' found' : '';
    const happened = message.status && !/^(sent|text|html)$/i.test(message.status) ? ` · ${message.status.toLowerCase()}` : '';
    if (!message.from) {
      talk.append(el('li', { class: `system${found}` }, message.text, ' ', when(message.at)));
      last = null;
      continue;
    }
    const own = message.from === thread.created_by ? 'own' : '';
    talk.append(el('li', { class: own + found },
      message.from === last ? '' : el('p', { class: 'author', title: message.from, text: message.from_name || nameOfPerson(message.from) }),
      el('p', { class: `bubble${message.status === 'Deleted' ? ' gone' : ''}`, text: message.text || '(no text)' }),
      el('p', { class: 'meta' }, when(message.at), happened)));
    last = message.from;
  }
  root.replaceChildren(
    el('div', { class: 'card' }, facts([
      ['People', thread.participants.map((one) => el('span', { class: 'chip', title: one.id, text: nameOfPerson(one.id) })).flatMap((each) => [each, ' '])],
      ['Created', thread.created_at && [when(thread.created_at), thread.created_by ? ` by ${nameOfPerson(thread.created_by)}` : '']],
      ['Deleted', thread.deleted_at && [chip('deleted'), ' ', when(thread.deleted_at)]],
      ['Thread', thread.id, true],
    ])),
    more ? el('p', { class: 'note', text: 'The latest 300 messages are shown.' }) : '',
    messages.length ? talk : el('p', { class: 'note', text: 'Nobody has said anything yet.' }));
}
