// What the judges share: the SDKs under watch, and the emulator's control paths.
//
// The environment says where the emulator is: ACS_CONNECTION_STRING (https) for the SDKs, ACS_EMULATOR_HTTP for its
// control paths. The SDKs are found through NODE_MODULES, so that this folder needs no installation; they are not
// changed, and trust the emulator through NODE_EXTRA_CA_CERTS alone. Every call of a watched client is written down,
// to find the public method that nobody called. Used by the `*.test.js` beside it.

import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { after, describe, it } from "node:test";

export const require = createRequire(join(process.env.NODE_MODULES, "resolve-from-here.js"));

export const connectionString = process.env.ACS_CONNECTION_STRING;
export const [endpoint, accessKey] = connectionString.match(/^endpoint=(.+);accesskey=(.+)$/).slice(1);
export const withAWrongKey = `endpoint=${endpoint};accesskey=${Buffer.from("another key").toString("base64")}`;

/** One request to the emulator's control paths; the answer as JSON, bytes, or nothing. */
export const control = async (method, path, body) => {
  const response = await fetch(`${process.env.ACS_EMULATOR_HTTP.replace(/\/$/, "")}/_emulator/${path}`, {
    method,
    body: body === undefined ? undefined : JSON.stringify(body),
    headers: body === undefined ? {} : { "content-type": "application/json" },
  });
  const content = Buffer.from(await response.arrayBuffer());
  assert.ok(response.ok, `${method} ${path}: ${response.status} ${content}`);
  if (content.length === 0) return undefined;
  const isJson = response.headers.get("content-type")?.startsWith("application/json");
  return isJson ? JSON.parse(content) : content;
};

/** What the emulator was asked to send, newest first. */
export const messages = async (match) => (await control("GET", `messages?${new URLSearchParams(match)}`)).messages;
export const message = (id) => control("GET", `messages/${encodeURIComponent(id)}`);
export const waitFor = async (match, count = 1) =>
  (await control("POST", "messages/wait", { match, count, timeout_ms: 10_000 })).messages;

/** Moves the emulator's clock, such as `61m`; what it then shows. */
export const advance = async (by) => new Date((await control("POST", "clock", { advance: by })).now);
export const calls = async (operation) => (await control("GET", "calls"))[operation];

/** Lets the next request of the operation meet a failure of any kind. */
export const meet = (operation, wanted) => control("POST", "faults", { operation, count: 1, ...wanted });
/** Has the next request of the operation answered with this status. */
export const fault = (operation, status, more = {}) => meet(operation, { effect: "answer", status, ...more });
/** Makes a new access key; the connection string with it. */
export const rotate = async (key) => (await control("POST", "keys/rotate", { key })).connection_string_tls;

/** How a call was refused. */
export const refusal = async (call) => {
  let result;
  try {
    result = await call();
  } catch (error) {
    assert.ok(error.statusCode, error.stack);
    return {
      status: error.statusCode,
      code: error.code,
      message: error.message,
      details: error.details,
      response: error.response,
      body: error.response?.bodyAsText,
      header: (name) => error.response.headers.get(name),
    };
  }
  return assert.fail(`the call was not refused but answered ${JSON.stringify(result)}`);
};

export const refused = async (status, call) => {
  const seen = await refusal(call);
  assert.ok([status].flat().includes(seen.status), `${seen.status} ${seen.body}, not ${status}`);
  return seen;
};

export const assertDenied = async (call, text = "Denied by the resource provider.") => {
  const seen = await refused(401, call);
  assert.equal(seen.code, "Denied");
  assert.ok(seen.message.includes(text), seen.message);
};

/** A credential of Microsoft's Entra library for an app that signs in at the test issuer of docs/emulator.md. */
export const entra = (app = 1) => {
  const { ClientSecretCredential } = require("@azure/identity");
  const id = (number) => `00000000-ac5b-4000-8000-${String(number).padStart(12, "0")}`;
  // The library asks login.microsoftonline.com whether it knows an authority, unless told that it need not.
  const privateCloud = { authorityHost: endpoint.replace(/\/$/, ""), disableInstanceDiscovery: true };
  return new ClientSecretCredential(id(0), id(app), "emulator-client-secret", privateCloud);
};
/** An app that gets a token but has no role. */
export const stranger = 2;

/** The call meets a 429 that names a time, is made again by the SDK after that time, and then works. */
export const waitsOut = async (operation, call, seconds = 1) => {
  const before = await calls(operation);
  await fault(operation, 429, { retry_after_seconds: seconds });
  const start = performance.now();
  const result = await call();
  assert.ok(performance.now() - start >= seconds * 1000 - 5, "it waited");
  assert.equal((await calls(operation)) - before, 2);
  return result;
};

/** A list read to its end. */
export const all = async (iterator) => {
  const items = [];
  for await (const item of iterator) items.push(item);
  return items;
};

/** The methods of a class that its declaration does not call private. */
const publicMethods = (theClass, declarations) => {
  const secret = new Set([...declarations.matchAll(/^\s*private (?:readonly )?(\w+)/gm)].map((match) => match[1]));
  return Object.getOwnPropertyNames(theClass.prototype)
    .filter((name) => name !== "constructor" && !secret.has(name))
    .map((name) => `${theClass.name}.${name}`);
};

const sdks = [];

/** One package, and what was called of it. */
export class Sdk {
  /** `declarations`: its files of types; `uncalled`: methods that nobody calls, and why. */
  constructor(name, { classes = [], declarations = [], functions = {}, uncalled = {} }) {
    this.folder = join(process.env.NODE_MODULES, name);
    const types = declarations.map((file) => readFileSync(join(this.folder, file), "utf8")).join("\n");
    this.public = [...classes.flatMap((each) => publicMethods(each, types)), ...Object.keys(functions)];
    Object.assign(this, { name, classes, uncalled, seen: new Map() });
    // Functions under watch, by their names.
    this.functions = Object.fromEntries(
      Object.entries(functions).map(([called, it]) => [called, (...args) => this.settle(called, () => it(...args))]),
    );
    sdks.push(this);
  }

  note(method, outcome) {
    this.seen.set(method, (this.seen.get(method) ?? new Set()).add(outcome));
  }

  settle(method, call) {
    const failed = (error) => {
      if (error.statusCode) this.note(method, error.statusCode);
      throw error;
    };
    const done = (result) => {
      if (result?.byPage && result[Symbol.asyncIterator]) return this.pages(method, result);
      this.note(method, "works");
      return this.classes.some((each) => result instanceof each) ? this.watch(result) : result;
    };
    let result;
    try {
      result = call();
    } catch (error) {
      return failed(error);
    }
    return typeof result?.then === "function" ? result.then(done, failed) : done(result);
  }

  /** A list counts as seen to work once it was read. */
  pages(method, paged) {
    const read = (iterator) => this.settle(method, () => all(iterator));
    return {
      all: () => read(paged),
      byPage: (settings) => read(paged.byPage(settings)),
    };
  }

  /** The client with its calls noted. */
  watch(client) {
    return new Proxy(client, {
      get: (target, name) => {
        const value = Reflect.get(target, name, target);
        if (typeof value !== "function") return value;
        const method = `${target.constructor.name}.${name}`;
        return (...args) => this.settle(method, () => value.apply(target, args));
      },
    });
  }

  get version() {
    return JSON.parse(readFileSync(join(this.folder, "package.json"), "utf8")).version;
  }

  report() {
    const methods = [...this.seen]
      .filter(([name]) => this.public.includes(name))
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([name, outcomes]) => ({
        name,
        works: outcomes.has("works"),
        refused: [...outcomes].filter((outcome) => outcome !== "works").sort(),
      }));
    return { sdk: `${this.name} (JavaScript)`, version: this.version, methods, notes: this.uncalled };
  }
}

/** The last cases of a program: they look at the SDKs themselves. To be called after all others are declared. */
export const judgeTheSdks = () => {
  const pinned = JSON.parse(readFileSync(new URL("package.json", import.meta.url), "utf8")).dependencies;
  for (const sdk of sdks) {
    describe(sdk.name, () => {
      it("is the pinned version", () => assert.equal(sdk.version, pinned[sdk.name]));

      it("has no public method that nobody saw work", () => {
        const works = (name) => sdk.seen.get(name)?.has("works") ?? false;
        const excused = Object.keys(sdk.uncalled);
        assert.notEqual(sdk.public.length, 0);
        assert.deepEqual(sdk.public.filter((name) => !works(name) && !excused.includes(name)), []);
        assert.deepEqual(excused.filter((name) => !sdk.public.includes(name)), [], "these do not exist");
        assert.deepEqual(excused.filter((name) => sdk.seen.has(name)), [], "called after all");
      });
    });
  }
  after(() => {
    const file = process.env.CONFORMANCE_RESULTS;
    if (file) writeFileSync(file, JSON.stringify(sdks.map((sdk) => sdk.report())));
  });
};
