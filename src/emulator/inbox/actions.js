// The inbox page, part 5: small actions and their dialogs.

/** Does something, says so, and shows what came of it. */
async function act(done, work) {
  try {
    await work();
    if (done) toast(done);
    refresh();
    return true;
  } catch (error) {
    toast(error.message);
    return false;
  }
}

function field(name, label, properties = {}, options = null) {
  const tag = options ? 'select' : (properties.rows ? 'textarea' : 'input');
  const input = el(tag, { id: `field-${name}`, name, autocomplete: 'off', ...properties }, ...(options ?? []).map(([value, text]) => el('option', { value, text })));
  return el('div', { class: 'field' }, el('label', { for: `field-${name}`, text: label }), input);
}

/** A dialog with a form. `work` gets the form's values; what it throws is shown, and the dialog stays. */
function ask(title, { text, content = [], submit, danger, work }) {
  const dialog = byId('dialog');
  const problem = el('p', { class: 'problem', role: 'alert' });
  const form = el('form', {}, ...content, problem, el('div', { class: 'buttons' },
    el('button', { type: 'button', class: 'plain', onclick: () => dialog.close() }, submit ? 'Cancel' : 'Close'),
    submit && el('button', { type: 'submit', class: `primary ${danger ? 'danger' : ''}` }, submit)));
  form.addEventListener('submit', async (event) => {
    event.preventDefault();
    problem.textContent = '';
    try {
      await work(Object.fromEntries(new FormData(form)));
      if (dialog.contains(form)) dialog.close();
      refresh();
    } catch (error) { problem.textContent = error.message; }
  });
  dialog.replaceChildren(el('h2', { id: 'dialog-title', text: title }), text ? el('p', { text }) : '', form);
  if (!dialog.open) dialog.showModal();
  (form.querySelector('input, select, textarea') ?? form.querySelector('button'))?.focus();
}

const post = (path, body) => request(path, { method: 'POST', body });

function receiveDialog(from = '+14255550123', to = '+18005550100') {
  ask('Receive an SMS', {
    text: 'As if somebody had sent it to one of your numbers. Webhooks get an SMSReceived event.',
    content: [el('div', { class: 'pair' }, field('from', 'From', { value: from, required: true, inputmode: 'tel' }), field('to', 'To', { value: to, required: true, inputmode: 'tel' })), field('message', 'Text', { rows: 3, required: true })],
    submit: 'Receive',
    work: async ({ from: sender, to: recipient, message }) => { await post('sms/inbound', { from: sender, to: recipient, message }); toast('Received.'); },
  });
}

function clockDialog() {
  const presets = [['10 min', '10m'], ['1 hour', '1h'], ['12 hours', '12h'], ['1 day', '1d'], ['7 days', '7d']];
  const move = async (advance) => { await post('clock', { advance }); toast('The clock was moved.'); };
  ask('Move the clock', {
    text: `It is ${new Date(state.now).toISOString().replace('T', ' ').slice(0, 19)} UTC for the emulator${state.ahead ? `, ${spanText(state.ahead)} ahead` : ''}. Time only moves forward; what falls due happens at once, and tokens expire.`,
    content: [
      el('div', { class: 'presets' }, presets.map(([label, span]) => el('button', { type: 'button', class: 'plain', onclick: () => act('', () => move(span)).then((ok) => ok && byId('dialog').close()) }, label))),
      field('advance', 'Or by', { placeholder: '90m, 12h, 2d', required: true }),
    ],
    submit: 'Move',
    work: ({ advance }) => move(advance.trim()),
  });
}

async function faultDialog() {
  let names = [];
  try { names = Object.keys(await read('calls')); } catch { /* The list of operations is a comfort. */ }
  const options = ['any', ...names.filter((name) => name !== 'any')].map((name) => [name, name === 'any' ? 'any operation' : name.replaceAll('_', ' ')]);
  ask('Add a fault', {
    text: 'It strikes requests that would otherwise have been carried out.',
    content: [
      el('div', { class: 'pair' },
        field('operation', 'Operation', {}, options),
        field('effect', 'What happens', {}, [['answer', 'answer a status'], ['drop', 'close the connection'], ['hang', 'never answer'], ['proceed', 'only the delay'], ['slow_body', 'answer slowly']]),
        field('status', 'Status to answer', { type: 'number', min: 400, max: 599, value: 503 }),
        field('retry_after_seconds', 'Retry-After, seconds', { type: 'number', min: 0 }),
        field('commit', 'When', {}, [['before', 'before it has its effect'], ['after', 'after it had its effect']]),
        field('delay_ms', 'Delay or duration, ms', { type: 'number', min: 0 }),
        field('count', 'How often (empty: always)', { type: 'number', min: 1, value: 1 }),
        field('probability', 'Probability, 0 to 1', { type: 'number', min: 0, max: 1, step: 'any' })),
    ],
    submit: 'Add',
    work: async (form) => {
      const number = (name) => (form[name] === '' ? undefined : Number(form[name]));
      const fault = { operation: form.operation, effect: form.effect, commit: form.effect === 'slow_body' ? 'after' : form.commit };
      if (form.effect === 'answer') Object.assign(fault, { status: number('status'), retry_after_seconds: number('retry_after_seconds') });
      if (form.effect === 'slow_body') fault.over_ms = number('delay_ms') ?? 3000;
      else fault.delay_ms = number('delay_ms');
      Object.assign(fault, { count: number('count'), probability: number('probability') });
      await post('faults', fault);
      toast('The fault waits.');
    },
  });
}

/** The faults that wait, above the list of calls. */
async function showFaults() {
  const place = byId('above-list');
  if (state.view !== 'calls') return place.replaceChildren();
  let faults;
  try { ({ faults = [] } = await read('faults')); } catch { return place.replaceChildren(); }
  if (state.view !== 'calls' || faults.length === 0) return place.replaceChildren();
  const words = ({ effect, status, retry_after_seconds: retryAfter, over_ms: over, commit, delay_ms: delay, count, probability }) => [
    effect === 'answer' ? `answers ${status}` : { drop: 'closes the connection', hang: 'never answers', proceed: 'only waits', slow_body: `answers over ${spanText(over ?? 0)}` }[effect] ?? effect,
    retryAfter !== null && retryAfter !== undefined && `Retry-After ${retryAfter}`, commit === 'after' && effect !== 'slow_body' && 'after its effect', delay > 0 && `after ${spanText(delay)}`,
    probability !== null && probability !== undefined && `${Math.round(probability * 1000) / 10} % of requests`, typeof count === 'number' && (count === 1 ? 'once' : `${count} times`),
  ].filter(Boolean).join(', ');
  const clear = (operation, label) => el('button', { type: 'button', class: 'plain', onclick: () => act('Cleared.', () => request(`faults?${query({ operation })}`, { method: 'DELETE' })) }, label);
  const items = faults.slice(0, 20).map((fault) => el('li', {}, el('span', { class: 'grow', title: words(fault) }, el('b', { text: fault.operation }), ` ${words(fault)}`), clear(fault.operation, 'Clear')));
  return place.replaceChildren(el('section', { class: 'faults', 'aria-label': 'Waiting faults' },
    el('div', { class: 'line' }, el('h3', { class: 'grow', text: plural(faults.length, 'fault waits', 'faults wait') }), clear('any', 'Clear all')), el('ul', {}, items)));
}

function resetDialog() {
  ask('Forget everything?', {
    text: 'All messages, threads, identities, tokens, faults, calls and events go. Keys, addresses and the clock stay.',
    submit: 'Reset', danger: true,
    work: async () => { await post('reset', {}); toast('Everything is forgotten.'); go(state.view, null); },
  });
}

function askForToken(problem) {
  const dialog = byId('dialog');
  if (dialog.open && dialog.dataset.asks === 'token') return;
  dialog.dataset.asks = 'token';
  dialog.addEventListener('close', () => { delete dialog.dataset.asks; }, { once: true });
  ask('A token, please', {
    text: 'From other machines the emulator answers only with its control token. It stays in this tab.',
    content: [problem ? el('p', { class: 'problem', text: problem }) : '', field('token', 'Control token', { type: 'password', required: true })],
    submit: 'Use it',
    work: async ({ token }) => { sessionStorage.setItem(TOKEN, token.trim()); await read('status'); reconnect(); },
  });
}

function helpDialog() {
  const keys = [['/', 'search'], ['j k', 'next, previous (also arrows)'], ['Enter', 'open'], ['Esc', 'back, close, clear the search'], ...Object.values(VIEWS).map((view) => [`g ${view.key}`, view.name]), ['?', 'this help']];
  ask('Keyboard', {
    content: [
      el('dl', { class: 'keys' }, keys.flatMap(([key, text]) => [el('dt', {}, key.split(' ').flatMap((each) => [el('kbd', { text: each }), ' '])), el('dd', { text })])),
      el('p', { text: 'Search looks into subjects and texts; from:, to:, tag:, status: and direction: narrow it, as in from:+18005550100 tag:welcome. A whole number or address is found as sender and recipient too.' }),
    ],
  });
}
