// Drizzle over node-postgres, with its default settings: it prepares what is given a name.

import assert from 'node:assert/strict';
import { asc, eq, inArray, sql, sum } from 'drizzle-orm';
import { drizzle } from 'drizzle-orm/node-postgres';
import * as d from 'drizzle-orm/pg-core';
import pg from 'pg';
import * as shared from './cases.mjs';

const bytea = d.customType({ dataType: () => 'bytea' });
const things = d.pgTable('drizzle_things', {
  id: d.serial().primaryKey(),
  number: d.integer().notNull(),
  long: d.bigint({ mode: 'bigint' }),
  name: d.text(),
  price: d.numeric(),
  half: d.doublePrecision(),
  yes: d.boolean(),
  at: d.timestamp({ withTimezone: true }),
  blob: bytea(),
  numbers: d.integer().array(),
  json: d.jsonb(),
});

const cases = {
  async connect() {
    await withDatabase(async (db) => {
      assert.deepEqual((await db.execute(sql`SELECT current_user AS u`)).rows, [{ u: 'weir' }]);
      await db.execute(sql`CREATE TABLE drizzle_things (id serial PRIMARY KEY, number int NOT NULL, long bigint, name text,
        price numeric, half float8, yes bool, at timestamptz, blob bytea, numbers int[], json jsonb)`);
    });
  },

  async types() {
    await withDatabase(async (db) => {
      const values = {
        number: 42, long: 1n << 40n, name: "hé'\\", price: '12345.678901', half: 1.5, yes: true, at: new Date(1709209800000),
        blob: Buffer.from([0, 1, 255]), numbers: [1, 2, 3], json: { a: [1, null] },
      };
      const [{ id }] = await db.insert(things).values(values).returning({ id: things.id });
      const [found] = await db.select().from(things).where(eq(things.id, id));
      assert.deepEqual(found, { id, ...values });
    });
  },

  async errors() {
    await withDatabase(async (db) => {
      await rejects(db.execute(sql`SELECT 1/${0}::int`), '22012');
      await rejects(db.insert(things).values({ number: null }), '23502');
      await rejects(db.execute(sql`SELECT * FROM nowhere`), '42P01');
      assert.deepEqual((await db.execute(sql`SELECT 1 AS a`)).rows, [{ a: 1 }]);
    });
  },

  async transactions() {
    await withDatabase(async (db) => {
      await db.delete(things);
      await db.transaction(async (outer) => {
        await outer.insert(things).values({ number: 1 });
        await rejects(outer.transaction(async (inner) => {
          await inner.insert(things).values({ number: 2 });
          await rejects(inner.execute(sql`SELECT 1/0`), '22012');
          await inner.execute(sql`SELECT 1`);
        }), '25P02');
        await outer.insert(things).values({ number: 3 });
      });
      await assert.rejects(db.transaction(async (outer) => {
        await outer.insert(things).values({ number: 4 });
        outer.rollback();
      }, { isolationLevel: 'serializable' }));
      const numbers = await db.select({ number: things.number }).from(things).orderBy(asc(things.number));
      assert.deepEqual(numbers, [{ number: 1 }, { number: 3 }]);
    });
  },

  prepared: () => shared.prepared(tagging),
  pipeline: 'it waits for each answer',

  async cursor() {
    await withDatabase((db) => db.transaction(async (own) => {
      await own.execute(sql`DECLARE numbers CURSOR FOR SELECT generate_series(1, 1000) AS n`);
      let total = 0;
      for (let rows; rows?.length !== 0;) {
        ({ rows } = await own.execute(sql`FETCH 100 FROM numbers`));
        for (const row of rows) total += row.n;
      }
      assert.equal(total, 500500);
    }));
  },

  cancel: 'a matter of the driver below',
  copy: 'a matter of the driver below',

  async large() {
    await withDatabase(async (db) => {
      const values = { number: 0, name: 'weir'.repeat(1_000_000), blob: Buffer.alloc(2 << 20, 7) };
      const [found] = await db.insert(things).values(values).returning();
      assert.ok(found.name === values.name && found.blob.equals(values.blob));
    });
  },

  notices: 'a matter of the driver below',
  rivals: () => shared.rivals(tagging),

  async 'a pool with its default size'() {
    const db = drizzle({ connection: {} });
    const numbers = Array.from({ length: 200 }, (_, number) => 1000 + number);
    await Promise.all(numbers.map((number) => db.insert(things).values({ number })));
    const [{ total }] = await db.select({ total: sum(things.number) }).from(things).where(inArray(things.number, numbers));
    assert.equal(Number(total), 219900);
    await db.$client.end();
  },
};

async function rejects(promise, code) {
  await assert.rejects(promise, (error) => {
    assert.equal((error.cause ?? error).code, code);
    return true;
  });
}

async function withDatabase(use) {
  const client = new pg.Client();
  await client.connect();
  try {
    await use(drizzle(client));
  } finally {
    await client.end();
  }
}

// A client for the shared cases. All of them use the same two names.
async function tagging() {
  const client = new pg.Client();
  await client.connect();
  const db = drizzle(client);
  const statements = new Map();
  const prepare = (text) => {
    const [before, behind] = text.replace('SELECT ', '').split('$1');
    const columns = behind === undefined ? sql.raw(before) : sql`${sql.raw(before)}${sql.placeholder('n')}${sql.raw(behind)}`;
    const query = db.select({ row: sql`json_build_array(${columns})` }).from(sql`(VALUES (1)) AS one`);
    return query.prepare(text.includes('client') ? 'tagged' : `with ${behind === undefined ? 0 : 1}`);
  };
  return {
    begin: () => db.execute(sql`BEGIN`),
    commit: () => db.execute(sql`COMMIT`),
    end: () => client.end(),
    async row(text, n) {
      if (!statements.has(text)) statements.set(text, prepare(text));
      return (await statements.get(text).execute({ n }))[0].row;
    },
  };
}

await shared.main('Drizzle', 'drizzle-orm', cases);
