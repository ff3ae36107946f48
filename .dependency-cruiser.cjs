/** Import rules of the house; ARCHITECTURE.md explains them. Domain edges are listed once, in `domainEdges`. */
const DOMAINS = 'security|agents|telemetry|commands|events|webhooks|hooks|streaming|system|alerts';

/** Which domain may import another's index.ts (its public face). A new edge is a reviewed line. */
const domainEdges = {
  agents: ['security'],
  telemetry: ['security', 'agents'],
  alerts: ['telemetry', 'commands', 'webhooks'],
  commands: ['security', 'agents'],
  events: ['streaming', 'webhooks'],
  streaming: ['telemetry'],
  system: ['security'],
};

module.exports = {
  forbidden: [
    { name: 'no-cycles', severity: 'error', from: {}, to: { circular: true } },
    {
      name: 'platform-knows-no-domain',
      severity: 'error',
      from: { path: '^src/platform' },
      to: { path: `^src/(${DOMAINS})/` },
    },
    {
      name: 'platform-rooms-by-their-face',
      comment: 'Outside a platform room only its index.ts may be imported.',
      severity: 'error',
      from: { path: '^src/', pathNot: '^src/platform/([^/]+)/' },
      to: { path: '^src/platform/[^/]+/', pathNot: '^src/platform/[^/]+/index\\.ts$' },
    },
    {
      name: 'platform-rooms-among-themselves',
      severity: 'error',
      from: { path: '^src/platform/([^/]+)/' },
      to: { path: '^src/platform/[^/]+/', pathNot: ['^src/platform/$1/', '^src/platform/[^/]+/index\\.ts$'] },
    },
    {
      name: 'packages-know-only-the-wire',
      severity: 'error',
      from: { path: '^packages' },
      to: { path: '^src' },
    },
    ...DOMAINS.split('|').flatMap((domain) => [
      {
        name: `${domain}-by-face-or-events`,
        comment: 'Of another domain only index.ts and *.events.ts may be imported.',
        severity: 'error',
        from: { path: `^src/(?!${domain}/)(${DOMAINS})/` },
        to: { path: `^src/${domain}/`, pathNot: '(/index\\.ts|\\.events\\.ts)$' },
      },
      {
        name: `${domain}-edges`,
        severity: 'error',
        from: { path: `^src/${domain}/` },
        to: {
          path: `^src/(?!${[domain, ...(domainEdges[domain] ?? [])].join('/|')}/)(${DOMAINS})/`,
          pathNot: '\\.events\\.ts$',
        },
      },
    ]),
  ],
  options: {
    doNotFollow: { path: 'node_modules' },
    tsConfig: { fileName: 'tsconfig.json' },
    tsPreCompilationDeps: true,
  },
};
