// Runs the cases of a driver one after the other, and holds those that are about more than one client.
//
// For these a client has `begin()`, `commit()`, `end()` and `row(sql, number)`, which gives the values of the first
// row of the SQL with the number in place of its `$1`, or of SQL without one for `undefined`.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import pg from 'pg';

const POOL_SIZE = Number(process.env.POOL_SIZE ?? 2);
const PATIENCE = 60_000;
const RIVALS = 8;
const TURNS = 30;
const DOUBLED = 'SELECT $1::int * 2, pg_backend_pid()';

// A case is a function, or the reason why the driver has no such thing.
export async function main(driver, folder, cases) {
  const manifest = new URL(`node_modules/${folder}/package.json`, import.meta.url);
  console.log(`driver ${driver} ${JSON.parse(readFileSync(manifest)).version}`);
  for (const [name, run] of Object.entries(cases)) console.log(await outcome(name, run));
  console.log(`1..${Object.keys(cases).length}`);
  process.exit(0);
}

async function outcome(name, run) {
  if (typeof run === 'string') return `skip ${name}: ${run}`;
  let timer;
  const tooLong = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error('it does not end')), PATIENCE);
  });
  try {
    await Promise.race([run(), tooLong]);
    return `ok ${name}`;
  } catch (error) {
    console.error(error);
    return `not ok ${name}: ${String(error.message).split('\n')[0]}`;
  } finally {
    clearTimeout(timer);
  }
}

// One statement over many transactions. Two holders take both servers, and one leaves: that server is left.
export async function prepared(connect) {
  const clients = await Promise.all([connect(), connect(), connect()]);
  try {
    for (let turn = 0; turn < 20; turn += 1) await runWhereOneLeaves(turn, ...clients);
  } finally {
    await Promise.all(clients.map((client) => client.end()));
  }
}

async function runWhereOneLeaves(turn, own, ...holders) {
  const held = [];
  for (const holder of holders) {
    await holder.begin();
    held.push({ holder, server: (await holder.row('SELECT pg_backend_pid()'))[0] });
  }
  held.sort((one, other) => (turn % 2 ? one.server - other.server : other.server - one.server));
  await held[0].holder.commit();
  await own.begin();
  assert.deepEqual(await own.row(DOUBLED, turn), [turn * 2, held[0].server]);
  await own.commit();
  await held[1].holder.commit();
}

// More clients than servers at the same time: the same statement names, different SQL, each answer with a tag.
export async function rivals(connect) {
  const servers = new Set();
  const clients = await Promise.all(Array.from({ length: RIVALS }, connect));
  await Promise.all(clients.map((client, number) => play(client, number, servers)));
  assert.ok(servers.size <= POOL_SIZE, `${servers.size} servers`);
}

async function play(client, number, servers) {
  try {
    for (let turn = 0; turn < TURNS; turn += 1) {
      await client.begin();
      const [whose, sum, server] = await client.row(`SELECT 'client ${number}', $1::int + ${number}, pg_backend_pid()`, turn);
      const doubled = await client.row(DOUBLED, turn);
      await client.commit();
      assert.deepEqual([whose, sum], [`client ${number}`, turn + number]);
      assert.deepEqual(doubled, [turn * 2, server]);
      servers.add(server);
    }
  } finally {
    // Who fails must not hold a server that others wait for.
    await client.end();
  }
}

// Waits until the server itself says that the query runs.
export async function untilActive(sql) {
  const looker = new pg.Client({ port: Number(process.env.DIRECT_PORT), user: 'postgres' });
  await looker.connect();
  const look = "SELECT count(*)::int AS n FROM pg_stat_activity WHERE query = $1 AND state = 'active'";
  while ((await looker.query(look, [sql])).rows[0].n === 0);
  await looker.end();
}
