// The inbox page, part 1: state, elements, requests to the control paths, times. All text goes through textContent;
// nothing here, or in the parts that follow, ever makes elements from a string. The parts share one scope.
'use strict';

const TOKEN = 'acs-broker-emulator-token';
const PAGE = 100;
const MOST = 1000;

const state = {
  view: 'all', id: null, query: '', limit: PAGE, rows: [], status: null, now: 0, ahead: 0,
  loads: 0, shown: null, toldOf: new Set(),
};

const byId = (id) => document.getElementById(id);

/** An element with properties, and children that are elements or text. */
function el(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (name === 'class') element.className = value;
    else if (name === 'text') element.textContent = value;
    else if (name === 'onclick') element.addEventListener('click', value);
    else element.setAttribute(name, value === true ? '' : String(value));
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

function icon(name, label) {
  const svg = document.createElementNS('http://www.w3.org/2000/svg', 'svg');
  const use = document.createElementNS('http://www.w3.org/2000/svg', 'use');
  use.setAttribute('href', `#i-${name}`);
  if (label) { svg.setAttribute('role', 'img'); svg.setAttribute('aria-label', label); } else svg.setAttribute('aria-hidden', 'true');
  svg.append(use);
  return svg;
}

/** The emulator said no. */
class Refused extends Error {
  constructor(status, message) { super(message); this.status = status; }
}

async function request(path, { method = 'GET', body, signal } = {}) {
  const headers = {};
  const token = sessionStorage.getItem(TOKEN);
  if (token) headers.authorization = `Bearer ${token}`;
  if (body !== undefined) headers['content-type'] = 'application/json';
  const response = await fetch(`/_emulator/${path}`, {
    method, headers, signal, body: body === undefined ? undefined : JSON.stringify(body),
    cache: 'no-store', credentials: 'omit', redirect: 'error',
  });
  if (response.ok) return response;
  let message = `The emulator answered ${response.status}.`;
  try { message = (await response.json()).error.message ?? message; } catch { /* An answer without the usual body. */ }
  if (response.status === 401) askForToken(token ? 'That token was not accepted.' : '');
  throw new Refused(response.status, message);
}

const read = async (path) => (await request(path)).json();

/** A query string of the values that are there. */
function query(values) {
  const given = Object.entries(values).filter(([, value]) => value !== undefined && value !== null && value !== '');
  return given.map(([name, value]) => `${name}=${encodeURIComponent(value)}`).join('&');
}

/** "14:03:22", with the day before it unless it is the emulator's today. */
function clockText(at) {
  const time = new Date(at);
  if (Number.isNaN(time.getTime())) return String(at ?? '');
  const two = (number) => String(number).padStart(2, '0');
  const clock = `${two(time.getHours())}:${two(time.getMinutes())}:${two(time.getSeconds())}`;
  const today = new Date(state.now || Date.now());
  if (time.toDateString() === today.toDateString()) return clock;
  return `${time.toLocaleDateString('en-GB', { day: 'numeric', month: 'short' })} ${clock}`;
}

const when = (at) => el('time', { class: 'time', title: String(at), text: clockText(at) });

/** "1 d 2 h 5 min" of milliseconds. */
function spanText(ms) {
  const units = [['d', 86400000], ['h', 3600000], ['min', 60000], ['s', 1000]];
  const parts = [];
  let rest = ms;
  for (const [name, size] of units) {
    const count = Math.floor(rest / size);
    rest -= count * size;
    if (count > 0) parts.push(`${count} ${name}`);
  }
  return parts.slice(0, 2).join(' ') || `${ms} ms`;
}

function sizeText(bytes) {
  if (bytes < 1024) return `${bytes} B`;
  return bytes < 1048576 ? `${(bytes / 1024).toFixed(1)} KiB` : `${(bytes / 1048576).toFixed(1)} MiB`;
}

const plural = (count, one, many = `${one}s`) => `${Number(count).toLocaleString('en')} ${Number(count) === 1 ? one : many}`;

/** A small label, coloured by what a status means. */
function chip(text, tone) {
  const word = String(text).toLowerCase();
  const guess = /deliver(ed|y ok)|succeeded|active|sent|alive|valid/.test(word) && !/undeliv/.test(word) ? 'ok'
    : /fail|bounce|reject|undeliv|suppress|quarantin|spam|revoked|deleted|cancel|expired/.test(word) ? 'bad'
      : /queue|running|pending|notstarted|progress/.test(word) ? 'warn' : '';
  return el('span', { class: `chip ${tone ?? guess}`, text: String(text) });
}

/** Raw ids are long: their beginning and end tell them apart. */
const shortId = (id) => (id.length > 34 && /^\d+:/.test(id) ? `${id.slice(0, 12)}…${id.slice(-10)}` : id);

function facts(rows) {
  const list = el('dl', { class: 'facts' });
  for (const [name, value, mono] of rows) {
    if (value === undefined || value === null || value === false || value === '' || (Array.isArray(value) && value.length === 0)) continue;
    const shown = Array.isArray(value) && typeof value[0] === 'string' ? value.join(', ') : value;
    list.append(el('dt', { text: name }), el('dd', { class: mono ? 'mono' : undefined }, ...[shown].flat().map((part) => (part instanceof Node ? part : String(part)))));
  }
  return list;
}

let toastTimer = 0;
function toast(text) {
  byId('toast').textContent = text;
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => { byId('toast').textContent = ''; }, 4000);
}

async function copy(text) {
  try { await navigator.clipboard.writeText(text); toast('Copied.'); } catch { toast('The browser did not allow copying.'); }
}

const copyButton = (text, label = 'Copy') => el('button', { type: 'button', class: 'plain', onclick: () => copy(text) }, label);
