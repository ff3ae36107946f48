/** `npm run bench [name ...]`: runs the named benchmarks, or all of them, one after another. */
const benchmarks: Record<string, () => Promise<{ run(): Promise<void> }>> = {
  start: () => import('./start.js'),
  agents: () => import('./agents.js'),
  commands: () => import('./commands.js'),
  webhooks: () => import('./webhooks.js'),
  'event-cost': () => import('./event-cost.js'),
  ingest: () => import('./ingest.js'),
  rules: () => import('./rules.js'),
  queries: () => import('./queries.js'),
  fanout: () => import('./fanout.js'),
};

const names = process.argv.slice(2);
const unknown = names.filter((name) => !(name in benchmarks));
if (unknown.length > 0) {
  console.error(`No such benchmark: ${unknown.join(', ')}. There are: ${Object.keys(benchmarks).join(', ')}`);
  process.exit(1);
}
for (const name of names.length > 0 ? names : Object.keys(benchmarks)) {
  console.log(`\n## ${name}\n`);
  await (await benchmarks[name]()).run();
}
