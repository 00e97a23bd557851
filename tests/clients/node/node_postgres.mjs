// node-postgres (`pg`) with its default settings; the address and the password come from the environment. It prepares
// what is given a name, and nothing else.

import assert from 'node:assert/strict';
import { pipeline } from 'node:stream/promises';
import { Readable } from 'node:stream';
import pg from 'pg';
import { from as copyFrom, to as copyTo } from 'pg-copy-streams';
import Cursor from 'pg-cursor';
import * as shared from './cases.mjs';

const cases = {
  async connect() {
    await withClient(async (client) => {
      const { rows } = await client.query('SELECT current_user AS u, current_database() AS d');
      assert.deepEqual(rows, [{ u: 'weir', d: 'weir' }]);
    });
  },

  async types() {
    await withClient(async (client) => {
      const values = [42, "hé'\\", 1.5, true, null, Buffer.from([0, 1, 255]), [1, 2, 3], { a: [1] }];
      const casts = ['int', 'text', 'float8', 'bool', 'text', 'bytea', 'int[]', 'jsonb'];
      const columns = casts.map((cast, place) => `$${place + 1}::${cast} AS c${place}`);
      const { rows } = await client.query(`SELECT ${columns.join(', ')}`, values);
      assert.deepEqual(Object.values(rows[0]), values);
    });
  },

  async 'several statements in one query'() {
    await withClient(async (client) => {
      const results = await client.query("SELECT 1 AS a; SELECT 'two' AS b");
      assert.deepEqual(results.map((result) => result.rows), [[{ a: 1 }], [{ b: 'two' }]]);
    });
  },

  async errors() {
    await withClient(async (client) => {
      await assert.rejects(client.query('SELECT 1/$1::int', [0]), { code: '22012' });
      await assert.rejects(client.query('SELECT * FROM nowhere'), { code: '42P01', position: '15' });
      assert.equal((await client.query('SELECT 1 AS a')).rows[0].a, 1);
    });
  },

  pipeline: 'it sends a query when the one before it is answered',

  async transactions() {
    await withClient(async (client) => {
      await client.query('DROP TABLE IF EXISTS node_savepoints; CREATE TABLE node_savepoints (a int)');
      await client.query('BEGIN');
      await client.query('INSERT INTO node_savepoints VALUES ($1)', [1]);
      await client.query('SAVEPOINT s');
      await assert.rejects(client.query('SELECT 1/0'), { code: '22012' });
      await assert.rejects(client.query('SELECT 1'), { code: '25P02' });
      await client.query('ROLLBACK TO s');
      await client.query('INSERT INTO node_savepoints VALUES ($1)', [2]);
      await client.query('COMMIT');
      await client.query('BEGIN');
      await client.query('INSERT INTO node_savepoints VALUES ($1)', [3]);
      await client.query('ROLLBACK');
      const { rows } = await client.query('SELECT a FROM node_savepoints ORDER BY a');
      assert.deepEqual(rows.map((row) => row.a), [1, 2]);
    });
  },

  async copy() {
    await withClient(async (client) => {
      await client.query('DROP TABLE IF EXISTS node_copy; CREATE TABLE node_copy (a int, b text)');
      const lines = Array.from({ length: 5000 }, (_, number) => `${number}\trow ${number}\n`);
      await pipeline(Readable.from(lines), client.query(copyFrom('COPY node_copy FROM STDIN')));
      const chunks = [];
      const out = client.query(copyTo('COPY (SELECT * FROM node_copy ORDER BY a) TO STDOUT'));
      for await (const chunk of out) chunks.push(chunk);
      assert.equal(Buffer.concat(chunks).toString(), lines.join(''));
      const bad = pipeline(Readable.from(['1\tx\nx\ty\n']), client.query(copyFrom('COPY node_copy FROM STDIN')));
      await assert.rejects(bad, { code: '22P02' });
      assert.equal((await client.query('SELECT count(*)::int AS n FROM node_copy')).rows[0].n, 5000);
    });
  },

  async large() {
    await withClient(async (client) => {
      const text = 'weir'.repeat(1_000_000);
      const blob = Buffer.alloc(2 << 20, 7);
      const { rows } = await client.query('SELECT $1::text AS t, $2::bytea AS b', [text, blob]);
      assert.ok(rows[0].t === text && rows[0].b.equals(blob));
    });
  },

  async notices() {
    await withClient(async (client) => {
      const seen = [];
      client.on('notice', (notice) => seen.push(notice.message));
      await client.query("DO $$ BEGIN RAISE NOTICE 'one'; RAISE WARNING 'two'; END $$");
      assert.deepEqual(seen, ['one', 'two']);
    });
  },

  async cancel() {
    await withClient(async (client) => {
      // Handled from the start: the answer may be here before the cancel's connection is closed.
      const refused = assert.rejects(client.query('SELECT pg_sleep(600)'), { code: '57014' });
      await shared.untilActive('SELECT pg_sleep(600)');
      await cancel(client);
      await refused;
      assert.equal((await client.query('SELECT 1 AS a')).rows[0].a, 1);
    });
  },

  async cursor() {
    await withClient(async (client) => {
      await client.query('BEGIN');
      const cursor = client.query(new Cursor('SELECT n FROM generate_series(1, $1::int) n', [1000]));
      let sum = 0;
      for (let rows = await cursor.read(100); rows.length; rows = await cursor.read(100)) {
        for (const row of rows) sum += row.n;
      }
      await cursor.close();
      await client.query('COMMIT');
      assert.equal(sum, 500500);
    });
  },

  prepared: () => shared.prepared(tagging),

  rivals: () => shared.rivals(tagging),

  async "the driver's own pool"() {
    const pool = new pg.Pool();
    const answers = await Promise.all(
      Array.from({ length: 200 }, (_, number) => pool.query('SELECT $1::int AS n', [number])),
    );
    assert.deepEqual(answers.map((answer) => answer.rows[0].n), Array.from({ length: 200 }, (_, n) => n));
    await pool.end();
  },
};

async function withClient(use, settings = {}) {
  const client = new pg.Client(settings);
  await client.connect();
  try {
    await use(client);
  } finally {
    await client.end();
  }
}

// A client for the shared cases. All of them use the same two names.
async function tagging() {
  const client = new pg.Client();
  await client.connect();
  return {
    begin: () => client.query('BEGIN'),
    commit: () => client.query('COMMIT'),
    end: () => client.end(),
    async row(text, number) {
      const values = number === undefined ? [] : [number];
      const name = text.includes('client') ? 'tagged' : `with ${values.length}`;
      return (await client.query({ name, text, values, rowMode: 'array' })).rows[0];
    },
  };
}

// What `pg` has no public call for: a CancelRequest on a connection of its own, closed by the pooler.
async function cancel(client) {
  const other = new pg.Connection({});
  await new Promise((resolve, reject) => {
    other.once('connect', () => other.cancel(client.processID, client.secretKey));
    other.once('end', resolve);
    other.once('error', reject);
    other.connect(Number(process.env.PGPORT), process.env.PGHOST);
  });
}

await shared.main('node-postgres', 'pg', cases);
