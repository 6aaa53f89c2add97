// Real parts: services, Strandlines, and a browser that notes whatever a page should not do.

import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { createWriteStream, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { createRequire } from "node:module";
import { isDeepStrictEqual } from "node:util";
import { gzipSync } from "node:zlib";
import { chromium } from "playwright-core";

export const DAY = 86_400_000;
export const HOUR = 3_600_000;

const env = (name) => process.env[name] ?? assert.fail(`${name} is not set: run scripts/test-page.sh`);
const STATE = env("PAGE_STATE");
const BROKERS = env("PAGE_BROKERS");
const PROGRAM = env("STRANDLINE_TEST_BIN");
const LOAD = env("STRANDLINE_TEST_LOAD_EVENTS");
const ROOT = env("PAGE_ROOT");

/** Waits until something holds. */
export async function until(what, check, seconds = 60) {
  const end = Date.now() + seconds * 1000;
  for (;;) {
    const found = await check();
    if (found) return found;
    if (Date.now() > end) assert.fail(`after ${seconds} s still not: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

/** Waits until what `look` finds, in one moment, is as expected; fails with how it differs. */
export async function untilEqual(look, expected, seconds = 60) {
  const end = Date.now() + seconds * 1000;
  for (;;) {
    const seen = await look();
    if (isDeepStrictEqual(seen, expected)) return;
    if (Date.now() > end) assert.deepEqual(seen, expected, `after ${seconds} s`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

// --- PostgreSQL, Kafka ------------------------------------------------------------

const databaseUrl = (name) => env("PAGE_POSTGRES").replace(/\/postgres$/, `/${name}`);

export function sql(database, text) {
  const url = databaseUrl(database);
  return execFileSync(env("PAGE_PSQL"), [url, "-qAt", "-v", "ON_ERROR_STOP=1", "-c", text], {
    encoding: "utf8",
  }).trim();
}

const tool = (name, ...args) =>
  execFileSync(
    `${ROOT}/scripts/kafka.sh`,
    ["tool", `org.apache.kafka.tools.${name}`, "--bootstrap-server", BROKERS, ...args],
    { stdio: "pipe" },
  );

export const loadFlights = (topic = "flights") => loadFile(topic, 4, `${ROOT}/data/flights-2013-01.ndjson.gz`);

/** Fills a topic with events, `[timestamp, key, value]` each, that are kept so many milliseconds. */
export function load(topic, partitions, events, retention = null) {
  if (retention) {
    tool(
      "TopicCommand",
      "--create",
      "--topic",
      topic,
      "--partitions",
      String(partitions),
      "--replication-factor",
      "1",
      "--config",
      `retention.ms=${retention}`,
    );
  }
  const lines = events.map(([timestamp, key, value]) => JSON.stringify({ timestamp, key, value }));
  const file = `${STATE}/data/${topic}.ndjson.gz`;
  writeFileSync(file, gzipSync(`${lines.join("\n")}\n`));
  loadFile(topic, partitions, file);
}

/** Loading again changes nothing, and helps where a new topic has no leaders yet. */
function loadFile(topic, partitions, file) {
  for (let attempt = 1; ; attempt += 1) {
    try {
      execFileSync(LOAD, ["--brokers", BROKERS, "--topic", topic, "--partitions", String(partitions), "--file", file], {
        stdio: "pipe",
      });
      return;
    } catch (error) {
      if (attempt === 5) throw error;
    }
  }
}

/** Removes what lies below an offset in a partition, as retention would. */
export function deleteRecords(topic, offsets) {
  const file = `${STATE}/data/delete.json`;
  const partitions = offsets.map((offset, partition) => ({ topic, partition, offset }));
  writeFileSync(file, JSON.stringify({ version: 1, partitions }));
  tool("DeleteRecordsCommand", "--offset-json-file", file);
}

// --- Strandline -------------------------------------------------------------------

async function freePort() {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address();
  server.close();
  await once(server, "close");
  return port;
}

const running = new Set();

/** A Strandline of its own process. */
export class Strandline {
  /** `settings` are environment variables without their `STRANDLINE_`. */
  static async start(database, settings = {}) {
    if (sql("postgres", `SELECT count(*) FROM pg_database WHERE datname = '${database}'`) === "0") {
      sql("postgres", `CREATE DATABASE ${database}`);
    }
    const strandline = new Strandline();
    strandline.database = database;
    strandline.port = await freePort();
    strandline.url = `http://127.0.0.1:${strandline.port}`;
    strandline.settings = settings;
    await strandline.begin();
    return strandline;
  }

  async begin() {
    const variables = {
      DATABASE_URL: databaseUrl(this.database),
      KAFKA_BROKERS: BROKERS,
      LISTEN: `127.0.0.1:${this.port}`,
      DATA_DIR: `${STATE}/data/${this.database}`,
      WORKERS: "2",
      SEAL_INTERVAL_SECONDS: "1",
      LEASE_SECONDS: "120",
      ...this.settings,
    };
    const named = Object.fromEntries(Object.entries(variables).map(([name, value]) => [`STRANDLINE_${name}`, value]));
    this.process = spawn(PROGRAM, ["serve"], { env: { ...process.env, ...named }, stdio: ["ignore", "pipe", "pipe"] });
    running.add(this);
    const log = createWriteStream(`${STATE}/${this.database}-${this.port}.log`, { flags: "a" });
    this.process.stdout.pipe(log, { end: false });
    this.process.stderr.pipe(log, { end: false });
    await until(`${this.database} is ready`, async () => {
      assert.equal(this.process.exitCode, null, `Strandline ended, see ${this.database}-${this.port}.log`);
      return (await fetch(`${this.url}/readyz`).catch(() => null))?.ok;
    });
  }

  async stop() {
    running.delete(this);
    if (this.process.exitCode !== null || this.process.signalCode !== null) return;
    const ended = once(this.process, "exit");
    this.process.kill("SIGCONT");
    this.process.kill("SIGKILL");
    await ended;
  }

  /** Whether it has stopped itself, at a place that STRANDLINE_FAULT names. */
  frozen() {
    return readFileSync(`/proc/${this.process.pid}/stat`, "utf8").split(") ")[1][0] === "T";
  }

  thaw() {
    this.process.kill("SIGCONT");
  }

  async call(method, path, { body, token } = {}) {
    const headers = {
      ...(body && { "content-type": "application/json" }),
      ...(token && { authorization: `Bearer ${token}` }),
    };
    const response = await fetch(this.url + path, { method, headers, body: body && JSON.stringify(body) });
    const text = await response.text();
    assert.ok(response.ok, `${method} ${path}: ${response.status} ${text}`);
    return JSON.parse(text);
  }

  /** Asks for a snapshot and waits until it has ended; with a `wait` of 0 it does not. */
  async take(topic, start, end, { wait = 60, token, ...options } = {}) {
    const body = {
      topic,
      window_start: new Date(start).toISOString(),
      window_end: new Date(end).toISOString(),
      ...options,
    };
    let one = await this.call("POST", `/v1/snapshots?wait=${wait}`, { body, token });
    for (let more = 0; wait > 0 && ["queued", "running"].includes(one.state); more += 1) {
      assert.ok(more < 5, `${one.id} is still ${one.state}`);
      one = await this.call("GET", `/v1/snapshots/${one.id}?wait=${wait}`, { token });
    }
    return one;
  }

  /** Makes a token with the command line. */
  token(name, ...options) {
    const args = ["token", "create", "--name", name, ...options, "--database-url", databaseUrl(this.database)];
    return execFileSync(PROGRAM, args, { encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] }).trim();
  }

  revoke(name) {
    execFileSync(PROGRAM, ["token", "revoke", name, "--database-url", databaseUrl(this.database)], { stdio: "pipe" });
  }
}

export async function stopAll() {
  await browserOnce?.close();
  for (const strandline of [...running]) await strandline.stop();
}

// --- the browser ------------------------------------------------------------------

const ARGUMENTS = [
  "--headless",
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];
let browserOnce = null;

const browser = async () =>
  (browserOnce ??= await chromium.launch({ executablePath: env("PAGE_CHROMIUM"), args: ARGUMENTS, timeout: 120_000 }));

/**
 * Runs `work` with a new page of a new browser profile, and fails where the page has written an
 * error to the console, broken its policy, or asked another origin for something. `expect` are
 * patterns of console errors that belong to the test, such as those of refused requests.
 */
export async function withPage(strandline, work, { expect = [], ...options } = {}) {
  const context = await (
    await browser()
  ).newContext({
    viewport: { width: 1280, height: 860 },
    timezoneId: "Europe/Berlin",
    locale: "en-GB",
    reducedMotion: "reduce",
    ...options,
  });
  context.setDefaultTimeout(60_000);
  const page = await context.newPage();
  const wrong = [];
  page.requests = [];
  page.on("console", (message) => {
    const text = `${message.text()} ${message.location().url}`;
    if (["error", "warning"].includes(message.type()) && !expect.some((one) => one.test(text))) wrong.push(text);
  });
  page.on("pageerror", (error) => wrong.push(`exception: ${error.stack}`));
  page.on("request", (request) => {
    page.requests.push(request);
    if (request.url() !== "about:blank" && new URL(request.url()).origin !== strandline.url)
      wrong.push(`request to ${request.url()}`);
  });
  page.show = (hash) => page.goto(`${strandline.url}/#${hash}`);
  try {
    await work(page);
    assert.deepEqual(wrong, []);
  } catch (error) {
    mkdirSync(`${STATE}/failed`, { recursive: true });
    const name = new Date().toISOString().replaceAll(/[^0-9]/g, "");
    await page.screenshot({ path: `${STATE}/failed/${name}.png`, fullPage: true }).catch(() => {});
    error.message += `\n(picture: failed/${name}.png; console: ${wrong.join("; ") || "nothing"})`;
    throw error;
  } finally {
    await context.close();
  }
}

const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

/** What axe finds against WCAG 2.2 AA and its best practices. */
export async function checkAccess(page, where) {
  if (!(await page.evaluate(() => "axe" in window))) await page.evaluate(AXE);
  const found = await page.evaluate(() =>
    window.axe.run(document, { runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"] }),
  );
  const told = found.violations.map(
    (one) =>
      `${one.id}: ${one.nodes
        .slice(0, 3)
        .map((node) => `${node.html} (${node.failureSummary})`)
        .join(" | ")}`,
  );
  assert.deepEqual(told, [], where);
}

/** The number of elements, and whether the page is wider than the screen. */
export const measure = (page) =>
  page.evaluate(() => ({
    nodes: document.querySelectorAll("*").length,
    overflow: document.documentElement.scrollWidth - document.documentElement.clientWidth,
  }));

/** What assistive technology would read of the focused element. */
export const focused = (page) =>
  page.evaluate(() => document.activeElement.getAttribute("aria-label") ?? document.activeElement.textContent.trim());
