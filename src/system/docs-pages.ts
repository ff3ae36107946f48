import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import path from 'node:path';
import { AppError } from '../platform/errors/index.js';

export interface DocsAsset {
  type: string;
  body: Buffer | string;
}

const require = createRequire(import.meta.url);
/** Swagger UI comes with @nestjs/swagger and is found from there. */
const swaggerUi = path.dirname(
  createRequire(require.resolve('@nestjs/swagger')).resolve('swagger-ui-dist/package.json'),
);

const SWAGGER_START = `SwaggerUIBundle({ url: '/openapi.json', dom_id: '#ui', deepLinking: true, persistAuthorization: false,
  tagsSorter: 'alpha', tryItOutEnabled: true, validatorUrl: null });`;
const REDOC_START = `Redoc.init('/openapi.json', { hideLoading: true, nativeScrollbars: true }, document.getElementById('ui'));`;

/** Files the pages ask for, by the name in their address. Nothing else of the packages can be reached. */
const ASSETS: Record<string, { type: string; file?: string; text?: string }> = {
  'swagger-ui.css': { type: 'text/css', file: path.join(swaggerUi, 'swagger-ui.css') },
  'swagger-ui-bundle.js': { type: 'text/javascript', file: path.join(swaggerUi, 'swagger-ui-bundle.js') },
  'favicon-32x32.png': { type: 'image/png', file: path.join(swaggerUi, 'favicon-32x32.png') },
  'swagger-start.js': { type: 'text/javascript', text: SWAGGER_START },
  'redoc.js': { type: 'text/javascript', file: require.resolve('redoc/bundles/redoc.standalone.js') },
  'redoc-start.js': { type: 'text/javascript', text: REDOC_START },
};

/** @throws AppError `not_found` for any other name */
export async function docsAsset(name: string): Promise<DocsAsset> {
  const asset = Object.hasOwn(ASSETS, name) ? ASSETS[name] : undefined;
  if (!asset) throw AppError.notFound('file', name.slice(0, 100));
  return { type: asset.type, body: asset.text ?? (await readFile(asset.file as string)) };
}

export function swaggerPage(): string {
  return page('Nexus API', '<link rel="stylesheet" href="/docs/swagger-ui.css">', [
    '/docs/swagger-ui-bundle.js',
    '/docs/swagger-start.js',
  ]);
}

export function redocPage(): string {
  return page('Nexus API reference', '<style>body{margin:0}</style>', ['/redoc/redoc.js', '/redoc/redoc-start.js']);
}

function page(title: string, head: string, scripts: string[]): string {
  return `<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1"><title>${title}</title>
<link rel="icon" href="/docs/favicon-32x32.png">${head}</head>
<body><div id="ui"></div>${scripts.map((src) => `<script src="${src}"></script>`).join('')}</body>
</html>
`;
}
