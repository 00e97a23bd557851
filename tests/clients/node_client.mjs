// node-postgres (`pg`) with its default settings; the address and the password come from the environment.
//
// It prepares only what is given a name. Such a session keeps its server, so the case that does has no more clients
// than there are servers.

import assert from 'node:assert/strict';
import { pipeline } from 'node:stream/promises';
import { Readable } from 'node:stream';
import pg from 'pg';
import { from as copyFrom, to as copyTo } from 'pg-copy-streams';

const POOL_SIZE = Number(process.env.POOL_SIZE ?? 5);
const PATIENCE = 60_000;

const cases = {
  async 'connects as the user it says'() {
    await withClient(async (client) => {
      const { rows } = await client.query('SELECT current_user AS u, current_database() AS d');
      assert.deepEqual(rows, [{ u: 'weir', d: 'weir' }]);
    });
  },

  async 'typed parameters'() {
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

  async 'errors and life after them'() {
    await withClient(async (client) => {
      await assert.rejects(client.query('SELECT 1/$1::int', [0]), { code: '22012' });
      await assert.rejects(client.query('SELECT * FROM nowhere'), { code: '42P01', position: '15' });
      assert.equal((await client.query('SELECT 1 AS a')).rows[0].a, 1);
    });
  },

  async 'queries sent without waiting, one of them wrong'() {
    await withClient(async (client) => {
      const answers = await Promise.allSettled([
        client.query('SELECT $1::int AS a', [1]),
        client.query('SELECT 1/$1::int AS a', [0]),
        client.query('SELECT $1::int AS a', [3]),
      ]);
      assert.deepEqual(answers.map((answer) => answer.value?.rows[0].a ?? answer.reason.code), [1, '22012', 3]);
    });
  },

  async 'transactions, savepoints and rollback'() {
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

  async 'COPY in and out'() {
    await withClient(async (client) => {
      await client.query('DROP TABLE IF EXISTS node_copy; CREATE TABLE node_copy (a int, b text)');
      const lines = Array.from({ length: 5000 }, (_, number) => `${number}\trow ${number}\n`);
      await pipeline(Readable.from(lines), client.query(copyFrom('COPY node_copy FROM STDIN')));
      const chunks = [];
      const out = client.query(copyTo('COPY (SELECT * FROM node_copy ORDER BY a) TO STDOUT'));
      for await (const chunk of out) chunks.push(chunk);
      assert.equal(Buffer.concat(chunks).toString(), lines.join(''));
      assert.equal((await client.query('SELECT count(*)::int AS n FROM node_copy')).rows[0].n, 5000);
    });
  },

  async 'large values'() {
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

  async cancellation() {
    await withClient(async (client) => {
      // Handled from the start: the answer may be here before the cancel's connection is closed.
      const refused = assert.rejects(client.query('SELECT pg_sleep(600)'), { code: '57014' });
      await untilActive('SELECT pg_sleep(600)');
      await cancel(client);
      await refused;
      assert.equal((await client.query('SELECT 1 AS a')).rows[0].a, 1);
    });
  },

  async 'named statements over many transactions'() {
    await together(POOL_SIZE - 1, (number) => withClient(async (client) => {
      for (let turn = 0; turn < 40; turn += 1) {
        await client.query('BEGIN');
        const query = { name: 'sum', text: 'SELECT $1::int * 100 + $2::int AS s', values: [number, turn] };
        assert.equal((await client.query(query)).rows[0].s, number * 100 + turn);
        await client.query('COMMIT');
      }
    }));
  },

  async 'more clients than servers'() {
    await withClient(async (client) => {
      await client.query('DROP TABLE IF EXISTS node_many; CREATE TABLE node_many (client int, turn int)');
    });
    await together(POOL_SIZE * 4, (number) => withClient(async (client) => {
      for (let turn = 0; turn < 20; turn += 1) {
        await client.query('BEGIN');
        await client.query('INSERT INTO node_many VALUES ($1, $2)', [number, turn]);
        const count = 'SELECT count(*)::int AS n FROM node_many WHERE client = $1';
        assert.equal((await client.query(count, [number])).rows[0].n, turn + 1);
        await client.query('COMMIT');
      }
    }));
  },

  async "the driver's own pool"() {
    const pool = new pg.Pool({ max: POOL_SIZE * 2 });
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

function together(count, use) {
  return Promise.all(Array.from({ length: count }, (_, number) => use(number)));
}

// Waits until the server itself says that the query runs.
async function untilActive(sql) {
  const settings = { port: Number(process.env.DIRECT_PORT), user: 'postgres' };
  await withClient(async (looker) => {
    const look = "SELECT count(*)::int AS n FROM pg_stat_activity WHERE query = $1 AND state = 'active'";
    while ((await looker.query(look, [sql])).rows[0].n === 0);
  }, settings);
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

let failed = 0;
for (const [name, run] of Object.entries(cases)) {
  let timer;
  const tooLong = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error('it does not end')), PATIENCE);
  });
  try {
    await Promise.race([run(), tooLong]);
    console.log(`ok ${name}`);
  } catch (error) {
    failed += 1;
    console.error(error);
    console.log(`FAILED ${name}: ${String(error.message).split('\n')[0]}`);
  } finally {
    clearTimeout(timer);
  }
}
console.log(`${Object.keys(cases).length - failed} passed, ${failed} failed`);
process.exit(failed ? 1 : 0);
