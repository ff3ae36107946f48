/* global fetch */
/**
 * Fills a running server with demo data through its REST API: `NEXUS_URL` (default http://127.0.0.1:8000) and `NEXUS_API_KEY`.
 *
 * Whatever exists already by its name is left as it is, and the ids of telemetry events are derived from what they measure, so that a
 * second run adds nothing. The day of telemetry ends when the first rule was made, also for later runs.
 */
import console from 'node:console';
import { createHash } from 'node:crypto';
import process from 'node:process';
import { setTimeout } from 'node:timers/promises';

const URL = (process.env['NEXUS_URL'] || 'http://127.0.0.1:8000').replace(/\/+$/, '');
const KEY = process.env['NEXUS_API_KEY'];
const MINUTE = 60_000;
const STEP = 5 * MINUTE;
const STEPS = 288;
const BATCH_SIZE = 1000;
const MAX_TRIES = 5;
const SILENT_SECONDS = 1800;

const AGENTS = [
  { agent_name: 'demo-web-1', labels: { env: 'demo', role: 'web', region: 'eu' } },
  { agent_name: 'demo-web-2', labels: { env: 'demo', role: 'web', region: 'us' } },
  { agent_name: 'demo-db-1', labels: { env: 'demo', role: 'database', region: 'eu' } },
];

const RULES = [
  {
    name: 'Demo: CPU too high',
    description: 'A threshold that must hold for ten minutes; cleared below 70',
    severity: 'warning',
    sources: ['demo-web-*'],
    metric_name: 'cpu_usage',
    operator: 'gt',
    threshold: 90,
    for_seconds: 600,
    clear: { threshold: 70 },
  },
  {
    name: 'Demo: disk almost full',
    description: 'A threshold; its alert is silenced',
    severity: 'high',
    sources: ['demo-*'],
    metric_name: 'disk_usage',
    operator: 'gte',
    threshold: 90,
  },
  {
    name: 'Demo: too many errors',
    description: 'An expression that is true three times in a row, for each service',
    severity: 'critical',
    metric_name: 'http_error_rate',
    condition: 'value > 5.0 && tags.environment == "demo"',
    times: 3,
    group_by: ['tag.service'],
    actions: [{ type: 'event' }],
  },
  {
    name: 'Demo: backup failed',
    description: 'An expression over events that are not metrics',
    severity: 'medium',
    event_type: 'backup.finished',
    sources: ['demo-*'],
    condition: 'data.status == "failed"',
  },
  {
    name: 'Demo: worker is silent',
    description: 'No data for half an hour',
    severity: 'critical',
    sources: ['demo-worker'],
    metric_name: 'queue_length',
    absent_for_seconds: SILENT_SECONDS,
  },
];

const EVENTS = [1, 2, 3].flatMap((order) =>
  ['orders.created', 'orders.paid', 'orders.shipped'].slice(0, 4 - order).map((type) => ({
    type,
    source: 'demo-shop',
    correlation_id: `demo-order-${order}`,
    priority: type === 'orders.paid' ? 'high' : 'normal',
    data: { order_id: `demo-${order}`, total: order * 12.5, currency: 'EUR' },
  })),
);

const COMMANDS = [
  { command_type: 'system.info' },
  { command_type: 'system.processes', parameters: { limit: 5, sort_by: 'memory' } },
  { command_type: 'system.ping', parameters: { message: 'Hello from the demo data' }, priority: 'high' },
];

if (KEY) {
  try {
    await seed();
  } catch (error) {
    const { message, cause } = /** @type {Error} */ (error);
    console.error(cause ? `No answer from ${URL}: ${message} (${String(cause)})` : message);
    process.exitCode = 1;
  }
} else {
  console.error('Set NEXUS_API_KEY to the API key that the first start of the server printed.');
  process.exitCode = 2;
}

async function seed() {
  const rules = await ensure('/telemetry/rules', 'rules', RULES, 'name');
  report('alert rules', rules);
  const silence = {
    comment: 'Demo: the disks of the database are being replaced',
    matchers: { sources: ['demo-db-*'] },
    ends_at: new Date(Date.now() + 7 * 24 * 60 * MINUTE).toISOString(),
  };
  report('silence', await ensure('/telemetry/silences', 'silences', [silence], 'comment'));
  const subscription = { name: 'Demo: orders', event_patterns: ['orders.*'], delivery_method: 'stream' };
  report('event subscription', await ensure('/events/subscriptions', 'subscriptions', [subscription], 'name'));
  const webhook = {
    url: 'https://hooks.example.com/demo',
    events: ['telemetry.alert', 'command.failed'],
    description: 'Demo: sends nothing, because it is paused',
    active: false,
  };
  report('paused webhook', await ensure('/webhooks', 'webhooks', [webhook], 'url'));
  const agents = AGENTS.map((agent) => ({ agent_type: 'host', version: '1.0.0', capabilities: ['metrics'], ...agent }));
  report('agents', await ensure('/ai/agents', 'agents', agents, 'agent_name'));
  report('telemetry events', await sendTelemetry(Date.parse(rules.all[0].created_at)));
  const emitted = await all('/events?source=demo-shop', 'events');
  const known = new Set(emitted.map(({ type, correlation_id }) => `${type} ${correlation_id}`));
  const missing = EVENTS.filter(({ type, correlation_id }) => !known.has(`${type} ${correlation_id}`));
  for (const event of missing) await call('POST', '/events', event);
  report('custom events', { made: missing.length, found: EVENTS.length - missing.length });
  await sendCommands();
  await makeViewerKey();
  console.log(`
Look at
  ${URL}/api/v1/telemetry/alerts?status=active
  ${URL}/api/v1/telemetry/metrics/query?metric_name=cpu_usage&source=demo-web-2&agg=max&interval=10m
  ${URL}/api/v1/events?source=demo-shop
  ${URL}/docs`);
}

/** A day of figures and events of three hosts, two services and a worker, in the order of time. */
async function sendTelemetry(/** @type {number} */ until) {
  const end = Math.floor(until / STEP) * STEP;
  const events = Array.from({ length: STEPS }, (_, step) => eventsAt(step, end - (STEPS - 1 - step) * STEP)).flat();
  // An absence rule counts what was heard shortly before it was made: its alert follows within seconds.
  events.push(queueLength(until - (SILENT_SECONDS - 10) * 1000, 12));
  events.sort((a, b) => Date.parse(a.timestamp) - Date.parse(b.timestamp));
  let found = 0;
  for (let at = 0; at < events.length; at += BATCH_SIZE) {
    const batch = events.slice(at, at + BATCH_SIZE);
    const { rejected_count, duplicate_count, errors } = await call('POST', '/telemetry/batch', { events: batch });
    if (rejected_count > 0) throw new Error(`Telemetry was refused: ${JSON.stringify(errors[0])}`);
    found += duplicate_count;
  }
  return { made: events.length - found, found };
}

function eventsAt(/** @type {number} */ step, /** @type {number} */ time) {
  const left = STEPS - step;
  const day = Math.sin((step / STEPS) * 2 * Math.PI - Math.PI / 2);
  const noise = (/** @type {number} */ seed) => Math.abs(Math.sin(step * 12.9898 + seed * 78.233) * 43758.5453) % 1;
  const timestamp = new Date(time).toISOString();
  const metric = (source, metric_name, value, unit, tags = {}) =>
    telemetry(source, 'system.metric', timestamp, metric_name + JSON.stringify(tags), {
      metric_name,
      value: Math.round(value * 100) / 100,
      unit,
      tags: { environment: 'demo', ...tags },
    });
  const events = [];
  for (const [index, host] of ['demo-web-1', 'demo-web-2', 'demo-db-1'].entries()) {
    // One host is overloaded for an hour, the disk of the database fills up.
    const overloaded = host === 'demo-web-2' && left > 60 && left <= 72;
    events.push(
      metric(host, 'cpu_usage', overloaded ? 93 + 5 * noise(index) : 40 + 15 * day + 10 * noise(index), 'percent'),
      metric(host, 'memory_usage', 55 + ((step + index * 30) % 96) / 4, 'percent'),
      metric(host, 'disk_usage', host === 'demo-db-1' ? 60 + (step / STEPS) * 34 : 35 + index * 8, 'percent'),
    );
  }
  for (const [index, service] of ['shop', 'checkout'].entries()) {
    // Since forty minutes one service fails for many of its callers.
    const failing = service === 'checkout' && left <= 8;
    const source = `demo-${service}`;
    events.push(
      metric(source, 'http_requests', 600 + 400 * day + 80 * noise(index + 7), 'count', { service }),
      metric(source, 'response_time', failing ? 900 + 300 * noise(9) : 80 + 60 * noise(index + 3) ** 4, 'ms', {
        service,
      }),
      metric(source, 'http_error_rate', failing ? 8 + 6 * noise(5) : 0.4 * noise(index + 5), 'percent', { service }),
    );
  }
  // The worker has been silent for half an hour.
  if (left > 7) events.push(queueLength(time, 20 + 20 * (1 + day) + 10 * noise(11)));
  if (step % 72 === 30) {
    const status = step === 246 ? 'failed' : 'ok';
    events.push(telemetry('demo-db-1', 'backup.finished', timestamp, '', { status, seconds: 40 + step }));
  }
  if (left === 9) {
    events.push(telemetry('demo-checkout', 'service.deployed', timestamp, '', { version: '2.4.0', by: 'demo' }));
  }
  return events;
}

function queueLength(time, value) {
  const data = { metric_name: 'queue_length', value: Math.round(value), unit: 'count', tags: { environment: 'demo' } };
  return telemetry('demo-worker', 'system.metric', new Date(time).toISOString(), 'queue_length', data);
}

/** An event whose id follows from what it is about: sent again, it is recognised. */
function telemetry(source, event_type, timestamp, detail, data) {
  const hex = createHash('sha256').update([source, event_type, timestamp, detail].join('\n')).digest('hex');
  const event_id = `${hex.slice(0, 8)}-${hex.slice(8, 12)}-8${hex.slice(13, 16)}-8${hex.slice(17, 20)}-${hex.slice(20, 32)}`;
  return { event_id, event_type, source, timestamp, data };
}

/** Commands need an agent that runs them: the one of the server's own machine, where there is one. */
async function sendCommands() {
  const local = (await all('/ai/agents', 'agents')).find(({ agent_name }) => agent_name === 'local');
  if (!local?.connected) return console.log('commands: none, the agent `local` is not connected');
  for (const command of COMMANDS) {
    await call('POST', '/commands', { ...command, target: 'local', idempotency_key: `demo-${command.command_type}` });
  }
  console.log(`commands: ${COMMANDS.length} on the agent \`local\`, each once`);
}

async function makeViewerKey() {
  const { scopes } = await call('GET', '/security/roles/viewer');
  const key = { name: 'Demo viewer', description: 'Reads what the role viewer may read', permissions: scopes };
  const { made, answers } = await ensure('/auth/api-keys', 'api_keys', [key], 'name');
  console.log(
    made ? `API key of a viewer, shown once: ${answers[0].api_key.key}` : 'API key of a viewer: there is one',
  );
}

/** Makes what is not in the list yet, by the field that names it; `all` is what there is then, in the order of `wanted`. */
async function ensure(path, field, wanted, name) {
  const there = await all(path, field);
  const answers = [];
  const result = [];
  for (const one of wanted) {
    const found = there.find((other) => other[name] === one[name]);
    if (!found) answers.push(await call('POST', path, one));
    result.push(found ?? answers.at(-1));
  }
  return { made: answers.length, found: wanted.length - answers.length, answers, all: result };
}

async function all(path, field) {
  const rows = [];
  for (let page = 1; ; page++) {
    const answer = await call('GET', `${path}${path.includes('?') ? '&' : '?'}per_page=100&page=${page}`);
    rows.push(...answer[field]);
    if (!answer.pagination.has_more) return rows;
  }
}

/** One request; waits and tries again when the server asks for it. */
async function call(method, path, body, tries = 1) {
  const response = await fetch(`${URL}/api/v1${path}`, {
    method,
    headers: { authorization: `Bearer ${KEY}`, ...(body ? { 'content-type': 'application/json' } : {}) },
    ...(body ? { body: JSON.stringify(body) } : {}),
  });
  if ((response.status === 429 || response.status === 503) && tries < MAX_TRIES) {
    await setTimeout(Number(response.headers.get('retry-after') ?? 1) * 1000);
    return call(method, path, body, tries + 1);
  }
  const answer = await response.json();
  if (!response.ok) {
    throw new Error(`${method} ${path} was answered ${response.status}: ${JSON.stringify(answer.error)}`);
  }
  return 'success' in answer && 'data' in answer ? answer.data : answer;
}

function report(what, { made, found }) {
  console.log(`${what}: ${made} made, ${found} there already`);
}
