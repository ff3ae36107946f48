import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { PasswordHasher, generateKey } from '../../src/platform/crypto/index.js';
import { Users } from '../../src/security/accounts/users.js';
import { AlertSignals } from '../../src/security/alerts/alert-signals.js';
import { SecurityAlerts } from '../../src/security/alerts/security-alerts.js';
import { EventCatalogue } from '../../src/platform/events/index.js';
import { actor } from '../support/actors.js';
import { eventually, startTestApp, type TestApp } from '../support/app.js';
import { payloadOf, Receiver } from '../webhooks/receiver.js';

const ALERTS = '/api/v1/security/alerts';
const LOOPBACK = '127.0.0.1';

interface Alert {
  id: string;
  severity: string;
  type: string;
  message: string;
  timestamp: string;
  subject: string;
  details: Record<string, unknown>;
  occurrences: number;
  acknowledged_at: string | null;
  acknowledged_by: string | null;
}

type AlertPage = { alerts: Alert[]; pagination: { next_cursor: string | null } };

let app: TestApp;
let receiver: Receiver;
let admin: string;
let adminId: string;
let count = 0;

beforeAll(async () => {
  app = await startTestApp({ NEXUS_EGRESS_ALLOW: '127.0.0.1' });
  receiver = await Receiver.start();
  const made = await actor(app);
  [admin, adminId] = [made.key, `user_${made.userId}`];
});
afterAll(async () => {
  await receiver.stop();
  await app.stop();
});

async function list(query = '', key = admin): Promise<Alert[]> {
  const { status, body } = await app.call<{ alerts: Alert[] }>('GET', `${ALERTS}?${query}`, { key });
  expect(status).toBe(200);
  return body.alerts;
}

function alertOf(subject: string, most = 20_000): Promise<Alert> {
  return eventually(async () => (await list('limit=100')).find((alert) => alert.subject === subject), most);
}

async function eventsOf(subject: string): Promise<{ data: Record<string, unknown> }[]> {
  return app.db.query(`SELECT data FROM events WHERE type = 'security.alert' AND data->>'subject' = $1`, [subject]);
}

async function newUser(): Promise<{ id: string; username: string }> {
  const passwordHash = await app.get(PasswordHasher).hash('three quiet otters paddle');
  return app.db.transaction((tx) =>
    app.get(Users).create(tx, { username: `grace${++count}`, passwordHash, roles: ['viewer'] }),
  );
}

async function guess(username: string): Promise<number> {
  const { status } = await app.call('POST', '/api/v1/auth/login', { body: { username, password: 'wrong horse' } });
  return status;
}

const me = async (key: string): Promise<number> => (await app.call('GET', '/api/v1/auth/me', { key })).status;

describe('failed logins', () => {
  it('to one account raise one alert, that of their address another, and an event each', async () => {
    const user = await newUser();
    for (let n = 0; n < 4; n++) expect(await guess(user.username)).toBe(401);
    await app.get(AlertSignals).flush();
    expect((await list()).find(({ subject }) => subject === `user_${user.id}`)).toBeUndefined();
    expect(await guess(user.username)).toBe(401);
    const alert = await alertOf(`user_${user.id}`);
    expect(alert).toMatchObject({
      type: 'login_failures',
      severity: 'high',
      occurrences: 5,
      acknowledged_at: null,
      details: { ip_address: LOOPBACK, user_id: `user_${user.id}`, threshold: 5, window_seconds: 300 },
    });
    expect(await alertOf(LOOPBACK)).toMatchObject({ type: 'login_failures', severity: 'medium' });

    // Locked by now; that goes on as the same alert.
    for (let n = 0; n < 3; n++) expect(await guess(user.username)).toBe(423);
    await eventually(async () => (await alertOf(`user_${user.id}`)).occurrences === 8);
    const events = await eventsOf(`user_${user.id}`);
    expect(events).toHaveLength(1);
    expect(events[0].data).toMatchObject({ alert_id: alert.id, timestamp: alert.timestamp, occurrences: 5 });
  });

  it('to names that do not exist keep no name anywhere', async () => {
    for (let n = 0; n < 6; n++) await guess('my secret typed into the wrong field');
    await app.get(AlertSignals).flush();
    const kept = await app.db.query<{ text: string }>(
      `SELECT a::text AS text FROM security_alerts a UNION ALL SELECT s::text FROM security_signals s
       UNION ALL SELECT data::text FROM events`,
    );
    expect(kept.filter(({ text }) => text.includes('my secret'))).toEqual([]);
  });
});

describe('keys', () => {
  it('that are revoked and used again raise an alert that names the key, never shows it', async () => {
    const stolen = await actor(app, { role: 'viewer' });
    expect(await me(stolen.key)).toBe(200);
    await app.call('DELETE', `/api/v1/auth/api-keys/key_${stolen.keyId}`, { key: admin });
    for (let n = 0; n < 3; n++) expect(await me(stolen.key)).toBe(401);
    const alert = await alertOf(`key_${stolen.keyId}`);
    expect(alert).toMatchObject({ type: 'key_misuse', severity: 'high', details: { ip_address: LOOPBACK } });
    expect(stolen.key.startsWith(String(alert.details.key_preview).replace('...', ''))).toBe(true);
    const secret = stolen.key.slice(String(alert.details.key_preview).length - 3);
    expect(JSON.stringify([alert, await eventsOf(alert.subject)])).not.toContain(secret);
  });

  it('that have expired raise one too', async () => {
    const old = await actor(app, { role: 'viewer' });
    await app.db.query(`UPDATE credentials SET expires_at = now() - interval '1 day' WHERE id = $1`, [old.keyId]);
    for (let n = 0; n < 3; n++) expect(await me(old.key)).toBe(401);
    expect(await alertOf(`key_${old.keyId}`)).toMatchObject({ type: 'key_misuse' });
  });

  it('of the right form that do not exist raise one for their address, and typing errors none', async () => {
    for (let n = 0; n < 5; n++) expect(await me(`nexus_api_${'0'.repeat(8)}_${'a'.repeat(43)}_wrong${n}`)).toBe(401);
    await app.get(AlertSignals).flush();
    expect(await list('type=unknown_keys')).toEqual([]);
    for (let n = 0; n < 3; n++) expect(await me(generateKey('api').key)).toBe(401);
    const [alert] = await eventually(async () => {
      const found = await list('type=unknown_keys');
      return found.length > 0 && found;
    });
    expect(alert).toMatchObject({ subject: LOOPBACK, severity: 'high' });
  });
});

describe('rights', () => {
  it('that reach far raise an alert when a role or a key gets them, in the same transaction', async () => {
    const role = await app.call<{ name: string }>('POST', '/api/v1/security/roles', {
      key: admin,
      body: { name: 'deputy', scopes: ['task:read'] },
    });
    expect(role.status).toBe(201);
    await app.call('PUT', '/api/v1/security/roles/deputy', {
      key: admin,
      body: { scopes: ['task:read', 'security:admin'] },
    });
    const key = await app.call<{ data: { key_id: string; api_key: string } }>('POST', '/api/v1/auth/api-keys', {
      key: admin,
      body: { name: 'of the deputy', permissions: ['admin:*'] },
    });
    expect(key.status).toBe(201);
    const found = await list('type=privilege_change');
    expect(found.map(({ details }) => details)).toEqual([
      { scopes: ['admin:*'], by: adminId, ip_address: LOOPBACK },
      { scopes: ['security:admin'], by: adminId, ip_address: LOOPBACK },
    ]);
    expect(found[1].message).toBe('The role deputy was changed to far-reaching scopes');
    const [{ resource_id }] = await app.db.query<{ resource_id: string }>(
      `SELECT resource_id FROM audit_entries WHERE action = 'PUT /api/v1/security/roles/deputy'`,
    );
    expect(resource_id).toBe(found[1].subject);
  });
});

describe('the list', () => {
  const raise = (subject: string): Promise<void> =>
    app.db.transaction((tx) =>
      app.get(SecurityAlerts).raise(tx, {
        ...{ type: 'key_misuse', severity: 'low', message: 'test', details: {}, subject },
        ...{ occurrences: 1, fresh: 1 },
      }),
    );

  it('is filtered, paged and for those who may read it', async () => {
    for (let n = 0; n < 5; n++) await raise(`list-${n}`);
    const all = await list('severity=low&limit=100');
    expect(all.length).toBeGreaterThanOrEqual(5);
    expect(all.every(({ severity }) => severity === 'low')).toBe(true);
    expect((await list(`severity=low&from=${all[0].timestamp}`)).map(({ id }) => id)).toContain(all[0].id);
    expect(await list(`severity=low&to=${all[all.length - 1].timestamp}`)).toEqual([]);
    const paged: string[] = [];
    let cursor: string | null = '';
    while (cursor !== null) {
      const target: string = `${ALERTS}?severity=low&limit=2${cursor ? `&cursor=${cursor}` : ''}`;
      const { body } = await app.call<AlertPage>('GET', target, { key: admin });
      paged.push(...body.alerts.map(({ id }) => id));
      cursor = body.pagination.next_cursor;
    }
    expect(paged).toEqual(all.map(({ id }) => id));
    const viewer = await actor(app, { role: 'viewer' });
    expect((await app.call('GET', ALERTS, { key: viewer.key })).status).toBe(403);
    expect((await app.call('GET', `${ALERTS}?type=nothing`, { key: admin })).status).toBe(400);
    expect((await app.call('GET', `${ALERTS}/alert_nonsense`, { key: admin })).status).toBe(404);
  });

  it('says who looks after an alert; the first one stays', async () => {
    await raise('acknowledged');
    const { id } = await alertOf('acknowledged');
    const other = await actor(app);
    for (const key of [admin, other.key]) {
      const { status, body } = await app.call<Alert>('POST', `${ALERTS}/${id}/acknowledge`, { key });
      expect(status).toBe(200);
      expect(body.acknowledged_by).toBe(adminId);
    }
    expect((await list('acknowledged=true')).map((alert) => alert.id)).toEqual([id]);
    const again = await app.call<Alert>('GET', `${ALERTS}/${id}`, { key: admin });
    expect(again.body.acknowledged_at).not.toBeNull();
  });

  it('is told to webhooks and to the channel system.alerts', async () => {
    const { status } = await app.call('POST', '/api/v1/webhooks', {
      key: admin,
      body: { url: receiver.url('/alerts'), events: ['security.alert'] },
    });
    expect(status).toBe(201);
    await raise('told');
    const received = await eventually(() =>
      receiver.at('/alerts').find((one) => one.body.toString().includes('"told"')),
    );
    expect(payloadOf(received)).toMatchObject({ type: 'security.alert', data: { subject: 'told', severity: 'low' } });
    expect(app.get(EventCatalogue).accessTo('security.alert')).toMatchObject({
      channel: 'system.alerts',
      scope: 'security:read',
    });
  });
});

describe('many subjects', () => {
  it('share one alert past a hundred, and a burst begins anew after an hour', async () => {
    const alerts = app.get(SecurityAlerts);
    const raise = (subject: string): Promise<void> =>
      app.db.transaction((tx) =>
        alerts.raise(tx, {
          ...{ type: 'rate_abuse', severity: 'medium', message: 'test', details: {}, subject },
          ...{ occurrences: 1, fresh: 1 },
        }),
      );
    for (let n = 0; n < 110; n++) await raise(`198.51.100.${n}`);
    await raise('198.51.100.0');
    const found = await app.db.query<{ subject: string; occurrences: number }>(
      `SELECT subject, occurrences FROM security_alerts WHERE type = 'rate_abuse' ORDER BY occurrences DESC`,
    );
    expect(found).toHaveLength(101);
    expect(found.slice(0, 3)).toEqual([
      { subject: 'many', occurrences: 10 },
      { subject: '198.51.100.0', occurrences: 2 },
      expect.objectContaining({ occurrences: 1 }),
    ]);
    await app.db.query(
      `UPDATE security_alerts SET created_at = created_at - interval '61 minutes' WHERE type = 'rate_abuse'`,
    );
    await raise('198.51.100.0');
    expect(await eventsOf('198.51.100.0')).toHaveLength(2);
  });
});

describe('two processes', () => {
  it('count together and raise one alert', async () => {
    const second = await startTestApp({ DATABASE_URL: app.db.url });
    try {
      const stolen = await actor(app, { role: 'viewer' });
      await app.call('DELETE', `/api/v1/auth/api-keys/key_${stolen.keyId}`, { key: admin });
      const use = (on: TestApp): Promise<unknown> => on.call('GET', '/api/v1/auth/me', { key: stolen.key });
      await Promise.all([use(app), use(second)]);
      await Promise.all([app.get(AlertSignals).flush(), second.get(AlertSignals).flush()]);
      expect((await list('limit=100')).find(({ subject }) => subject === `key_${stolen.keyId}`)).toBeUndefined();
      await Promise.all([use(app), use(second), use(second), use(app)]);
      await alertOf(`key_${stolen.keyId}`);
      await Promise.all([app.get(AlertSignals).flush(), second.get(AlertSignals).flush()]);
      expect(await eventsOf(`key_${stolen.keyId}`)).toHaveLength(1);
      expect((await alertOf(`key_${stolen.keyId}`)).occurrences).toBe(6);
    } finally {
      await second.stop();
    }
  });
});

describe('rate abuse', () => {
  it('of one caller raises an alert once it is refused a hundred times within a minute', async () => {
    const limited = await startTestApp({ NEXUS_RATE_LIMITS: 'on', NEXUS_RATE_LIMIT_DEFAULT: '5/3600' });
    try {
      const { key, userId } = await actor(limited, { role: 'viewer' });
      let refused = 0;
      for (let n = 0; n < 106; n++) {
        if ((await limited.call('GET', '/api/v1/auth/me', { key })).status === 429) refused++;
      }
      expect(refused).toBe(101);
      const alert = await eventually(async () => {
        const found = await limited.db.query<Alert>(`SELECT * FROM security_alerts WHERE subject = $1`, [
          `user_${userId}`,
        ]);
        return found[0];
      });
      expect(alert).toMatchObject({ type: 'rate_abuse', severity: 'medium' });
    } finally {
      await limited.stop();
    }
  });
});
