// The texts of texts.json, each a transaction, through node-postgres with its default settings: unnamed statements.
// Prints how many there were.
//
// usage: node_postgres.mjs CLIENTS ROUNDS

import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';

const pg = createRequire(new URL('../../tests/clients/node/package.json', import.meta.url))('pg');
const texts = JSON.parse(readFileSync(new URL('texts.json', import.meta.url)));
const [clients, rounds] = process.argv.slice(2).map(Number);

async function run(number) {
  const client = new pg.Client();
  await client.connect();
  for (let turn = 0; turn < rounds; turn += 1) {
    for (const text of texts) await client.query(text, [1 + number * rounds + turn]);
  }
  await client.end();
}

await Promise.all(Array.from({ length: clients }, (_, number) => run(number)));
console.log(clients * rounds * texts.length);
