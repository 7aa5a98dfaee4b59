// The inbox page, part 3: an e-mail. Its HTML is hostile until proven otherwise, and never proven. It is shown in a frame
// that is sandboxed without any permission, under a policy of its own that allows no fetch at all, and under the page's
// policy too, which a srcdoc frame inherits and which forbids the frame to go anywhere. These walls hold against all that
// a mail does by itself and against clicks. One thing they do not stop in Chromium: a link that is clicked with the middle
// button or Ctrl opens a tab, whatever the sandbox says. So links are taken out as well, and the result is looked at again
// as the frame will read it.

const MAIL_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; form-action 'none'; base-uri 'none'";
const html = globalThis.trustedTypes?.createPolicy('mail', { createHTML: (text) => text }) ?? { createHTML: (text) => text };

const MAIL_HEAD = `<!doctype html><meta http-equiv="Content-Security-Policy" content="${MAIL_POLICY}">`
  + '<meta name="referrer" content="no-referrer"><meta http-equiv="x-dns-prefetch-control" content="off">'
  + '<meta name="color-scheme" content="light">';
const UNWANTED = 'script,iframe,frame,frameset,object,embed,portal,applet,base,link,meta,template,noscript,fencedframe,animate,animateMotion,animateTransform,set';
const ACTIVE = ['href', 'action', 'formaction', 'ping', 'target', 'autofocus', 'srcdoc', 'http-equiv'];

/** Takes links and what else could only fail out of a mail, in place; says whether there was anything, and the links. */
function takeOut(mail) {
  let found = false;
  const links = [];
  for (const element of mail.querySelectorAll(UNWANTED)) { element.remove(); found = true; }
  for (const element of mail.querySelectorAll('*')) {
    const target = element.localName === 'a' || element.localName === 'area' ? element.getAttribute('href') : null;
    if (target !== null) {
      links.push({ text: element.textContent.trim().replace(/\s+/g, ' ') || '(no text)', target });
      element.setAttribute('title', target);
      element.setAttribute('style', `cursor:help;text-decoration:underline;color:#0b5cad;${element.getAttribute('style') ?? ''}`);
    }
    for (const attribute of [...element.attributes]) {
      if (ACTIVE.includes(attribute.localName.toLowerCase()) || /^on/i.test(attribute.localName)) { element.removeAttributeNode(attribute); found = true; }
    }
  }
  return { found, links };
}

/** The document for the frame, once nothing is left to take out of it; without one, the parser could not be pinned down. */
function quieten(text) {
  const parse = (source) => new DOMParser().parseFromString(html.createHTML(source), 'text/html');
  let mail = parse(text);
  const { links } = takeOut(mail);
  const remote = mail.querySelectorAll('img[src]:not([src^="data:" i]),[srcset],[background],[poster]').length;
  for (let round = 0; round < 4; round += 1) {
    // Written out and read in again a document may be another one; the frame gets only what reads as harmless.
    const body = mail.documentElement.outerHTML;
    mail = parse(body);
    if (!takeOut(mail).found) return { document: MAIL_HEAD + body, links, remote };
  }
  return { document: null, links, remote };
}

function mailFrame(text) {
  const frame = el('iframe', { sandbox: '', referrerpolicy: 'no-referrer', title: 'The mail as its reader sees it' });
  frame.srcdoc = html.createHTML(text);
  return frame;
}

const person = ({ address, display_name: name }) => (name && name !== address ? `${name} <${address}>` : address);

function emailDetail(message) {
  const path = `emails/${encodeURIComponent(message.id)}`;
  const { detail } = message;
  const parts = { summary: el('div'), panel: el('div', { role: 'tabpanel', id: 'panel', tabindex: '0' }), tabs: el('div', { role: 'tablist', 'aria-label': 'Parts of the mail' }) };
  let now = message;
  let chosen = '';
  const views = {
    HTML: detail.html !== null && (async () => {
      const { document: text, links, remote } = quieten(await (await request(`${path}/preview`)).text());
      if (text === null) return el('p', { class: 'note', text: 'This mail reads differently each time it is read, so it is not shown. See Source.' });
      return [mailFrame(text), el('p', { class: 'note' }, icon('lock'),
        `Scripts and network are off.${remote ? ` ${plural(remote, 'remote picture')} not loaded.` : ''}${links.length ? ` ${plural(links.length, 'link')}: see Links.` : ''}`)];
    }),
    Text: () => (detail.plain_text === null ? el('p', { class: 'note', text: 'This mail has no plain text.' }) : el('pre', { text: detail.plain_text })),
    Links: detail.html !== null && (() => {
      const { links } = quieten(detail.html);
      return links.length === 0 ? el('p', { class: 'note', text: 'This mail has no links.' })
        : el('ul', { class: 'links' }, links.slice(0, 500).map(({ text, target }) => el('li', {}, el('span', { class: 'grow' }, el('b', { text }), el('br'), el('span', { class: 'mono', text: target })), copyButton(target))));
    }),
    Source: async () => el('pre', { class: 'mono', text: await (await request(`${path}/source`)).text() }),
    Headers: () => {
      const headers = Object.entries(detail.headers ?? {});
      return headers.length === 0 ? el('p', { class: 'note', text: 'No headers of its own.' }) : facts(headers.map(([name, value]) => [name, String(value), true]));
    },
    Recipients: () => recipients(now),
    Files: () => attachments(detail.attachments, path),
  };
  const choose = async (name, focus) => {
    chosen = name;
    for (const tab of parts.tabs.children) {
      const is = tab.dataset.tab === name;
      tab.setAttribute('aria-selected', String(is));
      tab.tabIndex = is ? 0 : -1;
      if (is && focus) tab.focus();
    }
    parts.panel.className = name === 'HTML' ? 'framed' : '';
    parts.panel.setAttribute('aria-labelledby', `tab-${name}`);
    let content;
    try { content = await views[name](); } catch (error) { content = el('p', { class: 'problem', text: error.message }); }
    if (chosen === name) parts.panel.replaceChildren(...[content].flat());
  };
  const names = Object.keys(views).filter((name) => views[name]);
  for (const name of names) {
    const count = { Files: detail.attachments.length, Recipients: message.to.length }[name];
    parts.tabs.append(el('button', {
      type: 'button', role: 'tab', id: `tab-${name}`, 'data-tab': name, 'aria-controls': 'panel', onclick: () => choose(name),
    }, name, count === undefined ? '' : ` (${count})`));
  }
  parts.tabs.addEventListener('keydown', (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    event.stopPropagation();
    choose(names[(names.indexOf(chosen) + step + names.length) % names.length], true);
  });
  const update = (root, data) => {
    now = data;
    const many = (list) => (list.length ? list.map(person) : null);
    const { detail: { sender, to, cc, bcc, reply_to: replyTo } } = data;
    parts.summary.replaceChildren(facts([
      ['From', sender === data.from && data.from_name ? `${data.from_name} <${sender}>` : sender], ['To', many(to)], ['Cc', many(cc)], ['Bcc', many(bcc)], ['Reply to', many(replyTo)],
      ['At', when(data.at)], ['Status', [chip(data.status), data.detail.tracking_disabled ? ' engagement tracking off' : '']],
      ['Operation', data.id, true],
    ]));
    if (!root.contains(parts.summary)) {
      root.replaceChildren(parts.summary, parts.tabs, parts.panel);
      choose(names[0]);
    } else if (chosen === 'Recipients') choose(chosen);
  };
  return { key: `message ${message.id}`, title: message.subject || '(no subject)', data: message, update, framed: true };
}

function recipients(message) {
  const { detail: { to, cc, bcc, deliveries } } = message;
  const rows = [['To', to], ['Cc', cc], ['Bcc', bcc]].flatMap(([kind, list]) => list.map((one) => ({ kind, one })));
  return el('div', { class: 'scroll' }, el('table', {},
    el('thead', {}, el('tr', {}, ['As', 'Recipient', 'Delivery', 'Report that it was'].map((text) => el('th', { scope: 'col', text })))),
    el('tbody', {}, rows.map(({ kind, one }) => {
      const delivery = deliveries.find((each) => each.recipient.toLowerCase() === one.address.toLowerCase());
      const engage = (type) => el('button', {
        type: 'button', class: 'plain', title: 'Report it, as the recipient’s mail program would', onclick: () => act('Reported.', () => request(`emails/${encodeURIComponent(message.id)}/engagement`, { method: 'POST', body: { recipient: one.address, type } })),
      }, type === 'view' ? 'Opened' : 'Clicked');
      return el('tr', {}, el('td', { class: 'tight', text: kind }), el('td', { text: person(one) }),
        el('td', {}, delivery ? chip(delivery.status) : chip('pending'), delivery?.details ? ` ${delivery.details}` : ''),
        el('td', { class: 'tight' }, engage('view'), ' ', engage('click')));
    }))));
}

function attachments(list, path) {
  if (list.length === 0) return el('p', { class: 'note', text: 'Nothing is attached.' });
  return el('ul', { class: 'files' }, list.map((file, index) => el('li', {}, icon('file'),
    el('span', { class: 'grow' }, el('b', { text: file.name }), el('br'), el('span', { class: 'time', text: `${file.content_type} · ${sizeText(file.size)}${file.content_id ? ' · inline' : ''}` })),
    el('button', { type: 'button', class: 'plain', 'aria-label': `Download ${file.name}`, onclick: () => act('', () => download(`${path}/attachments/${index}`)) }, 'Download'))));
}

/** Fetched with the token and handed to the browser as a file; the emulator has cleaned its name. */
async function download(path) {
  const response = await request(path);
  const [, encoded] = /filename\*=UTF-8''([^;]*)/.exec(response.headers.get('content-disposition') ?? '') ?? [];
  const bytes = new Blob([await response.arrayBuffer()], { type: 'application/octet-stream' });
  const link = el('a', { href: URL.createObjectURL(bytes), download: decodeURIComponent(encoded ?? 'attachment') });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}
