// postgres.js (`postgres`) with its default settings: it prepares every query under a name, and sends queries without
// waiting for the answers of those before.

import assert from 'node:assert/strict';
import { pipeline } from 'node:stream/promises';
import { Readable } from 'node:stream';
import postgres from 'postgres';
import * as shared from './cases.mjs';

const cases = {
  async connect() {
    await withClient(async (sql) => {
      assert.deepEqual([...await sql`SELECT current_user AS u, current_database() AS d`], [{ u: 'weir', d: 'weir' }]);
    });
  },

  async types() {
    await withClient(async (sql) => {
      const now = new Date();
      const bytes = Buffer.from([0, 1, 255]);
      const [row] = await sql`SELECT ${42}::int AS a, ${"hé'\\"}::text AS b, ${1.5}::float8 AS c, ${true}::bool AS d,
        ${null}::text AS e, ${bytes}::bytea AS f, ${[1, 2, 3]}::int[] AS g, ${{ a: [1] }}::jsonb AS h,
        ${now}::timestamptz AS i, ${'12345.678901'}::numeric AS j, ${'1099511627776'}::bigint AS k`;
      assert.deepEqual(Object.values(row), [
        42, "hé'\\", 1.5, true, null, bytes, [1, 2, 3], { a: [1] }, now, '12345.678901', '1099511627776',
      ]);
    });
  },

  async errors() {
    await withClient(async (sql) => {
      await assert.rejects(sql`SELECT 1/${0}::int`, { code: '22012' });
      await assert.rejects(sql`SELECT * FROM nowhere`, { code: '42P01', position: '15' });
      assert.equal((await sql`SELECT 1 AS a`)[0].a, 1);
    });
  },

  async transactions() {
    await withClient(async (sql) => {
      await sql`DROP TABLE IF EXISTS postgresjs_savepoints`;
      await sql`CREATE TABLE postgresjs_savepoints (a int)`;
      await sql.begin(async (own) => {
        await own`INSERT INTO postgresjs_savepoints VALUES (${1})`;
        await assert.rejects(own.savepoint(async (inner) => {
          await inner`INSERT INTO postgresjs_savepoints VALUES (${2})`;
          await inner`SELECT 1/${0}::int`;
        }), { code: '22012' });
        await own`INSERT INTO postgresjs_savepoints VALUES (${3})`;
      });
      await assert.rejects(sql.begin(async (own) => {
        await own`INSERT INTO postgresjs_savepoints VALUES (${4})`;
        await assert.rejects(own`SELECT 1/${0}::int`, { code: '22012' });
      }), { code: '22012' });
      const own = await sql.reserve();
      await own`BEGIN`.simple();
      await assert.rejects(own`SELECT 1/${0}::int`, { code: '22012' });
      await assert.rejects(own`SELECT 1`, { code: '25P02' });
      await own`ROLLBACK`.simple();
      own.release();
      assert.deepEqual([...await sql`SELECT a FROM postgresjs_savepoints ORDER BY a`], [{ a: 1 }, { a: 3 }]);
    });
  },

  prepared: () => shared.prepared(tagging),

  async pipeline() {
    await withClient(async (sql) => {
      const divisors = [1, 2, 0, 5, 0, 10];
      const answers = await Promise.allSettled(divisors.map((divisor) => sql`SELECT 10 / ${divisor}::int AS a`));
      const said = answers.map((answer) => answer.value?.[0].a ?? answer.reason.code);
      assert.deepEqual(said, [10, 5, '22012', 2, '22012', 1]);
    });
  },

  async cursor() {
    await withClient(async (sql) => {
      let sum = 0;
      await sql.begin(async (own) => {
        for await (const rows of own`SELECT n FROM generate_series(1, ${1000}::int) n`.cursor(100)) {
          assert.ok(rows.length <= 100);
          for (const row of rows) sum += row.n;
        }
      });
      assert.equal(sum, 500500);
    });
  },

  async cancel() {
    await withClient(async (sql) => {
      const query = sql`SELECT pg_sleep(600)`;
      const refused = assert.rejects(query, { code: '57014' });
      await shared.untilActive('SELECT pg_sleep(600)');
      query.cancel();
      await refused;
      assert.equal((await sql`SELECT 1 AS a`)[0].a, 1);
    });
  },

  async copy() {
    await withClient(async (sql) => {
      await sql`DROP TABLE IF EXISTS postgresjs_copy`;
      await sql`CREATE TABLE postgresjs_copy (a int, b text)`;
      // Few enough to come at once: after a COPY that had to wait for its reader the driver reads no more, with a pooler
      // or without.
      const lines = Array.from({ length: 500 }, (_, number) => `${number}\trow ${number}\n`);
      await pipeline(Readable.from(lines), await sql`COPY postgresjs_copy FROM STDIN`.writable());
      const chunks = [];
      for await (const chunk of await sql`COPY (SELECT * FROM postgresjs_copy ORDER BY a) TO STDOUT`.readable()) {
        chunks.push(chunk);
      }
      assert.equal(Buffer.concat(chunks).toString(), lines.join(''));
      // Nor does one with bad data ever end, so it is not tried.
      assert.equal((await sql`SELECT count(*)::int AS n FROM postgresjs_copy`)[0].n, 500);
    });
  },

  async large() {
    await withClient(async (sql) => {
      const text = 'weir'.repeat(1_000_000);
      const blob = Buffer.alloc(2 << 20, 7);
      const [row] = await sql`SELECT ${text}::text AS t, ${blob}::bytea AS b`;
      assert.ok(row.t === text && row.b.equals(blob));
    });
  },

  async notices() {
    const seen = [];
    await withClient(async (sql) => {
      await sql`DO $$ BEGIN RAISE NOTICE 'one'; RAISE WARNING 'two'; END $$`;
    }, { onnotice: (notice) => seen.push(notice.message) });
    assert.deepEqual(seen, ['one', 'two']);
  },

  rivals: () => shared.rivals(tagging),

  async "the driver's own pool"() {
    const sql = postgres();
    const numbers = Array.from({ length: 200 }, (_, number) => number);
    const answers = await Promise.all(numbers.map((number) => sql`SELECT ${number}::int AS n`));
    assert.deepEqual(answers.map((rows) => rows[0].n), numbers);
    await sql.end();
  },
};

// One connection, where the driver's own pool would be ten.
async function withClient(use, settings = {}) {
  const sql = postgres({ max: 1, onnotice() {}, ...settings });
  try {
    await use(sql);
  } finally {
    await sql.end({ timeout: 5 });
  }
}

// A client for the shared cases.
async function tagging() {
  const sql = postgres({ max: 1 });
  const own = await sql.reserve();
  return {
    begin: () => own.unsafe('BEGIN'),
    commit: () => own.unsafe('COMMIT'),
    async end() {
      await own.release();
      await sql.end();
    },
    async row(text, number) {
      const values = number === undefined ? [] : [number];
      return (await own.unsafe(text, values, { prepare: true }).values())[0];
    },
  };
}

await shared.main('postgres.js', 'postgres', cases);
